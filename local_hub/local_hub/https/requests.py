# SPDX-License-Identifier: Apache-2.0
"""What routes read from a request."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from ..core.errors import ArgumentInvalid
from ..core.identity import module_key
from ..core.twin import JsonObject
from ..hub.queries import MAX_PAGE

_DEFAULT_PAGE = 100
_MAX_DIGITS = 10


async def json_value(request: web.Request) -> Any:
    """The body.

    Raises:
        ArgumentInvalid: it is not JSON.
    """
    try:
        return json.loads(await request.read(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ArgumentInvalid("the body is not JSON") from None


def _no_constant(name: str) -> None:
    """Python takes NaN and Infinity, JSON has neither: once in a twin, nobody else could read it."""
    raise ValueError(name)


async def json_object(request: web.Request) -> JsonObject:
    """The body, an object.

    Raises:
        ArgumentInvalid: it is something else.
    """
    value = await json_value(request)
    if not isinstance(value, dict):
        raise ArgumentInvalid("the body is not an object")
    return value


def if_match(request: web.Request) -> str | None:
    """The If-Match header.

    An ETag without quotes is no ETag (RFC 9110, 8.8.3), and the service treats the request as if there were none:
    https://github.com/Azure/azure-iot-hub-python/issues/2 shows that as 409 Conflict.
    """
    value = request.headers.get("If-Match", "").strip()
    if value in ("*", '"*"'):  # azure-iot-hub quotes even the star (iothub_registry_manager.py, _ensure_quoted)
        return "*"
    return value if value.endswith('"') else None


def twin_key(request: web.Request) -> str:
    """The device, or the module, that a path names."""
    device_id, module_id = request.match_info["id"], request.match_info.get("mid")
    return device_id if module_id is None else module_key(device_id, module_id)


def top(request: web.Request, limit: int) -> int:
    """The `top` parameter; what is out of range counts as the limit, as devices_operations.py of azure-iot-hub says.

    Raises:
        ArgumentInvalid: it is not a number.
    """
    text = request.query.get("top", "")
    if not text:
        return limit
    if not text.isascii() or not text.removeprefix("-").isdecimal():
        raise ArgumentInvalid(f"top is an integer from 1 to {limit}")
    number = int(text) if len(text) < _MAX_DIGITS else limit
    return number if 0 < number < limit else limit


def page_size(request: web.Request, given: str | None = None) -> int:
    """How many items a page of a query holds, by the header or by what is `given`.

    Raises:
        ArgumentInvalid: it is not a number of items.
    """
    text = given or request.headers.get("x-ms-max-item-count", "")
    if not text or text == "-1":
        return _DEFAULT_PAGE
    if not text.isdecimal() or len(text) > 9 or not int(text):
        raise ArgumentInvalid("x-ms-max-item-count is a number of items")
    return min(int(text), MAX_PAGE)


def route_path(request: web.Request) -> str:
    """The path of a request with the names of its parts, as `/devices/{id}`; nothing for one that is not served."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical.rstrip("/")
