# SPDX-License-Identifier: Apache-2.0
"""The TLS transport, with the standard library's `ssl` as its client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from local_hub.certificates import Certificates

from local_hub import tls

MEGABYTE = bytes(range(256)) * 4096


@dataclass
class Recorder(asyncio.Protocol):
    """Notes what happens, and answers as it is told."""

    answer: Callable[[asyncio.Transport, bytes], None] = lambda transport, data: transport.write(data)
    events: list[str] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.answer(self.transport, data)

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {type(exc).__name__}" if exc else "lost")


@dataclass
class Server:
    """A listener whose protocols are at hand."""

    port: int
    authority: Path
    protocols: list[Recorder] = field(default_factory=list)
    answer: Callable[[asyncio.Transport, bytes], None] = lambda transport, data: transport.write(data)

    def protocol(self) -> Recorder:
        self.protocols.append(Recorder(self.answer))
        return self.protocols[-1]

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.authority)
        return await asyncio.open_connection("localhost", self.port, ssl=context, limit=4 * len(MEGABYTE))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.ensure(frozenset({"localhost", "127.0.0.1"}), datetime.now(UTC))
    return made


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(probe.getsockname()[1], certificates.ca)
    listener = tls.TlsListener(server.protocol, certificates.server_context())
    listener.start("127.0.0.1", server.port)
    yield server
    listener.close()
    for protocol in server.protocols:
        protocol.transport.abort()
    await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no event
            await asyncio.sleep(0.01)


async def test_a_megabyte_there_and_back(server: Server) -> None:
    reader, writer = await server.client()
    writer.write(MEGABYTE)
    assert await asyncio.wait_for(reader.readexactly(len(MEGABYTE)), 10) == MEGABYTE
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    await until(lambda: server.protocols[0].events[-1] == "lost")


async def test_what_was_written_before_a_close_arrives_though_the_client_still_sends(server: Server) -> None:
    def refuse(transport: asyncio.Transport, data: bytes) -> None:
        transport.write(MEGABYTE)
        transport.close()
        transport.write(b"too late")

    server.answer = refuse
    reader, writer = await server.client()
    writer.write(MEGABYTE)
    assert await asyncio.wait_for(reader.read(), 10) == MEGABYTE
    writer.close()
    assert server.protocols[0].events == ["made", "lost"] or "pause" in server.protocols[0].events


async def test_a_client_that_does_not_read_makes_the_protocol_wait(server: Server) -> None:
    server.answer = lambda transport, data: transport.write(8 * MEGABYTE)
    reader, writer = await server.client()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"go")
    await until(lambda: server.protocols and "pause" in server.protocols[0].events)
    waiting = server.protocols[0].transport.get_write_buffer_size()
    assert 0 < waiting < 8 * len(MEGABYTE)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await asyncio.wait_for(reader.readexactly(8 * len(MEGABYTE)), 20) == 8 * MEGABYTE
    await until(lambda: "resume" in server.protocols[0].events)


async def test_a_client_that_never_reads_is_cut_when_the_hub_has_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_CLOSING_TIMEOUT", 0.2)
    server.answer = lambda transport, data: (transport.write(64 * MEGABYTE), transport.close())[0]
    _, writer = await server.client()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"go")
    await until(lambda: server.protocols and server.protocols[-1].events[-1:] == ["lost TimeoutError"])
    writer.transport.abort()


async def test_a_paused_protocol_is_given_nothing_and_then_all_of_it(server: Server) -> None:
    server.answer = lambda transport, data: transport.pause_reading()
    _, writer = await server.client()
    writer.write(b"one")
    await until(lambda: server.protocols and server.protocols[0].received == b"one")
    writer.write(MEGABYTE)
    await asyncio.sleep(0.1)
    assert server.protocols[0].received == b"one"
    server.protocols[0].answer = lambda transport, data: None
    server.protocols[0].transport.resume_reading()
    await until(lambda: len(server.protocols[0].received) == 3 + len(MEGABYTE))
    writer.transport.abort()


async def test_whoever_does_not_finish_the_handshake_is_cut(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_HANDSHAKE_TIMEOUT", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert server.protocols == []
    writer.close()


async def test_what_is_not_tls_is_cut_at_once(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    assert server.protocols == []
    writer.close()


async def test_old_versions_of_tls_are_refused(server: Server) -> None:
    context = ssl.create_default_context(cafile=server.authority)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("localhost", server.port, ssl=context)


async def test_a_client_that_vanishes_is_the_end_of_its_connection(server: Server) -> None:
    _, writer = await server.client()
    writer.write(b"here")
    await until(lambda: server.protocols and server.protocols[0].received == b"here")
    writer.transport.abort()
    await until(lambda: server.protocols[0].events[-1].startswith("lost"))
    server.protocols[0].transport.write(b"nobody hears it")
    assert server.protocols[0].transport.is_closing()
    assert server.protocols[0].transport.get_extra_info("peername") is None
