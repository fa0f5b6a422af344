# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for every iothub module: throttling is obeyed and told, a refused key worded, check mode writes nothing.

What only one module does stands in its own file.
"""

from __future__ import annotations

import typing as t

import pytest
from hub_simulator import CONNECTION_STRING, KEY, HubSimulator
from provisioning_simulator import CONNECTION_STRING as DPS
from provisioning_simulator import ProvisioningSimulator

HUB_MODULES: dict[str, dict[str, t.Any]] = {
    "iothub_configuration": {"id": "c", "content": {"properties.desired.a": 1}, "target_condition": "*"},
    "iothub_configuration_info": {},
    "iothub_device": {"devices": [{"id": "new"}, {"id": "f1", "status": "disabled", "tags": {"a": 1}}]},
    "iothub_device_info": {"devices": ["f1"], "return_keys": True},
    "iothub_job": {"id": "j", "target_condition": "*", "tags": {"a": 1}},
    "iothub_job_info": {"id": "j"},
    "iothub_method": {"devices": ["f1"], "method": "blink"},
    "iothub_query_info": {"query": "SELECT * FROM devices"},
    "iothub_twin": {"devices": ["f1"], "tags": {"a": 1}},
}
DPS_MODULES: dict[str, dict[str, t.Any]] = {
    "iothub_enrollment": {"enrollments": [{"id": "f1", "tags": {"a": 1}}], "connection_string": DPS},
    "iothub_enrollment_info": {"connection_string": DPS},
}
# messages go over AMQP: their throttling is in test_iothub_message.py
MODULES = {**HUB_MODULES, **DPS_MODULES}
Simulator = HubSimulator | ProvisioningSimulator


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(module: str, request: pytest.FixtureRequest) -> Simulator:
    """What the module talks to."""
    if module in DPS_MODULES:
        return t.cast("Simulator", request.getfixturevalue("provisioning"))
    hub: HubSimulator = request.getfixturevalue("hub")
    hub.add_device("f1")
    hub.connect("f1", lambda _name, _payload: (200, None))
    return hub


def test_throttling_is_waited_for_as_told(run: t.Any, service: Simulator, module: str, clock: t.Any) -> None:
    service.refuse_next(429, retry_after=7, times=2)
    assert not run(module, **MODULES[module]).get("failed")
    assert len(clock.pauses) == 2
    assert all(7 <= pause <= 7.5 for pause in clock.pauses)


def test_throttling_for_too_long_is_told(run: t.Any, service: Simulator, module: str, clock: t.Any) -> None:
    service.refuse_next(429, retry_after=31, times=20)
    result = run(module, timeout=60, **MODULES[module])
    assert result["failed"]
    assert " is throttling (" in result["msg"]
    assert "); raise timeout, ask for less, or add units" in result["msg"]
    assert clock.time < 60


def test_a_refused_key_is_told(run: t.Any, service: Simulator, module: str) -> None:
    options = {"connection_string": CONNECTION_STRING, **MODULES[module]}
    options["connection_string"] = options["connection_string"].replace(KEY, "d3Jvbmc=")
    result = run(module, **options)
    assert result["failed"]
    assert "refused the key of policy iothubowner; check connection_string" in result["msg"]


def test_check_mode_writes_nothing(run: t.Any, service: Simulator, module: str) -> None:
    before = service.state()
    result = run(module, check=True, **MODULES[module])
    assert not result.get("failed"), result
    assert result["changed"] is not module.endswith("_info")
    assert service.state() == before
    assert service.writes() == []


def test_a_second_run_changes_nothing(run: t.Any, service: Simulator, module: str) -> None:
    first = run(module, **MODULES[module])
    service.requests.clear()
    second = run(module, **MODULES[module])
    if module == "iothub_method":  # says of itself that it is not idempotent
        assert first["changed"]
        assert second["changed"]
        return
    assert not second["changed"]
    assert service.writes() == []


def test_a_diff_is_shown_only_if_it_is_asked_for(run: t.Any, service: Simulator, module: str) -> None:
    shows = not module.endswith("_info") and module != "iothub_method"
    options = MODULES[module]
    assert ("diff" in run(module, check=True, **options)) is shows
    assert "diff" not in run(module, check=True, _ansible_diff=False, **options)


def test_one_device_that_fails_is_told_beside_the_others(
    run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("f1", "f2", "f3"):
        hub.add_device(name)
    handle = hub.handle

    def refusing(method: str, url: str, headers: t.Any, body: bytes) -> t.Any:
        if method == "PATCH" and "/twins/f2" in url:
            return 400, {}, {"Message": "ErrorCode:ArgumentInvalid;too deep"}
        return handle(method, url, headers, body)

    monkeypatch.setattr(hub, "handle", refusing)
    said = "cannot patch the twin of device 'f2': the hub hub.example.test answered 400 ArgumentInvalid: too deep"
    twins = run("iothub_twin", devices=["f1", "f2", "f3"], tags={"a": 1})
    devices = run("iothub_device", devices=[{"id": name, "tags": {"b": 1}} for name in ("f1", "f2", "f3")])
    for result in (twins, devices):
        assert [one["state"] for one in result["devices"]] == ["changed", "failed", "changed"]
        assert result["changed"]
        assert result["devices"][1]["error"] == said
        assert set(result["diff"]["after"]) == {"f1", "f3"}
    assert twins["msg"] == f"1 of 3 twins were not patched: {said}"
    assert devices["msg"] == f"1 of 3 devices were not made so: {said}"


def test_a_device_that_a_bulk_call_refuses_is_told_beside_the_others(
    run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = hub._bulk

    def refusing(operations: list[dict[str, t.Any]]) -> t.Any:
        create([operation for operation in operations if operation["id"] != "f2"])
        errors = [{"deviceId": "f2", "errorCode": "DeviceInvalid", "errorStatus": "no"}]
        return 400, {}, {"isSuccessful": False, "errors": errors, "warnings": []}

    monkeypatch.setattr(hub, "_bulk", refusing)
    result = run("iothub_device", devices=[{"id": "f1"}, {"id": "f2"}], return_keys=True)
    assert [one["state"] for one in result["devices"]] == ["created", "failed"]
    assert set(hub.identities) == {"f1"}
    assert result["msg"] == (
        "1 of 2 devices were not made so: cannot create device 'f2': the hub hub.example.test refused it "
        "(DeviceInvalid); correct this and run again"
    )


def test_a_batch_that_breaks_off_tells_who_is_there(run: t.Any, hub: HubSimulator, monkeypatch: t.Any) -> None:
    create, calls = hub._bulk, []

    def refusing(operations: list[dict[str, t.Any]]) -> t.Any:
        calls.append(len(operations))
        return create(operations) if len(calls) == 1 else (403, {}, {"Message": "ErrorCode:TooManyDevices;500"})

    monkeypatch.setattr(hub, "_bulk", refusing)
    result = run("iothub_device", devices=[{"id": f"f{number:03d}"} for number in range(250)])
    states = [one["state"] for one in result["devices"]]
    assert (states.count("created"), states.count("failed"), calls) == (100, 150, [100, 100])
    assert result["changed"]
    assert "holds as many devices as its tier allows" in result["msg"]


def test_a_condition_chooses_the_devices(run: t.Any, hub: HubSimulator) -> None:
    for name, ring in (("f2", "beta"), ("f1", "beta"), ("f3", "fleet")):
        hub.add_device(name, tags={"ring": ring})
    cases: list[tuple[str, dict[str, t.Any]]] = [("iothub_twin", {"tags": {"a": 1}}), ("iothub_message", {"body": "x"})]
    for module, options in cases:
        result = run(module, target_condition="tags.ring = 'beta'", **options)
        assert [one["id"] for one in result["devices"]] == ["f1", "f2"]
        assert "one of the following is required: devices, target_condition" in run(module, **options)["msg"]
        both = run(module, devices=["f1"], target_condition="*", **options)
        assert "mutually exclusive: devices|target_condition" in both["msg"]
    assert {name: len(queue) for name, queue in hub.queues.items()} == {"f1": 1, "f2": 1, "f3": 0}
