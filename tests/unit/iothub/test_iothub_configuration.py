# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_configuration and iothub_configuration_info against a hub in memory."""

from __future__ import annotations

import typing as t

import pytest
from hub_simulator import HubSimulator

RELEASE: dict[str, t.Any] = {
    "id": "release-1-4-0-fleet",
    "content": {"properties.desired.fridge.release": {"id": "r1", "version": "1.4.0"}},
    "target_condition": "tags.ring='fleet' AND tags.bucket < 2500",
    "priority": 140,
    "labels": {"version": "1.4.0", "wave": 1, "halted": False},
    "metrics": {"succeeded": "SELECT deviceId FROM devices"},
}


def test_creates_and_then_changes_nothing(run: t.Any, hub: HubSimulator) -> None:
    predicted = run("iothub_configuration", check=True, **RELEASE)
    assert hub.configurations == {}
    done = run("iothub_configuration", **RELEASE)
    assert (predicted["state"], predicted["diff"]) == (done["state"], done["diff"]) == ("created", done["diff"])
    assert done["diff"]["before"] == {}
    document = hub.configurations["release-1-4-0-fleet"]
    assert document["content"] == {"deviceContent": RELEASE["content"]}
    assert document["labels"] == {"version": "1.4.0", "wave": "1", "halted": "false"}
    assert document["metrics"]["queries"] == RELEASE["metrics"]
    again = run("iothub_configuration", **RELEASE)
    assert (again["changed"], again["state"]) == (False, "unchanged")
    assert len(hub.writes()) == 1


def test_widening_changes_the_condition_and_nothing_else(run: t.Any, hub: HubSimulator) -> None:
    run("iothub_configuration", **RELEASE)
    before = hub.state()["configurations"]["release-1-4-0-fleet"]
    wish = {"id": RELEASE["id"], "target_condition": "tags.ring='fleet'"}
    predicted = run("iothub_configuration", check=True, **wish)
    assert hub.configurations[RELEASE["id"]] == before
    done = run("iothub_configuration", **wish)
    assert predicted["diff"] == done["diff"]
    assert done["state"] == "changed"
    assert done["diff"]["before"]["target_condition"] == RELEASE["target_condition"]
    assert done["diff"]["after"]["target_condition"] == "tags.ring='fleet'"
    after = hub.configurations[RELEASE["id"]]
    same = ("labels", "content", "priority", "metrics", "createdTimeUtc")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_other_content_is_refused_before_the_hub_does(run: t.Any, hub: HubSimulator) -> None:
    run("iothub_configuration", **RELEASE)
    other = {"properties.desired.fridge.release": {"id": "r2"}, "properties.desired.fridge.colour": "red"}
    for check in (True, False):
        result = run("iothub_configuration", check=check, **{**RELEASE, "content": other})
        assert result["msg"] == (
            "cannot update configuration 'release-1-4-0-fleet': its content cannot change after creation, and differs "
            "in properties.desired.fridge.colour, properties.desired.fridge.release; use a new id"
        )
    assert len(hub.writes()) == 1


def test_a_write_in_between_is_read_again(run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    run("iothub_configuration", **RELEASE)
    put = hub._put_configuration
    rivals = [{"targetCondition": "tags.rival = true"}]

    def race(name: str, body: t.Any, headers: t.Any) -> t.Any:
        if rivals:  # somebody else gets there first
            hub.configurations[name] = {**hub.configurations[name], **rivals.pop(), "etag": "new"}
        return put(name, body, headers)

    monkeypatch.setattr(hub, "_put_configuration", race)
    result = run("iothub_configuration", id=RELEASE["id"], priority=200)
    assert result["configuration"]["priority"] == 200
    assert result["configuration"]["target_condition"] == "tags.rival = true"


def test_deletes(run: t.Any, hub: HubSimulator) -> None:
    run("iothub_configuration", **RELEASE)
    wish = {"id": RELEASE["id"], "state": "absent"}
    predicted = run("iothub_configuration", check=True, **wish)
    assert hub.configurations
    done = run("iothub_configuration", **wish)
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"])
    assert done["configuration"] is None
    assert not hub.configurations
    assert not run("iothub_configuration", **wish)["changed"]


def test_refuses_ids_that_the_hub_would(run: t.Any, hub: HubSimulator) -> None:
    result = run("iothub_configuration", **{**RELEASE, "id": "Release-1.4.0"})
    assert result["msg"] == (
        "'Release-1.4.0' is no configuration id: up to 128 lowercase letters, digits and -:+%_#*?!(),=@;$', not '.R'"
    )
    assert run("iothub_configuration", **{**RELEASE, "id": "x" * 129})["failed"]
    assert hub.requests == []


def test_creating_needs_content_and_condition(run: t.Any, hub: HubSimulator) -> None:
    assert run("iothub_configuration", id="new", content={"a": 1})["msg"] == (
        "cannot create configuration 'new': target_condition is not given; give target_condition"
    )


def test_info_ranks_as_the_hub_decides(run: t.Any, hub: HubSimulator) -> None:
    for name, priority in (("old", 5), ("low", 1), ("new", 5)):
        run("iothub_configuration", **{**RELEASE, "id": name, "priority": priority})
    result = run("iothub_configuration_info")
    assert [one["id"] for one in result["configurations"]] == ["new", "old", "low"]
    assert result["configurations"][0]["system_metrics"] == {"targetedCount": 3}
    assert result["configurations"][0]["created_time"] == "2026-11-23T18:00:02.123Z"


def test_info_of_one_and_of_none(run: t.Any, hub: HubSimulator) -> None:
    run("iothub_configuration", **RELEASE)
    (one,) = run("iothub_configuration_info", id=RELEASE["id"])["configurations"]
    assert one["content"] == RELEASE["content"]
    assert run("iothub_configuration_info", id="nothing")["configurations"] == []
