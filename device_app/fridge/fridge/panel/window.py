# SPDX-License-Identifier: Apache-2.0
"""Opens the panel: the QML scene on a view model."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtQuick import QQuickView

from .viewmodel import ViewModel

_HERE = Path(__file__).parent


class PanelError(RuntimeError):
    """The scene could not be loaded; the text is QML's."""


def prepare() -> None:
    """Set the renderer before the application object exists: the Pi's panel has no GPU driver in the layer."""
    os.environ.setdefault("QT_QUICK_BACKEND", "software")


def open_panel(model: ViewModel, *, full_screen: bool) -> QQuickView:
    """The panel's window, shown.

    Raises:
        PanelError: QML reports errors.
    """
    view = QQuickView()
    view.setTitle("Fridge")
    view.setResizeMode(QQuickView.ResizeMode.SizeRootObjectToView)
    view.setInitialProperties({"fridge": model})
    view.setSource(QUrl.fromLocalFile(str(_HERE / "Panel.qml")))
    if view.status() != QQuickView.Status.Ready:
        raise PanelError("; ".join(error.toString() for error in view.errors()))
    view.resize(800, 480)
    if full_screen:
        view.showFullScreen()
    else:
        view.show()
    return view
