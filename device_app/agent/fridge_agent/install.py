# SPDX-License-Identifier: Apache-2.0
"""Puts a release on disk and switches to it.

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
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from backports import zstd

from .config import Paths
from .durable import point, sync_filesystem, sync_folder
from .errors import AgentError, BadRelease, NotTrusted, StorageFull
from .manifest import Layer, Manifest

_UNFINISHED = ".unfinished-"


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


def install(paths: Paths, manifest: Manifest, objects: dict[str, Path]) -> Path:
    """Unpack what is missing and write the release's folder; `current` is not touched.

    Args:
        objects: verified compressed file by layer sha256, for the layers that are not on disk yet.

    Raises:
        BadRelease, NotTrusted: an archive holds what it must not, or is not what the manifest says.
        StorageFull: the disk filled up; what was begun is removed.
    """
    clean(paths)
    for folder in (paths.layers, paths.releases):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        for layer in manifest.layers:
            if not (paths.layers / layer.content_sha256).exists():
                _unpack(paths.layers, layer, objects[layer.sha256])
        return _write_release(paths, manifest)
    except OSError as exc:
        clean(paths)
        raise StorageFull(f"cannot write release {manifest.version}: {exc.strerror}") from exc


def missing_layers(paths: Paths, manifest: Manifest) -> tuple[Layer, ...]:
    """The layers that this device has to download."""
    return tuple(layer for layer in manifest.layers if not (paths.layers / layer.content_sha256).exists())


def switch(paths: Paths, release: Path) -> None:
    """Make `release` current and what was current previous. Safe to repeat after a power cut."""
    running = current(paths)
    if running == release:
        return
    if running is not None:
        point(paths.previous, running)
    point(paths.current, release)


def roll_back(paths: Paths) -> Path | None:
    """Make the previous release current again; None where there is none (then nothing is current)."""
    before = _resolved(paths.previous)
    if before is None:
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


def clean(paths: Paths) -> None:
    """Remove what an interrupted install left, and whatever neither current nor previous needs."""
    keep = {release for release in (current(paths), _resolved(paths.previous)) if release}
    for folder in (paths.layers, paths.releases):
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
    if not keep:
        return
    for release in paths.releases.iterdir():
        if release not in keep:
            shutil.rmtree(release)
    used = {link.resolve() for release in keep for link in release.iterdir() if link.is_symlink()}
    for layer in paths.layers.iterdir():
        if layer.resolve() not in used:
            shutil.rmtree(layer)


def _resolved(link: Path) -> Path | None:
    if not link.is_symlink():
        return None
    target = link.parent / link.readlink()
    return target if (target / "manifest.json").exists() else None


def _write_release(paths: Paths, manifest: Manifest) -> Path:
    final = paths.releases / manifest.id
    if final.exists():
        if (final / "manifest.json").read_bytes() == manifest.raw:
            return final
        raise NotTrusted(f"release {manifest.id} is installed already, with another manifest")
    building = paths.releases / f"{_UNFINISHED}{manifest.id}"
    building.mkdir()
    (building / "manifest.json").write_bytes(manifest.raw)
    for layer in manifest.layers:
        (building / layer.name).symlink_to(os.path.relpath(paths.layers / layer.content_sha256, building))
    sync_filesystem(building)
    building.rename(final)
    sync_folder(paths.releases)
    return final


def _unpack(layers: Path, layer: Layer, archive: Path) -> None:
    building = layers / f"{_UNFINISHED}{layer.content_sha256}"
    building.mkdir()
    with zstd.open(archive, "rb") as raw:
        stream = _Hashing(cast(BinaryIO, raw), layer.unpacked)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as tar:
                tar.extractall(building, filter="data")
            stream.drain()
        except (tarfile.TarError, zstd.ZstdError) as exc:
            raise BadRelease(f"layer {layer.name} is not a usable archive: {exc}") from exc
    if stream.hexdigest() != layer.content_sha256:
        raise NotTrusted(f"layer {layer.name}: its content is not what was signed")
    sync_filesystem(building)
    building.rename(layers / layer.content_sha256)
    sync_folder(layers)


class _Hashing(io.RawIOBase):
    """Passes a stream on, hashing it, and stops a decompression bomb at the signed size."""

    def __init__(self, raw: BinaryIO, limit: int) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadRelease("a layer unpacks to more than was signed")
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(64 * 1024):
            pass

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
