# SPDX-License-Identifier: Apache-2.0
"""AMQP frames around proton: the SASL handshake before it, and full-length performatives behind it.

Azure's mechanism MSSBCBS ("the token comes later, by CBS") is unknown to proton, so its SASL layer is not used: the
four frames are handled here and proton sees a connection without SASL. Node's SDKs (rhea) do not begin with SASL at
all unless they have a user name: they put a token or have a certificate, as those do who choose ANONYMOUS or EXTERNAL.
azure-eventhub reads performatives by position (azure/eventhub/_pyamqp/session.py: frame[7]) while proton leaves out
trailing nulls, as it may. `FrameWriter` puts them back, and leaves out a flow that is of no use and that the C SDK
takes for leave to send on links that are not there yet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .encoding import Array, Described, UByte, UInt, encode, value_end

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
MECHANISMS = ("MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL")
MAX_FRAME = 65536
BATCH = 0x80013700
"""The message format of several messages in one, each in a data section (AMQP_BATCHING_FORMAT_CODE of the C SDK)."""

_SASL_MECHANISMS, _SASL_INIT, _SASL_OUTCOME = 0x40, 0x41, 0x44
_OK, _AUTH = 0, 1
_OPEN, _BEGIN, _ATTACH, _FLOW, _TRANSFER, _END, _CLOSE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x17, 0x18
_MAX_SASL_FRAME = 8192
_MIN_FRAME, _ROOM = 512, 32
_UNSIGNED_INTEGERS = (0x70, 0x52)
Login = Callable[[str, str], bool]
"""Whether a user may come in with a password."""
# Fields of open, begin, attach, flow, transfer, disposition, detach (part 2.7 of the standard).
_FIELDS = {0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x14: 11, 0x15: 6, 0x16: 3}


class FrameError(Exception):
    """The peer does not speak AMQP; close the connection."""


class SaslHandshake:
    """The server's side: header, mechanisms, init, outcome. `output` is to be sent after each `feed`.

    After `refused` nothing more is said.
    """

    def __init__(self, login: Login = lambda user, password: False) -> None:
        self.done = False
        self.refused = False
        self.output = b""
        self._login = login
        self._buffer = bytearray()
        self._header_seen = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give back those that come after the handshake.

        Raises:
            FrameError: this is not a SASL handshake with a mechanism offered here.
        """
        if self.refused:  # one attempt a connection
            return b""
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
        if self._buffer[: len(AMQP_HEADER)] == AMQP_HEADER:
            self._header_seen = self.done = True
            return
        if self._buffer[:size] not in (SASL_HEADER[:size], AMQP_HEADER[:size]):
            raise FrameError("the peer does not begin with AMQP")
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
        mechanism, response = _init(bytes(self._buffer[4 * offset : size]))
        del self._buffer[:size]
        if mechanism not in MECHANISMS:
            raise FrameError(f"the SASL mechanism {mechanism!r} is not offered")
        self.refused = mechanism == "PLAIN" and not self._login(*_credentials(response))
        self.output += _sasl_frame(Described(_SASL_OUTCOME, [UByte(_AUTH if self.refused else _OK), None]))
        self.done = not self.refused


class FrameReader:
    """Whole frames out of a client's bytes, and which belong to batches: proton shows no formats of messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header_seen = False
        self._batches: set[tuple[int, int]] = set()
        self._unfinished: set[tuple[int, int]] = set()
        self._ended: set[int] = set()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take bytes; give the frames that are complete. The protocol's header passes as if it were one.

        A client that has ended a session has nothing more to say on its channel (2.7.8). @azure/event-hubs settles
        what was on its way all the same, for which proton would end the connection: such frames are dropped.

        Raises:
            FrameError: there are no frames in this.
        """
        self._buffer += data
        while len(self._buffer) >= 8:
            size = int.from_bytes(self._buffer[:4]) if self._header_seen else len(AMQP_HEADER)
            if not 8 <= size <= MAX_FRAME:
                raise FrameError(f"a frame has {MAX_FRAME} bytes at most")
            if len(self._buffer) < size:
                return
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            if not self._header_seen:
                self._header_seen = True
                yield frame, False
            elif not self._is_late(frame):
                yield _narrowed(frame), self._in_batch(frame)

    def _is_late(self, frame: bytes) -> bool:
        channel, performative = int.from_bytes(frame[6:8]), _performative(frame)
        if performative == _BEGIN:
            self._ended.discard(channel)
        elif channel in self._ended:
            return performative not in (None, _CLOSE)
        elif performative == _END:
            self._ended.add(channel)
        return False

    def _in_batch(self, frame: bytes) -> bool:
        fields = _transfer_fields(frame)
        if fields is None:
            return False
        link = (int.from_bytes(frame[6:8]), _unsigned(fields[0]))
        if link not in self._unfinished:  # only a message's first frame must tell its format
            self._batches.discard(link)
            if len(fields) > 3 and _unsigned(fields[3]) == BATCH:
                self._batches.add(link)
        more, aborted = (len(fields) > each and fields[each] in (b"\x41", b"\x56\x01") for each in (5, 9))
        (self._unfinished.add if more and not aborted else self._unfinished.discard)(link)
        return link in self._batches


