# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module's documentation says is what the module takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__")
FRAGMENTS = ROOT / "plugins/doc_fragments"


class Spec(Exception):
    """Ends a module's main() with what it would take."""


def argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def stop(self: AnsibleModule, argument_spec: dict[str, Any], **_: Any) -> None:
        raise Spec(argument_spec)

    main = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}").main
    monkeypatch.setattr(AnsibleModule, "__init__", stop)
    with patch_module_args({}), pytest.raises(Spec) as caught:
        main()
    spec: dict[str, Any] = caught.value.args[0]
    return spec


def documented(module: str) -> dict[str, Any]:
    """The options of the DOCUMENTATION, with those of its fragments."""
    plugin = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}")
    told = yaml.safe_load(plugin.DOCUMENTATION)
    options: dict[str, Any] = dict(told["options"])
    for name in told.get("extends_documentation_fragment", []):
        if name.startswith("iotops.fleet."):
            parts = name.split(".")
            fragment = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.doc_fragments.{parts[2]}")
            attribute = parts[3].upper() if len(parts) > 3 else "DOCUMENTATION"
            options |= yaml.safe_load(getattr(fragment.ModuleDocFragment, attribute)).get("options", {})
    return options


def compare(spec: dict[str, Any], options: dict[str, Any], where: str) -> None:
    assert sorted(spec) == sorted(options), where
    for name, taken in spec.items():
        told, at = options[name], f"{where}.{name}"
        assert told["type"] == taken.get("type", "str"), at
        assert told.get("required", False) == taken.get("required", False), at
        assert told.get("default") == taken.get("default"), at
        assert told.get("elements") == taken.get("elements"), at
        assert list(told.get("choices", [])) == list(taken.get("choices", [])), at
        assert told.get("description"), at
        if "options" in taken:
            compare(taken["options"], told.get("suboptions", {}), at)


@pytest.mark.parametrize("module", MODULES)
def test_the_documentation_is_the_argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(argument_spec(module, monkeypatch), documented(module), module)


@pytest.mark.parametrize("module", MODULES)
def test_examples_and_returned_values_can_be_read(module: str) -> None:
    plugin = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}")
    tasks = yaml.safe_load(plugin.EXAMPLES)
    assert all(task["name"] for task in tasks)
    assert any(f"iotops.fleet.{module}" in task for task in tasks)
    for name, value in yaml.safe_load(plugin.RETURN).items():
        assert {"description", "returned", "type"} <= set(value), name


@pytest.mark.parametrize("group", ["iothub", "provisioning"])
def test_a_group_of_defaults_has_the_modules_that_say_so(group: str) -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    assert runtime["action_groups"][group] == [name for name in MODULES if f"iotops.fleet.{group}" in memberships(name)]


def memberships(module: str) -> list[str]:
    plugin = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}")
    told = yaml.safe_load(plugin.DOCUMENTATION)
    fragments = told.get("extends_documentation_fragment", [])
    start = "iotops.fleet.attributes.actiongroup_"
    return [name.replace(start, "iotops.fleet.") for name in fragments if name.startswith(start)]


def test_the_example_of_the_inventory_has_options_that_there_are() -> None:
    plugin = importlib.import_module("ansible_collections.iotops.fleet.plugins.inventory.iothub")
    own = yaml.safe_load(plugin.DOCUMENTATION)["options"]
    of_fragments = {"strict", "compose", "groups", "keyed_groups", "cache", "cache_plugin", "cache_connection",
                    "cache_timeout"}  # fmt: skip
    assert set(yaml.safe_load(plugin.EXAMPLES)) <= set(own) | of_fragments
    for name, option in own.items():
        assert option["description"], name
        assert option["type"], name


@pytest.mark.parametrize(
    ("module", "name", "read", "many"),
    [
        ("iothub_configuration", "configuration", "iothub_configuration_info", "configurations"),
        ("iothub_job", "job", "iothub_job_info", "jobs"),
        ("iothub_job", "devices", "iothub_job_info", "devices"),
    ],
)
def test_a_module_returns_what_its_info_module_reads(module: str, name: str, read: str, many: str) -> None:
    """Both say it in full, since RETURN has no fragments before ansible-core 2.21; here they are held together."""

    def returned(which: str, key: str) -> dict[str, str]:
        plugin = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{which}")
        return {field: told["type"] for field, told in yaml.safe_load(plugin.RETURN)[key]["contains"].items()}

    assert returned(module, name) == returned(read, many)
