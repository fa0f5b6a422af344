# SPDX-License-Identifier: Apache-2.0
"""AMQP bytes: the hub's own encoder read by proton, the SASL handshake, the padding of performatives."""

from __future__ import annotations

import struct
from typing import Any

import proton
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.amqp.connection import AmqpConnection
from local_hub.amqp.encoding import (
    Array,
    Described,
    Int,
    Symbol,
    Timestamp,
    UInt,
    ULong,
    data_sections,
    encode,
    encode_message,
)
from local_hub.amqp.frames import (
    BATCH,
    MECHANISMS,
    SASL_HEADER,
    FrameError,
    FrameReader,
    FrameWriter,
    SaslHandshake,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def frame(performative: Described, payload: bytes = b"") -> bytes:
    body = encode(performative) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, 0, 0) + body


def init(mechanism: str, response: bytes = b"") -> bytes:
    body = encode(Described(0x41, [Symbol(mechanism), response, "localhost"]))
    return SASL_HEADER + struct.pack(">IBBH", len(body) + 8, 2, 1, 0) + body


@given(values)
def test_proton_reads_what_the_encoder_writes(value: Any) -> None:
    data = proton.Data()
    encoded = encode(value)
    while encoded:
        encoded = encoded[data.decode(encoded) :]
    data.rewind()
    data.next()
    assert data.get_object() == value


def test_a_message_has_no_empty_properties() -> None:
    encoded = encode_message(data=b"body", annotations={"x-opt-offset": "1", "t": Timestamp(5)})
    assert b"\x00\x53\x73" not in encoded
    message = proton.Message()
    message.decode(encoded)
    assert (message.body, message.annotations) == (b"body", {"x-opt-offset": "1", "t": 5})


def test_identifiers_keep_their_type() -> None:
    assert encode(ULong(1))[0] == 0x80
    assert encode(Int(1))[0] == 0x71
    assert encode(Array(("a", "b")))[0] == 0xE0


@pytest.mark.parametrize("mechanism", [each for each in MECHANISMS if each != "PLAIN"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_handshake_ends_well_in_any_pieces(mechanism: str, size: int) -> None:
    sasl, data, rest = SaslHandshake(), init(mechanism) + b"more", b""
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        rest += piece if sasl.done else sasl.feed(piece)
    assert sasl.done
    assert rest == b"more"
    assert sasl.output.startswith(SASL_HEADER)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"AMQP\x01\x01\x00\x00", init("PLAIN"), init("NTLM"), SASL_HEADER + b"\xff" * 8]
)
def test_other_beginnings_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        SaslHandshake().feed(data)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_client_may_begin_without_sasl(size: int) -> None:
    """As Node's SDKs do."""
    sasl, data, rest = SaslHandshake(), b"AMQP\x00\x01\x00\x00more", b""
    for start in range(0, len(data), size):
        rest += sasl.feed(data[start : start + size]) if not sasl.done else data[start : start + size]
    assert (sasl.done, sasl.output, rest) == (True, b"", data)


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_plain_asks_for_the_password(password: str) -> None:
    sasl = SaslHandshake(lambda user, given: (user, given) == ("me", "right"))
    sasl.feed(init("PLAIN", b"\0me\0" + password.encode()))
    assert (sasl.done, sasl.refused) == (password == "right", password == "wrong")
    assert sasl.output.endswith(b"\x50\x00\x40" if sasl.done else b"\x50\x01\x40")


def transfer(handle: int, message_format: int | None, more: bool = False) -> bytes:
    fields = [UInt(handle), UInt(0), b"tag", None if message_format is None else UInt(message_format), False, more]
    return frame(Described(0x14, fields), b"payload")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_of_batches_are_told_apart(size: int) -> None:
    frames = [
        (transfer(0, BATCH, more=True), True),
        (transfer(1, 0), False),
        (transfer(0, None, more=True), True),  # only the first tells the format
        (transfer(0, None), True),
        (transfer(0, 0), False),
        (transfer(1, BATCH), True),
        (frame(Described(0x13, [])), False),
    ]
    data = b"AMQP\x00\x01\x00\x00" + b"".join(each for each, _ in frames)
    reader = FrameReader()
    got = [each for start in range(0, len(data), size) for each in reader.feed(data[start : start + size])]
    assert got == [(data[:8], False), *frames]


def test_what_comes_on_a_channel_after_its_end_is_dropped() -> None:
    def on(channel: int, code: int) -> bytes:
        return frame(Described(code, []))[:6] + channel.to_bytes(2) + frame(Described(code, []))[8:]

    late = [on(2, 0x15), on(2, 0x13)]
    kept = [on(2, 0x11), on(3, 0x11), on(2, 0x17), on(3, 0x15), on(2, 0x18), on(2, 0x11), on(2, 0x15)]
    data = b"AMQP\x00\x01\x00\x00" + b"".join([*kept[:3], *late, *kept[3:]])
    assert [each for each, _ in FrameReader().feed(data)][1:] == kept


