# SPDX-License-Identifier: GPL-3.0-or-later
"""Power cuts by replay: record what a workload writes to a disk, then look at every disk that a cut could have left.

The disk is a FUSE file (`logging_disk`) below a loop device with ext4. A cut leaves all writes up to some moment, or,
since a disk may keep writes in its cache and reorder them until it is told to flush, what was there at the last flush
and any part of what came after. Each such disk is mounted (ext4 replays its journal) and looked at.

It takes root, /dev/fuse, loop devices and e2fsprogs.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos import logging_disk
from chaos.logging_disk import Record

SIZE = 24 * 1024 * 1024


def lacking() -> str | None:
    """What this machine lacks for it, or None."""
    if os.geteuid() != 0:
        return "root, to mount disks"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not Path(path).exists():
            return path
    for program in ("mkfs.ext4", "losetup", "mount", "fusermount3"):
        if shutil.which(program) is None and not Path("/usr/sbin", program).exists():
            return f"the program {program} (packages e2fsprogs, mount, fuse3)"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as exc:
        return f"mfusepy and libfuse ({exc})"
    return None


def _run(*words: str | Path) -> str:
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run([*words], capture_output=True, text=True, env=environment, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """`image` mounted at `folder`, by a loop device that goes away with it."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    for _ in range(20):
        try:
            _run("umount", folder)
        except OSError:
            time.sleep(0.1)
        else:
            return
    _run("umount", "-l", folder)


@dataclass(frozen=True)
class Recording:
    """A disk as it was at the beginning, and what it was told since."""

    before: Path
    log: list[Record]

    def position(self, at: int) -> int:
        """How many records the disk had been told at monotonic time `at` (ns)."""
        return sum(record.at <= at for record in self.log)


@dataclass(frozen=True)
class Cut:
    """One disk that a power cut could have left. `position`: records told by then; `dropped` of them were lost."""

    position: int
    dropped: int


# What of the writes since the last flush is on the disk after a cut.
Keep = Callable[[list[Record]], Iterable[Record]]


def everything(pending: list[Record]) -> Iterable[Record]:
    """A disk without a cache."""
    return pending


def nothing(pending: list[Record]) -> Iterable[Record]:
    """A disk that writes only when it is told to flush."""
    return ()


def pieces(chance: random.Random, size: int) -> Keep:
    """A disk that writes when and in what order it likes, so that a cut tears writes into pieces of `size` bytes.

    Of each piece there is, by chance, what was written last, or earlier, or before the last flush.
    """

    def keep(pending: list[Record]) -> Iterable[Record]:
        share = chance.random()
        for record in pending:
            assert record.data is not None
            for start in range(0, len(record.data), size):
                if chance.random() < share:
                    yield Record(record.at, record.offset + start, record.data[start : start + size])

    return keep


