# SPDX-License-Identifier: Apache-2.0
"""Devices through azure-iot-device: twins, methods, sessions."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client
import pytest
from azure.iot.device import Message, MethodResponse
from azure.iot.device.exceptions import ClientError, CredentialError, OperationCancelled
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from local_hub.core.sas import key_bytes, new_key, sign
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]


def plain_client(hub: Any, device_id: str) -> Any:
    """A new device that speaks MQTT without an SDK; not connected yet."""
    key = hub.registry().create_device_with_sas(device_id, None, None, "enabled").authentication.symmetric_key
    token = sign(f"{hub.host}/devices/{device_id}", key_bytes(key.primary_key) or b"", int(time.time()) + 60)
    client = paho.mqtt.client.Client(client_id=device_id, protocol=paho.mqtt.client.MQTTv311)
    client.username_pw_set(f"{hub.host}/{device_id}/?api-version=2020-09-30", token)
    client.tls_set(hub.environment["IOTHUB_CA_FILE"])
    return client


def test_the_twin_goes_both_ways(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("twin-1", None, None, "enabled")
    registry.update_twin("twin-1", Twin(tags={"ring": "beta"}, properties=TwinProperties(desired={"a": {"b": 1}})))
    device = hub.device("twin-1")
    patches: list[Any] = []
    device.on_twin_desired_properties_patch_received = patches.append
    device.connect()
    twin = device.get_twin()
    assert twin["desired"] == {"a": {"b": 1}, "$version": 2}
    assert "tags" not in twin
    device.patch_twin_reported_properties({"fridge": {"update": {"state": "idle"}}})
    reported = registry.get_twin("twin-1").properties.reported
    assert (reported["fridge"], reported["$version"]) == ({"update": {"state": "idle"}}, 2)
    registry.update_twin("twin-1", Twin(properties=TwinProperties(desired={"a": {"b": 2}})))
    # The SDK makes a first patch of all that is desired when it has connected; the hub's own come after it.
    assert eventually(lambda: patches[1:]) == [{"a": {"b": 2}, "$version": 3}]
    registry.replace_twin("twin-1", Twin(tags={}, properties=TwinProperties(desired={"c": 3})))
    assert eventually(lambda: patches[2:]) == [{"a": None, "c": 3, "$version": 4}]
    assert registry.get_twin("twin-1").tags == {}


def test_a_refused_report_changes_nothing(hub: Any) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("twin-2", None, None, "enabled")
    device = hub.device("twin-2")
    device.connect()
    with pytest.raises(ClientError):
        device.patch_twin_reported_properties({"bad name": 1})
    assert registry.get_twin("twin-2").properties.reported["$version"] == 1
    assert device.connected


def test_a_report_may_name_the_version_that_it_is_based_on(hub: Any, eventually: Eventually) -> None:
    """The Java SDK names it (MqttTwin.java), and its end-to-end tests expect 412 for one that is out of date."""
    client = plain_client(hub, "twin-3")
    subscribed: list[int] = []
    answers: list[str] = []
    client.on_subscribe = lambda client, userdata, mid, qos: subscribed.append(mid)
    client.on_message = lambda client, userdata, message: answers.append(message.topic)
    client.connect(hub.host, 8883)
    client.loop_start()
    client.subscribe("$iothub/twin/res/#")
    eventually(lambda: subscribed)
    for number, version in enumerate(("1", "1", "2", "none")):
        topic = f"$iothub/twin/PATCH/properties/reported/?$rid={number}&$version={version}"
        client.publish(topic, json.dumps({"n": number}))
        eventually(lambda count=number + 1: len(answers) == count)
    client.disconnect()
    client.loop_stop()
    assert [topic.removeprefix("$iothub/twin/res/") for topic in answers] == [
        "204/?$rid=0&$version=2",
        "412/?$rid=1",
        "204/?$rid=2&$version=3",
        "412/?$rid=3",
    ]
    assert hub.registry().get_twin("twin-3").properties.reported["n"] == 2


def test_a_method_is_called_and_answered(hub: Any) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("method-1", None, None, "enabled")
    call = CloudToDeviceMethod(method_name="wake", payload={"a": "ü"}, response_timeout_in_seconds=5)
    with pytest.raises(HttpOperationError, match="Not Found"):
        registry.invoke_device_method("method-1", call)
    device = hub.device("method-1")

    def answer(request: Any) -> None:
        device.send_method_response(MethodResponse(request.request_id, 201, [request.name, request.payload]))

    device.on_method_request_received = answer
    device.connect()
    result = registry.invoke_device_method("method-1", call)
    assert (result.status, result.payload) == (201, ["wake", {"a": "ü"}])
    device.on_method_request_received = lambda request: None
    with pytest.raises(HttpOperationError, match="Gateway Timeout"):
        registry.invoke_device_method("method-1", call)


def test_a_method_without_a_payload_has_an_empty_body(hub: Any, eventually: Eventually) -> None:
    """As in test_amqp_devices.py. To azure-iot-device an empty one is as null, so that paho looks at it here."""
    client = plain_client(hub, "method-2")
    bodies: list[bytes] = []

    def answer(client: Any, userdata: Any, message: Any) -> None:
        bodies.append(message.payload)
        client.publish("$iothub/methods/res/200/?$rid=" + message.topic.partition("$rid=")[2])

    subscribed: list[int] = []
    client.on_message, client.on_subscribe = answer, lambda client, userdata, mid, qos: subscribed.append(mid)
    client.connect(hub.host, 8883)
    client.loop_start()
    client.subscribe("$iothub/methods/POST/#")
    eventually(lambda: subscribed)
    for body in ({"methodName": "wake"}, {"methodName": "wake", "payload": None}):
        done = hub.request("POST", "/twins/method-2/methods", json=body, headers=hub.authorization())
        assert done.json() == {"status": 200, "payload": None}
    client.disconnect()
    client.loop_stop()
    assert bodies == [b"", b"null"]


def test_connection_state_follows_the_device(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("state-1", None, None, "enabled")
    device = hub.device("state-1")
    device.connect()
    found = registry.get_device("state-1")
    assert found.connection_state == "Connected"
    assert found.last_activity_time.year > 2000
    device.disconnect()
    eventually(lambda: registry.get_device("state-1").connection_state == "Disconnected")


def test_a_wrong_key_does_not_connect(hub: Any) -> None:
    hub.registry().create_device_with_sas("key-1", None, None, "enabled")
    with pytest.raises(CredentialError):
        hub.device("key-1", new_key()).connect()
    with pytest.raises(CredentialError):
        hub.device("nobody", new_key()).connect()


def test_the_second_connection_takes_the_device_over(hub: Any, eventually: Eventually) -> None:
    hub.registry().create_device_with_sas("over-1", None, None, "enabled")
    first, second = hub.device("over-1"), hub.device("over-1")
    first.connect()
    lost: list[bool] = []
    first.on_connection_state_change = lambda: lost.append(not first.connected)
    second.connect()
    assert eventually(lambda: lost)
    first.shutdown()


def test_a_disabled_device_is_cut_and_stays_out(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    created = registry.create_device_with_sas("off-1", None, None, "enabled")
    device = hub.device("off-1")
    device.connect()
    registry.update_device_with_sas("off-1", created.etag, None, None, "disabled")
    eventually(lambda: registry.get_device("off-1").connection_state == "Disconnected")
    device.shutdown()
    with pytest.raises(CredentialError):
        hub.device("off-1").connect()


def test_a_device_may_ask_for_a_broken_connection(hub: Any, eventually: Eventually) -> None:
    """Microsoft's SDKs test with such messages how they connect again."""
    hub.registry().create_device_with_sas("fault-1", None, None, "enabled")
    device = hub.device("fault-1")
    device.connect()
    states: list[bool] = []
    device.on_connection_state_change = lambda: states.append(device.connected)
    message = Message(" ")
    message.custom_properties["AzIoTHub_FaultOperationType"] = "KillTcp"
    message.custom_properties["AzIoTHub_FaultOperationDelayInSecs"] = "1"

    def ask() -> None:
        with contextlib.suppress(OperationCancelled):  # it is never acknowledged, so that this ends with the client
            device.send_message(message)

    threading.Thread(target=ask, daemon=True).start()
    eventually(lambda: False in states and device.connected)
    time.sleep(2)  # sent again when the client came back, it does nothing any more
    assert states.count(False) == 1
    device.send_message("hello")
