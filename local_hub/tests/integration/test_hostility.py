# SPDX-License-Identifier: Apache-2.0
"""Clients that are broken or hostile harm nobody else; people who err get one clear sentence."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import random
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from local_hub.core.sas import key_bytes, sign


def connect(hub: Any, port: int) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
    plain = socket.create_connection((hub.host, port), timeout=5)
    return context.wrap_socket(plain, server_hostname=hub.host)


@pytest.mark.parametrize("port", [5671, 8883])
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
        b"\xff" * 100_000,
        b"AMQP\x03\x01\x00\x00" + b"\xff" * 64,
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
        random.Random(1).randbytes(5000),
    ],
)
def test_nonsense_ends_the_connection_and_nothing_else(hub: Any, port: int, data: bytes) -> None:
    with connect(hub, port) as client:
        client.settimeout(8)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.sendall(data)
            while client.recv(4096):
                pass
    assert hub.registry().get_device_registry_statistics().total_device_count >= 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\xff" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"PUT /uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"PUT /uploads/..%2F..%2Fhub.db HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
        b"POST /devices/%2e%2e/messages/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_nonsense_on_the_https_port_is_refused(hub: Any, data: bytes) -> None:
    with connect(hub, hub.https_port) as client:
        client.settimeout(8)
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.sendall(data)
            answer = client.recv(4096)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    assert hub.registry().get_device_registry_statistics()


@pytest.mark.parametrize(
    "name", ["0neLocalHub/registrations/x/api", "x/registrations/nobody/", "a/registrations//", "/" * 500]
)
def test_provisioning_admits_nobody_by_mistake(hub: Any, name: str) -> None:
    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    client_id = name.split("/")[2]
    body = text("MQTT") + b"\x04\xc2\x00\x3c" + text(client_id) + text(name)
    for password in (
        "",
        "SharedAccessSignature sr=[&sig=x&se=99999999999",
        "SharedAccessSignature sr=0neLocalHub%2fregistrations%2fx&sig=x&se=99999999999",
    ):
        whole = body + text(password)
        with connect(hub, 8883) as client:
            client.settimeout(8)
            client.sendall(b"\x10" + bytes((len(whole) & 0x7F | 0x80, len(whole) >> 7)) + whole)
            answer = client.recv(100)
            assert answer[:2] == b"\x20\x02"
            assert answer[3] != 0


def test_plain_text_where_tls_is_spoken_harms_nothing(hub: Any) -> None:
    for port in (5671, 8883):
        with socket.create_connection((hub.host, port), timeout=5) as client:
            client.sendall(b"hello\r\n\r\n")
            client.settimeout(5)
            with contextlib.suppress(OSError):
                client.recv(100)
    assert hub.registry().get_device_registry_statistics()


def test_a_taken_port_is_one_sentence(hub: Any) -> None:
    other = copy.copy(hub)
    other.data = hub.data.parent / "other"
    failed = other.command("serve")
    assert failed.returncode == 1
    assert "cannot listen on" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_directory_in_use_is_one_sentence(hub: Any) -> None:
    failed = hub.command("serve")
    assert failed.returncode == 1
    assert "another hub serves from" in failed.stderr


def test_waiting_for_a_hub_that_is_not_there_ends(hub: Any, tmp_path: Path) -> None:
    other = copy.copy(hub)
    other.data, other.https_port = tmp_path / "none", 1
    failed = other.command("wait", "--timeout", "0.5")
    assert failed.returncode == 1
    assert "no answer" in failed.stderr


def memory(hub: Any) -> int:
    """What the hub's process holds, in bytes."""
    status = Path(f"/proc/{hub._process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def pour(client: ssl.SSLSocket, begin: bytes, junk: bytes, times: int) -> bytes:
    """Begin, then send as long as the hub takes it; give what it said first."""
    client.settimeout(8)
    answer = b""
    with contextlib.suppress(OSError):
        client.sendall(begin)
        for _ in range(times):
            client.sendall(junk)
    with contextlib.suppress(OSError):
        answer = client.recv(4096)
    return answer


def framed(first: int, body: bytes) -> bytes:
    """A packet of MQTT with 128 to 16383 bytes, or fewer."""
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 0x7F | 0x80, len(body) >> 7))
    return bytes((first,)) + size + body


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def connected(hub: Any, device_id: str) -> ssl.SSLSocket:
    """A device without an SDK."""
    identity = hub.registry().create_device_with_sas(device_id, None, None, "enabled")
    key = identity.authentication.symmetric_key.primary_key
    token = sign(f"{hub.host}/devices/{device_id}", key_bytes(key) or b"", int(time.time()) + 600)
    client = connect(hub, 8883)
    fields = text(device_id) + text(f"{hub.host}/{device_id}/?api-version=2021-04-12") + text(token)
    client.sendall(framed(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + fields))
    assert client.recv(4) == b"\x20\x02\x00\x00"
    return client


