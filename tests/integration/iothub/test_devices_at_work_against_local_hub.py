# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices and modules, direct methods, jobs and enrolments against a hub that speaks the protocols."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from pathlib import Path

import pytest


@pytest.fixture
def name() -> str:
    """A fresh id: the hub is shared by all tests."""
    return f"it-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def fleet(run_module: t.Any, name: str) -> dict[str, str]:
    """Three devices of a ring of their own, and what they connect with."""
    devices = [{"id": f"{name}-{number}", "tags": {"ring": name}} for number in range(3)]
    made = run_module("iothub_device", devices=devices, return_keys=True)
    return {device["id"]: device["connection_string"] for device in made["devices"]}


def add_module(local_hub: t.Any, device: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.iot.hub import IoTHubRegistryManager

    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, local_hub.ca_file)
    registry = IoTHubRegistryManager.from_connection_string(local_hub.connection_string)
    registry.create_module_with_sas(device, module, "", "", "")


def test_devices_and_modules_are_told_with_their_connection(
    run_module: t.Any, local_hub: t.Any, connect: t.Any, fleet: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = fleet
    add_module(local_hub, first, "thermostat", monkeypatch)
    connect(fleet[second])
    told = run_module("iothub_device_info", devices=[third, second, first, "nobody"], modules=True, return_keys=True)
    assert [device["id"] for device in told["devices"]] == [third, second, first]
    assert told["missing"] == ["nobody"]
    assert [device["connection_state"] for device in told["devices"]] == ["Disconnected", "Connected", "Disconnected"]
    assert told["devices"][0]["last_activity_time"] is None
    assert {device["id"]: device["connection_string"] for device in told["devices"]} == fleet
    (module,) = told["devices"][2]["modules"]
    assert module["id"] == "thermostat"
    connect(module["connection_string"])
    ring = told["devices"][0]["tags"]["ring"]
    again = run_module("iothub_device_info", target_condition=f"tags.ring = '{ring}'", modules=True)
    assert [device["id"] for device in again["devices"]] == [first, second, third]
    assert again["devices"][0]["modules"][0]["connection_state"] == "Connected"
    assert "SharedAccessKey" not in str(again)


def test_methods_are_answered_device_by_device(
    run_module: t.Any, local_hub: t.Any, connect: t.Any, fleet: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = fleet
    add_module(local_hub, first, "lamp", monkeypatch)
    (told,) = run_module("iothub_device_info", devices=[first], modules=True, return_keys=True)["devices"]
    connect(fleet[first], lambda name, payload: (200, {"did": name, "with": payload}))
    connect(fleet[second], lambda name, payload: (501, None))
    connect(told["modules"][0]["connection_string"], lambda name, payload: (200, "lamp"))
    wish: dict[str, t.Any] = {"devices": [*fleet, "nobody"], "method": "blink", "payload": [1, {"a": None}]}
    predicted = run_module("iothub_method", check=True, fail_on="none", **wish)
    assert [device["called"] for device in predicted["devices"]] == [True, True, False, False]
    done = run_module("iothub_method", **wish)
    assert [device["called"] for device in done["devices"]] == [True, True, False, False]
    assert done["devices"][0]["payload"] == {"did": "blink", "with": [1, {"a": None}]}
    assert done["msg"].startswith(f"3 of 4 devices did not do method blink: device '{second}' answered 501")
    assert f"device '{third}' is not connected" in done["msg"]
    assert "device 'nobody' is not registered" in done["msg"]
    lamps = run_module("iothub_method", devices=[first, second], method="on", module="lamp", fail_on="none")
    assert [device["payload"] for device in lamps["devices"]] == ["lamp", None]
    assert "is not registered; check the ids" in lamps["devices"][1]["error"]


def test_a_method_that_takes_too_long_is_told_so(run_module: t.Any, connect: t.Any, fleet: dict[str, str]) -> None:
    gate = threading.Event()
    device = next(iter(fleet))

    def slow(_name: str, _payload: t.Any) -> tuple[int, None]:
        gate.wait(20)
        return 200, None

    connect(fleet[device], slow)
    (told,) = run_module("iothub_method", devices=[device], method="x", response_timeout=5, fail_on="none")["devices"]
    gate.set()
    assert told["called"]
    assert "did not answer to method x within 5 s; raise response_timeout" in told["error"]


def test_life_of_a_twin_job(run_module: t.Any, name: str, fleet: dict[str, str]) -> None:
    run_module("iothub_twin", devices=list(fleet), desired={"old": 1})
    wish: dict[str, t.Any] = {
        "id": name,
        "target_condition": f"tags.ring = '{name}'",
        "desired": {"eco": True, "old": None},
        "tags": {"job": name},
        "sku": "S1",
    }
    predicted = run_module("iothub_job", check=True, **wish)
    done = run_module("iothub_job", wait=20, poll=0.3, **wish)
    assert not done.get("failed"), done
    assert (predicted["state"], predicted["diff"]) == (done["state"], done["diff"]) == ("created", done["diff"])
    assert predicted["estimated_seconds"] == done["estimated_seconds"] == 0
    assert done["job"]["statistics"] == {"devices": 3, "succeeded": 3, "failed": 0, "running": 0, "pending": 0}
    assert [device["status"] for device in done["devices"]] == ["completed"] * 3
    (twin, *_others) = run_module("iothub_query_info", query=f"SELECT * FROM devices WHERE tags.job = '{name}'")["rows"]  # noqa: S608
    desired = twin["properties"]["desired"]
    assert (desired["eco"], "old" in desired) == (True, False)
    again = run_module("iothub_job", wait=20, **wish)
    assert (again["changed"], again["state"], again["devices"]) == (False, "unchanged", done["devices"])
    other = run_module("iothub_job", **{**wish, "tags": {"job": "other"}})
    assert "it exists and cannot change, and differs in tags; use a new id" in other["msg"]
    info = run_module("iothub_job_info", id=name)
    assert (info["jobs"][0]["type"], len(info["devices"])) == ("twin", 3)
    assert name in [job["id"] for job in run_module("iothub_job_info", type="twin", status="completed")["jobs"]]


def test_a_method_job_tells_who_was_away(run_module: t.Any, name: str, fleet: dict[str, str], connect: t.Any) -> None:
    first, *_others = fleet
    connect(fleet[first], lambda name, payload: (200, payload))
    wish = {"id": name, "target_condition": f"tags.ring = '{name}'", "method": "reboot", "payload": {"delay": 3}}
    done = run_module("iothub_job", wait=30, poll=0.3, **wish)
    assert done["msg"].startswith(f"2 of 3 devices did not do job {name}: '{name}-1' failed (DeviceNotOnline")
    assert done["devices"][0]["response"] == {"delay": 3}
    assert not run_module("iothub_job", wait=30, fail_on="all", **wish).get("failed")


def test_a_job_for_later_is_cancelled(run_module: t.Any, name: str, fleet: dict[str, str]) -> None:
    wish = {"id": name, "target_condition": "*", "tags": {"a": 1}, "start_time": "2999-01-01T01:00:00+01:00"}
    assert run_module("iothub_job", **wish)["job"]["status"] == "queued"
    assert run_module("iothub_job", **wish)["state"] == "unchanged"
    late = run_module("iothub_job", wait=1, poll=0.3, **wish)
    assert "cannot see the end of job" in late["msg"]
    predicted = run_module("iothub_job", check=True, id=name, state="cancelled")
    done = run_module("iothub_job", id=name, state="cancelled")
    assert (predicted["diff"], done["job"]["status"]) == (done["diff"], "cancelled")
    assert not run_module("iothub_job", id=name, state="cancelled")["changed"]


def derived(group_key: str, device: str) -> str:
    digest = hmac.new(base64.b64decode(group_key), device.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def register(local_hub: t.Any, device: str, key: str) -> t.Any:
    from azure.iot.device import ProvisioningDeviceClient

    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=local_hub.host,
        registration_id=device,
        id_scope="0neLocalHub",
        symmetric_key=key,
        server_verification_cert=Path(local_hub.ca_file).read_text(),
    )
    return client.register()


def test_a_group_lets_its_devices_in(run_module: t.Any, local_hub: t.Any, name: str) -> None:
    wish: dict[str, t.Any] = {
        "kind": "group",
        "enrollments": [{"id": name, "tags": {"ring": name}, "desired": {"a": 1}}],
    }
    predicted = run_module("iothub_enrollment", check=True, **wish)
    assert run_module("iothub_enrollment_info", kind="group", ids=[name])["enrollments"] == []
    done = run_module("iothub_enrollment", return_keys=True, **wish)
    assert predicted["diff"] == done["diff"]
    (made,) = done["enrollments"]
    assert not run_module("iothub_enrollment", **wish)["changed"]
    device = f"{name}-fridge"
    assert register(local_hub, device, derived(made["primary_key"], device)).status == "assigned"
    (told,) = run_module("iothub_device_info", devices=[device])["devices"]
    assert told["tags"] == {"ring": name}
    off = {"kind": "group", "enrollments": [{"id": name, "status": "disabled"}]}
    assert run_module("iothub_enrollment", **off)["enrollments"][0]["state"] == "changed"
    (shown,) = run_module("iothub_enrollment_info", kind="group", ids=[name], return_keys=True)["enrollments"]
    assert (shown["status"], shown["tags"]) == ("disabled", {"ring": name})
    assert shown["primary_key"] == made["primary_key"], "an update keeps the keys"
    gone = {"kind": "group", "enrollments": [{"id": name}], "state": "absent"}
    assert run_module("iothub_enrollment", check=True, **gone)["changed"]
    assert run_module("iothub_enrollment", **gone)["changed"]
    assert not run_module("iothub_enrollment", **gone)["changed"]


def test_devices_are_enrolled_one_by_one(run_module: t.Any, local_hub: t.Any, name: str, tmp_path: Path) -> None:
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "pem"), "-subj", f"/CN={name}"]
    subprocess.run(["openssl", "req", *kind, *files], check=True, capture_output=True)
    key = base64.b64encode(b"k" * 32).decode()
    by_key = [{"id": f"{name}-{n}", "primary_key": key, "secondary_key": key} for n in range(25)]
    by_certificate = {"id": f"{name}-x", "certificate": (tmp_path / "pem").read_text(), "reprovision": "never"}
    wish = [*by_key, by_certificate]
    done = run_module("iothub_enrollment", enrollments=wish)
    assert [one["state"] for one in done["enrollments"]] == ["created"] * 26
    assert not run_module("iothub_enrollment", enrollments=wish)["changed"]
    assert register(local_hub, f"{name}-3", key).status == "assigned"
    first, last = run_module("iothub_enrollment_info", ids=[f"{name}-3", f"{name}-x"])["enrollments"]
    assert (first["registration_status"], first["registered_device_id"]) == ("assigned", f"{name}-3")
    assert (last["attestation"], len(last["thumbprints"]), last["reprovision"]) == ("x509", 1, "never")
    changed = run_module("iothub_enrollment", enrollments=[{"id": f"{name}-x", "device_id": "other"}])
    assert changed["diff"] == {
        "before": {f"{name}-x": {"device_id": None}},
        "after": {f"{name}-x": {"device_id": "other"}},
    }
    (same,) = run_module("iothub_enrollment_info", ids=[f"{name}-x"])["enrollments"]
    assert same["thumbprints"] == last["thumbprints"], "a certificate stays without being given again"
    assert run_module("iothub_enrollment", enrollments=[{"id": one["id"]} for one in wish], state="absent")["changed"]


