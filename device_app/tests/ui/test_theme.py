# SPDX-License-Identifier: Apache-2.0
"""What can be read by whom: contrasts after WCAG 2.2, and meaning that does not hang on colour alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fridge.panel
import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QColor
from PySide6.QtQml import QQmlComponent, QQmlEngine

PANEL = Path(fridge.panel.__file__).parent
# Machado, Oliveira, Fernandes 2009, severity 1.0, linear RGB
BLINDNESS = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
TEXTS = [
    ("ink", "ground"), ("ink", "sky"), ("soft", "ground"), ("soft", "sky"), ("cold", "ground"), ("warn", "ground"),
    ("ink", "badGround"), ("ink", "warnGround"), ("ink", "button"), ("ink", "buttonLit"), ("ink", "buttonDown"),
    ("soft", "button"), ("onCold", "cold"),
]  # fmt: skip


@pytest.fixture(params=[False, True], ids=["day", "night"])
def theme(request: pytest.FixtureRequest, qapp: Any) -> Any:
    engine = QQmlEngine()
    component = QQmlComponent(engine, QUrl.fromLocalFile(str(PANEL / "Theme.qml")))
    made = component.createWithInitialProperties({"night": request.param})
    assert made is not None, component.errors()
    yield made
    made.deleteLater()


def _linear(colour: QColor) -> tuple[float, float, float]:
    def part(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return part(colour.redF()), part(colour.greenF()), part(colour.blueF())


def _luminance(linear: tuple[float, ...]) -> float:
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return (high + 0.05) / (low + 0.05)


def _seen(linear: tuple[float, ...], matrix: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(min(1.0, max(0.0, sum(m * part for m, part in zip(row, linear, strict=True)))) for row in matrix)


@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_words_stand_out_for_every_eye(theme: Any, text: str, ground: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, and so for the three kinds of colour blindness too."""
    colours = [_linear(theme.property(name)) for name in (text, ground)]
    assert _contrast(*(_luminance(colour) for colour in colours)) >= 4.5
    for name, matrix in BLINDNESS.items():
        assert _contrast(*(_luminance(_seen(colour, matrix)) for colour in colours)) >= 4.5, name


def test_every_alarm_has_words_and_a_sign_beside_its_colour() -> None:
    from fridge.control import Alarm

    banner = (PANEL / "AlarmBanner.qml").read_text(encoding="utf-8")
    for alarm in Alarm:
        assert len(re.findall(rf'case "{alarm}": return qsTr\("[^"]+"\)', banner)) == 2, f"{alarm}: title and advice"


def test_translations_are_complete_and_compiled_from_what_is_there(tmp_path: Path) -> None:
    # the built layers, which a release is tested with, bring no compiler
    built = "FRIDGE_LAYERS" in os.environ
    release = None if built else shutil.which("pyside6-lrelease", path=str(Path(sys.executable).parent))
    assert built or release
    for words in sorted((PANEL / "i18n").glob("panel_*.ts")):
        text = words.read_text(encoding="utf-8")
        assert "unfinished" not in text, words.name
        translated = set(re.findall(r"<source>(.*?)</source>", text))
        for scene in PANEL.glob("*.qml"):
            for said in re.findall(r'qsTr\("([^"]+)"\)', scene.read_text(encoding="utf-8")):
                assert said in translated, f"{scene.name}: {said!r} is not in {words.name}; run scripts/translate"
        if release:
            compiled = tmp_path / "words.qm"
            subprocess.run([release, "-silent", str(words), "-qm", str(compiled)], check=True)
            assert compiled.read_bytes() == words.with_suffix(".qm").read_bytes(), "run scripts/translate"