WEBSOCKET = (
    b"GET /$iothub/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
ANONYMOUS = b"AMQP\x03\x01\x00\x00" + bytes.fromhex("00000019020100000053 41 c00c01a309") + b"ANONYMOUS"
MEBIBYTE = b"\xa5" * 1024 * 1024


@pytest.mark.parametrize(
    ("port", "begin"),
    [
        pytest.param(8883, b"\x10\xff\xff\xff\x7f", id="MQTT CONNECT of 256 MiB"),
        pytest.param(
            8883, framed(0x10, text("MQTT") + b"\x04\xc2\x00\x3c\xff\xff"), id="MQTT client id beyond CONNECT"
        ),
        pytest.param(5671, b"AMQP\x03\x01\x00\x00\xff\xff\xff\xff\x02\x01\x00\x00", id="SASL frame of 4 GiB"),
        pytest.param(
            5671, ANONYMOUS + b"AMQP\x00\x01\x00\x00\xff\xff\xff\xff\x02\x00\x00\x00", id="AMQP frame of 4 GiB"
        ),
        pytest.param(
            5671,
            ANONYMOUS + b"AMQP\x00\x01\x00\x00\x00\x00\x00\x11\x02\x00\x00\x00\x00S\x10\xd0\xff\xff",
            id="AMQP list of 4 GiB",
        ),
        pytest.param(0, WEBSOCKET + b"\x82\xff\x00\x00\x01" + b"\x00" * 5 + b"mask", id="WebSocket frame of 1 TiB"),
        pytest.param(0, WEBSOCKET + b"\x02\xfe\xff\xffmask" + MEBIBYTE[:65535], id="WebSocket message without an end"),
        pytest.param(0, WEBSOCKET + b"\x89\xfe\xff\xffmask", id="WebSocket ping of 64 KiB"),
        pytest.param(
            0, b"POST /devices HTTP/1.1\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n", id="HTTP body of 1 EB"
        ),
        pytest.param(
            0,
            b"POST /devices HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
            id="HTTP chunk of 256 TiB",
        ),
    ],
)
def test_what_declares_a_huge_length_is_cut_and_costs_no_memory(hub: Any, port: int, begin: bytes) -> None:
    before = memory(hub)
    with connect(hub, port or hub.https_port) as client:
        pour(client, begin, MEBIBYTE, 24)
    assert memory(hub) - before < 12 * 1024 * 1024
    assert hub.registry().get_device_registry_statistics()


def test_a_body_that_grows_when_it_is_unpacked_is_refused(hub: Any) -> None:
    before = memory(hub)
    bomb = gzip.compress(b" " * 200 * 1024 * 1024)
    refused = hub.request("PUT", "/devices/bomb", data=bomb, headers={"Content-Encoding": "gzip"})
    assert 400 <= refused.status_code < 500
    assert memory(hub) - before < 30 * 1024 * 1024


DEEP = {
    "arrays": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "open arrays": b"[" * 250_000,
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/twins/deep"),
        ("PUT", "/devices/deep"),
        ("POST", "/devices"),
        ("POST", "/devices/query"),
        ("PUT", "/configurations/deep"),
        ("PUT", "/jobs/v2/deep"),
        ("POST", "/twins/deep/methods"),
    ],
)
def test_deep_json_is_refused(hub: Any, method: str, path: str, kind: str) -> None:
    for data in (DEEP[kind], b'{"tags":{"a":' + DEEP[kind] + b"}}"):
        assert hub.request(method, path, data=data).status_code == 400


def test_nothing_that_a_device_reports_makes_its_twin_unreadable(hub: Any) -> None:
    """Depths at which one reader of JSON still follows and the next does not."""
    with connected(hub, "abyss") as client:
        client.settimeout(10)
        topic = text("$iothub/twin/PATCH/properties/reported/?$rid=1")
        for depth in (1, 20, 100, *range(900, 1000, 3), 60_000):
            body = topic + struct.pack(">H", 7) + b'{"a":{"b":' + b"[" * depth + b"]" * depth + b"}}"
            client.sendall(_long(0x32, body))
            heard = b""
            while b"\x40\x02\x00\x07" not in heard or b"$rid=1" not in heard:
                heard += client.recv(4096)
    assert hub.request("GET", "/twins/abyss").status_code == 200
    query = {"query": "SELECT * FROM devices WHERE deviceId = 'abyss'"}
    assert hub.request("POST", "/devices/query", json=query).status_code == 200


