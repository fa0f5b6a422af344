# SPDX-License-Identifier: Apache-2.0
"""What devices do over HTTPS: send events, fetch cloud-to-device messages, and upload files.

https://learn.microsoft.com/rest/api/iothub/device (api-version 2020-09-30), and for files
azure/iot/device/iothub/pipeline/pipeline_stages_iothub_http.py. A device proves itself as over MQTT, by a token in
`Authorization` or by a client certificate.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

from ..core.c2d_queue import Message
from ..core.errors import ArgumentInvalid, MessageTooLarge, Unauthorized
from ..core.fault import REFUSALS, requested_fault
from ..core.quota import Operation
from ..core.timestamps import iso
from ..hub.device import Device
from ..hub.events import MAX_BODY
from ..hub.hub import Hub
from ..tls import client_certificates
from .requests import json_object, json_value

PATHS = re.compile(r"/devices/[^/]+(/modules/[^/]+)?/(messages/.*|files/?(notifications(/[^/]*)?)?)", re.IGNORECASE)
_BATCH = "application/vnd.microsoft.iothub.json"
_APP = "iothub-app-"
_MAX_HEADERS = 8 * 1024
_SYSTEM = {
    "iothub-messageid": "message-id",
    "iothub-correlationid": "correlation-id",
    "iothub-userid": "user-id",
    "iothub-contenttype": "content-type",
    "iothub-contentencoding": "content-encoding",
    "iothub-interface-id": "iothub-interface-id",
    "dt-subject": "dt-subject",
}


def device_api_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/devices/{id}[/modules/{mid}]/messages and /devices/{id}/files."""

    def admitted(request: web.Request) -> Device:
        key = request.match_info["id"]
        if "mid" in request.match_info:
            key += f"/{request.match_info['mid']}"
        if request.transport is None:
            raise Unauthorized("the connection is gone")
        certificates = client_certificates(request.transport)
        device, _ = hub.access.device(key, request.headers.get("Authorization", ""), certificates)
        hub.touch(device)
        return device

    async def send(request: web.Request) -> web.Response:
        device = admitted(request)
        if request.content_type == _BATCH:
            events = _batch(await json_value(request))
        else:
            events = [(await request.read(), *_headers(request.headers))]
        for body, system, properties in events:
            await _refuse_by_fault(properties)
            system = device.with_model(system)
            await hub.events.append(device.id, device.identity.generation_id, body, system, properties)
        return web.Response(status=204)

    async def receive(request: web.Request) -> web.Response:
        message = hub.messages.deliver(admitted(request), _lock_seconds(request))
        return web.Response(status=204) if message is None else _delivery(message)

    async def settle(request: web.Request) -> web.Response:
        verdict = "reject" if "reject" in request.query else "complete"
        await hub.messages.settle(admitted(request), request.match_info["token"], verdict)
        return web.Response(status=204)

    async def abandon(request: web.Request) -> web.Response:
        await hub.messages.settle(admitted(request), request.match_info["token"], "abandon")
        return web.Response(status=204)

    async def begin_upload(request: web.Request) -> web.Response:
        device, body = admitted(request), await json_object(request)
        name, host = body.get("blobName"), request.headers.get("Host", "")
        if not hub.access.knows(host):  # services are told an address with it
            raise ArgumentInvalid("the Host is not this hub")
        hub.meter.admit(Operation.FILE_UPLOAD)
        hub.meter.require_messages()
        answer = hub.files.begin(device, name, host)
        hub.meter.charge(len(await request.read()))
        return web.json_response(answer)

    async def end_upload(request: web.Request) -> web.Response:
        device = admitted(request)
        hub.meter.require_messages()
        named = {"correlationId": request.match_info["correlation"]} if "correlation" in request.match_info else {}
        await hub.files.end(device, named | await json_object(request))
        hub.meter.charge(len(await request.read()))
        return web.Response(status=204)

    device, events = "/devices/{id}", "/messages/{events:(?i:events)}"
    devicebound = device + "/messages/{devicebound:(?i:devicebound)}"
    return (
        web.post(device + events, send),
        web.post(device + "/modules/{mid}" + events, send),
        web.get(devicebound, receive),
        web.delete(devicebound + "/{token}", settle),
        web.post(devicebound + "/{token}/abandon", abandon),
        web.post(device + "/files", begin_upload),
        web.post(device + "/files/notifications", end_upload),
        # Node names the upload here
        web.post(device + "/files/notifications/{correlation}", end_upload),
    )


