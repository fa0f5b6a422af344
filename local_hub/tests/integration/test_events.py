# SPDX-License-Identifier: Apache-2.0
"""Device-to-cloud messages: azure-iot-device sends, azure-eventhub reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message

Eventually = Callable[..., Any]


@contextmanager
def reading(hub: Any, group: str = "$Default", **options: Any) -> Iterator[list[tuple[str, Any]]]:
    """All events that a consumer of its own gets, as (partition, event)."""
    client, events = hub.consumer(group), []

    # in batches: one by one the SDK takes ten a second while the other partition has nothing
    def take(partition: Any, batch: list[Any]) -> None:
        events.extend((partition.partition_id, event) for event in batch)

    receive = {"on_event_batch": take, **options}
    thread = threading.Thread(target=client.receive_batch, kwargs=receive, daemon=True)
    thread.start()
    try:
        yield events
    finally:
        client.close()
        thread.join(20)


@pytest.fixture
def device(hub: Any, request: pytest.FixtureRequest) -> Any:
    name = f"d2c-{request.node.name}"[:100].replace("[", "-").replace("]", "")
    hub.registry().create_device_with_sas(name, None, None, "enabled")
    client = hub.device(name)
    client.name_for_tests = name
    client.connect()
    return client


def sent_by(device: Any, events: list[tuple[str, Any]]) -> list[Any]:
    name = device.name_for_tests.encode()
    return [event for _, event in events if event.system_properties[b"iothub-connection-device-id"] == name]


def test_an_event_arrives_with_its_properties(hub: Any, device: Any, eventually: Eventually) -> None:
    message = Message('{"t": 4.5}', content_encoding="utf-8", content_type="application/json", message_id="m-1")  # type: ignore[no-untyped-call]
    message.custom_properties = {"kind": "usage", "text": "a b+c&d=ü"}
    device.send_message(message)
    with reading(hub, starting_position="-1") as events:
        event = eventually(lambda: sent_by(device, events))[0]
    assert event.body_as_json() == {"t": 4.5}
    assert event.properties == {b"kind": b"usage", b"text": "a b+c&d=ü".encode()}
    assert (event.content_type, event.message_id) == ("application/json", "m-1")
    assert event.system_properties[b"iothub-message-source"] == b"Telemetry"
    assert abs(event.enqueued_time.timestamp() - time.time()) < 60
    assert event.system_properties[b"iothub-enqueuedtime"] == int(event.enqueued_time.timestamp() * 1000)


def test_an_event_tells_the_model_of_its_device(hub: Any, eventually: Eventually) -> None:
    created = hub.registry().create_device_with_sas("d2c-model", None, None, "enabled")
    device = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={hub.host};DeviceId=d2c-model;SharedAccessKey={created.authentication.symmetric_key.primary_key}",
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
        product_info="dtmi:com:example:Fridge;1",
    )
    hub.keep(device)
    device.name_for_tests = "d2c-model"
    device.connect()
    device.send_message("x")
    with reading(hub, starting_position="-1") as events:
        event = eventually(lambda: sent_by(device, events))[0]
    assert event.system_properties[b"dt-dataschema"] == b"dtmi:com:example:Fridge;1"


def test_a_plain_event_has_no_content_type(hub: Any, device: Any, eventually: Eventually) -> None:
    device.send_message("plain")
    with reading(hub, starting_position="-1") as events:
        event = eventually(lambda: sent_by(device, events))[0]
    assert (event.body_as_str(), event.content_type, event.properties) == ("plain", None, {})


def test_reading_goes_on_from_a_stored_place(hub: Any, device: Any, eventually: Eventually) -> None:
    for number in range(6):
        device.send_message(f"event {number}")
    with reading(hub, starting_position="-1") as events:
        eventually(lambda: len(sent_by(device, events)) == 6)
    own = sent_by(device, events)
    partition = next(place for place, event in events if event is own[2])
    assert [event.sequence_number for event in own] == sorted(event.sequence_number for event in own)
    texts = [event.body_as_str() for event in own]
    assert texts == [f"event {number}" for number in range(6)]
    for position in (own[2].offset, own[2].sequence_number):
        with reading(hub, partition_id=partition, starting_position=position) as later:
            eventually(lambda later=later: len(sent_by(device, later)) >= 3)
        assert [event.body_as_str() for event in sent_by(device, later)] == texts[3:]
    options = {"starting_position": own[2].offset, "starting_position_inclusive": True}
    with reading(hub, partition_id=partition, **options) as later:
        eventually(lambda: len(sent_by(device, later)) >= 4)
    assert sent_by(device, later)[0].body_as_str() == "event 2"


def test_reading_can_start_at_a_time(hub: Any, device: Any, eventually: Eventually) -> None:
    device.send_message("before")
    time.sleep(0.05)
    start = datetime.now(UTC)
    time.sleep(0.05)  # the SDK asks for what came after the millisecond of `start`
    device.send_message("after")
    with reading(hub, starting_position=start) as events:
        eventually(lambda: sent_by(device, events))
    assert [event.body_as_str() for event in sent_by(device, events)] == ["after"]


def test_who_waits_for_the_latest_gets_it_at_once(hub: Any, device: Any, eventually: Eventually) -> None:
    device.send_message("old")
    with reading(hub, group="live", starting_position="@latest") as events:
        time.sleep(2.5)
        sent = time.monotonic()
        device.send_message("new")
        event = eventually(lambda: sent_by(device, events))[0]
        delay = time.monotonic() - sent
    assert event.body_as_str() == "new"
    # the client itself looks at each of its partitions only a few times a second
    assert delay < 3


def test_a_large_event_arrives_whole(hub: Any, device: Any, eventually: Eventually) -> None:
    body = "x" * 200_000
    device.send_message(body)
    with reading(hub, starting_position="-1") as events:
        event = eventually(lambda: sent_by(device, events))[0]
    assert event.body_as_str() == body


def test_the_hub_describes_its_partitions(hub: Any) -> None:
    with hub.consumer() as client:
        assert client.get_eventhub_properties()["eventhub_name"] == "local-hub"
        assert client.get_partition_ids() == ["0", "1"]
        described = client.get_partition_properties("1")
        assert described["is_empty"] is (described["last_enqueued_sequence_number"] < 0)
        with pytest.raises(Exception, match="404"):
            client.get_partition_properties("7")
