# SPDX-License-Identifier: Apache-2.0
"""The identity registry through azure-iot-hub, and its refusals in Azure's form."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import requests
from azure.iot.hub.models import ExportImportDevice, Twin
from local_hub.core.sas import key_bytes
from msrest.exceptions import HttpOperationError

API = {"api-version": "2021-04-12"}


def test_a_device_is_created_found_changed_and_deleted(hub: Any) -> None:
    registry = hub.registry()
    created = registry.create_device_with_sas("reg-1", None, None, "enabled")
    assert len(key_bytes(created.authentication.symmetric_key.primary_key) or b"") == 32
    found = registry.get_device("reg-1")
    assert (found.status, found.connection_state, found.etag) == ("enabled", "Disconnected", created.etag)
    changed = registry.update_device_with_sas("reg-1", found.etag, None, None, "disabled", status_reason="in repair")
    assert (changed.status, changed.status_reason) == ("disabled", "in repair")
    assert changed.authentication.symmetric_key.primary_key == created.authentication.symmetric_key.primary_key
    assert "reg-1" in [device.device_id for device in registry.get_devices()]
    registry.delete_device("reg-1")
    with pytest.raises(HttpOperationError, match="Not Found"):
        registry.get_device("reg-1")


def test_refusals_have_azures_codes(hub: Any) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("reg-2", None, None, "enabled")
    with pytest.raises(HttpOperationError, match="Conflict"):
        registry.create_device_with_sas("reg-2", None, None, "enabled")
    with pytest.raises(HttpOperationError, match="Precondition Failed"):
        registry.update_twin("reg-2", Twin(tags={"a": 1}), "AAAAAAAAAHs=")
    answer = hub.request("GET", "/devices/nobody")
    assert answer.status_code == 404
    assert answer.json()["Message"].startswith("ErrorCode:DeviceNotFound;")
    assert hub.request("PUT", "/devices/bad id", json={}).status_code == 400
    assert hub.request("PUT", "/devices/reg-3", data=b"{").status_code == 400
    assert hub.request("PUT", "/devices/reg-3", data=b"[" * 100_000).status_code == 400
    assert hub.request("PUT", "/devices/reg-3", data=b" " * 3_000_000).status_code == 413
    assert hub.request("GET", "/nowhere").status_code == 404


@pytest.mark.parametrize(
    "credential", ["", "Bearer x", "SharedAccessSignature sr=x&sig=y&se=99999999999&skn=iothubowner"]
)
def test_nobody_gets_in_without_the_key(hub: Any, credential: str) -> None:
    headers = {"Authorization": credential}
    answer = requests.get(f"{hub.url}/devices", params=API, headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.json()["Message"] == "ErrorCode:IotHubUnauthorizedAccess;Unauthorized"


def test_an_expired_token_is_refused(hub: Any) -> None:
    headers = hub.authorization(lifetime=-1)
    assert requests.get(f"{hub.url}/devices", params=API, headers=headers, timeout=10).status_code == 401


def test_many_devices_are_made_at_once_with_their_twins(hub: Any) -> None:
    registry = hub.registry()
    devices = [
        ExportImportDevice(id=f"bulk-{number}", import_mode="create", status="enabled", tags={"n": number})
        for number in range(30)
    ]
    assert registry.bulk_create_or_update_devices(devices).is_successful
    assert registry.get_twin("bulk-7").tags == {"n": 7}
    again = registry.bulk_create_or_update_devices(devices[:1])
    assert not again.is_successful
    assert again.errors[0].error_code == "DeviceAlreadyExists"
    gone = [ExportImportDevice(id=device.id, import_mode="delete") for device in devices]
    assert registry.bulk_create_or_update_devices(gone).is_successful


def test_edge_devices_have_scopes_and_children(hub: Any) -> None:
    registry = hub.registry()

    def created(name: str, *, edge: bool, **scopes: Any) -> Any:
        return registry.create_device_with_sas(name, None, None, "enabled", iot_edge=edge, **scopes)

    root = created("scope-root", edge=True)
    assert root.device_scope == f"ms-azure-iot-edge://scope-root-{root.generation_id}"
    lower = created("scope-lower", edge=True, parent_scopes=[root.device_scope])
    assert lower.device_scope.startswith("ms-azure-iot-edge://scope-lower-")
    assert lower.parent_scopes == [root.device_scope]
    leaf = created("scope-leaf", edge=False, device_scope=lower.device_scope)
    assert (leaf.device_scope, leaf.parent_scopes) == (lower.device_scope, [lower.device_scope])
    assert hub.request("GET", "/twins/scope-leaf").json()["deviceScope"] == lower.device_scope
    # az iot hub device-identity children list (operations/hub.py of azure-iot-cli-extension)
    query = f"select deviceId from devices where array_contains(parentScopes, '{lower.device_scope}')"  # noqa: S608
    assert hub.request("POST", "/devices/query", json={"query": query}).json() == [{"deviceId": "scope-leaf"}]
    # an update that does not name the parent leaves it, an empty name takes it away
    kept = registry.update_device_with_sas("scope-leaf", leaf.etag, None, None, "disabled")
    assert kept.device_scope == lower.device_scope
    body = {"deviceId": "scope-leaf", "deviceScope": "", "parentScopes": []}
    answer = hub.request("PUT", "/devices/scope-leaf", json=body, headers={"If-Match": "*"})
    assert "deviceScope" not in answer.json()


@pytest.mark.parametrize("field", ["deviceScope", "parentScopes"])
def test_a_leaf_gets_another_parent_by_either_name(hub: Any, field: str) -> None:
    """The Azure CLI reads a device, changes one of its two names for the parent and writes all of it
    (_update_device_parent in operations/hub.py of azure-iot-cli-extension)."""
    registry = hub.registry()
    scopes = [
        registry.create_device_with_sas(f"parent-{field}-{n}", None, None, "enabled", iot_edge=True).device_scope
        for n in range(2)
    ]
    leaf = f"leaf-{field}"
    registry.create_device_with_sas(leaf, None, None, "enabled", device_scope=scopes[0])
    for expected in (scopes[1], None, scopes[0]):
        value = (expected or "") if field == "deviceScope" else [expected] if expected else []
        body = {**hub.request("GET", f"/devices/{leaf}").json(), field: value}
        assert hub.request("PUT", f"/devices/{leaf}", json=body, headers={"If-Match": "*"}).status_code == 200
        told = hub.request("GET", f"/devices/{leaf}").json()
        assert (told.get("deviceScope"), told.get("parentScopes")) == (expected, [expected] if expected else None)


@pytest.mark.parametrize(
    "scopes",
    [
        {"deviceScope": "63d2a4ad-2b9f-4b1c-a9a4-8f7a4d6d8f60"},
        {"deviceScope": "ms-azure-iot-edge://nobody-1"},
        {"deviceScope": 1},
        {"parentScopes": ["ms-azure-iot-edge://nobody-1"]},
        {"parentScopes": "ms-azure-iot-edge://nobody-1"},
        {"parentScopes": ["a", "b"]},
        {"deviceScope": "a", "parentScopes": ["b"]},
    ],
)
def test_a_parent_must_be_an_edge_device(hub: Any, scopes: dict[str, Any]) -> None:
    answer = hub.request("PUT", "/devices/scope-orphan", json={"deviceId": "scope-orphan", **scopes})
    assert answer.status_code == 400
    assert hub.request("GET", "/devices/scope-orphan").status_code == 404


def test_a_bulk_operation_with_errors_is_named_in_its_header(hub: Any) -> None:
    """By which the C# SDK reads the result instead of throwing (HttpClientHelper.cs)."""
    operation = {"id": "bulk-header", "importMode": "create"}
    assert "IotHubErrorCode" not in hub.request("POST", "/devices", json=[operation]).headers
    answer = hub.request("POST", "/devices", json=[operation])
    assert (answer.status_code, answer.headers["IotHubErrorCode"]) == (400, "BulkRegistryOperationFailure")


