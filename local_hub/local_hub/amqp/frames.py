# SPDX-License-Identifier: Apache-2.0
"""AMQP frames around proton: the SASL handshake before it, and full-length performatives behind it.

Azure's mechanism MSSBCBS ("the token comes later, by CBS") is unknown to proton, so its SASL layer is not used: the
four frames are handled here and proton sees a connection without SASL.
azure-eventhub reads performatives by position (azure/eventhub/_pyamqp/session.py: frame[7]) while proton leaves out
trailing nulls, as it may. `pad_performatives` puts them back.
"""

from __future__ import annotations

import struct

from .encoding import Array, Described, UByte, encode

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
MECHANISMS = ("MSSBCBS", "ANONYMOUS")
MAX_FRAME = 65536

_SASL_MECHANISMS, _SASL_INIT, _SASL_OUTCOME = 0x40, 0x41, 0x44
_MAX_SASL_FRAME = 512
# Fields of open, begin, attach, flow, transfer, disposition, detach (part 2.7 of the standard).
_FIELDS = {0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x14: 11, 0x15: 6, 0x16: 3}


class FrameError(Exception):
    """The peer does not speak AMQP; close the connection."""


class SaslHandshake:
    """The server's side: header, mechanisms, init, outcome. `output` is to be sent after each `feed`."""

    def __init__(self) -> None:
        self.done = False
        self.output = b""
        self._buffer = bytearray()
        self._header_seen = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give back those that come after the handshake.

        Raises:
            FrameError: this is not a SASL handshake with a mechanism offered here.
        """
        self._buffer += data
        if not self._header_seen:
            self._read_header()
        if self._header_seen and not self.done:
            self._read_init()
        if not self.done:
            return b""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _read_header(self) -> None:
        size = min(len(self._buffer), len(SASL_HEADER))
        if self._buffer[:size] != SASL_HEADER[:size]:
            raise FrameError("the peer does not begin with SASL")
        if size == len(SASL_HEADER):
            del self._buffer[:size]
            self._header_seen = True
            mechanisms = Described(_SASL_MECHANISMS, [Array(MECHANISMS, symbols=True)])
            self.output += SASL_HEADER + _sasl_frame(mechanisms)

    def _read_init(self) -> None:
        if len(self._buffer) < 8:
            return
        size, offset, kind = struct.unpack(">IBB", self._buffer[:6])
        if not 8 <= 4 * offset <= size <= _MAX_SASL_FRAME or kind != 1:
            raise FrameError("a SASL frame was expected")
        if len(self._buffer) < size:
            return
        mechanism = _init_mechanism(bytes(self._buffer[4 * offset : size]))
        del self._buffer[:size]
        if mechanism not in MECHANISMS:
            raise FrameError(f"the SASL mechanism {mechanism!r} is not offered")
        self.output += _sasl_frame(Described(_SASL_OUTCOME, [UByte(0), None]))
        self.done = True


def pad_performatives(data: bytes) -> bytes:
    """Whole frames as proton makes them, with every performative at its full number of fields."""
    result = bytearray()
    position = 0
    while position < len(data):
        if data.startswith(b"AMQP", position):
            result += data[position : position + 8]
            position += 8
            continue
        (size,) = struct.unpack_from(">I", data, position)
        result += _padded(data[position : position + size])
        position += size
    return bytes(result)


def whole_frames(data: bytes) -> int:
    """How many of the first bytes are whole frames (or the protocol header)."""
    position = 0
    while position + 8 <= len(data):
        if data.startswith(b"AMQP", position):
            position += 8
            continue
        (size,) = struct.unpack_from(">I", data, position)
        if position + size > len(data):
            break
        position += size
    return position


def _padded(frame: bytes) -> bytes:
    start = 4 * frame[4]
    body = frame[start:]
    if len(body) < 4 or body[0] != 0 or body[1] != 0x53 or body[2] not in _FIELDS:
        return frame
    fields, end, count = _list_at(body, 3)
    missing = _FIELDS[body[2]] - count
    if missing <= 0:
        return frame
    content = fields + b"\x40" * missing
    performative = body[:3] + struct.pack(">BII", 0xD0, len(content) + 4, count + missing) + content
    whole = frame[4:start] + performative + body[end:]
    return struct.pack(">I", len(whole) + 4) + whole


def _list_at(body: bytes, position: int) -> tuple[bytes, int, int]:
    """The encoded items of the list at `position`, where it ends, and how many items it has."""
    code = body[position]
    if code == 0x45:
        return b"", position + 1, 0
    if code == 0xC0:
        size, count = body[position + 1], body[position + 2]
        end = position + 2 + size
        return body[position + 3 : end], end, count
    if code == 0xD0:
        size, count = struct.unpack_from(">II", body, position + 1)
        end = position + 5 + size
        return body[position + 9 : end], end, count
    raise FrameError("a performative without a list of fields")


def _sasl_frame(performative: Described) -> bytes:
    body = encode(performative)
    return struct.pack(">IBBH", len(body) + 8, 2, 1, 0) + body


def _init_mechanism(body: bytes) -> str:
    try:
        if body[0] != 0 or not _is_init(body):
            raise FrameError("sasl-init was expected")
        fields, _, _ = _list_at(body, 3 if body[1] == 0x53 else 10)
        if fields[0] == 0xA3:
            return fields[2 : 2 + fields[1]].decode("ascii")
        if fields[0] == 0xB3:
            (size,) = struct.unpack_from(">I", fields, 1)
            return fields[5 : 5 + size].decode("ascii")
    except (IndexError, struct.error, UnicodeDecodeError):
        pass
    raise FrameError("sasl-init names no mechanism")


def _is_init(body: bytes) -> bool:
    """The code of sasl-init comes as a small or as a full unsigned long."""
    return body[1:3] == bytes((0x53, _SASL_INIT)) or body[1:10] == b"\x80" + _SASL_INIT.to_bytes(8, "big")
