# SPDX-License-Identifier: Apache-2.0
"""Plays the people before a simulated fridge's panel: fingers on controls, pictures, faults on purpose."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from PySide6.QtCore import QPoint, QPointF, QTimer
from PySide6.QtQuick import QQuickView
from PySide6.QtTest import QTest

from .scene import descendants

_SOON_MS = 50  # after the answer is on its way


class DemonstratedFault(RuntimeError):
    """A crash on purpose."""


class Player:
    """A finger on `view`, by the names of its controls."""

    def __init__(self, view: QQuickView) -> None:
        self._view = view
        self._screen = QTest.createTouchDevice()
        self._at: QPoint | None = None

    def play(self, what: dict[str, Any]) -> dict[str, Any]:
        """Do one thing: `{finger: down|up, at: name}`, `{screenshot: path}` or `{crash: kind}`; how it went."""
        match what:
            case {"finger": "down", "at": str(name)}:
                return self._down(name)
            case {"finger": "up"}:
                return self._up()
            case {"screenshot": str(path)}:
                saved = self._view.grabWindow().save(path)
                return {"ok": True} if saved else {"ok": False, "error": f"cannot write {path}"}
            case {"crash": str(kind)}:
                QTimer.singleShot(_SOON_MS, {"segfault": _segfault, "hang": _hang}.get(kind, _fault))
                return {"ok": True}
        return {"ok": False, "error": f"the panel cannot play {what}"}

    def _down(self, name: str) -> dict[str, Any]:
        found = (item for item in descendants(self._view.rootObject()) if item.objectName() == name)
        item = next((item for item in found if item.isVisible()), None)
        if item is None:
            return {"ok": False, "error": f"the panel shows no control {name!r}"}
        self._at = item.mapToScene(QPointF(item.width() / 2, item.height() / 2)).toPoint()
        QTest.touchEvent(self._view, self._screen).press(0, self._at, self._view).commit()
        return {"ok": True}

    def _up(self) -> dict[str, Any]:
        if self._at is not None:
            QTest.touchEvent(self._view, self._screen).release(0, self._at, self._view).commit()
            self._at = None
        return {"ok": True}


def _fault() -> None:
    raise DemonstratedFault("crash on purpose, asked for in the kitchen")


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    time.sleep(3600)
