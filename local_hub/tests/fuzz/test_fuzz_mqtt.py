# SPDX-License-Identifier: Apache-2.0
"""MQTT: the reader of packets, topics, and a whole connection."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from local_hub.core.sas import key_bytes, sign
from local_hub.mqtt import packets, topics
from local_hub.mqtt.packets import Packet, PacketReader, ProtocolError
from local_hub.mqtt.server import MqttServer

from local_hub.tests.fuzz.mutation import damaged

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
identifiers = st.integers(1, 0xFFFF)
wild = st.text(st.characters(), max_size=8)  # with lone surrogates, which JSON can hold and UTF-8 cannot
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | wild,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(wild, inner, max_size=3),
    max_leaves=8,
)


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        length.append(byte | (0x80 if size else 0))
        if not size:
            return bytes((first, *length)) + body


def encode(sent: Packet) -> bytes:
    """As a client writes it."""
    match sent:
        case packets.Publish() | packets.PubAck():
            return sent.encode()
        case packets.Subscribe(identifier, filters):
            body = b"".join(text(name) + bytes((qos,)) for name, qos in filters)
            return packet(0x82, struct.pack(">H", identifier) + body)
        case packets.Unsubscribe(identifier, filters):
            return packet(0xA2, struct.pack(">H", identifier) + b"".join(map(text, filters)))
        case packets.PingReq():
            return b"\xc0\x00"
        case packets.Disconnect():
            return b"\xe0\x00"
        case packets.Connect(level, client, user, password, clean, keep_alive):
            flags = (user is not None) << 7 | (password is not None) << 6 | clean << 1
            body = text("MQTT") + bytes((level, flags)) + struct.pack(">H", keep_alive) + text(client)
            body += b"" if user is None else text(user)
            return packet(0x10, body + (b"" if password is None else struct.pack(">H", len(password)) + password))


topic_names = st.one_of(
    texts,
    st.builds("devices/one/messages/events/{}".format, texts),
    st.builds("$iothub/twin/GET/?$rid={}".format, texts),
    st.builds("$iothub/twin/PATCH/properties/reported/?$rid={}".format, texts),
    st.builds("$iothub/methods/res/{}/?$rid={}".format, st.integers(-(10**10), 10**10), texts),
).map(lambda topic: topic.replace("#", "").replace("+", ""))
payloads = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(wild, json_values, max_size=3).map(lambda value: json.dumps(value).encode()),
    st.integers(1, 3000).map(lambda depth: b'{"a":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(1, 300).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
)
filters = texts | st.sampled_from(sorted(topics.allowed_filters("one")))
publishes = st.one_of(
    st.builds(packets.Publish, topic_names, payloads, st.just(0), st.just(0), st.booleans(), st.booleans()),
    st.builds(packets.Publish, topic_names, payloads, st.just(1), identifiers, st.booleans(), st.booleans()),
)
sendable: st.SearchStrategy[Packet] = st.one_of(
    publishes,
    st.builds(packets.PubAck, identifiers),
    st.builds(
        packets.Subscribe,
        identifiers,
        st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(packets.Unsubscribe, identifiers, st.lists(filters, min_size=1, max_size=3).map(tuple)),
    st.just(packets.PingReq()),
    st.just(packets.Disconnect()),
)
connects = st.builds(
    packets.Connect,
    st.integers(0, 255),
    texts,
    st.none() | texts,
    st.none() | st.binary(max_size=40),
    st.booleans(),
    st.integers(0, 0xFFFF),
)
streams = st.lists((sendable | connects).map(encode), max_size=4).map(b"".join)


def read(data: bytes, step: int, most: int = packets.MAX_PACKET) -> tuple[list[Packet], str | None]:
    """What a reader makes of a stream, and why it stopped."""
    reader, found = PacketReader(most), []
    try:
        for start in range(0, len(data), step):
            for each in reader.feed(data[start : start + step]):
                found.append(each)
            assert len(reader._buffer) <= most + 5
    except ProtocolError as error:
        return found, str(error)
    return found, None


@given(st.lists(sendable | connects, max_size=4))
def test_what_a_client_writes_is_read_back(sent: list[Packet]) -> None:
    assert read(b"".join(map(encode, sent)), 1 << 20) == (sent, None)


@given(damaged(streams) | st.binary(max_size=200), st.integers(1, 7))
def test_pieces_make_no_difference(data: bytes, step: int) -> None:
    assert read(data, len(data) or 1, 1000) == read(data, step, 1000)


@given(st.text(), st.text(max_size=8))
@example("$iothub/methods/res/" + "9" * 10 + "/?$rid=1", "one")
def test_any_topic_has_a_meaning_or_none(topic: str, device: str) -> None:
    found = topics.parse_publication(topic, device)
    assert found is None or isinstance(found, topics.Publication)


@given(st.dictionaries(names.filter(lambda name: name and not name.startswith("$.")), names, max_size=5))
def test_properties_in_a_topic_are_read_back(properties: dict[str, str]) -> None:
    encoded = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in properties.items())
    found = topics.parse_publication(f"devices/one/messages/events/{encoded}/", "one")
    assert found == topics.Telemetry({}, properties)


class Wire(asyncio.Transport):
    """What a connection writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.hung_up = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.hung_up = True

    abort = close

    def is_closing(self) -> bool:
        return self.hung_up

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered here."""


async def conversation(bench: Any, parts: list[bytes], *, admitted: bool) -> Wire:
    """One connection from beginning to end."""
    wire, connection = Wire(), MqttServer(bench.hub).connection()
    connection.connection_made(wire)
    if admitted:
        token = sign("localhost/devices/one", key_bytes(bench.key) or b"", int(time.time()) + 3600)
        user = "localhost/one/?api-version=2021-04-12"
        parts = [encode(packets.Connect(4, "one", user, token.encode(), False, 60)), *parts]
    for part in parts:
        if part and not wire.hung_up:
            connection.data_received(part)
        for _ in range(6):
            await asyncio.sleep(0)
    await bench.hub.store.commit()  # what waits for the disk goes on
    for _ in range(6):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return wire


@given(st.lists(sendable.map(encode), max_size=5) | damaged(streams).map(lambda data: [data]))
def test_a_device_that_is_admitted_breaks_nothing(bench: Any, parts: list[bytes]) -> None:
    wire = bench.run(conversation(bench, parts, admitted=True))
    assert wire.written[:4] in (b"\x20\x02\x00\x00", b"\x20\x02\x01\x00")
    assert not bench.failures, bench.failures


@given(damaged(streams) | st.binary(max_size=100))
def test_nobody_gets_in_by_accident(bench: Any, data: bytes) -> None:
    wire = bench.run(conversation(bench, [data], admitted=False))
    assert not wire.written or wire.written[3] != packets.ACCEPTED
    assert not bench.failures, bench.failures


reports = st.one_of(
    st.dictionaries(wild, json_values, max_size=3).map(json.dumps),
    st.integers(1, 1200).map(lambda depth: '{"a":' + "[" * depth + "]" * depth + "}"),
    st.integers(1, 1200).map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
)


@given(reports)
@example('{"a":"\\ud800"}')
@example('{"a":' + "[" * 940 + "]" * 940 + "}")
@example('{"a":' + "[" * 700 + "]" * 700 + "}")
@example('{"a":NaN}')
def test_a_report_is_taken_whole_or_refused_and_the_twin_stays_readable(bench: Any, patch: str) -> None:
    topic = "$iothub/twin/PATCH/properties/reported/?$rid=1"
    report = packets.Publish(topic, patch.encode()).encode()
    ask = packets.Publish("$iothub/twin/GET/?$rid=2", b"").encode()
    subscribe = encode(packets.Subscribe(1, ((topics.TWIN_RESPONSES, 0),)))
    wire = bench.run(conversation(bench, [subscribe, report, ask], admitted=True))
    assert b"$iothub/twin/res/200/?$rid=2" in wire.written
    assert b"$rid=1" in wire.written
    assert not bench.failures, bench.failures
