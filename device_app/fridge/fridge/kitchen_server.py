# SPDX-License-Identifier: Apache-2.0
"""The kitchen around a simulated cabinet: a socket that plays the people in it. Never open with real hardware.

One JSON object a line in, one out. A press is a touch at the control that has the name, so it goes the same way as a
finger; see `kitchen` for the command line and README.md for the commands.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QPointF, QSocketNotifier, Qt, QTimer
from PySide6.QtQuick import QQuickItem

if TYPE_CHECKING:
    from .app import App

TAP_MS = 60
HOLD_LIMIT_MS = 8000
_LINE_LIMIT = 4096


class KitchenError(Exception):
    """The command makes no sense; the text says why."""


class DemonstratedFault(RuntimeError):
    """A crash on purpose."""


class KitchenServer(QObject):
    """Listens on `kitchen.sock` in the run folder, for the owner of the process only."""

    def __init__(self, folder: Path, app: App) -> None:
        super().__init__()
        self._app = app
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "kitchen.sock"
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(mask)
        self._socket.listen(4)
        self._socket.setblocking(False)
        self._notifier = QSocketNotifier(self._socket.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._accept)
        self._guests: set[_Guest] = set()

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        guest = _Guest(connection, self._command, self._guests.discard)
        self._guests.add(guest)

    def _command(self, line: bytes, answer: Callable[[dict[str, Any]], None]) -> None:
        try:
            command = json.loads(line)
            ((name, value),) = command.items()
            handler = getattr(self, f"_do_{name}", None)
            if handler is None:
                raise KitchenError(f"unknown command {name!r}")
            handler(value, answer)
        except (KitchenError, ValueError, AttributeError, TypeError) as exc:
            answer({"ok": False, "error": str(exc)})

    def _do_press(self, name: str, answer: Callable[[dict[str, Any]], None]) -> None:
        lift = self._touch(name, answer)
        QTimer.singleShot(TAP_MS, lift)

    def _do_hold(self, name: str, answer: Callable[[dict[str, Any]], None]) -> None:
        lift = self._touch(name, answer)
        # the finger stays until the panel takes it for a hold, however busy the machine is
        self._app.model.pressed.connect(lift, Qt.ConnectionType.SingleShotConnection)
        QTimer.singleShot(HOLD_LIMIT_MS, lift)

    def _do_door(self, value: str, answer: Callable[[dict[str, Any]], None]) -> None:
        if value not in ("open", "closed"):
            raise KitchenError("door is open or closed")
        self._app.cabinet.door = value == "open"
        self._app.step()
        answer({"ok": True})

    def _do_probe(self, value: str, answer: Callable[[dict[str, Any]], None]) -> None:
        self._app.cabinet.probe_lost = value == "lost"
        self._app.step()
        answer({"ok": True})

    def _do_state(self, _value: object, answer: Callable[[dict[str, Any]], None]) -> None:
        answer({"ok": True, **self._app.model.shown()})

    def _do_screenshot(self, path: str, answer: Callable[[dict[str, Any]], None]) -> None:
        if not self._app.view.grabWindow().save(path):
            raise KitchenError(f"cannot write {path}")
        answer({"ok": True})

    def _do_crash(self, kind: str, answer: Callable[[dict[str, Any]], None]) -> None:
        if kind not in ("exception", "segfault"):
            raise KitchenError("a crash is an exception or a segfault")
        answer({"ok": True})
        QTimer.singleShot(50, _segfault if kind == "segfault" else _fault)

    def _touch(self, name: str, answer: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        """Put a finger on the control; the function that lifts it again, once."""
        from PySide6.QtTest import QTest  # only a played kitchen has fingers made of software

        item = self._app.view.rootObject().findChild(QQuickItem, name)
        if item is None or not item.isVisible():
            raise KitchenError(f"the panel shows no control {name!r}")
        view, finger = self._app.view, _Finger.get(QTest)
        point = item.mapToScene(QPointF(item.width() / 2, item.height() / 2)).toPoint()
        QTest.touchEvent(view, finger).press(0, point, view).commit()
        lifted = False

        def lift(*_: object) -> None:
            nonlocal lifted
            if not lifted:
                lifted = True
                QTest.touchEvent(view, finger).release(0, point, view).commit()
                self._app.step()
                answer({"ok": True})

        return lift


class _Finger:
    """The one simulated touch screen of the process."""

    _device: Any = None

    @classmethod
    def get(cls, qtest: Any) -> Any:
        if cls._device is None:
            cls._device = qtest.createTouchDevice()
        return cls._device


class _Guest:
    """One connection: a line, an answer, and so on; closed on the first nonsense of length."""

    def __init__(
        self,
        connection: socket.socket,
        command: Callable[[bytes, Callable[[dict[str, Any]], None]], None],
        gone: Callable[[_Guest], None],
    ) -> None:
        self._connection, self._command, self._gone = connection, command, gone
        self._buffer = b""
        connection.setblocking(False)
        self._notifier = QSocketNotifier(connection.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(_LINE_LIMIT)
        except OSError:
            data = b""
        self._buffer += data
        if not data or len(self._buffer) > _LINE_LIMIT:
            self._close()
            return
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._command(line, self._answer)

    def _answer(self, answer: dict[str, Any]) -> None:
        try:
            self._connection.send(json.dumps(answer).encode() + b"\n")
        except OSError:
            self._close()

    def _close(self) -> None:
        self._notifier.setEnabled(False)
        self._connection.close()
        self._gone(self)


def _fault() -> None:
    raise DemonstratedFault("crash on purpose, asked for in the kitchen")


def _segfault() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
