# SPDX-License-Identifier: Apache-2.0
"""MQTT 3.1.1 control packets: bytes in, packets out, and back. No I/O, no idea what a topic means.

Only what a server needs: it reads what clients send and writes what servers send. QoS 2 does not exist at IoT Hub.
Section numbers are those of http://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAX_PACKET = 300 * 1024


class ProtocolError(Exception):
    """The bytes are not MQTT 3.1.1 as this server takes it; the connection is to be closed (4.8)."""


@dataclass(frozen=True)
class Connect:
    """3.1"""

    protocol_level: int
    client_id: str
    username: str | None
    password: bytes | None
    clean_session: bool
    keep_alive: int


class Publish(NamedTuple):
    """3.3. A tuple, since very many are made."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    duplicate: bool = False
    retain: bool = False

    def encode(self) -> bytes:
        """To the wire."""
        flags = self.duplicate << 3 | self.qos << 1 | self.retain
        identifier = struct.pack(">H", self.packet_id) if self.qos else b""
        return _packet(0x30 | flags, _encode_text(self.topic) + identifier + self.payload)


@dataclass(frozen=True)
class PubAck:
    """3.4"""

    packet_id: int

    def encode(self) -> bytes:
        """To the wire."""
        return b"\x40\x02" + self.packet_id.to_bytes(2, "big")


@dataclass(frozen=True)
class Subscribe:
    """3.8"""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unsubscribe:
    """3.10"""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True)
class PingReq:
    """3.12"""


@dataclass(frozen=True)
class Disconnect:
    """3.14"""


Packet = Connect | Publish | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect

ACCEPTED, UNACCEPTABLE_PROTOCOL, IDENTIFIER_REJECTED, UNAVAILABLE, BAD_CREDENTIALS, NOT_AUTHORIZED = range(6)
"""Return codes of CONNACK (3.2.2.3)."""


def encode_connack(return_code: int, *, session_present: bool = False) -> bytes:
    """3.2"""
    return _packet(0x20, bytes((session_present and return_code == ACCEPTED, return_code)))


def encode_suback(packet_id: int, codes: list[int]) -> bytes:
    """3.9; 0x80 is a refused filter."""
    return _packet(0x90, struct.pack(">H", packet_id) + bytes(codes))


def encode_unsuback(packet_id: int) -> bytes:
    """3.11"""
    return _packet(0xB0, struct.pack(">H", packet_id))


def encode_pingresp() -> bytes:
    """3.13"""
    return _packet(0xD0, b"")


class PacketReader:
    """Cuts a stream into packets."""

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        self.max_packet = max_packet
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes, give the packets they complete.

        Raises:
            ProtocolError: no packet can follow on this stream.
        """
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        start = 0
        while (frame := self._frame(source, start)) is not None:
            first, body, start = frame
            yield _decode(first, body)
        if source is data:
            self._buffer += data[start:]  # seldom anything: most packets come whole
        else:
            del self._buffer[:start]

    def _frame(self, source: bytes | bytearray, start: int) -> tuple[int, bytes, int] | None:
        """The first byte and the body of the packet at `start`, and where it ends."""
        if start >= len(source):
            return None
        first = source[start]
        if not _is_known(first):
            raise ProtocolError(f"a packet that begins with {first:#04x}")
        length = _remaining_length(source, start + 1)
        if length is None:
            return None
        body, size = length
        if size > self.max_packet:
            raise ProtocolError(f"a packet of {size} bytes; the limit is {self.max_packet}")
        end = body + size
        return None if len(source) < end else (first, bytes(source[body:end]), end)


def _remaining_length(source: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Where the body starts, and its size (2.2.3)."""
    size = 0
    for index in range(4):
        if start + index >= len(source):
            return None
        byte = source[start + index]
        size |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return start + index + 1, size
    raise ProtocolError("the remaining length has more than four bytes")


