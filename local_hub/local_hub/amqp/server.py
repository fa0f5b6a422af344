# SPDX-License-Identifier: Apache-2.0
"""AMQP over TLS: sockets, timers, tokens, and which link leads to which node."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Coroutine
from typing import Any, cast

from ..core.errors import HubError, Unauthorized
from ..hub.hub import Hub
from . import nodes
from .connection import AmqpConnection, IncomingDelivery, IncomingMessage, Link
from .frames import FrameError
from .receivers import EventReceiver, FeedbackReceiver, FileNotificationReceiver, Ownership, Receiver

_log = logging.getLogger(__name__)
_HANDSHAKE_TIMEOUT = 15.0
_AUTHENTICATION_TIMEOUT = 30.0
_TOKEN_GRACE = 300.0
_MAX_QUEUED = 100
_HIGH_WATER = 1024 * 1024
_CBS, _MANAGEMENT = "$cbs", "$management"
_DEVICEBOUND, _FEEDBACK = "messages/devicebound", "messages/servicebound/feedback"
_FILES = "messages/servicebound/filenotifications"


class _Connection(asyncio.Protocol):
    """One socket; implements `ConnectionHandler` and `Wire`."""

    def __init__(self, hub: Hub, server: AmqpServer) -> None:
        self._hub = hub
        self._server = server
        self._amqp = AmqpConnection(server.container_id, self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._authorized_until = 0.0
        self._replies: list[Link] = []
        self._receivers: dict[Link, Receiver] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None
        self._began = self._hub.clock()
        self._busy = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._server.connections.add(self)
        self._timer = self._loop.call_later(_AUTHENTICATION_TIMEOUT, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()
        self._amqp.free()

    def data_received(self, data: bytes) -> None:
        self._busy = True
        try:
            self._amqp.receive(data)
        except FrameError as error:
            self.close(str(error))
            return
        finally:
            self._busy = False
        self.flush()

    def eof_received(self) -> None:
        self.close("the peer closed")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Wire

    def flush(self) -> None:
        """Put on the socket what there is."""
        if self._busy or self._transport is None or self._transport.is_closing():
            return  # busy: called from a handler, and whoever called the handler puts everything on the socket
        self._busy = True
        try:
            data = self._amqp.output()
        finally:
            self._busy = False
        if data:
            self._transport.write(data)
        if self._amqp.closed:
            self._transport.close()

    async def drained(self) -> None:
        """Wait for the client to read."""
        await self._writable.wait()

    def close(self, reason: str) -> None:
        """Close, and say why in the log."""
        if self._transport is not None and not self._transport.is_closing():
            _log.info("amqp: closing a connection: %s", reason)
            self._transport.close()

    # ConnectionHandler

    def attaching(self, link: Link) -> None:
        path = nodes.node_path(link.source if link.sends else link.target).lower()
        try:
            self._attach(link, path)
        except HubError as error:
            _log.info("amqp: refused a link to %s: %s", path, error)
            link.refuse(error.condition, str(error))

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        path = nodes.node_path(link.target).lower()
        if path == _CBS or path.endswith(_MANAGEMENT):
            delivery.accept()
            # uamqp drops an answer that it reads before the acceptance of its question ("Did not receive send
            # confirmation for pending operation"), so that the acceptance leaves first.
            self._loop.call_soon(self._answer, link, message)
        else:
            self._start(self._devicebound(message, delivery))

    def credited(self, link: Link) -> None:
        receiver = self._receivers.get(link)
        if receiver is not None:
            receiver.pump()

    def settled(self, link: Link, tag: int, accepted: bool) -> None:
        receiver = self._receivers.get(link)
        if receiver is not None:
            receiver.settled(tag, accepted)

    def detached(self, link: Link) -> None:
        if link in self._replies:
            self._replies.remove(link)
        receiver = self._receivers.pop(link, None)
        if receiver is not None:
            receiver.close()
            if isinstance(receiver, EventReceiver):
                self._server.ownership.release(receiver)

    def _attach(self, link: Link, path: str) -> None:
        if path == _CBS:
            link.attach()
            if link.sends:
                self._replies.append(link)
            return
        if self._authorized_until <= self._hub.clock():
            raise Unauthorized("put a token first")
        if path.endswith(_MANAGEMENT):
            link.attach()
            if link.sends:
                self._replies.append(link)
        elif link.sends and path == _FEEDBACK:
            link.attach()
            self._receivers[link] = FeedbackReceiver(self._hub, link, self)
        elif link.sends and path == _FILES:
            link.attach()
            self._receivers[link] = FileNotificationReceiver(self._hub, link, self)
        elif link.sends:
            self._attach_events(link)
        elif path == _DEVICEBOUND:
            link.attach()
        else:
            link.refuse("amqp:not-found", f"there is nothing at {path}")

    def _attach_events(self, link: Link) -> None:
        source = nodes.event_source(nodes.node_path(link.source), self._server.event_hub)
        if source is None:
            link.refuse("amqp:not-found", f"there is nothing at {link.source}")
            return
        receiver = EventReceiver(self._hub, link, self, source)
        if not self._server.ownership.admit(receiver):
            receiver.close()
            link.refuse("amqp:link:stolen", "a receiver with a higher epoch reads this partition")
            return
        link.attach()
        self._receivers[link] = receiver

    def _answer(self, link: Link, message: IncomingMessage) -> None:
        if nodes.node_path(link.target).lower() == _CBS:
            answer = self._put_token(message)
        else:
            answer = nodes.management_answer(message, self._server.event_hub, self._hub.events, self._server.created_ms)
        self._reply(link, message, answer)
        self.flush()

    def _put_token(self, message: IncomingMessage) -> bytes:
        try:
            if message.properties.get("operation") != "put-token" or not isinstance(message.body, str):
                raise Unauthorized("only put-token is offered")
            token = self._hub.access.service(message.body)
        except HubError as error:
            _log.info("amqp: refused a token: %s", error)
            return nodes.reply(message, 401, "Unauthorized")
        self._authorized_until = float(token.expiry)
        return nodes.reply(message, 202, "Accepted")

    def _reply(self, link: Link, request: IncomingMessage, answer: bytes) -> None:
        """On the link of the same node in the same session, that of `reply-to` if there are several.

        uamqp asks before it gives credit for the answer, so that credit is no condition: proton holds it back.
        """
        node = nodes.node_path(link.target).lower()
        fitting = [
            each
            for each in self._replies
            if each.session == link.session
            and nodes.node_path(each.source).lower() == node
            and each.queued < _MAX_QUEUED
        ]
        named = [each for each in fitting if request.reply_to and each.target == request.reply_to]
        for each in (named or fitting)[:1]:
            each.send(answer)

    async def _devicebound(self, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        try:
            if self._authorized_until <= self._hub.clock():
                raise Unauthorized("the token has expired")
            device_id, command = nodes.devicebound(message, self._hub.clock())
            await self._hub.messages.send(device_id, command)
        except HubError as error:
            if self._transport is not None:
                delivery.reject(error.condition, f"{error.code}: {error}")
        else:
            if self._transport is not None:
                delivery.accept()
        self.flush()

    def _tick(self) -> None:
        if self._hub.clock() > max(self._authorized_until, self._began) + _TOKEN_GRACE:
            self._amqp.close("amqp:unauthorized-access", "the token has expired")
        elif not self._authorized_until:
            self.close("it did not authenticate")
            return
        now = time.monotonic()
        due = self._amqp.tick(now)
        self.flush()
        delay = min(max(due - now, 0.05), 60.0) if due else 60.0
        self._timer = self._loop.call_later(delay, self._tick)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class AmqpServer:
    """Listens for services."""

    def __init__(self, hub: Hub, event_hub: str) -> None:
        self.event_hub = event_hub
        self.container_id = "local-hub"
        self.created_ms = int(hub.clock() * 1000)
        self.ownership = Ownership()
        self.connections: set[_Connection] = set()
        self._hub = hub
        self._server: asyncio.Server | None = None

    def connection(self) -> asyncio.Protocol:
        """What serves one connection, whatever carries its bytes."""
        return _Connection(self._hub, self)

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Begin to listen.

        Raises:
            OSError: the port cannot be had.
        """
        self._server = await asyncio.get_running_loop().create_server(
            self.connection,
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=2.0,
            backlog=256,
        )

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close("the hub is stopping")
