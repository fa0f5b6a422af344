# SPDX-License-Identifier: Apache-2.0
"""One AMQP connection without I/O: bytes in, calls of a handler, bytes out.

The only file that knows proton. Proton has no types, so that what leaves this file is made of the hub's own.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from proton import (
    Collector,
    Condition,
    Delivery,
    Described,
    Endpoint,
    Event,
    Message,
    ProtonException,
    Terminus,
    Transport,
    symbol,
    ushort,
)
from proton import Connection as _ProtonConnection

from .encoding import ULong, data_sections
from .frames import MAX_FRAME, FrameError, FrameReader, FrameWriter, Login, SaslHandshake

MAX_MESSAGE = 1024 * 1024
_CREDIT = 100
_IDLE_TIMEOUT = 240.0
MAX_LINKS = 512
# Proton holds the beginnings of messages on all links, also of clients that have not yet said who they are.
_MAX_UNFINISHED = 8 * 1024 * 1024
_CHUNK = 16384


class Outcome(Enum):
    """What a client did with a message that it was sent."""

    ACCEPTED = auto()
    REJECTED = auto()
    RELEASED = auto()


@dataclass(frozen=True)
class IncomingMessage:
    """A message that a client sent. One that came as a `batch` has no body, and its properties are no event's."""

    body: Any
    message_id: Any = None
    correlation_id: Any = None
    user_id: str | None = None
    to: str | None = None
    reply_to: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    expires_at: float | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    batch: tuple[IncomingMessage, ...] = ()


class IncomingDelivery:
    """A message that waits for its verdict. After its link is gone, a verdict says nothing to anybody."""

    def __init__(self, link: Link, delivery: Any) -> None:
        self._link = link
        self._delivery = delivery

    def accept(self) -> None:
        """The hub has it."""
        if self._link.gone:
            return
        self._delivery.update(Delivery.ACCEPTED)
        self._delivery.settle()
        self._link.replenish(1)

    def reject(self, condition: str, description: str) -> None:
        """The hub does not take it."""
        if self._link.gone:
            return
        self._delivery.local.condition = Condition(condition, description)
        self._delivery.update(Delivery.REJECTED)
        self._delivery.settle()
        self._link.replenish(1)