def test_a_policy_is_named_by_its_parts(run_module: t.Any, local_hub: t.Any) -> None:
    fields = dict(part.split("=", 1) for part in local_hub.connection_string.split(";"))
    parts = {"hostname": fields["HostName"], "policy_name": fields["SharedAccessKeyName"]}
    options = {"connection_string": None, **parts, "policy_key": fields["SharedAccessKey"]}
    assert "devices" in run_module("iothub_device_info", **options)
    sent = run_module("iothub_message", devices=["nobody"], body="x", fail_on="none", **options)
    assert "is not registered" in sent["devices"][0]["error"]


def test_the_throttles_of_a_small_hub_are_obeyed_and_told_in_advance(
    run_module: t.Any, small_hub: t.Any, name: str
) -> None:
    """A free hub takes a hundred calls of the registry at once, then one in 0.6 s."""
    where = {"connection_string": small_hub.connection_string, "ca_file": small_hub.ca_file}
    devices = [{"id": f"{name}-{number}"} for number in range(58)]
    made = run_module("iothub_device", devices=devices, sku="F1", **where)
    assert (made["estimated_seconds"], made.get("failed")) == (0, None)
    locked = [{**device, "status": "disabled"} for device in devices]
    predicted = run_module("iothub_device", check=True, devices=locked, sku="F1", **where)
    assert predicted["estimated_seconds"] == 10
    done = run_module("iothub_device", devices=locked, sku="F1", timeout=60, **where)
    assert not done.get("failed"), done["msg"]
    assert {device["state"] for device in done["devices"]} == {"changed"}
    hasty = run_module(
        "iothub_device", devices=[{**device, "status": "enabled"} for device in devices], timeout=1, **where
    )
    assert "is throttling (" in hasty["msg"]
    assert "failed" in {device["state"] for device in hasty["devices"]}


