# SPDX-License-Identifier: Apache-2.0
"""One AMQP connection without I/O: bytes in, calls of a handler, bytes out.

The only file that knows proton. Proton has no types, so that what leaves this file is made of the hub's own.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from proton import (
    Collector,
    Condition,
    Delivery,
    Described,
    Event,
    Message,
    ProtonException,
    Terminus,
    Transport,
)
from proton import Connection as _ProtonConnection

from .encoding import ULong
from .frames import MAX_FRAME, FrameError, SaslHandshake, pad_performatives, whole_frames

MAX_MESSAGE = 1024 * 1024
_CREDIT = 100
_IDLE_TIMEOUT = 240.0
_MAX_LINKS = 512
_CHUNK = 16384


@dataclass(frozen=True)
class IncomingMessage:
    """A message that a client sent."""

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


class IncomingDelivery:
    """A message that waits for its verdict."""

    def __init__(self, delivery: Any) -> None:
        self._delivery = delivery

    def accept(self) -> None:
        """The hub has it."""
        self._delivery.update(Delivery.ACCEPTED)
        self._delivery.settle()

    def reject(self, condition: str, description: str) -> None:
        """The hub does not take it."""
        self._delivery.local.condition = Condition(condition, description)
        self._delivery.update(Delivery.REJECTED)
        self._delivery.settle()


class Link:
    """A link that a client attached. `sends` tells whether messages go to the client."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._tag = 0
        self.attached = False
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

    def attach(self) -> None:
        """Agree to the link as the client asked for it."""
        link = self._link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.snd_settle_mode = link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.max_message_size = MAX_MESSAGE
        link.open()
        self.attached = True
        if not self.sends:
            link.flow(_CREDIT)

    def refuse(self, condition: str, description: str) -> None:
        """Do not agree: attach without a terminus, then detach with the reason (part 2.6.3 of the standard)."""
        if self.sends:
            self._link.target.copy(self._link.remote_target)
            self._link.source.type = Terminus.UNSPECIFIED
        else:
            self._link.source.copy(self._link.remote_source)
            self._link.target.type = Terminus.UNSPECIFIED
        self._link.open()
        self.detach(condition, description)

    def detach(self, condition: str, description: str) -> None:
        """End the link with a reason."""
        self.attached = False
        self._link.condition = Condition(condition, description)
        self._link.close()

    def send(self, message: bytes) -> int:
        """Send an encoded message.

        Returns:
            The number under which `ConnectionHandler.settled` tells its fate.
        """
        self._tag += 1
        self._link.delivery(str(self._tag))
        self._link.send(message)
        self._link.advance()
        return self._tag

    def finish_drain(self) -> None:
        """Nothing more to send: give credit back to a client that asked for that."""
        if self.attached and self._link.drain_mode:
            self._link.drained()

    def replenish(self) -> None:
        """Let the client send as many as before."""
        missing = _CREDIT - self._link.credit
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

    def settled(self, link: Link, tag: int, accepted: bool) -> None:
        """The client has dealt with a message."""

    def detached(self, link: Link) -> None:
        """The link is gone."""


class AmqpConnection:
    """The server's side of a connection."""

    def __init__(self, container_id: str, handler: ConnectionHandler) -> None:
        self._handler = handler
        self._sasl = SaslHandshake()
        self._connection = _ProtonConnection()
        self._connection.container = container_id
        self._transport = Transport(Transport.SERVER)
        self._transport.max_frame_size = MAX_FRAME
        self._transport.idle_timeout = _IDLE_TIMEOUT
        self._transport.bind(self._connection)
        self._collector = Collector()
        self._connection.collect(self._collector)
        self._links: dict[Any, Link] = {}
        self._held = b""
        self._freed = False

    @property
    def closed(self) -> bool:
        """Nothing more will be said."""
        return self._freed or bool(self._transport.closed)

    def receive(self, data: bytes) -> None:
        """Take bytes from the client.

        Raises:
            FrameError: this is not AMQP.
        """
        if not self._sasl.done:
            data = self._sasl.feed(data)
        while data and not self.closed:
            capacity = self._transport.capacity()
            if capacity <= 0:
                raise FrameError("the peer sent more after the end of the connection")
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
        parts = [self._held]
        while (pending := self._transport.pending()) > 0:
            chunk = self._transport.peek(min(pending, _CHUNK)) or b""
            self._transport.pop(len(chunk))
            parts.append(bytes(chunk))
            self._dispatch()
        data = b"".join(parts)
        end = whole_frames(data)
        self._held = data[end:]
        return handshake + pad_performatives(data[:end])

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
        """End the connection with a reason."""
        if not self._freed:
            self._connection.condition = Condition(condition, description)
            self._connection.close()

    def _dispatch(self) -> None:
        while (event := self._collector.peek()) is not None:
            react = _REACTIONS.get(event.type)
            if react is not None:
                react(self, event)
            self._collector.pop()

    def _connection_opened(self, event: Any) -> None:
        event.connection.open()

    def _connection_closed(self, event: Any) -> None:
        event.connection.close()

    def _session_opened(self, event: Any) -> None:
        event.session.incoming_capacity = 4 * MAX_MESSAGE
        event.session.open()

    def _session_closed(self, event: Any) -> None:
        for link in [link for link in self._links.values() if link.session == event.session]:
            self._forget(link)
        event.session.close()

    def _link_opened(self, event: Any) -> None:
        if event.link in self._links:
            return
        link = Link(event.link)
        if len(self._links) >= _MAX_LINKS:
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
            tag, accepted = int(delivery.tag), delivery.remote_state == Delivery.ACCEPTED
            delivery.settle()
            self._handler.settled(link, tag, accepted)

    def _incoming(self, link: Link, delivery: Any) -> None:
        if not link.attached or delivery.aborted or not delivery.readable:
            return
        if delivery.pending > MAX_MESSAGE:
            link.detach("amqp:link:message-size-exceeded", f"a message holds {MAX_MESSAGE} bytes at most")
            return
        if delivery.partial:
            return
        data = delivery.link.recv(delivery.pending) or b""
        delivery.link.advance()
        incoming = IncomingDelivery(delivery)
        try:
            message = _decode(bytes(data))
        except (ProtonException, ValueError, TypeError, OverflowError) as error:
            incoming.reject("amqp:decode-error", str(error))
        else:
            self._handler.received(link, message, incoming)
        link.replenish()

    def _forget(self, link: Link) -> None:
        self._links.pop(link._link, None)
        link.attached = False
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


def _decode(data: bytes) -> IncomingMessage:
    message = Message()
    message.decode(data)
    body = message.body
    sent: dict[Any, Any] = message.properties or {}
    return IncomingMessage(
        body=bytes(body) if isinstance(body, bytes | bytearray | memoryview) else body,
        message_id=_identifier(message.id),
        correlation_id=_identifier(message.correlation_id),
        user_id=bytes(message.user_id).decode(errors="replace") or None,
        to=message.address,
        reply_to=message.reply_to,
        content_type=str(message.content_type) if message.content_type else None,
        content_encoding=str(message.content_encoding) if message.content_encoding else None,
        expires_at=message.expiry_time or None,
        properties={_text(name): _plain(value) for name, value in sent.items()},
    )


def _identifier(value: Any) -> Any:
    """An identifier in the type it came in, since a reply must carry it back in the same."""
    if isinstance(value, int):  # of numbers only an unsigned long can be an identifier
        return ULong(value)
    if isinstance(value, uuid.UUID | bytes):
        return value
    return None if value is None else str(value)


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
