# SPDX-License-Identifier: GPL-3.0-or-later
"""A full disk at every write: the release that runs stays whole, and there is room again at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chaos.device import Plan, live
from fridge_agent import install

if TYPE_CHECKING:
    from conftest import Kitchens


@pytest.mark.timeout(1800)
def test_full_once_at_every_step(kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]) -> None:
    steps = live(kitchens.another(), Plan(("2",), tmp_path / "whole-life")).steps
    ends: Counter[str | None] = Counter()
    for step in range(0, steps, 1 if full else 13):
        config, acknowledged = kitchens.another(), tmp_path / f"acknowledged-{step}"
        # an agent that cannot write its own state ends, and its service manager starts it again
        live(config, Plan(("2",), acknowledged, full_at=step))
        assert kitchens.factory.version_on(config) in ("1", "2")
        kitchens.ends_well(config, "2", acknowledged)
        ends[json.loads(acknowledged.read_text().splitlines()[-1])["state"]] += 1
    tell(f"disk full at a step: {ends.total()} of {steps} steps, ended {dict(ends)} on a whole release")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system of its own takes root to mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.timeout(600)
def test_a_disk_with_any_room_left(
    kitchens: Kitchens, small_disk: Path, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Not an error thrown in, but a file system that is really full, with more and more room left."""
    ends: Counter[str] = Counter()
    for room in range(0, 400_000, 4096 if full else 4096 * 16):
        base = small_disk / "kitchen"
        shutil.rmtree(base, ignore_errors=True)
        (small_disk / "ballast").unlink(missing_ok=True)
        shutil.copytree(kitchens.another().paths.base.parent, base, symlinks=True)
        free = shutil.disk_usage(small_disk).free
        (small_disk / "ballast").write_bytes(b"b" * (free - room))
        config, acknowledged = kitchens.config(base), tmp_path / f"acknowledged-{room}"
        life = live(config, Plan(("2",), acknowledged))
        found = kitchens.factory.version_on(config)
        told = json.loads(acknowledged.read_text().splitlines()[-1]) if acknowledged.exists() else None
        state = told["state"] if told else f"agent ended with {life.status}"
        assert (found == "2") == (state == "succeeded"), (found, state)
        if told and state == "failed":
            assert told["error"]["code"] == "storage_full"
            assert told["attempts"] <= 4
            assert not list(config.paths.layers.glob(f"{install.UNFINISHED}*")), "what was begun is still in the way"
        ends["succeeded" if state == "succeeded" else "stayed on 1"] += 1
        (small_disk / "ballast").unlink()
        kitchens.ends_well(config, "2", acknowledged)
    assert set(ends) == {"succeeded", "stayed on 1"}
    tell(f"disk really full, {ends.total()} amounts of room: {dict(ends)}; all arrived once there was room")
