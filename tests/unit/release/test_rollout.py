# SPDX-License-Identifier: GPL-3.0-or-later
"""From twins to a verdict."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import rollout
from ansible_collections.iotops.fleet.plugins.module_utils.rollout import Gate

RELEASE = {"id": "2-g2", "version": "2", "announced_at": "2026-11-23T10:00:00Z"}


def twin(device: str, connected: bool = True, **update: Any) -> dict[str, Any]:
    return {
        "deviceId": device,
        "connectionState": "Connected" if connected else "Disconnected",
        "properties": {"reported": {"fridge": {"update": update}} if update else {}},
    }


def row(state: str, release: str = "2-g2", **more: Any) -> dict[str, Any]:
    return rollout.device(twin("f", release=release, state=state, version="2", changed_at=0, **more), RELEASE)


def test_a_device_that_speaks_of_another_release_is_pending() -> None:
    told = rollout.device(twin("f", release="1-g1", state="succeeded", version="1"), RELEASE)
    assert (told["state"], told["from"], told["succeeded_at"]) == ("pending", "1", None)


def test_a_device_that_never_spoke_is_pending() -> None:
    assert rollout.device(twin("f"), RELEASE)["state"] == "pending"


def test_success_has_its_time_and_failure_its_error() -> None:
    assert row("succeeded")["succeeded_at"] == "1970-01-01T00:00:00Z"
    failed = row("failed", error={"code": "x", "text": "y"})
    assert (failed["succeeded_at"], failed["error"]["code"]) == (None, "x")


@pytest.mark.parametrize(
    ("states", "gate", "expected"),
    [
        ([], Gate(), "wait"),
        (["succeeded", "succeeded"], Gate(), "go"),
        (["succeeded", "pending"], Gate(), "wait"),
        (["succeeded", "pending"], Gate(success_share=0.5), "go"),
        (["succeeded", "rolled_back"], Gate(), "stop"),
        (["succeeded", "refused"], Gate(), "stop"),
        (["succeeded", "succeeded", "failed"], Gate(success_share=0.6, failures_max=1), "go"),
        (["downloading", "probation"], Gate(), "wait"),
    ],
)
def test_the_verdict_follows_the_gate(states: list[str], gate: Gate, expected: str) -> None:
    assert rollout.verdict([row(state) for state in states], gate)[0] == expected


def named(device: str, state: str, connected: bool = True, **more: Any) -> dict[str, Any]:
    return {**row(state, **more), "id": device, "connected": connected}


def test_connected_devices_on_their_way_are_waited_for() -> None:
    rows = [named("a", "downloading"), named("b", "succeeded"), named("c", "failed"), named("d", "pending")]
    assert rollout.Watch().unfinished(rows, now=0) == ["a", "d"]


def test_a_device_that_is_off_is_not_waited_for() -> None:
    assert rollout.Watch().unfinished([named("a", "pending", connected=False)], now=0) == []


def test_a_device_that_drops_off_while_it_changes_its_agent_is_waited_for_a_while() -> None:
    watch = rollout.Watch(patience=60)
    assert watch.unfinished([named("a", "installing")], now=0) == ["a"]
    gone = [named("a", "probation", connected=False)]
    assert watch.unfinished(gone, now=100) == ["a"]
    assert watch.unfinished(gone, now=159) == ["a"]
    assert watch.unfinished(gone, now=160) == []
    assert watch.unfinished([named("a", "probation")], now=200) == ["a"]


@pytest.mark.parametrize(("reason", "waited"), [("consent", []), ("window", []), ("idle", ["a"])])
def test_nobody_waits_for_an_owner_or_the_night(reason: str, waited: list[str]) -> None:
    assert rollout.Watch().unfinished([named("a", "waiting", waiting_for=reason)], now=0) == waited


def test_the_highest_priority_of_the_ring_is_the_release_in_force() -> None:
    def configuration(ring: str, release: str, priority: int) -> dict[str, Any]:
        return {
            "id": f"release-{ring}-{release}", "priority": priority, "createdTimeUtc": "2026-11-23T10:00:00.123Z",
            "labels": {"ring": ring, "release": release, "version": release},
        }  # fmt: skip

    known = [configuration("beta", "1", 10), configuration("beta", "2", 11), configuration("fleet", "9", 99)]
    found = rollout.release_of([*known, {"id": "other", "priority": 1000}], "beta", None)
    assert found is not None
    assert (found["id"], found["announced_at"]) == ("2", "2026-11-23T10:00:00Z")
    older = rollout.release_of(known, "beta", "1")
    assert older is not None
    assert older["configuration"] == "release-beta-1"
    assert rollout.release_of(known, "gamma", None) is None
