# SPDX-License-Identifier: Apache-2.0
"""The signed manifest of a release: which layers make it up, and for which devices it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import VERSION
from .errors import BadRelease, NotForThisDevice

SCHEMA = 1
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Layer:
    """One archive of a release. `sha256`/`length` name the compressed object, `content_sha256` the tar in it."""

    name: str
    platform: str
    sha256: str
    length: int
    content_sha256: str
    unpacked: int
    path: str


@dataclass(frozen=True)
class Manifest:
    """A release as this device sees it: only the layers for its platform."""

    id: str
    version: str
    layers: tuple[Layer, ...]
    raw: bytes

    @property
    def download_bytes(self) -> int:
        return sum(layer.length for layer in self.layers)

    @property
    def unpacked_bytes(self) -> int:
        return sum(layer.unpacked for layer in self.layers)


def parse(raw: bytes, platform: str, hardware: str) -> Manifest:
    """Read a manifest whose bytes are already trusted, for one platform and hardware.

    Raises:
        BadRelease: not a manifest of schema 1, or no layer set for `platform` is complete.
        NotForThisDevice: signed, but for other hardware or a newer agent.
    """
    try:
        data = json.loads(raw)
        if data["schema"] != SCHEMA:
            raise BadRelease(f"the manifest has schema {data['schema']}, this agent reads {SCHEMA}")
        layers = tuple(_layer(entry) for entry in data["layers"])
        release_id, version = _name(data["id"]), _name(data["version"])
        compatible, minimum = data["compatible"], str(data["minimum_agent"])
    except (KeyError, TypeError, ValueError) as exc:
        raise BadRelease(f"the manifest is not of the form this agent reads: {exc!r}") from exc
    if hardware not in compatible:
        raise NotForThisDevice(f"release {version} is for {', '.join(compatible)}, this device is {hardware}")
    if _numbers(minimum) > _numbers(VERSION):
        raise NotForThisDevice(f"release {version} needs agent {minimum}, this is {VERSION}")
    mine = tuple(layer for layer in layers if layer.platform in (platform, "any"))
    missing = {layer.name for layer in layers} - {layer.name for layer in mine}
    if missing:
        raise NotForThisDevice(f"release {version} has no {'/'.join(sorted(missing))} layer for {platform}")
    return Manifest(release_id, version, mine, raw)


def _layer(entry: dict[str, Any]) -> Layer:
    layer = Layer(
        name=_name(entry["name"]),
        platform=_name(entry["platform"]),
        sha256=_digest(entry["sha256"]),
        length=int(entry["length"]),
        content_sha256=_digest(entry["content_sha256"]),
        unpacked=int(entry["unpacked"]),
        path=str(entry["path"]),
    )
    if ".." in layer.path.split("/") or layer.path.startswith("/"):
        raise ValueError(f"layer path {layer.path!r}")
    return layer


def _name(value: str) -> str:
    """A name that is safe as one path component."""
    if not value or value.startswith(".") or set(value) & set("/\\\0"):
        raise ValueError(f"name {value!r}")
    return str(value)


def _digest(value: str) -> str:
    if len(value) != 64 or not set(value) <= _HEX:
        raise ValueError(f"sha256 {value!r}")
    return str(value)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