def test_an_imported_edge_device_keeps_its_scope(own_hub: Any) -> None:
    """So children that are imported with it find it: RegistryManager_AddDevices2Async_Works of azure-iot-sdk-csharp."""
    edge = {"id": "moved", "importMode": "create", "capabilities": {"iotEdge": True}, "deviceScope": "scope-of-old"}
    child = {"id": "child", "importMode": "create", "deviceScope": "scope-of-old"}

    def bulk(*devices: dict[str, Any]) -> Any:
        return own_hub.request("POST", "/devices", json=list(devices)).json()

    assert bulk(edge, child)["isSuccessful"]
    assert own_hub.request("GET", "/devices/moved").json()["deviceScope"] == "scope-of-old"
    assert own_hub.request("GET", "/devices/child").json()["parentScopes"] == ["scope-of-old"]
    assert not bulk({**edge, "id": "other"})["isSuccessful"]
    assert not bulk({**edge, "id": "other", "deviceScope": "x" * 300})["isSuccessful"]
    own_hub.stop(signal.SIGKILL)
    own_hub.start()
    one = {"deviceId": "child-2", "deviceScope": "scope-of-old"}
    assert own_hub.request("PUT", "/devices/child-2", json=one).status_code == 200
    assert bulk({"id": "moved", "importMode": "delete"})["isSuccessful"]
    assert own_hub.request("PUT", "/devices/child-3", json={**one, "deviceId": "child-3"}).status_code == 400
    assert bulk({**child, "id": "child-4"}, {**edge, "id": "other"})["isSuccessful"]
    assert own_hub.request("GET", "/devices/child-4").json()["parentScopes"] == ["scope-of-old"]