def _long(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while size:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
    return bytes((first, *length)) + body


def test_half_a_surrogate_reaches_the_device_and_harms_nothing(hub: Any) -> None:
    with connected(hub, "half") as client:
        client.settimeout(10)
        topic = "$iothub/twin/PATCH/properties/desired/#"
        client.sendall(framed(0x82, b"\x00\x01" + text(topic) + b"\x01"))
        assert client.recv(5)[:1] == b"\x90"
        body = b'{"properties":{"desired":{"a":"\\ud800"}},"tags":{"b":"\\udfff"}}'
        assert hub.request("PATCH", "/twins/half", data=body).status_code == 200
        assert b'"\\ud800"' in client.recv(4096)
    for path in ("/twins/half", "/devices/half"):
        assert hub.request("GET", path).status_code == 200


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_after_a_valid_connect_end_the_connection(hub: Any, seed: int) -> None:
    chance = random.Random(seed)
    with connected(hub, f"random-{seed}") as client:
        # a PUBLISH to nowhere at the end, lest random bytes wait for more of their kind
        pour(client, chance.randbytes(chance.randrange(1, 3000)), b"\x30\x05\x00\x03abc" * 1000, 50)
        assert client.recv(100) == b""


@pytest.mark.parametrize("credential", [b"\xff\xfe", b"SharedAccessSignature sr=\xff&sig=\xff&se=1", b"x" * 8000])
@pytest.mark.parametrize("path", ["/devices", "/devices/d/messages/devicebound", "/uploads/x"])
def test_a_credential_that_is_no_text_is_refused(hub: Any, path: str, credential: bytes) -> None:
    request = f"GET {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ".encode()
    with connect(hub, hub.https_port) as client:
        answer = pour(client, request + credential + b"\r\n\r\n", b"", 0)
    assert answer.startswith(b"HTTP/1.1 4"), answer


ODD: list[Any] = [None, True, 0, -1, 1e308, "", "x", "\ud800", [], [1], [[]], {}, {"a": 1}, {"a": [None]}]
FIELDS = [
    "deviceId",
    "status",
    "statusReason",
    "authentication",
    "capabilities",
    "tags",
    "properties",
    "query",
    "id",
    "labels",
    "content",
    "priority",
    "targetCondition",
    "metrics",
    "jobId",
    "type",
    "queryCondition",
    "updateTwin",
    "startTime",
    "maxExecutionTimeInSeconds",
    "methodName",
    "payload",
    "responseTimeoutInSeconds",
    "connectTimeoutInSeconds",
    "cloudToDeviceMethod",
    "importMode",
    "moduleId",
    "eTag",
    "twinETag",
    "managedBy",
    "outputBlobContainerUri",
    "inputBlobContainerUri",
    "etag",
    "schemaVersion",
    "targetCondition",
    "customMetricQueries",
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/devices/odd"),
        ("POST", "/devices"),
        ("PUT", "/devices/odd/modules/m"),
        ("PATCH", "/twins/odd"),
        ("PUT", "/twins/odd"),
        ("POST", "/twins/odd/methods"),
        ("POST", "/devices/query"),
        ("PUT", "/configurations/odd"),
        ("POST", "/configurations/testQueries"),
        ("POST", "/devices/odd/applyConfigurationContent"),
        ("PUT", "/jobs/v2/odd"),
        ("POST", "/jobs/create"),
        ("PUT", "/enrollments/odd"),
        ("PUT", "/enrollmentGroups/odd"),
    ],
)
def test_values_of_a_wrong_type_are_the_clients_fault(hub: Any, method: str, path: str) -> None:
    chance = random.Random(path)
    bodies: list[Any] = [*ODD]
    for _ in range(80):
        fields = {name: chance.choice(ODD) for name in chance.sample(FIELDS, chance.randrange(1, 6))}
        inner = {
            name: chance.choice(ODD) for name in ("desired", "symmetricKey", "x509Thumbprint", "iotEdge", "queries")
        }
        bodies.append({**fields, chance.choice(FIELDS): inner})
    if (method, path) == ("POST", "/devices"):
        bodies = [*bodies, *([body] for body in bodies)]
    hub.request("PUT", "/devices/odd", json={"deviceId": "odd", "capabilities": {"iotEdge": True}})
    with requests.Session() as session:
        session.verify = hub.environment["IOTHUB_CA_FILE"]
        session.headers.update(hub.authorization())
        for body in bodies:
            answer = session.request(
                method, hub.url + path, params={"api-version": "2021-04-12"}, data=json.dumps(body), timeout=10
            )
            assert answer.status_code < 500 or answer.status_code == 504, (body, answer.text)


def test_the_log_has_no_tracebacks(hub: Any) -> None:
    log = (hub.data.parent / f"{hub.data.name}.log").read_text()
    assert "Traceback" not in log, log
