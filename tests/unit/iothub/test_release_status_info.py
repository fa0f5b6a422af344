# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""release_status_info against a hub in memory: what a ring's release came to, and how long it is waited for."""

from __future__ import annotations

import importlib
import typing as t

import pytest
from conftest import PACKAGE, Clock
from hub_simulator import HubSimulator


class Ring:
    """The beta ring, which has been offered release 2-g2."""

    def __init__(self, run: t.Any, hub: HubSimulator) -> None:
        self.run, self.hub = run, hub

    def offer(self, release: str = "2-g2", ring: str = "beta", priority: int = 100) -> None:
        version = release.partition("-")[0]
        labels = {"release": release, "ring": ring, "version": version, "commit": "abc", "manifest": f"{ring}/m.json"}
        body = {"id": f"release-{release}-{ring}", "priority": priority, "labels": labels, "content": {}}
        self.hub._put_configuration(body["id"], body, {})

    def report(self, device: str, state: str, *, connected: bool = True, **update: t.Any) -> None:
        """Let a device report; it is registered with its first report."""
        if device not in self.hub.twins:
            self.hub.add_device(device, tags={"ring": "beta"})
        if connected:
            self.hub.connect(device, lambda name, payload: (200, payload))
        told = {"release": "2-g2", "state": state, "version": "2", "previous": "1", "changed_at": 60, **update}
        self.hub.twins[device]["properties"]["reported"] = {"fridge": {"update": told}}

    def status(self, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.run("release_status_info", check=check, ring="beta", **options))


@pytest.fixture
def ring(run: t.Any, hub: HubSimulator) -> Ring:
    made = Ring(run, hub)
    made.offer()
    return made


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """Let the pauses between two looks pass at once, and never vary."""
    module = importlib.import_module(f"{PACKAGE}.modules.release_status_info")
    monkeypatch.setattr(module.time, "monotonic", clock.now)
    monkeypatch.setattr(module.time, "sleep", clock.sleep)
    monkeypatch.setattr(module.random, "uniform", lambda _low, _high: 1.0)
    return clock


def test_tells_the_release_each_device_and_the_verdict(ring: Ring) -> None:
    ring.report("f1", "succeeded")
    ring.report("f2", "failed", error={"code": "no_space", "text": "the disk is full"})
    ring.report("f3", "succeeded", release="1-g1", version="1")
    result = ring.status()
    assert not result["changed"]
    assert result["release"] == {
        "id": "2-g2", "version": "2", "commit": "abc", "manifest": "beta/m.json",
        "configuration": "release-2-g2-beta", "announced_at": "2026-11-23T18:00:00Z",
    }  # fmt: skip
    rows = {row["id"]: row for row in result["devices"]}
    assert {name: row["state"] for name, row in rows.items()} == {"f1": "succeeded", "f2": "failed", "f3": "pending"}
    assert (rows["f1"]["from"], rows["f1"]["to"], rows["f1"]["succeeded_at"]) == ("1", "2", "1970-01-01T00:01:00Z")
    assert rows["f2"]["error"] == {"code": "no_space", "text": "the disk is full"}
    assert rows["f3"]["from"] == "1"
    assert (result["verdict"], result["unfinished"]) == ("stop", ["f3"])
    assert result["reason"] == "1 of 3 devices did not keep the release: f2"


def test_only_the_ring_that_is_asked_for_counts(ring: Ring) -> None:
    ring.report("f1", "succeeded")
    ring.hub.add_device("other", tags={"ring": "fleet"})
    ring.offer("3-g3", ring="fleet", priority=999)
    result = ring.status()
    assert ([row["id"] for row in result["devices"]], result["release"]["id"]) == (["f1"], "2-g2")
    assert result["verdict"] == "go"


