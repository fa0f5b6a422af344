# SPDX-License-Identifier: Apache-2.0
"""Clients that are broken or hostile harm nobody else; people who err get one clear sentence."""

from __future__ import annotations

import contextlib
import copy
import random
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest


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


def test_the_log_has_no_tracebacks(hub: Any) -> None:
    log = (hub.data.parent / f"{hub.data.name}.log").read_text()
    assert "Traceback" not in log, log
