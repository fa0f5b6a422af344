# SPDX-License-Identifier: Apache-2.0
"""The plug pulled at random moments: what was acknowledged is on the disk, not only in a cache.

The hub's data directory lies on ext4, on a disk in user space that records each write and each flush (tests/chaos,
where the same is done to a device). A cut stops that disk, and then shoots the hub, which goes on for a moment without
it. What the disk holds after that is made of its recording, in one of three ways:

- torn: all until the last flush, and of what came after it pieces of 512 or 4096 bytes, by chance;
- lost: all until the last flush, and nothing else;
- kept: everything.

ext4 replays its journal, and the hub lives on with what is there, until the next cut.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from chaos import powercut
from local_hub.certificates import Certificates
from local_hub.hub.files import Files
from local_hub.settings import Addresses, DataDirectory

from local_hub import cli
from local_hub.tests.chaos.hub_process import HubProcess
from local_hub.tests.chaos.ledger import Ledger
from local_hub.tests.chaos.load import Load

pytestmark = [
    pytest.mark.skipif(powercut.lacking() is not None, reason=f"this machine lacks {powercut.lacking()}"),
    pytest.mark.timeout(3600),
]

SIZE = 512 * 1024 * 1024  # a file with holes: it takes what is written
FLUSH_SECONDS = 0.008
KINDS = ("torn", "lost", "kept")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[powercut.RecordedDisk]:
    yield powercut.RecordedDisk(tmp_path / "disk", SIZE, FLUSH_SECONDS)
    shutil.rmtree(tmp_path / "disk")


def survivors(kind: str, chance: random.Random) -> powercut.Keep:
    match kind:
        case "torn":
            return powercut.pieces(chance, chance.choice((512, 4096)))
        case "lost":
            return powercut.nothing
        case _:
            return powercut.everything


class Machine:
    """A hub and its disk, and the plug of both."""

    def __init__(self, disk: powercut.RecordedDisk, seed: int, chance: random.Random, log: Path) -> None:
        self._disk = disk
        self._chance = chance
        self._moment = 0
        self.flushes = 0
        self.lost = 0
        with disk.prepared() as mount:
            self.hub = HubProcess(mount / "hub", seed, log)

    @contextmanager
    def power(self) -> Iterator[None]:
        """In here the disk is there, and the hub can be started."""
        with self._disk.recorded():
            try:
                yield
            finally:
                if self.hub.runs:
                    self.hub.kill()

    async def cut(self) -> None:
        """Pull the plug."""
        with self._disk.off() as self._moment:
            # without a disk the hub can acknowledge nothing any more; this is the time in which a liar would
            await asyncio.sleep(0.05 * self._chance.random())
            self.hub.shoot()
        self.hub.fall()

    def lose(self, kind: str) -> None:
        """With the power off: what the disk did not get onto its platters is gone."""
        recording = self._disk.recording()
        position = recording.position(self._moment)
        self.flushes += sum(record.data is None for record in recording.log[:position])
        self.lost += self._disk.after(position, survivors(kind, self._chance))


async def test_nothing_acknowledged_is_lost(
    disk: powercut.RecordedDisk, rounds: int, seed: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    tell(f"power cuts, seed {seed}")
    chance, ledger = random.Random(seed), Ledger()
    machine = Machine(disk, seed, chance, tmp_path / "hub.log")
    hub = machine.hub
    load = Load(hub, ledger, chance)
    early, cuts = 0, Counter[str]()

    async def the_cut() -> None:
        await asyncio.sleep(0.1 + 2.0 * chance.random())
        await machine.cut()

    for number, kind in zip(range(1, rounds + 1), itertools.cycle(KINDS)):
        with machine.power():
            hub.start()
            if number > 1 and chance.random() < 0.2:  # while it starts
                early += 1
                await asyncio.sleep(1.5 * chance.random())
                await machine.cut()
            else:
                await hub.answers()
                await (load.look() if number > 1 else load.prepare())
                assert not ledger.complaints, f"seed {seed}, cut {number - 1}: " + "; ".join(ledger.complaints[:20])
                await load.under_load(the_cut)
        machine.lose(kind)
        cuts[kind] += 1
    with machine.power():
        hub.start()
        await hub.answers()
        await load.look()
        assert not ledger.complaints, f"seed {seed}, cut {rounds}: " + "; ".join(ledger.complaints[:20])
        await load.finish()
        hub.close()
    for name, count in sorted(ledger.counts.items()):
        tell(f"{name}: {count}")
    tell(
        f"power cuts: {dict(cuts)} ({early} of them during a start), {machine.flushes} flushes before them, "
        f"{machine.lost} unflushed bytes gone; lost: {len(ledger.complaints)}"
    )
    assert not ledger.complaints, f"seed {seed}: " + "; ".join(ledger.complaints[:20])
    assert "Traceback" not in hub.log.read_text()


def test_what_a_command_was_told_is_kept(
    disk: powercut.RecordedDisk, rounds: int, seed: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Nothing else writes to this disk, so that no sync of the hub's database helps."""
    authority = tmp_path / "authority"
    authority.mkdir()
    Certificates(authority).ensure(frozenset({"localhost"}), datetime.now(UTC))
    data = disk.mountpoint / "hub"

    def known() -> tuple[dict[str, str], bytes, tuple[bytes, ...]]:
        """What a hub that starts now would work with."""
        directory = DataDirectory(data)
        environment = directory.environment(directory.prepare(Addresses()))
        directory.certificates.server_context()  # raises if the certificate and its key are no pair
        return environment, directory.certificates.ca.read_bytes(), directory.certificates.device_authorities()

    commands = [
        ("env",),
        ("env", "--https-port", "9443"),
        ("env", "--hostname", "hub.example"),
        ("trust", str(authority / "ca.pem")),
        ("trust", "--remove", str(authority / "ca.pem")),
    ]
    ends, states = [], []
    with disk.recorded():
        begin = time.monotonic_ns()
        for command in commands:
            with redirect_stdout(io.StringIO()):
                assert cli.main([command[0], "--data", str(data), *command[1:]]) == 0
            ends.append(time.monotonic_ns())
            states.append(known())
    recording, chance = disk.recording(), random.Random(seed)
    positions = [recording.position(end) for end in ends]
    for command, position, state in zip(commands, positions, states, strict=True):
        powercut.leave(recording, position, powercut.nothing, tmp_path / "cut")
        with powercut.mounted(tmp_path / "cut", disk.mountpoint):
            assert known() == state, f"cut as soon as this had ended: {command}"
    anywhere = 8 * rounds
    for _ in range(anywhere):
        position, kind = chance.randrange(recording.position(begin), positions[-1] + 1), chance.choice(KINDS)
        powercut.leave(recording, position, survivors(kind, chance), tmp_path / "cut")
        ended = sum(each <= position for each in positions)
        with powercut.mounted(tmp_path / "cut", disk.mountpoint):
            found = known()
            assert ended == 0 or found in states[ended - 1 : ended + 1], f"seed {seed}: {kind} at {position}"
    tell(f"power cuts of env and trust: {len(commands)} at the end of a command, {anywhere} anywhere; lost: 0")


