# SPDX-License-Identifier: Apache-2.0
"""Events that are no telemetry: a twin changed, an identity came or went, a device connected or disconnected.

Sources, application properties and bodies are those of
https://learn.microsoft.com/azure/iot-hub/iot-hub-non-telemetry-event-schema
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from .identity import Identity
from .twin import Properties, Twin, stamped

JsonObject = dict[str, Any]

TWIN_CHANGES, LIFECYCLE, CONNECTION_STATE = "twin-changes", "device-lifecycle", "device-connection-state"
DIGITAL_TWIN_CHANGES = "digital-twin-changes"
SOURCES = {
    TWIN_CHANGES: ("twinChangeEvents", "twinChangeNotification"),
    LIFECYCLE: ("deviceLifecycleEvents", "deviceLifecycleNotification"),
    CONNECTION_STATE: ("deviceConnectionStateEvents", "deviceConnectionStateNotification"),
    DIGITAL_TWIN_CHANGES: ("digitalTwinChangeEvents", ""),
}
"""Routes that can be switched on: their names here, and `iothub-message-source` and `iothub-message-schema` there."""
UPDATE, REPLACE = "updateTwin", "replaceTwin"
CREATED, DELETED = "createDeviceIdentity", "deleteDeviceIdentity"
CONNECTED, DISCONNECTED = "deviceConnected", "deviceDisconnected"


@dataclass(frozen=True)
class Notification:
    """Such an event, ready for the log."""

    source: str
    system: dict[str, str]
    properties: dict[str, str]
    body: bytes


def notification(route: str, operation: str, identity: Identity, hub: str, now: str, body: JsonObject) -> Notification:
    """What happened to `identity` at `now`."""
    source, schema = SOURCES[route]
    properties = {
        "hubName": hub,
        "deviceId": identity.device_id,
        **({} if identity.module_id is None else {"moduleId": identity.module_id}),
        "operationTimestamp": now,
        "iothub-message-schema": schema,
        "opType": operation,
    }
    system = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "correlation-id": secrets.token_hex(8),
        "user-id": hub,
    }
    return Notification(source, system, properties, json.dumps(body, separators=(",", ":")).encode())


def digital_twin_notification(patch: list[JsonObject]) -> Notification:
    """What changed in a digital twin, as JSON Patch; it has no application properties.

    https://learn.microsoft.com/azure/iot/concepts-digital-twin#digital-twin-change-events
    """
    system = {
        "content-type": "application/json-patch+json",
        "content-encoding": "utf-8",
        "correlation-id": secrets.token_hex(8),
    }
    body = json.dumps(patch, separators=(",", ":")).encode()
    return Notification(SOURCES[DIGITAL_TWIN_CHANGES][0], system, {}, body)


def whole_twin(identity: Identity, twin: Twin) -> JsonObject:
    """The body when a twin was made, replaced or deleted: all of it."""
    return {
        "deviceId": identity.device_id,
        **({} if identity.module_id is None else {"moduleId": identity.module_id}),
        "etag": twin.etag,
        "version": twin.version,
        "tags": twin.tags,
        "properties": {"desired": twin.desired.document(), "reported": twin.reported.document()},
    }


def changed_twin(
    twin: Twin,
    tags: JsonObject | None = None,
    desired: JsonObject | None = None,
    reported: JsonObject | None = None,
) -> JsonObject:
    """The body when parts of a twin were changed: those parts, as patches, with their metadata."""
    sides = {
        name: _changed(patch, section)
        for name, patch, section in (("desired", desired, twin.desired), ("reported", reported, twin.reported))
        if patch is not None
    }
    body: JsonObject = {"version": twin.version}
    if tags is not None:
        body["tags"] = tags
    if sides:
        body["properties"] = sides
    return body


def connection_sequence(ticks: int, count: int) -> JsonObject:
    """The body of a connection state event: a number of 256 bits in hexadecimal digits that only ever grows."""
    return {"sequenceNumber": f"{ticks:032X}{count:032X}"}


def _changed(patch: JsonObject, section: Properties) -> JsonObject:
    return {**patch, "$metadata": stamped(section.metadata, patch), "$version": section.version}
