# SPDX-License-Identifier: Apache-2.0
"""What there is on the AMQP port, by address, and the messages that these nodes speak.

    $cbs                                            put-token, the authentication of everything else
    $management                                     Event Hubs' description of the hub and of its partitions
    /messages/devicebound                           cloud-to-device sends
    /messages/servicebound/feedback                 how they ended
    {hub}/ConsumerGroups/{group}/Partitions/{n}     device-to-cloud events
    /devices/{id}[/modules/{mid}]/...               what devices do (device.py)
    {scope}/registrations/{id}                      devices that register (provisioning.py)

Addresses: azure/iot/hub/iothub_amqp_client.py, azure/eventhub/_consumer_client.py, endpoint.js of azure-iot-common.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from ..core.c2d_queue import Message, expiry
from ..core.errors import ArgumentInvalid
from ..hub.device import MODEL
from ..hub.events import PARTITIONS, TELEMETRY, Event, Events
from .connection import IncomingMessage
from .encoding import Array, Int, Symbol, Timestamp, UByte, ULong, encode_message

_EVENTS = re.compile(r"(?P<hub>[^/]+)/ConsumerGroups/(?P<group>[^/]+)/Partitions/(?P<partition>\d{1,4})", re.IGNORECASE)
_DEVICE = r"devices/(?P<device>[^/]+)(?:/modules/(?P<module>[^/]+))?"
_DEVICE_NODE = re.compile(_DEVICE + r"/(?P<node>messages/events|messages/devicebound|methods/devicebound|twin)", re.I)
_AUDIENCE = re.compile(r"(?:[^/]+/)?" + _DEVICE, re.IGNORECASE)
_TO = re.compile(r"/?devices/([^/]+)/messages/devicebound", re.IGNORECASE)
SAID_BY_DEVICES = ("iothub-interface-id", "dt-subject")
"""What devices say of an event in annotations: the interface of a security agent, the component of a model."""
_ACKS = ("none", "positive", "negative", "full")
_MAX_PROPERTIES = 64 * 1024
_AUTH_METHOD = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'


class Node(StrEnum):
    """What each device has."""

    EVENTS = "messages/events"
    DEVICEBOUND = "messages/devicebound"
    METHODS = "methods/devicebound"
    TWIN = "twin"


@dataclass(frozen=True)
class EventSource:
    """The address of a partition."""

    hub: str
    group: str
    partition: int


def node_path(address: str) -> str:
    """An address without scheme, host and slashes around it. Ids of devices may hold `?` and `#`."""
    path = address.partition("://")[2].partition("/")[2] if "://" in address else address
    return path.strip("/")


def device_address(path: str) -> tuple[str, Node] | None:
    """The key of a device or module, and which of its nodes this is."""
    match = _DEVICE_NODE.fullmatch(path)
    return (_key(match), Node(match["node"].lower())) if match else None


def audience_device(audience: str) -> str | None:
    """For which device or module a token is to be, if it is for one."""
    match = _AUDIENCE.fullmatch(unquote(audience).partition("://")[2] or unquote(audience))
    if match is None:
        return None
    return match["device"] + (f"/{match['module']}" if match["module"] else "")


def event_source(path: str, hub: str) -> EventSource | None:
    """A partition of this hub, or None."""
    match = _EVENTS.fullmatch(path)
    if match is None or match["hub"].lower() != hub.lower() or int(match["partition"]) >= PARTITIONS:
        return None
    return EventSource(match["hub"], match["group"].lower(), int(match["partition"]))


def devicebound(message: IncomingMessage, now: float) -> tuple[str, Message]:
    """The device and the message that a service sent.

    Raises:
        ArgumentInvalid: it is not a cloud-to-device message.
    """
    match = _TO.fullmatch(message.to or "")
    if match is None:
        raise ArgumentInvalid("the property `to` is not /devices/{id}/messages/devicebound")
    properties = dict(message.properties)
    ack = str(properties.pop("iothub-ack", "none")).lower()
    if ack not in _ACKS:
        raise ArgumentInvalid(f"iothub-ack is one of {', '.join(_ACKS)}")
    if sum(len(name) + len(str(value)) for name, value in properties.items()) > _MAX_PROPERTIES:
        raise ArgumentInvalid(f"the properties are larger than {_MAX_PROPERTIES} bytes")
    return unquote(match[1]), Message(
        sequence=0,
        body=body_bytes(message),
        enqueued_at=now,
        expires_at=expiry(now, message.expires_at),
        message_id=None if message.message_id is None else str(message.message_id),
        correlation_id=None if message.correlation_id is None else str(message.correlation_id),
        user_id=message.user_id,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        to=message.to,
        ack=ack,
        properties=properties,
    )


def body_bytes(message: IncomingMessage) -> bytes:
    """The body as bytes.

    Raises:
        ArgumentInvalid: it is a number, a list or the like.
    """
    if isinstance(message.body, str):
        return message.body.encode()
    if message.body is None or isinstance(message.body, bytes):
        return message.body or b""
    raise ArgumentInvalid("the body of a message is binary or a text")


def event_parts(message: IncomingMessage) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """Body, system properties and the application's properties of what a device sent.

    Raises:
        ArgumentInvalid: the body is not one of an event.
    """
    system = {
        "message-id": message.message_id,
        "correlation-id": message.correlation_id,
        "user-id": message.user_id,
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        **{name: message.annotations.get(name) for name in SAID_BY_DEVICES},
    }
    known = {name: str(value) for name, value in system.items() if value is not None}
    return body_bytes(message), known, {name: _text(value) for name, value in message.properties.items()}


def command_message(message: Message) -> bytes:
    """A cloud-to-device message as its device receives it."""
    ack = {} if message.ack == "none" else {"iothub-ack": message.ack}
    enqueued = Timestamp(int(message.enqueued_at * 1000))
    return encode_message(
        data=message.body,
        delivery_count=message.deliveries - 1,
        # the types are those that AmqpIotMessageConverter.cs of the C# SDK looks for
        annotations={
            "x-opt-sequence-number": ULong(message.sequence),
            "x-opt-enqueued-time": enqueued,
            "iothub-enqueuedtime": enqueued,
            "iothub-deliverycount": UByte(message.deliveries - 1),
        },
        properties={
            "message-id": message.message_id,
            "user-id": None if message.user_id is None else message.user_id.encode(),
            "to": message.to,
            "correlation-id": message.correlation_id,
            "content-type": None if message.content_type is None else Symbol(message.content_type),
            "content-encoding": None if message.content_encoding is None else Symbol(message.content_encoding),
            "absolute-expiry-time": Timestamp(int(message.expires_at * 1000)),
        },
        application_properties={**message.properties, **ack},
    )


def reply(request: IncomingMessage, status: int, description: str, value: Any = None) -> bytes:
    """An answer of $cbs or $management."""
    return encode_message(
        value=value,
        properties={"correlation-id": request.message_id},
        application_properties={"status-code": Int(status), "status-description": description},
    )


def management_answer(request: IncomingMessage, hub: str, events: Events, created_ms: int) -> bytes:
    """READ of the hub or of one of its partitions (azure/eventhub/_client_base.py, _get_eventhub_properties)."""
    asked = request.properties
    if asked.get("operation") != "READ" or str(asked.get("name", "")).lower() != hub.lower():
        return reply(request, 404, "the entity does not exist")
    if asked.get("type") == "com.microsoft:eventhub":
        return reply(request, 200, "OK", _hub_description(hub, created_ms))
    partition = str(asked.get("partition", ""))
    if asked.get("type") == "com.microsoft:partition" and partition.isdecimal() and int(partition) < PARTITIONS:
        return reply(request, 200, "OK", _partition_description(hub, int(partition), events))
    return reply(request, 404, "the partition does not exist")


def event_message(event: Event) -> bytes:
    """An event as Event Hubs delivers it."""
    device_id, _, module_id = event.device_id.partition("/")
    annotations = {
        "x-opt-sequence-number": event.sequence,
        "x-opt-offset": str(event.sequence),
        "x-opt-enqueued-time": Timestamp(event.enqueued_ms),
        "iothub-connection-device-id": device_id,
        **({"iothub-connection-module-id": module_id} if module_id else {}),
        "iothub-enqueuedtime": Timestamp(event.enqueued_ms),
        "iothub-message-source": event.source,
    }
    if event.source == TELEMETRY:  # what the hub itself says has nobody who proved himself
        annotations["iothub-connection-auth-method"] = _AUTH_METHOD
        annotations["iothub-connection-auth-generation-id"] = event.generation_id
        annotations |= {name: event.system[name] for name in (*SAID_BY_DEVICES, MODEL) if name in event.system}
    return encode_message(
        data=event.body,
        annotations=annotations,
        properties=_system_properties(event.system),
        application_properties=event.properties,
    )


def file_notification_message(notice: str, token: str) -> bytes:
    """What a service is told of an uploaded file."""
    properties = {
        "message-id": token,
        "content-type": Symbol("application/vnd.microsoft.iothub.filenotification.json"),
        "content-encoding": Symbol("utf-8"),
    }
    return encode_message(data=notice.encode(), properties=properties)


def feedback_message(records: str, token: str, hub: str, now: float) -> bytes:
    """A batch of feedback.

    https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-messages-c2d#message-feedback
    """
    return encode_message(
        data=records.encode(),
        annotations={"iothub-enqueuedtime": Timestamp(int(now * 1000))},
        properties={
            "message-id": token,
            "user-id": hub.encode(),
            "content-type": Symbol("application/vnd.microsoft.iothub.feedback.json"),
            "content-encoding": Symbol("utf-8"),
        },
    )


def _key(match: re.Match[str]) -> str:
    module = match["module"]
    return unquote(match["device"]) + (f"/{unquote(module)}" if module else "")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _system_properties(system: dict[str, str]) -> dict[str, Any]:
    symbols = ("content-type", "content-encoding")
    properties: dict[str, Any] = {
        name: Symbol(value) if name in symbols else value
        for name, value in system.items()
        if name in ("message-id", "correlation-id", *symbols)
    }
    if "user-id" in system:
        properties["user-id"] = system["user-id"].encode()
    return properties


def _hub_description(hub: str, created_ms: int) -> dict[str, Any]:
    return {
        "name": hub,
        "type": "com.microsoft:eventhub",
        "created_at": Timestamp(created_ms),
        "partition_count": Int(PARTITIONS),
        "partition_ids": Array(tuple(str(number) for number in range(PARTITIONS))),
    }


def _partition_description(hub: str, partition: int, events: Events) -> dict[str, Any]:
    state = events.properties(partition)
    return {
        "name": hub,
        "type": "com.microsoft:partition",
        "partition": str(partition),
        **state,
        "last_enqueued_time_utc": Timestamp(state["last_enqueued_time_utc"]),
    }
