# SPDX-License-Identifier: Apache-2.0
"""MQTT and AMQP inside WebSockets on the HTTPS port, for clients behind firewalls that let nothing else through.

A WebSocket is only another pipe: the protocol objects that serve sockets serve it too, behind a transport of this file.
Paths and subprotocols: azure/iot/device/common/mqtt_transport.py ("/$iothub/websocket", "mqtt") and
azure/eventhub/_pyamqp/constants.py ("/$servicebus/websocket", "AMQPWSB10"). uamqp asks for the latter with a slash at
its end; the SDKs of Node and C ask for AMQP at "/$iothub/websocket", and C writes "MQTT". Whoever comes proves who he
is inside, as on the protocols' own ports.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiohttp import WSMsgType, web

IOTHUB_PATH, SERVICEBUS_PATH = "/$iothub/websocket", "/$servicebus/websocket"
# where paho looks for MQTT unless it is told: the provisioning client of the Java SDK does not tell it
PAHO_PATH = "/mqtt"
# the provisioning clients of the C# SDK ask for none (AmqpClientConnection.cs, ProvisioningTransportHandlerMqtt.cs)
BARE_PATH = "/"
PATHS = frozenset((IOTHUB_PATH, SERVICEBUS_PATH, f"{SERVICEBUS_PATH}/", PAHO_PATH, BARE_PATH))
MAX_MESSAGE = 512 * 1024
_AMQP = "AMQPWSB10"
_CLOSING_TIMEOUT = 2.0

ProtocolFactory = Callable[[], asyncio.Protocol]


class WebSockets:
    """The routes, and the connections that came in by them."""

    def __init__(self, mqtt: ProtocolFactory, amqp: ProtocolFactory) -> None:
        self._mqtt = mqtt
        self._amqp = amqp
        self._open: set[WebSocketTransport] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        """One a path; the subprotocol says what is spoken there."""

        async def iothub(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, {"mqtt": self._mqtt, "MQTT": self._mqtt, _AMQP: self._amqp})

        async def servicebus(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, {_AMQP: self._amqp})

        return (
            web.get(IOTHUB_PATH, iothub),
            web.get(PAHO_PATH, iothub),
            web.get(BARE_PATH, iothub),
            web.get(SERVICEBUS_PATH, servicebus),
            web.get(f"{SERVICEBUS_PATH}/", servicebus),
        )

    async def close(self, application: web.Application) -> None:
        """aiohttp's on_shutdown: end all connections."""
        for transport in list(self._open):
            transport.close()

    async def _serve(self, request: web.Request, spoken: dict[str, ProtocolFactory]) -> web.StreamResponse:
        # No compression: a few bytes on the wire must not become megabytes in memory.
        socket = web.WebSocketResponse(
            protocols=tuple(spoken), max_msg_size=MAX_MESSAGE, compress=False, timeout=_CLOSING_TIMEOUT
        )
        if not socket.can_prepare(request):
            raise web.HTTPUpgradeRequired
        await socket.prepare(request)
        # a client that names no subprotocol is taken for one of the protocol that the path had first
        factory = spoken[socket.ws_protocol or next(iter(spoken))]
        transport = WebSocketTransport(request, socket, factory())
        self._open.add(transport)
        try:
            await transport.run()
        finally:
            self._open.discard(transport)
        return socket


class WebSocketTransport(asyncio.Transport):
    """What a protocol needs of a transport, over a WebSocket."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._under = cast(asyncio.Transport, request.transport)
        self._socket = socket
        self._protocol = protocol
        self._queue: list[bytes] = []
        self._queued = 0
        self._high = 64 * 1024
        self._paused = False
        self._closing = False
        self._end = asyncio.Event()
        self._news = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()

    async def run(self) -> None:
        """Carry bytes both ways until either side ends it."""
        loop = asyncio.get_running_loop()
        self._protocol.connection_made(self)
        reader, writer = loop.create_task(self._read()), loop.create_task(self._write())
        ending = loop.create_task(self._end.wait())
        try:
            await asyncio.wait((reader, writer, ending), return_when=asyncio.FIRST_COMPLETED)
            self.close()
            # What was written before the close still goes out, if the other side takes it.
            await asyncio.wait((writer,), timeout=_CLOSING_TIMEOUT)
        finally:
            self._closing = True
            for task in (reader, writer, ending):
                task.cancel()
            results = await asyncio.gather(reader, writer, ending, return_exceptions=True)
            self._protocol.connection_lost(next((each for each in results if isinstance(each, OSError)), None))
        if not writer.cancelled():
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_CLOSING_TIMEOUT):
                    await self._socket.close()
        self._under.close()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Queue bytes; tell the protocol when there are too many."""
        if self._closing or not data:
            return
        self._queue.append(bytes(data))
        self._queued += len(data)
        self._news.set()
        if self._queued > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Send what is queued, then end."""
        self._closing = True
        self._news.set()
        self._end.set()

    def abort(self) -> None:
        """End at once: the TCP connection is cut."""
        self._closing = True
        self._queue.clear()
        self._under.abort()
        self._end.set()

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def pause_reading(self) -> None:
        """Take nothing more; aiohttp stops to read from the socket when its own small buffer is full."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self._readable.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """How much may be queued before the protocol is told."""
        self._high = self._high if high is None else high

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the TLS connection below."""
        return self._under.get_extra_info(name, default)

    async def _read(self) -> None:
        while not self._closing:
            await self._readable.wait()
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:  # closed, broken, too long; or text, which neither protocol has
                return
            if message.data and not self._closing:
                self._protocol.data_received(message.data)

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                data, self._queue = b"".join(self._queue), []
                await self._socket.send_bytes(data)
                self._queued -= len(data)
                if self._paused and self._queued <= self._high // 2:
                    self._paused = False
                    self._protocol.resume_writing()
            if self._closing:
                return
