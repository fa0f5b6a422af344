# SPDX-License-Identifier: Apache-2.0
"""The panel's process: draws what the control process says, tells it of fingers, and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from types import TracebackType
from typing import Any

from PySide6.QtCore import QObject, QSocketNotifier, QTimer
from PySide6.QtGui import QGuiApplication

from .. import FD_VARIABLE
from ..agentlink import Offer
from ..seam import ALIVE_SECONDS, Lines, Preferences, SeamError, Shown, encode
from .viewmodel import ViewModel
from .window import Panel, prepare

_CHUNK = 65536
_SEND_SECONDS = 5.0
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)


class Link(QObject):
    """The panel's end of the seam."""

    def __init__(self, descriptor: int, model: ViewModel) -> None:
        super().__init__()
        self._model = model
        self._socket = socket.socket(fileno=descriptor)
        # a control process that does not read for seconds is being ended by its launcher
        self._socket.settimeout(_SEND_SECONDS)
        self._lines = Lines()
        self._player: Any = None
        self.panel: Panel | None = None
        self._notifier = QSocketNotifier(descriptor, QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._read)
        model.touched.connect(lambda button, finger: self.tell("touch", [button, finger]))
        model.answered.connect(lambda release, yes: self.tell("consent", {"release": release, "yes": yes}))
        model.preferred.connect(lambda chosen: self.tell("preferences", chosen))

    def tell(self, kind: str, value: object) -> None:
        try:
            self._socket.sendall(encode(kind, value))
        except OSError:
            self._end()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
            messages = self._lines.feed(data)
        except (OSError, SeamError):
            data, messages = b"", []
        for kind, value in messages:
            self._hear(kind, value)
        if not data:
            self._end()

    def _hear(self, kind: str, value: Any) -> None:
        match kind:
            case "shown":
                self._model.show(Shown.from_json(value))
            case "offer":
                self._model.show_offer(Offer(**value))
            case "preferences":
                self._model.show_preferences(Preferences.from_json(value))
            case "menu":
                self._model.menu_asked.emit()
            case "play":
                self._play(value)

    def _play(self, value: dict[str, Any]) -> None:
        if self._player is None and self.panel:
            from .player import Player  # only a played kitchen has fingers made of software

            self._player = Player(self.panel.view)
        number = value.pop("id")
        self.tell("played", {"id": number, **self._player.play(value)})

    def _end(self) -> None:
        """A panel without its control process would show what is not true."""
        self._notifier.setEnabled(False)
        QGuiApplication.quit()


def _die(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """End the process on an exception that nobody caught: Qt would go on with half a panel."""
    import traceback  # what the start does not need costs the first frame

    traceback.print_exception(kind, value, trace)
    sys.stderr.flush()
    os._exit(1)


def run() -> int:
    """Show the panel until the control process hangs up; the exit status."""
    descriptor = os.environ.get(FD_VARIABLE, "")
    if not descriptor.isdigit():
        print("the panel is started by the fridge itself: python -m fridge", file=sys.stderr)
        return 2
    prepare()
    sys.excepthook = _die
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the control process, which ends this one
    application = QGuiApplication([sys.argv[0]])
    model = ViewModel(os.environ.get("FRIDGE_VERSION") or "dev", dims=os.environ.get("FRIDGE_PANEL_DIMS") == "1")
    model.show_hour(time.localtime().tm_hour)
    link = Link(int(descriptor), model)
    full_screen = os.environ.get("QT_QPA_PLATFORM", "").startswith(("linuxfb", "eglfs"))
    panel = link.panel = Panel(model, full_screen=full_screen)
    painted = False

    def on_frame() -> None:
        nonlocal painted
        if not painted:
            painted = True
            link.tell("painted", True)
            # not even a panel that hangs outlives its control process
            import ctypes

            process = ctypes.CDLL(None)
            process.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            process.prctl(_PR_SET_NAME, b"fridge-panel")

    panel.view.frameSwapped.connect(on_frame)
    pulse = QTimer()
    pulse.timeout.connect(lambda: link.tell("alive", True))
    pulse.timeout.connect(lambda: model.show_hour(time.localtime().tm_hour))
    pulse.start(int(ALIVE_SECONDS * 1000))
    status = application.exec()
    panel.close()
    return status
