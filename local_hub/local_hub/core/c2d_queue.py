# SPDX-License-Identifier: Apache-2.0
"""The life of cloud-to-device messages of one device.

    enqueued --deliver--> invisible --complete--> gone (Success)
        ^                     |
        +------abandon--------+   (connection lost before PUBACK)
    enqueued --TTL passed--> gone (Expired)
    enqueued --delivered too often--> gone (DeliveryCountExceeded)
    invisible --reject--> gone (Rejected)                 (HTTPS only)
    invisible --lock ran out--> enqueued                  (HTTPS only: no connection tells that the device is gone)
    any --purge--> gone (Purged)

Everything that changes a queue lives in this file, and it never looks at a clock: the time is passed in.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-messages-c2d#the-cloud-to-device-message-life-cycle
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import MessageTooLarge, QueueFull

MAX_DEPTH = 50
MAX_BODY = 64 * 1024
MAX_DELIVERIES = 10
DEFAULT_TTL = 3600.0
MAX_TTL = 2 * 24 * 3600.0


@dataclass(frozen=True)
class Lock:
    """How a device that fetched a message over HTTPS names it, and until when it is kept for it."""

    token: str
    until: float


@dataclass
class Message:
    """A message on its way to a device. `properties` are the application's, system ones have their own fields."""

    sequence: int
    body: bytes
    enqueued_at: float
    expires_at: float
    message_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    to: str | None = None
    ack: str = "none"
    properties: dict[str, Any] = field(default_factory=dict)
    deliveries: int = 0
    lock: Lock | None = None


@dataclass(frozen=True)
class Outcome:
    """How a message ended."""

    message: Message
    status: str

    @property
    def wants_feedback(self) -> bool:
        """ack=positive asks for success, negative for failure, full for both."""
        wanted = "positive" if self.status == "Success" else "negative"
        return self.message.ack in ("full", wanted)


def expiry(now: float, asked: float | None) -> float:
    """When a message expires: an hour by default, two days at most."""
    if asked is None:
        return now + DEFAULT_TTL
    return min(asked, now + MAX_TTL)


class C2DQueue:
    """Messages of one device, oldest first."""

    def __init__(self) -> None:
        self._enqueued: dict[int, Message] = {}
        self._invisible: dict[int, Message] = {}

    def __len__(self) -> int:
        return len(self._enqueued) + len(self._invisible)

    def put(self, message: Message) -> None:
        """Accept a message.

        Raises:
            QueueFull: 50 wait already.
            MessageTooLarge: more than 64 KiB.
        """
        if len(message.body) > MAX_BODY:
            raise MessageTooLarge(f"a cloud-to-device message holds {MAX_BODY} bytes at most")
        if len(self) >= MAX_DEPTH:
            raise QueueFull(f"the device has {MAX_DEPTH} messages waiting already")
        self._enqueued[message.sequence] = message

    def deliver(self, now: float, lock: Lock | None = None) -> Message | None:
        """The next message to put on the wire; it is invisible until completed or abandoned, or its lock runs out.

        Call `expire` first: a message that is too late or was delivered too often must not go out.
        """
        for sequence, message in self._enqueued.items():
            if message.expires_at > now and message.deliveries < MAX_DELIVERIES:
                del self._enqueued[sequence]
                message.deliveries += 1
                message.lock = lock
                self._invisible[sequence] = message
                return message
        return None

    def complete(self, sequence: int) -> Outcome | None:
        """The device has it. None when the message was not on the wire (purged meanwhile)."""
        message = self._invisible.pop(sequence, None)
        return Outcome(message, "Success") if message else None

    def locked(self, token: str, now: float) -> int | None:
        """The sequence number of the message with this lock, if it still holds."""
        for sequence, message in self._invisible.items():
            if message.lock is not None and message.lock.token == token and message.lock.until > now:
                return sequence
        return None

    def reject(self, sequence: int) -> Outcome | None:
        """The device does not want it."""
        message = self._invisible.pop(sequence, None)
        return Outcome(message, "Rejected") if message else None

    def abandon(self, sequence: int) -> None:
        """The device cannot take it now."""
        if sequence in self._invisible:
            self._enqueue_again([sequence])

    def abandon_all(self) -> None:
        """The connection is gone: what it had not acknowledged waits again, in its old place."""
        self._enqueue_again(list(self._invisible))

    def expire(self, now: float) -> list[Outcome]:
        """Take out what is too late and what was delivered too often."""
        late = [key for key, each in self._invisible.items() if each.lock is not None and each.lock.until <= now]
        if late:
            self._enqueue_again(late)
        ended = []
        for message in list(self._enqueued.values()):
            if message.expires_at <= now:
                ended.append(Outcome(message, "Expired"))
            elif message.deliveries >= MAX_DELIVERIES:
                ended.append(Outcome(message, "DeliveryCountExceeded"))
        for outcome in ended:
            del self._enqueued[outcome.message.sequence]
        return ended

    def purge(self) -> list[Outcome]:
        """Take out everything that is not on the wire."""
        ended = [Outcome(message, "Purged") for message in self._enqueued.values()]
        self._enqueued = {}
        return ended

    def _enqueue_again(self, sequences: list[int]) -> None:
        back = {sequence: self._invisible.pop(sequence) for sequence in sequences}
        self._enqueued = dict(sorted({**self._enqueued, **back}.items()))

    def next_expiry(self) -> float | None:
        """When `expire` has something to do next."""
        return min((message.expires_at for message in self._enqueued.values()), default=None)
