# SPDX-License-Identifier: GPL-3.0-or-later
"""A load of MQTT 3.1.1 devices over TLS, the same for any broker; a process of its own, so that it is never measured.

    python -m bench.mqtt_load <plan.json

Reads a plan, then obeys lines on its standard input, and answers each with a line of JSON:

    connect FIRST COUNT            open connections and subscribe; {"seconds": s}
    publish FIRST COUNT MESSAGES   each device sends that many at QoS 1, `window` at a time; {"seconds": s}
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import json
import ssl
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

_TLS_BUFFER = 16384
_AT_ONCE = 50
_DEADLINE = 600.0


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
        if not size:
            return bytes((first,)) + bytes(length) + body


class _Device(asyncio.Protocol):
    """One connection. Answers are counted, not looked at: none of them is longer than a few bytes."""

    def __init__(self, plan: dict[str, Any], number: int) -> None:
        self._plan = plan
        self._name = plan["device"].format(number)
        self._password = plan["passwords"][number] if plan["passwords"] else None
        self._buffer = b""
        self._left = self._waiting = 0
        self._publication = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        flags, credentials = 0x02, b""
        if self._password is not None:
            flags |= 0xC0
            credentials = _text(self._plan["username"].format(self._name)) + _text(self._password)
        connect = _text("MQTT") + bytes((4, flags)) + struct.pack(">H", 1000) + _text(self._name) + credentials
        subscribe = struct.pack(">H", 1) + _text(f"devices/{self._name}/messages/devicebound/#") + b"\1"
        transport.write(_packet(0x10, connect) + _packet(0x82, subscribe))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.ready, self.done):
            if not future.done():
                future.set_exception(ConnectionError(f"{self._name} was cut off"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        acknowledged = 0
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + self._buffer[1]:
            kind, self._buffer = self._buffer[0], self._buffer[2 + self._buffer[1] :]
            if kind == 0x90:
                self.ready.set_result(None)
            elif kind == 0x40:
                acknowledged += 1
        if acknowledged:
            self._waiting -= acknowledged
            self._send(min(acknowledged, self._left))
            if not self._waiting:
                self.done.set_result(None)

    def publish(self, messages: int) -> None:
        """Begin; `done` says when all are acknowledged."""
        self.done = asyncio.get_running_loop().create_future()
        topic = _text(f"devices/{self._name}/messages/events/")
        self._publication = _packet(0x32, topic + b"\0\1" + b"x" * self._plan["payload"])
        self._left = messages
        self._send(min(self._plan["window"], messages))

    def _send(self, count: int) -> None:
        if count:
            self._left -= count
            self._waiting += count
            # one identifier for all of them: no broker here looks for one that is in use
            self._transport.write(self._publication * count)


class _Load:
    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._devices: dict[int, _Device] = {}
        self._tls = ssl.create_default_context(cafile=plan["authority"])

    async def connect(self, first: int, count: int) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                make: Callable[[], _Device] = lambda: _Device(self._plan, number)  # noqa: E731
                loop = asyncio.get_running_loop()
                _, device = await loop.create_connection(
                    make, self._plan["host"], self._plan["port"], ssl=self._tls, ssl_handshake_timeout=60
                )
                await device.ready
                self._devices[number] = device

        await asyncio.gather(*(one(number) for number in range(first, first + count)))

    async def publish(self, first: int, count: int, messages: int) -> None:
        devices = [self._devices[number] for number in range(first, first + count)]
        for device in devices:
            device.publish(messages)
        await asyncio.gather(*(device.done for device in devices))


async def main() -> None:
    asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER  # type: ignore[attr-defined]
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    load = _Load(json.loads(await reader.readline()))
    while line := (await reader.readline()).decode().split():
        begin = time.perf_counter()
        works: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"connect": load.connect, "publish": load.publish}
        await asyncio.wait_for(works[line[0]](*(int(word) for word in line[1:])), _DEADLINE)
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
