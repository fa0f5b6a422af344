# SPDX-License-Identifier: Apache-2.0
"""Digital twins over REST (azure/iot/hub/protocol/operations/digital_twin_operations.py; service.json)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from urllib.parse import quote

from aiohttp import web

from ..core.errors import ArgumentInvalid
from ..core.twin import JsonObject
from ..hub.hub import Hub
from .requests import if_match, json_value

_COMMAND = "/commands/{name}"
_TIMEOUTS = ("connectTimeoutInSeconds", "responseTimeoutInSeconds")


def digital_twin_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/digitaltwins/{id}, and commands."""

    async def get(request: web.Request) -> web.Response:
        document, etag = hub.digital_twins.get(request.match_info["id"])
        return web.json_response(document, headers={"ETag": f'W/"{etag}"'})

    async def patch(request: web.Request) -> web.Response:
        device_id = request.match_info["id"]
        etag = await hub.digital_twins.patch(device_id, await json_value(request), if_match(request))
        headers = {"ETag": f'W/"{etag}"', "Location": f"/digitaltwins/{quote(device_id, safe='')}"}
        return web.Response(status=202, headers=headers)

    async def command(request: web.Request) -> web.Response:
        names = request.match_info
        options: JsonObject = {name: _number(request, name) for name in _TIMEOUTS}
        if await request.read():
            options["payload"] = await json_value(request)
        answer = await hub.digital_twins.command(names["id"], names.get("component"), names["name"], options)
        headers = {"x-ms-command-statuscode": str(answer["status"]), "x-ms-request-id": str(uuid.uuid4())}
        return web.json_response(answer["payload"], headers=headers)

    one = "/digitaltwins/{id}"
    return (
        web.get(one, get),
        web.patch(one, patch),
        web.post(one + _COMMAND, command),
        web.post(one + "/components/{component}" + _COMMAND, command),
    )


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise ArgumentInvalid(f"{name} is a number of seconds")
    return int(text)
