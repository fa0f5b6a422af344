# SPDX-License-Identifier: Apache-2.0
"""What the owner chose, kept over a power loss; what the cabinet was at, kept over a restart of the app.

Both files are written to a temporary name, flushed and renamed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .control import Alarm, Mode, State
from .control.timings import SETPOINT_MAX, SETPOINT_MIN
from .seam import Preferences

_COURSE = (
    "compressor", "compressor_since", "started_at", "supercool_until", "pulled_down", "pulling_since", "outage",
    "door_open_since", "warm_since", "cold_since", "probe_lost_since", "warmest",
)  # fmt: skip
"""What of the state goes on when only the app was restarted, besides the alarms."""


class Settings:
    """The files `settings.json` and `running.json` in the state folder.

    `boot` names this run of the power, `speed` is that of the clock that the core is stepped with: times of another
    clock mean nothing.
    """

    def __init__(self, folder: Path, boot: str, speed: float = 1.0) -> None:
        self._path = folder / "settings.json"
        self._running = folder / "running.json"
        self._boot = f"{boot} {speed:g}"
        self.preferences = Preferences()
        self._stored: dict[str, object] = {}
        self._stored_running: dict[str, object] = {}

    def load(self) -> State:
        """The state to begin with: as chosen, and where the power never failed, as it was."""
        stored = self._read_settings()
        self._stored = stored
        self.preferences = Preferences.from_json(stored.get("preferences"))
        state = _chosen(stored) if stored else State()
        resumed = self._resume(state)
        if resumed is not None:
            return resumed
        # the cabinet was cold when the power failed: it has to be seen how warm it got
        cold = state.power and stored.get("cold") is True
        return replace(state, outage=cold, pulled_down=cold)

    def keep(self, state: State) -> None:
        """Write what differs from the last time. A full disk costs the memory of a choice, not the cooling."""
        wanted: dict[str, object] = {
            "setpoint": state.setpoint,
            "power": state.power,
            "locked": state.locked,
            "mode": str(state.mode),
            "cold": state.pulled_down,
            "preferences": asdict(self.preferences),
        }
        if wanted != self._stored and _write(self._path, wanted):
            self._stored = wanted
        course: dict[str, object] = {key: getattr(state, key) for key in _COURSE}
        course |= {key: sorted(getattr(state, key)) for key in ("alarms", "silenced")}
        if course != self._stored_running and _write(self._running, course | {"boot": self._boot}):
            self._stored_running = course

    def prefer(self, preferences: Preferences) -> None:
        """Take the owner's choice; the next `keep` writes it."""
        self.preferences = preferences

    def _read_settings(self) -> dict[str, Any]:
        """What was stored; a file that makes no sense is kept aside as .bad, and factory settings stay."""
        try:
            stored = dict(json.loads(self._path.read_text(encoding="utf-8")))
            _chosen(stored)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(".bad"))
            return {}
        return stored

    def _resume(self, state: State) -> State | None:
        """`state` with the cabinet's course as it was; None after a power loss.

        The compressor's rest and run go on by the clock, without the delay that a power loss asks for.
        """
        try:
            stored = json.loads(self._running.read_text(encoding="utf-8"))
            if stored["boot"] != self._boot:
                return None
            course = {key: _checked(key, stored[key]) for key in _COURSE}
            alarms, silenced = (frozenset(Alarm(name) for name in stored[key]) for key in ("alarms", "silenced"))
            return replace(state, **course, alarms=alarms, silenced=silenced)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _chosen(stored: dict[str, Any]) -> State:
    setpoint, mode = int(stored["setpoint"]), Mode(stored.get("mode", "normal"))
    if not SETPOINT_MIN <= setpoint <= SETPOINT_MAX:
        raise ValueError(f"setpoint {setpoint}")
    return State(setpoint=setpoint, mode=mode, power=bool(stored["power"]), locked=bool(stored["locked"]))


def _checked(key: str, value: object) -> Any:
    if key in ("compressor", "pulled_down", "outage"):
        return bool(value)
    if value is None and key != "compressor_since":
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{key} is {value!r}")
    return float(value)


def _write(path: Path, wanted: dict[str, object]) -> bool:
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as out:
            json.dump(wanted, out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        return False
    return True
