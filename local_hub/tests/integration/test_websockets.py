# SPDX-License-Identifier: Apache-2.0
"""MQTT and AMQP inside WebSockets: Microsoft's SDKs, and clients that break the rules of WebSockets.

The SDKs insist on port 443, which needs root; only that number is changed here. `make conformance` runs them with it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client
import pytest
import uamqp
from azure.eventhub import TransportType
from azure.eventhub.aio import EventHubConsumerClient
from azure.iot.device import IoTHubDeviceClient, Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from local_hub.amqp.encoding import Described, encode
from local_hub.core.sas import key_bytes, sign
from local_hub.mqtt.packets import Publish

Eventually = Callable[..., Any]
MQTT, AMQP = "/$iothub/websocket", "/$servicebus/websocket"


@pytest.fixture
def port(hub: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    connect = paho.mqtt.client.Client.connect

    def elsewhere(client: Any, host: str, port: int = 443, **options: Any) -> Any:
        return connect(client, host=host, port=hub.https_port if port == 443 else port, **options)

    monkeypatch.setattr(paho.mqtt.client.Client, "connect", elsewhere)
    monkeypatch.setattr(uamqp.constants, "DEFAULT_AMQP_WSS_PORT", hub.https_port)
    return int(hub.https_port)


def device(hub: Any, device_id: str) -> Any:
    created = hub.registry().create_device_with_sas(device_id, None, None, "enabled")
    key = created.authentication.symmetric_key.primary_key
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={hub.host};DeviceId={device_id};SharedAccessKey={key}",
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
        websockets=True,
    )
    hub._devices.append(client)
    return client


def test_a_device_works_over_a_websocket(hub: Any, port: int, eventually: Eventually) -> None:
    client = device(hub, "ws-1")
    got: list[Any] = []
    client.on_message_received = got.append
    client.connect()
    assert hub.registry().get_device("ws-1").connection_state == "Connected"
    assert client.get_twin()["desired"] == {"$version": 1}
    client.patch_twin_reported_properties({"big": "x" * 2000, "list": list(range(100))})
    assert hub.registry().get_twin("ws-1").properties.reported["big"] == "x" * 2000
    client.send_message(Message("y" * 200_000))
    # And a service whose AMQP goes through a WebSocket too.
    service = IoTHubRegistryManager.from_connection_string(
        hub.connection_string, transport_type=uamqp.TransportType.AmqpOverWebsocket
    )
    service.send_c2d_message("ws-1", "z" * 60_000, {"a": "b"})
    assert len(eventually(lambda: got)[0].data) == 60_000
    client.disconnect()
    eventually(lambda: hub.registry().get_device("ws-1").connection_state == "Disconnected")


def test_events_are_read_over_a_websocket(hub: Any, port: int) -> None:
    client = device(hub, "ws-2")
    client.connect()
    for number in range(20):
        client.send_message(f"event {number}")
    bodies: list[str] = []
    complete = asyncio.Event()

    async def take(partition: Any, event: Any) -> None:
        if event and event.system_properties[b"iothub-connection-device-id"] == b"ws-2":
            bodies.append(event.body_as_str())
            if len(bodies) == 20:
                complete.set()

    async def read() -> None:
        consumer = EventHubConsumerClient.from_connection_string(
            hub.environment["EVENTHUB_CONNECTION_STRING"],
            "$Default",
            connection_verify=hub.environment["IOTHUB_CA_FILE"],
            transport_type=TransportType.AmqpOverWebsocket,
            custom_endpoint_address=f"https://{hub.host}:{port}",
            retry_total=0,
        )
        async with consumer:
            reading = asyncio.create_task(consumer.receive(take, starting_position="-1"))
            async with asyncio.timeout(20):
                await complete.wait()
            reading.cancel()

    asyncio.run(read())
    assert bodies == [f"event {each}" for each in range(20)]


class RawWebSocket:
    """A client that knows only the handshake, to send what no library would."""

    def __init__(self, hub: Any, path: str, subprotocol: str) -> None:
        context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
        plain = socket.create_connection((hub.host, hub.https_port), timeout=8)
        self.socket = context.wrap_socket(plain, server_hostname=hub.host)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {hub.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
        )
        self.answer = self.socket.recv(4096).decode()

    def frame(self, opcode: int, data: bytes, length: int | None = None) -> None:
        size = len(data) if length is None else length
        self.socket.sendall(struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size) + bytes(4) + data)

    def ends(self) -> bool:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self.socket.recv(65536):
                pass
        self.socket.close()
        return True


@pytest.mark.parametrize(("path", "subprotocol"), [(MQTT, "mqtt"), (MQTT, "MQTT"), (AMQP, "AMQPWSB10")])
def test_frames_that_are_too_long_or_nonsense_end_the_connection(hub: Any, path: str, subprotocol: str) -> None:
    for opcode, data, length in [
        (2, b"\xff" * 100_000, None),
        (2, b"\x10" * 100, 2**62),
        (2, b"\x10" * 100, 600 * 1024),
        (1, b"text", None),
        (5, b"an opcode that does not exist", None),
        (2, b"\x10\xff\xff\xff\xff\xff", None),
    ]:
        client = RawWebSocket(hub, path, subprotocol)
        assert " 101 " in client.answer
        assert subprotocol in client.answer
        assert "deflate" not in client.answer
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.frame(opcode, data, length)
        assert client.ends()
    assert hub.registry().get_device_registry_statistics()


def test_mqtt_is_also_where_paho_looks_for_it(hub: Any) -> None:
    """The provisioning client of the Java SDK names no path (MqttConnection.java), and paho then takes this one."""
    assert " 101 " in RawWebSocket(hub, "/mqtt", "mqtt").answer


@pytest.mark.parametrize("subprotocol", ["AMQPWSB10", "mqtt"])
def test_a_websocket_needs_no_path(hub: Any, subprotocol: str) -> None:
    """The provisioning clients of the C# SDK ask for none (AmqpClientConnection.cs)."""
    answer = RawWebSocket(hub, "/", subprotocol).answer
    assert " 101 " in answer
    assert subprotocol in answer


