# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_method against a hub in memory."""

from __future__ import annotations

import threading
import typing as t

import pytest
import requests
from hub_simulator import HubSimulator

BLINK: dict[str, t.Any] = {"method": "blink", "payload": {"seconds": 5}}


@pytest.fixture
def fleet(hub: HubSimulator) -> HubSimulator:
    for name in ("f1", "f2", "away"):
        hub.add_device(name, tags={"ring": "beta"})
    hub.connect("f1", lambda name, payload: (200, {"did": name, "for": payload["seconds"]}))
    hub.connect("f2", lambda name, payload: (404, "no such method"))
    return hub


def test_calls_each_and_returns_what_it_answered(run: t.Any, fleet: HubSimulator) -> None:
    result = run("iothub_method", devices=["f1", "f1"], **BLINK)
    assert result["changed"]
    assert result["devices"] == [
        {"id": "f1", "called": True, "status": 200, "payload": {"did": "blink", "for": 5}, "error": None}
    ]
    assert fleet.writes() == [("POST", "/twins/f1/methods")]


def test_each_run_calls_again(run: t.Any, fleet: HubSimulator) -> None:
    for _ in range(2):
        assert run("iothub_method", devices=["f1"], **BLINK)["changed"]
    assert len(fleet.writes()) == 2


def test_failures_are_told_apart_device_by_device(run: t.Any, fleet: HubSimulator) -> None:
    fleet.add_device("slow")
    fleet.connect("slow", lambda name, payload: None)
    result = run("iothub_method", devices=["away", "f1", "f2", "nobody", "slow"], **BLINK)
    assert result["failed"]
    assert result["changed"]
    told = {device["id"]: (device["called"], device["status"], device["error"]) for device in result["devices"]}
    assert told == {
        "away": (False, None, "device 'away' is not connected, or does not listen for methods; raise connect_timeout "
                              "to wait for it"),
        "f1": (True, 200, None),
        "f2": (True, 404, "device 'f2' answered 404 to method blink"),
        "nobody": (False, None, "device 'nobody' is not registered; create it with iotops.fleet.iothub_device"),
        "slow": (True, None, "device 'slow' did not answer to method blink within 30 s; raise response_timeout if it "
                             "needs longer"),
    }  # fmt: skip
    assert result["msg"].startswith("4 of 5 devices did not do method blink: device 'away' is not connected")


def test_fail_on_decides_what_is_a_failure(run: t.Any, fleet: HubSimulator) -> None:
    assert not run("iothub_method", devices=["f1", "away"], fail_on="all", **BLINK).get("failed")
    assert run("iothub_method", devices=["away"], fail_on="all", **BLINK)["failed"]
    assert not run("iothub_method", devices=["away"], fail_on="none", **BLINK).get("failed")
    assert not run("iothub_method", devices=[], **BLINK)["changed"]


def test_a_condition_chooses(run: t.Any, fleet: HubSimulator) -> None:
    where = "tags.ring = 'beta' AND connectionState = 'Connected'"
    result = run("iothub_method", target_condition=where, fail_on="none", **BLINK)
    assert [device["id"] for device in result["devices"]] == ["f1", "f2"]
    assert "one of the following is required" in run("iothub_method", **BLINK)["msg"]


def test_check_mode_says_who_would_be_called_and_calls_nobody(run: t.Any, fleet: HubSimulator) -> None:
    result = run("iothub_method", check=True, devices=["f1", "away", "nobody"], fail_on="none", **BLINK)
    assert result["changed"]
    assert [device["called"] for device in result["devices"]] == [True, False, False]
    assert fleet.writes() == []
    waiting = run("iothub_method", check=True, devices=["away"], connect_timeout=20, **BLINK)
    assert waiting["devices"][0]["called"]


def test_modules_are_called_by_name(run: t.Any, fleet: HubSimulator) -> None:
    fleet.add_module("f1", "lamp")
    fleet.connect("f1/lamp", lambda name, payload: (200, "on"))
    rehearsed = run("iothub_method", check=True, devices=["f1", "f2"], module="lamp", fail_on="none", **BLINK)
    result = run("iothub_method", devices=["f1", "f2"], module="lamp", fail_on="none", **BLINK)
    assert [device["called"] for device in rehearsed["devices"]] == [True, False]
    assert [(device["called"], device["payload"]) for device in result["devices"]] == [(True, "on"), (False, None)]
    assert result["devices"][1]["error"] == "module 'lamp' of device 'f2' is not registered; check the ids"


