# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations over REST (azure/iot/hub/protocol/operations/configuration_operations.py)."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..hub.configurations import MAX_CONFIGURATIONS, Configurations
from ..hub.hub import Hub
from .requests import if_match, json_object, top


def configuration_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/configurations, and content for one device."""
    configurations = hub.configurations

    async def list_all(request: web.Request) -> web.Response:
        return web.json_response(await configurations.documents(top(request, MAX_CONFIGURATIONS)))

    async def get(request: web.Request) -> web.Response:
        document = await configurations.document(request.match_info["id"])
        return web.json_response(document, headers={"ETag": f'"{document["etag"]}"'})

    async def put(request: web.Request) -> web.Response:
        match = if_match(request)
        result = await configurations.put(request.match_info["id"], await json_object(request), match)
        status = 201 if match is None else 200
        return web.json_response(result.to_json(), status=status, headers={"ETag": f'"{result.etag}"'})

    async def delete(request: web.Request) -> web.Response:
        await configurations.delete(request.match_info["id"], if_match(request))
        return web.Response(status=204)

    async def test_queries(request: web.Request) -> web.Response:
        return web.json_response(Configurations.test(await json_object(request)))

    async def apply(request: web.Request) -> web.Response:
        await configurations.apply_content(request.match_info["id"], await json_object(request))
        return web.Response(status=204)

    return (
        web.get("/configurations", list_all),
        web.post("/configurations/testQueries", test_queries),
        web.get("/configurations/{id}", get),
        web.put("/configurations/{id}", put),
        web.delete("/configurations/{id}", delete),
        web.post("/devices/{id}/applyConfigurationContent", apply),
    )
