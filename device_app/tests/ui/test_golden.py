# SPDX-License-Identifier: Apache-2.0
"""Each state looks as it looked when somebody last looked: golden pictures, by language, theme and size of text.

After a change that is meant: `make ui-golden`, look at what git says has changed, commit it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pictures import SHARE, compare
from PySide6.QtGui import QColor, QImage, QPainter
from states import STATES

if TYPE_CHECKING:
    from conftest import Panel

GOLDEN = Path(__file__).parent / "golden"
LOOKS: dict[str, dict[str, Any]] = {
    "en": {"theme": "day"},
    "de": {"theme": "day", "language": "de"},
    "de-large-night": {"theme": "night", "language": "de", "large_text": True},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("state", STATES)
def test_it_looks_as_it_did(panel: Panel, state: str, look: str, pytestconfig: pytest.Config) -> None:
    panel.prefer(**LOOKS[look])
    STATES[state](panel)
    panel.picture(f"{state}-{look}")
    golden = GOLDEN / look / f"{state}.png"
    actual = panel.image()
    if pytestconfig.getoption("--update-golden"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        # a picture that differs by nothing that counts stays, so that git shows what changed
        if not golden.exists() or not compare(QImage(str(golden)), actual).small:
            assert actual.save(str(golden))
    assert golden.exists(), f"no golden picture of {state} in {look}: make ui-golden"
    difference = compare(QImage(str(golden)), actual)
    if not difference.small:
        picture = panel.pictures / f"difference-{state}-{look}.png"
        difference.picture.save(str(picture))
        pytest.fail(f"{difference.share:.2%} of the picture differ (at most {SHARE:.2%}): {picture.name}")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("state", STATES)
def test_no_word_is_cut_or_outside(panel: Panel, state: str, look: str) -> None:
    panel.prefer(**LOOKS[look])
    STATES[state](panel)
    panel.qtbot.wait(20)
    texts = [item for item in panel.items() if item.inherits("QQuickText")]
    assert len(texts) > 3
    for item in texts:
        words = item.property("text")
        corner = item.mapToScene(item.boundingRect().bottomRight())
        assert not item.property("truncated"), f"{words!r} is cut"
        assert corner.x() <= panel.view.width(), f"{words!r} ends outside"
        assert corner.y() <= panel.view.height(), f"{words!r} ends below"
        parent = item.parentItem()
        if parent.property("label"):
            assert item.property("contentWidth") <= parent.width() - 12, f"{words!r} is wider than its button"


def test_a_picture_that_differs_is_found_and_shown() -> None:
    """The comparison itself: a changed word is a difference, a shade at the edges of letters is none."""
    plain = QImage(800, 480, QImage.Format.Format_RGB32)
    plain.fill(QColor("#0b1218"))
    shaded = plain.copy()
    shaded.fill(QColor("#0c1319"))
    assert compare(plain, shaded).small
    changed = plain.copy()
    painter = QPainter(changed)
    painter.fillRect(100, 100, 40, 40, QColor("white"))
    painter.end()
    difference = compare(plain, changed)
    assert difference.share == pytest.approx(1600 / (800 * 480))
    assert not difference.small
    assert difference.picture.width() == 2400
    assert not compare(plain, QImage(10, 10, QImage.Format.Format_RGB32)).small
