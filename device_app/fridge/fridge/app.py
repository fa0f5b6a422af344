# SPDX-License-Identifier: Apache-2.0
"""The app: control loop and panel in one process, tied to hardware, settings and the device's agent."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QObject, QSocketNotifier, QTimer
from PySide6.QtGui import QGuiApplication

from . import control
from .agentlink import AgentLink, UpdateOffers
from .control import Inputs, State
from .kitchen_server import KitchenServer
from .panel.viewmodel import ViewModel
from .panel.window import open_panel, prepare
from .plant import SimulatedCabinet
from .settings import Settings

STEP_SECONDS = 0.25
ALIVE_SECONDS = 2.0
OFFER_SECONDS = 1.0
_STALLED_SECONDS = 5.0


@dataclass(frozen=True)
class Environment:
    """How the app is set up; see README.md for the variables."""

    state: Path
    run: Path
    version: str
    agent_socket: str | None
    simulate: bool
    speed: float
    full_screen: bool

    @classmethod
    def read(cls, variables: dict[str, str]) -> Environment:
        home = Path(variables.get("HOME", "/"))
        return cls(
            state=Path(variables.get("FRIDGE_STATE_DIR") or home / ".local/state/fridge"),
            run=Path(variables.get("FRIDGE_RUN_DIR") or home / ".cache/fridge"),
            version=variables.get("FRIDGE_VERSION") or "dev",
            agent_socket=variables.get("FRIDGE_AGENT_SOCKET") or None,
            simulate=variables.get("FRIDGE_SIMULATE", "1") != "0",
            speed=float(variables.get("FRIDGE_SPEED", "1")),
            full_screen=variables.get("QT_QPA_PLATFORM", "").startswith(("linuxfb", "eglfs")),
        )


class App(QObject):
    """One cabinet with its panel."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.environment = environment
        self.cabinet = SimulatedCabinet(speed=environment.speed)
        self.settings = Settings(environment.state, environment.speed)
        self.agent = AgentLink(environment.agent_socket)
        self.offers = UpdateOffers(environment.run / "update.json")
        self.model = ViewModel(environment.version)
        self.model.answered.connect(self._on_answer)
        self.state = self.settings.resume(self.settings.restore(State()))
        self._began = self._stepped_at = time.monotonic()
        self._painted_at: float | None = None
        self._ready = False
        self.view = open_panel(self.model, full_screen=environment.full_screen)
        self.view.frameSwapped.connect(self._on_frame)
        self._loop = self._timer(STEP_SECONDS, self.step)
        self._pulse = self._timer(ALIVE_SECONDS, self._tell_alive)
        self._offer = self._timer(OFFER_SECONDS, lambda: self.model.show_update(self.offers.read()))
        if environment.simulate:
            self.kitchen = KitchenServer(environment.run, self)
        self.step()

    def step(self) -> None:
        """One turn of the control loop, and what follows from it."""
        now = time.monotonic()
        inputs = Inputs(self.cabinet.air(), self.cabinet.door_open(), self.model.take_presses())
        self.state, outputs, events = control.step(self.state, inputs, now * self.environment.speed)
        self.cabinet.drive(outputs, now - self._stepped_at)
        self._stepped_at = now
        self.model.show(self.state, inputs.air, inputs.door_open)
        self.settings.store(self.state)
        self.settings.keep_running(self.state)
        for event in events:
            if event.kind == "pressed":
                self.agent.tell("press", button=event.name)
            elif event.kind == "alarm":
                self.agent.tell("alarm", name=event.name)
        self._tell_ready()

    def _timer(self, seconds: float, call: object) -> QTimer:
        timer = QTimer(self)
        timer.timeout.connect(call)
        timer.start(int(seconds * 1000))
        return timer

    def _on_frame(self) -> None:
        if self._painted_at is None:
            self._painted_at = time.monotonic()
        self._tell_ready()

    def _tell_ready(self) -> None:
        if self._painted_at is not None and not self._ready:
            self._ready = True
            self.agent.tell("ready", version=self.environment.version, pid=os.getpid(), **self._kitchen())

    def _tell_alive(self) -> None:
        # this runs in the panel's event loop, so only the control loop is left to doubt
        now = time.monotonic()
        if self._ready and now - self._stepped_at < _STALLED_SECONDS:
            self.agent.tell("alive", version=self.environment.version, pid=os.getpid(), **self._kitchen())

    def _kitchen(self) -> dict[str, object]:
        """What an update has to mind: it waits while the door is open or an alarm is on.

        `shown_for` and `uptime`: seconds since the first frame and since the first control step.
        """
        now = time.monotonic()
        times = {"shown_for": round(now - (self._painted_at or now), 2), "uptime": round(now - self._began, 2)}
        return {"door": self.cabinet.door_open(), "alarm": bool(self.state.alarms), **times}

    def _on_answer(self, release: str, yes: bool) -> None:
        self.agent.tell("consent", release=release, yes=yes)


def _die(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """End the process on an exception that nobody caught: Qt would go on with half an app."""
    traceback.print_exception(kind, value, trace)
    sys.stderr.flush()
    os._exit(1)


def _quit_on_signals(application: QGuiApplication) -> QSocketNotifier:
    """Let SIGTERM and SIGINT end the event loop (Python's handlers run only between bytecodes, Qt is in C++)."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    notifier = QSocketNotifier(read, QSocketNotifier.Type.Read)
    notifier.activated.connect(lambda *_: application.quit())
    return notifier


def run() -> int:
    """Start the app and serve until a signal; the exit status."""
    prepare()
    sys.excepthook = _die
    application = QGuiApplication([sys.argv[0]])
    app = App(Environment.read(dict(os.environ)))
    notifier = _quit_on_signals(application)
    status = application.exec()
    notifier.setEnabled(False)
    app.view.close()
    return status
