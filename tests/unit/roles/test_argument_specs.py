# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role says of its variables is what it does with them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def options(role: Path) -> dict[str, Any]:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    return dict(specs["argument_specs"]["main"].get("options") or {})


def defaults(role: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8")) or {})


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_variable_is_specified_with_its_default(role: Path) -> None:
    specified = {name: option.get("default") for name, option in options(role).items()}
    assert specified == defaults(role)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_variable_carries_the_roles_name_and_is_described(role: Path) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert option["description"]
        for key, part in (option.get("options") or {}).items():
            assert part["description"], key


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_variable_is_used(role: Path) -> None:
    files = [
        path
        for part in ("tasks", "templates", "handlers", "vars")
        for path in (role / part).rglob("*")
        if path.is_file()
    ]
    used = set(re.findall(rf"{role.name}_\w+", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    assert not options(role).keys() - used


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_role_tells_who_it_is(role: Path) -> None:
    info = yaml.safe_load((role / "meta/main.yml").read_text(encoding="utf-8"))["galaxy_info"]
    assert (info["role_name"], info["namespace"]) == (role.name, "iotops")
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    assert info["description"] == specs["main"]["short_description"]


def test_the_readmes_say_what_the_specifications_say() -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "scripts/role-readmes", "--check"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
