# SPDX-License-Identifier: GPL-3.0-or-later
"""The plug pulled at any moment: the disk that is left holds the old or the new release, whole, and what was
acknowledged is there."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chaos import powercut
from chaos.device import Plan, live
from fridge_agent import durable, install

if TYPE_CHECKING:
    from conftest import Kitchens

pytestmark = [
    pytest.mark.skipif(powercut.lacking() is not None, reason=f"this machine lacks {powercut.lacking()}"),
    pytest.mark.timeout(3600),
]


def positions(total: int, switched: int, count: int, chance: random.Random) -> list[int]:
    """Where to cut: two thirds anywhere before the switch, a third after it."""
    before = [chance.randrange(switched) for _ in range(count * 2 // 3)]
    return before + [chance.randrange(switched, total + 1) for _ in range(count - len(before))]


def test_the_laboratory_catches_a_writer_without_flushes(tmp_path: Path) -> None:
    """Were nothing ever torn here, the tests below would prove nothing."""

    def switch(mount: Path, n: int) -> None:
        """What an installer without fsync does: a new file, and a link to it."""
        (mount / f"naive-{n}").write_text(json.dumps({"n": n, "pad": "x" * 9000}))
        (mount / "naive.new").symlink_to(f"naive-{n}")
        (mount / "naive.new").replace(mount / "naive")

    disk = powercut.RecordedDisk(tmp_path)
    with disk.prepared() as mount:
        switch(mount, 0)
        durable.write_json(mount / "durable", {"n": 0, "pad": "x" * 9000})
    with disk.recorded() as mount:
        for n in range(1, 25):
            switch(mount, n)
            durable.write_json(mount / "durable", {"n": n, "pad": "x" * 9000})
    recording = disk.recording()
    torn: Counter[str] = Counter()
    chance = random.Random(1)
    wanted = [chance.randrange(len(recording.log) + 1) for _ in range(40)]
    for _, image in powercut.cuts(recording, wanted, chance, tmp_path):
        with powercut.mounted(image, tmp_path / "look") as mount:
            for name in ("naive", "durable"):
                try:
                    json.loads((mount / name).read_text())
                except ValueError:
                    torn[name] += 1
    assert torn["naive"] > 0
    assert torn["durable"] == 0


def test_the_plug_pulled_during_updates(
    kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Release 2 over 1, then 3, which dies and is rolled back, then 4."""
    disk = powercut.RecordedDisk(tmp_path / "lab")
    pattern = kitchens.another().paths.base.parent
    with disk.prepared() as mount:
        shutil.copytree(pattern, mount / "kitchen", symlinks=True)
    acknowledged = tmp_path / "heard"
    with disk.recorded() as mount:
        # the recording disk lives in user space, and is slow on a busy machine
        life = live(kitchens.config(mount / "kitchen"), Plan(("2", "3", "4"), acknowledged, patience=60.0))
        assert life.status == 0
    ends = [json.loads(line) for line in acknowledged.read_text().splitlines()]
    assert [(end["version"], end["state"]) for end in ends] == [
        ("2", "succeeded"), ("3", "rolled_back"), ("4", "succeeded"),
    ]  # fmt: skip
    recording = disk.recording()
    sure = [(recording.position(int(end["at"] * 1e9)), end["version"]) for end in ends if end["state"] == "succeeded"]
    first_switch = recording.position(int(acknowledged.with_suffix(".switched").read_text().split()[0]))
    chance = random.Random(7)
    wanted = positions(len(recording.log), first_switch, 600 if full else 24, chance)
    found: Counter[str | None] = Counter()
    dropped = went_on = 0
    for number, (cut, image) in enumerate(powercut.cuts(recording, wanted, chance, tmp_path)):
        with powercut.mounted(image, tmp_path / "look") as mount:
            config = kitchens.config(mount / "kitchen")
            version = kitchens.factory.version_on(config)
            promised = [release for position, release in sure if position <= cut.position]
            allowed = {None: {"1", "2"}, "2": {"2", "3", "4"}, "4": {"4"}}[promised[-1] if promised else None]
            assert version in allowed, f"cut after {cut.position} records: {version}, and {promised} was acknowledged"
            found[version] += 1
            dropped += cut.dropped
            if number % (5 if full else 8) == 0:
                # the power is back: it goes on to the end
                went_on += 1
                end = live(config, Plan(("4",), tmp_path / f"after-{number}"))
                assert end.status == 0
                assert kitchens.factory.version_on(config) == "4"
    after = sum(position > first_switch for position in wanted)
    flushes = sum(record.data is None for record in recording.log)
    tell(
        f"power cut: {len(wanted)} crash points ({after} after the first switch) over {len(recording.log)} disk "
        f"operations with {flushes} flushes, {dropped} writes dropped; found {dict(found)}, all whole; {went_on} "
        "went on to the end"
    )


def test_the_plug_pulled_again_and_again(
    kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Cut, go on from what was left, cut again: damage must not add up."""
    chance = random.Random(11)
    rounds = 30 if full else 3
    state = tmp_path / "state"
    shutil.copytree(kitchens.another().paths.base.parent, state, symlinks=True)
    goal = "2"
    for number in range(rounds):
        lab = tmp_path / f"lab{number}"
        disk = powercut.RecordedDisk(lab)
        with disk.prepared() as mount:
            shutil.copytree(state, mount / "kitchen", symlinks=True)
        with disk.recorded() as mount:
            live(kitchens.config(mount / "kitchen"), Plan((goal,), lab / "acknowledged"))
        recording = disk.recording()
        wanted = [chance.randrange(len(recording.log) // 3, len(recording.log) + 1) for _ in range(2)]
        for _, image in powercut.cuts(recording, wanted, chance, lab):
            with powercut.mounted(image, lab / "look") as mount:
                config = kitchens.config(mount / "kitchen")
                assert kitchens.factory.version_on(config) in ("1", "2", "4")
                shutil.rmtree(state)
                shutil.copytree(mount / "kitchen", state, symlinks=True, ignore=_sockets)
        if kitchens.factory.version_on(kitchens.config(state)) == goal:
            goal = "4"
        shutil.rmtree(lab)
    kitchens.ends_well(kitchens.config(state), "4", tmp_path / "heard")
    unfinished = list(kitchens.config(state).paths.layers.glob(f"{install.UNFINISHED}*"))
    assert not unfinished
    tell(f"power cut: {rounds} cuts in a row on one device, which then arrived")


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_socket() or not os.access(Path(folder, name), os.R_OK)]
