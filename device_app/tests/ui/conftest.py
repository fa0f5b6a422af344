# SPDX-License-Identifier: Apache-2.0
"""A panel under a finger: touch at accessible names, time as a number, pictures of what is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_QUICK_BACKEND", "software")

import fridge
import PySide6
from fridge import control
from fridge.control import Inputs, State
from fridge.panel.viewmodel import ViewModel
from fridge.panel.window import open_panel
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtQuick import QQuickItem
from PySide6.QtTest import QTest


def pytest_configure(config: pytest.Config) -> None:
    """Where the release pipeline says which layers it built, nothing else may be tested."""
    layers = os.environ.get("FRIDGE_LAYERS")
    for package in (fridge, PySide6) if layers else ():
        found = Path(str(package.__file__)).absolute()
        if not found.is_relative_to(Path(str(layers)).absolute()):
            raise pytest.UsageError(
                f"{package.__name__} was imported from {found}, not from the built layers in {layers}"
            )


@pytest.fixture(scope="session")
def finger() -> Any:
    return QTest.createTouchDevice()


@dataclass
class Panel:
    """The core and its panel, with the clock in the test's hand."""

    qtbot: Any
    view: Any
    model: ViewModel
    finger: Any
    pictures: Path
    state: State = field(default_factory=State)
    air: float | None = 5.0
    door: bool = False
    now: float = 1000.0
    buzzer: bool = False

    def step(self, seconds: float = 0.25) -> None:
        """Let time pass, and the core and the panel follow."""
        self.now += seconds
        inputs = Inputs(self.air, self.door, self.model.take_presses())
        self.state, outputs, _ = control.step(self.state, inputs, self.now)
        self.buzzer = outputs.buzzer
        self.model.show(self.state, self.air, self.door)

    def item(self, name: str) -> QQuickItem:
        """The control or text with this object name."""
        found = self.view.rootObject().findChild(QQuickItem, name)
        assert found is not None, f"the panel has no {name}"
        return found

    def shows(self, name: str) -> bool:
        return bool(self.item(name).isVisible())

    def text(self, name: str) -> str:
        return str(self.item(name).property("text"))

    def touch(self, name: str) -> None:
        """A finger on the middle of a control, and off again."""
        point = self._middle(name)
        QTest.touchEvent(self.view, self.finger).press(0, point, self.view).commit()
        QTest.touchEvent(self.view, self.finger).release(0, point, self.view).commit()
        self.step()

    def hold(self, name: str) -> None:
        """A finger that stays until the panel takes it for a hold: three seconds on a real clock."""
        point = self._middle(name)
        began = time.monotonic()
        with self.qtbot.waitSignal(self.model.pressed, timeout=15000):
            QTest.touchEvent(self.view, self.finger).press(0, point, self.view).commit()
        assert time.monotonic() - began > 2.7
        QTest.touchEvent(self.view, self.finger).release(0, point, self.view).commit()
        self.step()

    def _middle(self, name: str) -> QPoint:
        item = self.item(name)
        return item.mapToScene(QPointF(item.width() / 2, item.height() / 2)).toPoint()

    def picture(self, name: str) -> None:
        """Keep what is on the screen now."""
        self.qtbot.wait(50)
        image = self.view.grabWindow()
        assert not image.isNull()
        assert image.save(str(self.pictures / f"{name}.png"))


@pytest.fixture
def panel(qapp: Any, qtbot: Any, finger: Any, tmp_path: Path) -> Iterator[Panel]:
    pictures = Path(os.environ.get("FRIDGE_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    model = ViewModel("0.1.57")
    view = open_panel(model, full_screen=False)
    qtbot.waitUntil(view.isExposed, timeout=60000)  # a new machine's first window builds font caches
    shown = Panel(qtbot, view, model, finger, pictures)
    shown.step()
    yield shown
    view.close()
    view.deleteLater()
    qtbot.wait(1)
