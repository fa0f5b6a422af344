# SPDX-License-Identifier: Apache-2.0
"""What the control process does at each turn, between the core, the cabinet, the panel's process and the agent.

Nothing here may end or delay the loop but the loop's own end: a panel that dies is started anew, a full disk costs a
memory, an agent that does not listen is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import control
from .agentlink import AgentLink, UpdateOffers
from .control import Button, Event, Finger, Inputs, Touch
from .crashes import CrashRecords
from .hardware import Hardware
from .panel_keeper import PanelKeeper
from .panel_process import PanelProcess
from .seam import Preferences, Shown
from .settings import Settings
from .showing import showing


@dataclass(frozen=True)
class Environment:
    """How the app is set up; see README.md for the variables."""

    state: Path
    run: Path
    version: str
    release: str | None
    agent_socket: str | None
    simulate: bool
    notify_socket: str | None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        home = Path(variables.get("HOME", "/"))
        return cls(
            state=Path(variables.get("FRIDGE_STATE_DIR") or home / ".local/state/fridge"),
            run=Path(variables.get("FRIDGE_RUN_DIR") or home / ".cache/fridge"),
            version=variables.get("FRIDGE_VERSION") or "dev",
            release=variables.get("FRIDGE_RELEASE") or None,
            agent_socket=variables.get("FRIDGE_AGENT_SOCKET") or None,
            simulate=variables.get("FRIDGE_SIMULATE", "1") != "0",
            notify_socket=variables.get("NOTIFY_SOCKET") or None,
        )

    @property
    def crashes(self) -> Path | None:
        """Where the agent looks for crash records; None where there is no agent."""
        return self.state.parent / "crashes" if self.agent_socket else None


class App:
    """One cabinet and its panel."""

    def __init__(self, environment: Environment, cabinet: Hardware, child: PanelProcess) -> None:
        self.environment, self.cabinet = environment, cabinet
        self.settings = Settings(environment.state, cabinet.boot_id(), cabinet.speed)
        self.state = self.settings.load()
        self.shown = Shown()
        self._agent = AgentLink(environment.agent_socket)
        self._offers = UpdateOffers(environment.run / "update.json")
        self._touches: list[Touch] = []
        self._began = self._stepped_at = time.monotonic()
        self._painted_at: float | None = None
        self._told_ready = False
        self.answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        crashes = CrashRecords(environment.crashes, environment.release, environment.version)
        self.panel = PanelKeeper(self._hear, crashes)
        self.step()
        self.panel.tell("preferences", self.settings.preferences)
        self.panel.adopt(child)

    # ---- the loop ---------------------------------------------------------------

    def step(self) -> None:
        """One turn of the control core, and what follows from it."""
        now = time.monotonic()
        touches, self._touches = tuple(self._touches), []
        inputs = Inputs(self.cabinet.air(), self.cabinet.door_open(), touches)
        self.state, outputs, events = control.step(self.state, inputs, now * self.cabinet.speed)
        self.cabinet.drive(outputs, now - self._stepped_at)
        self._stepped_at = now
        shown = showing(self.state, inputs, outputs)
        if shown != self.shown:
            self.shown = shown
            self.panel.tell("shown", shown)
        self.settings.keep(self.state)
        for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event.kind:
            case "pressed":
                self._agent.tell("press", button=event.name)
            case "alarm":
                self._agent.tell("alarm", name=event.name)
            case "menu":
                self.panel.tell_once("menu", True)

    def tick_panel(self) -> None:
        """Look after the panel and what it shows of an update."""
        self.panel.tick(time.monotonic())
        self.panel.tell("offer", self._offers.read())

    def tell_alive(self) -> None:
        """A sign of life for the service manager always, for the agent where the owner sees a panel that lives."""
        if self.panel.alive:
            self._agent.tell("alive" if self._told_ready else "ready", **self._life())
            self._told_ready = True

    def notify(self, text: bytes) -> None:
        """Tell the service manager (sd_notify(3)), which here is the launcher."""
        if self.environment.notify_socket:
            with (
                contextlib.suppress(OSError),
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line,
            ):
                line.sendto(text, self.environment.notify_socket)

    def _life(self) -> dict[str, object]:
        """What an update has to mind: it waits while the door is open or an alarm is on.

        `shown_for` and `uptime`: seconds since the first frame and since the first control step.
        """
        now = time.monotonic()
        return {
            "version": self.environment.version,
            "pid": os.getpid(),
            "door": self.shown.door,
            "alarm": bool(self.state.alarms),
            "shown_for": round(now - (self._painted_at or now), 2),
            "uptime": round(now - self._began, 2),
        }

    # ---- the panel ---------------------------------------------------------------

    def _hear(self, kind: str, value: Any) -> None:
        """A message of the panel; what makes no sense is a fault of the panel and changes nothing here."""
        match kind, value:
            case "touch", [str(button), str(finger)] if button in set(Button) and finger in set(Finger):
                self.touch(Touch(Button(button), Finger(finger)))
            case "painted", _:
                self._painted_at = self._painted_at or time.monotonic()
                self.tell_alive()
            case "consent", {"release": str(release), "yes": bool(yes)}:
                self._agent.tell("consent", release=release, yes=yes)
            case "preferences", chosen:
                self.settings.prefer(Preferences.from_json(chosen))
                self.settings.keep(self.state)
                self.panel.tell("preferences", self.settings.preferences)
            case "played", {"id": int(number)}:
                answer = {key: each for key, each in value.items() if key != "id"}
                if (waiting := self.answers.pop(number, None)) and not waiting.done():
                    waiting.set_result(answer)
            case "gone", _:
                # no finger can be on a panel that is not there
                self._touches += [Touch(button, Finger.AWAY) for button, _ in self.state.down]
                while self.answers:
                    self.answers.popitem()[1].set_result({"ok": False, "error": "the panel ended"})
                self.step()

    def touch(self, touch: Touch) -> None:
        """A finger: answered at once, not at the next turn."""
        self._touches.append(touch)
        self.step()
