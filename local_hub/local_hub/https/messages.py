# SPDX-License-Identifier: Apache-2.0
"""Purge of queues, and feedback of cloud-to-device messages, over REST.

Sends are AMQP only, as in Azure (azure/iot/hub/protocol/operations/cloud_to_device_messages_operations.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..hub.hub import Hub

FEEDBACK_TYPE = "application/vnd.microsoft.iothub.feedback.json"


def message_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/devices/{id}/commands and /messages/serviceBound/feedback."""

    async def purge(request: web.Request) -> web.Response:
        device_id = request.match_info["id"]
        purged = await hub.messages.purge(device_id)
        return web.json_response({"totalMessagesPurged": purged, "deviceId": device_id, "moduleId": None})

    async def receive(request: web.Request) -> web.Response:
        batch = hub.feedback.take()
        if batch is None:
            return web.Response(status=204)
        token, records = batch
        return web.json_response(records, content_type=FEEDBACK_TYPE, headers={"ETag": f'"{token}"'})

    async def complete(request: web.Request) -> web.Response:
        await hub.feedback.complete(request.match_info["token"])
        return web.Response(status=204)

    async def abandon(request: web.Request) -> web.Response:
        hub.feedback.abandon(request.match_info["token"])
        return web.Response(status=204)

    feedback = "/messages/{path:(?i:serviceBound)}/feedback"
    return (
        web.delete("/devices/{id}/commands", purge),
        web.get(feedback, receive),
        web.delete(feedback + "/{token}", complete),
        web.post(feedback + "/{token}/abandon", abandon),
    )
