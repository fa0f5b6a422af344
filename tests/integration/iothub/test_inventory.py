# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin, by ansible-inventory, against a hub that speaks the protocols."""

from __future__ import annotations

import json
import subprocess
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml

NOTE = "{{ lookup('ansible.builtin.env', 'HOME') }}"
Inventory = t.Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ring(run_module: t.Any) -> str:
    """A ring of its own with two devices: the hub is shared by all tests."""
    ring = f"ring{uuid.uuid4().hex[:8]}"
    # the note is what a hostile device could say of itself
    tags = [{"ring": ring, "model": "cool-60", "address": "10.0.0.1"}, {"ring": ring, "model": "cool-80", "note": NOTE}]
    devices = [{"id": f"{ring}-{number}", "tags": each} for number, each in enumerate(tags)]
    assert run_module("iothub_device", devices=devices)["changed"]
    return ring


@pytest.fixture
def inventory(project: Path, tmp_path: Path, ansible_environment: dict[str, str], local_hub: t.Any) -> Inventory:
    """Write a configuration and run ansible-inventory; whatever it prints must hold no key."""

    def run(*options: str, raw: str | None = None, **config: t.Any) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "fridges.iothub.yml"
        path.write_text(raw or yaml.safe_dump({"plugin": "iotops.fleet.iothub", **config}))
        command = ["ansible-inventory", "-i", str(path), "--list", *options]
        environment = {**ansible_environment, "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true"}
        ran = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)
        assert local_hub.key not in ran.stdout + ran.stderr
        assert "sig=" not in ran.stdout + ran.stderr
        return ran

    return run


def is_text(value: t.Any, text: str) -> bool:
    """Whether a value is a text that Ansible will never take for a template: so it writes what a plugin read."""
    return bool(value == {"__ansible_unsafe": text})


def read(ran: subprocess.CompletedProcess[str]) -> dict[str, t.Any]:
    assert ran.returncode == 0, ran.stderr
    return t.cast("dict[str, t.Any]", json.loads(ran.stdout[ran.stdout.index("{\n") :]))  # -vvvv speaks before it


def test_devices_become_hosts_in_groups(inventory: Inventory, ring: str) -> None:
    found = read(
        inventory(
            "-vvvv",
            target_condition=f"tags.ring = '{ring}'",
            address="tags.address",
            strict=True,
            keyed_groups=[{"key": "iothub_tags.model", "prefix": "model"}],
            groups={"offline": "iothub_connection_state == 'Disconnected'"},
            compose={"model_line": "iothub_tags.model | upper"},
        )
    )
    variables = found["_meta"]["hostvars"]
    assert set(variables) == {f"{ring}-0", f"{ring}-1"}
    assert (found["model_cool_60"]["hosts"], found["model_cool_80"]["hosts"]) == ([f"{ring}-0"], [f"{ring}-1"])
    assert found["offline"]["hosts"] == [f"{ring}-0", f"{ring}-1"]
    first, second = variables[f"{ring}-0"], variables[f"{ring}-1"]
    assert is_text(first["ansible_host"], "10.0.0.1")
    assert is_text(first["model_line"], "COOL-60")
    assert "ansible_host" not in second
    assert is_text(second["iothub_tags"]["note"], NOTE)


def test_strict_decides_what_a_bad_expression_does(inventory: Inventory, ring: str) -> None:
    bad = {"target_condition": f"tags.ring = '{ring}'", "compose": {"x": "iothub_tags.nothing.at_all"}}
    assert "x" not in read(inventory(**bad))["_meta"]["hostvars"][f"{ring}-0"]
    assert inventory(strict=True, **bad).returncode != 0


def test_a_cache_is_asked_first_and_can_be_flushed(
    inventory: Inventory, ring: str, run_module: t.Any, tmp_path: Path
) -> None:
    config = {
        "query": f"SELECT * FROM devices WHERE tags.ring = '{ring}'",  # noqa: S608
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    assert set(read(inventory(**config))["_meta"]["hostvars"]) == {f"{ring}-0", f"{ring}-1"}
    run_module("iothub_device", devices=[{"id": f"{ring}-1"}], state="absent")
    cached = read(inventory(**config))["_meta"]["hostvars"]
    assert set(cached) == {f"{ring}-0", f"{ring}-1"}
    assert is_text(cached[f"{ring}-1"]["iothub_tags"]["note"], NOTE)
    assert set(read(inventory("--flush-cache", **config))["_meta"]["hostvars"]) == {f"{ring}-0"}
    files = list((tmp_path / "cache").iterdir())
    assert files
    assert not any("SharedAccessKey" in file.read_text() for file in files)


def test_the_connection_comes_from_a_vault(
    inventory: Inventory, ring: str, local_hub: t.Any, tmp_path: Path, ansible_environment: dict[str, str]
) -> None:
    (tmp_path / "password").write_text("for this test only")
    password = ["--vault-id", f"test@{tmp_path / 'password'}"]
    command = ["ansible-vault", "encrypt_string", *password, "--encrypt-vault-id", "test", "--name"]
    command += ["connection_string", local_hub.connection_string]
    made = subprocess.run(command, env=ansible_environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    ansible_environment["IOTHUB_CONNECTION_STRING"] = "HostName=other;SharedAccessKeyName=p;SharedAccessKey=eA=="
    raw = f"plugin: iotops.fleet.iothub\ntarget_condition: tags.ring = '{ring}'\n{made.stdout}"
    assert len(read(inventory(*password, raw=raw))["_meta"]["hostvars"]) == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_condition": "tags."}, "cannot run the query: the hub "),
        ({"query": "SELECT COUNT() AS n FROM devices"}, "query gives rows without deviceId"),
        ({"address": "network"}, "address is 'network'; it begins with tags. or properties.reported."),
        (
            {"connection_string": "HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey=eA=="},
            "cannot reach the hub",
        ),
        ({"timeout": 0}, "timeout is 0 s; it must be 1 s or more"),
    ],
)
def test_what_went_wrong_is_one_sentence(inventory: Inventory, config: dict[str, t.Any], said: str) -> None:
    ran = inventory(**config)
    assert ran.returncode != 0
    assert said in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr


def test_other_files_are_left_to_other_plugins(inventory: Inventory, tmp_path: Path, project: Path) -> None:
    (tmp_path / "fridges.yml").write_text("plugin: iotops.fleet.iothub\n")
    command = ["ansible-inventory", "-i", str(tmp_path / "fridges.yml"), "--list"]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    assert ran.returncode != 0
