# SPDX-License-Identifier: Apache-2.0
"""Which links a fault breaks (core/fault.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.fault import Fault, Kind
from .connection import Link
from .nodes import Node

# The node, and whether the hub sends on the link.
_OF_A_DEVICE = {
    Kind.EVENTS: (Node.EVENTS, False),
    Kind.DEVICEBOUND: (Node.DEVICEBOUND, True),
    Kind.METHOD_REQUESTS: (Node.METHODS, True),
    Kind.METHOD_ANSWERS: (Node.METHODS, False),
    Kind.TWIN_REQUESTS: (Node.TWIN, False),
    Kind.TWIN_ANSWERS: (Node.TWIN, True),
}
_OF_CBS = {Kind.CBS_REQUESTS: False, Kind.CBS_ANSWERS: True}


def broken_links(fault: Fault, links: Mapping[Link, Node], cbs: Iterable[Link]) -> list[Link]:
    """Of a device's links, and of those to $cbs, the ones to detach."""
    if fault.kind in _OF_CBS:
        return [link for link in cbs if link.sends is _OF_CBS[fault.kind]]
    if fault.kind in _OF_A_DEVICE:
        return [link for link, node in links.items() if (node, link.sends) == _OF_A_DEVICE[fault.kind]]
    return []
