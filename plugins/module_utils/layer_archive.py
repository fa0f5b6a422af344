# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deterministic layers: the same files give the same bytes, wherever and whenever they are built.

A layer of format ``archive`` is a zstd-compressed POSIX tar: entries sorted by name, owner 0:0, mode 0644 or 0755,
times 0. The device checks the compressed object's hash before, and the tar's own (``content_sha256``) while it unpacks.

A layer of format ``files`` is a zstd-compressed index that names each file's place, mode, hash and its own compressed
object. It suits layers that are large and change in a few files: nobody ever holds more than one file in memory.
"""

from __future__ import annotations

import email
import fnmatch
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

# a part of every cache key: raise it when the same inputs shall give other bytes
BUILDER = "2"


class LayerError(Exception):
    """The layer cannot be built; the text says of which source and why."""


@dataclass(frozen=True)
class Layer:
    """A built layer, as the release's manifest names it. Sizes in bytes, hashes in hex."""

    name: str
    platform: str
    sha256: str
    length: int
    content_sha256: str
    unpacked: int
    path: str
    format: str = "archive"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect_tree(source: Path, keep: list[str], exclude: list[str]) -> dict[str, Path]:
    """Archive name to file for every file below `source` that matches `keep` and not `exclude` (globs).

    Raises:
        LayerError: the folder is missing or holds a link or device, which no layer may.
    """
    if not source.is_dir():
        raise LayerError(f"{source}: no such folder")
    found: dict[str, Path] = {}
    for folder, names, files in os.walk(source):
        names.sort()
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(source).as_posix()
            if not _matches(name, keep or ["*"]) or _matches(name, exclude):
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                raise LayerError(f"{path} is neither a file nor a folder: a layer holds nothing else")
            found[name] = path
    if not found:
        raise LayerError(f"{source}: nothing there matches {', '.join(keep) or '*'}")
    return found


def write(files: dict[str, Path], prefix: str, output: BinaryIO, level: int) -> tuple[str, int]:
    """Write `files` below `prefix` as zstd-compressed tar; returns the tar's sha256 and size."""
    from backports import zstd

    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1}
    with zstd.ZstdFile(output, "w", options=options) as compressed:
        stream = _Hashing(cast(BinaryIO, compressed))
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(files):
                _add(tar, f"{prefix}/{name}" if prefix else name, files[name])
    return stream.hash.hexdigest(), stream.size


def build(name: str, platform: str, files: dict[str, Path], prefix: str, dest: Path, level: int) -> Layer:
    """Write the layer into `dest` under its content-addressed name, atomically."""
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=dest, prefix=".layer-", delete=False) as output:
        try:
            content, unpacked = write(files, prefix, cast(BinaryIO, output), level)
            output.flush()
            os.fsync(output.fileno())
            digest, length = sha256_file(Path(output.name)), output.tell()
            path = f"layers/{digest}.{name}.tar.zst"
            final = dest / path
            final.parent.mkdir(exist_ok=True)
            os.chmod(output.name, 0o644)
            os.replace(output.name, final)
        except BaseException:
            Path(output.name).unlink(missing_ok=True)
            raise
    return Layer(name, platform, digest, length, content, unpacked, path)


def build_files(
    name: str, platform: str, files: dict[str, Path], prefix: str, dest: Path, level: int
) -> tuple[Layer, list[str]]:
    """Write the layer as an index and an object a file into `dest`; returns it and the paths of the objects."""
    entries: list[dict[str, Any]] = []
    for key in sorted(files):
        content = sha256_file(files[key])
        digest, length = _write_object(files[key], dest, level)
        entries.append(
            {
                "path": f"{prefix}/{key}" if prefix else key,
                "mode": _mode(files[key]),
                "size": files[key].stat().st_size,
                "sha256": content,
                "object": {"sha256": digest, "length": length},
            }
        )
    index = json.dumps({"files": entries}, sort_keys=True, separators=(",", ":")).encode()
    compressed = _compress(index, level)
    digest = hashlib.sha256(compressed).hexdigest()
    path = f"layers/{digest}.{name}.files.zst"
    write_whole(dest / path, compressed)
    unpacked = sum(entry["size"] for entry in entries)
    layer = Layer(name, platform, digest, len(compressed), listing_digest(entries), unpacked, path, "files")
    return layer, sorted({object_path(entry["object"]["sha256"]) for entry in entries})


def listing_digest(entries: list[dict[str, Any]]) -> str:
    """What a layer of files holds, as one hash: a line ``mode size sha256 path`` a file, in the order of paths."""
    lines = (f"{e['mode']:o} {e['size']} {e['sha256']} {e['path']}\n" for e in sorted(entries, key=lambda e: e["path"]))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def object_path(digest: str) -> str:
    """Where the object with this hash lies."""
    return f"objects/{digest[:2]}/{digest}.zst"


