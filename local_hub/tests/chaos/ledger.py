# SPDX-License-Identifier: Apache-2.0
"""What a hub promised, and whether it kept it. No I/O: clients write down what they did, saw and were told.

A value that was sent and not answered when the hub died may be there or not; both are right. Everything else must be
as it was acknowledged. Complaints are sentences; an empty list is a good hub.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field


class Register:
    """A value with one writer, who waits for each answer: an identity, a tag, a desired or reported property."""

    def __init__(self, ledger: Ledger, name: str, value: Hashable) -> None:
        self._ledger = ledger
        self.name = name
        self.value = value
        self._in_flight: list[Hashable] = []

    def begin(self, value: Hashable) -> None:
        """The writer sends this value."""
        self._in_flight.append(value)

    def acknowledge(self, value: Hashable) -> None:
        """The hub says that it has it."""
        self.value = value
        self._in_flight.clear()
        self._ledger.counts[f"{self.name.partition(' ')[0]} writes"] += 1

    def observe(self, value: Hashable) -> None:
        """After a restart this is what is there; from here on it is what must stay."""
        if value != self.value and value not in self._in_flight:
            self._ledger.complain(
                f"{self.name} is {value!r}; acknowledged was {self.value!r}, in flight {self._in_flight!r}"
            )
        self.value = value
        self._in_flight.clear()


class Version:
    """A number that only grows."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self.name = name
        self.highest = 0

    def observe(self, number: int) -> None:
        """An acknowledgement, or a look after a restart, shows it."""
        if number < self.highest:
            self._ledger.complain(f"{self.name} went back from {self.highest} to {number}")
        self.highest = max(self.highest, number)


class EventStream:
    """The events of one device, numbered from 1, sent again in their order until they are acknowledged."""

    def __init__(self, ledger: Ledger, device: str) -> None:
        self._ledger = ledger
        self.device = device
        self.sent: Counter[int] = Counter()
        self.acknowledged: set[int] = set()
        self.seen: Counter[int] = Counter()
        self._last_new = 0

    @property
    def unacknowledged(self) -> list[int]:
        """What has to be sent again, oldest first."""
        return [number for number in sorted(self.sent) if number not in self.acknowledged]

    @property
    def next(self) -> int:
        """The number of the next new event."""
        return max(self.sent, default=0) + 1

    @property
    def missing(self) -> set[int]:
        """Acknowledged and not read yet."""
        return self.acknowledged - self.seen.keys()

    def send(self, number: int) -> None:
        """The device sends it, perhaps again."""
        self.sent[number] += 1

    def acknowledge(self, number: int) -> None:
        """PUBACK came."""
        self.acknowledged.add(number)
        self._ledger.counts["events acknowledged"] += 1

    def read(self, number: int) -> None:
        """A service reads it at the events endpoint."""
        self.seen[number] += 1
        if self.seen[number] > self.sent[number]:
            self._ledger.complain(
                f"event {number} of {self.device} was sent {self.sent[number]} times and read {self.seen[number]} times"
            )
        if number > self._last_new + 1:
            self._ledger.complain(f"event {number} of {self.device} was read after {self._last_new}")
        self._last_new = max(self._last_new, number)

    def judge(self) -> None:
        """Everything that can be read has been read."""
        for number in sorted(self.missing):
            self._ledger.complain(f"event {number} of {self.device} was acknowledged and is lost")


@dataclass
class Command:
    """A cloud-to-device message through its life."""

    device: str
    acknowledged: bool = False
    refused: bool = False
    deliveries: int = 0
    completing: bool = False
    completed: bool = False
    feedback: int = 0
    feedback_taken: bool = False


