# SPDX-License-Identifier: Apache-2.0
"""Comparing what is on the screen with a golden picture.

Fonts are drawn by the machine's own libraries, so edges of letters may differ a little from one to the next: a pixel
counts as different beyond `LEVELS` in any channel, and a picture beyond `SHARE` of such pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QImage, QPainter

LEVELS = 40
SHARE = 0.003


@dataclass(frozen=True)
class Difference:
    """`share`: of the pixels that differ. `picture`: expected, actual, and where they differ, side by side."""

    share: float
    picture: QImage

    @property
    def small(self) -> bool:
        return self.share <= SHARE


def compare(expected: QImage, actual: QImage) -> Difference:
    """How much two pictures differ; all of it where their sizes do."""
    expected, actual = (image.convertToFormat(QImage.Format.Format_RGB32) for image in (expected, actual))
    marks = QImage(actual.size(), QImage.Format.Format_RGB32)
    marks.fill(Qt.GlobalColor.black)
    if expected.size() != actual.size():
        return Difference(1.0, _beside(expected, actual, marks))
    width, count = actual.width(), 0
    red = QColor("red").rgb()
    for y in range(actual.height()):
        # whole lines first: most are equal, and Python is slow
        left, right = (bytes(image.constScanLine(y)[: width * 4]) for image in (expected, actual))
        if left == right:
            continue
        for x in range(width):
            a, b = left[4 * x : 4 * x + 3], right[4 * x : 4 * x + 3]
            if a != b and max(abs(p - q) for p, q in zip(a, b, strict=True)) > LEVELS:
                marks.setPixel(x, y, red)
                count += 1
    return Difference(count / (width * actual.height()), _beside(expected, actual, marks))


def _beside(*images: QImage) -> QImage:
    out = QImage(sum(i.width() for i in images), max(i.height() for i in images), QImage.Format.Format_RGB32)
    out.fill(Qt.GlobalColor.darkGray)
    painter = QPainter(out)
    x = 0
    for image in images:
        painter.drawImage(x, 0, image)
        x += image.width()
    painter.end()
    return out
