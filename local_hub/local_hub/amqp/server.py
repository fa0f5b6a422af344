# SPDX-License-Identifier: Apache-2.0
"""AMQP over TLS: sockets, timers, tokens, and whose link is whose."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from ..core.errors import HubError, QueueFull, Unauthorized
from ..core.fault import Fault, Kind
from ..core.policy import POLICIES, Right
from ..core.quota import Operation
from ..core.sas import SasToken
from ..hub.hub import Hub
from ..tls import TlsContext, TlsListener, client_certificates
from . import nodes
from .client import Client, Replies
from .connection import MAX_LINKS, AmqpConnection, IncomingDelivery, IncomingMessage, Link, Outcome
from .device import DETACH_FORCED, DeviceClient
from .faults import broken_links
from .frames import FrameError
from .nodes import Node
from .provisioning import ApplicantClient, registration_of
from .service import EventHub, ServiceClient

_log = logging.getLogger(__name__)
_AUTHENTICATION_TIMEOUT = 30.0
_CLOSING_TIMEOUT = 2.0
_SERVICE_GRACE = 300.0
_DEVICE_GRACE = 30.0
_HIGH_WATER = 1024 * 1024
_MAX_DEVICES = 1000
_LINKS_OF_A_DEVICE = 6
_CBS = "$cbs"
_USER = re.compile(r"(?P<name>.+)@sas\.(?P<root>root\.)?(?P<hub>[^@]+)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """One socket; implements `ConnectionHandler` and `Wire`.

    A service, a device and a whole group of devices behind a gateway look the same until they put tokens. A device's
    credential is kept, until it ends, for the moment when it attaches a link; a certificate needs no keeping.
    """

    def __init__(self, hub: Hub, server: AmqpServer) -> None:
        self._hub = hub
        self._server = server
        self._amqp = AmqpConnection(server.container_id, self, self._login)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._service = ServiceClient(hub, self, server.event_hub)
        self._credentials: dict[str, tuple[str, float]] = {}
        self._group: tuple[str, float] | None = None
        self._devices: dict[str, DeviceClient] = {}
        self._applicant: ApplicantClient | None = None
        self._clients: dict[Link, Client] = {}
        self._answers = Replies()
        self._cbs: list[Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.Handle | None = None
        self._began = hub.clock()
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
        if self._transport is not None:
            self._transport.pause_reading()  # who does not read answers asks no more

    def resume_writing(self) -> None:
        self._writable.set()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        for device in list(self._devices.values()):
            device.messages_waiting()

    # Wire

    @property
    def congested(self) -> bool:
        """Wire."""
        return not self._writable.is_set()

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

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Wire."""

        async def then_flush() -> None:
            await work
            self.flush()

        task = self._loop.create_task(then_flush())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fail(self, fault: Fault, links: Mapping[Link, Node]) -> None:
        """Wire."""
        reason = f"a device asked for the fault {fault.kind}"
        match fault.kind:
            case Kind.TCP:
                self._cut(reason)
            case Kind.AMQP_CONNECTION | Kind.AMQP_SHUTDOWN:
                self._hang_up("amqp:connection:forced", reason)
            case Kind.AMQP_SESSION:
                for link in list(links)[:1]:
                    self._amqp.end_session(link, "amqp:session:forced", reason)
            case _:
                for link in broken_links(fault, links, self._cbs):
                    self.detached(link)
                    link.detach(DETACH_FORCED, reason)

    def close(self, reason: str) -> None:
        """Close, and say why in the log."""
        if self._transport is not None and not self._transport.is_closing():
            _log.info("amqp: closing a connection: %s", reason)
            self._transport.close()

    def stop(self, reason: str) -> None:
        """Close; the client is told so, since proton-j does not notice when only TLS ends."""
        self._amqp.close("amqp:connection:forced", reason)
        self.flush()
        self.close(reason)

    def _cut(self, reason: str) -> None:
        """As a network that fails: without a goodbye, neither AMQP's nor TLS's."""
        if self._transport is not None:
            _log.info("amqp: cutting a connection: %s", reason)
            self._transport.abort()

    # ConnectionHandler

    def attaching(self, link: Link) -> None:
        path = nodes.node_path(link.source if link.sends else link.target)
        try:
            if path.lower() == _CBS:
                link.attach()
                self._cbs.append(link)
                if link.sends:
                    self._answers.add(link)
                return
            client = self._client(path)
            self._clients[link] = client
            client.attach(link, path)
            if isinstance(client, DeviceClient) and not client.links:
                client.close_quietly()
                self._forget(client)
        except HubError as error:
            _log.info("amqp: refused a link to %s: %s", path, error)
            link.refuse(error.condition, f"{error.code}: {error}")

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        client = self._clients.get(link)
        if client is not None:
            client.received(link, message, delivery)
            return
        delivery.accept()
        # The acceptance leaves first: see ServiceClient.received.
        self._loop.call_soon(self._put_token, link, message)

    def credited(self, link: Link) -> None:
        client = self._clients.get(link)
        if client is not None:
            client.credited(link)

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        client = self._clients.get(link)
        if client is not None:
            client.settled(link, tag, outcome)

    def detached(self, link: Link) -> None:
        self._answers.remove(link)
        if link in self._cbs:
            self._cbs.remove(link)
        client = self._clients.pop(link, None)
        if client is not None:
            client.detached(link)
            if isinstance(client, DeviceClient) and client.ended:
                self._forget(client)

    def _client(self, path: str) -> Client:
        """Whose node this is."""
        address, registration = nodes.device_address(path), registration_of(path)
        if address is not None:
            return self._device(address[0])
        if registration is None:
            return self._service
        if self._applicant is None:
            applicant = self._hub.provisioning.admit(*registration, "", self._certificates())
            self._applicant = ApplicantClient(self._hub, applicant, self)
        return self._applicant

    def _device(self, key: str) -> DeviceClient:
        known = self._devices.get(key)
        if known is not None:
            return known
        if len(self._devices) >= _MAX_DEVICES:
            raise QueueFull(f"a connection serves {_MAX_DEVICES} devices at most")
        certificates = self._certificates()
        credential, _ = self._credentials.get(key) or (not certificates and self._group) or ("", 0.0)
        device, until = self._hub.access.device(key, credential, certificates)
        self._hub.meter.admit(Operation.CONNECT)
        _log.info("amqp: %s connected", key)
        client = self._devices[key] = DeviceClient(self._hub, device, until, self, self._cut_off)
        # who has proved nothing gets no more than the few hundred that a connection begins with
        self._amqp.max_links = MAX_LINKS + len(self._devices) * _LINKS_OF_A_DEVICE
        self._schedule()
        return client

    def _certificates(self) -> list[bytes]:
        return client_certificates(self._transport) if self._transport else []

    # Credentials

    def _login(self, user: str, password: str) -> bool:
        """SASL PLAIN: a policy of the hub, with a token or its key, a device, or one that registers."""
        try:
            registration = registration_of(user)
            if registration is not None:
                applicant = self._hub.provisioning.admit(*registration, password, self._certificates())
                self._applicant = ApplicantClient(self._hub, applicant, self)
                return True
            match = _USER.fullmatch(user)
            if match is not None and not self._hub.access.goes_by(match["hub"]):
                raise Unauthorized(f"the user {user} is none of this hub")
            if match is None:
                self._hub.access.event_hub(user, password)
                self._service.until = math.inf
            elif match["root"]:
                self._admit_service(password, match["name"])
            else:
                self._admit_device(match["name"], password)
        except HubError as error:
            _log.info("amqp: refused a login: %s", error)
            return False
        self._schedule()
        return True

    def _put_token(self, link: Link, message: IncomingMessage) -> None:
        try:
            if message.properties.get("operation") != "put-token" or not isinstance(message.body, str):
                raise Unauthorized("only put-token is offered")
            audience = str(message.properties.get("name", ""))
            token = SasToken.parse(message.body)
            key = _bearer(audience, token)
            if key is not None:
                self._admit_device(key, message.body)
            elif token.policy is not None:
                self._admit_policy(message.body)
            else:
                raise Unauthorized(f"{audience} is no device of this hub")
        except HubError as error:
            _log.info("amqp: refused a token: %s", error)
            answer = nodes.reply(message, error.status, str(error))
        else:
            # 200 as IoT Hub says it: Node takes nothing else for success, not even 202, the answer of Event Hubs
            answer = nodes.reply(message, 200, "OK")
            self._schedule()
        self._answers.send(link, message, answer)
        self.flush()

    def _admit_service(self, credential: str, policy: str | None = None) -> None:
        token = self._hub.access.service(credential, Right.SERVICE_CONNECT, policy=policy)
        self._service.until = float(token.expiry)

    def _admit_policy(self, credential: str) -> None:
        """A policy's token for the whole hub opens what the policy grants: the services' nodes, each device's, or both.

        With the latter the C# SDK puts the devices of a gateway on one connection
        (DeviceAuthenticationWithSharedAccessPolicyKey.cs).
        """
        token = SasToken.parse(credential)
        rights = POLICIES.get(token.policy or "", Right(0))
        if Right.DEVICE_CONNECT in rights:
            self._hub.access.service(credential, Right.DEVICE_CONNECT)
            self._group = credential, float(token.expiry)
            for key, device in self._devices.items():
                if key not in self._credentials:
                    device.until = float(token.expiry)
        if Right.SERVICE_CONNECT in rights or self._group is None:
            self._admit_service(credential)

    def _admit_device(self, key: str, credential: str) -> None:
        if key not in self._credentials and len(self._credentials) >= _MAX_DEVICES:
            raise QueueFull(f"a connection serves {_MAX_DEVICES} devices at most")
        _, until = self._hub.access.device(key, credential)
        self._credentials[key] = credential, until
        if key in self._devices:
            self._devices[key].until = until

    # Ends

    def _cut_off(self, device: DeviceClient, condition: str, reason: str) -> None:
        """A device is not to go on. If the connection is only for it, that ends; else the others keep it."""
        links = device.links
        device.close_quietly()
        self._forget(device)
        self._credentials.pop(device.device.id, None)
        _log.info("amqp: cut %s off: %s", device.device.id, reason)
        if self._devices or self._credentials or self._service.until or self._group:
            for link in links:
                link.detach(condition, reason)
            self.flush()
        else:
            self._hang_up("amqp:connection:forced" if condition == DETACH_FORCED else condition, reason)

    def _forget(self, device: DeviceClient) -> None:
        if self._devices.get(device.device.id) is device:
            del self._devices[device.device.id]

    def _hang_up(self, condition: str, reason: str) -> None:
        """Say why before the socket is closed, and do not wait long for the client to say the same."""
        self._amqp.close(condition, reason)
        self.flush()
        self._loop.call_later(_CLOSING_TIMEOUT, self.close, reason)

    def _schedule(self) -> None:
        """The next deadline may have changed."""
        if self._timer is not None and self._transport is not None:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        deadline = self._expire()
        if deadline is None:
            return
        now = time.monotonic()
        due = self._amqp.tick(now)
        self.flush()
        delays = [60.0, deadline - self._hub.clock()]
        if due:
            delays.append(due - now)
        self._timer = self._loop.call_later(max(min(delays), 0.05), self._tick)

    def _expire(self) -> float | None:
        """Cut off whose time is over. The answer is when to look again, None when the whole connection ends."""
        now = self._hub.clock()
        for key, (_, until) in list(self._credentials.items()):
            if until + _DEVICE_GRACE <= now and key not in self._devices:
                del self._credentials[key]
        for device in list(self._devices.values()):
            if device.until + _DEVICE_GRACE <= now:
                self._cut_off(device, "amqp:unauthorized-access", "the token has expired")
        deadlines = [until + _DEVICE_GRACE for _, until in self._credentials.values()]
        deadlines += [device.until + _DEVICE_GRACE for device in self._devices.values()]
        if self._service.until:
            deadlines.append(self._service.until + _SERVICE_GRACE)
        if self._group is not None:
            deadlines.append(self._group[1] + _DEVICE_GRACE)
        if self._applicant is not None:
            deadlines.append(self._applicant.until + _DEVICE_GRACE)
        if self._certificates():  # judged at each link
            deadlines.append(math.inf)
        if deadlines and max(deadlines) > now:
            return min(each for each in deadlines if each > now)
        if not deadlines and self._began + _AUTHENTICATION_TIMEOUT > now:
            return self._began + _AUTHENTICATION_TIMEOUT
        self._hang_up("amqp:unauthorized-access", "the token has expired" if deadlines else "it has no valid token")
        return None


def _bearer(audience: str, token: SasToken) -> str | None:
    """The device or module that puts a token. Java's SDK names a module's device; the token is the module's."""
    named = nodes.audience_device(audience)
    own = nodes.audience_device(token.resource) if named else None
    return own if named and own and own.startswith(f"{named}/") else named


class AmqpServer:
    """Listens for services and devices."""

    def __init__(self, hub: Hub, event_hub: str, hostname: str = "localhost", port: int = 5671) -> None:
        self.event_hub = EventHub(event_hub, int(hub.clock() * 1000), hostname, port)
        self.container_id = "local-hub"
        self.connections: set[_Connection] = set()
        self._hub = hub
        self._listener: TlsListener | None = None

    def connection(self) -> asyncio.Protocol:
        """What serves one connection, whatever carries its bytes."""
        return _Connection(self._hub, self)

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
        for connection in list(self.connections):
            connection.stop("the hub is stopping")
