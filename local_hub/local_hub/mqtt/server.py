# SPDX-License-Identifier: Apache-2.0
"""MQTT over TLS: sockets, timeouts, and the CONNECT that turns a connection into a device's session."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from ..core.digital_twin import announced_model
from ..core.errors import HubError, ThrottlingException
from ..core.quota import Operation
from ..hub.hub import Hub
from ..tls import TlsContext, TlsListener, client_certificates
from . import packets
from .provisioning import ProvisioningSession, registration_of
from .session import Session

_log = logging.getLogger(__name__)
_CONNECT_TIMEOUT = 10.0
_MAX_CONNECT = 16 * 1024
_FIRST_BYTE_OF_CONNECT = 0x10
_MAX_OUTPUT = 4 * 1024 * 1024
_MAX_WAITING = 100
_TOKEN_GRACE = 30.0
_LONGEST_TIMER = 24 * 3600.0


class _Connection(asyncio.Protocol):
    """One socket. Until CONNECT is accepted there is no session."""

    def __init__(self, hub: Hub, connections: set[_Connection], outbox: _Outbox) -> None:
        self._hub = hub
        self._connections = connections
        self._outbox = outbox
        self._reader = packets.PacketReader(_MAX_CONNECT)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | ProvisioningSession | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[packets.Packet] = []
        self._idle_limit = _CONNECT_TIMEOUT
        self._last_packet = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._output: list[bytes] = []
        self._name = "?"
        self._heard = False
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_MAX_OUTPUT)
        self._connections.add(self)
        self._last_packet = self._loop.time()
        self._timers.append(self._loop.call_later(_CONNECT_TIMEOUT, self._check_idle))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        self._output.clear()
        for timer in self._timers:
            timer.cancel()
        if self._session is not None:
            self._session.closed()
            _log.info("mqtt: %s disconnected", self._name)

    def data_received(self, data: bytes) -> None:
        self._last_packet = self._loop.time()
        if not self._heard and data[0] != _FIRST_BYTE_OF_CONNECT:
            self.close("it does not speak MQTT")
            return
        self._heard = True
        try:
            for packet in self._reader.feed(data):
                self._handle(packet)
        except packets.ProtocolError as error:
            self.close(str(error))
            return
        if self._session is not None and self._session.overloaded and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_later(0.02, self._resume)

    def pause_writing(self) -> None:
        self.close("the device does not read what it is sent")

    def close(self, reason: str) -> None:
        """Close, and say why in the log."""
        if self._transport is not None and not self._transport.is_closing():
            _log.info("mqtt: closing %s: %s", self._name, reason)
            self.flush()
            self._transport.close()

    def _handle(self, packet: packets.Packet) -> None:
        if self._session is not None and self._open:
            self._session.handle(packet)
        elif self._connecting is not None:
            if len(self._waiting) >= _MAX_WAITING:
                raise packets.ProtocolError("too many packets before CONNACK")
            self._waiting.append(packet)
        elif isinstance(packet, packets.Connect):
            self._connecting = self._loop.create_task(self._connect(packet))
        else:
            raise packets.ProtocolError("the first packet is not CONNECT (3.1)")

    async def _connect(self, packet: packets.Connect) -> None:
        self._name = packet.client_id
        code = _refusal(packet)
        try:
            if code:
                raise packets.ProtocolError("CONNECT is refused")
            self._hub.meter.admit(Operation.CONNECT)
            session, until = self._admit(packet)
        except ThrottlingException as error:
            self._write(packets.encode_connack(packets.UNAVAILABLE))
            self.close(str(error))
            return
        except (packets.ProtocolError, HubError, UnicodeDecodeError) as error:
            self._write(packets.encode_connack(code or packets.NOT_AUTHORIZED))
            self.close(str(error))
            return
        self._set_timers(packet.keep_alive, until - self._hub.clock())
        if self._transport is None:
            return
        self._session = session
        self._reader.max_packet = packets.MAX_PACKET
        await session.open(packet.clean_session)
        self._open = True
        _log.info("mqtt: %s connected", self._name)
        try:
            for waiting in self._waiting:
                session.handle(waiting)
        except packets.ProtocolError as error:
            self.close(str(error))

    def _admit(self, packet: packets.Connect) -> tuple[Session | ProvisioningSession, float]:
        certificates = client_certificates(self._transport) if self._transport else []
        credential = (packet.password or b"").decode()
        registration = registration_of(packet)
        if registration is not None:
            applicant = self._hub.provisioning.admit(*registration, credential, certificates)
            return ProvisioningSession(self._hub, applicant, self._write, self.close), applicant.until
        device, until = self._hub.access.device(packet.client_id, credential, certificates)
        self._hub.twins.announce(device, announced_model(packet.username or ""))
        return Session(self._hub, device, self._write, self.close), until

    def _set_timers(self, keep_alive: int, token_lifetime: float) -> None:
        # The hub's own maximum holds for clients that switch keep-alive off (3.1.2.10 allows a server that).
        self._idle_limit = 1.5 * min(keep_alive or 1177, 1177)
        lifetime = min(token_lifetime + _TOKEN_GRACE, _LONGEST_TIMER)
        self._timers.append(self._loop.call_later(lifetime, self.close, "the token has expired"))

    def _check_idle(self) -> None:
        idle = self._loop.time() - self._last_packet
        if idle >= self._idle_limit or (self._session is None and self._connecting is None):
            self.close("nothing was heard from it")
            return
        self._timers[0] = self._loop.call_later(max(self._idle_limit - idle, 0.1), self._check_idle)

    def _resume(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._session is not None and self._session.overloaded:
            self._loop.call_later(0.02, self._resume)
        else:
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        """What is written in one turn of the event loop leaves together: one TLS record for all PUBACKs of a commit."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._output:
            self._outbox.add(self)
        self._output.append(data)

    def flush(self) -> None:
        """Send what was written."""
        data = b"".join(self._output)
        self._output.clear()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class _Outbox:
    """The connections that have something to send at the end of this turn of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections: list[_Connection] = []

    def add(self, connection: _Connection) -> None:
        if not self._connections:
            self._loop.call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()


def _refusal(packet: packets.Connect) -> int:
    """The return code that refuses a CONNECT, or 0. The user name is {host}/{device}[/{module}]/?api-version=..."""
    if packet.protocol_level != 4:
        return packets.UNACCEPTABLE_PROTOCOL
    if not packet.client_id:
        return packets.IDENTIFIER_REJECTED
    if registration_of(packet) is not None:
        return packets.ACCEPTED
    name = (packet.username or "").partition("/")[2]
    if name != packet.client_id and not name.startswith(f"{packet.client_id}/"):
        return packets.BAD_CREDENTIALS
    return packets.ACCEPTED


class MqttServer:
    """Listens for devices."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._connections: set[_Connection] = set()
        self._outbox = _Outbox()
        self._listener: TlsListener | None = None

    def connection(self) -> asyncio.Protocol:
        """What serves one connection, whatever carries its bytes."""
        return _Connection(self._hub, self._connections, self._outbox)

    async def start(self, host: str, port: int, tls: TlsContext) -> None:
        """Begin to listen.

        Raises:
            OSError: the port cannot be had.
        """
        self._listener = TlsListener(self.connection, tls)
        self._listener.start(host, port)

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close("the hub is stopping")
