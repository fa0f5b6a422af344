# SPDX-License-Identifier: Apache-2.0
"""A device that registers over MQTT: it asks, and hears the answers on `$dps/registrations/res/#`.

azure/iot/device/provisioning/pipeline/mqtt_topic_provisioning.py
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from ..core.errors import ArgumentInvalid, HubError
from ..hub.hub import Hub
from ..hub.provisioning import RETRY_AFTER, Applicant
from . import packets

ANSWERS = "$dps/registrations/res/#"
_USER = re.compile(r"([^/]{1,64})/registrations/([^/]{1,128})/.*", re.DOTALL)
_ASK = re.compile(r"\$dps/registrations/(PUT/iotdps-register|GET/iotdps-get-operationstatus)/?\?(.{1,512})")
_MAX_PENDING = 20


def registration_of(packet: packets.Connect) -> tuple[str, str] | None:
    """Scope and registration id, if this CONNECT is for provisioning."""
    match = _USER.fullmatch(packet.username or "")
    return (match[1], match[2]) if match and match[2] == packet.client_id else None


class ProvisioningSession:
    """As mqtt/session.py's `Session`, for a device that is none yet."""

    def __init__(
        self, hub: Hub, applicant: Applicant, send: Callable[[bytes], None], hang_up: Callable[[str], None]
    ) -> None:
        self._hub = hub
        self._applicant = applicant
        self._send = send
        self._hang_up = hang_up
        self._qos: int | None = None
        self._packet_id = 0
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def overloaded(self) -> bool:
        """Whether to stop reading."""
        return len(self._pending) >= _MAX_PENDING

    async def open(self, clean_session: bool) -> None:
        """There is nothing to go on with."""
        self._send(packets.encode_connack(packets.ACCEPTED))

    def closed(self) -> None:
        """The connection is gone; a registration that has begun is finished all the same."""

    def handle(self, packet: packets.Packet) -> None:
        """Act on one packet.

        Raises:
            ProtocolError: the connection must be closed.
        """
        match packet:
            case packets.Publish():
                self._ask(packet)
            case packets.Subscribe():
                codes = [min(qos, 1) if topic == ANSWERS else 0x80 for topic, qos in packet.filters]
                self._qos = next((code for code in codes if code != 0x80), self._qos)
                self._send(packets.encode_suback(packet.packet_id, codes))
            case packets.Unsubscribe():
                self._qos = None if ANSWERS in packet.filters else self._qos
                self._send(packets.encode_unsuback(packet.packet_id))
            case packets.PingReq():
                self._send(packets.encode_pingresp())
            case packets.Disconnect():
                self._hang_up("the device said goodbye")
            case packets.PubAck():
                pass
            case packets.Connect():
                raise packets.ProtocolError("a second CONNECT (3.1)")

    def _ask(self, packet: packets.Publish) -> None:
        match = _ASK.fullmatch(packet.topic)
        if match is None:
            raise packets.ProtocolError("a publication to a topic that provisioning does not have")
        pairs = (part.partition("=") for part in match[2].split("&"))
        query = {unquote(name): unquote(value) for name, _, value in pairs}
        if packet.qos:
            self._send(packets.PubAck(packet.packet_id).encode())
        task = asyncio.get_running_loop().create_task(self._answer(match[1].startswith("PUT"), query, packet.payload))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _answer(self, register: bool, query: dict[str, str], payload: bytes) -> None:
        try:
            if register:
                answer = await self._hub.provisioning.register(self._applicant, registration_body(payload))
                status = 202
            else:
                answer = self._hub.provisioning.operation(self._applicant, query.get("operationId", ""))
                status = 200
        except HubError as error:
            answer, status = self._hub.provisioning.refusal(error), error.status
        if self._qos is not None:
            suffix = f"&retry-after={RETRY_AFTER}" if status == 202 else ""
            topic = f"$dps/registrations/res/{status}/?$rid={quote(query.get('$rid', ''), safe='')}{suffix}"
            # what is not acknowledged is not sent again: the device would ask again before
            self._packet_id = self._packet_id % 0xFFFF + 1
            self._send(packets.Publish(topic, json.dumps(answer).encode(), self._qos, self._packet_id).encode())


def registration_body(payload: bytes) -> dict[str, Any]:
    """What a device says of itself when it registers.

    Raises:
        ArgumentInvalid: it is not an object.
    """
    try:
        body = json.loads(payload or b"{}")
    except (ValueError, RecursionError):
        raise ArgumentInvalid("the payload is not JSON") from None
    if not isinstance(body, dict):
        raise ArgumentInvalid("the payload is not an object")
    return body
