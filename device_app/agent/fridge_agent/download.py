# SPDX-License-Identifier: Apache-2.0
"""Fetches a content-addressed object: resumed where it broke off, bounded in length, believed only by its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .errors import NotTrusted, ServerUnreachable, StorageFull
from .transport import Transport

RESERVE = 32 * 1024 * 1024
"""Bytes that stay free on the device, whatever a release asks for."""
_FLUSH_EVERY = 4 * 1024 * 1024


class Remote(Protocol):
    """What a signed document says of an object on the server: `path` below `targets/`, bytes, SHA-256 in hex."""

    @property
    def path(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def fetch(
    transport: Transport, remote: Remote, folder: Path, progress: Callable[[int], None] = lambda _done: None
) -> Path:
    """Bring `remote` into `folder` and return its verified file.

    A part left by an earlier try is continued. `progress` gets the bytes on disk so far.

    Raises:
        NotTrusted: length or hash is not what the signed document says; the part is thrown away.
        ServerUnreachable: the line broke; the part is kept for the next try.
        FileMissing, Cancelled: as `Transport.read` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / remote.sha256
    if done.exists() and sha256_file(done) == remote.sha256:
        return done
    part = folder / f"{remote.sha256}.part"
    resumed = _append(transport, remote, part, progress)
    size = part.stat().st_size
    if size < remote.length:
        raise ServerUnreachable(f"{remote.path} ended after {size} of {remote.length} bytes")
    if sha256_file(part) != remote.sha256:
        part.unlink()
        if resumed:
            # the part may have been spoilt by a power cut: that is nobody's lie yet
            raise ServerUnreachable(f"{remote.path}: what an earlier try left was damaged; it is fetched anew")
        raise NotTrusted(f"{remote.path}: its bytes are not those that were signed")
    part.replace(done)
    return done


def _append(transport: Transport, remote: Remote, part: Path, progress: Callable[[int], None]) -> bool:
    """Append to `part` what is missing; whether it had begun before."""
    with part.open("ab") as out:
        begun = size = out.tell()
        if size >= remote.length:
            return bool(begun)
        flushed = size
        for chunk in transport.read(f"targets/{remote.path}", offset=size):
            size += len(chunk)
            if size > remote.length:
                out.close()
                part.unlink()
                raise NotTrusted(f"{remote.path} is longer than the {remote.length} bytes that were signed")
            out.write(chunk)
            if size - flushed >= _FLUSH_EVERY:
                # what a power cut may take back, and what the page cache may hold
                _flush(out.fileno(), out.flush)
                flushed = size
            progress(size)
        _flush(out.fileno(), out.flush)
    return bool(begun)


def _flush(descriptor: int, buffered: Callable[[], None]) -> None:
    buffered()
    os.fsync(descriptor)


def check_space(folder: Path, needed: int) -> None:
    """Raise StorageFull unless `needed` bytes and the reserve are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise StorageFull(
            f"the release needs {needed // 2**20} MiB and {RESERVE // 2**20} MiB must stay free, "
            f"{free // 2**20} MiB are free on {folder}"
        )


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
