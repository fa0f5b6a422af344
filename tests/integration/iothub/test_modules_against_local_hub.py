# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules, Azure's SDK and a hub that speaks its protocols, together."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_bucket import bucket


@pytest.fixture
def name() -> str:
    """A fresh id: the hub is shared by all tests."""
    return f"it-{uuid.uuid4().hex[:8]}"


def states(result: dict[str, t.Any]) -> list[str]:
    assert not result.get("failed"), result
    return [device["state"] for device in result["devices"]]


def queued(run_module: t.Any, device: str) -> t.Any:
    """How many messages wait for a device."""
    (row,) = run_module("iothub_query_info", query=f"SELECT * FROM devices WHERE deviceId = '{device}'")["rows"]  # noqa: S608
    return row["cloudToDeviceMessageCount"]


def test_life_of_devices(run_module: t.Any, name: str, local_hub: t.Any) -> None:
    devices = [{"id": f"{name}-{number}", "tags": {"ring": name}} for number in range(120)]
    predicted = run_module("iothub_device", check=True, devices=devices)
    created = run_module("iothub_device", devices=devices, return_keys=True)
    assert set(states(predicted)) == set(states(created)) == {"created"}
    assert predicted["diff"] == created["diff"]
    text = created["devices"][0]["connection_string"]
    assert text.startswith(f"HostName={local_hub.host};DeviceId={name}-0;SharedAccessKey=")
    again = run_module("iothub_device", devices=devices, return_keys=True)
    assert not again["changed"]
    assert [device["connection_string"] for device in again["devices"]] == [
        device["connection_string"] for device in created["devices"]
    ]
    query = f"SELECT COUNT() AS n FROM devices WHERE tags.ring = '{name}' AND tags.bucket >= 0"  # noqa: S608
    assert run_module("iothub_query_info", query=query)["rows"] == [{"n": 120}]
    removed = run_module("iothub_device", devices=devices, state="absent")
    assert removed["changed"]
    assert not run_module("iothub_device", devices=devices, state="absent")["changed"]


def test_status_changes_and_the_keys_stay(run_module: t.Any, name: str) -> None:
    first = run_module("iothub_device", devices=[{"id": name}], return_keys=True)
    locked = run_module("iothub_device", devices=[{"id": name, "status": "disabled"}], return_keys=True)
    assert states(locked) == ["changed"]
    assert first["devices"][0]["connection_string"] == locked["devices"][0]["connection_string"]
    assert not run_module("iothub_device", devices=[{"id": name, "status": "disabled"}])["changed"]


def test_twins_take_the_smallest_patch_and_nulls_delete(run_module: t.Any, name: str) -> None:
    run_module("iothub_device", devices=[{"id": name, "tags": {"ring": "fleet"}}])
    first = {"desired": {"fridge": {"release": {"id": "r1"}, "old": [1, {"a": None}]}}}
    assert states(run_module("iothub_twin", devices=[name], **first)) == ["changed"]
    wish = {"tags": {"ring": "beta"}, "desired": {"fridge": {"release": {"id": "r1"}, "old": None}}}
    predicted = run_module("iothub_twin", check=True, devices=[name], **wish)
    done = run_module("iothub_twin", devices=[name], **wish)
    assert predicted["diff"] == done["diff"]
    assert done["devices"][0]["patch"] == {"tags": {"ring": "beta"}, "desired": {"fridge": {"old": None}}}
    assert not run_module("iothub_twin", devices=[name], **wish)["changed"]
    (twin,) = run_module("iothub_query_info", query=f"SELECT * FROM devices WHERE deviceId = '{name}'")["rows"]  # noqa: S608
    assert twin["tags"] == {"ring": "beta", "bucket": bucket(name)}
    assert twin["properties"]["desired"]["fridge"] == {"release": {"id": "r1"}}


