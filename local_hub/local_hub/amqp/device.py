# SPDX-License-Identifier: Apache-2.0
"""A device, or a module, on an AMQP connection.

    devices/{id}[/modules/{mid}]/messages/events        it sends events, one by one or in batches
    devices/{id}[/modules/{mid}]/messages/devicebound   it receives messages and says what becomes of each
    devices/{id}[/modules/{mid}]/methods/devicebound    it receives calls, and sends answers with their correlation id
    devices/{id}[/modules/{mid}]/twin                   it sends requests and receives answers, and desired properties

Requests of twins have annotations `operation` (GET, PATCH, PUT, DELETE) and `resource`, answers `status` (int) and
`version` (long); what has no correlation id is news. azure-iot-device-amqp of Node and iothubtransport_amqp_*.c of the
C SDK agree on all of it. The device is connected as long as it has a link.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

from ..core.compact_json import compact_bytes
from ..core.errors import ArgumentInvalid, HubError
from ..core.fault import REFUSALS, Fault, requested_fault
from ..core.twin import JsonObject
from ..hub.device import Device
from ..hub.events import MAX_BODY
from ..hub.hub import Hub
from . import nodes
from .client import MAX_QUEUED, Wire
from .connection import IncomingDelivery, IncomingMessage, Link, Outcome
from .encoding import Int, encode_message
from .nodes import Node

_MAX_BATCH = MAX_BODY + 16 * 1024
_MAX_CALLS = 1000
_MODEL = "com.microsoft:model-id"
_REPORTED, _DESIRED = "/properties/reported", "/notifications/twin/properties/desired"
DETACH_FORCED = "amqp:link:detach-forced"


class DeviceClient:
    """Implements `Client` and `DeviceLink`. `end` is told, with a condition and a reason, that the hub cuts it off."""

    def __init__(
        self, hub: Hub, device: Device, until: float, wire: Wire, end: Callable[[DeviceClient, str, str], None]
    ) -> None:
        self._hub = hub
        self._wire = wire
        self._end = end
        self._links: dict[Link, Node] = {}
        self._commands: dict[Link, dict[int, int]] = {}
        self._calls: dict[str, str] = {}
        self._wants_desired = False
        self._refusal: HubError | None = None
        self._refused_until = 0.0
        self.device = device
        self.until = until
        self.ended = False
        hub.attach(device, self)

    @property
    def links(self) -> list[Link]:
        """What it has attached."""
        return list(self._links)

    # Client

    def attach(self, link: Link, path: str) -> None:
        """Client."""
        address = nodes.device_address(path)
        if address is None:
            link.refuse("amqp:not-found", f"there is nothing at {path}")
            return
        _, node = address
        # a module hears on its node for events what other modules send to its inputs: here nobody does
        one_way = Node.DEVICEBOUND if self.device.identity.module_id else node
        if node in (Node.EVENTS, Node.DEVICEBOUND) and node is one_way and link.sends != (node is Node.DEVICEBOUND):
            link.refuse("amqp:not-allowed", f"{path} is for the other direction")
            return
        link.attach(_MAX_BATCH if node is Node.EVENTS else MAX_BODY)
        self._links[link] = node
        self._hub.twins.announce(self.device, str(link.properties.get(_MODEL, "")))
        if link.sends and node is Node.DEVICEBOUND:
            self._commands[link] = {}

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        """Client."""
        self._hub.touch(self.device)
        match self._links.get(link):
            case Node.EVENTS:
                self._wire.start(self._events(message, delivery))
            case Node.METHODS:
                self._method_answer(message, delivery)
            case Node.TWIN:
                delivery.accept()
                self._wire.start(self._twin_request(message))
            case _:
                delivery.reject("amqp:not-allowed", "nothing is sent here")

    def credited(self, link: Link) -> None:
        """Client."""
        if link in self._commands:
            self._deliver(link)

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        """Client."""
        sequence = self._commands.get(link, {}).pop(tag, None)
        if sequence is None:
            return
        messages = self._hub.messages
        if outcome is Outcome.RELEASED:
            messages.abandon(self.device, sequence)
        else:
            settle = messages.complete if outcome is Outcome.ACCEPTED else messages.reject
            self._wire.start(settle(self.device, sequence))

    def detached(self, link: Link) -> None:
        """Client. Without a link it is not connected any more."""
        node = self._links.pop(link, None)
        for sequence in self._commands.pop(link, {}).values():
            self._hub.messages.abandon(self.device, sequence)
        if node is Node.TWIN:
            self._wants_desired = self._wants_desired and self._outlet(Node.TWIN) is not None
        if node is not None and not self._links:
            self.close_quietly()

    # DeviceLink

    def desired_changed(self, patch: JsonObject, version: int) -> None:
        """DeviceLink."""
        link = self._outlet(Node.TWIN)
        if link is None or not self._wants_desired:
            return
        if link.queued >= MAX_QUEUED or self._wire.congested:
            self._end(self, DETACH_FORCED, "it does not read what it is sent")
            return
        body = {**patch, "$version": version}
        self._hub.twins.told(body)
        self._send_json(link, body, None, {"resource": _DESIRED, "version": version})

    def call_method(self, name: str, request_id: str, payload: bytes) -> bool:
        """DeviceLink. The C SDK takes only a UUID as correlation id."""
        link = self._outlet(Node.METHODS)
        if link is None or link.queued >= MAX_QUEUED or self._wire.congested:
            return False
        call = uuid.uuid4()
        self._calls[str(call)] = request_id
        if len(self._calls) > _MAX_CALLS:  # those that were never answered
            del self._calls[next(iter(self._calls))]
        message = encode_message(
            data=payload,
            properties={"correlation-id": call},
            application_properties={"IoThub-methodname": name},
        )
        link.send(message)
        self._wire.flush()
        return True

    def messages_waiting(self) -> None:
        """DeviceLink."""
        for link in self._commands:
            self._deliver(link)

    def close(self, reason: str) -> None:
        """DeviceLink."""
        if not self.ended:
            self._end(self, DETACH_FORCED, reason)

    def close_quietly(self) -> None:
        """From now on it is not connected, and nothing reaches it."""
        if not self.ended:
            self.ended = True
            self._links.clear()
            self._commands.clear()
            self._hub.detach(self.device, self)

    # The nodes

    def _deliver(self, link: Link) -> None:
        on_wire = self._commands[link]
        while not self.ended and link.credit > 0 and not self._wire.congested:
            message = self._hub.messages.deliver(self.device)
            if message is None:
                link.finish_drain()
                break
            tag = link.send(nodes.command_message(message))
            if link.confirms:
                on_wire[tag] = message.sequence
            else:
                self._wire.start(self._hub.messages.complete(self.device, message.sequence))
        self._wire.flush()

    async def _events(self, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        device = self.device
        fault = requested_fault(message.properties)
        if fault is not None:
            delivery.accept()
            self._wire.flush()
            await self._fail(fault)
            return
        try:
            if self._refusal is not None and self._hub.clock() < self._refused_until:
                raise self._refusal
            parts = [nodes.event_parts(each) for each in message.batch or (message,)]
            generation, append = device.identity.generation_id, self._hub.events.append
            marked = [(body, device.with_model(system), own) for body, system, own in parts]
            await asyncio.gather(*(append(device.id, generation, *each) for each in marked))
        except HubError as error:
            delivery.reject(error.condition, f"{error.code}: {error}")
        else:
            delivery.accept()

    async def _fail(self, fault: Fault) -> None:
        await asyncio.sleep(fault.delay)
        if fault.kind in REFUSALS:
            self._refusal = REFUSALS[fault.kind](f"it asked for the fault {fault.kind}")
            self._refused_until = self._hub.clock() + fault.duration
        else:
            self._wire.fail(fault, self._links)

    def _method_answer(self, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        request_id = self._calls.pop(str(message.correlation_id), None)
        status = message.properties.get("IoThub-status")
        try:
            if not isinstance(status, int):
                raise ArgumentInvalid("IoThub-status is a number")
            payload = _json_value(message)
        except ArgumentInvalid as error:
            delivery.reject(error.condition, str(error))
            return
        delivery.accept()
        if request_id is not None:
            self._hub.methods.answered(self.device, request_id, status, payload)

    async def _twin_request(self, request: IncomingMessage) -> None:
        body: JsonObject | None = None
        annotations: dict[str, Any] = {}
        try:
            match request.annotations.get("operation"), request.annotations.get("resource"):
                case "GET", _:
                    body = self._hub.twins.read(self.device)
                    await self._hub.store.commit()  # what it tells may be on its way to the disk
                case "PATCH", str(resource) if resource == _REPORTED:
                    patch = _json_value(request)
                    if not isinstance(patch, dict):
                        raise ArgumentInvalid("reported properties are an object")
                    annotations["version"] = await self._hub.twins.report(self.device, patch)
                case ("PUT" | "DELETE") as operation, str(resource) if resource == _DESIRED:
                    self._wants_desired = operation == "PUT"
                case operation, resource:
                    raise ArgumentInvalid(f"{operation} of {resource} is no operation of twins")
            status = 200
        except HubError as error:
            body, status = {"message": str(error)}, error.status
        link = self._outlet(Node.TWIN)
        if link is None or self.ended:
            return
        if link.queued >= MAX_QUEUED:
            self._end(self, DETACH_FORCED, "it does not read what it is sent")
            return
        self._send_json(link, body, request.correlation_id, {"status": Int(status), **annotations})

    def _send_json(self, link: Link, body: JsonObject | None, correlation_id: Any, annotations: dict[str, Any]) -> None:
        properties = {"correlation-id": correlation_id}
        data = b"" if body is None else compact_bytes(body)
        link.send(encode_message(data=data, annotations=annotations, properties=properties))
        self._wire.flush()

    def _outlet(self, node: Node) -> Link | None:
        """The newest link on which it listens."""
        fitting = [link for link, each in self._links.items() if each is node and link.sends]
        return fitting[-1] if fitting else None


def _json_value(message: IncomingMessage) -> Any:
    body = nodes.body_bytes(message)
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        raise ArgumentInvalid("the body is not JSON") from None
