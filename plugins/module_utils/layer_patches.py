# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""zstd patches from the releases that devices run to the release that they shall run.

A patch leads from the bytes with one hash to the bytes with another: a tar for a layer of format ``archive``, a file
for one of format ``files``. It is made by giving zstd the old bytes as a prefix (``zstd --patch-from``). Which patches
there are depends on what was released before, so they stand in a signed document of their own, ``patches.json``, and
the manifest stays the same for the same commit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .layer_archive import LayerError, decompress, object_path, read_index, write_whole

SCHEMA = 1
WORTH = 0.9
"""A patch that is not smaller than this share of the whole object is not worth its request."""
_WINDOW_LOG_MAX = 27


@dataclass(frozen=True)
class Patch:
    """One entry of ``patches.json``. Sizes in bytes, hashes in hex; `path` below ``targets/``."""

    base: str
    to: str
    from_size: int
    to_size: int
    sha256: str
    length: int
    path: str

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["from"] = data.pop("base")
        return data


@dataclass(frozen=True)
class Step:
    """What a patch may be made for: from one content to another, instead of an object of `full` bytes."""

    base: str
    to: str
    full: int
    old: Callable[[], bytes] = field(compare=False)
    new: Callable[[], bytes] = field(compare=False)


class Patches:
    """Patches to the release of `manifest` from the newest `releases` before it in `ring`.

    `build`: folder with the new layers, and where patches are kept. `repository`: where the old ones lie.
    """

    def __init__(self, manifest: dict[str, Any], ring: str, build: Path, repository: Path, releases: int) -> None:
        self.manifest = manifest
        self._ring = ring
        self._build = build
        self._targets = repository / "targets"
        self._releases = releases

    def before(self) -> list[dict[str, Any]]:
        """The manifests of the newest releases before this one, newest first."""
        found = []
        for path in self._targets.glob(f"{self._ring}/*/*.manifest.json"):
            manifest = json.loads(path.read_bytes())
            if version_key(manifest["version"]) < version_key(self.manifest["version"]):
                found.append(manifest)
        found.sort(key=lambda manifest: version_key(manifest["version"]), reverse=True)
        return found[: self._releases]

    def steps(self, memory_max: int) -> list[Step]:
        """Every step from a layer or file of the releases before to one of this release."""
        found: dict[tuple[str, str], Step] = {}
        for old in self.before():
            for layer in self.manifest["layers"]:
                for ancestor in old["layers"]:
                    if (ancestor["name"], ancestor["platform"]) == (layer["name"], layer["platform"]):
                        for step in self._between(ancestor, layer, memory_max):
                            found.setdefault((step.base, step.to), step)
        return list(found.values())

    def make(self, step: Step, level: int) -> Patch | None:
        """The patch for `step`, made or kept from an earlier run; None where it is not worth it."""
        record = self._build / "patches" / f"{step.base}-{step.to}-{level}.json"
        try:
            kept = json.loads(record.read_bytes())
            if not kept:
                return None
            kept["base"] = kept.pop("from")
            patch = Patch(**kept)
            if (self._build / patch.path).stat().st_size == patch.length:
                return patch
        except (OSError, ValueError, TypeError, KeyError):
            pass
        made = self._made(step, level)
        write_whole(record, json.dumps(made.to_dict() if made else None).encode())
        return made

    def document(self, patches: list[Patch]) -> bytes:
        """``patches.json``."""
        entries = [patch.to_dict() for patch in sorted(patches, key=lambda patch: (patch.to, patch.base))]
        return json.dumps({"schema": SCHEMA, "patches": entries}, sort_keys=True, separators=(",", ":")).encode()

    # ---- inside ----------------------------------------

    def _made(self, step: Step, level: int) -> Patch | None:
        old, new = step.old(), step.new()
        data = diff(old, new, level)
        if len(data) >= step.full * WORTH:
            return None
        digest = hashlib.sha256(data).hexdigest()
        path = f"patches/{digest[:2]}/{digest}.zst"
        write_whole(self._build / path, data)
        return Patch(step.base, step.to, len(old), len(new), digest, len(data), path)

    def _between(self, old: dict[str, Any], new: dict[str, Any], memory_max: int) -> Iterator[Step]:
        forms = {old.get("format", "archive"), new.get("format", "archive")}
        if old["content_sha256"] == new["content_sha256"] or len(forms) > 1:
            return
        if forms == {"archive"}:
            if old["unpacked"] + new["unpacked"] <= memory_max:
                yield Step(
                    old["content_sha256"],
                    new["content_sha256"],
                    new["length"],
                    lambda: decompress(self._find(old["path"])),
                    lambda: decompress(self._find(new["path"])),
                )
            return
        ancestors = {entry["path"]: entry for entry in read_index(self._find(old["path"]))}
        there = {entry["sha256"] for entry in ancestors.values()}
        for entry in read_index(self._find(new["path"])):
            ancestor = ancestors.get(entry["path"])
            if ancestor and entry["sha256"] not in there and ancestor["size"] + entry["size"] <= memory_max:
                yield self._file_step(ancestor, entry)

    def _file_step(self, old: dict[str, Any], new: dict[str, Any]) -> Step:
        def content(entry: dict[str, Any]) -> bytes:
            return decompress(self._find(object_path(entry["object"]["sha256"])))

        return Step(old["sha256"], new["sha256"], new["object"]["length"], lambda: content(old), lambda: content(new))

    def _find(self, path: str) -> Path:
        for folder in (self._build, self._targets):
            if (folder / path).exists():
                return folder / path
        raise LayerError(
            f"{path} is neither in {self._build} nor in {self._targets}: fetch the repository's objects, or build again"
        )


def diff(old: bytes, new: bytes, level: int) -> bytes:
    """The bytes that lead from `old` to `new`, as ``zstd --patch-from`` makes them."""
    from backports import zstd

    parameter = zstd.CompressionParameter
    window = min(max((len(old) + len(new)).bit_length(), 18), _WINDOW_LOG_MAX)
    options: dict[int, int] = {parameter.compression_level: level, parameter.window_log: window}
    if len(old) > 1 << 20:
        options[parameter.enable_long_distance_matching] = 1
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix)
    return compressor.compress(new, zstd.ZstdCompressor.FLUSH_FRAME)


def version_key(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
