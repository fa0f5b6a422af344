# SPDX-License-Identifier: Apache-2.0
"""The MQTT codec: what is written can be read, in any pieces; anything else is a ProtocolError and nothing worse."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.mqtt import packets
from local_hub.mqtt.packets import Packet, PacketReader, ProtocolError

topics = st.text(st.characters(exclude_characters="\0#+", exclude_categories=["Cs"]), max_size=60)
identifiers = st.integers(1, 0xFFFF)
publishes = st.one_of(
    st.builds(packets.Publish, topics, st.binary(max_size=300), st.just(0), st.just(0), st.booleans()),
    st.builds(packets.Publish, topics, st.binary(max_size=300), st.just(1), identifiers, st.booleans()),
)


def read(data: bytes) -> list[Packet]:
    return list(PacketReader().feed(data))


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def connect(flags: int = 0xC0, level: int = 4, name: str = "MQTT") -> bytes:
    body = text(name) + bytes((level, flags)) + struct.pack(">H", 60) + text("fridge-1")
    body += (text("user") if flags & 0x80 else b"") + (text("secret") if flags & 0x40 else b"")
    return bytes((0x10, len(body))) + body


@given(st.lists(st.one_of(publishes, st.builds(packets.PubAck, identifiers)), max_size=5), st.data())
def test_packets_arrive_whole_in_whatever_pieces_they_come(sent: list[packets.Publish], data: st.DataObject) -> None:
    stream = b"".join(packet.encode() for packet in sent)
    reader, received = PacketReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += list(reader.feed(stream[:size]))
        stream = stream[size:]
    assert received == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(data)


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_single_packet_is_read_or_refused(first: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert len(read(bytes((first, len(body))) + body)) == 1


def test_connect_is_read() -> None:
    assert read(connect()) == [packets.Connect(4, "fridge-1", "user", b"secret", False, 60)]
    assert read(connect(flags=0x02)) == [packets.Connect(4, "fridge-1", None, None, True, 60)]


def test_subscribe_and_unsubscribe_are_read() -> None:
    body = struct.pack(">H", 7) + text("a/#") + b"\x01" + text("b") + b"\x00"
    assert read(bytes((0x82, len(body))) + body) == [packets.Subscribe(7, (("a/#", 1), ("b", 0)))]
    body = struct.pack(">H", 8) + text("a/#")
    assert read(bytes((0xA2, len(body))) + body) == [packets.Unsubscribe(8, ("a/#",))]
    assert read(b"\xc0\x00\xe0\x00") == [packets.PingReq(), packets.Disconnect()]


@pytest.mark.parametrize(
    "data",
    [
        connect(name="MQIsdp"),
        connect(flags=0xC1),
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x30\x03\x00\x01#",
        b"\x30\x04\x00\x02\xff\xfe",
        b"\x82\x02\x00\x01",
        b"\x80\x05\x00\x01\x00\x00\x00",
        b"\xc0\x01x",
        b"\xf0\x00",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\xff\xff\xff\x7f",
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


def test_a_packet_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        list(PacketReader(100).feed(b"\x30\x65"))


def test_answers_are_written_as_the_standard_shows_them() -> None:
    assert packets.encode_connack(packets.ACCEPTED, session_present=True) == b"\x20\x02\x01\x00"
    assert packets.encode_connack(packets.NOT_AUTHORIZED, session_present=True) == b"\x20\x02\x00\x05"
    assert packets.encode_suback(1, [1, 0x80]) == b"\x90\x04\x00\x01\x01\x80"
    assert packets.encode_unsuback(1) == b"\xb0\x02\x00\x01"
    assert packets.encode_pingresp() == b"\xd0\x00"