class Commands:
    """Cloud-to-device messages of all devices, by message id. All ask for full feedback."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.all: dict[str, Command] = {}

    def send(self, message_id: str, device: str) -> None:
        """A service sends it."""
        self.all[message_id] = Command(device)

    def acknowledge(self, message_id: str) -> None:
        """The hub accepted it."""
        self.all[message_id].acknowledged = True
        self._ledger.counts["commands acknowledged"] += 1

    def refuse(self, message_id: str) -> None:
        """The hub did not take it: the queue is full."""
        self.all[message_id].refused = True
        self._ledger.counts["commands refused, queue full"] += 1

    def deliver(self, message_id: str, device: str) -> None:
        """It came to a device."""
        command = self.all.get(message_id)
        if command is None or command.device != device:
            self._ledger.complain(f"command {message_id} came to {device}, for whom nobody sent it")
            return
        if command.refused:
            self._ledger.complain(f"command {message_id} was refused and delivered all the same")
        if command.completed:
            how = "its feedback was read" if command.feedback else "its completion was acknowledged"
            self._ledger.complain(f"command {message_id} was delivered again after {how}")
        command.deliveries += 1
        self._ledger.counts["commands delivered again" if command.deliveries > 1 else "commands delivered"] += 1

    def completing(self, message_id: str) -> None:
        """The device says that it has it, and knows not yet whether the hub heard that."""
        self.all[message_id].completing = True

    def complete(self, message_id: str) -> None:
        """The device knows that the hub heard it."""
        self.all[message_id].completed = True
        self._ledger.counts["completions acknowledged"] += 1

    def fed_back(self, message_id: str, status: str) -> None:
        """A service reads how it ended."""
        command = self.all[message_id]
        command.feedback += 1
        if status != "Success":
            self._ledger.complain(f"command {message_id} ended as {status}")
        if not command.completing:
            self._ledger.complain(f"command {message_id} is fed back as a success, and no device completed it")
        if command.feedback_taken:
            self._ledger.complain(f"feedback of {message_id} came again after it was completed")
        command.completed = True

    def feedback_taken(self, message_id: str) -> None:
        """The service's DELETE of the feedback was acknowledged."""
        self.all[message_id].feedback_taken = True
        self._ledger.counts["feedback taken"] += 1

    def bounds(self, device: str) -> tuple[int, int]:
        """How many messages the hub must hold for a device at least, and may hold at most."""
        own = [each for each in self.all.values() if each.device == device and not each.refused and not each.completed]
        return sum(each.acknowledged and not each.completing for each in own), len(own)

    def observe_count(self, device: str, count: int) -> None:
        """After a restart, nobody being connected, the hub holds so many."""
        least, most = self.bounds(device)
        if not least <= count <= most:
            self._ledger.complain(f"{count} commands wait for {device}; it should be {least} to {most}")

    @property
    def unfinished(self) -> list[str]:
        """What must still come to its device, be completed, or be fed back.

        Also what was delivered and not completed yet: if nobody waited for that, its feedback would come too late.
        """
        return [
            message_id
            for message_id, each in self.all.items()
            if (each.acknowledged or each.deliveries) and not each.feedback
        ]

    def judge(self) -> None:
        """The queues are empty and all feedback has been read."""
        for message_id, each in self.all.items():
            if each.acknowledged and not each.deliveries:
                self._ledger.complain(f"command {message_id} was acknowledged and never came to {each.device}")
            if each.completed and not each.feedback:
                self._ledger.complain(f"feedback of {message_id}, whose completion was acknowledged, is lost")


@dataclass
class Ledger:
    """All of it."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    registers: dict[str, Register] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    streams: dict[str, EventStream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commands = Commands(self)

    def complain(self, sentence: str) -> None:
        """Something is wrong with the hub."""
        self.complaints.append(sentence)

    def register(self, name: str, first: Hashable = None) -> Register:
        """The register of this name, of which nothing was written yet. The first word of a name is its kind."""
        return self.registers.setdefault(name, Register(self, name, first))

    def version(self, name: str) -> Version:
        """The version of this name."""
        return self.versions.setdefault(name, Version(self, name))

    def stream(self, device: str) -> EventStream:
        """The events of a device."""
        return self.streams.setdefault(device, EventStream(self, device))
