# SPDX-License-Identifier: Apache-2.0
"""When an update may disturb, and what time it may be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import pytest
from fridge_agent import clock, manners
from fridge_agent.clock import Clock, Reading
from fridge_agent.manners import Kitchen, Rules, held_by, parse_window
from hypothesis import given
from hypothesis import strategies as st

NIGHT = datetime(2026, 11, 23, 3, 0)
NOON = datetime(2026, 11, 23, 12, 0)
QUIET = Kitchen(heard_at=100.0)
RULES = Rules(idle=300.0, window=(time(1), time(5)), consent=True)
ASKED = QUIET.answered("2-g2", True, 100.0)


def held(rules: Rules = RULES, kitchen: Kitchen = ASKED, waited: float = 0.0, local: datetime = NIGHT) -> str | None:
    return held_by(rules, kitchen, "2-g2", waited, 105.0, local)


def test_a_quiet_kitchen_at_night_with_a_yes_is_free() -> None:
    assert held() is None


@pytest.mark.parametrize(
    ("kitchen", "local", "reason"),
    [
        (replace(ASKED, alarm=True, door_open=True), NOON, "alarm"),
        (replace(ASKED, door_open=True), NOON, "door"),
        (ASKED, NOON, "window"),
        (ASKED.pressed(50.0), NIGHT, "idle"),
        (QUIET, NIGHT, "consent"),
        (QUIET.answered("1-g1", True, 90.0), NIGHT, "consent"),
        (ASKED.answered("2-g2", False, 101.0), NIGHT, "consent"),
    ],
)
def test_what_an_update_waits_for(kitchen: Kitchen, local: datetime, reason: str) -> None:
    assert held(kitchen=kitchen, local=local) == reason


def test_a_kitchen_never_quiet_is_not_waited_for_for_ever_but_for_its_alarm_and_owner() -> None:
    busy = ASKED.pressed(104.0)
    assert held(kitchen=busy, local=NOON, waited=RULES.patience) is None
    assert held(kitchen=replace(busy, alarm=True), waited=RULES.patience) == "alarm"
    assert held(kitchen=QUIET, waited=RULES.patience) == "consent"


def test_an_app_that_says_nothing_is_not_waited_for() -> None:
    silent = replace(ASKED, heard_at=50.0, door_open=True, alarm=True)
    assert held(kitchen=silent) is None


def test_a_no_is_a_no_for_some_hours() -> None:
    kitchen = QUIET.answered("2-g2", False, 100.0)
    assert not kitchen.asks(100.0 + manners.CONSENT_SNOOZE - 1)
    assert kitchen.asks(100.0 + manners.CONSENT_SNOOZE)


@given(st.times(), st.times(), st.times())
def test_a_window_over_midnight_is_the_rest_of_the_day_of_its_reverse(begin: time, end: time, now: time) -> None:
    if begin != end:
        assert manners._inside((begin, end), now) != manners._inside((end, begin), now)


@pytest.mark.parametrize("text", ["", "1-5", "25:00-26:00", "01:00", "a-b"])
def test_a_window_that_makes_no_sense_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 01:00-05:00"):
        parse_window(text)


# ---- clock ------------------------------------------------------------

JAN_2026, NOV_2026, Y2030 = 1_767_225_600.0, 1_795_000_000.0, 1_893_456_000.0


def test_a_clock_without_a_battery_is_lifted_to_the_last_proved_time() -> None:
    assert Reading(0.0, NOV_2026, synchronised=False).reference == NOV_2026
    assert Reading(Y2030, NOV_2026, synchronised=False).reference == Y2030
    assert Reading(JAN_2026, NOV_2026, synchronised=True).reference == JAN_2026


def test_the_floor_only_rises_and_outlives_the_process(tmp_path: Path) -> None:
    for proved in (NOV_2026, JAN_2026):
        device = Clock(tmp_path / "time.json", built=5.0, synchronised=False)
        device.prove(device.read(0.0), proved)
    assert Clock(tmp_path / "time.json").read(0.0).floor == NOV_2026


def test_the_image_is_the_first_floor(tmp_path: Path) -> None:
    assert Clock(tmp_path / "time.json", built=JAN_2026, synchronised=False).read(0.0).reference == JAN_2026


def test_a_forged_future_does_not_become_the_floor_of_a_synchronised_clock(tmp_path: Path) -> None:
    device = Clock(tmp_path / "time.json", synchronised=True)
    device.prove(device.read(NOV_2026), Y2030)
    assert device.read(NOV_2026).floor <= NOV_2026 + 86400


def test_a_synchronised_clock_is_kept_at_most_once_an_hour(tmp_path: Path) -> None:
    device = Clock(tmp_path / "time.json", synchronised=True)
    device.keep(NOV_2026)
    device.keep(NOV_2026 + 60)
    assert device.read(0.0).floor == NOV_2026
    device.keep(NOV_2026 + 4000)
    assert device.read(0.0).floor == NOV_2026 + 4000


def test_a_spoilt_file_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "time.json").write_text("{")
    assert Clock(tmp_path / "time.json", built=1.0, synchronised=False).read(0.0).floor == 1.0


def test_times_are_read_as_they_are_signed() -> None:
    assert clock.parse_utc("2026-01-01T00:00:00Z") == JAN_2026
    with pytest.raises(ValueError, match="does not match"):
        clock.parse_utc("2026-01-01")