async def _refuse_by_fault(properties: dict[str, str]) -> None:
    """Over HTTPS only the request that asks for a fault is refused: FaultInjection.cs of the C# SDK's tests."""
    fault = requested_fault(properties)
    if fault is not None and fault.kind in REFUSALS:
        await asyncio.sleep(fault.delay)
        raise REFUSALS[fault.kind](f"it asked for the fault {fault.kind}")


_Event = tuple[bytes, dict[str, str], dict[str, str]]


def _headers(headers: CIMultiDictProxy[str]) -> tuple[dict[str, str], dict[str, str]]:
    system, properties, size = {}, {}, 0
    for name, value in headers.items():
        lowered = name.lower()
        if lowered.startswith(_APP):
            properties[name[len(_APP) :]] = value
            size += len(name) + len(value)
        elif lowered in _SYSTEM:
            system[_SYSTEM[lowered]] = value
            size += len(value)
    if size > _MAX_HEADERS:
        raise MessageTooLarge(f"the properties of a message hold {_MAX_HEADERS} bytes at most")
    return system, properties


def _batch(items: Any) -> list[_Event]:
    """Several events in one request: [{"body": ..., "base64Encoded": true, "properties": {...}}]."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ArgumentInvalid("a batch is a list of objects")
    events = [_batch_item(item) for item in items]
    if sum(len(body) for body, _, _ in events) > MAX_BODY:
        raise MessageTooLarge(f"a batch holds {MAX_BODY} bytes at most")
    return events


def _batch_item(item: dict[str, Any]) -> _Event:
    text, given = item.get("body", ""), item.get("properties") or {}
    if not isinstance(text, str) or not isinstance(given, dict):
        raise ArgumentInvalid("body is a text and properties are an object")
    try:
        body = base64.b64decode(text, validate=True) if item.get("base64Encoded", True) else text.encode()
    except (binascii.Error, ValueError):
        raise ArgumentInvalid("body is not base64") from None
    names = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    system = {_SYSTEM[name.lower()]: value for name, value in names.items() if name.lower() in _SYSTEM}
    own = {_own_name(name): value for name, value in names.items() if name.lower() not in _SYSTEM}
    return body, system, own


def _own_name(name: str) -> str:
    """The SDKs for C and Java name properties as in headers, that for Node as they are."""
    return name[len(_APP) :] if name.lower().startswith(_APP) else name


def _lock_seconds(request: web.Request) -> float:
    text = request.headers.get("IotHub-MessageLockTimeout", "60")
    if not text.isdecimal() or not 5 <= int(text) <= 300:
        raise ArgumentInvalid("IotHub-MessageLockTimeout is a number from 5 to 300")
    return float(text)


def _delivery(message: Message) -> web.Response:
    assert message.lock is not None
    fields = {
        "iothub-sequencenumber": str(message.sequence),
        "iothub-enqueuedtime": iso(message.enqueued_at),
        "iothub-expiry": iso(message.expires_at),
        "iothub-deliverycount": str(message.deliveries - 1),
        "iothub-messageid": message.message_id,
        "iothub-correlationid": message.correlation_id,
        "iothub-userid": message.user_id,
        "iothub-to": message.to,
        "iothub-ack": message.ack,
        "iothub-contenttype": message.content_type,
        "iothub-contentencoding": message.content_encoding,
        **{f"{_APP}{name}": str(value) for name, value in message.properties.items()},
    }
    headers = {name: _one_line(value) for name, value in fields.items() if value is not None}
    return web.Response(body=message.body, headers={"ETag": f'"{message.lock.token}"', **headers})


def _one_line(text: str) -> str:
    """What came over AMQP may hold anything; a header may not."""
    return re.sub(r"[^\x20-\x7e]", "?", text)