def read_index(path: Path) -> list[dict[str, Any]]:
    """The entries of the index at `path`.

    Raises:
        LayerError: it cannot be read.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(decompress(path))["files"]
    except (ValueError, KeyError, TypeError) as exc:
        raise LayerError(f"{path} is no index of a layer: {exc}") from exc
    return entries


def decompress(path: Path) -> bytes:
    """The bytes in the object at `path`.

    Raises:
        LayerError: it is missing or damaged.
    """
    from backports import zstd

    try:
        return zstd.decompress(path.read_bytes())
    except (OSError, zstd.ZstdError) as exc:
        raise LayerError(f"{path}: {exc}") from exc


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".layer-", delete=False) as output:
        output.write(data)
        output.flush()
        os.fsync(output.fileno())
    os.chmod(output.name, 0o644)
    os.replace(output.name, path)


def _write_object(source: Path, dest: Path, level: int) -> tuple[str, int]:
    compressed = _compress(source.read_bytes(), level)
    digest = hashlib.sha256(compressed).hexdigest()
    path = dest / object_path(digest)
    if not path.exists() or path.stat().st_size != len(compressed):
        write_whole(path, compressed)
    return digest, len(compressed)


def _compress(data: bytes, level: int) -> bytes:
    from backports import zstd

    parameter = zstd.CompressionParameter
    return zstd.compress(data, options={parameter.compression_level: level, parameter.checksum_flag: 1})


def inputs_digest(name: str, platform: str, prefix: str, level: int, files: dict[str, Path], form: str) -> str:
    """What a layer is made from, as one hash: equal digests, equal layers."""
    digest = hashlib.sha256(f"{BUILDER}\0{form}\0{name}\0{platform}\0{prefix}\0{level}".encode())
    for key in sorted(files):
        digest.update(f"\0{key}\0{_mode(files[key])}\0{sha256_file(files[key])}".encode())
    return digest.hexdigest()


def wheel_digest(
    name: str, platform: str, level: int, requirements: bytes, keep: list[str], tags: list[str], form: str
) -> str:
    """The same for a layer of wheels, known before anything is downloaded: the requirements name hashes."""
    parts = [BUILDER, form, name, platform, str(level), *keep, "--", *tags, "--"]
    return hashlib.sha256("\0".join(parts).encode() + requirements).hexdigest()


def fetch_wheels(requirements: Path, python_version: str, tags: list[str], cache: Path) -> list[Path]:
    """Download the pinned wheels for another platform with pip; every one is checked against its hash.

    Raises:
        LayerError: pip found no wheel for the platform, or one with another hash.
    """
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
        f"--python-version={python_version}", "--implementation=cp", *(f"--platform={tag}" for tag in tags),
        f"--dest={cache}", f"--requirement={requirements}",
    ]  # fmt: skip
    try:
        # AnsibleModule.run_command has no time limit
        # pylint: disable-next=ansible-bad-function
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired as exc:
        raise LayerError(f"{requirements}: the wheels did not arrive within {exc.timeout:.0f} s") from exc
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise LayerError(f"{requirements}: pip could not fetch the wheels: {' | '.join(lines[-3:])}")
    return sorted(cache.glob("*.whl"))


def named_by(requirements: Path, wheels: list[Path]) -> list[Path]:
    """Those of `wheels` whose hash `requirements` pins: a cache can hold older ones too."""
    pinned = requirements.read_text(encoding="utf-8")
    return [wheel for wheel in wheels if f"sha256:{sha256_file(wheel)}" in pinned]


def describe_wheel(wheel: Path) -> dict[str, str]:
    """Name, version, licence, file name and hash of a wheel, from its own METADATA (core metadata specification 2.4).

    Raises:
        LayerError: the wheel has no METADATA.
    """
    with zipfile.ZipFile(wheel) as archive:
        held = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        if len(held) != 1:
            raise LayerError(f"{wheel.name}: no wheel, {len(held)} METADATA files")
        told = email.message_from_bytes(archive.read(held[0]))
    return {
        "name": str(told["Name"]),
        "version": str(told["Version"]),
        "license": str(told["License-Expression"] or told["License"] or "").strip(),
        "file": wheel.name,
        "sha256": sha256_file(wheel),
    }


def unpack_wheels(wheels: list[Path], keep: list[str], folder: Path) -> dict[str, Path]:
    """Unpack from `wheels` what `keep` names (globs on paths as in site-packages) into `folder`.

    Raises:
        LayerError: a pattern matched nothing, which is a file the app would miss.
    """
    unused = set(keep)
    files: dict[str, Path] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                hits = {pattern for pattern in keep if fnmatch.fnmatchcase(info.filename, pattern)}
                if info.is_dir() or not hits:
                    continue
                unused -= hits
                target = Path(archive.extract(info, folder))
                target.chmod(0o755 if info.external_attr >> 16 & 0o111 else 0o644)
                files[info.filename] = target
    if unused:
        raise LayerError(f"nothing in {', '.join(w.name for w in wheels)} matches {', '.join(sorted(unused))}")
    return files


def sha256_file(path: Path) -> str:
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = path.stat().st_size
    entry.mode = _mode(path)
    with open(path, "rb") as source:
        tar.addfile(entry, source)


class _Hashing(io.RawIOBase):
    """Passes writes on, hashing and counting them."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self._sink.write(data)
        self.hash.update(data)
        self.size += len(data)
        return len(data)
