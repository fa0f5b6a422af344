# SPDX-License-Identifier: Apache-2.0
"""The registry over REST (azure/iot/hub/protocol/operations/devices_operations.py)."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..core.errors import ArgumentInvalid
from ..hub.device import Device
from ..hub.hub import Hub
from .requests import if_match, json_object, json_value, top

_MAX_LIST = 1000


def device_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/devices and /statistics."""
    registry = hub.registry

    async def list_devices(request: web.Request) -> web.Response:
        ids = registry.sorted_ids()[: top(request, _MAX_LIST)]
        return web.json_response([registry.get(device_id).identity_document() for device_id in ids])

    async def bulk(request: web.Request) -> web.Response:
        items = await json_value(request)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ArgumentInvalid("the body is not a list of devices")
        errors = await registry.bulk(items)
        result = {"isSuccessful": not errors, "errors": errors, "warnings": []}
        if not errors:
            return web.json_response(result)
        # by this name the C# SDK knows that the body is a result, and no error
        return web.json_response(result, status=400, headers={"IotHubErrorCode": "BulkRegistryOperationFailure"})

    async def get_device(request: web.Request) -> web.Response:
        return _answer(registry.get(request.match_info["id"]))

    async def put_device(request: web.Request) -> web.Response:
        body = await json_object(request)
        return _answer(await registry.put(request.match_info["id"], body, if_match(request)))

    async def delete_device(request: web.Request) -> web.Response:
        await registry.delete(request.match_info["id"], if_match(request))
        return web.Response(status=204)

    async def registry_statistics(request: web.Request) -> web.Response:
        return web.json_response(registry.statistics())

    async def service_statistics(request: web.Request) -> web.Response:
        return web.json_response({"connectedDeviceCount": registry.connected()})

    return (
        web.get("/devices", list_devices),
        web.get("/devices/", list_devices),  # as Node's Registry.list asks
        web.post("/devices", bulk),
        web.get("/devices/{id}", get_device),
        web.put("/devices/{id}", put_device),
        web.delete("/devices/{id}", delete_device),
        web.get("/statistics/devices", registry_statistics),
        web.get("/statistics/service", service_statistics),
    )


def _answer(device: Device) -> web.Response:
    return web.json_response(device.identity_document(), headers={"ETag": f'"{device.identity.etag}"'})
