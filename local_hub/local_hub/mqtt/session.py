# SPDX-License-Identifier: Apache-2.0
"""One connected device: its packets become operations of the hub, and the hub's news become packets.

Packets of one connection are handled one after the other, except that waiting for the disk does not hold up the next:
a PUBACK goes out when its event is durable, and since the store finishes in order, PUBACKs keep their order (4.6).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..core.compact_json import compact_bytes
from ..core.errors import ArgumentInvalid, HubError
from ..core.fault import REFUSALS, Fault, Kind, requested_fault
from ..core.twin import JsonObject
from ..hub.device import Device
from ..hub.hub import Hub
from . import packets, topics

_log = logging.getLogger(__name__)
_MAX_UNACKNOWLEDGED = 50
_MAX_PENDING = 500


class Session:
    """Implements `DeviceLink`. `send` writes bytes, `hang_up` closes the connection."""

    def __init__(self, hub: Hub, device: Device, send: Callable[[bytes], None], hang_up: Callable[[str], None]) -> None:
        self._hub = hub
        self._device = device
        self._id = device.id
        self._send = send
        self._hang_up = hang_up
        self._on_wire: dict[int, int] = {}
        self._next_packet_id = 0
        self._pending: set[asyncio.Task[None]] = set()
        self._unstored = 0
        self._closed = False

    @property
    def overloaded(self) -> bool:
        """Whether the device sends faster than the disk takes; stop reading until it is not."""
        return len(self._pending) + self._unstored >= _MAX_PENDING

    async def open(self, clean_session: bool) -> None:
        """Take the device over from an earlier connection and go on where its session was."""
        device = self._device
        self._hub.attach(device, self)
        present = device.session_present and not clean_session
        if clean_session:
            device.subscriptions = {}
        if clean_session or not device.session_present:
            device.session_present = not clean_session
            await self._hub.save_session(device)
        self._send(packets.encode_connack(packets.ACCEPTED, session_present=present))
        self.messages_waiting()

    def closed(self) -> None:
        """The connection is gone."""
        self._closed = True
        self._hub.detach(self._device, self)

    def handle(self, packet: packets.Packet) -> None:
        """Act on one packet.

        Raises:
            ProtocolError: the connection must be closed.
        """
        self._hub.touch(self._device)
        match packet:
            case packets.Publish():
                self._publish(packet)
            case packets.PubAck(packet_id):
                self._acknowledged(packet_id)
            case packets.Subscribe():
                self._start(self._subscribe(packet))
            case packets.Unsubscribe():
                self._start(self._unsubscribe(packet))
            case packets.PingReq():
                self._send(packets.encode_pingresp())
            case packets.Disconnect():
                self._hang_up("the device said goodbye")
            case packets.Connect():
                raise packets.ProtocolError("a second CONNECT (3.1)")

    def desired_changed(self, patch: JsonObject, version: int) -> None:
        """DeviceLink."""
        if topics.TWIN_PATCHES in self._device.subscriptions:
            document = {**patch, "$version": version}
            self._hub.twins.told(document)
            self._send_json(topics.desired_patch(version), document)

    def call_method(self, name: str, request_id: str, payload: bytes) -> bool:
        """DeviceLink."""
        if topics.METHODS not in self._device.subscriptions:
            return False
        self._send(packets.Publish(topics.method_request(name, request_id), payload).encode())
        return True

    def messages_waiting(self) -> None:
        """DeviceLink."""
        qos = self._device.subscriptions.get(topics.devicebound(self._id))
        while qos is not None and not self._closed and len(self._on_wire) < _MAX_UNACKNOWLEDGED:
            message = self._hub.messages.deliver(self._device)
            if message is None:
                return
            topic = topics.message_topic(self._id, message)
            if qos == 0:
                self._send(packets.Publish(topic, message.body).encode())
                self._start(self._hub.messages.complete(self._device, message.sequence))
                continue
            packet_id = self._packet_id()
            self._on_wire[packet_id] = message.sequence
            again = message.deliveries > 1
            self._send(packets.Publish(topic, message.body, 1, packet_id, again).encode())

    def close(self, reason: str) -> None:
        """DeviceLink. From now on nothing is delivered here: it would wait for this device's next connection."""
        self._closed = True
        self._hang_up(reason)

    def _publish(self, packet: packets.Publish) -> None:
        publication = topics.parse_publication(packet.topic, self._id)
        match publication:
            case topics.Telemetry():
                self._telemetry(packet, publication)
            case topics.TwinGet():
                self._puback(packet)
                self._twin_get(publication)
            case topics.TwinReport():
                self._start(self._twin_report(packet, publication))
            case topics.MethodAnswer():
                self._puback(packet)
                self._method_answer(packet, publication)
            case None:
                raise packets.ProtocolError("a publication to a topic that IoT Hub does not have")

    def _telemetry(self, packet: packets.Publish, telemetry: topics.Telemetry) -> None:
        system, properties = telemetry.system, telemetry.properties
        fault = requested_fault(properties)
        if fault is not None:
            # never acknowledged: the C SDK's tests wait until the client gives it up, after it has sent it again
            if not packet.duplicate:
                self._start(self._fail(fault))
            return
        stored = functools.partial(self._stored, packet)
        try:
            # no task for each of them: most of what devices send is this
            device = self._device
            generation, system = device.identity.generation_id, device.with_model(system)
            self._hub.events.append_then(stored, self._id, generation, packet.payload, system, properties)
        except HubError as error:
            self._hang_up(str(error))
        else:
            self._unstored += 1

    def _stored(self, packet: packets.Publish) -> None:
        self._unstored -= 1
        self._puback(packet)

    async def _fail(self, fault: Fault) -> None:
        await asyncio.sleep(fault.delay)
        if fault.kind in (Kind.TCP, Kind.MQTT_SHUTDOWN, *REFUSALS):  # MQTT cannot say no otherwise
            self._hang_up(f"it asked for the fault {fault.kind}")

    def _twin_get(self, request: topics.TwinGet) -> None:
        try:
            document = self._hub.twins.read(self._device)
        except HubError as error:
            self._send_json(topics.twin_response(error.status, request.request_id), {"message": str(error)})
        else:
            # what it tells may be on its way to the disk: a crash took it back
            topic = topics.twin_response(200, request.request_id)
            self._hub.store.commit_then(functools.partial(self._send_json, topic, document))

    async def _twin_report(self, packet: packets.Publish, request: topics.TwinReport) -> None:
        try:
            patch = _json(packet.payload)
            if not isinstance(patch, dict):
                raise ArgumentInvalid("reported properties are an object")
            version = await self._hub.twins.report(self._device, patch, request.base)
        except HubError as error:
            self._puback(packet)
            self._send_json(topics.twin_response(error.status, request.request_id), {"message": str(error)})
            return
        self._puback(packet)
        self._send(packets.Publish(topics.twin_response(204, request.request_id, version), b"").encode())

    def _method_answer(self, packet: packets.Publish, answer: topics.MethodAnswer) -> None:
        try:
            payload = _json(packet.payload)
        except ArgumentInvalid as error:
            raise packets.ProtocolError(str(error)) from None
        self._hub.methods.answered(self._device, answer.request_id, answer.status, payload)

    def _acknowledged(self, packet_id: int) -> None:
        sequence = self._on_wire.pop(packet_id, None)
        if sequence is not None:
            self._start(self._hub.messages.complete(self._device, sequence))
            self.messages_waiting()

    async def _subscribe(self, packet: packets.Subscribe) -> None:
        allowed = topics.allowed_filters(self._id)
        codes = [min(qos, 1) if topic in allowed else 0x80 for topic, qos in packet.filters]
        granted = {topic: code for (topic, _), code in zip(packet.filters, codes, strict=True) if code != 0x80}
        self._device.subscriptions.update(granted)
        await self._hub.save_session(self._device)
        self._send(packets.encode_suback(packet.packet_id, codes))
        self.messages_waiting()

    async def _unsubscribe(self, packet: packets.Unsubscribe) -> None:
        for topic in packet.filters:
            self._device.subscriptions.pop(topic, None)
        await self._hub.save_session(self._device)
        self._send(packets.encode_unsuback(packet.packet_id))

    def _puback(self, packet: packets.Publish) -> None:
        if packet.qos:
            self._send(packets.PubAck(packet.packet_id).encode())

    def _send_json(self, topic: str, value: Any) -> None:
        self._send(packets.Publish(topic, compact_bytes(value)).encode())

    def _packet_id(self) -> int:
        while True:
            self._next_packet_id = self._next_packet_id % 0xFFFF + 1
            if self._next_packet_id not in self._on_wire:
                return self._next_packet_id

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HubError as error:
            self._hang_up(str(error))


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else None
    except (ValueError, RecursionError):
        raise ArgumentInvalid("the payload is not JSON") from None
