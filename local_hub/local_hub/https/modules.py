# SPDX-License-Identifier: Apache-2.0
"""Module identities over REST (azure/iot/hub/protocol/operations/modules_operations.py).

Their twins and methods are in twins.py: a module differs from a device only by its name there.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..hub.device import Device
from ..hub.hub import Hub
from .requests import if_match, json_object, twin_key


def module_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/devices/{id}/modules[/{mid}]."""
    registry = hub.registry

    async def list_modules(request: web.Request) -> web.Response:
        modules = registry.get(request.match_info["id"]).modules
        return web.json_response([modules[name].identity_document() for name in sorted(modules)])

    async def get(request: web.Request) -> web.Response:
        return _answer(registry.get(twin_key(request)))

    async def put(request: web.Request) -> web.Response:
        match = if_match(request)
        device_id, module_id = request.match_info["id"], request.match_info["mid"]
        module = await registry.put_module(device_id, module_id, await json_object(request), match)
        return _answer(module, 201 if match is None else 200)

    async def delete(request: web.Request) -> web.Response:
        await registry.delete(twin_key(request), if_match(request))
        return web.Response(status=204)

    return (
        web.get("/devices/{id}/modules", list_modules),
        web.get("/devices/{id}/modules/{mid}", get),
        web.put("/devices/{id}/modules/{mid}", put),
        web.delete("/devices/{id}/modules/{mid}", delete),
    )


def _answer(module: Device, status: int = 200) -> web.Response:
    document = module.identity_document()
    return web.json_response(document, status=status, headers={"ETag": f'"{module.identity.etag}"'})