def test_the_newest_release_is_told_unless_another_is_named(ring: Ring) -> None:
    ring.report("f1", "succeeded")
    ring.offer("3-g3", priority=101)
    assert ring.status()["release"]["id"] == "3-g3"
    assert ring.status()["verdict"] == "wait"
    assert ring.status(release="2-g2")["verdict"] == "go"


def test_the_gate_decides(ring: Ring) -> None:
    ring.report("f1", "succeeded")
    ring.report("f2", "failed")
    assert ring.status()["verdict"] == "stop"
    assert ring.status(failures_max=1)["verdict"] == "wait"
    assert ring.status(failures_max=1, success_share=0.5)["verdict"] == "go"


def test_a_ring_without_a_release_is_told_and_is_no_failure(ring: Ring) -> None:
    result = ring.status(release="9-g9")
    assert (result["release"], result["devices"], result["verdict"]) == ({}, [], "wait")
    assert result["reason"] == "ring beta has not been offered release 9-g9"
    ring.hub.configurations.clear()
    assert ring.status()["reason"] == "ring beta has not been offered any release"


def test_waits_until_the_connected_devices_are_done(ring: Ring, looks: Clock) -> None:
    ring.report("f1", "downloading")
    ring.report("off", "downloading", connected=False, release="1-g1")
    sleep = looks.sleep

    def done_after_three(seconds: float) -> None:
        sleep(seconds)
        if len(looks.pauses) == 3:
            ring.report("f1", "succeeded")

    looks.sleep = done_after_three  # type: ignore[method-assign]
    importlib.import_module(f"{PACKAGE}.modules.release_status_info").time.sleep = done_after_three
    result = ring.status(wait=50, poll=2.0)
    assert looks.pauses == [2.0, 2.0, 2.0]
    assert result["unfinished"] == []
    assert {row["id"]: row["state"] for row in result["devices"]} == {"f1": "succeeded", "off": "pending"}


def test_waits_no_longer_than_it_was_told_to(ring: Ring, looks: Clock) -> None:
    ring.report("f1", "downloading")
    result = ring.status(wait=10, poll=3.0)
    assert looks.pauses == [3.0, 3.0, 3.0]
    assert (result["verdict"], result["unfinished"]) == ("wait", ["f1"])


def test_does_not_wait_for_a_release_that_is_stopped_nor_in_check_mode(ring: Ring, looks: Clock) -> None:
    ring.report("f1", "downloading")
    checked = ring.status(check=True, wait=50)
    assert (checked["changed"], checked["verdict"], looks.pauses) == (False, "wait", [])
    ring.report("f2", "rolled_back")
    assert ring.status(wait=50)["verdict"] == "stop"
    assert looks.pauses == []


def test_a_hub_that_throttles_is_asked_again(ring: Ring, clock: Clock) -> None:
    ring.report("f1", "succeeded")
    ring.hub.refuse_next(429, "ThrottlingException", retry_after=7, times=2)
    assert ring.status()["verdict"] == "go"
    assert sum(clock.pauses) >= 14


def test_a_hub_that_throttles_for_too_long_is_told(ring: Ring, clock: Clock) -> None:
    ring.hub.refuse_next(429, "ThrottlingException", retry_after=7, times=99)
    result = ring.status(timeout=20)
    assert result["failed"]
    assert "throttl" in result["msg"]
    assert "raise timeout" in result["msg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wait": 60}, "wait (60 s) must be less than timeout (60 s)"),
        ({"ring": "beta' OR 'a' = 'a"}, "ring 'beta' OR 'a' = 'a' is no name: letters, digits, - and _ only"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_and_nothing_is_asked(
    run: t.Any, hub: HubSimulator, options: dict[str, t.Any], said: str
) -> None:
    result = run("release_status_info", **{"ring": "beta", **options})
    assert (result["failed"], result["msg"]) == (True, said)
    assert hub.requests == []


def test_nothing_is_ever_written(ring: Ring) -> None:
    ring.report("f1", "succeeded")
    before = ring.hub.state()
    ring.status()
    assert ring.hub.state() == before
