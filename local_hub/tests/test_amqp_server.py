# SPDX-License-Identifier: Apache-2.0
"""Connections of devices over AMQP, with proton as the client, no socket, and a clock that the tests turn."""

from __future__ import annotations

import asyncio
import itertools
import struct
from pathlib import Path
from typing import Any

import pytest
from local_hub.amqp.encoding import Described, UInt, encode, encode_message
from local_hub.amqp.frames import BATCH
from local_hub.amqp.server import AmqpServer
from local_hub.core.c2d_queue import Message as C2dMessage
from local_hub.core.errors import QueueFull
from local_hub.core.policy import OWNER
from local_hub.core.sas import key_bytes, sign
from local_hub.hub.hub import Hub
from proton import Connection, Delivery, Endpoint, Message, Transport

from local_hub.tests.test_mqtt_server import KEY, Line


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """A client without SASL, as Node's, and the hub's end of its connection."""

    def __init__(self, hub: Hub) -> None:
        self.line, self.listener = Line(), AmqpServer(hub, "local-hub")
        self.server = self.listener.connection()
        self.server.connection_made(self.line)
        self.connection, self.transport = Connection(), Transport(Transport.CLIENT)
        self.transport.bind(self.connection)
        self.connection.container = "peer"
        self.connection.open()
        self.session = self.connection.session()
        self.session.open()
        self.numbers = itertools.count()

    async def talk(self) -> None:
        """Until neither has anything to say."""
        for _ in range(20):
            while (pending := self.transport.pending()) > 0:
                self.server.data_received(self.transport.peek(pending))
                self.transport.pop(pending)
            await asyncio.sleep(0.005)
            data, self.line.written = self.line.written, b""
            if data:
                self.transport.push(data)

    async def attach(self, address: str) -> Any:
        sender = self.session.sender(f"{address} {next(self.numbers)}")
        sender.target.address = address
        sender.source.address = address
        sender.open()
        await self.talk()
        return sender

    async def put_token(self, credential: str) -> None:
        properties = {"operation": "put-token", "name": "localhost/devices/one"}
        cbs = await self.attach("$cbs")
        cbs.delivery("token")
        cbs.send(Message(body=credential, properties=properties, id="1").encode())
        cbs.advance()
        await self.talk()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hub(tmp_path: Path, clock: Clock) -> Any:
    def failed(error: Exception) -> None:
        raise AssertionError(error)

    hub = Hub(tmp_path / "hub.sqlite", {OWNER: KEY}, frozenset({"localhost"}), failed, clock)
    hub.start()
    keys = {"authentication": {"symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}}
    await hub.registry.put("one", keys, None)
    yield hub
    await hub.close()


def token(clock: Clock, lifetime: int) -> str:
    return sign("localhost/devices/one", key_bytes(KEY) or b"", int(clock.now) + lifetime)


async def test_whose_token_ends_is_cut_off_unless_it_puts_a_new_one(hub: Hub, clock: Clock) -> None:
    peer = Peer(hub)
    await peer.put_token(token(clock, 60))
    await peer.attach("/devices/one/messages/events")
    device = hub.registry.get("one")
    assert device.connection_state == "Connected"
    clock.now += 50
    await peer.put_token(token(clock, 60))
    clock.now += 50
    await peer.put_token("SharedAccessSignature sr=x&sig=y&se=1")
    peer.server._tick()  # type: ignore[attr-defined]
    await peer.talk()
    assert device.connection_state == "Connected"
    clock.now += 100
    peer.server._tick()  # type: ignore[attr-defined]
    await peer.talk()
    assert device.connection_state == "Disconnected"
    assert peer.connection.state & Endpoint.REMOTE_CLOSED
    assert peer.connection.remote_condition.name == "amqp:unauthorized-access"


async def test_a_device_waits_with_what_is_not_stored_yet(hub: Hub, clock: Clock) -> None:
    """The hub gives no more credit than it can hold."""
    peer = Peer(hub)
    await peer.put_token(token(clock, 60))
    sender = await peer.attach("/devices/one/messages/events")
    assert sender.credit == 100
    stuck: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def append(*event: Any) -> None:
        await stuck

    hub.events.append = append  # type: ignore[method-assign]
    for number in range(100):
        sender.delivery(str(number))
        sender.send(Message(body=b"x", inferred=True).encode())
        sender.advance()
    await peer.talk()
    assert sender.credit == 0
    stuck.set_result(None)
    await peer.talk()
    assert sender.credit == 100


async def test_who_proves_nothing_is_cut_off(hub: Hub, clock: Clock) -> None:
    peer = Peer(hub)
    await peer.attach("/devices/one/messages/events")
    clock.now += 31
    peer.server._tick()  # type: ignore[attr-defined]
    await peer.talk()
    assert peer.connection.state & Endpoint.REMOTE_CLOSED


async def test_a_fault_may_stand_on_a_batch(hub: Hub, clock: Clock) -> None:
    """So the C SDK asks for it (uamqp_messaging.c): not in an event of the batch, but on the message around them."""
    peer = Peer(hub)
    await peer.put_token(token(clock, 60))
    await peer.attach("/devices/one/messages/events")
    asked = {"AzIoTHub_FaultOperationType": "KillTcp"}
    batch = encode_message(data=encode_message(data=b"event"), application_properties=asked)
    # proton sends no batches: the second link's second delivery of the session, by hand
    transfer = encode(Described(0x14, [UInt(1), UInt(1), b"1", UInt(BATCH), False, False])) + batch
    peer.server.data_received(struct.pack(">IBBH", len(transfer) + 8, 2, 0, 0) + transfer)
    await asyncio.wait_for(peer.line.hung_up.wait(), 5)
    assert peer.line.aborted
    assert not hub.events.readable(0, 0)
    assert not hub.events.readable(1, 0)


async def test_a_connection_serves_a_thousand_devices(hub: Hub, clock: Clock) -> None:
    """As many as the Java SDK puts on one, and as its end-to-end tests connect (MultiplexingClient.java)."""
    names = [f"gateway-{number}" for number in range(1001)]
    await asyncio.gather(*(hub.registry.put(name, {}, None) for name in names))
    owner = sign("localhost", key_bytes(KEY) or b"", int(clock.now) + 600, OWNER)
    admit = Peer(hub).server._admit_device  # type: ignore[attr-defined]
    for name in names[:1000]:
        admit(name, owner)
    with pytest.raises(QueueFull):
        admit(names[1000], owner)


async def test_each_device_of_a_connection_has_its_links(hub: Hub, clock: Clock) -> None:
    peer, owner = Peer(hub), sign("localhost", key_bytes(KEY) or b"", int(clock.now) + 600, OWNER)
    senders = []
    for number in range(600):
        await hub.registry.put(f"gateway-{number}", {}, None)
        peer.server._admit_device(f"gateway-{number}", owner)  # type: ignore[attr-defined]
        senders.append(peer.session.sender(f"sender {number}"))
        senders[-1].target.address = f"/devices/gateway-{number}/messages/events"
        senders[-1].open()
        if number % 30 == 29:  # the peer's buffer takes no more at once
            await peer.talk()
    assert all(sender.state & Endpoint.REMOTE_ACTIVE for sender in senders)


async def test_a_hub_that_stops_says_so(hub: Hub, clock: Clock) -> None:
    """The Java SDK does not see that TLS ends (SimpleSslTransportWrapper.java of proton-j), only that AMQP does."""
    peer = Peer(hub)
    await peer.put_token(token(clock, 60))
    await peer.attach("/devices/one/messages/events")
    await peer.listener.close()
    await peer.talk()
    assert peer.connection.remote_condition.name == "amqp:connection:forced"
    assert peer.line.hung_up.is_set()


@pytest.mark.parametrize("outcome", [Delivery.ACCEPTED, Delivery.REJECTED, Delivery.RELEASED])
async def test_a_verdict_is_taken_with_a_state(hub: Hub, clock: Clock, outcome: int) -> None:
    """The C# SDK leaves the settlement to the hub, waits for one with a state, and throws at any but this.

    ReceivingAmqpLink.cs of azure-amqp, AmqpIotOutcome.cs; how a message ended is what the device said.
    """
    peer = Peer(hub)
    await peer.put_token(token(clock, 60))
    receiver = peer.session.receiver("commands")
    receiver.source.address = "/devices/one/messages/devicebound"
    receiver.rcv_settle_mode = receiver.RCV_SECOND
    receiver.open()
    receiver.flow(3)
    for number in range(3):
        await hub.messages.send("one", C2dMessage(0, b"x", clock.now, clock.now + 60, message_id=str(number)))
    await peer.talk()
    deliveries = []
    while receiver.current is not None:
        deliveries.append(receiver.current)
        receiver.advance()
    assert len(deliveries) == 3
    for delivery in reversed(deliveries):
        delivery.update(outcome)
        await peer.talk()
        assert (delivery.settled, delivery.remote_state) == (True, Delivery.ACCEPTED)