def _performative(frame: bytes) -> int | None:
    """Which it is by its code; None for heartbeats and for descriptors that are no numbers."""
    body = frame[4 * frame[4] :]
    if body[:2] == b"\0\x53" and len(body) > 2:
        return body[2]
    return int.from_bytes(body[2:10]) if body[:2] == b"\0\x80" else None


class FrameWriter:
    """What proton says, in whole frames, as strict clients want to read it."""

    def __init__(self) -> None:
        self._held = b""
        self._linked: set[int] = set()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of proton; give those that are whole frames, or the protocol's header."""
        data = self._held + data
        result = bytearray()
        position = 0
        while position + 8 <= len(data):
            size = 8 if data.startswith(b"AMQP", position) else int.from_bytes(data[position : position + 4])
            if position + size > len(data):
                break
            frame = data[position : position + size]
            position += size
            if frame.startswith(b"AMQP"):
                result += frame
            elif not self._is_early(frame):
                result += _padded(frame)
        self._held = data[position:]
        return bytes(result)

    def _is_early(self, frame: bytes) -> bool:
        """A flow without a link, on a session that has none yet: it repeats what the begin before it has said.

        Proton sends one after each begin. Upon any flow, uamqp of the C SDK sends what waits on all links of a session,
        and gives up what waits on one whose attach is not answered yet (on_session_flow_on in link.c).
        """
        channel, performative = int.from_bytes(frame[6:8]), _performative(frame)
        if performative == _ATTACH:
            self._linked.add(channel)
        elif performative in (_BEGIN, _END):
            self._linked.discard(channel)
        elif performative == _FLOW and channel not in self._linked:
            return True
        return False


def _narrowed(frame: bytes) -> bytes:
    """An open with a little smaller max-frame-size: proton fills frames, and padding comes on top of that."""
    if _performative(frame) != _OPEN:
        return frame
    start = 4 * frame[4]
    body = frame[start:]
    try:
        listed = 3 if body[1] == 0x53 else 10
        content, end, count = _list_at(body, listed)
        second = value_end(content, value_end(content, 0)) if count >= 3 else len(content)
        third = value_end(content, second)
        if content[second] not in _UNSIGNED_INTEGERS:
            return frame
    except (IndexError, struct.error, ValueError, FrameError):
        return frame  # proton says what is wrong with it
    size = _unsigned(content[second:third]) - _ROOM
    if size < _MIN_FRAME:
        return frame
    content = content[:second] + encode(UInt(size)) + content[third:]
    body = body[:listed] + struct.pack(">BII", 0xD0, len(content) + 4, count) + content + body[end:]
    return struct.pack(">I", start + len(body)) + frame[4:start] + body


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


def _init(body: bytes) -> tuple[str, bytes]:
    """Mechanism and initial response."""
    try:
        if body[0] != 0 or not _is_init(body):
            raise FrameError("sasl-init was expected")
        fields, _, count = _list_at(body, 3 if body[1] == 0x53 else 10)
        mechanism = _sized(fields, 0, (0xA3, 0xB3)).decode("ascii")
        if count < 2 or (second := value_end(fields, 0)) >= len(fields) or fields[second] == 0x40:
            return mechanism, b""
        return mechanism, _sized(fields, second, (0xA0, 0xB0))
    except (IndexError, struct.error, ValueError):
        raise FrameError("sasl-init names no mechanism") from None


def _is_init(body: bytes) -> bool:
    """The code of sasl-init comes as a small or as a full unsigned long."""
    return body[1:3] == bytes((0x53, _SASL_INIT)) or body[1:10] == b"\x80" + _SASL_INIT.to_bytes(8, "big")


def _sized(data: bytes, position: int, codes: tuple[int, int]) -> bytes:
    """The contents of a symbol or a binary."""
    width = {codes[0]: 1, codes[1]: 4}.get(data[position])
    if width is None:
        raise ValueError("another type was expected")
    return data[position + 1 + width : value_end(data, position)]


def _credentials(response: bytes) -> tuple[str, str]:
    """User and password of PLAIN (RFC 4616)."""
    try:
        _, user, password = response.decode().split("\0")
    except ValueError:
        raise FrameError("PLAIN has a user and a password") from None
    return user, password


def _transfer_fields(frame: bytes) -> list[bytes] | None:
    """The encoded fields of a transfer; None for any other frame, and for what proton will not understand either."""
    start = 4 * frame[4]
    if frame[start : start + 3] == bytes((0, 0x53, _TRANSFER)):
        start += 3
    elif frame[start : start + 10] == b"\x00\x80" + _TRANSFER.to_bytes(8, "big"):
        start += 10
    else:
        return None
    try:
        content, _, count = _list_at(frame, start)
        fields, position = [], 0
        for _ in range(min(count, 10)):
            end = value_end(content, position)
            fields.append(content[position:end])
            position = end
    except (IndexError, struct.error, ValueError, FrameError):
        return None
    return fields or None


def _unsigned(encoded: bytes) -> int:
    """A number of any width; null and zero have no bytes."""
    return int.from_bytes(encoded[1:])
