# SPDX-License-Identifier: Apache-2.0
"""Twins, queries over them and direct methods over REST."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..core.errors import ArgumentInvalid
from ..hub.device import Device
from ..hub.hub import Hub
from ..hub.queries import run_query
from .requests import if_match, json_object, page_size, twin_key

_MODULE = "/twins/{id}/modules/{mid}"


def twin_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/twins of devices and modules, /devices/query and methods."""

    async def get_twin(request: web.Request) -> web.Response:
        return _answer(hub.registry.get(twin_key(request)))

    async def patch_twin(request: web.Request) -> web.Response:
        body = await json_object(request)
        return _answer(await hub.twins.patch(twin_key(request), body, if_match(request)))

    async def put_twin(request: web.Request) -> web.Response:
        body = await json_object(request)
        return _answer(await hub.twins.replace(twin_key(request), body, if_match(request)))

    async def query(request: web.Request) -> web.Response:
        text = (await json_object(request)).get("query")
        if not isinstance(text, str):
            raise ArgumentInvalid("the body has no query")
        page = await run_query(hub.collections, text, page_size(request), request.headers.get("x-ms-continuation"))
        headers = {"x-ms-item-type": page.item_type}
        if page.continuation is not None:
            headers["x-ms-continuation"] = page.continuation
        return web.json_response(page.rows, headers=headers)

    async def invoke(request: web.Request) -> web.Response:
        return web.json_response(await hub.methods.invoke(twin_key(request), await json_object(request)))

    return (
        web.get("/twins/{id}", get_twin),
        web.patch("/twins/{id}", patch_twin),
        web.put("/twins/{id}", put_twin),
        web.post("/devices/query", query),
        web.post("/twins/{id}/methods", invoke),
        web.get(_MODULE, get_twin),
        web.patch(_MODULE, patch_twin),
        web.put(_MODULE, put_twin),
        web.post(_MODULE + "/methods", invoke),
    )


def _answer(device: Device) -> web.Response:
    return web.json_response(device.twin_document(), headers={"ETag": f'"{device.twin.etag}"'})
