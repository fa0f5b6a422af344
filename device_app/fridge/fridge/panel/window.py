# SPDX-License-Identifier: Apache-2.0
"""Opens the panel: the QML scene on a view model, in the owner's language."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QTranslator, QUrl
from PySide6.QtQuick import QQuickView

from .viewmodel import ViewModel

_HERE = Path(__file__).parent
SIZE = (800, 480)


class PanelError(RuntimeError):
    """The scene could not be loaded; the text is QML's."""


def prepare() -> None:
    """Set the renderer before the application object exists: the Pi's panel has no GPU driver in the layer."""
    os.environ.setdefault("QT_QUICK_BACKEND", "software")


class Panel:
    """The panel's window, shown.

    Raises:
        PanelError: QML reports errors.
    """

    def __init__(self, model: ViewModel, *, full_screen: bool) -> None:
        self.model = model
        self._language = "en"
        self._translator: QTranslator | None = None
        self.view = QQuickView()
        self.view.setTitle("Fridge")
        self.view.setResizeMode(QQuickView.ResizeMode.SizeRootObjectToView)
        self.view.setInitialProperties({"fridge": model})
        self._speak()
        self.view.setSource(QUrl.fromLocalFile(str(_HERE / "Panel.qml")))
        if self.view.status() != QQuickView.Status.Ready:
            raise PanelError("; ".join(error.toString() for error in self.view.errors()))
        model.preferences_changed.connect(self._speak)
        self.view.resize(*SIZE)
        if full_screen:
            self.view.showFullScreen()
        else:
            self.view.show()

    def close(self) -> None:
        self.model.preferences_changed.disconnect(self._speak)
        if self._translator:
            QCoreApplication.removeTranslator(self._translator)
        self.view.close()

    def _speak(self) -> None:
        """Load the words of the language that is preferred; English is in the scene itself."""
        language = self.model.preferences.language
        if language == self._language:
            return
        if self._translator:
            QCoreApplication.removeTranslator(self._translator)
            self._translator = None
        if language != "en":
            translator = QTranslator()
            if not translator.load(f"panel_{language}", str(_HERE / "i18n")):
                raise PanelError(f"no words for language {language!r} in {_HERE / 'i18n'}")
            QCoreApplication.installTranslator(translator)
            self._translator = translator
        self._language = language
        self.view.engine().retranslate()