@given(st.binary(max_size=200))
def test_a_frame_reader_never_fails_otherwise(data: bytes) -> None:
    try:
        list(FrameReader().feed(b"AMQP\x00\x01\x00\x00" + struct.pack(">IBBH", len(data) + 8, 2, 0, 0) + data))
        data_sections(data)
    except (FrameError, ValueError):
        pass


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_data_sections_are_found(contents: list[bytes]) -> None:
    sections = b"".join(encode(Described(0x75, each)) for each in contents)
    assert data_sections(encode(Described(0x74, {"a": [1, "b"]})) + sections) == contents


def test_performatives_get_all_their_fields_and_keep_their_payload() -> None:
    short = frame(Described(0x14, [1, 2]), b"payload")
    padded = FrameWriter().feed(b"AMQP\x00\x01\x00\x00" + short)
    assert padded.startswith(b"AMQP\x00\x01\x00\x00")
    (size,) = struct.unpack_from(">I", padded, 8)
    assert size == len(padded) - 8
    assert padded.endswith(b"\x40" * 9 + b"payload")
    assert struct.unpack_from(">I", padded, 8 + 8 + 3 + 5)[0] == 11


def test_other_frames_pass_unchanged() -> None:
    heartbeat = struct.pack(">IBBH", 8, 2, 0, 0)
    writer = FrameWriter()
    assert writer.feed(heartbeat + b"\x00\x00") == heartbeat
    assert writer.feed(heartbeat[2:]) == heartbeat


@given(st.integers(512, 2**32 - 1), st.sampled_from(["", "hub.example"]))
def test_an_open_leaves_room_for_padding(size: int, hostname: str) -> None:
    said = frame(Described(0x10, ["client", hostname or None, UInt(size), 100]), b"")
    [(heard, _)] = list(FrameReader().feed(b"AMQP\x00\x01\x00\x00" + said))[1:]
    connection, transport = proton.Connection(), proton.Transport(proton.Transport.SERVER)
    transport.bind(connection)
    transport.push(b"AMQP\x00\x01\x00\x00" + heard)
    assert transport.remote_max_frame_size == (size - 32 if size >= 544 else size)
    assert (connection.remote_container, connection.remote_hostname) == ("client", hostname or None)


@given(st.binary(max_size=60))
def test_an_open_that_makes_no_sense_is_left_to_proton(body: bytes) -> None:
    said = struct.pack(">IBBH", len(body) + 11, 2, 0, 0) + b"\x00\x53\x10" + body
    assert len(list(FrameReader().feed(b"AMQP\x00\x01\x00\x00" + said))) == 2


def test_a_flow_before_the_first_link_of_its_session_is_left_out() -> None:
    """uamqp of the C SDK gives up what it was to send when a flow comes before the answer to its attach."""

    def said(performative: int) -> bytes:
        return frame(Described(performative, [0]))

    begin, attach, flow, end = said(0x11), said(0x12), said(0x13), said(0x17)
    writer = FrameWriter()
    kept = [len(writer.feed(each)) > 0 for each in (begin, flow, attach, flow, end, begin, flow, attach, flow)]
    assert kept == [True, False, True, True, True, True, False, True, True]


def test_proton_sends_no_flow_before_a_link() -> None:
    """What the filter is for: a session that is opened and nothing else."""
    connection = AmqpConnection("test", Silent())
    connection.receive(
        b"AMQP\x00\x01\x00\x00"
        + frame(Described(0x10, ["client"]))
        + frame(Described(0x11, [None, UInt(0), UInt(100), UInt(100)]))
    )
    performatives = []
    reader = FrameReader()
    for sent, _ in reader.feed(connection.output()):
        performatives.append(sent[10] if len(sent) > 10 else None)
    connection.free()
    assert performatives == [None, 0x10, 0x11]


class Silent:
    """A handler that takes no link."""

    def attaching(self, link: Any) -> None:
        link.refuse("amqp:not-found", "nothing")

    def received(self, link: Any, message: Any, delivery: Any) -> None: ...
    def credited(self, link: Any) -> None: ...
    def settled(self, link: Any, tag: int, accepted: bool) -> None: ...
    def detached(self, link: Any) -> None: ...


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_end_in_an_answer_or_a_frame_error(data: bytes, framed: bool) -> None:
    connection = AmqpConnection("test", Silent())
    stream = init("ANONYMOUS") + b"AMQP\x00\x01\x00\x00"
    stream += struct.pack(">IBBH", len(data) + 8, 2, 0, 0) + data if framed else data
    try:
        connection.receive(stream)
        connection.output()
        connection.receive(data)
    except FrameError:
        pass
    finally:
        connection.free()
