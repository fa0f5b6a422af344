# SPDX-License-Identifier: Apache-2.0
"""The panel's backlight, by sysfs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

CLASS_FOLDER = Path("/sys/class/backlight")

_log = logging.getLogger(__name__)


class Backlight:
    """A folder with `brightness` and `max_brightness`.

    Raises:
        OSError: there is no such folder.
        ValueError: `max_brightness` is no number above 0.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "brightness"
        self._most = int((folder / "max_brightness").read_text(encoding="ascii"))
        if self._most < 1:
            raise ValueError(f"max_brightness is {self._most}")
        self._written: int | None = None

    def set(self, percent: int) -> None:
        """Light the panel with `percent` of what it can, never quite off: a dark panel looks like a dead fridge."""
        wanted = max(1, round(self._most * min(percent, 100) / 100))
        if wanted == self._written:
            return
        try:
            self._file.write_text(f"{wanted}\n", encoding="ascii")
        except OSError as exc:
            # said once; it is tried again when the brightness is to change
            _log.warning("the backlight stays as it is: %s", exc)
        self._written = wanted


def open_backlight(variables: Mapping[str, str], class_folder: Path = CLASS_FOLDER) -> Backlight | None:
    """The backlight `FRIDGE_BACKLIGHT` (a folder), or the first that the kernel knows; None where there is none.

    One that is named and missing is only warned of: it may be the display that broke.
    """
    named = variables.get("FRIDGE_BACKLIGHT")
    candidates = [Path(named)] if named else sorted(class_folder.glob("*"))[:1]
    for folder in candidates:
        try:
            return Backlight(folder)
        except (OSError, ValueError) as exc:
            _log.warning("no backlight at %s (FRIDGE_BACKLIGHT): %s; the panel's brightness stays", folder, exc)
    return None
