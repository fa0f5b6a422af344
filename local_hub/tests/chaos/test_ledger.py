# SPDX-License-Identifier: Apache-2.0
"""The judge notices every kind of loss, and lets pass what may happen to a request in flight."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local_hub.tests.chaos.ledger import Ledger


def written(ledger: Ledger, name: str, *values: object) -> None:
    for value in values:
        ledger.register(name).begin(value)
        ledger.register(name).acknowledge(value)


def lost_write(ledger: Ledger) -> None:
    written(ledger, "tags of a", 1, 2)
    ledger.register("tags of a").observe(1)


def deleted_identity_is_back(ledger: Ledger) -> None:
    written(ledger, "identity a", "1", None)
    ledger.register("identity a").observe("1")


def invented_value(ledger: Ledger) -> None:
    written(ledger, "tags of a", 1)
    ledger.register("tags of a").begin(2)
    ledger.register("tags of a").observe(3)


def version_back(ledger: Ledger) -> None:
    ledger.version("a").observe(7)
    ledger.version("a").observe(6)


def stream(ledger: Ledger, sent: list[int], acknowledged: list[int], read: list[int]) -> None:
    device = ledger.stream("a")
    for number in sent:
        device.send(number)
    for number in acknowledged:
        device.acknowledge(number)
    for number in read:
        device.read(number)
    device.judge()


def lost_event(ledger: Ledger) -> None:
    stream(ledger, [1, 2, 3], [1, 2], [1])


def event_out_of_order(ledger: Ledger) -> None:
    stream(ledger, [1, 2, 3], [1, 2, 3], [1, 3, 2])


def doubled_event(ledger: Ledger) -> None:
    stream(ledger, [1, 2], [1, 2], [1, 2, 2])


def command(ledger: Ledger, *steps: str) -> None:
    commands = ledger.commands
    commands.send("m", "a")
    for step in steps:
        match step:
            case "deliver":
                commands.deliver("m", "a")
            case "fed back":
                commands.fed_back("m", "Success")
            case _:
                getattr(commands, step)("m")
    commands.judge()


FINE = ("acknowledge", "deliver", "completing", "complete", "fed back", "feedback_taken")


def lost_command(ledger: Ledger) -> None:
    command(ledger, "acknowledge")


def command_missing_in_the_queue(ledger: Ledger) -> None:
    ledger.commands.send("m", "a")
    ledger.commands.acknowledge("m")
    ledger.commands.observe_count("a", 0)


def completed_command_in_the_queue(ledger: Ledger) -> None:
    command(ledger, *FINE)
    ledger.commands.observe_count("a", 1)


def delivered_after_completion(ledger: Ledger) -> None:
    command(ledger, *FINE, "deliver")


def refused_and_delivered(ledger: Ledger) -> None:
    command(ledger, "refuse", "deliver")


def feedback_lost(ledger: Ledger) -> None:
    command(ledger, "acknowledge", "deliver", "completing", "complete")


def feedback_without_completion(ledger: Ledger) -> None:
    command(ledger, "acknowledge", "deliver", "fed back")


def feedback_again(ledger: Ledger) -> None:
    command(ledger, *FINE, "fed back")


def expired(ledger: Ledger) -> None:
    ledger.commands.send("m", "a")
    ledger.commands.deliver("m", "a")
    ledger.commands.completing("m")
    ledger.commands.fed_back("m", "DeliveryCountExceeded")


def foreign_command(ledger: Ledger) -> None:
    ledger.commands.send("m", "a")
    ledger.commands.deliver("m", "b")


@pytest.mark.parametrize(
    "crime",
    [
        lost_write,
        deleted_identity_is_back,
        invented_value,
        version_back,
        lost_event,
        event_out_of_order,
        doubled_event,
        lost_command,
        command_missing_in_the_queue,
        completed_command_in_the_queue,
        delivered_after_completion,
        refused_and_delivered,
        feedback_lost,
        feedback_without_completion,
        feedback_again,
        expired,
        foreign_command,
    ],
)
def test_a_broken_promise_is_noticed(crime: Callable[[Ledger], None]) -> None:
    ledger = Ledger()
    crime(ledger)
    assert len(ledger.complaints) == 1, ledger.complaints


@pytest.mark.parametrize("there", [1, 2])
def test_a_write_in_flight_may_be_there_or_not(there: int) -> None:
    ledger = Ledger()
    written(ledger, "tags of a", 1)
    ledger.register("tags of a").begin(2)
    ledger.register("tags of a").observe(there)
    assert not ledger.complaints


def test_what_was_seen_after_a_restart_must_stay() -> None:
    ledger = Ledger()
    register = ledger.register("tags of a")
    register.begin(1)
    register.observe(1)
    register.observe(None)
    assert len(ledger.complaints) == 1


@pytest.mark.parametrize(
    ("sent", "acknowledged", "read"),
    [
        ([1, 2, 3], [1], [1, 2]),
        ([1, 2, 3, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 2, 3, 4]),
        ([1, 2, 3, 2, 3], [1, 2, 3], [1, 2, 2, 3]),
    ],
)
def test_events_sent_again_may_come_twice(sent: list[int], acknowledged: list[int], read: list[int]) -> None:
    ledger = Ledger()
    stream(ledger, sent, acknowledged, read)
    assert not ledger.complaints


@pytest.mark.parametrize(
    "steps",
    [
        FINE,
        (),
        ("refuse",),
        ("deliver", "deliver"),
        ("acknowledge", "deliver", "completing", "deliver", "completing", "complete", "fed back"),
        ("acknowledge", "deliver", "completing", "fed back", "fed back", "feedback_taken"),
    ],
)
def test_these_lives_of_a_command_are_fine(steps: tuple[str, ...]) -> None:
    ledger = Ledger()
    command(ledger, *steps)
    assert not ledger.complaints
