# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole agent without a hub: goals in, real downloads, a real app process that lives or dies."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fridge_agent.agent import Agent
from fridge_agent.config import App, Config, Timing
from fridge_agent.durable import write_json
from fridge_agent.install import current, describe
from fridge_agent.launcher import Launcher
from fridge_agent.machine import Fetched, Free, Goal, Moment, step
from fridge_agent.worker import Worker
from update.maker import Maker

GOOD = """
import json, os, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
while True:
    for kind in ("ready", "alive"):
        try:
            link.sendto(json.dumps({"type": kind, "version": os.environ["FRIDGE_VERSION"], "shown_for": 0}).encode(),
                        os.environ["FRIDGE_AGENT_SOCKET"])
        except OSError:
            pass
    time.sleep(0.1)
"""
DYING = "raise SystemExit('I cannot start on a device')"
SILENT = "import time; time.sleep(600)"


class Device:
    """An agent thread and a launcher process on one configuration."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._toml = folder / "agent.toml"
        paths = config.paths
        self._toml.write_text(
            f'[device]\nid = "f"\nring = "beta"\nplatform = "linux-x86_64"\n[updates]\nurl = "{config.server.url}"\n'
            f'root = "{config.server.root}"\n[paths]\nbase = "{paths.base}"\nstate = "{paths.state}"\n'
            f'run = "{paths.run}"\napp = "{paths.app}"\n[app]\npython = "{sys.executable}"\n'
        )
        self.start_agent()
        self.launcher = subprocess.Popen(
            [sys.executable, "-m", "fridge_agent.cli", "--config", str(self._toml), "run-app"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start_agent(self) -> None:
        self.agent = Agent(self.config)
        self._thread = threading.Thread(target=self.agent.run, daemon=True)
        self._thread.start()

    def stop_agent(self) -> None:
        self.agent.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def goal(self, version: str) -> None:
        self.agent._put(Goal(f"{version}-g0", version, f"beta/{version}/manifest.json"))

    def becomes(self, phase: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while self.agent._state.phase != phase:
            assert time.monotonic() < deadline, f"still {self.agent._state}, not {phase}"
            time.sleep(0.05)

    def running(self) -> str | None:
        return (describe(current(self.config.paths)) or {}).get("version")


@pytest.fixture
def start(device: Callable[..., Config], tmp_path: Path) -> Iterator[Callable[[], Device]]:
    made: list[Device] = []

    def begin() -> Device:
        timing = Timing(ready_timeout=4, probation=0.5, retry_base=0.1)
        config = replace(device(), timing=timing, app=App(sys.executable))
        made.append(Device(config, tmp_path))
        return made[-1]

    yield begin
    for each in made:
        each.stop_agent()
        each.launcher.send_signal(signal.SIGTERM)
        assert each.launcher.wait(15) == 0


@pytest.fixture
def release(maker: Maker) -> Callable[[str, str], None]:
    """Releases an app whose `python -m fridge` is this program."""

    def make(version: str, program: str) -> None:
        package = maker.folder / "source/app/fridge"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(program)
        maker.release(version)

    return make


def test_a_good_release_succeeds_and_the_app_is_the_new_one(
    start: Callable[[], Device], release: Callable[[str, str], None]
) -> None:
    fridge = start()
    for version in ("1", "2"):
        release(version, GOOD)
        fridge.goal(version)
        fridge.becomes("probation")
        fridge.becomes("succeeded")
        assert fridge.running() == version
    assert fridge.agent._state.previous == "1"
    assert fridge.agent._state.blind_s is not None


@pytest.mark.parametrize(("program", "code"), [(DYING, "app_exited"), (SILENT, "not_ready")])
def test_a_bad_release_rolls_back_to_the_one_before(
    program: str, code: str, start: Callable[[], Device], release: Callable[[str, str], None]
) -> None:
    fridge = start()
    release("1", GOOD)
    fridge.goal("1")
    fridge.becomes("succeeded")
    release("2", program)
    fridge.goal("2")
    fridge.becomes("rolled_back")
    assert fridge.running() == "1"
    error = fridge.agent._state.error
    assert error is not None
    assert error["code"] == code
    release("3", GOOD)
    fridge.goal("3")
    fridge.becomes("succeeded")


@pytest.mark.parametrize("phase", ["downloading", "installing", "probation"])
def test_an_agent_restarted_in_the_middle_ends_well(
    phase: str, start: Callable[[], Device], release: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fridge = start()
    release("1", GOOD)
    if phase != "probation":
        monkeypatch.setattr(fridge.agent._worker, "_do", lambda effect: time.sleep(0.5))
        monkeypatch.setattr(fridge.agent, "_put", lambda event: None)
    fridge.agent._handle(Goal("1-g0", "1", "beta/1/manifest.json"))
    if phase == "installing":
        # staged indeed, as the machine is told
        fridge.stop_agent()
        monkeypatch.undo()
        Worker(fridge.config, queue.Queue(), lambda event: None, fridge.agent._clock)._fetch(
            "1-g0", "beta/1/manifest.json"
        )
        fridge.agent._handle(Fetched("1-g0"))
        fridge.agent._state, _ = step(fridge.agent._state, Free(), Moment(0, 0))
        write_json(fridge.agent._state_file, fridge.agent._state.to_json())
    if phase == "probation":
        fridge.becomes("probation")
    if phase != "installing":
        fridge.stop_agent()
    assert json.loads((fridge.config.paths.state / "update.json").read_text())["phase"] == phase
    fridge.start_agent()
    fridge.becomes("succeeded")
    assert fridge.running() == "1"


def installed(config: Config, program: str) -> Path:
    """A release, made current, whose app is this program."""
    release = config.paths.releases / "1-g0"
    (release / "real/fridge").mkdir(parents=True)
    (release / "app").symlink_to("real")
    (release / "real/fridge/__init__.py").write_text("")
    (release / "real/fridge/__main__.py").write_text(textwrap.dedent(program))
    (release / "manifest.json").write_text('{"id": "1-g0", "version": "1"}')
    config.paths.current.symlink_to("releases/1-g0")
    return release


def launched(config: Config, release: Path, seconds: float) -> list[dict[str, Any]]:
    """Run the launcher for a while; the crash records that it left."""
    launcher = Launcher(config)
    threading.Timer(seconds, launcher.stopping.set).start()
    while not launcher.stopping.is_set():
        launcher._run_once(release)
    if not config.paths.crashes.exists():
        return []
    return [json.loads(path.read_text()) for path in sorted(config.paths.crashes.iterdir())]


HUNG = """
    import faulthandler, os, socket, time
    faulthandler.enable()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])
    def wait_for_a_lock_that_nobody_gives_back():
        time.sleep(600)
    wait_for_a_lock_that_nobody_gives_back()
