# SPDX-License-Identifier: Apache-2.0
"""What an owner does at the panel, and sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fridge.agentlink import Offer
from fridge.control import timings
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtTest import QTest

if TYPE_CHECKING:
    from conftest import Panel


def test_it_shows_the_temperature_and_what_is_set(panel: Panel) -> None:
    assert panel.text("temperature") == "5"
    assert panel.text("temperature-caption") == "Inside"
    assert panel.text("setpoint") == "Set to 4 °C"
    assert panel.text("version") == "0.1.57"


def test_a_tap_on_temperature_sets_it_a_degree_colder_and_round_again(panel: Panel) -> None:
    seen = []
    for _ in range(7):
        panel.touch("Temperature")
        seen.append(panel.text("setpoint"))
    assert seen == [f"Set to {degrees} °C" for degrees in (3, 2, 8, 7, 6, 5, 4)]


def test_what_is_being_set_stands_large_for_five_seconds(panel: Panel) -> None:
    panel.touch("Temperature")
    assert (panel.text("temperature"), panel.text("temperature-caption")) == ("3", "Set to")
    panel.step(timings.SETTING_SECONDS)
    assert (panel.text("temperature"), panel.text("temperature-caption")) == ("5", "Inside")


def test_the_set_temperature_blinks_while_it_is_being_set(panel: Panel) -> None:
    panel.model.still = False
    panel.touch("Temperature")
    seen: set[float] = set()
    panel.qtbot.waitUntil(
        lambda: bool(seen.add(round(panel.item("temperature").opacity(), 1))) or len(seen) > 1, timeout=5000
    )
    panel.step(timings.SETTING_SECONDS)
    panel.qtbot.waitUntil(lambda: panel.item("temperature").opacity() == 1, timeout=5000)


def test_supercool_is_lit_until_it_is_tapped_again(panel: Panel) -> None:
    panel.touch("SuperCool")
    assert panel.shows("supercool-shown")
    assert panel.text("setpoint") == "Set to 2 °C"
    panel.touch("SuperCool")
    assert not panel.shows("supercool-shown")
    assert panel.text("setpoint") == "Set to 4 °C"


def test_supercool_ends_by_itself_after_six_hours(panel: Panel) -> None:
    panel.touch("SuperCool")
    panel.step(timings.SUPERCOOL_SECONDS)
    assert not panel.shows("supercool-shown")


def test_a_tap_on_temperature_ends_supercool_before_it_changes_anything(panel: Panel) -> None:
    panel.touch("SuperCool")
    panel.touch("Temperature")
    assert not panel.shows("supercool-shown")
    assert panel.text("setpoint") == "Set to 4 °C"


def test_a_long_press_on_supercool_goes_on_holiday_and_a_tap_comes_home(panel: Panel) -> None:
    panel.hold("SuperCool")
    assert panel.text("holiday-shown") == "Holiday: keep empty"
    assert panel.text("setpoint") == "Set to 15 °C"
    panel.touch("Holiday")
    assert not panel.shows("holiday-shown")
    assert panel.shows("supercool-shown"), "who comes home wants it cold"


def test_the_compressor_at_work_is_shown(panel: Panel) -> None:
    panel.air = 7.0
    panel.step(timings.RESTART_DELAY_SECONDS + 1)
    assert panel.text("cooling") == "Cooling"


def test_a_long_press_on_alarm_locks_and_another_unlocks(panel: Panel) -> None:
    panel.hold("Alarm")
    assert panel.text("locked-shown") == "Locked"
    panel.touch("Temperature")
    assert panel.text("setpoint") == "Set to 4 °C", "a locked panel takes no setting"
    assert panel.text("locked-shown") == "Locked: hold Unlock", "and says how to unlock it"
    panel.hold("Unlock")
    assert not panel.shows("locked-shown")
    panel.touch("Temperature")
    assert panel.text("setpoint") == "Set to 3 °C"


def test_an_open_door_calls_and_a_tap_silences_it_though_locked(panel: Panel) -> None:
    panel.hold("Alarm")
    panel.door = True
    panel.step()
    panel.step(timings.DOOR_ALARM_SECONDS - 1)
    assert not panel.shows("banner")
    panel.step(1.5)
    assert panel.shows("banner")
    assert panel.text("banner-title") == "The door is open"
    assert panel.buzzer
    panel.touch("Unlock")
    assert not panel.buzzer
    assert panel.shows("banner"), "silenced is not forgotten"
    assert panel.shows("banner-silenced")
    panel.door = False
    panel.step()
    assert not panel.shows("banner")


def test_a_lost_probe_is_told_and_no_temperature_invented(panel: Panel) -> None:
    panel.air = None
    panel.step()
    panel.step(timings.SENSOR_LOST_SECONDS)
    assert panel.text("temperature") == "--"
    assert panel.text("banner-title") == "Temperature sensor lost"


def test_a_warm_cabinet_is_told_and_a_tap_shows_how_warm_it_got(panel: Panel) -> None:
    panel.air = 14.0
    panel.step()
    panel.air = 12.0
    panel.step(timings.WARM_SECONDS)
    assert panel.text("banner-title") == "It is too warm inside"
    panel.touch("Alarm")
    assert (panel.text("temperature"), panel.text("temperature-caption")) == ("14", "Warmest")
    panel.step(timings.RECALL_SECONDS)
    assert panel.text("temperature") == "12"


def test_several_alarms_are_told_by_the_most_important_and_a_number(panel: Panel) -> None:
    panel.air, panel.door = None, True
    panel.step()
    panel.step(timings.DOOR_ALARM_SECONDS)
    assert panel.text("banner-title") == "Temperature sensor lost"
    assert panel.text("banner-more") == "+1 more"


def test_off_needs_a_long_press_and_on_a_tap(panel: Panel) -> None:
    panel.touch("Power")
    assert not panel.shows("off")
    panel.hold("Power")
    assert panel.shows("off")
    assert not panel.shows("setpoint")
    panel.touch("Power")
    assert not panel.shows("off")


def test_something_that_leans_on_the_glass_is_told_and_switches_nothing_off(panel: Panel) -> None:
    panel.put_down("Power")
    panel.step(timings.LONG_PRESS_SECONDS)
    assert panel.shows("off")
    panel.step(timings.STUCK_SECONDS)
    assert not panel.shows("off")
    panel.step()
    assert panel.text("banner-title") == "A button is stuck"
    panel.lift()
    assert not panel.shows("banner")


def test_a_finger_that_slides_off_changes_its_mind(panel: Panel) -> None:
    panel.put_down("SuperCool")
    panel.slide(400, 100)
    panel.lift()
    assert not panel.shows("supercool-shown")
    assert panel.state.down == ()


def test_keys_are_buttons_on_a_desk(panel: Panel) -> None:
    QTest.keyClick(panel.view, Qt.Key.Key_2)
    panel.step()
    assert panel.text("setpoint") == "Set to 3 °C"


@pytest.mark.parametrize(
    ("language", "names"),
    [("en", ["Power", "Temperature", "SuperCool", "Alarm"]), ("de", ["Ein/Aus", "Temperatur", "SuperCool", "Alarm"])],
)
def test_each_control_tells_name_role_and_use_to_a_screen_reader(panel: Panel, language: str, names: list[str]) -> None:
    panel.prefer(language=language)
    for name in names:
        interface = QAccessible.queryAccessibleInterface(panel.named(name))
        assert interface.role() == QAccessible.Role.Button
        assert len(interface.text(QAccessible.Text.Description)) > 10


def test_a_screen_reader_can_press(panel: Panel) -> None:
    interface = QAccessible.queryAccessibleInterface(panel.named("Temperature"))
    interface.actionInterface().doAction("Press")
    panel.step()
    assert panel.text("setpoint") == "Set to 3 °C"


# ---- the panel's settings ---------------------------------------------------------------


def test_a_long_press_on_temperature_opens_settings_and_language_changes_at_once(panel: Panel) -> None:
    chosen: list[dict[str, object]] = []
    panel.model.preferred.connect(chosen.append)
    panel.hold("Temperature")
    assert panel.text("settings-title") == "Settings"
    panel.touch("Deutsch")
    assert panel.text("settings-title") == "Einstellungen"
    panel.touch("Fertig")
    assert not panel.shows("settings-page")
    assert panel.text("setpoint") == "Auf 4 °C gestellt"
    assert chosen == [{"language": "de", "theme": "auto", "large_text": False}]


def test_large_text_is_larger_and_night_is_darker(panel: Panel) -> None:
    before = panel.item("setpoint").property("font").pixelSize()
    day = panel.image().pixelColor(400, 20).lightness()
    panel.hold("Temperature")
    panel.touch("Large")
    panel.touch("Night")
    panel.touch("Done")
    assert panel.item("setpoint").property("font").pixelSize() > 1.15 * before
    assert panel.image().pixelColor(400, 20).lightness() < day


def test_the_theme_follows_the_clock_unless_chosen(panel: Panel) -> None:
    nights = []
    for hour in (6, 7, 20, 21):
        panel.model.show_hour(hour)
        nights.append(panel.model.night)
    assert nights == [True, False, False, True]
    panel.prefer(theme="day")
    assert not panel.model.night


# ---- updates -------------------------------------------------------------------------------

OFFER = Offer("waiting", "0.1.58-gabc", "0.1.58", 100, True, "Colder ice, warmer light.")


def test_an_update_that_asks_is_shown_and_answered_by_touch(panel: Panel) -> None:
    answers: list[tuple[str, bool]] = []
    panel.model.answered.connect(lambda release, yes: answers.append((release, yes)))
    assert not panel.shows("update-page")
    panel.model.show_offer(OFFER)
    assert panel.shows("update-page")
    assert panel.text("update-version") == "Version 0.1.58"
    assert panel.text("update-notes") == "Colder ice, warmer light."
    panel.touch("Later")
    assert (answers, panel.shows("update-page")) == ([("0.1.58-gabc", False)], False)
    panel.model.show_offer(Offer())
    panel.model.show_offer(OFFER)
    panel.touch("Install now")
    assert answers[1:] == [("0.1.58-gabc", True)]


def test_a_question_covers_no_alarm_and_takes_no_press_meant_for_the_panel(panel: Panel) -> None:
    middle = panel.named("Temperature")
    point = middle.mapToScene(QPointF(middle.width() / 2, middle.height() / 2)).toPoint()
    panel.model.show_offer(OFFER)
    QTest.touchEvent(panel.view, panel.finger).press(0, point, panel.view).commit()
    QTest.touchEvent(panel.view, panel.finger).release(0, point, panel.view).commit()
    panel.step()
    assert panel.text("setpoint") == "Set to 4 °C"
    panel.door = True
    panel.step()
    panel.step(timings.DOOR_ALARM_SECONDS + 1)
    assert panel.shows("banner")
    assert not panel.shows("update-page")


def test_a_download_is_told_and_disturbs_nothing(panel: Panel) -> None:
    panel.model.show_offer(Offer("downloading", "x", "0.1.58", 40))
    assert panel.text("update-progress") == "Fetching new software: 40 %"
    panel.touch("Temperature")
    assert panel.text("setpoint") == "Set to 3 °C"


def test_an_installation_is_told_before_the_panel_goes_dark(panel: Panel) -> None:
    panel.model.show_offer(Offer("installing", "x", "0.1.58", 100))
    assert panel.text("update-title") == "Installing new software"
    assert not panel.shows("update-install")