def test_messages_reach_the_queue_and_a_full_one_is_told(run_module: t.Any, name: str) -> None:
    run_module("iothub_device", devices=[{"id": name}, {"id": f"{name}-2"}])
    letter: dict[str, t.Any] = {"body": {"id": "r1"}, "properties": {"type": "release"}, "ack": "full", "ttl": 172800}
    rehearsed = run_module("iothub_message", check=True, devices=[name, "nobody"], fail_on="none", **letter)
    assert [device["sent"] for device in rehearsed["devices"]] == [True, False]
    assert queued(run_module, name) == 0
    for _ in range(49):
        assert not run_module("iothub_message", devices=[name], body="x").get("failed")
    result = run_module("iothub_message", devices=[name, f"{name}-2", "nobody"], message_id="r1", **letter)
    assert [device["sent"] for device in result["devices"]] == [True, True, False]
    assert "not registered" in result["msg"]
    assert queued(run_module, name) == 50
    full = run_module("iothub_message", devices=[name, f"{name}-2"], **letter)
    assert full["msg"].startswith(f"1 of 2 devices did not get the message: the queue of device '{name}' is full")


def test_configuration_reaches_devices_and_counts_them(run_module: t.Any, name: str) -> None:
    run_module("iothub_device", devices=[{"id": f"{name}-{n}", "tags": {"ring": name}} for n in range(3)])
    wish: dict[str, t.Any] = {
        "id": f"release-{name}",
        "target_condition": f"tags.ring = '{name}'",
        "priority": 7,
        "labels": {"version": "1.4.0", "wave": 1},
        "content": {"properties.desired.fridge.release": {"id": "r1"}},
        "metrics": {"all": f"SELECT deviceId FROM devices WHERE tags.ring = '{name}'"},  # noqa: S608
    }
    predicted = run_module("iothub_configuration", check=True, **wish)
    created = run_module("iothub_configuration", **wish)
    assert (
        (predicted["state"], predicted["diff"]) == (created["state"], created["diff"]) == ("created", created["diff"])
    )
    assert not run_module("iothub_configuration", **wish)["changed"]
    changed = run_module("iothub_configuration", id=wish["id"], labels={"version": "1.4.0", "wave": 2})
    assert changed["state"] == "changed"
    refused = run_module("iothub_configuration", **{**wish, "content": {"properties.desired.fridge.colour": "red"}})
    assert "its content cannot change after creation" in refused["msg"]
    (found,) = run_module("iothub_configuration_info", id=wish["id"])["configurations"]
    assert found["labels"] == {"version": "1.4.0", "wave": "2"}
    assert found["created_time"]
    query = f"SELECT * FROM devices WHERE deviceId = '{name}-1'"  # noqa: S608
    (twin,) = run_module("iothub_query_info", query=query)["rows"]
    assert twin["properties"]["desired"]["fridge"]["release"] == {"id": "r1"}
    assert run_module("iothub_configuration", id=wish["id"], state="absent")["changed"]
    assert run_module("iothub_configuration_info", id=wish["id"])["configurations"] == []


def test_wrong_key_is_worded_for_rest_and_for_amqp(run_module: t.Any, local_hub: t.Any) -> None:
    wrong = local_hub.connection_string.replace(local_hub.key, "d3JvbmcgbGFsYQ==")
    said = "refused the key of policy iothubowner; check connection_string"
    assert said in run_module("iothub_query_info", connection_string=wrong, query="SELECT * FROM devices")["msg"]
    assert said in run_module("iothub_message", connection_string=wrong, devices=["x"], body="x")["msg"]


def test_distrust_is_worded_for_rest_and_for_amqp(run_module: t.Any) -> None:
    for module, options in (
        ("iothub_query_info", {"query": "SELECT 1"}),
        ("iothub_message", {"devices": ["x"], "body": "x"}),
    ):
        said = run_module(module, ca_file=None, timeout=20, **options)["msg"]
        assert "is not trusted" in said
        assert "give its CA as ca_file" in said


def test_a_playbook_uses_the_group_and_the_environment(
    project: Path, tmp_path: Path, ansible_environment: dict[str, str], name: str, local_hub: t.Any
) -> None:
    device = {"id": name, "tags": {"ring": "beta"}}
    tasks: list[dict[str, t.Any]] = [
        {"iotops.fleet.iothub_device": {"devices": [device]}, "register": "made"},
        {"iotops.fleet.iothub_message": {"devices": [name], "body": {"id": "r1"}}, "register": "sent"},
        {"ansible.builtin.assert": {"that": ["made is changed", "sent.devices[0].sent"]}},
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {"group/iotops.fleet.iothub": {"timeout": 30}},
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-vvv", "--diff", str(tmp_path / "play.yml")]
    ran = subprocess.run(command, cwd=project, env=ansible_environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert local_hub.key not in ran.stdout + ran.stderr
