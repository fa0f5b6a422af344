# SPDX-License-Identifier: Apache-2.0
"""Fetches a layer's object: resumed where it broke off, bounded in length, believed only by its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .errors import NotTrusted, ServerUnreachable, StorageFull
from .manifest import Layer
from .transport import Transport

RESERVE = 32 * 1024 * 1024
"""Bytes that stay free on the device, whatever a release asks for."""


def fetch_layer(
    transport: Transport, layer: Layer, folder: Path, progress: Callable[[int], None] = lambda _done: None
) -> Path:
    """Bring `layer` into `folder` and return its verified file.

    A part left by an earlier try is continued. `progress` gets the bytes on disk so far.

    Raises:
        NotTrusted: length or hash is not what the signed manifest says; the part is thrown away.
        ServerUnreachable: the line broke; the part is kept for the next try.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / layer.sha256
    if done.exists() and _sha256(done) == layer.sha256:
        return done
    part = folder / f"{layer.sha256}.part"
    _append(transport, layer, part, progress)
    if part.stat().st_size < layer.length:
        raise ServerUnreachable(f"{layer.path} ended after {part.stat().st_size} of {layer.length} bytes")
    if _sha256(part) != layer.sha256:
        part.unlink()
        raise NotTrusted(f"{layer.path}: its bytes are not those that were signed")
    part.replace(done)
    return done


def _append(transport: Transport, layer: Layer, part: Path, progress: Callable[[int], None]) -> None:
    with part.open("ab") as out:
        size = out.tell()
        if size >= layer.length:
            return
        for chunk in transport.read(f"targets/{layer.path}", offset=size):
            size += len(chunk)
            if size > layer.length:
                out.close()
                part.unlink()
                raise NotTrusted(f"{layer.path} is longer than the {layer.length} bytes that were signed")
            out.write(chunk)
            progress(size)
        out.flush()
        os.fsync(out.fileno())


def check_space(folder: Path, needed: int) -> None:
    """Raise StorageFull unless `needed` bytes and the reserve are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE:
        raise StorageFull(
            f"the release needs {needed // 2**20} MiB and {RESERVE // 2**20} MiB must stay free, "
            f"{free // 2**20} MiB are free on {folder}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
