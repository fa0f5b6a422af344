# SPDX-License-Identifier: Apache-2.0
"""Many clients that lead nowhere, and clients that do not read: the hub cuts them, stays small, serves the others."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.iot.hub.models import Twin
from local_hub.amqp.encoding import Described, Symbol, UByte, UInt, encode
from local_hub.amqp.frames import SASL_HEADER
from local_hub.core.sas import key_bytes, sign
from local_hub.mqtt import packets, topics

Eventually = Callable[..., Any]
# A connection has its socket, its TLS state, two small buffers and one timer.
_BYTES_A_CONNECTION = 100 * 1024
_MEBIBYTE = 1024 * 1024
UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {}\r\n\r\n"
)


def memory(hub: Any) -> int:
    """What the hub's process holds, in bytes."""
    status = Path(f"/proc/{hub._process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def peak(hub: Any) -> int:
    status = Path(f"/proc/{hub._process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def log_of(hub: Any) -> str:
    return Path(hub.data.parent / f"{hub.data.name}.log").read_text()


def tls(hub: Any, port: int, buffer: int | None = None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
    plain = socket.socket()
    if buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.settimeout(10)
    plain.connect((hub.host, port))
    return context.wrap_socket(plain, server_hostname=hub.host)


def device(hub: Any, name: str, buffer: int | None = None) -> ssl.SSLSocket:
    """A connected device without an SDK."""
    identity = hub.registry().create_device_with_sas(name, None, None, "enabled")
    key = identity.authentication.symmetric_key.primary_key
    client = tls(hub, 8883, buffer)
    token = sign(f"{hub.host}/devices/{name}", key_bytes(key) or b"", int(time.time()) + 3600)
    texts = (name, f"{hub.host}/{name}/?api-version=2021-04-12", token)
    body = b"\x00\x04MQTT\x04\xc0\x00\x3c" + b"".join(struct.pack(">H", len(each)) + each.encode() for each in texts)
    client.sendall(bytes((0x10, 0x80 | len(body) & 0x7F, len(body) >> 7)) + body)
    assert client.recv(4) == packets.encode_connack(packets.ACCEPTED)
    return client


def subscribe(client: ssl.SSLSocket, topic: str) -> None:
    body = b"\x00\x01" + struct.pack(">H", len(topic)) + topic.encode() + b"\x01"
    client.sendall(bytes((0x82, len(body))) + body)
    assert client.recv(5)[:1] == b"\x90"


def ping(client: ssl.SSLSocket) -> None:
    client.sendall(b"\xc0\x00")
    assert client.recv(2) == packets.encode_pingresp()


def is_cut(client: socket.socket) -> bool:
    """Whether the hub has closed it. What it had said before is read away."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except OSError:
        return True
    return True


@pytest.fixture
def many_files() -> Iterator[int]:
    """Lets this process hold as many sockets as the system admits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(600)
def test_a_crowd_that_says_nothing_is_cut_and_nobody_else_notices(
    own_hub: Any, many_files: int, pytestconfig: pytest.Config, eventually: Eventually
) -> None:
    wanted = pytestconfig.getoption("connections", 2000)
    count = min(wanted, many_files - 300)
    steady = device(own_hub, "steady")
    before = memory(own_hub)
    crowd: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        lonely = [stack.enter_context(each) for each in lonely_clients(own_hub, patient=wanted > 2000)]
        began = time.monotonic()
        for number in range(count):
            port = (8883, 5671, own_hub.https_port)[number % 3]
            crowd.append(stack.enter_context(socket.create_connection((own_hub.host, port), timeout=20)))
        opened = time.monotonic() - began
        eventually(lambda: own_hub.registry().get_device("steady").connection_state == "Connected")
        grown = memory(own_hub) - before
        assert grown < 20 * _MEBIBYTE + count * _BYTES_A_CONNECTION, f"{grown // count} bytes a connection"
        ping(steady)
        with device(own_hub, "late") as late:
            ping(late)
        own_hub.registry().update_twin("steady", Twin(tags={"still": "there"}))
        print(f"{count} connections in {opened:.1f} s, {grown / count / 1024:.0f} KiB each")
        # slowloris: a little of a header now and then is no request
        deadline = time.monotonic() + 40
        alive: list[socket.socket] = [*crowd, *lonely]
        while alive and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lonely[0].send(b"x")
            alive = [each for each in alive if not is_cut(each)]
            time.sleep(0.5)
        assert not alive, f"{len(alive)} connections are still open"
        ping(steady)
    steady.close()
    assert memory(own_hub) - before < 20 * _MEBIBYTE + count * _BYTES_A_CONNECTION
    assert "Traceback" not in log_of(own_hub)


def lonely_clients(hub: Any, *, patient: bool) -> list[ssl.SSLSocket]:
    """Those who begin something and do not go on; over AMQP they have half a minute for it."""
    loris = tls(hub, hub.https_port)
    loris.sendall(b"GET /devices HTTP/1.1\r\nX-Slow: ")
    begun = tls(hub, 8883)
    begun.sendall(b"\x10\x40\x00\x04MQ")
    sockets = [loris, begun, tls(hub, 8883), tls(hub, hub.https_port)]
    protocols = [("/$iothub/websocket", "mqtt")]
    if patient:
        half = tls(hub, 5671)
        half.sendall(SASL_HEADER)
        sockets += [half, tls(hub, 5671)]
        protocols += [("/$servicebus/websocket", "AMQPWSB10")]
    for path, protocol in protocols:
        upgraded = tls(hub, hub.https_port)
        upgraded.sendall(UPGRADE.format(path, protocol).encode())
        assert upgraded.recv(4096).startswith(b"HTTP/1.1 101")
        sockets.append(upgraded)
    return sockets


def test_without_file_descriptors_new_clients_wait_and_old_ones_are_served(
    own_hub: Any, eventually: Eventually
) -> None:
    steady = device(own_hub, "steady")
    resource.prlimit(own_hub._process.pid, resource.RLIMIT_NOFILE, (120, 120))
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            plain = stack.enter_context(socket.socket())
            plain.setblocking(False)
            plain.connect_ex((own_hub.host, 8883))
        eventually(lambda: "cannot accept a connection" in log_of(own_hub))
        for _ in range(5):
            ping(steady)
    eventually(lambda: own_hub.registry().get_device_registry_statistics(), 30)
    ping(steady)
    steady.close()
    assert "Traceback" not in log_of(own_hub)


def test_a_device_that_does_not_read_is_cut(own_hub: Any, eventually: Eventually) -> None:
    registry = own_hub.registry()
    deaf = device(own_hub, "deaf", buffer=4096)
    subscribe(deaf, topics.TWIN_PATCHES)
    before = memory(own_hub)
    with requests.Session() as service:
        service.headers.update(own_hub.authorization())
        for number in range(400):
            text = f"{number:04}" + "x" * 3900
            patch = {"properties": {"desired": {f"p{part}": text for part in range(7)}}}
            address = f"{own_hub.url}/twins/deaf?api-version=2021-04-12"
            assert service.patch(address, json=patch, timeout=10).status_code == 200
            if "does not read" in log_of(own_hub):
                break
    eventually(lambda: registry.get_device("deaf").connection_state == "Disconnected")
    assert "the device does not read what it is sent" in log_of(own_hub)
    assert peak(own_hub) - before < 60 * _MEBIBYTE
    assert "Traceback" not in log_of(own_hub)
    deaf.close()


def test_readers_of_events_that_do_not_read_cost_little(own_hub: Any) -> None:
    with device(own_hub, "big") as sender:
        for number in range(1, 201):
            publish = packets.Publish("devices/big/messages/events/", b"x" * 250_000, 1, number)
            sender.sendall(publish.encode())
        got = b""
        while len(got) < 800:
            part = sender.recv(800)
            assert part
            got += part
    before = memory(own_hub)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(deaf_reader(own_hub))
        time.sleep(3)
        grown = max(memory(own_hub), peak(own_hub)) - before
        print(f"{grown / _MEBIBYTE:.0f} MiB for six readers")
        assert grown < 120 * _MEBIBYTE
        assert own_hub.registry().get_device("big").device_id == "big"
    assert "Traceback" not in log_of(own_hub)


def hear(client: ssl.SSLSocket, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        part = client.recv(4096)
        assert part, heard
        heard += part


def frame(code: int, *fields: Any, channel: int = 0, payload: bytes = b"") -> bytes:
    plain = (UInt(each) if type(each) is int else each for each in fields)
    body = encode(Described(code, list(plain))) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, 0, channel) + body


def anonymous(hub: Any) -> bytes:
    init = encode(Described(0x41, [Symbol("ANONYMOUS"), b"", hub.host]))
    return SASL_HEADER + struct.pack(">IBBH", len(init) + 8, 2, 1, 0) + init


def test_a_stranger_cannot_fill_the_memory_with_beginnings_of_messages(own_hub: Any) -> None:
    ends = Described(0x28, ["cbs"]), Described(0x29, ["$cbs"])
    before = memory(own_hub)
    with tls(own_hub, 5671) as client:
        client.sendall(anonymous(own_hub) + b"AMQP\x00\x01\x00\x00" + frame(0x10, "stranger", own_hub.host))
        for channel in range(30):
            client.sendall(frame(0x11, None, 0, 2**31 - 1, 2**31 - 1, channel=channel))
            for handle in range(4):
                name = f"{channel}-{handle}"
                attach = (name, handle, False, UByte(0), UByte(0), *ends, None, None, 0)
                client.sendall(frame(0x12, *attach, channel=channel))
        hear(client, b"29-3")
        with contextlib.suppress(OSError):
            for channel in range(30):
                for handle in range(4):
                    for _ in range(16):
                        transfer = (handle, handle, b"t", 0, False, True)
                        client.sendall(frame(0x14, *transfer, channel=channel, payload=b"x" * 60_000))
        assert memory(own_hub) - before < 40 * _MEBIBYTE
        assert is_cut(client)
    assert "Traceback" not in log_of(own_hub)


def deaf_reader(hub: Any) -> socket.socket:
    """A service that asks for all events and never reads one."""
    client = tls(hub, 5671, buffer=8192)

    def link(name: str, handle: int, receives: bool, source: str, target: str) -> bytes:
        ends = Described(0x28, [source]), Described(0x29, [target])
        return frame(0x12, name, handle, receives, UByte(0), UByte(0), *ends, None, None, 0)

    client.sendall(anonymous(hub))
    client.sendall(b"AMQP\x00\x01\x00\x00" + frame(0x10, "deaf", hub.host) + frame(0x11, None, 0, 2**31 - 1, 2**31 - 1))
    client.sendall(link("cbs-in", 0, True, "$cbs", "cbs") + link("cbs-out", 1, False, "cbs", "$cbs"))
    client.sendall(frame(0x13, 0, 2**31 - 1, 0, 2**31 - 1, 0, 0, 10))
    hear(client, b"cbs-out")  # before the hub has told its window nothing may be sent
    token = hub.authorization(3600)["Authorization"]
    application = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": hub.host}
    message = encode(Described(0x74, application)) + encode(Described(0x77, token))
    transfer = encode(Described(0x14, [UInt(1), UInt(0), b"1", UInt(0), True])) + message
    client.sendall(struct.pack(">IBBH", len(transfer) + 8, 2, 0, 0) + transfer)
    hear(client, b"status-code")
    for partition in range(2):
        address = f"local-hub/ConsumerGroups/$Default/Partitions/{partition}"
        client.sendall(link(address, 2 + partition, True, address, "here"))
        client.sendall(frame(0x13, 0, 2**31 - 1, 1, 2**31 - 1, 2 + partition, 0, 1000))
    return client
