# SPDX-License-Identifier: Apache-2.0
"""What the owner chose, kept over a power loss; what the cabinet was at, kept over a restart of the app.

Both files are written to a temporary name, flushed and renamed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .control import SETPOINT_MAX, SETPOINT_MIN, State

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Settings:
    """The files `settings.json` and `running.json` in the state folder.

    `speed` is that of the clock that the core is stepped with; times of another clock mean nothing.
    """

    def __init__(self, folder: Path, speed: float = 1.0) -> None:
        self._path = folder / "settings.json"
        self._running = folder / "running.json"
        self._boot = f"{_boot_id()} {speed:g}"
        self._stored: dict[str, object] = {}
        self._stored_running: dict[str, object] = {}

    def resume(self, state: State) -> State:
        """`state` with the cabinet's course as it was, where only the app was restarted and the power never failed.

        The compressor's rest and run then go on by the clock, without the delay that a power loss asks for.
        """
        try:
            stored = json.loads(self._running.read_text(encoding="utf-8"))
            if stored.pop("boot") != self._boot:
                return state
            until = stored["supercool_until"]
            return replace(
                state,
                compressor=bool(stored["compressor"]),
                compressor_since=float(stored["compressor_since"]),
                started_at=float(stored["started_at"]),
                supercool_until=None if until is None else float(until),
                pulled_down=bool(stored["pulled_down"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return state

    def keep_running(self, state: State) -> None:
        """Write what `resume` needs, where it changed: a few times an hour."""
        wanted: dict[str, object] = {key: getattr(state, key) for key in (*_TIMES, "compressor", "pulled_down")}
        if wanted == self._stored_running:
            return
        with suppress(OSError):
            _write(self._running, json.dumps(wanted | {"boot": self._boot}))
            self._stored_running = wanted

    def restore(self, state: State) -> State:
        """`state` with what was stored; a file that makes no sense is kept aside as .bad, and factory settings stay."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            setpoint, power, locked = int(stored["setpoint"]), bool(stored["power"]), bool(stored["locked"])
            if not SETPOINT_MIN <= setpoint <= SETPOINT_MAX:
                raise ValueError(f"setpoint {setpoint}")
        except FileNotFoundError:
            return state
        except (OSError, ValueError, KeyError, TypeError):
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(".bad"))
            return state
        self._stored = stored
        return replace(state, setpoint=setpoint, power=power, locked=locked)

    def store(self, state: State) -> None:
        """Write what differs from the last time. A full disk costs the memory of a choice, not the cooling."""
        wanted: dict[str, object] = {"setpoint": state.setpoint, "power": state.power, "locked": state.locked}
        if wanted == self._stored:
            return
        with suppress(OSError):
            _write(self._path, json.dumps(wanted))
            self._stored = wanted


_TIMES = ("compressor_since", "started_at", "supercool_until")


def _boot_id() -> str:
    """What names this run of the kernel, so that monotonic times of another one are not mistaken for ours."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
