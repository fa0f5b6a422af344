# SPDX-License-Identifier: Apache-2.0
"""Queries over twins, module twins and device jobs, a page at a time.

A continuation token holds the name of the last document of the page, so that a page never repeats or leaves out a
document that stayed, whatever is created or deleted between two pages.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import json
from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import ArgumentInvalid
from ..core.query import DEVICES, MODULES, Aggregation, Document, Query, parse_query
from ..core.twin import JsonObject
from .registry import Registry

MAX_PAGE = 1000
_STEP = 200

Found = tuple[Document, Callable[[], JsonObject]]
"""A document as conditions read it, and the whole of it for `SELECT *`."""


@dataclass(frozen=True)
class Collection:
    """What FROM names: the names of its documents in order, and each of them unless it is gone."""

    keys: Callable[[], list[str]]
    read: Callable[[str], Found | None]
    item_type: str = "Twin"


Collections = dict[str, Collection]


@dataclass(frozen=True)
class Page:
    """A part of a result; `continuation` is None on the last one."""

    rows: list[JsonObject]
    continuation: str | None
    item_type: str


def twin_collections(registry: Registry) -> Collections:
    """Twins of devices and of modules."""

    def read(key: str) -> Found | None:
        device = registry.find(key)
        return None if device is None else (device.query_document(), device.twin_document)

    return {
        DEVICES: Collection(registry.sorted_ids, read),
        MODULES: Collection(registry.sorted_module_keys, read),
    }


async def run_query(collections: Collections, text: str, page_size: int, continuation: str | None) -> Page:
    """Evaluate one page.

    Raises:
        QueryError: the text is not a query.
        ArgumentInvalid: the continuation token is not one.
    """
    query = parse_query(text)
    collection = collections[query.source]
    place = _decode(continuation) if continuation else _Place()
    if query.aggregates:
        return await _aggregated(collection, query, page_size, place)
    return await _listed(collection, query, page_size, place)


@dataclass(frozen=True)
class _Place:
    """Where the next page begins: after which document, and how many rows went before."""

    after: str = ""
    taken: int = 0


async def _listed(collection: Collection, query: Query, page_size: int, place: _Place) -> Page:
    keys = collection.keys()
    item_type = collection.item_type if query.columns is None else "Raw"
    most = page_size if query.top is None else min(page_size, query.top - place.taken)
    ends_at_top = query.top is not None and most == query.top - place.taken
    rows: list[JsonObject] = []
    last = place.after
    for index in range(bisect.bisect_right(keys, place.after), len(keys)):
        if ends_at_top and len(rows) >= most:
            break
        found = collection.read(keys[index])
        if found is not None and query.where(found[0]):
            if len(rows) == most:
                return Page(rows, _encode(_Place(last, place.taken + len(rows))), item_type)
            rows.append(found[1]() if query.columns is None else query.row(found[0]))
            last = keys[index]
        if index % _STEP == 0:
            await asyncio.sleep(0)
    return Page(rows, None, item_type)


async def _aggregated(collection: Collection, query: Query, page_size: int, place: _Place) -> Page:
    aggregation = Aggregation(query)
    for index, key in enumerate(collection.keys()):
        found = collection.read(key)
        if found is not None and query.where(found[0]):
            aggregation.add(found[0])
        if index % _STEP == 0:
            await asyncio.sleep(0)
    rows = aggregation.rows()[: query.top]
    end = place.taken + page_size
    return Page(rows[place.taken : end], _encode(_Place("", end)) if end < len(rows) else None, "Raw")


def _encode(place: _Place) -> str:
    return base64.urlsafe_b64encode(json.dumps([place.after, place.taken]).encode()).decode()


def _decode(token: str) -> _Place:
    try:
        after, taken = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError):
        raise ArgumentInvalid("the continuation token is not one of this hub") from None
    if not isinstance(after, str) or not isinstance(taken, int) or taken < 0:
        raise ArgumentInvalid("the continuation token is not one of this hub")
    return _Place(after, taken)