"""


def test_an_app_that_hangs_is_ended_says_where_and_is_started_anew(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fridge_agent.launcher.SILENCE", 0.6)
    config: Config = replace(device(), app=App(sys.executable))
    records = launched(config, installed(config, HUNG), 3.5)
    assert records, "it was left hanging"
    assert records[0]["signal"] == "SIGABRT"
    assert "wait_for_a_lock_that_nobody_gives_back" in records[0]["stderr"]


def test_an_app_that_never_gave_a_sign_is_not_expected_to(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a release from before: a way back to it must not end in a loop of restarts."""
    monkeypatch.setattr("fridge_agent.launcher.SILENCE", 0.3)
    config: Config = replace(device(), app=App(sys.executable))
    assert launched(config, installed(config, "import time; time.sleep(600)"), 1.5) == []


def test_the_app_is_told_its_release_and_not_the_launchers_own_watchdog(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    config: Config = replace(device(), app=App(sys.executable))
    program = f"import json, os; json.dump(dict(os.environ), open({str(tmp_path / 'told')!r}, 'w'))"
    launched(config, installed(config, program), 1.0)
    told = json.loads((tmp_path / "told").read_text())
    assert (told["FRIDGE_RELEASE"], told["FRIDGE_VERSION"]) == ("1-g0", "1")
    assert "WATCHDOG_USEC" not in told


def test_a_crash_leaves_one_record_with_its_last_words(device: Any) -> None:
    config: Config = replace(device(), app=App(sys.executable))
    records = launched(config, installed(config, "raise ValueError('too cold')"), 1.2)
    assert 1 <= len(records) <= 3, "the launcher must not spin"
    assert records[0]["exit_code"] == 1
    assert "ValueError: too cold" in records[0]["stderr"]
    assert records[0]["release"] == "1-g0"


def test_a_wake_up_for_what_is_not_there_is_tried_a_bounded_number_of_times(
    device: Callable[..., Config], tmp_path: Path
) -> None:
    config = replace(device(), timing=Timing(download_attempts=2, retry_base=0.05))
    fridge = Agent(config)
    fetched: list[str] = []
    real = fridge._worker._fetch
    fridge._worker._fetch = lambda *args: (fetched.append(args[1]), real(*args))  # type: ignore[method-assign,assign,return-value]
    thread = threading.Thread(target=fridge.run, daemon=True)
    thread.start()
    fridge._put(Goal("9-g0", "9", "beta/9/manifest.json", woken=True))
    deadline = time.monotonic() + 10
    while fridge._state.phase != "failed" and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)
    fridge.stop()
    thread.join(20)
    assert (fridge._state.phase, len(fetched)) == ("failed", 2)


def test_a_goal_that_comes_during_probation_replaces_the_release_once_it_has_passed(
    start: Callable[[], Device], release: Callable[[str, str], None]
) -> None:
    fridge = start()
    release("1", GOOD)
    release("2", GOOD)
    fridge.goal("1")
    fridge.becomes("probation")
    fridge.goal("2")
    deadline = time.monotonic() + 30
    while fridge.running() != "2" and time.monotonic() < deadline:
        time.sleep(0.05)
    fridge.becomes("succeeded")
    assert (fridge.running(), fridge.agent._state.previous) == ("2", "1")