class RecordedDisk:
    """An ext4 disk at `mountpoint`, whose writes are recorded within `recorded`.

    With a flush that takes its time, as it does on a real disk, a cut at any moment finds writes that are not flushed.
    """

    def __init__(self, folder: Path, size: int = SIZE, flush_seconds: float = 0.0) -> None:
        self._folder = folder
        self._image, self._before = folder / "image", folder / "before"
        self._log, self._fuse = folder / "log", folder / "fuse"
        self._flush_seconds = flush_seconds
        self._server: subprocess.Popen[bytes] | None = None
        self.mountpoint = folder / "mnt"
        folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as out:
            out.truncate(size)
        # no lazy initialisation: the kernel's own thread would write whenever it likes
        _run("mkfs.ext4", "-q", "-O", "^metadata_csum_seed", "-E", "lazy_itable_init=0,lazy_journal_init=0",
             "-J", "size=4", self._image)  # fmt: skip

    @contextmanager
    def prepared(self) -> Iterator[Path]:
        """Mounted without recording, to put on it what was there before."""
        with mounted(self._image, self.mountpoint):
            yield self.mountpoint

    @contextmanager
    def recorded(self) -> Iterator[Path]:
        """Mounted with recording; ends as by pulling the plug."""
        _copy_sparse(self._image, self._before)
        self._fuse.mkdir(exist_ok=True)
        self.mountpoint.mkdir(exist_ok=True)
        script = Path(__file__).with_name("logging_disk.py")
        words = [self._image, self._log, self._fuse, str(self._flush_seconds)]
        disk = self._server = subprocess.Popen([sys.executable, script, *words])
        try:
            self._await_disk(disk)
            loop = _run("losetup", "--find", "--show", self._fuse / logging_disk.NAME)
            try:
                _run("mount", loop, self.mountpoint)
                try:
                    yield self.mountpoint
                finally:
                    _unmount(self.mountpoint)
            finally:
                _run("losetup", "--detach", loop)
        finally:
            with suppress(OSError):
                _run("fusermount3", "-u", self._fuse)
            try:
                disk.wait(10)
            except subprocess.TimeoutExpired:
                disk.kill()
                disk.wait()

    @contextmanager
    def off(self) -> Iterator[int]:
        """The power goes, at the moment that it yields (monotonic, ns): in here the disk takes and answers nothing.

        Who waits for the disk, waits until this is over; what he writes then is recorded too, after the cut.
        """
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self._server.pid, os.WSTOPPED)
            yield time.monotonic_ns()
        finally:
            self._server.send_signal(signal.SIGCONT)

    def after(self, position: int, keep: Keep) -> int:
        """Make it the disk that `leave` makes of the last recording, to be mounted and recorded again."""
        return leave(self.recording(), position, keep, self._image)

    def _await_disk(self, disk: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 10
        while not (self._fuse / logging_disk.NAME).exists():
            if disk.poll() is not None or time.monotonic() > deadline:
                raise OSError("the recording disk did not come up")
            time.sleep(0.02)

    def recording(self) -> Recording:
        return Recording(self._before, list(logging_disk.read(self._log)))


def leave(recording: Recording, position: int, keep: Keep, image: Path) -> int:
    """Write to `image` the disk that a cut after `position` records leaves; the answer is how many bytes it lost."""
    flush = max((i for i in range(position) if recording.log[i].data is None), default=0)
    pending = [record for record in recording.log[flush:position] if record.data is not None]
    kept = list(keep(pending))
    _copy_sparse(recording.before, image)
    with image.open("r+b", buffering=0) as cut:
        for record in [*recording.log[:flush], *kept]:
            _apply(cut.fileno(), record)
    return _size(pending) - _size(kept)


def cuts(recording: Recording, wanted: list[int], chance: random.Random, folder: Path) -> Iterator[tuple[Cut, Path]]:
    """The disks of cuts at the positions `wanted`, each as a file that may be written to until the next one.

    Every other cut keeps all writes; the others keep what the last flush made sure of and a random half of the rest.
    """
    base, image = folder / "base", folder / "cut"
    shutil.copyfile(recording.before, base)
    done = flushed = 0
    with base.open("r+b", buffering=0) as sure:
        for number, position in enumerate(sorted(wanted)):
            flush = max((i for i in range(flushed, position) if recording.log[i].data is None), default=flushed)
            for record in recording.log[done:flush]:
                _apply(sure.fileno(), record)
            done = flushed = max(done, flush)
            _copy_sparse(base, image)
            pending = [record for record in recording.log[done:position] if record.data is not None]
            kept = pending if number % 2 == 0 else [record for record in pending if chance.random() < 0.5]
            with image.open("r+b", buffering=0) as cut:
                for record in kept:
                    _apply(cut.fileno(), record)
            yield Cut(position, len(pending) - len(kept)), image


def _size(records: Iterable[Record]) -> int:
    return sum(len(record.data or b"") for record in records)


def _apply(descriptor: int, record: Record) -> None:
    if record.data is not None:
        os.pwrite(descriptor, record.data, record.offset)


def _copy_sparse(source: Path, target: Path) -> None:
    _run("cp", "--sparse=always", source, target)
