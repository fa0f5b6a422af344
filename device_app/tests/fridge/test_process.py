# SPDX-License-Identifier: Apache-2.0
"""The app as two processes: what it tells the agent, what it survives, how it ends, what it remembers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fridge import kitchen


def within(seconds: float, holds: Callable[[], Any]) -> Any:
    """The first true value of `holds`."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


class Fridge:
    """A running app with the test as its agent and as its service manager."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.variables = folder, variables
        self.agent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.agent.bind(str(folder / "agent.sock"))
        self.agent.settimeout(30)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify.sock"))
        self.manager.settimeout(30)
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "FRIDGE_STATE_DIR": str(self.folder / "app/state"),
            "FRIDGE_RUN_DIR": str(self.folder / "run"),
            "FRIDGE_VERSION": "9.9.9",
            "FRIDGE_RELEASE": "9.9.9-gabc",
            "FRIDGE_AGENT_SOCKET": str(self.folder / "agent.sock"),
            "NOTIFY_SOCKET": str(self.folder / "notify.sock"),
            **self.variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fridge"], env=environment, stderr=subprocess.PIPE, text=True
        )
        self.ready = self.hear("ready")

    def hear(self, kind: str) -> dict[str, Any]:
        """The next datagram of this kind."""
        while True:
            message: dict[str, Any] = json.loads(self.agent.recv(4096))
            if message["type"] == kind:
                return message

    def ask(self, **command: Any) -> dict[str, Any]:
        return kitchen.ask(self.folder / "run", command)

    def state(self) -> dict[str, Any]:
        return self.ask(state=True)

    def panel(self) -> int:
        """The panel's process, once one lives."""
        return int(within(30, lambda: (found := self.state()["panel"])["alive"] and found["pid"]))

    def crashes(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "app/crashes").glob("[!.]*.json"))]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.agent.close()
        self.manager.close()


@pytest.fixture
def fridge(tmp_path: Path) -> Iterator[Fridge]:
    running = Fridge(tmp_path)
    yield running
    running.stop()


def test_it_tells_that_it_lives_and_what_is_pressed(fridge: Fridge) -> None:
    assert fridge.ready["version"] == "9.9.9"
    assert fridge.ask(press="temp") == {"ok": True}
    assert fridge.hear("press")["button"] == "temp"
    assert fridge.state()["setpoint"] == 3
    assert fridge.hear("alive")["version"] == "9.9.9"


def test_the_core_runs_before_the_panel_shows_anything(fridge: Fridge) -> None:
    assert fridge.ready["uptime"] > fridge.ready["shown_for"]


def test_the_service_manager_is_told(fridge: Fridge) -> None:
    told = [fridge.manager.recv(100) for _ in range(4)]
    assert told[0] == b"READY=1"
    assert set(told[1:]) == {b"WATCHDOG=1"}


def test_it_ends_in_peace_when_told_and_remembers(fridge: Fridge) -> None:
    fridge.ask(press="temp")
    fridge.ask(press="temp")
    fridge.ask(hold="alarm")
    panel, began = fridge.panel(), time.monotonic()
    fridge.process.send_signal(signal.SIGTERM)
    assert fridge.process.wait(10) == 0
    assert time.monotonic() - began < 5
    assert not Path(f"/proc/{panel}").exists(), "the panel went with it"
    assert fridge.crashes() == []
    fridge.start()
    state = fridge.state()
    assert (state["setpoint"], state["locked"]) == (2, True)


@pytest.mark.parametrize(("kind", "signal_name"), [("exception", None), ("segfault", "SIGSEGV")])
def test_a_panel_that_crashes_is_started_anew_and_cooling_never_stopped(
    fridge: Fridge, kind: str, signal_name: str | None
) -> None:
    fridge.ask(press="temp")
    before = fridge.panel()
    assert fridge.ask(crash=kind)["ok"]
    assert within(30, fridge.crashes)[0]["signal"] == signal_name
    within(30, lambda: fridge.panel() != before)
    assert fridge.process.poll() is None
    assert fridge.state()["setpoint"] == 3
    record = fridge.crashes()[0]
    assert (record["version"], record["release"]) == ("9.9.9", "9.9.9-gabc")
    assert ("DemonstratedFault" in record["stderr"]) == (kind == "exception")
    assert ("Segmentation fault" in record["stderr"]) == (kind == "segfault")
    # a new panel shows what the old one did, and works
    fridge.ask(press="temp")
    assert fridge.state()["setpoint"] == 2


def test_a_panel_that_hangs_says_where_and_is_started_anew(fridge: Fridge) -> None:
    before = fridge.panel()
    fridge.ask(crash="hang")
    record = within(40, fridge.crashes)[0]
    assert record["signal"] == "SIGABRT"
    assert "_hang" in record["stderr"]
    within(30, lambda: fridge.panel() != before)


