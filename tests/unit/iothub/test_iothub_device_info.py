# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_device_info against a hub in memory."""

from __future__ import annotations

import typing as t

import pytest
from hub_simulator import HubSimulator


@pytest.fixture
def fleet(hub: HubSimulator) -> HubSimulator:
    hub.add_device("f1", tags={"ring": "beta"})
    hub.add_device("f2", tags={"ring": "fleet"}, status="disabled")
    hub.add_module("f1", "thermostat")
    hub.add_module("f1", "lamp")
    hub.connect("f1", lambda name, payload: (200, None))
    return hub


def ids(result: dict[str, t.Any]) -> list[str]:
    return [device["id"] for device in result["devices"]]


def test_tells_who_is_there_and_who_is_missing(run: t.Any, fleet: HubSimulator) -> None:
    result = run("iothub_device_info", devices=["f2", "nobody", "f1", "f2"])
    assert not result["changed"]
    assert (ids(result), result["missing"]) == (["f2", "f1"], ["nobody"])
    assert result["devices"][1] == {
        "id": "f1", "status": "enabled", "status_reason": None, "status_updated_time": None,
        "connection_state": "Connected", "last_activity_time": "2026-11-23T18:00:00Z", "authentication_type": "sas",
        "messages_waiting": 0, "iot_edge": False, "tags": {"ring": "beta"},
    }  # fmt: skip
    never = result["devices"][0]
    assert (never["status"], never["connection_state"], never["last_activity_time"]) == (
        "disabled",
        "Disconnected",
        None,
    )


def test_a_condition_chooses_and_none_is_all(run: t.Any, fleet: HubSimulator) -> None:
    assert ids(run("iothub_device_info", target_condition="tags.ring = 'fleet'")) == ["f2"]
    assert ids(run("iothub_device_info", target_condition="*")) == ["f1", "f2"]
    assert ids(run("iothub_device_info")) == ["f1", "f2"]
    assert run("iothub_device_info", devices=[])["devices"] == []
    assert "mutually exclusive" in run("iothub_device_info", devices=["f1"], target_condition="*")["msg"]


def test_modules_come_when_asked_for(run: t.Any, fleet: HubSimulator) -> None:
    assert "modules" not in run("iothub_device_info")["devices"][0]
    first, second = run("iothub_device_info", modules=True)["devices"]
    assert [module["id"] for module in first["modules"]] == ["lamp", "thermostat"]
    assert first["modules"][0]["connection_state"] == "Disconnected"
    assert second["modules"] == []


def test_keys_come_when_asked_for_only(run: t.Any, fleet: HubSimulator) -> None:
    asked = run("iothub_device_info", devices=["f1"], modules=True)
    assert "SharedAccessKey" not in str(asked)
    assert ("GET", "/devices/f1") not in fleet.requests
    (device,) = run("iothub_device_info", devices=["f1"], modules=True, return_keys=True)["devices"]
    key = fleet.identities["f1"]["authentication"]["symmetricKey"]["primaryKey"]
    assert device["connection_string"] == f"HostName=hub.example.test;DeviceId=f1;SharedAccessKey={key}"
    lamp = fleet.modules["f1"]["lamp"]["identity"]["authentication"]["symmetricKey"]["primaryKey"]
    text = f"HostName=hub.example.test;DeviceId=f1;ModuleId=lamp;SharedAccessKey={lamp}"
    assert device["modules"][0]["connection_string"] == text


def test_many_devices_cost_a_query_a_hundred_and_a_lagging_index_hides_nobody(run: t.Any, hub: HubSimulator) -> None:
    for number in range(150):
        hub.add_device(f"f{number:03d}")
    hub.index_lags()
    hub.add_device("new")
    names = [f"f{number:03d}" for number in range(150)]
    result = run("iothub_device_info", devices=[*names, "new", "nobody"])
    assert (ids(result), result["missing"]) == ([*names, "new"], ["nobody"])
    assert hub.requests.count(("POST", "/devices/query")) == 2
    assert hub.requests.count(("GET", "/twins/new")) == 1


def test_reading_is_the_same_in_check_mode(run: t.Any, fleet: HubSimulator) -> None:
    assert run("iothub_device_info", check=True)["devices"] == run("iothub_device_info")["devices"]
    assert fleet.writes() == []
