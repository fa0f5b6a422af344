# SPDX-License-Identifier: Apache-2.0
"""The app as a process: what it tells the agent, how it ends, what it remembers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fridge import control, kitchen
from fridge.control import State
from fridge.settings import Settings


class Fridge:
    """A running app with the test as its agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.agent.bind(str(folder / "agent.sock"))
        self.agent.settimeout(30)
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "FRIDGE_STATE_DIR": str(self.folder / "state"),
            "FRIDGE_RUN_DIR": str(self.folder / "run"),
            "FRIDGE_VERSION": "9.9.9",
            "FRIDGE_AGENT_SOCKET": str(self.folder / "agent.sock"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fridge"], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert self.hear("ready")["version"] == "9.9.9"

    def hear(self, kind: str) -> dict[str, Any]:
        """The next datagram of this kind."""
        while True:
            message: dict[str, Any] = json.loads(self.agent.recv(4096))
            if message["type"] == kind:
                return message

    def ask(self, **command: Any) -> dict[str, Any]:
        return kitchen.ask(self.folder / "run", command)


@pytest.fixture
def fridge(tmp_path: Path) -> Iterator[Fridge]:
    running = Fridge(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()
    running.agent.close()


def test_it_tells_that_it_lives_and_what_is_pressed(fridge: Fridge) -> None:
    assert fridge.ask(press="temp") == {"ok": True}
    assert fridge.hear("press")["button"] == "temp"
    assert fridge.ask(state=True)["setpoint"] == "3"
    assert fridge.hear("alive")["version"] == "9.9.9"


def test_it_ends_in_peace_when_told_and_remembers(fridge: Fridge) -> None:
    fridge.ask(press="temp")
    fridge.ask(press="temp")
    began = time.monotonic()
    fridge.process.send_signal(signal.SIGTERM)
    assert fridge.process.wait(10) == 0
    assert time.monotonic() - began < 5
    fridge.start()
    assert fridge.ask(state=True)["setpoint"] == "2"


@pytest.mark.parametrize(("kind", "status"), [("exception", 1), ("segfault", -signal.SIGSEGV)])
def test_a_crash_ends_the_process_and_says_why(fridge: Fridge, kind: str, status: int) -> None:
    assert fridge.ask(crash=kind)["ok"]
    assert fridge.process.wait(10) == status
    assert fridge.process.stderr is not None
    assert ("DemonstratedFault" in fridge.process.stderr.read()) == (kind == "exception")


@pytest.mark.parametrize("command", [{"press": "oven"}, {"door": "ajar"}, {"dance": 1}, {"press": []}, {}])
def test_nonsense_in_the_kitchen_is_answered_and_harms_nothing(fridge: Fridge, command: dict[str, Any]) -> None:
    assert fridge.ask(**command)["ok"] is False
    assert fridge.ask(state=True)["ok"]


def test_settings_that_make_no_sense_are_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"setpoint": 99')
    assert Settings(tmp_path).restore(State()) == State()
    assert (tmp_path / "settings.bad").exists()


def test_settings_are_whole_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from fridge.settings import Settings; from fridge.control import State\n"
        "s = Settings(Path(sys.argv[1])); n = 0\n"
        "while True: s.store(State(setpoint=2 + n % 7)); n += 1"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)])
        deadline = time.monotonic() + 10
        while not (tmp_path / "settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        process.wait()
        assert 2 <= Settings(tmp_path).restore(State()).setpoint <= 8
        assert not (tmp_path / "settings.bad").exists()


def test_a_restart_of_the_app_alone_does_not_make_the_compressor_rest(tmp_path: Path) -> None:
    """As after an update: the power never failed, so the cabinet goes on where it was."""
    cooling = State(compressor=True, compressor_since=70.0, started_at=5.0, supercool_until=9000.0, pulled_down=True)
    Settings(tmp_path).keep_running(cooling)
    assert Settings(tmp_path).resume(State()) == cooling
    _, outputs, _ = control.step(Settings(tmp_path).resume(State()), control.Inputs(air=8.0), 80.0)
    assert outputs.compressor


def test_after_a_power_loss_the_compressor_rests_whatever_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Settings(tmp_path).keep_running(State(compressor=True, compressor_since=70.0, started_at=5.0))
    (tmp_path / "boot").write_text("another boot")
    monkeypatch.setattr("fridge.settings.BOOT_ID", tmp_path / "boot")
    assert Settings(tmp_path).resume(State()) == State()


@pytest.mark.parametrize("text", ["", "[]", '{"boot": 1}', "{", '{"boot": "x", "compressor": "y"}'])
def test_a_spoilt_record_of_the_cabinet_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "running.json").write_text(text)
    assert Settings(tmp_path).resume(State()) == State()


def test_it_tells_the_agent_of_an_open_door_and_takes_its_offer(fridge: Fridge) -> None:
    fridge.ask(door="open")
    while not fridge.hear("alive")["door"]:
        pass
    offer = {"state": "waiting", "release": "r", "version": "2", "progress": 100, "ask": True, "notes": "n"}
    (fridge.folder / "run/update.json").write_text(json.dumps(offer))
    deadline = time.monotonic() + 20
    while not fridge.ask(press="update-install")["ok"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert fridge.hear("consent") == {"type": "consent", "release": "r", "yes": True}
