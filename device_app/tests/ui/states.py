# SPDX-License-Identifier: Apache-2.0
"""Every state of the panel that a picture is kept of, reached as it is reached in a kitchen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fridge.agentlink import Offer
from fridge.control import Alarm, timings

if TYPE_CHECKING:
    from conftest import Panel

NOTES = "The light stays on a little longer, and SuperCool is gentler to salad."


def _resting(panel: Panel) -> None:
    panel.step()


def _cooling(panel: Panel) -> None:
    panel.air = 7.0
    panel.step(timings.RESTART_DELAY_SECONDS + 1)


def _setting(panel: Panel) -> None:
    panel.touch(panel.word("Temperature"))


def _supercool(panel: Panel) -> None:
    panel.touch("SuperCool")


def _holiday(panel: Panel) -> None:
    panel.air = 15.0
    panel.hold("SuperCool")


def _locked_refused(panel: Panel) -> None:
    panel.hold("Alarm")
    panel.touch(panel.word("Temperature"))


def _door_alarm(panel: Panel) -> None:
    panel.door = True
    panel.step()
    panel.step(timings.DOOR_ALARM_SECONDS)


def _door_silenced(panel: Panel) -> None:
    _door_alarm(panel)
    panel.touch("Alarm")


def _too_warm(panel: Panel) -> None:
    panel.air = 12.0
    panel.step()
    panel.step(timings.WARM_SECONDS)


def _warmest(panel: Panel) -> None:
    _too_warm(panel)
    panel.touch("Alarm")


def _too_cold(panel: Panel) -> None:
    panel.air = -4.0
    panel.step()
    panel.step(timings.COLD_SECONDS)


def _outage(panel: Panel) -> None:
    panel.state = replace(panel.state, outage=True, pulled_down=True)
    panel.air = 13.0
    panel.step()
    assert Alarm.OUTAGE in panel.state.alarms


def _sensor_and_door(panel: Panel) -> None:
    panel.air, panel.door = None, True
    panel.step()
    panel.step(timings.DOOR_ALARM_SECONDS)


def _stuck_button(panel: Panel) -> None:
    panel.put_down("SuperCool")
    panel.step(timings.STUCK_SECONDS)
    panel.step()


def _off(panel: Panel) -> None:
    panel.hold(panel.word("Power"))


def _settings(panel: Panel) -> None:
    panel.hold(panel.word("Temperature"))


def _update_asked(panel: Panel) -> None:
    panel.model.show_offer(Offer("waiting", "r", "0.1.58", 100, True, NOTES))


def _update_downloading(panel: Panel) -> None:
    panel.model.show_offer(Offer("downloading", "r", "0.1.58", 40))


def _update_installing(panel: Panel) -> None:
    panel.model.show_offer(Offer("installing", "r", "0.1.58", 100))


STATES: dict[str, Callable[[Panel], None]] = {
    function.__name__.removeprefix("_").replace("_", "-"): function
    for function in (
        _resting, _cooling, _setting, _supercool, _holiday, _locked_refused, _door_alarm, _door_silenced, _too_warm,
        _warmest, _too_cold, _outage, _sensor_and_door, _stuck_button, _off, _settings, _update_asked,
        _update_downloading, _update_installing,
    )
}  # fmt: skip