class _Body:
    """Reads the fields of one packet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise ProtocolError("a packet ends in the middle of a field")
        part = self._data[self._position : end]
        self._position = end
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def identifier(self) -> int:
        identifier = self.integer()
        if identifier == 0:
            raise ProtocolError("a packet identifier is 0 (2.3.1)")
        return identifier

    def binary(self) -> bytes:
        return self.take(self.integer())

    def text(self) -> str:
        return _decode_text(self.binary())

    def end(self) -> None:
        if self:
            raise ProtocolError("a packet is longer than its fields")


def _decode_text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a text is not UTF-8 (1.5.3)") from None
    if "\0" in text:
        raise ProtocolError("a text holds U+0000 (1.5.3)")
    return text


def _decode(first: int, data: bytes) -> Packet:
    kind, flags = first >> 4, first & 0x0F
    if kind == 3:
        return _decode_publish(flags, data)
    body = _Body(data)
    packet = _DECODERS[kind, flags](body)
    body.end()
    return packet


def _is_known(first: int) -> bool:
    return first >> 4 == 3 or (first >> 4, first & 0x0F) in _DECODERS


def _decode_connect(body: _Body) -> Connect:
    if body.text() != "MQTT":
        raise ProtocolError("the protocol is not MQTT (3.1.2.1)")
    level, flags, keep_alive = body.byte(), body.byte(), body.integer()
    if flags & 1:
        raise ProtocolError("the reserved flag of CONNECT is set (3.1.2.3)")
    client_id = body.text()
    if flags & 0x04:  # a will: IoT Hub takes it as a message; none of the SDKs sends one
        body.text()
        body.binary()
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    return Connect(level, client_id, username, password, bool(flags & 0x02), keep_alive)


def _decode_publish(flags: int, data: bytes) -> Publish:
    # most of what devices send is this, so that it is read in place
    qos = flags >> 1 & 3
    if qos > 1:
        raise ProtocolError("QoS 2 is not offered")
    start = 2 + int.from_bytes(data[:2], "big")
    payload = start + 2 if qos else start
    if len(data) < max(payload, 2):
        raise ProtocolError("a packet ends in the middle of a field")
    topic = _decode_text(data[2:start])
    if "#" in topic or "+" in topic:
        raise ProtocolError("the topic of PUBLISH has wildcards (3.3.2.1)")
    packet_id = int.from_bytes(data[start:payload], "big")
    if qos and not packet_id:
        raise ProtocolError("a packet identifier is 0 (2.3.1)")
    return Publish(topic, data[payload:], qos, packet_id, bool(flags & 8), bool(flags & 1))


def _decode_subscribe(body: _Body) -> Subscribe:
    packet_id, filters = body.identifier(), []
    while body:
        topic, qos = body.text(), body.byte()
        if qos > 2:
            raise ProtocolError("a subscription asks for a QoS that does not exist (3.8.3.1)")
        filters.append((topic, qos))
    if not filters:
        raise ProtocolError("SUBSCRIBE without a filter (3.8.3)")
    return Subscribe(packet_id, tuple(filters))


def _decode_unsubscribe(body: _Body) -> Unsubscribe:
    packet_id, filters = body.identifier(), []
    while body:
        filters.append(body.text())
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a filter (3.10.3)")
    return Unsubscribe(packet_id, tuple(filters))


_DECODERS: dict[tuple[int, int], Callable[[_Body], Packet]] = {
    (1, 0): _decode_connect,
    (4, 0): lambda body: PubAck(body.identifier()),
    (8, 2): _decode_subscribe,
    (10, 2): _decode_unsubscribe,
    (12, 0): lambda body: PingReq(),
    (14, 0): lambda body: Disconnect(),
}


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _encode_length(len(body)) + body


def _encode_length(size: int) -> bytes:
    result = bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        result.append(byte | (0x80 if size else 0))
        if not size:
            return bytes(result)


def _encode_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > 0xFFFF:
        raise ValueError("a text of MQTT has 65535 bytes at most")
    return struct.pack(">H", len(data)) + data
