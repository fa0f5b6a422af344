# SPDX-License-Identifier: Apache-2.0
"""The README's table names tests: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import fridge

TESTS = Path(__file__).parents[1]


def test_each_test_that_the_readme_names_exists() -> None:
    readme = (Path(fridge.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    there = set()
    for path in TESTS.rglob("*.py"):
        there |= set(re.findall(r"def (\w+)\(", path.read_text(encoding="utf-8")))
    named = re.findall(r"`(?:(?:ui|fridge): )?(?:AnyKitchen\.)?((?:test|the)_\w+)(\.\.\.)?`", readme)
    assert len(named) > 25
    for name, more in named:
        assert name in there or (more and any(each.startswith(name) for each in there)), f"README names {name}"


def test_every_variable_that_the_app_reads_is_in_the_readme() -> None:
    package = Path(fridge.__file__).parent
    readme = (package.parent / "README.md").read_text(encoding="utf-8")
    read = set()
    for path in package.rglob("*.py"):
        read |= set(re.findall(r'"(FRIDGE_[A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
    assert len(read) > 12
    assert {name for name in read - {"FRIDGE_PANEL_FD"} if f"`{name}`" not in readme} == set()
