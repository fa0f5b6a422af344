# SPDX-License-Identifier: Apache-2.0
"""What the owner chose, kept over a power loss: written to a temporary name, flushed, renamed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .control import SETPOINT_MAX, SETPOINT_MIN, State


class Settings:
    """The file `settings.json` in the state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "settings.json"
        self._stored: dict[str, object] = {}

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
            self._write(json.dumps(wanted))
            self._stored = wanted

    def _write(self, text: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
