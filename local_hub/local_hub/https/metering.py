# SPDX-License-Identifier: Apache-2.0
"""Which limits a REST request falls under, and how many messages it costs.

https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling#operation-throttles and .../-pricing
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from ..core.errors import DeviceNotOnline
from ..core.quota import METHOD_METER, Operation
from ..hub.hub import Hub
from .requests import route_path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OPERATIONS: dict[str, Operation | dict[str, Operation]] = {
    "/devices": Operation.REGISTRY,
    "/devices/{id}": Operation.REGISTRY,
    "/devices/{id}/modules": Operation.REGISTRY,
    "/devices/{id}/modules/{mid}": Operation.REGISTRY,
    "/devices/{id}/applyConfigurationContent": Operation.CONFIGURATION,
    "/devices/query": Operation.QUERY,
    "/twins/{id}": {"GET": Operation.TWIN_READ, "PATCH": Operation.TWIN_UPDATE, "PUT": Operation.TWIN_UPDATE},
    "/twins/{id}/modules/{mid}": {
        "GET": Operation.TWIN_READ,
        "PATCH": Operation.TWIN_UPDATE,
        "PUT": Operation.TWIN_UPDATE,
    },
    "/digitaltwins/{id}": {"GET": Operation.TWIN_READ, "PATCH": Operation.TWIN_UPDATE},
    "/digitaltwins/{id}/commands/{name}": Operation.METHOD,
    "/digitaltwins/{id}/components/{component}/commands/{name}": Operation.METHOD,
    "/twins/{id}/methods": Operation.METHOD,
    "/twins/{id}/modules/{mid}/methods": Operation.METHOD,
    "/configurations": Operation.CONFIGURATION,
    "/configurations/testQueries": Operation.CONFIGURATION,
    "/configurations/{id}": Operation.CONFIGURATION,
    "/jobs/create": Operation.JOB,
    "/jobs": Operation.JOB,
    "/jobs/{id}": Operation.JOB,
    "/jobs/v2/query": Operation.JOB,
    "/jobs/v2/{id}": Operation.JOB,
    "/jobs/v2/{id}/cancel": Operation.JOB,
}
_APPLY = "/devices/{id}/applyConfigurationContent"
_CHARGED = (Operation.TWIN_READ, Operation.TWIN_UPDATE, Operation.QUERY, Operation.METHOD)


async def metered(hub: Hub, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle a request of a service within the limits of the hub."""
    operation = _operation(request) if hub.meter.on else None
    if operation is None:
        return await handler(request)
    asked = len(await request.read())
    steps = -(-max(asked, 1) // METHOD_METER)
    hub.meter.admit(operation, steps * METHOD_METER if operation == Operation.METHOD else 1.0)
    if operation not in _CHARGED and route_path(request) != _APPLY:
        return await handler(request)
    hub.meter.require_messages()
    try:
        response = await handler(request)
    except DeviceNotOnline:
        hub.meter.charge(asked)
        hub.meter.charge(0)
        raise
    _charge(hub, operation, asked, response)
    return response


def _charge(hub: Hub, operation: Operation, asked: int, response: web.StreamResponse) -> None:
    answered = len(response.body) if isinstance(response, web.Response) and isinstance(response.body, bytes) else 0
    if response.headers.get("x-ms-item-type") == "DeviceJob":  # queries of jobs cost nothing
        return
    if operation in (Operation.TWIN_UPDATE, Operation.METHOD, Operation.CONFIGURATION):
        hub.meter.charge(asked)
    if operation not in (Operation.TWIN_UPDATE, Operation.CONFIGURATION):
        hub.meter.charge(answered)


def _operation(request: web.Request) -> Operation | None:
    found = _OPERATIONS.get(route_path(request))
    return found.get(request.method) if isinstance(found, dict) else found
