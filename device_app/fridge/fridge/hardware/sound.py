# SPDX-License-Identifier: Apache-2.0
"""Beepers: one that can sound an alarm and answer a finger. The GPIO buzzer's is in `gpio`."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TextIO

from fridge.control.model import Chirp

from . import HardwareError

ALARM_SECONDS = 1.0
REMEMBERED = 100


class Beeper(ABC):
    """Something that sounds. Neither call may wait for the sound to end."""

    @abstractmethod
    def alarm(self, on: bool) -> None:
        """Sound the alarm, or be quiet. Called at every turn of the loop, also where nothing changed."""

    @abstractmethod
    def chirp(self, chirp: Chirp) -> None:
        """Sound a short answer once."""


class TerminalBell(Beeper):
    """Rings a terminal's bell: once for a chirp, once a second for an alarm."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._rung_at: float | None = None

    def alarm(self, on: bool) -> None:
        now = self._monotonic()
        if not on:
            self._rung_at = None
        elif self._rung_at is None or now - self._rung_at >= ALARM_SECONDS:
            self._rung_at = now
            self._ring()

    def chirp(self, chirp: Chirp) -> None:
        self._ring("\a\a" if chirp is Chirp.REFUSED else "\a")

    def _ring(self, bells: str = "\a") -> None:
        # a terminal that was closed is no reason to stop cooling; ValueError is what a closed stream raises
        with suppress(OSError, ValueError):
            self._stream.write(bells)
            self._stream.flush()


class RecordedBeeper(Beeper):
    """Remembers what sounded: `alarm` and `quiet` where that changed, and the chirps by name."""

    def __init__(self) -> None:
        self.sounding = False
        self.sounded: deque[str] = deque(maxlen=REMEMBERED)

    def alarm(self, on: bool) -> None:
        if on != self.sounding:
            self.sounding = on
            self.sounded.append("alarm" if on else "quiet")

    def chirp(self, chirp: Chirp) -> None:
        self.sounded.append(str(chirp))


def open_beeper(variables: Mapping[str, str]) -> Beeper:
    """The simulator's beeper by `FRIDGE_SOUND`: `none` (the default) or `bell`, on the error stream.

    Raises:
        HardwareError: it is neither.
    """
    match variables.get("FRIDGE_SOUND") or "none":
        case "none":
            return RecordedBeeper()
        case "bell":
            return TerminalBell(sys.stderr)
        case other:
            raise HardwareError("FRIDGE_SOUND", f"{other!r} is no beeper", "say bell or none")
