# SPDX-License-Identifier: Apache-2.0
"""Looking into the scene: what a finger or a screen reader can find there."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtQuick import QQuickItem


def descendants(item: QQuickItem) -> Iterator[QQuickItem]:
    """Every item below `item` as it is drawn; those that a Repeater made are nobody's QObject children."""
    for child in item.childItems():
        yield child
        yield from descendants(child)
