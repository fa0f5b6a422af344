# SPDX-License-Identifier: Apache-2.0
"""What time it may be: a device without a battery clock starts weeks or decades off, and expiry depends on it.

A floor is kept on disk: the newest time that was proved, by the image, by signed metadata or by a clock that the
kernel said was synchronised. The wall clock is believed where it is synchronised, and otherwise as long as it is not
behind the floor. Metadata that has expired by the floor has expired; metadata that has expired only by a clock that
nobody set tells of the clock, not of a freeze attack.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .durable import read_json, write_json

TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR = 5
_SAVE_STEP = 3600.0
_TOLERANCE = 86400.0


@dataclass(frozen=True)
class Reading:
    """One look at the clock. `reference` is what expiry is judged by; all are UTC seconds."""

    wall: float
    floor: float
    synchronised: bool

    @property
    def reference(self) -> float:
        return self.wall if self.synchronised else max(self.wall, self.floor)

    @property
    def doubtful(self) -> bool:
        """Whether nobody vouches for the wall clock."""
        return not self.synchronised

    def raised(self, proved: float) -> float:
        """The floor after `proved` was seen; a synchronised clock keeps a forged future from becoming the floor."""
        floor = max(self.floor, proved)
        return min(floor, self.wall + _TOLERANCE) if self.synchronised else floor


class Clock:
    """The device's clock and the floor that it keeps in `path`. `built` is when the image was made, UTC seconds."""

    def __init__(self, path: Path, built: float = 0.0, synchronised: bool | None = None) -> None:
        self._path = path
        self._built = built
        self._synchronised = synchronised

    def read(self, wall: float) -> Reading:
        stored = read_json(self._path)
        floor = float(stored["floor"]) if isinstance(stored, dict) and "floor" in stored else 0.0
        known = self._synchronised if self._synchronised is not None else _kernel_synchronised()
        return Reading(wall, max(floor, self._built), known)

    def prove(self, reading: Reading, proved: float) -> None:
        """Raise the floor to `proved`, on disk, where that is news."""
        floor = reading.raised(proved)
        if floor > reading.floor or floor < reading.floor - _TOLERANCE:
            write_json(self._path, {"floor": floor})

    def keep(self, wall: float) -> None:
        """Take a synchronised wall clock as proof, at most once an hour."""
        reading = self.read(wall)
        if reading.synchronised and wall > reading.floor + _SAVE_STEP:
            self.prove(reading, wall)


def parse_utc(text: str) -> float:
    """`2026-11-23T18:00:00Z` as UTC seconds.

    Raises:
        ValueError: not of that form.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def built_at(root: Path) -> float:
    """When the image was made, as far as it tells: the age of the trusted root that was put into it."""
    try:
        return root.stat().st_mtime
    except OSError:
        return 0.0


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h> is smaller; only `modes` is read, the rest is the kernel's to fill
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 508)]


def _kernel_synchronised() -> bool:
    """Whether systemd-timesyncd or the kernel says that the clock is set by somebody who knows (adjtimex(2))."""
    if TIMESYNC_MARK.exists():
        return True
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    except (OSError, AttributeError):
        return False
    # a sandbox that forbids to set the clock may forbid to ask as well: then the mark above is all there is
    return state not in (-1, _TIME_ERROR) and os.name == "posix"
