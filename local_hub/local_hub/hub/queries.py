# SPDX-License-Identifier: Apache-2.0
"""Queries over all twins, a page at a time.

A continuation token is the name of the last device of the page, so that a page never repeats or leaves out a device
that stayed, whatever is created or deleted between two pages.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import bisect
from dataclasses import dataclass

from ..core.errors import ArgumentInvalid
from ..core.query import Query, parse_query
from ..core.twin import JsonObject
from .registry import Registry

MAX_PAGE = 1000
_STEP = 200


@dataclass(frozen=True)
class Page:
    """A part of a result; `continuation` is None on the last one."""

    rows: list[JsonObject]
    continuation: str | None
    item_type: str


async def run_query(registry: Registry, text: str, page_size: int, continuation: str | None) -> Page:
    """Evaluate one page.

    Raises:
        QueryError: the text is not a query.
        ArgumentInvalid: the continuation token is not one.
    """
    query = parse_query(text)
    item_type = "Twin" if query.columns is None else "Raw"
    if query.count is not None:
        return Page([{query.count: await _count(registry, query)}], None, item_type)
    after = _decode(continuation) if continuation else ""
    ids = registry.sorted_ids()
    rows: list[JsonObject] = []
    for index in range(bisect.bisect_right(ids, after), len(ids)):
        device = registry.find(ids[index])
        if device is not None and query.where(document := device.query_document()):
            if len(rows) == page_size:
                return Page(rows, _encode(ids[index - 1]), item_type)
            rows.append(device.twin_document() if query.columns is None else query.row(document))
        if index % _STEP == 0:
            await asyncio.sleep(0)
    return Page(rows, None, item_type)


async def _count(registry: Registry, query: Query) -> int:
    total = 0
    for index, device in enumerate(list(registry)):
        total += query.where(device.query_document())
        if index % _STEP == 0:
            await asyncio.sleep(0)
    return total


def _encode(device_id: str) -> str:
    return base64.urlsafe_b64encode(device_id.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        raise ArgumentInvalid("the continuation token is not one of this hub") from None
