# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository's current metadata names, down to the last object: what must stay, and what must be fetched."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .layer_archive import LayerError, object_path, read_index


class Unreadable(Exception):
    """A document that names files cannot be read, so nobody knows what is live."""


def live_names(repository: str) -> set[str]:
    """Every file of `repository` that its current timestamp leads to, and all root metadata.

    Raises:
        Unreadable: metadata, a manifest or an index is missing or damaged.
    """
    root = Path(repository)
    metadata = root / "metadata"
    found = {f"metadata/{path.name}" for path in metadata.glob("*.root.json")} | {"metadata/timestamp.json"}
    with _reading(metadata / "timestamp.json"):
        snapshot = _versions(metadata / "timestamp.json")["snapshot.json"]
    found.add(f"metadata/{snapshot}.snapshot.json")
    for role, version in _versions(metadata / f"{snapshot}.snapshot.json").items():
        name = f"{version}.{role}"
        found.add(f"metadata/{name}")
        found |= set(_named(root, metadata / name))
    for path in (root / "pending").glob("*.json"):
        # what waits for a signature is as good as published
        found |= set(_named(root, path))
    return found


def published(repository: str, ring: str, version: str, name: str) -> bytes | None:
    """Document `name` of a version that `ring` has in the repository already: a published version never changes."""
    found = sorted(Path(repository, "targets", ring, version).glob(f"*.{name}"))
    return found[0].read_bytes() if found else None


def offered(repository: str, ring: str, version: str) -> dict[str, Path]:
    """The documents of a release by their name, as the newest signed metadata of `ring` names them.

    Raises:
        Unreadable: the ring's metadata is missing or damaged.
    """
    root = Path(repository)
    found = sorted((root / "metadata").glob(f"*.{ring}.json"), key=lambda path: int(path.name.partition(".")[0]))
    if not found:
        raise Unreadable(f"{repository} has no metadata of ring {ring}")
    folder = f"{ring}/{version}"
    return {
        path.rpartition("/")[2]: root / "targets" / folder / f"{digest}.{path.rpartition('/')[2]}"
        for path, digest in _targets(found[-1]).items()
        if path.rpartition("/")[0] == folder
    }


def version_of(manifest: bytes) -> str:
    """Version of the release that `manifest` describes.

    Raises:
        Unreadable: it is no manifest.
    """
    try:
        return str(json.loads(manifest)["version"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Unreadable(f"no manifest of a release: {exc!r}") from exc


def objects_of(document: bytes) -> Iterator[str]:
    """The paths below ``targets/`` that a manifest or ``patches.json`` names itself.

    Raises:
        Unreadable: neither of them.
    """
    try:
        data = json.loads(document)
        for entry in [*data.get("layers", []), *data.get("patches", [])]:
            yield str(entry["path"])
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreadable(f"not a manifest: {exc}") from exc


def _named(root: Path, metadata: Path) -> Iterator[str]:
    """What `metadata` and the documents that it offers lead to."""
    for path, digest in _targets(metadata).items():
        folder, _slash, name = path.rpartition("/")
        file = f"targets/{folder}/{digest}.{name}"
        yield file
        if name not in ("manifest.json", "patches.json"):
            continue
        try:
            document = (root / file).read_bytes()
        except OSError as exc:
            raise Unreadable(f"{file}: {exc.strerror}") from exc
        for held in objects_of(document):
            yield f"targets/{held}"
            if held.endswith(".files.zst"):
                yield from _indexed(root, held)


def _indexed(root: Path, index: str) -> Iterator[str]:
    try:
        for entry in read_index(root / "targets" / index):
            yield f"targets/{object_path(entry['object']['sha256'])}"
    except (LayerError, KeyError, TypeError) as exc:
        raise Unreadable(f"{index}: {exc}") from exc


def _versions(path: Path) -> dict[str, int]:
    """The metadata that a timestamp or a snapshot names."""
    with _reading(path):
        return {name: int(meta["version"]) for name, meta in _signed(path)["meta"].items()}


def _targets(path: Path) -> dict[str, str]:
    """The targets that metadata offers, with their hashes; those of a role that offers none are none."""
    with _reading(path):
        return {name: str(target["hashes"]["sha256"]) for name, target in _signed(path).get("targets", {}).items()}


def _signed(path: Path) -> dict[str, Any]:
    signed: dict[str, Any] = json.loads(path.read_bytes())["signed"]
    return signed


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unreadable(f"{path.name}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreadable(f"{path.name}: {exc!r}") from exc
