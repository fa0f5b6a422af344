# SPDX-License-Identifier: Apache-2.0
"""What an owner does at the panel, and sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fridge import control
from fridge.agentlink import Offer
from PySide6.QtGui import QAccessible

if TYPE_CHECKING:
    from conftest import Panel

BUTTONS = {"power": "Power", "temp": "Temperature", "supercool": "SuperCool", "alarm": "Alarm"}


def test_it_shows_the_temperature_and_what_is_set(panel: Panel) -> None:
    assert panel.text("temperature") == "5"
    assert panel.text("setpoint") == "Set to 4 °C"
    assert panel.text("version") == "0.1.57"
    panel.picture("resting")


def test_a_tap_on_temperature_sets_it_a_degree_colder_and_round_again(panel: Panel) -> None:
    seen = []
    for _ in range(7):
        panel.touch("temp")
        seen.append(panel.text("setpoint"))
    assert seen == [f"Set to {degrees} °C" for degrees in (3, 2, 8, 7, 6, 5, 4)]


def test_supercool_is_lit_until_it_is_tapped_again(panel: Panel) -> None:
    panel.touch("supercool")
    assert panel.shows("supercool-shown")
    assert panel.text("setpoint") == "Set to 2 °C"
    panel.picture("supercool")
    panel.touch("supercool")
    assert not panel.shows("supercool-shown")
    assert panel.text("setpoint") == "Set to 4 °C"


def test_the_compressor_at_work_is_shown(panel: Panel) -> None:
    panel.air = 7.0
    panel.step(control.RESTART_DELAY_SECONDS + 1)
    assert panel.text("cooling") == "Cooling"
    panel.picture("cooling")


def test_a_long_hold_on_the_bell_locks_and_another_unlocks(panel: Panel) -> None:
    panel.hold("alarm")
    assert panel.shows("locked-shown")
    panel.picture("locked")
    panel.touch("temp")
    assert panel.text("setpoint") == "Set to 4 °C", "a locked panel takes no setting"
    panel.hold("alarm")
    assert not panel.shows("locked-shown")
    panel.touch("temp")
    assert panel.text("setpoint") == "Set to 3 °C"


def test_an_open_door_calls_and_a_tap_silences_it_though_locked(panel: Panel) -> None:
    panel.hold("alarm")
    panel.door = True
    panel.step()
    panel.step(control.DOOR_ALARM_SECONDS - 1)
    assert not panel.shows("banner")
    panel.step(1.5)
    assert panel.shows("banner")
    assert panel.text("banner-title") == "The door is open"
    assert panel.buzzer
    panel.picture("door-alarm")
    panel.touch("alarm")
    assert not panel.buzzer
    assert panel.shows("banner"), "silenced is not forgotten"
    panel.door = False
    panel.step()
    assert not panel.shows("banner")


def test_a_lost_probe_is_told_and_no_temperature_invented(panel: Panel) -> None:
    panel.air = None
    panel.step()
    panel.step(control.SENSOR_LOST_SECONDS)
    assert panel.text("temperature") == "--"
    assert panel.text("banner-title") == "Temperature sensor lost"
    panel.picture("sensor-lost")


def test_a_warm_cabinet_is_told_when_it_lasts(panel: Panel) -> None:
    panel.air = 12.0
    panel.step()
    panel.step(control.WARM_SECONDS)
    assert panel.text("banner-title") == "It is too warm inside"
    panel.picture("too-warm")


def test_off_needs_a_hold_and_on_a_tap(panel: Panel) -> None:
    panel.touch("power")
    assert not panel.shows("off")
    panel.hold("power")
    assert panel.shows("off")
    assert not panel.shows("setpoint")
    panel.picture("off")
    panel.touch("power")
    assert not panel.shows("off")


def test_a_finger_that_slides_off_changes_its_mind(panel: Panel) -> None:
    from PySide6.QtCore import QPoint, QPointF
    from PySide6.QtTest import QTest

    item = panel.item("supercool")
    on = item.mapToScene(QPointF(20, 20)).toPoint()
    QTest.touchEvent(panel.view, panel.finger).press(0, on, panel.view).commit()
    QTest.touchEvent(panel.view, panel.finger).move(0, QPoint(400, 100), panel.view).commit()
    QTest.touchEvent(panel.view, panel.finger).release(0, QPoint(400, 100), panel.view).commit()
    panel.step()
    assert not panel.shows("supercool-shown")


@pytest.mark.parametrize(("name", "label"), BUTTONS.items())
def test_each_control_tells_its_name_and_role_to_a_screen_reader(panel: Panel, name: str, label: str) -> None:
    interface = QAccessible.queryAccessibleInterface(panel.item(name))
    assert interface is not None
    assert interface.role() == QAccessible.Role.Button
    assert interface.text(QAccessible.Text.Name) == label
    assert interface.text(QAccessible.Text.Description)


OFFER = Offer("waiting", "0.1.58-gabc", "0.1.58", 100, True, "Colder ice, warmer light.")


def test_an_update_that_asks_is_shown_and_answered_by_touch(panel: Panel) -> None:
    answers: list[tuple[str, bool]] = []
    panel.model.answered.connect(lambda release, yes: answers.append((release, yes)))
    assert not panel.shows("update-page")
    panel.model.show_update(OFFER)
    assert panel.shows("update-page")
    assert panel.text("update-version") == "Version 0.1.58"
    assert panel.text("update-notes") == "Colder ice, warmer light."
    panel.picture("update-asked")
    panel.touch("update-later")
    assert (answers, panel.shows("update-page")) == ([("0.1.58-gabc", False)], False)
    panel.model.show_update(Offer())
    panel.model.show_update(OFFER)
    panel.touch("update-install")
    assert answers[1:] == [("0.1.58-gabc", True)]


def test_a_question_covers_no_alarm_and_takes_no_press_meant_for_the_panel(panel: Panel) -> None:
    panel.model.show_update(OFFER)
    panel.touch("temp")
    assert panel.text("setpoint") == "Set to 4 °C"
    panel.door = True
    panel.step()
    panel.step(control.DOOR_ALARM_SECONDS + 1)
    assert panel.shows("banner")
    assert not panel.shows("update-page")


def test_a_download_is_told_and_disturbs_nothing(panel: Panel) -> None:
    panel.model.show_update(Offer("downloading", "x", "0.1.58", 40))
    assert panel.text("update-progress") == "Fetching new software: 40 %"
    panel.touch("temp")
    assert panel.text("setpoint") == "Set to 3 °C"
    panel.picture("update-downloading")