def test_so_many_at_a_time_and_no_more(run: t.Any, hub: HubSimulator) -> None:
    names = [f"f{number}" for number in range(12)]
    at_work, most, gate, lock = set[str](), [0], threading.Barrier(3, timeout=5), threading.Lock()

    def answer(device: str) -> tuple[int, None]:
        with lock:
            at_work.add(device)
            most[0] = max(most[0], len(at_work))
        gate.wait()  # three are there together
        with lock:
            at_work.discard(device)
        gate.wait()
        return 200, None

    for name in names:
        hub.add_device(name)
        hub.connect(name, lambda _method, _payload, name=name: answer(name))  # type: ignore[misc]
    assert not run("iothub_method", devices=names, parallel=3, **BLINK).get("failed")
    assert most == [3]


def test_what_was_throttled_is_asked_for_again_and_what_broke_is_not(
    run: t.Any, fleet: HubSimulator, clock: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.refuse_next(429, "ThrottlingException", retry_after=7, times=2)
    assert not run("iothub_method", devices=["f1"], **BLINK).get("failed")
    assert len(clock.pauses) == 2
    fleet.requests.clear()
    for status in (500, 503):
        fleet.refuse_next(status)
        (device,) = run("iothub_method", devices=["f1"], fail_on="none", **BLINK)["devices"]
        assert device["called"], "it may have been"
        assert f"answered {status}" in device["error"]
    assert len(fleet.writes()) == 2

    def breaking(*_request: t.Any) -> t.Any:
        raise requests.exceptions.ConnectionError("reset")

    monkeypatch.setattr(fleet, "handle", breaking)
    monkeypatch.setattr("ansible_collections.iotops.fleet.plugins.module_utils.iothub_rest.diagnose", lambda *_: None)
    (device,) = run("iothub_method", devices=["f1"], fail_on="none", **BLINK)["devices"]
    assert device["called"]
    assert "the connection to the hub hub.example.test broke" in device["error"]


def test_a_right_that_lacks_ends_it_for_all(run: t.Any, fleet: HubSimulator) -> None:
    fleet.refuse_next(403, "Forbidden", times=5)
    result = run("iothub_method", devices=["f1", "f2", "away"], parallel=1, fail_on="none", **BLINK)
    assert "forbids it to policy iothubowner (said the hub); use a policy that has this right" in result["msg"]
    assert len(fleet.writes()) == 1
    assert [device["called"] for device in result["devices"]] == [False, False, False]


def test_whose_turn_never_came_is_not_called(run: t.Any, fleet: HubSimulator, clock: t.Any) -> None:
    def slow(_name: str, _payload: t.Any) -> tuple[int, None]:
        clock.time += 25
        return 200, None

    for name in ("f1", "f2", "away"):
        fleet.connect(name, slow)
    result = run("iothub_method", devices=["f1", "f2", "away"], parallel=1, fail_on="none", timeout=60, **BLINK)
    assert [device["called"] for device in result["devices"]] == [True, True, False]
    assert result["devices"][2]["error"] == (
        "device 'away' was not called, since timeout was over before; raise timeout"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connect_timeout": 301}, "connect_timeout is 301 s; it is between 0 s and 300 s"),
        ({"response_timeout": 4}, "response_timeout is 4 s; it is between 5 s and 300 s"),
        ({"response_timeout": 40, "connect_timeout": 20}, "timeout is too short for one call, which may take 60 s"),
        ({"parallel": 0}, "parallel is 0; it must be 1 or more"),
        ({"method": "x" * 101}, "it has 1 to 100 characters"),
        ({"payload": "x" * 131_072}, "payload has 131074 bytes"),
    ],
)
def test_refuses_what_no_hub_takes(run: t.Any, fleet: HubSimulator, options: dict[str, t.Any], said: str) -> None:
    assert said in run("iothub_method", devices=["f1"], **{**BLINK, **options})["msg"]
    assert fleet.requests == []
