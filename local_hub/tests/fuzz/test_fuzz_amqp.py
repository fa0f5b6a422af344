# SPDX-License-Identifier: Apache-2.0
"""AMQP: the SASL handshake, and a connection from its first byte, with proton behind it."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from local_hub.amqp.connection import AmqpConnection
from local_hub.amqp.encoding import Described, Symbol, UByte, UInt, ULong, encode, encode_message
from local_hub.amqp.frames import (
    AMQP_HEADER,
    MECHANISMS,
    SASL_HEADER,
    FrameError,
    FrameWriter,
    SaslHandshake,
)
from local_hub.core.errors import ArgumentInvalid

from local_hub.tests.fuzz.mutation import damaged

texts = st.text(max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts | texts.map(Symbol) | st.binary(max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
small = st.integers(0, 3)


def frame(body: bytes, channel: int = 0, kind: int = 0) -> bytes:
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def performative(code: int, *given: Any) -> bytes:
    """Python's small integers as the unsigned ones that nearly all fields are."""
    fields = (UInt(each) if type(each) is int and 0 <= each < 2**32 else each for each in given)
    return encode(Described(code, list(fields)))


def sasl(mechanism: str, *more: Any) -> bytes:
    return SASL_HEADER + frame(performative(0x41, Symbol(mechanism), *more), kind=1)


terminus = st.builds(
    lambda code, address: Described(code, [address]), st.sampled_from([0x28, 0x29]), st.none() | texts | st.just("$cbs")
)
messages = st.builds(
    lambda body, properties, application: encode_message(
        data=body, properties=properties, application_properties=application
    ),
    st.binary(max_size=80),
    st.fixed_dictionaries({}, optional={"message-id": texts | st.integers(0, 9).map(ULong), "to": texts}),
    st.dictionaries(texts, texts | st.integers(-5, 5) | st.booleans(), max_size=2),
)
frames = st.one_of(
    st.just(frame(b"")),
    st.builds(lambda name, size: frame(performative(0x10, name, None, size)), texts, st.integers(0, 2**32 - 1)),
    st.builds(lambda ch: frame(performative(0x11, None, 0, 2048, 2048), ch), small),
    st.builds(
        lambda ch, name, handle, role, source, target: frame(
            performative(0x12, name, handle, role, UByte(0), UByte(0), source, target, None, None, 0), ch
        ),
        small,
        texts,
        small,
        st.booleans(),
        st.none() | terminus,
        st.none() | terminus,
    ),
    st.builds(
        lambda ch, handle, credit, drain: frame(performative(0x13, 0, 2048, 0, 2048, handle, 0, credit, 0, drain), ch),
        small,
        st.none() | small,
        st.integers(0, 200),
        st.booleans(),
    ),
    st.builds(
        lambda ch, handle, number, more, payload: frame(
            performative(0x14, handle, number, b"t%d" % number, 0, False, more) + payload, ch
        ),
        small,
        small,
        small,
        st.booleans(),
        messages | st.binary(max_size=60) | values.map(encode),
    ),
    st.builds(
        lambda ch, role: frame(performative(0x15, role, 0, 5, True, Described(0x24, [])), ch), small, st.booleans()
    ),
    st.builds(lambda ch, handle: frame(performative(0x16, handle, True), ch), small, small),
    st.builds(lambda ch: frame(performative(0x17), ch), small),
    st.just(frame(performative(0x18))),
    st.builds(
        lambda ch, code, given: frame(performative(code, *given), ch),
        small,
        st.integers(0x10, 0x18),
        st.lists(values, max_size=12),
    ),
)
# Bodies of frames start as they should, so that an open, a session and a link are often there.
OPENING = AMQP_HEADER + frame(performative(0x10, "client", "localhost"))
SESSION = frame(performative(0x11, None, 0, 2048, 2048))
LINKS = frame(
    performative(
        0x12, "in", 0, False, UByte(0), UByte(0), Described(0x28, ["x"]), Described(0x29, ["y"]), None, None, 0
    )
) + frame(performative(0x12, "out", 1, True, UByte(0), UByte(0), Described(0x28, ["x"]), Described(0x29, ["y"])))
openings = st.sampled_from([[AMQP_HEADER], [OPENING], [OPENING, SESSION], [OPENING, SESSION, LINKS]])
talks = st.builds(list.__add__, openings, st.lists(frames, max_size=6))
"""What a client says, in parts after which it listens: proton closes on one that does not wait for its window."""


