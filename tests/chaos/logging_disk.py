# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that remembers: one file in a FUSE mount, whose every write and flush is logged, to be replayed in part.

logging_disk.py IMAGE LOG MOUNTPOINT SECONDS: serves IMAGE as MOUNTPOINT/disk until unmounted, and takes SECONDS for a
flush. The log is a sequence of records: 8 bytes monotonic time (ns), 1 byte kind (w or f), 8 bytes offset, 8 bytes
length, then the bytes written.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

RECORD = struct.Struct("<QcQQ")
NAME = "disk"


@dataclass(frozen=True)
class Record:
    """One thing that the disk was told. `at`: monotonic ns; `data` is None for a flush."""

    at: int
    offset: int
    data: bytes | None


def read(log: Path) -> Iterator[Record]:
    """The records of a log, in order."""
    with log.open("rb") as source:
        while header := source.read(RECORD.size):
            at, kind, offset, length = RECORD.unpack(header)
            yield Record(at, offset, source.read(length) if kind == b"w" else None)


def serve(image: Path, log: Path, mountpoint: Path, flush_seconds: float) -> None:
    """Serve until unmounted."""
    import mfusepy

    class Disk(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self._image = image.open("r+b", buffering=0)
            self._log: BinaryIO = log.open("wb")
            self._size = image.stat().st_size

        def _note(self, kind: bytes, offset: int, data: bytes) -> None:
            self._log.write(RECORD.pack(time.monotonic_ns(), kind, offset, len(data)) + data)
            self._log.flush()

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path != f"/{NAME}":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", NAME]

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(self._image.fileno(), size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._note(b"w", offset, data)
            return os.pwrite(self._image.fileno(), data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            time.sleep(flush_seconds)
            self._note(b"f", 0, b"")
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0  # a close, not a flush of the disk's cache

    # without direct_io the kernel would keep writes back, and the disk would not see their order
    mfusepy.FUSE(Disk(), str(mountpoint), foreground=True, nothreads=True, direct_io=True)


if __name__ == "__main__":
    serve(*(Path(word) for word in sys.argv[1:4]), float(sys.argv[4]))
