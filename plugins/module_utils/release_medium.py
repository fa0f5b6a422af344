# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The medium that a device gets its first release from: one tar with the manifest and just the objects it needs."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from .layer_archive import LayerError, object_path, read_index

MANIFEST = "manifest.json"


def contents(manifest: Path, objects: Path, platform: str) -> dict[str, Path]:
    """What belongs on the medium of a device of `platform`: names on it, and the files here.

    Raises:
        LayerError: no manifest, nothing in it for the platform, or an object that is not there.
    """
    try:
        layers = json.loads(manifest.read_bytes())["layers"]
        chosen = [layer for layer in layers if layer["platform"] in ("any", platform)]
        there = {layer["platform"] for layer in layers}
    except OSError as exc:
        raise LayerError(f"{manifest}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise LayerError(f"{manifest} is no manifest of a release: {exc!r}") from exc
    if platform not in there:
        raise LayerError(f"{manifest} has no layer for {platform}, only for {', '.join(sorted(there))}")
    names = [layer["path"] for layer in chosen]
    for layer in chosen:
        if layer.get("format") == "files":
            names += [object_path(entry["object"]["sha256"]) for entry in _index(objects / layer["path"])]
    found = {name: objects / name for name in names}
    missing = [name for name, path in found.items() if not path.is_file()]
    if missing:
        raise LayerError(f"{objects} lacks {missing[0]}, and {len(missing) - 1} more of what {manifest} names")
    return {MANIFEST: manifest, **found}


def make(files: dict[str, Path], dest: Path, *, check: bool) -> bool:
    """Bring the tar at `dest` up to date; whether it was not. The same files give the same bytes."""
    if check:
        wanted = _digest(files)
        return not dest.is_file() or _sha256(dest) != wanted
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=dest.parent, prefix=".medium-", delete=False) as out:
        try:
            _write(files, out)
            out.flush()
            os.fsync(out.fileno())
            changed = not dest.is_file() or _sha256(dest) != _sha256(Path(out.name))
            if changed:
                os.chmod(out.name, 0o644)
                os.replace(out.name, dest)
        finally:
            if os.path.exists(out.name):
                os.unlink(out.name)
    return changed


def _index(path: Path) -> list[dict[str, dict[str, str]]]:
    if not path.is_file():
        return []  # told as missing, with everything else that is
    return read_index(path)


def _write(files: dict[str, Path], out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = files[name].stat().st_size, 0o644
            with files[name].open("rb") as source:
                tar.addfile(entry, source)


def _digest(files: dict[str, Path]) -> str:
    with tempfile.TemporaryFile() as out:
        _write(files, out)
        out.seek(0)
        return hashlib.file_digest(out, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