async def test_a_blob_is_kept(disk: powercut.RecordedDisk, tmp_path: Path) -> None:
    """The cut comes as soon as the hub would answer 201, and nothing else writes to the disk."""

    def files(mount: Path) -> Files:
        return Files(mount / "blobs", b"key", cast(Any, None), time.time)

    async def body(data: bytes) -> AsyncIterator[bytes]:
        yield data

    ends: list[tuple[str, int, bytes]] = []
    with disk.recorded() as mount:
        hub = files(mount)
        for name, data in (("d/whole", b"1" * 9000), ("d/whole", b"2" * 9000)):
            await hub.put(name, body(data))
            ends.append((name, time.monotonic_ns(), data))
        for block in ("a", "b"):
            await hub.put_block("d/blocks", block, body(block.encode() * 5000))
        await hub.commit("d/blocks", ["a", "b"])
        ends.append(("d/blocks", time.monotonic_ns(), b"a" * 5000 + b"b" * 5000))
    recording = disk.recording()
    for name, end, data in ends:
        powercut.leave(recording, recording.position(end), powercut.nothing, tmp_path / "cut")
        with powercut.mounted(tmp_path / "cut", disk.mountpoint) as mount:
            path = files(mount).find(name)
            assert path is not None, f"{name} is lost"
            assert path.read_bytes() == data


def test_the_laboratory_catches_a_database_that_does_not_sync(disk: powercut.RecordedDisk, tmp_path: Path) -> None:
    """Did OFF lose nothing here, the tests above would prove nothing."""
    acknowledged: dict[str, list[int]] = {"FULL": [], "OFF": []}
    with disk.prepared() as mount:
        for mode in acknowledged:
            with closing(sqlite3.connect(mount / mode)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("CREATE TABLE events (body BLOB)")
    with disk.recorded() as mount:
        for mode, moments in acknowledged.items():
            with closing(sqlite3.connect(mount / mode, isolation_level=None)) as database:
                database.execute(f"PRAGMA synchronous={mode}")
                for _ in range(40):
                    database.execute("INSERT INTO events VALUES (randomblob(3000))")
                    moments.append(time.monotonic_ns())
    recording, chance, lost = disk.recording(), random.Random(1), Counter[str]()
    for (mode, moments), number in itertools.product(acknowledged.items(), (3, 17, 30, 39)):
        keep = powercut.pieces(chance, 512)
        powercut.leave(recording, recording.position(moments[number]), keep, tmp_path / "cut")
        with powercut.mounted(tmp_path / "cut", disk.mountpoint) as mount, closing(sqlite3.connect(mount / mode)) as db:
            ((found,),) = db.execute("SELECT count(*) FROM events").fetchall()
        lost[mode] += max(0, number + 1 - found)
    assert lost["FULL"] == 0
    assert lost["OFF"] > 0
