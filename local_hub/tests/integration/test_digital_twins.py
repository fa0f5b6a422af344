# SPDX-License-Identifier: Apache-2.0
"""Digital twins: azure-iot-hub's DigitalTwinClient on one side, azure-iot-device with a model on the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import DigitalTwinClient
from azure.iot.hub.models import Twin, TwinProperties
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]
MODEL = "dtmi:com:example:TemperatureController;1"


def client_of(hub: Any) -> Any:
    return DigitalTwinClient.from_connection_string(hub.connection_string)


def device_of(hub: Any, name: str, model: str = MODEL) -> Any:
    key = hub.registry().create_device_with_sas(name, None, None, "enabled").authentication.symmetric_key.primary_key
    device = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={hub.host};DeviceId={name};SharedAccessKey={key}",
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
        product_info=model,
    )
    hub.keep(device)
    device.connect()
    return device


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HttpOperationError) as error:
        call()
    return error.value.response.status_code, error.value.response.headers["iothub-errorcode"]


def test_a_property_goes_to_the_device_and_its_answer_comes_back(hub: Any, eventually: Eventually) -> None:
    device, client = device_of(hub, "pnp-1"), client_of(hub)
    heard: list[Any] = []
    device.on_twin_desired_properties_patch_received = heard.append
    device.patch_twin_reported_properties({"serialNumber": "s1", "thermostat1": {"__t": "c", "max": 25.3}})
    patch = [{"op": "add", "path": "/thermostat1/targetTemperature", "value": 42}]
    assert client.update_digital_twin("pnp-1", patch) is None
    eventually(lambda: heard)
    assert heard == [{"thermostat1": {"__t": "c", "targetTemperature": 42}, "$version": 2}]
    shown = client.get_digital_twin("pnp-1")
    assert (shown["$dtId"], shown["$metadata"]["$model"], shown["serialNumber"]) == ("pnp-1", MODEL, "s1")
    assert shown["thermostat1"]["$metadata"]["targetTemperature"] == {"desiredValue": 42, "desiredVersion": 2}
    answer = {"value": 42, "ac": 200, "av": 2, "ad": "done"}
    device.patch_twin_reported_properties({"thermostat1": {"__t": "c", "targetTemperature": answer}})
    thermostat = client.get_digital_twin("pnp-1")["thermostat1"]
    about = thermostat["$metadata"]["targetTemperature"]
    assert (thermostat["targetTemperature"], about["ackCode"], about["ackVersion"]) == (42, 200, 2)
    client.update_digital_twin("pnp-1", [{"op": "remove", "path": "/thermostat1"}])
    assert "thermostat1" not in hub.registry().get_twin("pnp-1").properties.desired


def test_etags_guard_patches(hub: Any) -> None:
    client = client_of(hub)
    hub.registry().create_device_with_sas("pnp-2", None, None, "enabled")
    read = hub.request("GET", "/digitaltwins/pnp-2")
    assert read.json() == {"$dtId": "pnp-2", "$metadata": {"$model": ""}}
    patch = [{"op": "add", "path": "/goal", "value": 1}]
    raw = client.protocol.digital_twin.update_digital_twin("pnp-2", patch, read.headers["ETag"], raw=True)
    assert (raw.response.status_code, raw.headers["Location"]) == (202, "/digitaltwins/pnp-2")
    assert raw.headers["ETag"] == hub.request("GET", "/digitaltwins/pnp-2").headers["ETag"] != read.headers["ETag"]
    stale = read.headers["ETag"]
    assert refusal(lambda: client.update_digital_twin("pnp-2", patch, stale)) == (412, "PreconditionFailed")
    client.update_digital_twin("pnp-2", patch, raw.headers["ETag"])
    client.update_digital_twin("pnp-2", patch, "*")
    assert hub.registry().get_twin("pnp-2").properties.desired["goal"] == 1


def test_patches_that_break_the_rules_say_so(hub: Any) -> None:
    client = client_of(hub)
    hub.registry().create_device_with_sas("pnp-3", None, None, "enabled")
    hub.registry().create_module_with_sas("pnp-3", "door", "", None, None)
    for patch, code in (
        ([{"op": "copy", "path": "/a", "from": "/b"}], "InvalidDigitalTwinJsonPatch"),
        ([{"op": "add", "path": "goal", "value": 1}], "InvalidDigitalTwinPatch"),
        ([{"op": "add", "path": "/goal/", "value": 1}], "InvalidDigitalTwinPatchPath"),
        ([{"op": "add", "path": "/goal", "value": [1]}], "InvalidDigitalTwinPayload"),
    ):
        assert refusal(lambda patch=patch: client.update_digital_twin("pnp-3", patch)) == (400, code)
    assert refusal(lambda: client.get_digital_twin("nobody")) == (404, "DeviceNotFound")
    assert hub.request("GET", "/digitaltwins/pnp-3%2Fdoor").status_code == 404
    for body in (b"{", b'[{"op": "add", "path": "/goal", "value": NaN}]'):
        assert hub.request("PATCH", "/digitaltwins/pnp-3", data=body).status_code == 400


def test_commands_of_the_device_and_of_a_component(hub: Any, eventually: Eventually) -> None:
    device, client = device_of(hub, "pnp-4"), client_of(hub)

    def answer(request: Any) -> None:
        payload = None if request.name == "reboot" else {"was": request.name, "with": request.payload}
        device.send_method_response(MethodResponse.create_from_method_request(request, 202, payload))

    device.on_method_request_received = answer
    found = client.invoke_component_command("pnp-4", "thermostat1", "getMaxMinReport", {"since": 5}, 3, 20)
    assert found == {"was": "thermostat1*getMaxMinReport", "with": {"since": 5}}
    raw = client.protocol.digital_twin.invoke_root_level_command("pnp-4", "reboot", 3, raw=True)
    assert (raw.output, raw.headers["x-ms-command-statuscode"]) == (None, 202)
    assert len(raw.headers["x-ms-request-id"]) == 36
    device.disconnect()
    assert refusal(lambda: client.invoke_command("pnp-4", "reboot", {})) == (404, "DeviceNotOnline")
    assert refusal(lambda: client.invoke_command("pnp-4", "reboot", {}, 999)) == (400, "ArgumentInvalid")


def test_the_model_is_part_of_the_twin_and_stays_after_a_restart(own_hub: Any) -> None:
    device_of(own_hub, "pnp-5").disconnect()
    device_of(own_hub, "pnp-6", "dtmi:no model").disconnect()
    for _ in range(2):
        assert own_hub.request("GET", "/twins/pnp-5").json()["modelId"] == MODEL
        query = {"query": f"SELECT * FROM devices WHERE modelId = '{MODEL}'"}  # noqa: S608
        found = own_hub.request("POST", "/devices/query", json=query).json()
        assert [each["deviceId"] for each in found] == ["pnp-5"]
        own_hub.stop()
        own_hub.start()


def test_changes_of_digital_twins_are_routed(hub_with: Any, eventually: Eventually) -> None:
    hub = hub_with("--route", "digital-twin-changes")
    device, registry = device_of(hub, "fridge"), hub.registry()
    registry.update_twin("fridge", Twin(tags={"only": "a tag"}))
    registry.update_twin("fridge", Twin(properties=TwinProperties(desired={"goal": 4})))
    device.patch_twin_reported_properties({"goal": {"value": 4, "ac": 200, "av": 2}})
    client, events = hub.consumer(), []
    options = {"on_event_batch": lambda partition, batch: events.extend(batch), "starting_position": "-1"}
    thread = threading.Thread(target=client.receive_batch, kwargs=options, daemon=True)
    thread.start()
    eventually(lambda: len(events) == 3)
    client.close()
    thread.join(20)
    bodies = [json.loads(event.body_as_str()) for event in events]
    assert bodies[0] == [{"op": "replace", "path": "/$metadata/$model", "value": MODEL}]
    assert bodies[1] == [{"op": "add", "path": "/$metadata/goal", "value": {"desiredValue": 4, "desiredVersion": 2}}]
    assert {(each["op"], each["path"]) for each in bodies[2]} == {
        ("add", "/goal"),
        *(("add", f"/$metadata/goal/{name}") for name in ("ackVersion", "ackCode", "lastUpdateTime")),
    }
    for event in events:
        assert event.content_type == "application/json-patch+json"
        assert event.system_properties[b"iothub-message-source"] == b"digitalTwinChangeEvents"
        assert event.system_properties[b"iothub-connection-device-id"] == b"fridge"