class Link:
    """A link that a client attached. `sends` tells whether messages go to the client."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._tag = 0
        self._waiting = 0
        self._settled = False
        self.attached = False
        self.gone = False
        self.max_message = MAX_MESSAGE
        self.sends = bool(link.is_sender)
        self.session = link.session
        self.source = link.remote_source.address or ""
        self.target = link.remote_target.address or ""
        self.selector = _selector(link) if self.sends else None
        self.properties = {str(name): value for name, value in (link.remote_properties or {}).items()}

    @property
    def credit(self) -> int:
        """How many messages the client still takes, less those that proton holds already."""
        return int(self._link.credit) if self.attached else 0

    @property
    def queued(self) -> int:
        """How many messages proton holds back until the client gives credit."""
        return int(self._link.queued)

    @property
    def confirms(self) -> bool:
        """Whether the client says what became of messages; if it does not, they are settled when they are sent."""
        return not self._settled and bool(self._link.remote_snd_settle_mode != self._link.SND_SETTLED)

    def attach(self, max_message: int = MAX_MESSAGE, *, settled: bool = False) -> None:
        """Agree to the link as the client asked for it, or, if `settled`, to send what nobody has to confirm."""
        link, self.max_message, self._settled = self._link, max_message, settled
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.snd_settle_mode = link.SND_SETTLED if settled else link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.max_message_size = max_message
        link.open()
        self.attached = True
        if not self.sends:
            link.flow(_CREDIT)

    def refuse(self, condition: str, description: str, info: dict[str, Any] | None = None) -> None:
        """Do not agree: attach without a terminus, then detach with the reason (part 2.6.3 of the standard)."""
        if self.sends:
            self._link.target.copy(self._link.remote_target)
            self._link.source.type = Terminus.UNSPECIFIED
        else:
            self._link.source.copy(self._link.remote_source)
            self._link.target.type = Terminus.UNSPECIFIED
        self._link.open()
        self.detach(condition, description, info)

    def redirect(self, host: str, port: int, path: str) -> None:
        """Refuse, and say where the node is (part 2.8.17 of the standard)."""
        info = {
            "hostname": host,
            "network-host": host,
            "port": ushort(port),
            "address": f"amqps://{host}:{port}/{path}",
        }
        self.refuse("amqp:link:redirect", f"the node is {path}", info)

    def detach(self, condition: str, description: str, info: dict[str, Any] | None = None) -> None:
        """End the link with a reason."""
        self.attached = False
        details: Any = {symbol(name): value for name, value in info.items()} if info else None
        self._link.condition = Condition(condition, description, details)
        self._link.close()

    def send(self, message: bytes) -> int:
        """Send an encoded message.

        Returns:
            The number under which `ConnectionHandler.settled` tells its fate.
        """
        self._tag += 1
        # 16 characters: the .NET SDK reads a tag as a GUID, the token of the message's lock
        delivery = self._link.delivery(f"{self._tag:016x}")
        self._link.send(message)
        self._link.advance()
        if not self.confirms:
            delivery.settle()
        return self._tag

    def finish_drain(self) -> None:
        """Nothing more to send: give credit back to a client that asked for that."""
        if self.attached and self._link.drain_mode:
            self._link.drained()

    def took(self) -> None:
        """A message came and waits for its verdict: until then it counts against the credit."""
        self._waiting += 1

    def replenish(self, settled: int) -> None:
        """Messages got their verdict: let the client send as many as before."""
        self._waiting -= settled
        missing = _CREDIT - self._link.credit - self._waiting
        if self.attached and missing >= _CREDIT // 2:
            self._link.flow(missing)


class ConnectionHandler(Protocol):
    """What a connection tells."""

    def attaching(self, link: Link) -> None:
        """A client wants a link: `attach` or `refuse` it."""

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        """A message came."""

    def credited(self, link: Link) -> None:
        """The client may take more messages now."""

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        """The client has dealt with a message."""

    def detached(self, link: Link) -> None:
        """The link is gone."""


class AmqpConnection:
    """The server's side of a connection."""

    def __init__(
        self, container_id: str, handler: ConnectionHandler, login: Login = lambda user, password: False
    ) -> None:
        self._handler = handler
        self._sasl = SaslHandshake(login)
        self._frames = FrameReader()
        self._in_batch = False
        self._connection = _ProtonConnection()
        self._connection.container = container_id
        self._transport = Transport(Transport.SERVER)
        self._transport.max_frame_size = MAX_FRAME
        self._transport.idle_timeout = _IDLE_TIMEOUT
        self._transport.bind(self._connection)
        self._collector = Collector()
        self._connection.collect(self._collector)
        self._links: dict[Any, Link] = {}
        self._unfinished: dict[Link, int] = {}
        self._writer = FrameWriter()
        self._freed = False
        self.max_links = MAX_LINKS

    @property
    def closed(self) -> bool:
        """Nothing more will be said."""
        return self._freed or self._sasl.refused or bool(self._transport.closed)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client.

        Raises:
            FrameError: this is not AMQP.
        """
        if not self._sasl.done:
            data = self._sasl.feed(data)
        for frame, in_batch in self._frames.feed(data):
            self._in_batch = in_batch
            self._push(frame)

    def _push(self, data: bytes) -> None:
        while data and not self.closed:
            capacity = self._transport.capacity()
            if capacity <= 0:
                reason = self._transport.condition or "it sent more after the end of the connection"
                raise FrameError(f"proton takes nothing more: {reason}")
            try:
                self._transport.push(data[:capacity])
            except ProtonException as error:
                raise FrameError(str(error)) from error
            data = data[capacity:]
            self._dispatch()

    def output(self) -> bytes:
        """Bytes for the client."""
        handshake, self._sasl.output = self._sasl.output, b""
        if not self._sasl.done or self._freed:
            return handshake
        parts = []
        while (pending := self._transport.pending()) > 0:
            chunk = self._transport.peek(min(pending, _CHUNK)) or b""
            self._transport.pop(len(chunk))
            parts.append(bytes(chunk))
            self._dispatch()
        return handshake + self._writer.feed(b"".join(parts))

    def tick(self, now: float) -> float:
        """Keep the connection alive; the answer is the time of the next call, 0 for none."""
        return float(self._transport.tick(now)) if not self._freed else 0.0

    def free(self) -> None:
        """The socket is gone: forget everything."""
        if self._freed:
            return
        self._freed = True
        for link in list(self._links.values()):
            self._forget(link)
        self._transport.unbind()
        self._collector.release()
        self._connection.free()

    def close(self, condition: str, description: str) -> None:
        """End links, sessions and the connection with a reason; Node waits for the end of each that is left out."""
        if self._freed:
            return
        for link in list(self._links.values()):
            if link.attached:
                link.detach(condition, description)
        session: Any = self._connection.session_head(Endpoint.LOCAL_ACTIVE)
        while session is not None:
            session.close()
            session = session.next(Endpoint.LOCAL_ACTIVE)
        self._connection.condition = Condition(condition, description)
        self._connection.close()

    def end_session(self, link: Link, condition: str, description: str) -> None:
        """End the session that a link belongs to, and all its links with it."""
        link.session.condition = Condition(condition, description)
        link.session.close()
        self._forget_links(link.session)

    def _dispatch(self) -> None:
        while (event := self._collector.peek()) is not None:
            react = _REACTIONS.get(event.type)
            if react is not None:
                try:
                    react(self, event)
                except UnicodeDecodeError:  # proton decodes texts when they are asked for
                    raise FrameError("a text is not UTF-8") from None
            self._collector.pop()

    def _connection_opened(self, event: Any) -> None:
        event.connection.open()

    def _connection_closed(self, event: Any) -> None:
        event.connection.close()

    def _session_opened(self, event: Any) -> None:
        event.session.incoming_capacity = 4 * MAX_MESSAGE
        event.session.open()

    def _session_closed(self, event: Any) -> None:
        self._forget_links(event.session)
        event.session.close()

    def _link_opened(self, event: Any) -> None:
        if event.link in self._links:
            return
        link = Link(event.link)
        if len(self._links) >= self.max_links:
            link.refuse("amqp:resource-limit-exceeded", "too many links")
            return
        self._links[event.link] = link
        self._handler.attaching(link)

    def _link_closed(self, event: Any) -> None:
        link = self._links.get(event.link)
        if link is not None:
            self._forget(link)
        event.link.close()

    def _link_flow(self, event: Any) -> None:
        link = self._links.get(event.link)
        if link is not None and link.sends and link.attached:
            self._handler.credited(link)

    def _delivery(self, event: Any) -> None:
        link = self._links.get(event.link)
        if link is None:
            return
        if link.sends:
            self._outcome(link, event.delivery)
        else:
            self._incoming(link, event.delivery)

    def _outcome(self, link: Link, delivery: Any) -> None:
        if delivery.updated and (delivery.remote_state or delivery.settled):
            try:
                tag = int(delivery.tag, 16)
            except ValueError:  # a client's own: it sent on a link on which the hub sends
                raise FrameError("the peer settles what it was not sent") from None
            outcome = _OUTCOMES.get(delivery.remote_state, Outcome.RELEASED)
            # who leaves the settlement to the hub hears that his verdict was taken, whatever it was
            delivery.update(Delivery.ACCEPTED)
            delivery.settle()
            self._handler.settled(link, tag, outcome)

    def _incoming(self, link: Link, delivery: Any) -> None:
        if not link.attached or delivery.aborted or not delivery.readable:
            return
        if delivery.pending > link.max_message:
            link.detach("amqp:link:message-size-exceeded", f"a message holds {link.max_message} bytes at most")
            return
        if delivery.partial:
            self._unfinished[link] = delivery.pending
            if sum(self._unfinished.values()) > _MAX_UNFINISHED:
                raise FrameError("the peer has begun too many messages at once")
            return
        self._unfinished.pop(link, None)
        data = delivery.link.recv(delivery.pending) or b""
        delivery.link.advance()
        incoming = IncomingDelivery(link, delivery)
        link.took()
        try:
            message = _decode_batch(bytes(data)) if self._in_batch else _decode(bytes(data))
        except (ProtonException, ValueError, TypeError, OverflowError) as error:
            incoming.reject("amqp:decode-error", str(error))
        else:
            self._handler.received(link, message, incoming)

    def _forget_links(self, session: Any) -> None:
        for link in [link for link in self._links.values() if link.session == session]:
            self._forget(link)

    def _forget(self, link: Link) -> None:
        self._links.pop(link._link, None)
        self._unfinished.pop(link, None)
        link.attached, link.gone = False, True
        self._handler.detached(link)


_REACTIONS = {
    Event.CONNECTION_REMOTE_OPEN: AmqpConnection._connection_opened,
    Event.CONNECTION_REMOTE_CLOSE: AmqpConnection._connection_closed,
    Event.SESSION_REMOTE_OPEN: AmqpConnection._session_opened,
    Event.SESSION_REMOTE_CLOSE: AmqpConnection._session_closed,
    Event.LINK_REMOTE_OPEN: AmqpConnection._link_opened,
    Event.LINK_REMOTE_CLOSE: AmqpConnection._link_closed,
    Event.LINK_REMOTE_DETACH: AmqpConnection._link_closed,
    Event.LINK_FLOW: AmqpConnection._link_flow,
    Event.DELIVERY: AmqpConnection._delivery,
}


_OUTCOMES = {Delivery.ACCEPTED: Outcome.ACCEPTED, Delivery.REJECTED: Outcome.REJECTED}


def _decode_batch(data: bytes) -> IncomingMessage:
    # what asks for a fault stands on the batch as a whole in the C SDK (uamqp_messaging.c)
    return IncomingMessage(None, properties=_decode(data).properties, batch=tuple(map(_decode, data_sections(data))))


def _decode(data: bytes) -> IncomingMessage:
    message = Message()
    message.decode(data)
    body = message.body
    sent: dict[Any, Any] = message.properties or {}
    annotations: dict[Any, Any] = message.annotations or {}
    return IncomingMessage(
        body=bytes(body) if isinstance(body, bytes | bytearray | memoryview) else body,
        message_id=_identifier(message.id),
        correlation_id=_identifier(message.correlation_id),
        user_id=bytes(message.user_id).decode(errors="replace") or None,
        to=message.address,
        reply_to=message.reply_to,
        content_type=_symbol(message.content_type),
        content_encoding=_symbol(message.content_encoding),
        expires_at=message.expiry_time or None,
        properties={_text(name): _plain(value) for name, value in sent.items()},
        annotations={_text(name): _plain(value) for name, value in annotations.items()},
    )


def _identifier(value: Any) -> Any:
    """An identifier in the type it came in, since a reply must carry it back in the same."""
    if isinstance(value, int):  # of numbers only an unsigned long can be an identifier
        return ULong(value)
    if isinstance(value, uuid.UUID | bytes):
        return value
    return None if value is None else str(value)


def _symbol(value: Any) -> str | None:
    """proton makes the text "None" of a symbol that is not there."""
    return None if value is None or str(value) in ("", "None") else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return _text(value)


def _text(value: Any) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, bytes | memoryview) else str(value)


def _selector(link: Any) -> str | None:
    """The filter of a receiver, whatever name it has: Event Hubs has one kind only."""
    data = link.remote_source.filter
    data.rewind()
    if not data.next():
        return None
    filters: dict[Any, Any] = data.get_object() or {}
    for value in filters.values():
        inner = value.value if isinstance(value, Described) else value
        return _text(inner)
    return None
