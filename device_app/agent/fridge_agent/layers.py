# SPDX-License-Identifier: Apache-2.0
"""Brings a release's layers onto the disk by the cheapest way that this device can go, and stages the release.

For each layer that is missing:

    archive  a patch from a layer that is here (its tar is rebuilt from its files and must have the signed hash),
             or the whole compressed tar
    files    each file: linked from a layer that is here, patched from a file that is here, or fetched whole;
             one file at a time, so that a runtime of a hundred megabytes needs memory for its largest patch only

Whatever way was gone, the result's hash decides; where a patch fails the whole object is fetched instead. A layer is
built under a temporary name, flushed by one syncfs and renamed: under its final name it is whole. A layer of files that
was interrupted is continued.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from backports import zstd

from . import download, install
from .config import Paths
from .durable import sync_filesystem, sync_folder
from .errors import AgentError, BadRelease, Cancelled, FileMissing, NotTrusted, StorageFull
from .manifest import FileEntry, Files, Layer, Manifest, Object, Patch, parse_files, parse_patches, read_entries
from .transport import CHUNK, Transport

INDEX = ".files.json"
INDEX_LIMIT = 16 * 1024 * 1024
PATCH_MEMORY = 48 * 1024 * 1024
"""Bytes of base and result that a patch may bring into memory; a larger one is fetched whole."""


@dataclass
class Account:
    """What staging cost: bytes fetched by kind, files linked from what was here."""

    fetched: dict[str, int] = field(default_factory=dict)
    linked: int = 0
    fell_back: int = 0

    def add(self, kind: str, size: int) -> None:
        self.fetched[kind] = self.fetched.get(kind, 0) + size

    @property
    def total(self) -> int:
        return sum(self.fetched.values())


@dataclass(frozen=True)
class _Job:
    """One object to fetch: for a whole layer (`entry` None) or a file of one."""

    layer: Layer
    entry: FileEntry | None
    patch: Patch | None
    full: Layer | Object

    @property
    def cost(self) -> int:
        return self.patch.length if self.patch else self.full.length


class Stager:
    """Stages one release. `patches`: fetches the verified `patches.json`, None where there is none."""

    def __init__(
        self,
        paths: Paths,
        transport: Transport,
        patches: Callable[[], bytes | None],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._paths = paths
        self._transport = transport
        self._patches_json = patches
        self._progress = progress
        self._done = self._total = 0
        self.account = Account()

    def stage(self, manifest: Manifest) -> Path:
        """Bring in what is missing and write the release's folder; `current` is not touched.

        Raises:
            BadRelease, NotTrusted: a layer is not what was signed.
            StorageFull: there is no room, or it ran out; what was begun is removed.
            FileMissing, ServerUnreachable, Cancelled: what is here so far stays for the next try.
        """
        wanted = {layer.content_sha256 for layer in manifest.layers}
        install.clean(self._paths, keep_unfinished=wanted)
        for folder in (self._paths.layers, self._paths.releases, self._paths.downloads):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self._bring(manifest)
            release = install.write_release(self._paths, manifest)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                install.clean(self._paths)
                shutil.rmtree(self._paths.downloads, ignore_errors=True)
                raise StorageFull(f"cannot write release {manifest.version}: {exc.strerror}") from exc
            raise
        shutil.rmtree(self._paths.downloads, ignore_errors=True)
        return release

    # ---- planning ----------------------------------------

    def _bring(self, manifest: Manifest) -> None:
        missing = install.missing_layers(self._paths, manifest)
        indexes = {layer.content_sha256: self._index(layer) for layer in missing if layer.format == "files"}
        jobs = [job for layer in missing for job in self._jobs(layer, indexes.get(layer.content_sha256))]
        self._total = sum(job.cost for job in jobs)
        unpacked = sum(job.entry.size if job.entry else job.layer.unpacked for job in jobs)
        download.check_space(self._paths.base, self._total + unpacked)
        for layer in missing:
            mine = [job for job in jobs if job.layer is layer]
            if layer.format == "files":
                self._build_files(layer, indexes[layer.content_sha256], {job.entry: job for job in mine})
            else:
                self._build_archive(layer, mine[0])

    def _jobs(self, layer: Layer, files: tuple[Files, bytes] | None) -> Iterator[_Job]:
        if files is None:
            yield _Job(layer, None, self._patch_for(layer.content_sha256, self._is_layer), layer)
            return
        begun = self._unfinished(layer)
        for entry in files[0].entries:
            if entry.sha256 not in self._files_here and not (begun / entry.path).exists():
                yield _Job(layer, entry, self._patch_for(entry.sha256, self._files_here.__contains__), entry.object)

    def _patch_for(self, wanted: str, is_here: Callable[[str], bool]) -> Patch | None:
        """The smallest patch that leads to `wanted` from something here and fits into memory."""
        usable = (
            patch
            for patch in self._patches.get(wanted, ())
            if patch.base_size + patch.to_size <= PATCH_MEMORY and is_here(patch.base)
        )
        return min(usable, key=lambda patch: patch.length, default=None)

    @cached_property
    def _patches(self) -> dict[str, list[Patch]]:
        if not any(self._paths.layers.iterdir()):
            return {}  # a first release: nothing to patch from, nothing to ask for
        found: dict[str, list[Patch]] = {}
        try:
            for patch in parse_patches(self._patches_json()):
                found.setdefault(patch.to, []).append(patch)
        except FileMissing:
            return {}
        return found

    @cached_property
    def _files_here(self) -> dict[str, Path]:
        """The files of the layers that are here, by hash."""
        found: dict[str, Path] = {}
        for index in sorted(self._paths.layers.glob(f"[!.]*/{INDEX}")):
            for entry in _entries_of(index):
                found.setdefault(entry.sha256, index.parent / entry.path)
        return found

    def _is_layer(self, content: str) -> bool:
        return (self._paths.layers / content).is_dir()

    # ---- fetching ----------------------------------------

    def _fetch(self, remote: Layer | Object | Patch, kind: str) -> Path:
        before = self._done
        path = download.fetch(
            self._transport, remote, self._paths.downloads, lambda size: self._progress(before + size, self._total)
        )
        self._done += remote.length
        self.account.add(kind, remote.length)
        return path

    def _index(self, layer: Layer) -> tuple[Files, bytes]:
        compressed = self._fetch(layer, "index")
        self._done = 0
        out = io.BytesIO()
        _decompress(compressed, out, INDEX_LIMIT)
        return parse_files(out.getvalue(), layer), out.getvalue()

    def _patched(self, patch: Patch, base: bytes) -> bytes | None:
        """The result of `patch`, verified; None where it cannot be had this way."""
        try:
            if hashlib.sha256(base).hexdigest() != patch.base:
                raise NotTrusted("what it starts from has changed on this disk")
            compressed = self._fetch(patch, "patch")
            out = io.BytesIO()
            _decompress(compressed, out, patch.to_size, base)
            compressed.unlink()
            if hashlib.sha256(out.getbuffer()).hexdigest() != patch.to:
                raise NotTrusted("its result is not what was signed")
            return out.getvalue()
        except Cancelled:
            raise
        except (AgentError, zstd.ZstdError):
            self.account.fell_back += 1
            return None

    # ---- archives ----------------------------------------

    def _build_archive(self, layer: Layer, job: _Job) -> None:
        made = self._patched(job.patch, tar_of(self._paths.layers / job.patch.base)) if job.patch else None
        if made is not None:
            unpack(self._paths.layers, layer, io.BytesIO(made))
            return
        compressed = self._fetch(layer, "archive")
        with zstd.open(compressed, "rb") as stream:
            unpack(self._paths.layers, layer, cast(BinaryIO, stream))
        compressed.unlink()

    # ---- files ----------------------------------------

    def _unfinished(self, layer: Layer) -> Path:
        return self._paths.layers / f"{install.UNFINISHED}{layer.content_sha256}"

    def _build_files(self, layer: Layer, index: tuple[Files, bytes], jobs: dict[FileEntry | None, _Job]) -> None:
        building = self._unfinished(layer)
        files, raw = index
        for entry in files.entries:
            if self._transport.cancelled.is_set():
                raise Cancelled("something newer is wanted")
            final = building / entry.path
            final.parent.mkdir(parents=True, exist_ok=True)
            if not (self._is_whole(final, entry) or self._linked(final, entry)):
                self._make_file(final, entry, jobs.get(entry) or _Job(layer, entry, None, entry.object))
        (building / INDEX).write_bytes(raw)
        sync_filesystem(building)
        building.rename(self._paths.layers / layer.content_sha256)
        sync_folder(self._paths.layers)

    def _is_whole(self, path: Path, entry: FileEntry) -> bool:
        return path.is_file() and path.stat().st_size == entry.size and download.sha256_file(path) == entry.sha256

    def _linked(self, final: Path, entry: FileEntry) -> bool:
        """Link the file from a layer that is here, if it is unharmed."""
        here = self._files_here.get(entry.sha256)
        if here is None or not here.exists() or here.stat().st_mode & 0o777 != entry.mode:
            return False
        final.unlink(missing_ok=True)
        os.link(here, final)
        if self._is_whole(final, entry):
            self.account.linked += 1
            return True
        final.unlink()
        return False

    def _make_file(self, final: Path, entry: FileEntry, job: _Job) -> None:
        final.unlink(missing_ok=True)  # never write into a file that another layer shares
        made = self._patched(job.patch, self._files_here[job.patch.base].read_bytes()) if job.patch else None
        if made is not None:
            final.write_bytes(made)
        else:
            compressed = self._fetch(entry.object, "file")
            with final.open("wb") as out:
                try:
                    digest = _decompress(compressed, out, entry.size)
                except zstd.ZstdError as exc:
                    raise BadRelease(f"{entry.path} is not a usable object: {exc}") from exc
            compressed.unlink()
            if digest != entry.sha256:
                raise NotTrusted(f"{entry.path}: its content is not what was signed")
        final.chmod(entry.mode)


def tar_of(folder: Path) -> bytes:
    """The tar that an unpacked archive layer came from, byte for byte where nothing was changed.

    The archive's form is the maker's (`plugins/module_utils/layer_archive.py`): sorted names, owner 0, times 0.
    """
    out = io.BytesIO()
    found = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, path in found:
            entry = tarfile.TarInfo(name)
            status = path.stat()
            entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
            with path.open("rb") as source:
                tar.addfile(entry, source)
    return out.getvalue()


def unpack(layers: Path, layer: Layer, stream: BinaryIO) -> None:
    """Unpack the tar in `stream` as `layer`, whole or not at all.

    Raises:
        BadRelease, NotTrusted: not a tar, larger than was signed, or with another hash.
    """
    building = layers / f"{install.UNFINISHED}{layer.content_sha256}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    hashing = _Hashing(stream, layer.unpacked)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, hashing), mode="r|") as tar:
            _extract(tar, building)
        hashing.drain()
    except (tarfile.TarError, zstd.ZstdError, EOFError, FileExistsError, NotADirectoryError) as exc:
        raise BadRelease(f"layer {layer.name} is not a usable archive: {exc}") from exc
    if hashing.hexdigest() != layer.content_sha256:
        raise NotTrusted(f"layer {layer.name}: its content is not what was signed")
    sync_filesystem(building)
    building.rename(layers / layer.content_sha256)
    sync_folder(layers)


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Write the files of `tar` below `folder`. Its hash is known only at its end, so nothing in it is believed yet.

    Stricter than tarfile's own `data` filter, which Python before 3.11.4 lacks: a layer has regular files and no more.
    """
    for member in tar:
        path = PurePosixPath(member.name)
        source = tar.extractfile(member) if member.isreg() else None
        if source is None or path.is_absolute() or ".." in path.parts or not path.parts:
            raise BadRelease(f"{member.name!r} in the archive is no file that belongs into a layer")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("xb") as out:
            shutil.copyfileobj(source, out, CHUNK)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _decompress(compressed: Path, out: BinaryIO, limit: int, base: bytes | None = None) -> str:
    """Decompress into `out`, at most `limit` bytes; the SHA-256 of what came."""
    dictionary = zstd.ZstdDict(base, is_raw=True).as_prefix if base else None
    decompressor = zstd.ZstdDecompressor(zstd_dict=dictionary)
    digest, left = hashlib.sha256(), limit
    with compressed.open("rb") as source:
        while not decompressor.eof:
            data = source.read(CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise zstd.ZstdError("it ends in the middle")
            made = decompressor.decompress(data, max_length=CHUNK)
            left -= len(made)
            if left < 0:
                raise BadRelease("an object unpacks to more than was signed")
            digest.update(made)
            out.write(made)
    return digest.hexdigest()


def _entries_of(index: Path) -> tuple[FileEntry, ...]:
    try:
        return read_entries(index.read_bytes())
    except (OSError, KeyError, TypeError, ValueError):
        return ()


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
