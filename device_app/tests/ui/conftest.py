# SPDX-License-Identifier: Apache-2.0
"""A panel under a finger: touch at accessible names, time as a number, pictures of what is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_QUICK_BACKEND", "software")

import fridge
import PySide6
from fridge import control
from fridge.control import Button, Finger, Inputs, State, Touch
from fridge.control.timings import LONG_PRESS_SECONDS
from fridge.panel.scene import descendants
from fridge.panel.viewmodel import ViewModel
from fridge.panel.window import Panel as Window
from fridge.seam import Preferences
from fridge.showing import showing
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtGui import QAccessible, QImage
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="take the pictures of this run as the golden ones")


@pytest.fixture(scope="session")
def finger() -> Any:
    return QTest.createTouchDevice()


@dataclass
class Panel:
    """The core and its panel, with the clock in the test's hand."""

    qtbot: Any
    window: Window
    model: ViewModel
    finger: Any
    pictures: Path
    state: State = field(default_factory=State)
    air: float | None = 5.0
    door: bool = False
    now: float = 1000.0
    buzzer: bool = False
    told: list[tuple[str, str]] = field(default_factory=list)
    _touches: list[Touch] = field(default_factory=list)

    @property
    def view(self) -> Any:
        return self.window.view

    def step(self, seconds: float = 0.25) -> None:
        """Let time pass, and the core and the panel follow."""
        self.now += seconds
        touches, self._touches = tuple(self._touches), []
        inputs = Inputs(self.air, self.door, touches)
        self.state, outputs, events = control.step(self.state, inputs, self.now)
        self.buzzer = outputs.buzzer
        self.told += [(event.kind, event.name) for event in events]
        if ("menu", "temp") in [(event.kind, event.name) for event in events]:
            self.model.menu_asked.emit()
        self.model.show(showing(self.state, inputs, outputs))

    def hear(self, button: str, what: str) -> None:
        """What the panel's process would send to the control process."""
        self._touches.append(Touch(Button(button), Finger(what)))
        self.step(0.0)

    def item(self, name: str) -> QQuickItem:
        """The control or text with this object name."""
        found = next((item for item in descendants(self.view.rootObject()) if item.objectName() == name), None)
        assert found is not None, f"the panel has no {name}"
        return found

    def named(self, name: str) -> QQuickItem:
        """The visible button that a screen reader calls this."""
        for item in self.items():
            interface = QAccessible.queryAccessibleInterface(item)
            button = interface is not None and interface.role() == QAccessible.Role.Button
            if interface and button and interface.text(QAccessible.Text.Name) == name:
                return item
        raise AssertionError(f"no control that is shown is called {name!r}")

    def items(self) -> list[QQuickItem]:
        """Everything that is shown."""
        return [item for item in descendants(self.view.rootObject()) if item.isVisible()]

    def shows(self, name: str) -> bool:
        """Whether something of this object name is there and visible; a page is made only when it is wanted."""
        return any(item.objectName() == name for item in self.items())

    def text(self, name: str) -> str:
        return str(self.item(name).property("text"))

    def touch(self, name: str) -> None:
        """A finger on the middle of what is called `name`, and off again."""
        self.put_down(name)
        self.step(0.1)
        self.lift()

    def hold(self, name: str, seconds: float = LONG_PRESS_SECONDS + 0.5) -> None:
        """A finger that stays; time is the test's."""
        self.put_down(name)
        self.step(seconds / 2)
        self.step(seconds / 2)
        self.lift()

    def put_down(self, name: str) -> None:
        self._at = self._middle(self.named(name))
        QTest.touchEvent(self.view, self.finger).press(0, self._at, self.view).commit()

    def slide(self, x: int, y: int) -> None:
        self._at = QPoint(x, y)
        QTest.touchEvent(self.view, self.finger).move(0, self._at, self.view).commit()

    def lift(self) -> None:
        QTest.touchEvent(self.view, self.finger).release(0, self._at, self.view).commit()
        self.step(0.1)

    def _middle(self, item: QQuickItem) -> QPoint:
        return item.mapToScene(QPointF(item.width() / 2, item.height() / 2)).toPoint()

    def word(self, english: str) -> str:
        """What a button is called in the language that is shown."""
        return {"Temperature": "Temperatur", "Power": "Ein/Aus"}[english] if self.german else english

    @property
    def german(self) -> bool:
        return self.model.preferences.language == "de"

    def prefer(self, **preferences: Any) -> None:
        self.model.show_preferences(Preferences(**preferences))

    def image(self) -> QImage:
        """What is on the screen now."""
        self.qtbot.wait(50)
        image: QImage = self.view.grabWindow()
        assert not image.isNull()
        return image

    def picture(self, name: str) -> None:
        """Keep what is on the screen now."""
        assert self.image().save(str(self.pictures / f"{name}.png"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots of this run go: into the release's report, or away."""
    folder = Path(os.environ.get("FRIDGE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def panel(qapp: Any, qtbot: Any, finger: Any, pictures: Path) -> Iterator[Panel]:
    model = ViewModel("0.1.57")
    model.still = True
    window = Window(model, full_screen=False)
    qtbot.waitUntil(window.view.isExposed, timeout=60000)  # a new machine's first window builds font caches
    shown = Panel(qtbot, window, model, finger, pictures)
    model.touched.connect(shown.hear)
    shown.step()
    yield shown
    window.close()
    window.view.deleteLater()
    qtbot.wait(1)
