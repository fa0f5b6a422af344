# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every step of an update, and at random times: old or new, whole, and on its way at the next start."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chaos.device import Plan, live

if TYPE_CHECKING:
    from conftest import Kitchens


def states(acknowledged: Path) -> list[str]:
    """What a hub would have heard, in order."""
    if not acknowledged.exists():
        return []
    return [json.loads(line)["state"] for line in acknowledged.read_text().splitlines()]


@pytest.mark.timeout(1800)
def test_killed_at_every_step(kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]) -> None:
    steps = live(kitchens.another(), Plan(("2",), tmp_path / "whole-life")).steps
    assert steps > 60
    seen: Counter[str | None] = Counter()
    for step in range(0, steps, 1 if full else 9):
        config, acknowledged = kitchens.another(), tmp_path / f"acknowledged-{step}"
        life = live(config, Plan(("2",), acknowledged, kill_at=step))
        found = kitchens.factory.version_on(config)
        assert found in ("1", "2"), f"killed at step {step}"
        if states(acknowledged) == ["succeeded"]:
            assert found == "2", "an acknowledged install was lost"
        seen[found] += life.status == -9
        kitchens.ends_well(config, "2", acknowledged)
        assert states(acknowledged)[-1] == "succeeded", states(acknowledged)
    tell(f"kill -9 at a step: {seen.total()} of {steps} steps, {dict(seen)} were running then, all ended on 2")


@pytest.mark.timeout(1800)
def test_killed_at_random_times_again_and_again(
    kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    chance = random.Random(3)
    killed = lives = 0
    ends: Counter[str] = Counter()
    config, acknowledged = kitchens.another(), tmp_path / "acknowledged"
    goal = "2"
    while killed < (400 if full else 15):
        lives += 1
        life = live(config, Plan((goal,), acknowledged, kill_after=chance.uniform(0.01, 0.35)))
        killed += life.status == -9
        assert kitchens.factory.version_on(config) in ("1", "2", "4")
        if lives % 5 == 0:
            # let it end, and begin again; one that was killed too often on trial has gone back, as it must
            kitchens.ends(config, goal, acknowledged)
            ends[states(acknowledged)[-1]] += 1
            arrived = kitchens.factory.version_on(config) == goal
            assert arrived == (states(acknowledged)[-1] == "succeeded")
            config, goal = (config, "4") if goal == "2" else (kitchens.another(), "2")
    assert set(ends) <= {"succeeded", "rolled_back"}
    tell(f"kill -9 at a random time: {killed} kills in {lives} lives, always whole; updates ended {dict(ends)}")


def test_a_bad_release_killed_at_every_step_ends_on_the_good_one(
    kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    steps = live(kitchens.another(), Plan(("3",), tmp_path / "whole-life")).steps
    killed = 0
    for step in range(0, steps, 1 if full else 23):
        config, acknowledged = kitchens.another(), tmp_path / f"acknowledged-{step}"
        killed += live(config, Plan(("3",), acknowledged, kill_at=step)).status == -9
        assert kitchens.factory.version_on(config) in ("1", "3")
        life = live(config, Plan(("3",), acknowledged))
        assert life.status == 0
        assert (kitchens.factory.version_on(config), states(acknowledged)[-1]) == ("1", "rolled_back")
    tell(f"kill -9 at a step of a bad release's update: {killed} of {steps} steps, all rolled back to 1")
