# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_job and iothub_job_info against a hub in memory."""

from __future__ import annotations

import typing as t

import pytest
from hub_simulator import HubSimulator

ECO: dict[str, t.Any] = {"id": "eco", "target_condition": "tags.ring = 'beta'", "desired": {"eco": True, "old": None}}
REBOOT: dict[str, t.Any] = {"id": "reboot", "target_condition": "*", "method": "reboot", "payload": {"delay": 3}}


@pytest.fixture
def fleet(hub: HubSimulator) -> HubSimulator:
    for name, ring in (("f1", "beta"), ("f2", "beta"), ("f3", "fleet")):
        hub.add_device(name, tags={"ring": ring}, desired={"old": 1})
    hub.connect("f1", lambda name, payload: (200, payload))
    hub.connect("f2", lambda name, payload: (200, payload))
    return hub


def test_check_mode_tells_what_would_be_and_creates_nothing(run: t.Any, fleet: HubSimulator) -> None:
    predicted = run("iothub_job", check=True, wait=10, **ECO)
    assert fleet.writes() == []
    done = run("iothub_job", **ECO)
    assert (predicted["state"], predicted["diff"]) == (done["state"], done["diff"]) == ("created", done["diff"])
    assert predicted["changed"]
    assert done["diff"]["before"] == {}
    assert done["diff"]["after"]["desired"] == {"eco": True, "old": None}
    assert fleet.jobs["eco"]["updateTwin"] == {"etag": "*", "properties": {"desired": {"eco": True, "old": None}}}
    assert fleet.jobs["eco"]["startTime"].endswith("Z")


def test_is_idempotent_by_its_id(run: t.Any, fleet: HubSimulator) -> None:
    run("iothub_job", **ECO)
    again = run("iothub_job", **ECO)
    assert (again["changed"], again["state"]) == (False, "unchanged")
    assert len(fleet.writes()) == 1
    # what is not given is not compared
    assert run("iothub_job", id="eco")["state"] == "unchanged"


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"desired": {"eco": False}}, "desired"),
        ({"target_condition": "*"}, "target_condition"),
        ({"start_time": "2027-01-01T00:00:00Z"}, "start_time"),
        ({"desired": None, "method": "reboot"}, "method, payload, type"),
    ],
)
def test_another_content_under_the_same_id_is_refused(
    run: t.Any, fleet: HubSimulator, other: dict[str, t.Any], named: str
) -> None:
    run("iothub_job", **ECO)
    for check in (True, False):
        said = run("iothub_job", check=check, **{**ECO, **other})["msg"]
        lead = "cannot create job 'eco': it exists and cannot change, and differs in "
        assert said.startswith(lead)
        assert set(said.removeprefix(lead).partition(";")[0].split(", ")) <= set(named.split(", "))
        assert said.endswith("; use a new id")


