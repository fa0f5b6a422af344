# SPDX-License-Identifier: Apache-2.0
"""One connection of a device, with bytes in and out and no socket."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_hub.core.enrollment import new_enrollment
from local_hub.core.errors import ThrottlingException
from local_hub.core.policy import OWNER
from local_hub.core.quota import Operation, plan
from local_hub.hub.hub import Hub
from local_hub.hub.provisioning import Applicant
from local_hub.mqtt import packets
from local_hub.mqtt.provisioning import ProvisioningSession
from local_hub.mqtt.server import MqttServer

KEY = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="


class Line(asyncio.Transport):
    """What a connection writes to, and whether it hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.hung_up = asyncio.Event()
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.hung_up.set()

    def abort(self) -> None:
        self.aborted = True
        self.hung_up.set()

    def is_closing(self) -> bool:
        return self.hung_up.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered here."""


def connect(device: str) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    body = text("MQTT") + bytes((4, 0xC0)) + struct.pack(">H", 60) + text(device)
    body += text(f"localhost/{device}/?api-version=2019-10-01") + text("SharedAccessSignature wrong")
    return bytes((0x10, len(body))) + body


@pytest.mark.parametrize(("spent", "code"), [(False, packets.NOT_AUTHORIZED), (True, packets.UNAVAILABLE)])
async def test_a_connect_too_many_is_told_that_the_hub_is_busy(tmp_path: Path, spent: bool, code: int) -> None:
    """CONNACK 3, after which a client comes back later; 5 would tell it that its key is wrong."""

    def failed(error: Exception) -> None:
        raise AssertionError(error)

    limits = plan("S1", 1)
    limits = replace(limits, rates={**limits.rates, Operation.CONNECT: 1.0})
    hub = Hub(tmp_path / "hub.sqlite", {OWNER: KEY}, frozenset({"localhost"}), failed, limits=limits)
    hub.start()
    await hub.registry.put("one", {}, None)
    if spent:
        with contextlib.suppress(ThrottlingException):
            for _ in range(10_000):
                hub.meter.admit(Operation.CONNECT)
    line, connection = Line(), MqttServer(hub).connection()
    connection.connection_made(line)
    connection.data_received(connect("one"))  # type: ignore[attr-defined]
    await asyncio.wait_for(line.hung_up.wait(), 10)
    assert line.written == packets.encode_connack(code)
    connection.connection_lost(None)
    await hub.close()


@pytest.mark.parametrize("qos", [0, 1])
async def test_answers_of_provisioning_come_as_they_are_subscribed(tmp_path: Path, qos: int) -> None:
    """The C# SDK acknowledges each answer by its number (ProvisioningChannelHandlerAdapter.cs): without one, by 0."""

    def failed(error: Exception) -> None:
        raise AssertionError(error)

    hub = Hub(tmp_path / "hub.sqlite", {OWNER: KEY}, frozenset({"localhost"}), failed)
    hub.start()
    written: list[bytes] = []
    answered = asyncio.Event()

    def write(data: bytes) -> None:
        written.append(data)
        if len(written) == 3:  # the acknowledgement of the subscription and two answers
            answered.set()

    enrollment = new_enrollment("one", {"attestation": {"type": "symmetricKey"}}, None, 0.0, group=False)
    applicant = Applicant("one", enrollment, (), 0.0)
    session = ProvisioningSession(hub, applicant, write, lambda reason: failed(AssertionError(reason)))
    session.handle(packets.Subscribe(7, (("$dps/registrations/res/#", qos),)))
    for number in (1, 2):
        topic = f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid={number}&operationId=none"
        session.handle(packets.Publish(topic, b"", 0))
    await asyncio.wait_for(answered.wait(), 5)
    await hub.close()
    answers = list(packets.PacketReader().feed(b"".join(written[1:])))
    assert [(answer.qos, answer.packet_id) for answer in answers if isinstance(answer, packets.Publish)] == (
        [(1, 1), (1, 2)] if qos else [(0, 0), (0, 0)]
    )
