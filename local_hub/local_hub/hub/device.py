# SPDX-License-Identifier: Apache-2.0
"""One device, or one module of a device, as the hub holds it, and what it shows of itself to REST and to queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ..core.c2d_queue import C2DQueue
from ..core.identity import Identity
from ..core.query import UNDEFINED, Document
from ..core.timestamps import NEVER, iso
from ..core.twin import JsonObject, Twin


class DeviceLink(Protocol):
    """A device's live connection, as the hub uses it; implemented by the MQTT session."""

    def desired_changed(self, patch: JsonObject, version: int) -> None:
        """Tell the device what changed in its desired properties."""

    def messages_waiting(self) -> None:
        """Cloud-to-device messages can be delivered."""

    def call_method(self, name: str, request_id: str, payload: bytes) -> bool:
        """Put a direct method on the wire; False when the device does not listen for methods.

        `payload` is JSON, or empty if there is none.
        """

    def close(self, reason: str) -> None:
        """Cut the connection."""


MODEL = "dt-dataschema"


@dataclass
class Device:
    """Identity, twin, queue and connection of one device or module. Only a device has `modules`, by module id."""

    identity: Identity
    twin: Twin = field(default_factory=Twin)
    queue: C2DQueue = field(default_factory=C2DQueue)
    subscriptions: dict[str, int] = field(default_factory=dict)
    session_present: bool = False
    link: DeviceLink | None = None
    active_at: float | None = None
    connection_updated: str = NEVER
    modules: dict[str, Device] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The name under which the hub holds it: `deviceId`, or `deviceId/moduleId`."""
        return self.identity.key

    @property
    def last_activity(self) -> str:
        """When it last did something; written out only when somebody asks, since it does something all the time."""
        return NEVER if self.active_at is None else iso(self.active_at)

    @property
    def connection_state(self) -> str:
        """Connected or Disconnected, as Azure spells it."""
        return "Connected" if self.link else "Disconnected"

    def identity_document(self) -> JsonObject:
        """REST's `Device`, or `Module`."""
        identity = self.identity
        document = self._identity_document()
        if identity.module_id is None:
            return document
        for name in ("status", "statusReason", "statusUpdatedTime", "capabilities"):
            document.pop(name)
        return {"moduleId": identity.module_id, "managedBy": identity.managed_by, **document}

    def _identity_document(self) -> JsonObject:
        identity = self.identity
        return {
            "deviceId": identity.device_id,
            "generationId": identity.generation_id,
            "etag": identity.etag,
            "connectionState": self.connection_state,
            "status": identity.status,
            "statusReason": identity.status_reason,
            "connectionStateUpdatedTime": self.connection_updated,
            "statusUpdatedTime": identity.status_updated,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": len(self.queue),
            "authentication": identity.authentication_document(),
            "capabilities": {"iotEdge": identity.iot_edge},
            **identity.scope_document(),
        }

    def with_model(self, system: dict[str, str]) -> dict[str, str]:
        """The system properties of an event, with the model that the device announced.

        https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-messages-construct#system-properties-of-d2c-iot-hub-messages
        """
        return {**system, MODEL: self.twin.model_id} if self.twin.model_id else system

    def twin_document(self) -> JsonObject:
        """REST's `Twin`."""
        twin, identity = self.twin, self.identity
        return {
            "deviceId": identity.device_id,
            **({} if identity.module_id is None else {"moduleId": identity.module_id}),
            "etag": twin.etag,
            "deviceEtag": identity.etag,
            "status": identity.status,
            "statusUpdateTime": identity.status_updated,
            "connectionState": self.connection_state,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": len(self.queue),
            "authenticationType": identity.authentication_type,
            "x509Thumbprint": identity.thumbprint_document(),
            "modelId": twin.model_id,
            "version": twin.version,
            "tags": twin.tags,
            "properties": {"desired": twin.desired.document(), "reported": twin.reported.document()},
            "capabilities": {"iotEdge": identity.iot_edge},
            **identity.scope_document(),
            "configurations": twin.configurations,
        }

    def query_document(self) -> Document:
        """The twin as the query language reads it; roots that most conditions use cost no whole document."""

        def root(name: str) -> Any:
            lowered = name.lower()
            if lowered == "tags":
                return self.twin.tags
            if lowered == "deviceid":
                return self.identity.device_id
            if lowered == "properties":
                return {"desired": self.twin.desired.document(), "reported": self.twin.reported.document()}
            if lowered == "configurations":
                return self.twin.configurations
            return next((value for key, value in self.twin_document().items() if key.lower() == lowered), UNDEFINED)

        return root