def test_a_creation_whose_answer_got_lost_is_found_again(
    run: t.Any, fleet: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, lost = fleet._put_job, [503]

    def losing(name: str, body: t.Any) -> t.Any:
        answer = put(name, body)
        return (lost.pop(), {}, None) if lost else answer

    monkeypatch.setattr(fleet, "_put_job", losing)
    result = run("iothub_job", **ECO)
    assert (result["state"], result["job"]["id"], result["changed"]) == ("created", "eco", True)


def test_waits_and_tells_of_each_device(run: t.Any, fleet: HubSimulator, clock: t.Any) -> None:
    fleet.looks_until_over = 3
    result = run("iothub_job", wait=30, timeout=60, poll=2, **ECO)
    assert result["job"]["status"] == "completed"
    assert result["job"]["statistics"] == {"devices": 2, "succeeded": 2, "failed": 0, "running": 0, "pending": 0}
    assert [(device["id"], device["status"]) for device in result["devices"]] == [
        ("f1", "completed"),
        ("f2", "completed"),
    ]
    assert len(clock.pauses) == 3
    assert fleet.twins["f1"]["properties"]["desired"]["eco"] is True
    assert "old" not in fleet.twins["f1"]["properties"]["desired"]
    again = run("iothub_job", wait=30, timeout=60, **ECO)
    assert (again["changed"], again["devices"]) == (False, result["devices"])


def test_methods_fail_device_by_device(run: t.Any, fleet: HubSimulator) -> None:
    result = run("iothub_job", wait=30, **REBOOT)
    assert result["failed"]
    assert result["changed"]
    assert result["msg"] == "1 of 3 devices did not do job reboot: 'f3' failed (DeviceNotOnline: not there)"
    assert result["devices"][0]["response"] == {"delay": 3}
    assert result["devices"][2]["error"] == "DeviceNotOnline: not there"
    assert not run("iothub_job", wait=30, fail_on="all", **REBOOT).get("failed")
    assert not run("iothub_job", **REBOOT).get("failed"), "without waiting nothing is judged"


def test_a_job_that_takes_too_long_says_how_far_it_is(run: t.Any, fleet: HubSimulator, clock: t.Any) -> None:
    fleet.looks_until_over = 100
    result = run("iothub_job", wait=10, timeout=60, **ECO)
    assert result["msg"] == (
        "cannot see the end of job 'eco': it is running, 0 of 2 devices are done, 0 of them failed; "
        "raise wait, or run again to go on waiting"
    )
    assert result["changed"]
    assert clock.time <= 11


def test_cancels_what_is_not_over(run: t.Any, fleet: HubSimulator) -> None:
    fleet.looks_until_over = 100
    run("iothub_job", **ECO)
    predicted = run("iothub_job", check=True, id="eco", state="cancelled")
    assert fleet.jobs["eco"]["status"] != "cancelled"
    done = run("iothub_job", id="eco", state="cancelled")
    assert (predicted["state"], done["state"], done["job"]["status"]) == ("cancelled", "cancelled", "cancelled")
    assert done["diff"]["after"] == {"status": "cancelled"}
    again = run("iothub_job", id="eco", state="cancelled")
    assert (again["changed"], again["state"]) == (False, "unchanged")
    none = run("iothub_job", id="nothing", state="cancelled")
    assert (none["changed"], none["state"], none["job"]) == (False, "absent", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "no/slash"}, "'no/slash' is no job id"),
        ({"start_time": "tomorrow"}, "start_time 'tomorrow' is no time"),
        ({"start_time": "2026-11-24T02:00:00"}, "has no time zone"),
        ({"max_execution_time": 0}, "max_execution_time is 0 s"),
        ({"wait": 60}, "wait (60 s) must be less than timeout (60 s)"),
        ({"method": "x"}, "mutually exclusive"),
    ],
)
def test_refuses_what_no_hub_takes(run: t.Any, fleet: HubSimulator, options: dict[str, t.Any], said: str) -> None:
    assert said in run("iothub_job", **{**ECO, **options})["msg"]
    assert fleet.requests == []


def test_creating_needs_a_condition_and_something_to_do(run: t.Any, fleet: HubSimulator) -> None:
    said = "cannot create job 'x': {0} is not given; give {0}"
    assert run("iothub_job", id="x", desired={})["msg"] == said.format("target_condition")
    assert run("iothub_job", id="x", target_condition="*")["msg"] == said.format("tags, desired or method")


def test_a_tier_that_is_full_says_so(run: t.Any, fleet: HubSimulator) -> None:
    fleet.refuse_next(404)  # it is not there yet
    fleet.refuse_next(403, "JobQuotaExceeded")
    assert "as many jobs under way as its tier allows (said the hub); wait for one" in run("iothub_job", **ECO)["msg"]


def test_info_of_one_has_its_devices_and_of_all_is_newest_first(run: t.Any, fleet: HubSimulator) -> None:
    run("iothub_job", wait=30, **ECO)
    for number in range(4):
        run("iothub_job", **{**REBOOT, "id": f"r{number}"})
    one = run("iothub_job_info", id="eco")
    assert ([job["id"] for job in one["jobs"]], [row["id"] for row in one["devices"]]) == (["eco"], ["f1", "f2"])
    assert [job["id"] for job in run("iothub_job_info")["jobs"]] == ["r3", "r2", "r1", "r0", "eco"]
    assert [job["id"] for job in run("iothub_job_info", type="twin")["jobs"]] == ["eco"]
    assert [job["id"] for job in run("iothub_job_info", status="completed")["jobs"]] == ["eco"]
    assert run("iothub_job_info", id="nothing") == {**run("iothub_job_info", id="nothing"), "jobs": [], "devices": []}
