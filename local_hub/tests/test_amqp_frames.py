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
from local_hub.amqp.encoding import Array, Described, Int, Symbol, Timestamp, ULong, encode, encode_message
from local_hub.amqp.frames import MECHANISMS, SASL_HEADER, FrameError, SaslHandshake, pad_performatives, whole_frames

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def frame(performative: Described, payload: bytes = b"") -> bytes:
    body = encode(performative) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, 0, 0) + body


def init(mechanism: str) -> bytes:
    body = encode(Described(0x41, [Symbol(mechanism), b"", "localhost"]))
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


@pytest.mark.parametrize("mechanism", MECHANISMS)
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
    "data", [b"GET / HTTP/1.1\r\n", b"AMQP\x00\x01\x00\x00", init("PLAIN"), SASL_HEADER + b"\xff" * 8]
)
def test_other_beginnings_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        SaslHandshake().feed(data)


def test_performatives_get_all_their_fields_and_keep_their_payload() -> None:
    short = frame(Described(0x14, [1, 2]), b"payload")
    padded = pad_performatives(b"AMQP\x00\x01\x00\x00" + short)
    assert padded.startswith(b"AMQP\x00\x01\x00\x00")
    (size,) = struct.unpack_from(">I", padded, 8)
    assert size == len(padded) - 8
    assert padded.endswith(b"\x40" * 9 + b"payload")
    assert struct.unpack_from(">I", padded, 8 + 8 + 3 + 5)[0] == 11


def test_other_frames_pass_unchanged() -> None:
    heartbeat = struct.pack(">IBBH", 8, 2, 0, 0)
    assert pad_performatives(heartbeat) == heartbeat
    assert whole_frames(heartbeat + b"\x00\x00") == 8


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