@pytest.mark.parametrize("path", ["/devices", "/configurations"])
def test_top_beyond_its_limit_is_its_limit(hub: Any, path: str) -> None:
    for number in range(2):
        name = f"top-{path[1:]}-{number}"
        content = {"content": {"deviceContent": {"properties.desired.top": number}}, "targetCondition": "tags.top = 1"}
        body = {"deviceId": name} if path == "/devices" else {"id": name, **content}
        assert hub.request("PUT", f"{path}/{name}", json=body).ok
    everything = hub.request("GET", path).json()

    def listed(top: str) -> requests.Response:
        return requests.get(hub.url + path, params={**API, "top": top}, headers=hub.authorization(), timeout=10)

    for top in ("0", "-1", "5000", "9" * 5000):
        assert listed(top).json() == everything
    assert len(listed("1").json()) == 1 < len(everything)
    assert listed("many").status_code == 400
    for number in range(2):
        assert hub.request("DELETE", f"{path}/top-{path[1:]}-{number}", headers={"If-Match": "*"}).ok


def test_a_slash_at_the_end_of_a_path_makes_no_difference(hub: Any) -> None:
    """As RegistryManager.cs of the C# SDK writes the paths of bulk operations and of lists."""
    operation = {"id": "slash-1", "importMode": "create"}
    assert hub.request("POST", "/devices/", json=[operation]).json()["isSuccessful"]
    assert "slash-1" in [device["deviceId"] for device in hub.request("GET", "/devices/").json()]
    assert hub.request("GET", "/configurations/").json() == hub.request("GET", "/configurations").json()
    assert hub.request("GET", "/devices/", headers={"Authorization": ""}).status_code == 401


def test_statistics_count(hub: Any) -> None:
    registry = hub.registry()
    before = registry.get_device_registry_statistics()
    registry.create_device_with_sas("stat-1", None, None, "disabled")
    after = registry.get_device_registry_statistics()
    assert after.total_device_count == before.total_device_count + 1
    assert after.disabled_device_count == before.disabled_device_count + 1
    assert registry.get_service_statistics().connected_device_count >= 0


def test_queries_come_in_pages(hub: Any) -> None:
    registry = hub.registry()
    for number in range(5):
        registry.create_device_with_sas(f"page-{number}", None, None, "enabled")
        registry.update_twin(f"page-{number}", Twin(tags={"paged": True}))
    body = {"query": "SELECT deviceId FROM devices WHERE tags.paged = true"}
    rows, continuation, pages = [], None, 0
    while pages == 0 or continuation:
        headers = {"x-ms-max-item-count": "2"} | ({"x-ms-continuation": continuation} if continuation else {})
        answer = hub.request("POST", "/devices/query", json=body, headers=headers)
        rows += [row["deviceId"] for row in answer.json()]
        continuation, pages = answer.headers.get("x-ms-continuation"), pages + 1
    assert (rows, pages) == ([f"page-{number}" for number in range(5)], 3)
    counted = {"query": "SELECT COUNT() AS n FROM devices WHERE tags.paged"}
    assert hub.request("POST", "/devices/query", json=counted).json() == [{"n": 5}]
    assert hub.request("POST", "/devices/query", json={"query": "SELECT"}).status_code == 400
