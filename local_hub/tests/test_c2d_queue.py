# SPDX-License-Identifier: Apache-2.0
"""The life of cloud-to-device messages, with a clock made of numbers."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from local_hub.core.c2d_queue import MAX_DELIVERIES, MAX_DEPTH, MAX_TTL, C2DQueue, Message, expiry
from local_hub.core.errors import MessageTooLarge, QueueFull


def message(sequence: int, expires_at: float = 100.0, ack: str = "full", body: bytes = b"x") -> Message:
    return Message(sequence=sequence, body=body, enqueued_at=0.0, expires_at=expires_at, ack=ack)


def filled(*sequences: int) -> C2DQueue:
    queue = C2DQueue()
    for sequence in sequences:
        queue.put(message(sequence))
    return queue


def test_messages_come_in_order_and_end_when_completed() -> None:
    queue = filled(1, 2)
    first = queue.deliver(0.0)
    assert first is not None
    assert first.sequence == 1
    outcome = queue.complete(1)
    assert outcome is not None
    assert (outcome.status, outcome.wants_feedback) == ("Success", True)
    assert queue.complete(1) is None
    assert len(queue) == 1


def test_what_was_not_acknowledged_comes_again_in_its_old_place() -> None:
    queue = filled(1, 2, 3)
    queue.deliver(0.0)
    queue.deliver(0.0)
    queue.complete(2)
    queue.abandon_all()
    again = [queue.deliver(0.0), queue.deliver(0.0), queue.deliver(0.0)]
    assert [each.sequence for each in again if each] == [1, 3]
    assert again[0] is not None
    assert again[0].deliveries == 2


def test_a_late_message_is_not_delivered_and_ends_as_expired() -> None:
    queue = filled(1)
    assert queue.deliver(100.0) is None
    assert [(each.message.sequence, each.status) for each in queue.expire(100.0)] == [(1, "Expired")]
    assert len(queue) == 0


def test_a_message_on_the_wire_does_not_expire() -> None:
    queue = filled(1)
    queue.deliver(99.0)
    assert queue.expire(200.0) == []
    queue.abandon_all()
    assert len(queue.expire(200.0)) == 1


def test_a_message_that_never_gets_through_ends() -> None:
    queue = filled(1)
    for _ in range(MAX_DELIVERIES):
        assert queue.deliver(0.0)
        queue.abandon_all()
    assert queue.deliver(0.0) is None
    assert [each.status for each in queue.expire(0.0)] == ["DeliveryCountExceeded"]


def test_the_fifty_first_message_is_refused() -> None:
    queue = filled(*range(MAX_DEPTH))
    queue.deliver(0.0)
    with pytest.raises(QueueFull):
        queue.put(message(99))


def test_a_body_above_64_kib_is_refused() -> None:
    with pytest.raises(MessageTooLarge):
        C2DQueue().put(message(1, body=b"x" * (64 * 1024 + 1)))


@pytest.mark.parametrize(
    ("ack", "status", "wanted"),
    [
        ("none", "Success", False),
        ("positive", "Success", True),
        ("negative", "Success", False),
        ("full", "Success", True),
    ],
)
def test_feedback_is_what_the_sender_asked_for(ack: str, status: str, wanted: bool) -> None:
    queue = C2DQueue()
    queue.put(message(1, ack=ack))
    queue.deliver(0.0)
    outcome = queue.complete(1)
    assert outcome is not None
    assert (outcome.status, outcome.wants_feedback) == (status, wanted)


def test_ttl_is_an_hour_unless_asked_and_two_days_at_most() -> None:
    assert expiry(1000.0, None) == 4600.0
    assert expiry(1000.0, 2000.0) == 2000.0
    assert expiry(1000.0, 1e12) == 1000.0 + MAX_TTL


class QueueMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, no message is lost, doubled or out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = C2DQueue()
        self.now = 0.0
        self.next = 0
        self.put: set[int] = set()
        self.ended: list[int] = []
        self.on_wire: list[int] = []

    @precondition(lambda self: len(self.queue) < MAX_DEPTH)
    @rule(ttl=st.floats(1, 50))
    def send(self, ttl: float) -> None:
        self.queue.put(message(self.next, self.now + ttl))
        self.put.add(self.next)
        self.next += 1

    @rule()
    def deliver(self) -> None:
        given = self.queue.deliver(self.now)
        if given:
            assert all(given.sequence > other for other in self.on_wire)
            self.on_wire.append(given.sequence)

    @precondition(lambda self: bool(self.on_wire))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.on_wire))
        self.on_wire.remove(sequence)
        assert self.queue.complete(sequence)
        self.ended.append(sequence)

    @rule()
    def reconnect(self) -> None:
        self.queue.abandon_all()
        self.on_wire = []

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.ended += [outcome.message.sequence for outcome in self.queue.expire(self.now)]

    @rule()
    def purge(self) -> None:
        self.ended += [outcome.message.sequence for outcome in self.queue.purge()]

    @invariant()
    def every_message_is_somewhere_once(self) -> None:
        assert len(self.ended) == len(set(self.ended))
        assert len(self.queue) + len(self.ended) == len(self.put)


TestQueueMachine = QueueMachine.TestCase
