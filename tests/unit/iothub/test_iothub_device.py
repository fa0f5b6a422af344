# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_device against a hub in memory."""

from __future__ import annotations

import typing as t

from ansible_collections.iotops.fleet.plugins.module_utils.iothub_bucket import bucket
from hub_simulator import HubSimulator


def states(result: dict[str, t.Any]) -> dict[str, str]:
    return {device["id"]: device["state"] for device in result["devices"]}


def fleet(size: int) -> list[dict[str, t.Any]]:
    return [{"id": f"fridge-{number:04d}"} for number in range(size)]


def test_bucket_is_stable_for_ever() -> None:
    """Changing it would move devices between waves in the middle of a rollout; the numbers are sha256sum's."""
    assert [bucket(name) for name in ("fridge-0001", "fridge-0002", "kühlschrank")] == [8431, 9521, 6169]


def test_bucket_spreads_a_fleet_evenly() -> None:
    first_quarter = sum(bucket(f"fridge-{number}") < 2500 for number in range(10_000))
    assert 2350 < first_quarter < 2650


def test_creates_with_tags_bucket_and_status(run: t.Any, hub: HubSimulator) -> None:
    result = run("iothub_device", devices=[{"id": "f1", "tags": {"ring": "beta", "old": None}, "status": "disabled"}])
    assert result["changed"]
    assert result["devices"] == [{"id": "f1", "state": "created"}]
    assert hub.twins["f1"]["tags"] == {"ring": "beta", "bucket": bucket("f1")}
    assert hub.identities["f1"]["status"] == "disabled"


def test_second_run_changes_nothing(run: t.Any, hub: HubSimulator) -> None:
    devices = [{"id": "f1", "tags": {"ring": "beta", "floor": 1.0, "smart": True}}]
    run("iothub_device", devices=devices)
    before = hub.state()
    result = run("iothub_device", devices=devices)
    assert not result["changed"]
    assert states(result) == {"f1": "unchanged"}
    assert hub.state() == before


def test_check_mode_tells_the_real_difference_and_writes_nothing(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("same", tags={"ring": "beta"})
    hub.add_device("other", tags={"ring": "fleet"})
    hub.add_device("locked", status="disabled", tags={"ring": "beta"})
    wish = {"devices": [{"id": name, "tags": {"ring": "beta"}, "status": "enabled"}
                        for name in ("same", "other", "locked", "new")], "bucket_tag": False}  # fmt: skip
    before = hub.state()
    predicted = run("iothub_device", check=True, **wish)
    assert hub.state() == before
    assert hub.writes() == []
    done = run("iothub_device", **wish)
    assert states(predicted) == {"same": "unchanged", "other": "changed", "locked": "changed", "new": "created"}
    assert (predicted["devices"], predicted["diff"]) == (done["devices"], done["diff"])
    assert done["diff"]["before"]["other"] == {"status": "enabled", "tags": {"ring": "fleet"}}
    assert done["diff"]["after"]["other"] == {"status": "enabled", "tags": {"ring": "beta"}}
    assert done["diff"]["after"]["locked"]["status"] == "enabled"
    assert done["diff"]["before"]["new"] == {}


def test_changing_the_status_keeps_the_keys(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    keys = hub.identities["f1"]["authentication"]
    run("iothub_device", devices=[{"id": "f1", "status": "disabled"}])
    assert hub.identities["f1"]["status"] == "disabled"
    assert hub.identities["f1"]["authentication"] == keys


def test_status_not_given_stays(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1", status="disabled")
    run("iothub_device", devices=[{"id": "f1", "tags": {"a": 1}}])
    assert hub.identities["f1"]["status"] == "disabled"


def test_a_large_list_costs_a_call_a_hundred(run: t.Any, hub: HubSimulator) -> None:
    result = run("iothub_device", devices=fleet(250))
    assert set(states(result).values()) == {"created"}
    assert [call for call in hub.requests if call == ("POST", "/devices")] == [("POST", "/devices")] * 3
    hub.requests.clear()
    assert not run("iothub_device", devices=fleet(250))["changed"]
    assert {path for _method, path in hub.requests} == {"/devices/query"}
    assert len(hub.requests) == 3


def test_a_lagging_index_makes_no_false_change(run: t.Any, hub: HubSimulator) -> None:
    hub.index_lags()
    run("iothub_device", devices=fleet(30))
    again = run("iothub_device", devices=fleet(30))
    assert not again["changed"]


def test_deletes_what_exists(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1", tags={"ring": "beta"})
    wish = {"devices": [{"id": "f1"}, {"id": "f2"}], "state": "absent"}
    predicted = run("iothub_device", check=True, **wish)
    assert "f1" in hub.identities
    done = run("iothub_device", **wish)
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"]) == (True, done["diff"])
    assert done["diff"]["before"] == {"f1": {"status": "enabled", "tags": {"ring": "beta"}}}
    assert states(done) == {"f1": "absent", "f2": "absent"}
    assert not run("iothub_device", **wish)["changed"]


def test_returns_keys_of_new_and_old_devices(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("old")
    result = run("iothub_device", devices=[{"id": "old"}, {"id": "new"}], return_keys=True)
    for device in result["devices"]:
        key = hub.identities[device["id"]]["authentication"]["symmetricKey"]["primaryKey"]
        text = f"HostName=hub.example.test;DeviceId={device['id']};SharedAccessKey={key}"
        assert device["connection_string"] == text


def test_returns_no_keys_unasked(run: t.Any, hub: HubSimulator) -> None:
    assert "connection_string" not in run("iothub_device", devices=[{"id": "f1"}])["devices"][0]
    predicted = run("iothub_device", check=True, devices=[{"id": "f2"}], return_keys=True)
    assert predicted["devices"][0]["connection_string"] is None


def test_keys_of_many_devices_cost_one_call(run: t.Any, hub: HubSimulator) -> None:
    run("iothub_device", devices=fleet(60))
    hub.requests.clear()
    result = run("iothub_device", devices=fleet(60), return_keys=True)
    assert all(device["connection_string"] for device in result["devices"])
    assert hub.requests.count(("GET", "/devices")) == 1
    assert not [path for _method, path in hub.requests if path.startswith("/devices/fridge")]


def test_refuses_bad_and_double_ids_before_any_call(run: t.Any, hub: HubSimulator) -> None:
    assert "'kühl' is no device id" in run("iothub_device", devices=[{"id": "kühl"}])["msg"]
    assert run("iothub_device", devices=[{"id": "a"}, {"id": "a"}])["msg"] == "device 'a' is listed twice"
    assert hub.requests == []


def test_quotes_in_ids_survive_the_query(run: t.Any, hub: HubSimulator) -> None:
    names = [{"id": f"o'neill-{number}"} for number in range(25)]
    run("iothub_device", devices=names)
    hub.requests.clear()
    assert not run("iothub_device", devices=names)["changed"]
    assert hub.requests == [("POST", "/devices/query")]
