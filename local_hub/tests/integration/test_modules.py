# SPDX-License-Identifier: Apache-2.0
"""Module identities and module twins through azure-iot-hub."""

from __future__ import annotations

import base64
import signal
from typing import Any

import pytest
from azure.iot.hub.models import CloudToDeviceMethod, ExportImportDevice, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

KEY = base64.b64encode(b"0" * 32).decode()


@pytest.fixture
def registry(hub: Any, request: pytest.FixtureRequest) -> Any:
    manager = hub.registry()
    manager.create_device_with_sas("box", None, None, "enabled")
    yield manager
    manager.delete_device("box")


def refusal(error: pytest.ExceptionInfo[HttpOperationError]) -> tuple[int, str]:
    answer = error.value.response
    return answer.status_code, answer.json()["Message"].partition(":")[2].partition(";")[0]


def test_a_module_is_created_found_changed_and_deleted(registry: Any) -> None:
    created = registry.create_module_with_sas("box", "camera", "me", KEY, KEY)
    assert (created.device_id, created.module_id, created.managed_by) == ("box", "camera", "me")
    found = registry.get_module("box", "camera")
    assert (found.etag, found.generation_id, found.connection_state) == (
        created.etag,
        created.generation_id,
        "Disconnected",
    )
    assert found.authentication.symmetric_key.primary_key == KEY
    changed = registry.update_module_with_sas("box", "camera", "you", found.etag, None, None)
    assert (changed.managed_by, changed.authentication.symmetric_key.primary_key) == ("you", KEY)
    assert [module.module_id for module in registry.get_modules("box")] == ["camera"]
    registry.delete_module("box", "camera", changed.etag)
    assert registry.get_modules("box") == []


def test_refusals_of_modules_have_azures_codes(registry: Any) -> None:
    registry.create_module_with_sas("box", "camera", "", KEY, KEY)
    with pytest.raises(HttpOperationError) as error:
        registry.create_module_with_sas("box", "camera", "", KEY, KEY)
    assert refusal(error) == (409, "ModuleAlreadyExistsOnDevice")
    with pytest.raises(HttpOperationError) as error:
        registry.get_module("box", "nothing")
    assert refusal(error) == (404, "ModuleNotFound")
    with pytest.raises(HttpOperationError) as error:
        registry.create_module_with_sas("nobody", "camera", "", KEY, KEY)
    assert refusal(error) == (404, "DeviceNotFound")
    with pytest.raises(HttpOperationError) as error:
        registry.update_module_with_sas("box", "camera", "", "AAAA", None, None)
    assert refusal(error) == (412, "PreconditionFailed")
    for number in range(19):
        registry.create_module_with_sas("box", f"m{number}", "", KEY, KEY)
    with pytest.raises(HttpOperationError) as error:
        registry.create_module_with_sas("box", "one-too-many", "", KEY, KEY)
    assert refusal(error) == (413, "TooManyModulesOnDevice")
    with pytest.raises(HttpOperationError) as error:
        registry.invoke_device_module_method("box", "camera", CloudToDeviceMethod(method_name="look"))
    assert refusal(error) == (404, "DeviceNotOnline")


def test_a_module_has_a_twin_of_its_own(registry: Any) -> None:
    registry.create_module_with_sas("box", "camera", "", KEY, KEY)
    twin = registry.get_module_twin("box", "camera")
    assert (twin.device_id, twin.module_id) == ("box", "camera")
    patch = Twin(tags={"lens": "wide"}, properties=TwinProperties(desired={"fps": 30, "mode": "day"}))
    changed = registry.update_module_twin("box", "camera", patch, twin.etag)
    assert (changed.tags, changed.properties.desired["fps"]) == ({"lens": "wide"}, 30)
    with pytest.raises(HttpOperationError, match="Precondition Failed"):
        registry.update_module_twin("box", "camera", patch, twin.etag)
    replaced = registry.replace_module_twin("box", "camera", Twin(properties=TwinProperties(desired={"fps": 15})))
    assert {name: value for name, value in replaced.properties.desired.items() if name[0] != "$"} == {"fps": 15}
    assert registry.get_twin("box").tags == {}


def test_modules_can_be_queried(registry: Any) -> None:
    for name in ("camera", "lamp"):
        registry.create_module_with_sas("box", name, "", KEY, KEY)
        registry.update_module_twin("box", name, Twin(tags={"place": "door"}))
    text = "SELECT * FROM devices.modules WHERE deviceId = 'box' AND tags.place = 'door'"
    result = registry.query_iot_hub(QuerySpecification(query=text), None, 1)
    assert (result.type, [twin.module_id for twin in result.items]) == ("Twin", ["camera"])
    rest = registry.query_iot_hub(QuerySpecification(query=text), result.continuation_token, 1)
    assert ([twin.module_id for twin in rest.items], rest.continuation_token) == (["lamp"], None)


def test_modules_come_and_go_in_bulk(registry: Any) -> None:
    made = [ExportImportDevice(id="box", module_id=name, import_mode="create") for name in ("a", "b", "a")]
    result = registry.bulk_create_or_update_devices(made)
    assert [(error.device_id, error.error_code) for error in result.errors] == [("box", "DeviceDefinedMultipleTimes")]
    tagged = ExportImportDevice(id="box", module_id="b", import_mode="updateTwin", tags={"x": 1})
    assert registry.bulk_create_or_update_devices([tagged]).is_successful
    assert registry.get_module_twin("box", "b").tags == {"x": 1}
    gone = ExportImportDevice(id="box", module_id="a", import_mode="delete")
    assert registry.bulk_create_or_update_devices([gone]).is_successful
    assert [module.module_id for module in registry.get_modules("box")] == ["b"]


def test_an_edge_device_has_its_system_modules(registry: Any) -> None:
    registry.create_device_with_sas("edge", None, None, "enabled", iot_edge=True)
    assert [module.module_id for module in registry.get_modules("edge")] == ["$edgeAgent", "$edgeHub"]
    registry.delete_device("edge")


def test_modules_survive_and_die_with_their_device(own_hub: Any) -> None:
    registry = own_hub.registry()
    registry.create_device_with_sas("box", None, None, "enabled")
    registry.create_module_with_sas("box", "camera", "me", KEY, KEY)
    registry.update_module_twin("box", "camera", Twin(tags={"a": 1}))
    own_hub.stop(signal.SIGKILL)
    own_hub.start()
    registry = own_hub.registry()
    assert registry.get_module("box", "camera").managed_by == "me"
    assert registry.get_module_twin("box", "camera").tags == {"a": 1}
    registry.delete_device("box")
    registry.create_device_with_sas("box", None, None, "enabled")
    assert registry.get_modules("box") == []
    own_hub.stop(signal.SIGKILL)
    own_hub.start()
    assert own_hub.registry().get_modules("box") == []
