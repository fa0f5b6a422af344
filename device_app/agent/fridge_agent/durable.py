# SPDX-License-Identifier: Apache-2.0
"""Writes that survive a power cut: to a temporary name, flushed, then renamed, then the folder flushed."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON of `value`; after a crash it holds the old or the new text, never a part."""
    write_bytes(path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def read_json(path: Path) -> Any | None:
    """The value stored at `path`, or None where there is none or it is damaged (kept aside as .bad)."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        path.replace(path.with_name(path.name + ".bad"))
        return None


def point(link: Path, target: Path) -> None:
    """Make the symlink `link` name `target` (relative to the link's folder), atomically and durably."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
    sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries (renames, new names)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(folder: Path) -> None:
    """Flush the whole file system that holds `folder`: syncfs(2), one call for thousands of files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