def test_no_secret_is_in_the_list_of_processes(
    project: Path, tmp_path: Path, ansible_environment: dict[str, str], name: str, local_hub: t.Any
) -> None:
    """Keys as options of tasks, as one who has them in a vault would give them."""
    key = base64.b64encode(b"one that the playbook brings").decode()
    enrollment = {"id": name, "primary_key": key, "secondary_key": key}
    tasks: list[dict[str, t.Any]] = [
        {"iotops.fleet.iothub_enrollment": {"enrollments": [enrollment]}, "register": "made"},
        {"iotops.fleet.iothub_device": {"connection_string": local_hub.connection_string, "devices": [{"id": name}]}},
        {"ansible.builtin.assert": {"that": ["made is changed"]}},
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {"group/iotops.fleet.provisioning": {"connection_string": local_hub.connection_string}},
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-vvv", "--diff", str(tmp_path / "play.yml")]
    environment = {name: value for name, value in ansible_environment.items() if name != "IOTHUB_CONNECTION_STRING"}
    seen: set[str] = set()
    with (tmp_path / "log").open("w+") as log:
        ran = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
        while ran.poll() is None:
            seen |= command_lines()
            time.sleep(0.01)
        log.seek(0)
        text = log.read()
    assert ran.returncode == 0, text
    assert any("ansible-playbook" in line for line in seen), "nothing was seen"
    for secret in (key, local_hub.key):
        assert secret not in text
        assert not [line for line in seen if secret in line]


def command_lines() -> set[str]:
    """The command lines of all processes, as ps shows them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_a_thousand_devices_are_one_task(run_module: t.Any, name: str) -> None:
    """One that is missing, and one whose queue is full, are told by name; all the others are served."""
    names = [f"{name}-{number:04d}" for number in range(1000)]
    made = run_module("iothub_device", devices=[{"id": device} for device in names], timeout=120)
    assert not made.get("failed"), made["msg"]
    for _ in range(50):
        assert not run_module("iothub_message", devices=[names[7]], body="x").get("failed")
    sent = run_module("iothub_message", devices=[*names, "nobody"], body={"id": "r1"}, timeout=120)
    assert [device["id"] for device in sent["devices"] if not device["sent"]] == [names[7], "nobody"]
    assert sent["msg"].startswith(
        f"2 of 1001 devices did not get the message: the queue of device '{names[7]}' is full"
    )
    patched = run_module("iothub_twin", devices=names, tags={"wave": 1}, timeout=120)
    assert not patched.get("failed"), patched["msg"]
    query = f"SELECT COUNT() AS n FROM devices WHERE tags.wave = 1 AND STARTSWITH(deviceId, '{name}')"  # noqa: S608
    assert run_module("iothub_query_info", query=query)["rows"] == [{"n": 1000}]
    assert not run_module("iothub_twin", devices=names, tags={"wave": 1}, timeout=120)["changed"]
    gone = run_module("iothub_device", devices=[{"id": device} for device in names], state="absent", timeout=120)
    assert gone["changed"]


def test_throttled_messages_arrive_in_the_time_that_was_told(run_module: t.Any, small_hub: t.Any, name: str) -> None:
    """A free hub takes a hundred messages at once, then one in 0.6 s; over AMQP it names no time to wait."""
    where = {"connection_string": small_hub.connection_string, "ca_file": small_hub.ca_file}
    names = [f"{name}-{number}" for number in range(110)]
    assert run_module("iothub_device", devices=[{"id": device} for device in names], **where)["changed"]
    options = {"devices": names, "body": {"id": "r1"}, "sku": "F1", **where}
    predicted = run_module("iothub_message", check=True, **options)
    begun = time.monotonic()
    sent = run_module("iothub_message", **options)
    assert predicted["estimated_seconds"] == sent["estimated_seconds"] == 6
    assert all(device["sent"] for device in sent["devices"]), sent["msg"]
    assert 4 < time.monotonic() - begun < 50
    hasty = run_module("iothub_message", timeout=4, fail_on="none", **options)
    left = {device["error"] for device in hasty["devices"] if not device["sent"]}
    assert left
    # on a slow machine the login alone takes the time, or is broken off by its end, and the throttled are not told yet
    assert [error for error in left if "raise timeout" not in error and "run again" not in error] == []


def test_a_throttling_hub_is_not_pressed(run_module: t.Any, small_hub: t.Any, name: str, monkeypatch: t.Any) -> None:
    """What it throttles waits for the next connection, after a pause; uamqp by itself sends it four times at once."""
    import uamqp

    sends: list[tuple[t.Any, bytes]] = []
    transfer = uamqp.SendClient._transfer_message

    def noted(client: t.Any, message: t.Any, timeout: float) -> None:
        sends.append((client, message.properties.to))
        transfer(client, message, timeout)

    where = {"connection_string": small_hub.connection_string, "ca_file": small_hub.ca_file}
    names = [f"{name}-{number}" for number in range(103)]
    assert run_module("iothub_device", devices=[{"id": device} for device in names], **where)["changed"]
    monkeypatch.setattr(uamqp.SendClient, "_transfer_message", noted)
    assert not run_module("iothub_message", devices=names, body="x", **where).get("failed")
    assert len(sends) > len(names), "the hub throttled none"
    assert len(sends) == len(set(sends))
