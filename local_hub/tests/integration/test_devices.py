# SPDX-License-Identifier: Apache-2.0
"""Devices through azure-iot-device: twins, methods, sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import Message, MethodResponse
from azure.iot.device.exceptions import ClientError, CredentialError
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from local_hub.core.sas import new_key
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]


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
    device.send_message(message)
    eventually(lambda: False in states and device.connected)
