# SPDX-License-Identifier: Apache-2.0
"""Topics, read by the device SDK's own functions where it has them."""

from __future__ import annotations

import pytest
from azure.iot.device import Message as DeviceMessage
from azure.iot.device.iothub.pipeline import mqtt_topic_iothub
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.c2d_queue import Message
from local_hub.mqtt import topics

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
custom = st.dictionaries(
    texts.filter(lambda name: not name.startswith("$") and name != "iothub-ack"), texts, max_size=3
)


@given(custom, texts)
def test_the_sdk_reads_the_properties_that_the_hub_writes(properties: dict[str, str], message_id: str) -> None:
    sent = Message(
        1, b"", 0.0, 60.0, message_id=message_id, content_type="a/b", ack="full", properties=dict(properties)
    )
    received = DeviceMessage(b"")  # type: ignore[no-untyped-call]
    mqtt_topic_iothub.extract_message_properties_from_topic(topics.message_topic("fridge 1+%", sent), received)  # type: ignore[no-untyped-call]
    assert received.custom_properties == properties
    assert (received.message_id, received.content_type, received.ack) == (message_id, "a/b", "full")


@given(custom, texts)
def test_the_hub_reads_the_properties_that_the_sdk_writes(properties: dict[str, str], message_id: str) -> None:
    sent = DeviceMessage(b"", message_id=message_id, content_encoding="utf-8", content_type="application/json")  # type: ignore[no-untyped-call]
    sent.custom_properties = dict(properties)
    topic = mqtt_topic_iothub.encode_message_properties_in_topic(sent, "devices/fridge-1/messages/events/")  # type: ignore[no-untyped-call]
    assert topics.parse_publication(topic, "fridge-1") == topics.Telemetry(
        {"message-id": message_id, "content-type": "application/json", "content-encoding": "utf-8"}, properties
    )


def test_the_expiry_of_a_message_has_seven_digits() -> None:
    """The C# SDK takes it in no other form, "o" (MqttIotHubAdapter.cs); it ends the connection over any other."""
    topic = topics.message_topic("d", Message(1, b"", 0.0, 1_800_000_000.25))
    assert "%24.exp=2027-01-15T08%3A00%3A00.2500000Z" in topic


def test_when_a_message_was_made_is_told_as_over_amqp() -> None:
    """The C SDK writes `$.ctime` here, and this property there (uamqp_messaging.c); other system names are dropped."""
    topic = "devices/d/messages/events/%24.ctime=2026-11-26T02%3A00%3A00Z&%24.other=s&n=1"
    expected = {"iothub-creation-time-utc": "2026-11-26T02:00:00Z", "n": "1"}
    assert topics.parse_publication(topic, "d") == topics.Telemetry({}, expected)


def test_components_and_interfaces_are_system_properties() -> None:
    """MqttIotHubAdapter.cs of the C# SDK, mqtt_topic_iothub.py of the Python one."""
    topic = "devices/d/messages/events/%24.sub=thermostat1&%24.ifid=urn%3Aazureiot%3ASecurity"
    expected = {"dt-subject": "thermostat1", "iothub-interface-id": "urn:azureiot:Security"}
    assert topics.parse_publication(topic, "d") == topics.Telemetry(expected, {})


def test_requests_are_told_apart() -> None:
    assert topics.parse_publication("$iothub/twin/GET/?$rid=a%20b", "d") == topics.TwinGet("a b")
    report = "$iothub/twin/PATCH/properties/reported/?$rid=1"
    assert topics.parse_publication(report, "d") == topics.TwinReport("1")
    assert topics.parse_publication(report + "&$version=3", "d") == topics.TwinReport("1", "3")
    assert topics.parse_publication("$iothub/methods/res/200/?$rid=9", "d") == topics.MethodAnswer(200, "9")


def test_the_name_of_a_components_command_stands_as_it_is() -> None:
    """The C SDK splits it at the star, and decodes nothing (iothub_client_core_ll.c)."""
    topic = topics.method_request("thermostat*get max", "3")
    assert topic == "$iothub/methods/POST/thermostat*get%20max/?$rid=3"
    assert mqtt_topic_iothub.get_method_name_from_topic(topic) == "thermostat*get max"


@pytest.mark.parametrize(
    "topic", ["", "devices/other/messages/events/", "devices/d/messages", "$iothub/twin/POST/?$rid=1", "x" * 9000]
)
def test_a_device_cannot_publish_elsewhere(topic: str) -> None:
    assert topics.parse_publication(topic, "d") is None


@given(st.text())
def test_any_topic_has_a_meaning_or_none(topic: str) -> None:
    for text in (topic, f"devices/d/messages/events/{topic}", f"$iothub/twin/GET/?{topic}"):
        topics.parse_publication(text, "d")
