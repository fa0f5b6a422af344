# SPDX-License-Identifier: Apache-2.0
"""The releases on disk, and the two links that say which one runs.

Layout below the base folder (for example /opt/fridge):

    layers/<content sha256>/           an unpacked layer, shared by the releases that name it
    releases/<id>/manifest.json        the signed manifest, byte for byte
    releases/<id>/<layer> -> ../../layers/<content sha256>
    current -> releases/<id>           what the launcher runs
    previous -> releases/<id>          what a rollback returns to

A layer or release under its final name is whole: both are made under a temporary name, the file system is flushed
once (syncfs), and only then renamed. The switch is one rename of a symlink.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .config import Paths
from .durable import point, sync_filesystem, sync_folder
from .errors import AgentError, NotTrusted, StagingLost
from .manifest import Layer, Manifest

UNFINISHED = ".unfinished-"


class Busy(AgentError):
    """Another agent holds the installation."""

    code = "busy"


@contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Hold the device's one installation lock; a second agent gets Busy at once.

    Raises:
        Busy: another process of this device holds it.
    """
    paths.base.mkdir(parents=True, exist_ok=True)
    with (paths.base / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Busy(f"another agent is at work on {paths.base}") from exc
        yield


def missing_layers(paths: Paths, manifest: Manifest) -> tuple[Layer, ...]:
    """The layers that this device does not have yet."""
    return tuple(layer for layer in manifest.layers if not (paths.layers / layer.content_sha256).exists())


def write_release(paths: Paths, manifest: Manifest) -> Path:
    """Write the folder of a release whose layers are all here; returns it."""
    final = paths.releases / manifest.id
    if final.exists() and _is_whole(final) and (final / "manifest.json").read_bytes() == manifest.raw:
        return final
    if final in (current(paths), _resolved(paths.previous)):
        raise NotTrusted(f"release {manifest.id} is installed already, with another manifest")
    building = paths.releases / f"{UNFINISHED}{manifest.id}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    (building / "manifest.json").write_bytes(manifest.raw)
    for layer in manifest.layers:
        (building / layer.name).symlink_to(os.path.relpath(paths.layers / layer.content_sha256, building))
    sync_filesystem(building)
    if final.exists():
        _discard(final)
    building.rename(final)
    sync_folder(paths.releases)
    return final


def switch(paths: Paths, release_id: str) -> Path:
    """Make the staged release `release_id` current and what was current previous. Safe to repeat after a power cut.

    Raises:
        StagingLost: it is not there, or not whole.
    """
    release = paths.releases / release_id
    if not _is_whole(release):
        raise StagingLost(f"release {release_id} is not whole on this disk any more")
    running = current(paths)
    if running == release:
        return release
    if running is not None:
        point(paths.previous, running)
    point(paths.current, release)
    return release


def roll_back(paths: Paths, condemned: str) -> Path | None:
    """Make the release before `condemned` current again; None where there is none (then nothing is current).

    Where `condemned` is not current any more, nothing is changed.
    """
    running = current(paths)
    if running is not None and running.name != condemned:
        return running
    before = _resolved(paths.previous)
    if before is None or before.name == condemned:
        paths.current.unlink(missing_ok=True)
        sync_folder(paths.base)
        return None
    point(paths.current, before)
    return before


def current(paths: Paths) -> Path | None:
    """The folder of the current release, or None."""
    return _resolved(paths.current)


def describe(release: Path | None) -> dict[str, str] | None:
    """`{id, version}` of an installed release."""
    if release is None:
        return None
    data: dict[str, Any] = json.loads((release / "manifest.json").read_bytes())
    return {"id": str(data["id"]), "version": str(data["version"])}


def clean(paths: Paths, keep_unfinished: Collection[str] = ()) -> None:
    """Remove what an interrupted install left, and whatever neither current nor previous needs.

    `keep_unfinished`: content hashes of layers whose half-built folders are still of use.
    """
    kept = {f"{UNFINISHED}{content}" for content in keep_unfinished}
    for folder in (paths.layers, paths.releases):
        for left in folder.glob(f"{UNFINISHED}*"):
            if left.name not in kept:
                shutil.rmtree(left, ignore_errors=True)
    keep = {release for release in (current(paths), _resolved(paths.previous)) if release}
    if not keep:
        return
    for release in paths.releases.iterdir():
        if release not in keep:
            _discard(release)
    used = {link.resolve() for release in keep for link in release.iterdir() if link.is_symlink()}
    for layer in paths.layers.iterdir():
        if layer.resolve() not in used and layer.name not in kept:
            _discard(layer)


def _discard(folder: Path) -> None:
    """Remove `folder`; a power cut half-way must not leave a part of it under a name that means "whole"."""
    doomed = folder.with_name(f"{UNFINISHED}{folder.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _is_whole(release: Path) -> bool:
    """Whether the manifest is there and every layer that the release links to."""
    if not (release / "manifest.json").exists():
        return False
    return all(link.exists() for link in release.iterdir() if link.is_symlink())


def _resolved(link: Path) -> Path | None:
    if not link.is_symlink():
        return None
    target = link.parent / link.readlink()
    return target if (target / "manifest.json").exists() else None
