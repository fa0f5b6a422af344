# SPDX-License-Identifier: Apache-2.0
"""What is kept over a power loss, and what over a restart of the app alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fridge import control
from fridge.control import Alarm, Mode, State
from fridge.seam import Preferences
from fridge.settings import Settings


def test_choices_survive_a_power_loss(tmp_path: Path) -> None:
    chosen = State(setpoint=7, locked=True, mode=Mode.HOLIDAY)
    before = Settings(tmp_path, "boot 1")
    before.prefer(Preferences("de", "night", True))
    before.keep(chosen)
    after = Settings(tmp_path, "boot 2")
    loaded = after.load()
    assert (loaded.setpoint, loaded.locked, loaded.mode) == (7, True, Mode.HOLIDAY)
    assert after.preferences == Preferences("de", "night", True)


def test_a_restart_of_the_app_alone_does_not_make_the_compressor_rest(tmp_path: Path) -> None:
    """As after an update: the power never failed, so the cabinet goes on where it was."""
    cooling = State(
        compressor=True, compressor_since=70.0, started_at=5.0, mode=Mode.SUPERCOOL, supercool_until=9000.0,
        pulled_down=True, alarms=frozenset({Alarm.DOOR}), silenced=frozenset({Alarm.DOOR}), door_open_since=1.0,
    )  # fmt: skip
    Settings(tmp_path, "boot 1").keep(cooling)
    assert Settings(tmp_path, "boot 1").load() == cooling
    _, outputs, _ = control.step(Settings(tmp_path, "boot 1").load(), control.Inputs(air=8.0, door_open=True), 80.0)
    assert outputs.compressor
    assert not outputs.buzzer, "silenced is silenced"


def test_after_a_power_loss_the_compressor_rests_and_the_food_is_looked_at(tmp_path: Path) -> None:
    Settings(tmp_path, "boot 1").keep(State(compressor=True, compressor_since=70.0, started_at=5.0, pulled_down=True))
    loaded = Settings(tmp_path, "boot 2").load()
    assert (loaded.compressor, loaded.started_at) == (False, None)
    assert loaded.outage


@pytest.mark.parametrize("state", [State(pulled_down=False), State(pulled_down=True, power=False)])
def test_a_fridge_that_was_not_cold_or_off_has_no_food_to_look_at(tmp_path: Path, state: State) -> None:
    Settings(tmp_path, "boot 1").keep(state)
    assert not Settings(tmp_path, "boot 2").load().outage


def test_times_of_another_speed_mean_nothing(tmp_path: Path) -> None:
    Settings(tmp_path, "boot", 60.0).keep(State(compressor=True, compressor_since=70.0, started_at=5.0))
    assert not Settings(tmp_path, "boot", 1.0).load().compressor


@pytest.mark.parametrize(
    "text", ['{"setpoint": 99', '{"setpoint": 99, "power": true, "locked": false}', "[]", '{"setpoint": "cold"}', "\0"]
)
def test_settings_that_make_no_sense_are_kept_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert Settings(tmp_path, "boot").load() == State()
    assert (tmp_path / "settings.bad").read_text() == text


@pytest.mark.parametrize("text", ["", "[]", '{"boot": 1}', "{", '{"boot": "boot 1", "compressor": "y"}'])
def test_a_spoilt_record_of_the_cabinet_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "running.json").write_text(text)
    assert Settings(tmp_path, "boot").load() == State()


@pytest.mark.parametrize("value", ["soon", True, [], {}])
def test_a_record_with_a_time_that_is_none_is_as_none(tmp_path: Path, value: object) -> None:
    Settings(tmp_path, "boot").keep(State(compressor=True, compressor_since=70.0))
    record = json.loads((tmp_path / "running.json").read_text())
    (tmp_path / "running.json").write_text(json.dumps(record | {"compressor_since": value}))
    assert not Settings(tmp_path, "boot").load().compressor


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "boot")
    settings.keep(State())
    before = [(path.name, path.stat().st_ino) for path in sorted(tmp_path.iterdir())]
    settings.keep(State())
    assert [(path.name, path.stat().st_ino) for path in sorted(tmp_path.iterdir())] == before


def test_a_folder_that_cannot_be_written_costs_no_cooling(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Settings(tmp_path / "file", "boot").keep(State())


def test_settings_are_whole_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from fridge.settings import Settings; from fridge.control import State\n"
        "s = Settings(Path(sys.argv[1]), 'boot'); n = 0\n"
        "while True: s.keep(State(setpoint=2 + n % 7)); n += 1"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)])
        deadline = time.monotonic() + 10
        while not (tmp_path / "settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        process.wait()
        assert 2 <= Settings(tmp_path, "boot").load().setpoint <= 8
        assert not (tmp_path / "settings.bad").exists()
