# SPDX-License-Identifier: Apache-2.0
"""Clients that tell the whole truth of what was acknowledged and when: an SDK would retry and hide it.

They raise OSError (or what aiohttp makes of it) when the hub is gone, and nothing else by design.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from local_hub.amqp.encoding import Described, Symbol, encode
from local_hub.amqp.frames import SASL_HEADER
from local_hub.core.sas import key_bytes, sign
from local_hub.mqtt import packets
from proton import Collector, Connection, Delivery, Event, Message, Transport, symbol
from proton import Described as ProtonDescribed

API = {"api-version": "2021-04-12"}


class Gone(OSError):
    """The hub ended the connection."""


class Rest:
    """A service over HTTPS, and devices over HTTPS with a key of theirs."""

    def __init__(self, host: str, port: int, key: str, trust: ssl.SSLContext) -> None:
        self._base = f"https://{host}:{port}"
        self._token = service_token(host, key)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=40), timeout=aiohttp.ClientTimeout(total=20)
        )

    async def request(
        self, method: str, path: str, body: Any = None, *, match: str | None = None, token: str | None = None
    ) -> tuple[int, Any, str]:
        """Status, JSON or other bytes, and the ETag."""
        headers = {"Authorization": token or self._token, **({"If-Match": match} if match else {})}
        async with self._session.request(method, self._base + path, params=API, json=body, headers=headers) as answer:
            text = await answer.read()
            value = json.loads(text) if answer.content_type.endswith("json") else text
            return answer.status, value, answer.headers.get("ETag", "").strip('"')

    async def close(self) -> None:
        await self._session.close()


def service_token(host: str, key: str) -> str:
    """For a day."""
    return sign(host, key_bytes(key) or b"", int(time.time()) + 86400, "iothubowner")


def device_token(host: str, device: str, key: str) -> str:
    """For a day."""
    return sign(f"{host}/devices/{device}", key_bytes(key) or b"", int(time.time()) + 86400)


class MqttDevice:
    """MQTT 3.1.1 as a device speaks it. PUBACKs and publications go to callbacks in the order in which they come."""

    def __init__(self, on_puback: Callable[[int], None], on_publish: Callable[[packets.Publish], None]) -> None:
        self._on_puback = on_puback
        self._on_publish = on_publish
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def connect(self, host: str, device: str, key: str, trust: ssl.SSLContext) -> None:
        self._reader, self._writer = await asyncio.open_connection(host, 8883, ssl=trust, server_hostname=host)
        texts = (device, f"{host}/{device}/?api-version=2021-04-12", device_token(host, device, key))
        fields = b"".join(struct.pack(">H", len(each)) + each.encode() for each in texts)
        self.send(_packet(0x10, b"\x00\x04MQTT\x04\xc0\x00\xf0" + fields))
        kind, body = await self._packet()
        if kind != 0x20 or body[1] != packets.ACCEPTED:
            raise Gone(f"CONNACK {body!r}")

    def subscribe(self, *filters: str) -> None:
        body = b"".join(struct.pack(">H", len(each)) + each.encode() + b"\x01" for each in filters)
        self.send(_packet(0x82, b"\x00\x01" + body))

    def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise Gone
        self._writer.write(data)

    async def run(self) -> None:
        """Read until the hub is gone."""
        while True:
            kind, body = await self._packet()
            if kind == 0x40:
                self._on_puback(int.from_bytes(body, "big"))
            elif kind & 0xF0 == 0x30:
                (packet,) = packets.PacketReader().feed(_packet(kind, body))
                assert isinstance(packet, packets.Publish)
                self._on_publish(packet)

    def close(self) -> None:
        self._writer.transport.abort()

    async def _packet(self) -> tuple[int, bytes]:
        try:
            first = (await self._reader.readexactly(1))[0]
            size = 0
            for shift in range(0, 28, 7):
                byte = (await self._reader.readexactly(1))[0]
                size |= (byte & 0x7F) << shift
                if not byte & 0x80:
                    break
            return first, await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Gone from error


class AmqpService:
    """A service's AMQP connection: proton without its I/O."""

    def __init__(self) -> None:
        self._transport = Transport()
        self._connection = Connection()
        self._connection.container = "chaos"
        self._collector = Collector()
        self._connection.collect(self._collector)
        self._session = self._connection.session()
        self._tags = itertools.count(1)
        self._outcomes: dict[str, asyncio.Future[bool]] = {}
        self._receivers: dict[str, Callable[[Any], None]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()

    async def connect(self, host: str, token: str, trust: ssl.SSLContext) -> None:
        self._reader, self._writer = await asyncio.open_connection(host, 5671, ssl=trust, server_hostname=host)
        init = encode(Described(0x41, [Symbol("ANONYMOUS"), b"", host]))
        self._writer.write(SASL_HEADER + struct.pack(">IBBH", len(init) + 8, 2, 1, 0) + init)
        try:
            await self._reader.readexactly(8)
            for _ in ("mechanisms", "outcome"):
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                await self._reader.readexactly(size - 4)
        except asyncio.IncompleteReadError as error:
            raise Gone from error
        self._connection.hostname = host
        self._transport.bind(self._connection)
        self._connection.open()
        self._session.open()
        self._reading = asyncio.get_running_loop().create_task(self._read())
        await self._put_token(token)

    async def _put_token(self, token: str) -> None:
        answers: list[int] = []
        self.receive("$cbs", lambda message: answers.append(message.properties["status-code"]), target="cbs")
        question: Any = Message(body=token, reply_to="cbs")
        question.properties = {
            "operation": "put-token",
            "type": "servicebus.windows.net:sastoken",
            "name": self._connection.hostname,
        }
        await self.sender("$cbs")(question)
        await self._until(lambda: bool(answers))
        if answers[0] not in (200, 202):
            raise Gone(f"put-token: {answers}")

    def sender(self, address: str) -> Callable[[Message], Any]:
        """A link; the answer of its call is whether the hub accepted the message."""
        link = self._session.sender(address)
        link.target.address = address
        link.open()

        async def send(message: Message) -> bool:
            tag = str(next(self._tags))
            outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._outcomes[tag] = outcome
            link.delivery(tag)
            link.send(message.encode())
            link.advance()
            self._flush()
            return await outcome

        return send

    def receive(
        self, address: str, take: Callable[[Any], None], *, target: str = "", selector: str | None = None
    ) -> None:
        """A link whose messages go to `take`."""
        name = f"{address} {next(self._tags)}"
        link = self._session.receiver(name)
        link.source.address = address
        link.target.address = target or address
        if selector is not None:
            kind = symbol("apache.org:selector-filter:string")
            link.source.filter.put_dict({kind: ProtonDescribed(kind, selector)})
        self._receivers[name] = take
        link.open()
        link.flow(500)
        self._flush()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            (result,) = await asyncio.gather(self._reading, return_exceptions=True)
            self._writer.transport.abort()
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._progress.clear()
            assert self._reading is not None
            if self._reading.done():
                raise Gone
            await self._progress.wait()

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                while data:
                    size = self._transport.capacity()
                    if size <= 0:
                        return
                    self._transport.push(data[:size])
                    data = data[size:]
                    self._dispatch()
                self._flush()
        finally:
            for outcome in self._outcomes.values():
                if not outcome.done():
                    outcome.set_exception(Gone())
                    outcome.exception()  # nobody may wait for it
            self._progress.set()

    def _flush(self) -> None:
        while (size := self._transport.pending()) > 0:
            data = bytes(self._transport.peek(size) or b"")
            self._transport.pop(len(data))
            self._dispatch()
            with contextlib.suppress(OSError):
                self._writer.write(data)

    def _dispatch(self) -> None:
        while (event := self._collector.peek()) is not None:
            if event.type == Event.DELIVERY:
                self._delivery(event.delivery)
            self._collector.pop()
        self._progress.set()

    def _delivery(self, delivery: Any) -> None:
        link = delivery.link
        if link.is_sender:
            if delivery.updated and (outcome := self._outcomes.pop(str(delivery.tag), None)):
                if not outcome.done():
                    outcome.set_result(delivery.remote_state == Delivery.ACCEPTED)
                delivery.settle()
            return
        if delivery.partial or not delivery.readable:
            return
        message = Message()
        message.decode(link.recv(delivery.pending))
        link.advance()
        delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        self._receivers[link.name](message)
        if link.credit < 250:
            link.flow(250)


def _packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
        if not size:
            return bytes((first, *length)) + body