class Curious:
    """A handler that takes every second link, accepts and answers."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._links = 0

    def attaching(self, link: Any) -> None:
        self._links += 1
        if self._links == 3:
            link.refuse("amqp:not-found", "nothing")
        else:
            link.attach()
        self.seen.append(f"attach {link.sends} {link.source} {link.target}")

    def received(self, link: Any, message: Any, delivery: Any) -> None:
        delivery.accept()
        self.seen.append(f"message {message.body!r} {message.properties!r}")

    def credited(self, link: Any) -> None:
        if link.credit > 0:
            link.send(encode_message(data=b"answer"))
        link.finish_drain()

    def settled(self, link: Any, tag: int, outcome: Any) -> None:
        self.seen.append(f"settled {tag} {outcome}")

    def detached(self, link: Any) -> None:
        self.seen.append("detached")

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def outcome(parts: list[bytes], step: int = 1 << 20) -> tuple[list[str], bool]:
    """What a handler was told, and whether the connection ended. Output is whole frames all the while."""
    handler = Curious()
    connection = AmqpConnection("fuzz", handler)
    output, ended = b"", False
    try:
        for part in (sasl("ANONYMOUS"), *parts):
            for start in range(0, len(part), step):
                connection.receive(part[start : start + step])
            output += connection.output()
            connection.tick(1.0)
            if connection.closed:
                ended = True
                break
    except FrameError:
        ended = True
    finally:
        connection.free()
        connection.free()
    assert FrameWriter().feed(output) == output
    return handler.seen, ended


def handshake(data: bytes, step: int) -> tuple[bool, bytes, bytes, bool]:
    made, rest, failed = SaslHandshake(), b"", False
    try:
        for start in range(0, len(data), step):
            part = data[start : start + step]
            rest += part if made.done else made.feed(part)
    except FrameError:
        failed = True
    return made.done, made.output, rest, failed


inits = st.builds(sasl, st.sampled_from(MECHANISMS) | texts, st.none() | st.binary(max_size=40), texts)


@given(st.builds(bytes.__add__, damaged(inits), st.binary(max_size=10)) | st.binary(max_size=60), st.integers(1, 9))
def test_a_handshake_is_the_same_in_pieces(data: bytes, step: int) -> None:
    whole, pieces = handshake(data, len(data) or 1), handshake(data, step)
    assert whole == pieces


@pytest.mark.parametrize("tag", [b"t", b"1", b"\xff"])
def test_a_client_cannot_send_on_a_link_on_which_the_hub_sends(tag: bytes) -> None:
    backwards = frame(performative(0x14, 1, 0, tag, 0, False, False))
    settlement = frame(performative(0x15, False, 0, 5, True, Described(0x24, [])))
    outcome([OPENING, SESSION, LINKS, backwards, settlement])


def test_an_address_that_is_no_text_ends_the_connection() -> None:
    assert outcome([OPENING, SESSION, LINKS.replace(b"\xa1\x01x", b"\xa1\x01\xf8")])[1]


def test_who_was_refused_has_no_second_attempt() -> None:
    made = SaslHandshake()
    made.feed(sasl("PLAIN", b"\0user\0wrong", ""))
    answered = made.output
    assert made.refused
    assert made.feed(sasl("ANONYMOUS")[len(SASL_HEADER) :]) == b""
    assert made.refused
    assert not made.done
    assert made.output == answered


@given(inits, st.binary(max_size=20))
def test_a_handshake_ends_where_the_client_began_to_speak_amqp(init: bytes, more: bytes) -> None:
    done, output, rest, failed = handshake(init + more, 1 << 20)
    assert not (done and failed)
    if done:
        assert rest == more
        assert output.startswith(SASL_HEADER)


@given(talks)
def test_what_a_client_says_is_understood_or_refused(parts: list[bytes]) -> None:
    outcome(parts)
    outcome([b"".join(parts)])


@given(talks, st.data())
def test_what_a_broken_client_says_is_understood_or_refused(parts: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(parts) - 1))
    parts[number] = data.draw(damaged(st.just(parts[number])))
    outcome(parts)


@given(talks, st.integers(1, 40))
def test_pieces_make_no_difference(parts: list[bytes], step: int) -> None:
    assert outcome(parts) == outcome(parts, step)


@pytest.mark.parametrize("size", [0, 7, 65537, 2**31, 2**32 - 1])
def test_an_impossible_length_is_refused_at_once(size: int) -> None:
    connection = AmqpConnection("fuzz", Curious())
    ended = False
    try:
        connection.receive(sasl("ANONYMOUS") + OPENING + struct.pack(">IBBH", size, 2, 0, 0))
        connection.output()
        ended = connection.closed
    except FrameError:
        ended = True
    finally:
        connection.free()
    assert ended


@given(
    st.lists(
        st.integers(0x10, 0x16).flatmap(
            lambda code: st.lists(scalars, max_size=6).map(lambda given: frame(performative(code, *given)))
        ),
        max_size=3,
    )
)
def test_padding_twice_is_padding_once(made: list[bytes]) -> None:
    padded = FrameWriter().feed(b"".join(made))
    assert FrameWriter().feed(padded) == padded


def test_the_opening_really_opens() -> None:
    message = frame(performative(0x14, 0, 0, b"t", 0, True) + encode_message(data=b"hello"))
    seen, ended = outcome([OPENING, SESSION, LINKS, message])
    assert not ended
    assert [each.split()[0] for each in seen] == ["attach", "attach", "message", "detached", "detached"]


quotes = st.sampled_from(["'", ""])
selectors = st.builds(
    "amqp.annotation.x-opt-{} {} {}{}{}".format,
    st.sampled_from(["offset", "sequence-number", "enqueued-time", "enqueuedtimeutc"]),
    st.sampled_from([">", ">="]),
    quotes,
    st.integers().map(str) | texts | st.just("@latest"),
    quotes,
)


@given(selectors | texts)
@example("amqp.annotation.x-opt-enqueued-time > '99999999999999999999'")
def test_any_filter_of_a_receiver_is_a_position_or_refused(bench: Any, selector: str) -> None:
    with contextlib.suppress(ArgumentInvalid):
        assert bench.run(bench.hub.events.position(0, selector)) >= 0