def test_a_finger_that_was_on_a_panel_that_died_presses_nothing(fridge: Fridge) -> None:
    os.kill(fridge.panel(), signal.SIGSTOP)
    assert fridge.ask(press="power")["ok"] is False, "nobody draws, nobody touches"
    before = fridge.state()["panel"]["pid"]
    os.kill(before, signal.SIGKILL)
    within(30, lambda: fridge.panel() != before)
    assert fridge.state()["power"] is True


def test_no_panel_outlives_its_control_process(fridge: Fridge) -> None:
    panel = fridge.panel()
    fridge.process.kill()
    fridge.process.wait()
    within(10, lambda: not Path(f"/proc/{panel}").exists())


def test_a_control_process_that_fails_says_why(fridge: Fridge) -> None:
    assert fridge.ask(crash="control")["ok"]
    assert fridge.process.wait(10) == 1
    assert fridge.process.stderr is not None
    assert "DemonstratedFault" in fridge.process.stderr.read()


@pytest.mark.parametrize(
    "command",
    [{"press": "oven"}, {"door": "ajar"}, {"dance": 1}, {"press": []}, {}, {"power": "cut"}, {"crash": "car"},
     {"screenshot": "/nowhere/at/all.png"}, {"kitchen": "hot"}],
)  # fmt: skip
def test_nonsense_in_the_kitchen_is_answered_and_harms_nothing(fridge: Fridge, command: dict[str, Any]) -> None:
    answer = fridge.ask(**command)
    assert answer["ok"] is False
    assert answer["error"]
    assert fridge.state()["ok"]


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[]\n", b"{" * 3000 + b"\n", b"x" * 100_000])
def test_a_guest_that_sends_noise_is_shown_out(fridge: Fridge, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as guest:
        guest.settimeout(10)
        guest.connect(str(fridge.folder / "run/kitchen.sock"))
        guest.sendall(line)
        answer = guest.recv(4096)
    assert not answer or json.loads(answer)["ok"] is False
    assert fridge.state()["ok"]


def test_it_tells_the_agent_of_an_open_door_and_takes_its_offer(fridge: Fridge) -> None:
    fridge.ask(door="open")
    while not fridge.hear("alive")["door"]:
        pass
    offer = {"state": "waiting", "release": "r", "version": "2", "progress": 100, "ask": True, "notes": "n"}
    (fridge.folder / "run/update.json").write_text(json.dumps(offer))
    within(20, lambda: fridge.ask(press="update-install")["ok"])
    assert fridge.hear("consent") == {"type": "consent", "release": "r", "yes": True}


def test_the_panels_settings_are_kept_by_the_control_process(fridge: Fridge) -> None:
    fridge.ask(hold="temp")
    within(10, lambda: fridge.ask(press="language-de")["ok"])
    fridge.ask(press="text-large")
    assert within(10, lambda: fridge.state()["preferences"]["large_text"])
    before = fridge.panel()
    os.kill(before, signal.SIGKILL)
    within(30, lambda: fridge.panel() != before)
    assert fridge.state()["preferences"] == {"language": "de", "theme": "auto", "large_text": True}
    stored = json.loads((fridge.folder / "app/state/settings.json").read_text())
    assert stored["preferences"]["language"] == "de"


def test_a_power_failure_that_warms_the_food_is_told(tmp_path: Path) -> None:
    fridge = Fridge(tmp_path, FRIDGE_SPEED="1")
    try:
        assert fridge.ask(power="cut 36000")["ok"]
        fridge.hear("ready")
        state = within(10, lambda: (found := fridge.state())["alarms"] and found)
        assert state["alarms"] == ["outage"]
        assert state["air"] > 8
        assert state["cooling"] is False, "it rests first"
        fridge.ask(press="alarm")
        assert fridge.state()["recall"] == pytest.approx(state["air"], abs=0.5)
        while fridge.manager.recv(100) != b"READY=1":  # of the first start
            pass
        while fridge.manager.recv(100) != b"READY=1":  # and it is still watched after it
            pass
        assert fridge.manager.recv(100) == b"WATCHDOG=1"
    finally:
        fridge.stop()


def test_a_setting_that_makes_no_sense_is_told_in_a_line() -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "FRIDGE_SPEED": "fast"}
    ended = subprocess.run(
        [sys.executable, "-m", "fridge"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "FRIDGE_SPEED: 'fast' is no speed" in ended.stderr


def test_the_panel_alone_says_how_it_is_started() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "fridge.panel"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert "python -m fridge" in ended.stderr
