# SPDX-License-Identifier: Apache-2.0
"""The signed documents of a release: which layers make it up, for which devices, and what leads there from before."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from . import VERSION
from .errors import BadRelease, Downgrade, NotForThisDevice

SCHEMAS = (1, 2)
PATCHES_SCHEMA = 1
FILES_LIMIT = 20_000
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Layer:
    """One layer of a release. `sha256`/`length` name the object on the server.

    format `archive`: the object is a compressed tar, `content_sha256` and `unpacked` are the tar's.
    format `files`: the object is a compressed index of files, each an object of its own; `content_sha256` is the
    listing's (see `Files`), `unpacked` the sum of the files' bytes.
    """

    name: str
    platform: str
    format: str
    sha256: str
    length: int
    content_sha256: str
    unpacked: int
    path: str


@dataclass(frozen=True)
class Object:
    """A compressed file on the server."""

    sha256: str
    length: int

    @property
    def path(self) -> str:
        return f"objects/{self.sha256[:2]}/{self.sha256}.zst"


@dataclass(frozen=True)
class FileEntry:
    """One file of a layer: its place, mode, bytes, and the object that holds it."""

    path: str
    mode: int
    size: int
    sha256: str
    object: Object


@dataclass(frozen=True)
class Files:
    """The index of a layer of format `files`."""

    entries: tuple[FileEntry, ...]

    @property
    def content_sha256(self) -> str:
        """SHA-256 over a line `mode size sha256 path` a file, in the order of paths."""
        lines = (f"{e.mode:o} {e.size} {e.sha256} {e.path}\n" for e in sorted(self.entries, key=lambda e: e.path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Patch:
    """zstd data that makes the bytes with hash `to` from the bytes with hash `base`."""

    base: str
    to: str
    base_size: int
    to_size: int
    sha256: str
    length: int
    path: str


@dataclass(frozen=True)
class Manifest:
    """A release as this device sees it: only the layers for its platform."""

    id: str
    version: str
    consent: bool
    layers: tuple[Layer, ...]
    raw: bytes


def parse(raw: bytes, platform: str, hardware: str) -> Manifest:
    """Read a manifest whose bytes are already trusted, for one platform and hardware.

    Raises:
        BadRelease: not a manifest of a schema that this agent reads, or no layer set for `platform` is complete.
        NotForThisDevice: signed, but for other hardware or a newer agent.
    """
    try:
        data = json.loads(raw)
        if data["schema"] not in SCHEMAS:
            raise BadRelease(f"the manifest has schema {data['schema']}, this agent reads {SCHEMAS[-1]}")
        layers = tuple(_layer(entry) for entry in data["layers"])
        release_id, version = _name(data["id"]), _name(data["version"])
        compatible, minimum = data["compatible"], str(data["minimum_agent"])
    except (KeyError, TypeError, ValueError) as exc:
        raise BadRelease(f"the manifest is not of the form this agent reads: {exc!r}") from exc
    if hardware not in compatible:
        raise NotForThisDevice(f"release {version} is for {', '.join(compatible)}, this device is {hardware}")
    if numbers(minimum) > numbers(VERSION):
        raise NotForThisDevice(f"release {version} needs agent {minimum}, this is {VERSION}")
    mine = tuple(layer for layer in layers if layer.platform in (platform, "any"))
    missing = {layer.name for layer in layers} - {layer.name for layer in mine}
    if missing:
        raise NotForThisDevice(f"release {version} has no {'/'.join(sorted(missing))} layer for {platform}")
    return Manifest(release_id, version, bool(data.get("consent", False)), mine, raw)


def parse_files(raw: bytes, layer: Layer) -> Files:
    """Read the index of `layer`.

    Raises:
        BadRelease: not an index, of another layer, or one that reaches outside of the layer.
    """
    try:
        entries = read_entries(raw)
    except (KeyError, TypeError, ValueError) as exc:
        raise BadRelease(f"layer {layer.name}: its index is not of the form this agent reads: {exc!r}") from exc
    files = Files(entries)
    if len(entries) > FILES_LIMIT or len({entry.path for entry in entries}) != len(entries):
        raise BadRelease(f"layer {layer.name}: {len(entries)} files, or some of them twice")
    if files.content_sha256 != layer.content_sha256 or sum(e.size for e in entries) != layer.unpacked:
        raise BadRelease(f"layer {layer.name}: its index lists other files than were signed")
    return files


def read_entries(raw: bytes) -> tuple[FileEntry, ...]:
    """The entries of an index, none of them outside of its layer; KeyError, TypeError or ValueError if it is none."""
    return tuple(_file(entry) for entry in json.loads(raw)["files"])


def parse_patches(raw: bytes | None) -> tuple[Patch, ...]:
    """Read `patches.json`; what this agent cannot read is no patch, and the full objects are there still."""
    try:
        data = json.loads(raw or b"{}")
        if data.get("schema") != PATCHES_SCHEMA:
            return ()
        return tuple(_patch(entry) for entry in data["patches"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()


def check_direction(manifest: Manifest, running: str | None, custom: dict[str, Any]) -> None:
    """Raise Downgrade where the release is older than what runs and its signers did not say that this is meant."""
    if running and numbers(manifest.version) < numbers(running) and custom.get("downgrade") is not True:
        raise Downgrade(
            f"release {manifest.version} is older than {running}, which runs here; a way back must be signed as one"
        )


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (0, 1, 57) of `0.1.57-dirty`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _layer(entry: dict[str, Any]) -> Layer:
    layer = Layer(
        name=_name(entry["name"]),
        platform=_name(entry["platform"]),
        format=str(entry.get("format", "archive")),
        sha256=_digest(entry["sha256"]),
        length=_size(entry["length"]),
        content_sha256=_digest(entry["content_sha256"]),
        unpacked=_size(entry["unpacked"]),
        path=_inside(entry["path"]),
    )
    if layer.format not in ("archive", "files"):
        raise ValueError(f"layer format {layer.format!r}")
    return layer


def _file(entry: dict[str, Any]) -> FileEntry:
    path = _inside(entry["path"])
    if entry["mode"] not in (0o644, 0o755) or path.startswith("."):
        raise ValueError(f"{path}: mode {entry['mode']!r}")
    held = Object(_digest(entry["object"]["sha256"]), _size(entry["object"]["length"]))
    return FileEntry(path, int(entry["mode"]), _size(entry["size"]), _digest(entry["sha256"]), held)


def _patch(entry: dict[str, Any]) -> Patch:
    return Patch(
        base=_digest(entry["from"]),
        to=_digest(entry["to"]),
        base_size=_size(entry["from_size"]),
        to_size=_size(entry["to_size"]),
        sha256=_digest(entry["sha256"]),
        length=_size(entry["length"]),
        path=_inside(entry["path"]),
    )


def _name(value: str) -> str:
    """A name that is safe as one path component."""
    if not value or value.startswith(".") or set(value) & set("/\\\0"):
        raise ValueError(f"name {value!r}")
    return str(value)


def _inside(value: str) -> str:
    """A relative path that stays where it is put."""
    parts = value.split("/")
    if not value or value.startswith("/") or {"", ".", ".."} & set(parts) or "\0" in value:
        raise ValueError(f"path {value!r}")
    return str(value)


def _digest(value: str) -> str:
    if len(value) != 64 or not set(value) <= _HEX:
        raise ValueError(f"sha256 {value!r}")
    return str(value)


def _size(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"size {value!r}")
    return value
