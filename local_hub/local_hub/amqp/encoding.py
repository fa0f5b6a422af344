# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 values and messages as bytes (http://docs.oasis-open.org/amqp/core/v1.0/amqp-core-types-v1.0.html).

Writing: only the types that the hub sends. It exists beside proton because azure-eventhub's AMQP reads more literally
than the standard: a message must not have an empty properties section (a `properties` object full of None reaches the
application), and lists must have all their fields. Reading: only where values end, for what proton does not show.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Symbol(str):
    """A text from a fixed vocabulary."""

    __slots__ = ()


class Int(int):
    """Signed, 32 bits."""


class UByte(int):
    """Unsigned, 8 bits."""


class UInt(int):
    """Unsigned, 32 bits."""


class ULong(int):
    """Unsigned, 64 bits."""


class Timestamp(int):
    """Milliseconds since the epoch."""


@dataclass(frozen=True)
class Described:
    """A value with the code of its type."""

    code: int
    value: Any


@dataclass(frozen=True)
class Array:
    """Texts or symbols in a row, all of one type."""

    items: tuple[str, ...]
    symbols: bool = False


HEADER, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES, DATA, VALUE = 0x70, 0x72, 0x73, 0x74, 0x75, 0x77
_PROPERTY_FIELDS = (
    "message-id",
    "user-id",
    "to",
    "subject",
    "reply-to",
    "correlation-id",
    "content-type",
    "content-encoding",
    "absolute-expiry-time",
    "creation-time",
    "group-id",
    "group-sequence",
    "reply-to-group-id",
)


def encode_message(
    *,
    data: bytes | None = None,
    value: Any = None,
    annotations: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    application_properties: Mapping[str, Any] | None = None,
    delivery_count: int | None = None,
) -> bytes:
    """A message with a data section, or else with a value section. `delivery_count` is how often it came in vain."""
    parts = []
    if delivery_count is not None:
        parts.append(encode(Described(HEADER, [True, None, None, None, UInt(delivery_count)])))
    if annotations:
        keyed = {Symbol(name): item for name, item in annotations.items()}
        parts.append(encode(Described(MESSAGE_ANNOTATIONS, keyed)))
    if properties:
        fields = [properties.get(name) for name in _PROPERTY_FIELDS]
        parts.append(encode(Described(PROPERTIES, fields)))
    if application_properties:
        parts.append(encode(Described(APPLICATION_PROPERTIES, dict(application_properties))))
    parts.append(encode(Described(VALUE, value) if data is None else Described(DATA, data)))
    return b"".join(parts)


def encode(value: Any) -> bytes:
    """One value. Python's int becomes long, str string, bytes binary.

    Raises:
        TypeError: a type that the hub does not send.
    """
    if value is None:
        return b"\x40"
    for kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return encoder(value)
    raise TypeError(f"{type(value).__name__} has no AMQP form here")


def value_end(data: bytes, start: int) -> int:
    """Where the encoded value at `start` ends.

    Raises:
        ValueError: it is cut off, or no value at all.
    """
    position, missing = start, 1
    while missing:
        if position >= len(data):
            raise ValueError("a value is cut off")
        code, position = data[position], position + 1
        if code == 0:  # a described value is two: descriptor and value
            missing += 1
            continue
        missing -= 1
        if 0x4 <= code >> 4 <= 0x9:
            position += _WIDTHS[code >> 4]
        elif code >> 4 >= 0xA:
            width = 4 if code >> 4 & 1 else 1
            position += width + int.from_bytes(data[position : position + width])
        else:
            raise ValueError(f"no type has the code {code:#x}")
    if position > len(data):
        raise ValueError("a value is cut off")
    return position


def data_sections(message: bytes) -> list[bytes]:
    """The contents of all data sections of an encoded message; proton shows only the first.

    Raises:
        ValueError: it is no message.
    """
    found, position = [], 0
    while position < len(message):
        end = value_end(message, position)
        content = value_end(message, position + 1)
        if message[position:content] in _DATA_DESCRIPTORS:
            width = {0xA0: 1, 0xB0: 4}.get(message[content])
            if width is None:
                raise ValueError("a data section holds binary")
            found.append(message[content + 1 + width : end])
        position = end
    return found


_WIDTHS = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
_DATA_DESCRIPTORS = (bytes((0, 0x53, DATA)), b"\x00\x80" + DATA.to_bytes(8, "big"))


def _sized(short: int, long: int, data: bytes) -> bytes:
    if len(data) < 256:
        return struct.pack(">BB", short, len(data)) + data
    return struct.pack(">BI", long, len(data)) + data


def _compound(short: int, long: int, count: int, data: bytes) -> bytes:
    if len(data) < 255 and count < 256:
        return struct.pack(">BBB", short, len(data) + 1, count) + data
    return struct.pack(">BII", long, len(data) + 4, count) + data


def _list(items: Sequence[Any]) -> bytes:
    return _compound(0xC0, 0xD0, len(items), b"".join(map(encode, items)))


def _map(pairs: Mapping[Any, Any]) -> bytes:
    flat: Iterable[Any] = (part for pair in pairs.items() for part in pair)
    return _compound(0xC1, 0xD1, 2 * len(pairs), b"".join(map(encode, flat)))


def _array(array: Array) -> bytes:
    constructor = b"\xb3" if array.symbols else b"\xb1"
    items = (struct.pack(">I", len(item.encode())) + item.encode() for item in array.items)
    return _compound(0xE0, 0xF0, len(array.items), constructor + b"".join(items))


_ENCODERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], bytes]], ...] = (
    (bool, lambda value: b"\x41" if value else b"\x42"),
    (Int, lambda value: struct.pack(">Bi", 0x71, value)),
    (UByte, lambda value: struct.pack(">BB", 0x50, value)),
    (UInt, lambda value: struct.pack(">BI", 0x70, value)),
    (ULong, lambda value: struct.pack(">BQ", 0x80, value)),
    (Timestamp, lambda value: struct.pack(">Bq", 0x83, value)),
    (int, lambda value: struct.pack(">Bq", 0x81, value)),
    (float, lambda value: struct.pack(">Bd", 0x82, value)),
    (Symbol, lambda value: _sized(0xA3, 0xB3, value.encode())),
    (str, lambda value: _sized(0xA1, 0xB1, value.encode())),
    (bytes, lambda value: _sized(0xA0, 0xB0, value)),
    (uuid.UUID, lambda value: b"\x98" + value.bytes),
    (Described, lambda value: struct.pack(">BBB", 0, 0x53, value.code) + encode(value.value)),
    (Array, _array),
    (dict, _map),
    ((list, tuple), _list),
)
