# SPDX-License-Identifier: Apache-2.0
"""Devices over AMQP. azure-iot-device has none, so that proton, and uamqp from Microsoft's older SDKs, speak it here as
the SDKs of Node and C do; `make conformance-node` runs Node's own.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uamqp
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from local_hub.core.partition import partition_of
from local_hub.core.sas import key_bytes, sign
from proton import ConnectionException, Endpoint, Message, SSLDomain, Timeout, symbol, ubyte, ulong
from proton.reactor import AtMostOnce, LinkOption, Selector
from proton.utils import BlockingConnection, LinkDetached
from uamqp.authentication import SASLPlain

from local_hub.tests.certificates import issue

Eventually = Callable[..., Any]
TIMEOUT = 10
DELAY = "AzIoTHub_FaultOperationDelayInSecs"


class Settled(LinkOption):
    """As Node attaches the links of twins: nothing is confirmed."""

    def apply(self, link: Any) -> None:
        link.snd_settle_mode = link.SND_SETTLED


class Client:
    """One connection, for as many devices as put tokens on it."""

    def __init__(self, hub: Any, certificate: tuple[Path, Path] | None = None, **options: Any) -> None:
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(hub.environment["IOTHUB_CA_FILE"])
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER)
        if certificate:
            domain.set_credentials(str(certificate[0]), str(certificate[1]), None)
        options = {"allowed_mechs": "ANONYMOUS"} | options
        self.hub = hub
        self.connection = BlockingConnection(f"amqps://{hub.host}:5671", TIMEOUT, ssl_domain=domain, **options)

    def put_token(self, key: str, token: str) -> int:
        """The status with which $cbs answers."""
        receiver = self.connection.create_receiver("$cbs", name=str(uuid.uuid4()))
        sender = self.connection.create_sender("$cbs", name=str(uuid.uuid4()))
        properties = {
            "operation": "put-token",
            "type": "servicebus.windows.net:sastoken",
            "name": audience(self.hub, key),
        }
        sender.send(Message(body=token, id="1", properties=properties))
        answer = receiver.receive(TIMEOUT)
        receiver.accept()
        assert answer.correlation_id == "1"
        receiver.close()
        sender.close()
        return int(answer.properties["status-code"])

    def admit(self, *keys: str) -> Client:
        for key in keys:
            assert self.put_token(key, token(self.hub, key)) == 200
        return self

    def sender(self, key: str, node: str) -> Any:
        return self.connection.create_sender(path(key, node), name=str(uuid.uuid4()))

    def receiver(self, key: str, node: str, *options: LinkOption, credit: int = 10) -> Any:
        return self.connection.create_receiver(
            path(key, node), credit=credit, name=str(uuid.uuid4()), options=list(options) or None
        )


def path(key: str, node: str) -> str:
    device_id, _, module_id = key.partition("/")
    return f"/devices/{device_id}" + (f"/modules/{module_id}" if module_id else "") + f"/{node}"


def audience(hub: Any, key: str) -> str:
    return f"{hub.host}{path(key, '')}".rstrip("/")


def secret(hub: Any, key: str) -> bytes:
    device_id, _, module_id = key.partition("/")
    registry = hub.registry()
    identity = registry.get_module(device_id, module_id) if module_id else registry.get_device(device_id)
    return key_bytes(identity.authentication.symmetric_key.primary_key) or b""


def token(hub: Any, key: str, lifetime: int = 600) -> str:
    return sign(audience(hub, key), secret(hub, key), int(time.time()) + lifetime)


def policy_key(hub: Any, policy: str) -> str:
    told = json.loads(hub.command("env", "--policy", policy, "--format", "json").stdout)
    return str(told["IOTHUB_CONNECTION_STRING"].partition("SharedAccessKey=")[2])


def state(hub: Any, device_id: str) -> str:
    return str(hub.registry().get_device(device_id).connection_state)


@pytest.fixture
def connect(hub: Any) -> Iterator[Callable[..., Client]]:
    """Create devices (and modules), and a client for all of them."""
    clients: list[Client] = []

    def make(*keys: str) -> Client:
        for key in keys:
            device_id, _, module_id = key.partition("/")
            if module_id:
                hub.registry().create_module_with_sas(device_id, module_id, "", None, None)
            else:
                hub.registry().create_device_with_sas(device_id, None, None, "enabled")
        clients.append(Client(hub).admit(*keys))
        return clients[-1]

    yield make
    for client in clients:
        with contextlib.suppress(ConnectionException, Timeout):  # of those that were cut off
            client.connection.close()


def events_of(hub: Any, device_id: str, count: int, eventually: Eventually) -> list[Any]:
    events: list[Any] = []
    consumer = hub.consumer()

    def take(partition: Any, batch: list[Any]) -> None:
        name = device_id.encode()
        events.extend(each for each in batch if each.system_properties[b"iothub-connection-device-id"] == name)

    reading = threading.Thread(
        target=consumer.receive_batch, args=(take,), kwargs={"starting_position": "-1"}, daemon=True
    )
    reading.start()
    try:
        eventually(lambda: len(events) >= count)
    finally:
        consumer.close()
        reading.join(10)
    return events


def test_a_policy_speaks_for_devices_and_not_as_a_service(hub: Any, connect: Any) -> None:
    name = f"spoken-for-{uuid.uuid4().hex[:8]}"
    hub.registry().create_device_with_sas(name, None, None, "enabled")
    client = Client(hub)
    keys = json.loads((hub.data / "hub.json").read_bytes())["policy_keys"]
    tokens = {
        policy: sign(audience(hub, name), key_bytes(keys[policy]) or b"", int(time.time()) + 600, policy)
        for policy in ("device", "service")
    }
    assert client.put_token(name, tokens["service"]) == 401
    assert client.put_token(name, tokens["device"]) == 200
    client.sender(name, "messages/events").send(Message(body=b"hello"))
    assert state(hub, name) == "Connected"
    with pytest.raises(LinkDetached):
        client.connection.create_sender("/messages/devicebound")
    client.connection.close()


def test_events_arrive_with_their_properties(hub: Any, connect: Any, eventually: Eventually) -> None:
    client = connect("amqp-1")
    sender = client.sender("amqp-1", "messages/events")
    for number in range(150):  # more than the hub gives credit for at once
        properties = {"colour": "blue", "n": number, "yes": True}
        sender.send(Message(body=f"event {number}".encode(), inferred=True, id=f"m{number}", properties=properties))
    events = events_of(hub, "amqp-1", 150, eventually)
    assert [event.body_as_str() for event in events] == [f"event {number}" for number in range(150)]
    assert events[3].properties == {b"colour": b"blue", b"n": b"3", b"yes": b"true"}
    assert (events[3].message_id, events[3].content_type) == ("m3", None)


def test_an_event_that_is_too_large_is_refused_and_the_next_is_taken(hub: Any, connect: Any) -> None:
    client = connect("amqp-2")
    with pytest.raises(LinkDetached, match="message-size-exceeded"):
        client.sender("amqp-2", "messages/events").send(Message(body=b"x" * 300_000, inferred=True))
    client.sender("amqp-2", "messages/events").send(Message(body=b"x" * 260_000, inferred=True))


def fault(kind: str, duration: str = "0") -> Message:
    asked = {"AzIoTHub_FaultOperationType": kind, DELAY: "0", "AzIoTHub_FaultOperationDurationInSecs": duration}
    return Message(body=b" ", properties=asked)


def ask_for(kind: str, client: Client, events: Any) -> None:
    """Send and wait: it may break before the acceptance of what was sent is read, or after."""
    events.send(fault(kind))
    client.connection.wait(lambda: False, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("kind", "node", "direction"),
    [
        ("KillAmqpD2CLink", "messages/events", "sender"),
        ("KillAmqpC2DLink", "messages/devicebound", "receiver"),
        ("KillAmqpMethodReqLink", "methods/devicebound", "receiver"),
        ("KillAmqpMethodRespLink", "methods/devicebound", "sender"),
        ("KillAmqpTwinLinkReq", "twin", "sender"),
        ("KillAmqpTwinLinkResp", "twin", "receiver"),
    ],
)
def test_a_device_may_ask_for_a_broken_link(hub: Any, connect: Any, kind: str, node: str, direction: str) -> None:
    """As the SDKs of Node, C and Java test how they attach it again."""
    key = f"faulty-{kind.lower()}"
    client = connect(key)
    events = client.sender(key, "messages/events")
    links = {
        ("messages/events", "sender"): events,
        ("messages/devicebound", "receiver"): client.receiver(key, "messages/devicebound"),
    }
    for each in ("methods/devicebound", "twin"):
        links[(each, "sender")], links[(each, "receiver")] = client.sender(key, each), client.receiver(key, each)
    with pytest.raises(LinkDetached, match="detach-forced") as broken:
        ask_for(kind, client, events)
    assert links[(node, direction)].link.name in str(broken.value)
    assert state(hub, key) == "Connected"
    attach = client.sender if direction == "sender" else client.receiver
    attach(key, node)
    with pytest.raises(Timeout):  # nothing else broke
        client.connection.wait(lambda: False, timeout=0.5)


@pytest.mark.parametrize("answers", [False, True])
def test_a_device_may_ask_for_a_broken_link_to_cbs(hub: Any, connect: Any, answers: bool) -> None:
    key = f"faulty-cbs-{answers}"
    client = connect(key)
    receiver = client.connection.create_receiver("$cbs", name="answers")
    client.connection.create_sender("$cbs", name="requests")
    events = client.sender(key, "messages/events")
    with pytest.raises(LinkDetached, match="answers" if answers else "requests"):
        ask_for("KillAmqpCBSLinkResp" if answers else "KillAmqpCBSLinkReq", client, events)
    if not answers:
        receiver.close()
    assert client.put_token(key, token(hub, key)) == 200


@pytest.mark.parametrize("kind", ["KillTcp", "KillAmqpConnection", "ShutDownAmqp", "KillAmqpSession"])
def test_a_device_may_ask_for_a_broken_connection(hub: Any, connect: Any, eventually: Eventually, kind: str) -> None:
    key = f"faulty-{kind.lower()}"
    client, other = connect(key), f"{key}-2"
    client.receiver(key, "messages/devicebound")
    events = client.sender(key, "messages/events")
    with contextlib.suppress(LinkDetached, ConnectionException):
        events.send(fault(kind))
    eventually(lambda: state(hub, key) == "Disconnected")
    client.connection.timeout = 0.1  # nobody answers when it is closed
    again = connect(other)
    again.sender(other, "messages/events").send(fault("SomethingElse"))
    assert state(hub, other) == "Connected"


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        ("InvokeAuthError", "amqp:unauthorized-access"),
        ("InvokeMaxMessageQuota", "amqp:resource-limit-exceeded"),
        ("InvokeThrottling", "com.microsoft:device-container-throttled"),
    ],
)
def test_a_device_may_ask_that_its_events_are_refused(
    connect: Any, eventually: Eventually, kind: str, condition: str
) -> None:
    key = f"refused-{kind.lower()}"
    events = connect(key).sender(key, "messages/events")
    events.send(fault(kind, "1"))

    def refused() -> str | None:
        delivery = events.link.send(Message(body=b"x"))
        events.connection.wait(lambda: delivery.settled, timeout=TIMEOUT)
        return delivery.remote.condition.name if delivery.remote_state == delivery.REJECTED else None

    assert eventually(refused) == condition
    eventually(lambda: refused() is None)


def test_an_event_tells_its_component_and_interface(hub: Any, connect: Any, eventually: Eventually) -> None:
    """In annotations (AmqpIotMessageConverter.cs of the C# SDK), where readers find them again."""
    said = {"dt-subject": "thermostat1", "iothub-interface-id": "urn:azureiot:Security"}
    sender = connect("amqp-component").sender("amqp-component", "messages/events")
    sender.send(Message(body=b"x", annotations={symbol(name): value for name, value in said.items()}))
    (event,) = events_of(hub, "amqp-component", 1, eventually)
    assert {name: event.system_properties[name.encode()].decode() for name in said} == said


def test_a_batch_becomes_single_events(hub: Any, eventually: Eventually) -> None:
    """As the C SDK sends them, and with SASL PLAIN."""
    hub.registry().create_device_with_sas("amqp-3", None, None, "enabled")
    ca = hub.environment["IOTHUB_CA_FILE"]
    plain = SASLPlain(hub.host, f"amqp-3@sas.{hub.host}", token(hub, "amqp-3"), verify=ca)
    client = uamqp.SendClient(f"amqps://{hub.host}{path('amqp-3', 'messages/events')}", auth=plain)
    messages = [uamqp.Message(f"part {number}", application_properties={"n": str(number)}) for number in range(50)]
    client.queue_message(uamqp.message.BatchMessage(data=messages))
    client.queue_message(uamqp.Message(b"alone"))
    assert client.send_all_messages() == [uamqp.constants.MessageState.SendComplete] * 2
    events = events_of(hub, "amqp-3", 51, eventually)
    assert [event.body_as_str() for event in events] == [*(f"part {number}" for number in range(50)), "alone"]
    assert events[7].properties == {b"n": b"7"}


def test_messages_are_completed_rejected_and_abandoned(hub: Any, connect: Any, eventually: Eventually) -> None:
    client, registry = connect("amqp-4"), hub.registry()
    for verdict in ("complete", "reject", "release"):
        properties = {"messageId": verdict, "iothub-ack": "full", "k": "v"}
        registry.send_c2d_message("amqp-4", verdict, properties)
    receiver = client.receiver("amqp-4", "messages/devicebound")
    first = receiver.receive(TIMEOUT)
    assert (bytes(first.body), first.id, first.properties) == (
        b"complete",
        "complete",
        {"k": "v", "iothub-ack": "full"},
    )
    assert first.address == "/devices/amqp-4/messages/devicebound"
    receiver.accept()
    assert receiver.receive(TIMEOUT).id == "reject"
    receiver.reject()
    assert receiver.receive(TIMEOUT).delivery_count == 0
    receiver.release(delivered=False)
    again = receiver.receive(TIMEOUT)
    assert (again.id, again.delivery_count) == ("release", 1)
    # AmqpIotMessageConverter.cs of the C# SDK reads them in these types
    told = again.annotations
    assert (type(told["iothub-deliverycount"]), told["iothub-deliverycount"]) == (ubyte, 1)
    assert type(told["x-opt-sequence-number"]) is ulong
    assert abs(told["iothub-enqueuedtime"] / 1000 - time.time()) < 60
    receiver.close()  # what has no verdict waits for the next link
    assert registry.get_device("amqp-4").cloud_to_device_message_count == 1
    receiver = client.receiver("amqp-4", "messages/devicebound")
    assert receiver.receive(TIMEOUT).delivery_count == 2
    receiver.accept()
    receiver.close()
    eventually(lambda: registry.get_device("amqp-4").cloud_to_device_message_count == 0)
    records: dict[str, str] = {}

    def told() -> bool:
        answer = hub.request("GET", "/messages/serviceBound/feedback")
        if answer.status_code == 200:
            records.update((each["originalMessageId"], each["statusCode"]) for each in answer.json())
            hub.request("DELETE", f"/messages/serviceBound/feedback/{answer.headers['ETag'].strip(chr(34))}")
        return {"complete", "reject", "release"} <= set(records)

    eventually(told)
    assert [records[each] for each in ("complete", "reject", "release")] == ["Success", "Rejected", "Success"]


def test_a_message_that_is_always_abandoned_ends(hub: Any, connect: Any, eventually: Eventually) -> None:
    client, registry = connect("amqp-5"), hub.registry()
    registry.send_c2d_message("amqp-5", "never", {})
    receiver = client.receiver("amqp-5", "messages/devicebound")
    for number in range(10):
        assert receiver.receive(TIMEOUT).delivery_count == number
        receiver.release(delivered=False)
    receiver.close()
    eventually(lambda: registry.get_device("amqp-5").cloud_to_device_message_count == 0)


def test_messages_without_confirmation_are_gone_when_they_are_sent(
    hub: Any, connect: Any, eventually: Eventually
) -> None:
    client, registry = connect("amqp-6"), hub.registry()
    registry.send_c2d_message("amqp-6", "x", {})
    receiver = client.receiver("amqp-6", "messages/devicebound", AtMostOnce())
    message = receiver.receive(TIMEOUT)
    assert bytes(message.body) == b"x"
    eventually(lambda: registry.get_device("amqp-6").cloud_to_device_message_count == 0)


def test_credit_is_how_many_messages_a_device_takes(hub: Any, connect: Any) -> None:
    client, registry = connect("amqp-7"), hub.registry()
    for number in range(5):
        registry.send_c2d_message("amqp-7", str(number), {})
    receiver = client.receiver("amqp-7", "messages/devicebound", credit=2)
    messages = [receiver.receive(TIMEOUT) for _ in range(2)]
    assert [bytes(message.body) for message in messages] == [b"0", b"1"]
    assert registry.get_device("amqp-7").cloud_to_device_message_count == 5
    receiver.accept()
    receiver.accept()


def test_methods_are_called_and_answered(hub: Any, connect: Any) -> None:
    for key in ("amqp-8", "amqp-8/thermostat"):
        client = connect(key)
        requests, answers = client.receiver(key, "methods/devicebound"), client.sender(key, "methods/devicebound")
        device_id, _, module_id = key.partition("/")
        call = CloudToDeviceMethod(method_name="add", payload=[1, 2], response_timeout_in_seconds=10)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            if module_id:
                result = pool.submit(hub.registry().invoke_device_module_method, device_id, module_id, call)
            else:
                result = pool.submit(hub.registry().invoke_device_method, device_id, call)
            request = requests.receive(TIMEOUT)
            requests.accept()
            assert request.properties == {"IoThub-methodname": "add"}
            assert isinstance(request.correlation_id, uuid.UUID)  # the C SDK takes nothing else
            body = json.dumps({"sum": sum(json.loads(bytes(request.body)))}).encode()
            properties = {"IoThub-status": 201}
            answers.send(
                Message(body=body, inferred=True, correlation_id=request.correlation_id, properties=properties)
            )
            assert (result.result(TIMEOUT).status, result.result(TIMEOUT).payload) == (201, {"sum": 3})


def test_a_method_without_a_payload_has_an_empty_body(hub: Any, connect: Any) -> None:
    """Azure/azure-iot-sdk-python/issues/761."""
    client = connect("amqp-23")
    requests, answers = (
        client.receiver("amqp-23", "methods/devicebound"),
        client.sender("amqp-23", "methods/devicebound"),
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        result = pool.submit(
            hub.request,
            "POST",
            "/twins/amqp-23/methods",
            json={"methodName": "wake"},
            headers=hub.authorization(),
        )
        request = requests.receive(TIMEOUT)
        requests.accept()
        answers.send(
            Message(inferred=True, body=b"", correlation_id=request.correlation_id, properties={"IoThub-status": 200})
        )
        assert bytes(request.body) == b""
        assert result.result(TIMEOUT).json() == {"status": 200, "payload": None}


class TwinLinks:
    def __init__(self, client: Client, key: str) -> None:
        self.requests, self.answers = client.sender(key, "twin"), client.receiver(key, "twin", Settled())

    def ask(self, operation: str, resource: str | None = None, body: Any = None) -> tuple[int, Any, Any]:
        annotations = {symbol("operation"): operation} | ({symbol("resource"): resource} if resource else {})
        identifier = str(uuid.uuid4())
        data = b" " if body is None else json.dumps(body).encode()
        self.requests.send(Message(body=data, inferred=True, correlation_id=identifier, annotations=annotations))
        answer = self.answers.receive(TIMEOUT)
        assert answer.correlation_id == identifier
        document = json.loads(bytes(answer.body)) if answer.body else None
        return answer.annotations["status"], document, answer.annotations.get("version")


def test_twins_are_read_reported_and_desired(hub: Any, connect: Any, eventually: Eventually) -> None:
    desired = "/notifications/twin/properties/desired"
    for key in ("amqp-9", "amqp-9/thermostat"):
        twin, registry = TwinLinks(connect(key), key), hub.registry()
        device_id, _, module_id = key.partition("/")

        def wish(value: int) -> None:
            patch = Twin(properties=TwinProperties(desired={"goal": value}))
            if module_id:  # noqa: B023
                registry.update_module_twin(device_id, module_id, patch)  # noqa: B023
            else:
                registry.update_twin(device_id, patch)  # noqa: B023

        status, document, _ = twin.ask("GET")
        assert (status, document) == (200, {"desired": {"$version": 1}, "reported": {"$version": 1}})
        assert twin.ask("PATCH", "/properties/reported", {"at": 4}) == (200, None, 2)
        assert twin.ask("GET")[1]["reported"] == {"at": 4, "$version": 2}
        for wrong in ({"$bad": 1}, [1]):
            status, error, _ = twin.ask("PATCH", "/properties/reported", wrong)
            assert status == 400
            assert error["message"]
        assert twin.ask("POST")[0] == 400
        wish(1)  # nobody listens yet
        assert twin.ask("PUT", desired)[0] == 200
        wish(2)
        news = twin.answers.receive(TIMEOUT)
        assert news.correlation_id is None
        assert json.loads(bytes(news.body)) == {"goal": 2, "$version": 3}
        assert news.annotations["version"] == 3
        assert twin.ask("DELETE", desired)[0] == 200
        wish(3)
        assert twin.ask("GET")[1]["desired"]["goal"] == 3


def test_a_connection_serves_devices_that_put_tokens_and_no_others(hub: Any, connect: Any) -> None:
    client = connect("amqp-10", "amqp-11")
    hub.registry().create_device_with_sas("amqp-12", None, None, "enabled")
    for key in ("amqp-10", "amqp-11"):
        client.sender(key, "messages/events").send(Message(body=b"x", inferred=True))
        assert state(hub, key) == "Connected"
    for key in ("amqp-12", "nobody"):
        with pytest.raises(LinkDetached, match="unauthorized-access"):
            client.sender(key, "messages/events")
    # what is for services, and the wrong direction
    with pytest.raises(LinkDetached, match="unauthorized-access"):
        client.connection.create_sender("/messages/devicebound")
    with pytest.raises(LinkDetached, match="not-allowed"):
        client.receiver("amqp-10", "messages/events")
    with pytest.raises(LinkDetached, match="not-allowed"):
        client.sender("amqp-10", "messages/devicebound")
    # one of them connects elsewhere: the other stays
    receiver = client.receiver("amqp-10", "messages/devicebound")
    other = Client(hub).admit("amqp-10")
    other.sender("amqp-10", "messages/events").send(Message(body=b"y", inferred=True))
    with pytest.raises(LinkDetached, match="detach-forced"):
        receiver.receive(TIMEOUT)
    with contextlib.suppress(LinkDetached, Timeout):  # proton tells it once more
        client.connection.wait(lambda: False, timeout=0.2)
    client.sender("amqp-11", "messages/events").send(Message(body=b"x", inferred=True))
    other.connection.close()


def test_the_state_is_that_of_the_links(hub: Any, connect: Any, eventually: Eventually) -> None:
    client = connect("amqp-13")
    assert state(hub, "amqp-13") == "Disconnected"
    links = [client.sender("amqp-13", "messages/events"), client.receiver("amqp-13", "messages/devicebound")]
    assert state(hub, "amqp-13") == "Connected"
    links[0].close()
    assert state(hub, "amqp-13") == "Connected"
    links[1].close()
    eventually(lambda: state(hub, "amqp-13") == "Disconnected")
    client.sender("amqp-13", "messages/events")
    client.connection.close()
    eventually(lambda: state(hub, "amqp-13") == "Disconnected")


def ends(client: Client) -> bool:
    """The connection was closed by the hub."""
    for _ in range(10):  # proton tells of each link before it tells of the connection
        with contextlib.suppress(LinkDetached):
            try:
                client.connection.wait(lambda: client.connection.conn.state & Endpoint.REMOTE_CLOSED, timeout=TIMEOUT)
            except ConnectionException:
                return True
    return bool(client.connection.conn.state & Endpoint.REMOTE_CLOSED)


def test_the_newer_connection_takes_over_whatever_it_speaks(hub: Any, connect: Any, eventually: Eventually) -> None:
    client = connect("amqp-14")
    client.receiver("amqp-14", "messages/devicebound")
    device = hub.device("amqp-14")
    device.connect()
    assert ends(client)
    assert state(hub, "amqp-14") == "Connected"
    dropped: list[bool] = []
    device.on_connection_state_change = lambda: dropped.append(device.connected)
    again = Client(hub).admit("amqp-14")
    again.sender("amqp-14", "messages/events").send(Message(body=b"x", inferred=True))
    eventually(lambda: dropped)
    device.shutdown()
    again.connection.close()


def test_a_device_that_is_disabled_or_deleted_is_cut(hub: Any, connect: Any) -> None:
    registry = hub.registry()
    for key, act in (("amqp-15", None), ("amqp-16", registry.delete_device)):
        client, credential = connect(key), token(hub, key)
        client.receiver(key, "messages/devicebound")
        if act is None:
            device = registry.get_device(key)
            keys = device.authentication.symmetric_key
            registry.update_device_with_sas(key, device.etag, keys.primary_key, keys.secondary_key, "disabled")
        else:
            act(key)
        assert ends(client)
        again = Client(hub)
        assert again.put_token(key, credential) == 401
        again.connection.close()


def test_a_device_comes_with_a_certificate(hub: Any, tmp_path: Path) -> None:
    certificate = issue("amqp-17")
    hub.registry().create_device_with_x509("amqp-17", certificate.sha1, certificate.sha1, "enabled")
    files = certificate.files(tmp_path, "amqp-17")
    for options in ({"sasl_enabled": False}, {"allowed_mechs": "ANONYMOUS"}, {"allowed_mechs": "EXTERNAL"}):
        client = Client(hub, files, **options)
        client.sender("amqp-17", "messages/events").send(Message(body=b"x", inferred=True))
        assert TwinLinks(client, "amqp-17").ask("GET")[0] == 200
        client.connection.close()
    stranger = Client(hub, issue("amqp-17").files(tmp_path, "other"))
    with pytest.raises(LinkDetached, match="unauthorized-access"):
        stranger.sender("amqp-17", "messages/events")
    stranger.connection.close()


def test_a_module_puts_its_token_in_the_name_of_its_device(hub: Any, connect: Any) -> None:
    """So the Java SDK does it (AmqpsCbsSenderLinkHandler.java); the token says that it is the module's."""
    connect("amqp-30", "amqp-30/one")
    client = Client(hub)
    assert client.put_token("amqp-30", token(hub, "amqp-30/one")) == 200
    client.sender("amqp-30/one", "messages/events").send(Message(body=b"x"))
    with pytest.raises(LinkDetached, match="unauthorized-access"):
        client.sender("amqp-30", "messages/events")
    client.connection.close()


def test_wrong_tokens_are_refused(hub: Any, connect: Any) -> None:
    client = connect("amqp-18", "amqp-19")
    for wrong in ("", "SharedAccessSignature sr=x&sig=y&se=1", token(hub, "amqp-18", -5), token(hub, "amqp-19")):
        assert client.put_token("amqp-18", wrong) == 401
    assert client.put_token("nobody", token(hub, "amqp-18")) == 401
    ca = hub.environment["IOTHUB_CA_FILE"]
    for user in ("amqp-18@sas.other", "amqp-19@sas." + hub.host, "amqp-18", "iothubowner@sas.root." + hub.host):
        plain = SASLPlain(hub.host, user, token(hub, "amqp-18"), verify=ca)
        sender = uamqp.SendClient(f"amqps://{hub.host}{path('amqp-18', 'messages/events')}", auth=plain)
        sender.queue_message(uamqp.Message(b"x"))
        with pytest.raises(uamqp.errors.AMQPConnectionError):
            sender.send_all_messages()


def test_nothing_waits_for_the_verdict_of_a_reader_of_events(hub: Any) -> None:
    """azure-eventhub asks for events that it may settle, and never does: they would be held for ever."""
    hub.registry().create_device_with_sas("amqp-21", None, None, "enabled")
    headers = {"Authorization": token(hub, "amqp-21")}
    for _ in range(3):
        assert hub.request("POST", "/devices/amqp-21/messages/events", data=b"x", headers=headers).status_code == 204
    policy = hub.authorization()["Authorization"]
    client = Client(hub, user=f"iothubowner@sas.root.{hub.host}", password=policy, allowed_mechs="PLAIN")
    partition = partition_of("amqp-21", 2)
    reader = client.connection.create_receiver(
        f"local-hub/ConsumerGroups/$Default/Partitions/{partition}", credit=10, name=str(uuid.uuid4())
    )
    for _ in range(3):
        reader.receive(TIMEOUT)
    assert list(reader.fetcher.unsettled) == []
    client.connection.close()


def test_events_are_read_with_the_key_of_a_policy(hub: Any) -> None:
    """Event Hubs take name and key of a policy over SASL PLAIN; the end-to-end tests of the C SDK read so."""
    hub.registry().create_device_with_sas("amqp-22", None, None, "enabled")
    headers = {"Authorization": token(hub, "amqp-22")}
    assert hub.request("POST", "/devices/amqp-22/messages/events", data=b"x", headers=headers).status_code == 204
    address = f"local-hub/ConsumerGroups/$Default/Partitions/{partition_of('amqp-22', 2)}"
    client = Client(hub, user="iothubowner", password=policy_key(hub, "iothubowner"), allowed_mechs="PLAIN")
    since = Selector(f"amqp.annotation.x-opt-enqueuedtimeutc > {int(time.time() - 60) * 1000}")
    reader = client.connection.create_receiver(address, credit=100, name=str(uuid.uuid4()), options=since)
    sender = None
    while sender != "amqp-22":  # other tests' devices have events there too; `receive` ends by its timeout
        sender = reader.receive(TIMEOUT).annotations["iothub-connection-device-id"]
    client.connection.close()
    for user, key in (("iothubowner", "x"), ("nobody", ""), ("registryRead", policy_key(hub, "registryRead"))):
        with pytest.raises(ConnectionException):
            Client(hub, user=user, password=key, allowed_mechs="PLAIN")


def test_a_reader_gets_no_frame_larger_than_it_takes(hub: Any, connect: Any) -> None:
    """proton takes 32 KiB, and ends the connection over a byte more."""
    events = connect("amqp-24").sender("amqp-24", "messages/events")
    events.send(Message(body=b"x" * 200_000, inferred=True))
    reader = Client(hub, user="iothubowner", password=policy_key(hub, "iothubowner"), allowed_mechs="PLAIN")
    address = f"local-hub/ConsumerGroups/$Default/Partitions/{partition_of('amqp-24', 2)}"
    receiver = reader.connection.create_receiver(address, credit=100, name=str(uuid.uuid4()))
    while True:
        message = receiver.receive(TIMEOUT)
        if message.annotations["iothub-connection-device-id"] == "amqp-24":
            break
    assert bytes(message.body) == b"x" * 200_000
    reader.connection.close()


@pytest.mark.parametrize(
    ("policy", "devices", "service"),
    [
        ("iothubowner", True, True),
        ("device", True, False),
        ("service", False, True),
        ("registryRead", False, False),
    ],
)
def test_a_policys_token_for_the_hub_opens_what_the_policy_grants(
    hub: Any, connect: Any, policy: str, devices: bool, service: bool
) -> None:
    """One token, and all devices of a gateway: MessageReceiveE2EPoolAmqpTests.cs of the C# SDK."""
    names = [f"grant-{policy}-{number}".lower() for number in range(2)]
    connect(*names)
    client = Client(hub)
    key = key_bytes(policy_key(hub, policy)) or b""
    properties = {"operation": "put-token", "type": "azure-devices.net:sastoken", "name": hub.host}
    receiver, sender = client.connection.create_receiver("$cbs"), client.connection.create_sender("$cbs")
    sender.send(Message(body=sign(hub.host, key, int(time.time()) + 600, policy), id="1", properties=properties))
    answer = receiver.receive(TIMEOUT)
    assert (answer.properties["status-code"] == 200) is (devices or service)
    for name in names:
        if devices:
            client.sender(name, "messages/events").send(Message(body=b"x"))
            assert state(hub, name) == "Connected"
        elif service:
            with pytest.raises(LinkDetached, match="unauthorized-access"):
                client.sender(name, "messages/events")
    if service:
        client.connection.create_sender("/messages/devicebound")
    elif devices:
        with pytest.raises(LinkDetached, match="unauthorized-access"):
            client.connection.create_sender("/messages/devicebound")
    client.connection.close()


@pytest.mark.parametrize("address", ["$management", "", "ConsumerGroups/$Default/Partitions/1"])
def test_who_asks_the_hub_for_events_is_sent_to_the_event_hub(hub: Any, address: str) -> None:
    """IoT Hub's own address of events is a redirection, by which the Azure CLI finds the Event Hubs-compatible one
    (monitor/builders/hub_target_builder.py of azure-iot-cli-extension)."""
    owner = hub.authorization()["Authorization"]
    plain = SASLPlain(hub.host, f"iothubowner@sas.root.{hub.host}", owner, verify=hub.environment["IOTHUB_CA_FILE"])
    source = f"amqps://{hub.host}/messages/events/{address}".rstrip("/")
    client = uamqp.ReceiveClient(source, auth=plain, timeout=5000, prefetch=1)
    try:
        with pytest.raises(uamqp.errors.LinkRedirect) as told:
            client.receive_message_batch(max_batch_size=1)
    finally:
        client.close()
    assert (told.value.hostname, told.value.network_host) == (hub.host.encode(), hub.host.encode())
    assert told.value.port == 5671
    assert told.value.address == f"amqps://{hub.host}:5671/local-hub/{address}".rstrip("/").encode()


def test_a_service_comes_with_sasl_plain(hub: Any) -> None:
    hub.registry().create_device_with_sas("amqp-20", None, None, "enabled")
    policy = hub.authorization()["Authorization"]
    plain = SASLPlain(hub.host, f"iothubowner@sas.root.{hub.host}", policy, verify=hub.environment["IOTHUB_CA_FILE"])
    client = uamqp.SendClient(f"amqps://{hub.host}/messages/devicebound", auth=plain)
    properties = uamqp.message.MessageProperties(to="/devices/amqp-20/messages/devicebound")
    client.queue_message(uamqp.Message(b"x", properties=properties))
    assert client.send_all_messages() == [uamqp.constants.MessageState.SendComplete]
    assert hub.registry().get_device("amqp-20").cloud_to_device_message_count == 1