def test_a_hub_that_stops_says_so_over_a_websocket(own_hub: Any) -> None:
    """As in test_amqp_server.py: the Java SDK does not notice otherwise."""
    client = RawWebSocket(own_hub, MQTT, "AMQPWSB10")
    begin = encode(Described(0x10, ["peer"]))
    client.frame(2, b"AMQP\x00\x01\x00\x00" + struct.pack(">IBBH", len(begin) + 8, 2, 0, 0) + begin)
    assert b"AMQP" in client.socket.recv(4096)
    own_hub.stop()
    said = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := client.socket.recv(4096):
            said += data
    client.socket.close()
    own_hub.start()
    assert b"amqp:connection:forced" in said


def test_a_device_that_asks_and_does_not_listen_is_cut(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    key = registry.create_device_with_sas("ws-3", None, None, "enabled").authentication.symmetric_key.primary_key
    registry.update_twin("ws-3", Twin(properties=TwinProperties(desired={f"p{n}": "x" * 4000 for n in range(7)})))
    token = sign(f"{hub.host}/devices/ws-3", key_bytes(key) or b"", int(time.time()) + 600)
    connect = b"".join(
        struct.pack(">H", len(text)) + text.encode()
        for text in ("ws-3", f"{hub.host}/ws-3/?api-version=2021-04-12", token)
    )
    client = RawWebSocket(hub, MQTT, "mqtt")
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + connect
    client.frame(2, b"\x10" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body)
    eventually(lambda: registry.get_device("ws-3").connection_state == "Connected")
    ask = Publish("$iothub/twin/GET/?$rid=1", b"").encode() * 20
    with contextlib.suppress(OSError):
        for _ in range(1000):
            client.frame(2, ask)
    eventually(lambda: registry.get_device("ws-3").connection_state == "Disconnected")
    client.socket.close()


def test_who_stays_silent_is_cut(hub: Any) -> None:
    """Neither a socket without a request nor a WebSocket without CONNECT stays."""
    context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
    silent = context.wrap_socket(socket.create_connection((hub.host, hub.https_port)), server_hostname=hub.host)
    silent.settimeout(30)
    silent.sendall(b"GET / HTTP/1.1\r\nHost:")
    client = RawWebSocket(hub, MQTT, "mqtt")
    client.socket.settimeout(20)
    began = time.monotonic()
    assert client.ends()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        assert not silent.recv(100)
    assert time.monotonic() - began < 25


def test_a_websocket_needs_a_handshake(hub: Any) -> None:
    assert hub.request("GET", MQTT).status_code == 426
    assert hub.request("GET", AMQP).status_code == 426
