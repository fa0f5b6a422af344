# SPDX-License-Identifier: Apache-2.0
"""Files that devices upload: begun, written into a folder, ended, and told to services.

https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-file-upload . A blob lies under its name in DATA/blobs; what
is not committed yet lies in DATA/blobs/.staged and is forgotten at the next start, or when no block was added for an
hour (Azure Storage waits for a week); there is room for so many blocks and bytes of it, of all devices together.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..core.blobs import CONTAINER, MAX_PENDING, TOKEN_SECONDS, blob_name, file_name, make_token, verify_token
from ..core.errors import ArgumentInvalid, BlockCountExceedsLimit, MessageTooLarge, TooManyUploads
from ..core.timestamps import iso
from ..core.twin import JsonObject
from ..durable_files import sync_folder
from .device import Device
from .notices import Notices
from .registry import Clock

MAX_BLOB = 1024**3
MAX_BLOCKS = 50_000
MAX_STAGED = 8 * 1024**3
MAX_STAGED_BLOCKS = 100_000
STAGED_SECONDS = 3600.0
_SWEEP_EVERY = 60.0


@dataclass
class _Upload:
    blob: str
    host: str
    until: float


@dataclass
class _Staged:
    """The blocks of a blob that are not committed: their sizes by name, and when the last one came."""

    touched: float
    sizes: dict[str, int] = field(default_factory=dict)
    total: int = 0


class Files:
    """Uploads on their way, and blobs."""

    def __init__(self, folder: Path, secret: bytes, notices: Notices, clock: Clock) -> None:
        self._folder = folder
        self._staged = folder / ".staged"
        self._key = hmac.digest(secret, b"blobs", "sha256")
        self._notices = notices
        self._clock = clock
        self._uploads: dict[str, dict[str, _Upload]] = {}
        self._blobs: dict[str, _Staged] = {}
        self._blocks_staged = 0
        self._bytes_staged = 0
        self._bytes_arriving = 0
        shutil.rmtree(self._staged, ignore_errors=True)

    def begin(self, device: Device, name: object, host: str) -> JsonObject:
        """REST POST /devices/{id}/files: where to put the file, and by which right.

        Raises:
            ArgumentInvalid: no blob can be called so.
            TooManyUploads: ten have begun and not ended.
        """
        blob = blob_name(device.id, name)
        now = self._clock()
        mine = {key: each for key, each in self._uploads.get(device.id, {}).items() if each.until > now}
        if len(mine) >= MAX_PENDING:
            raise TooManyUploads(f"a device uploads {MAX_PENDING} files at a time at most")
        correlation = secrets.token_hex(16)
        self._uploads[device.id] = {**mine, correlation: _Upload(blob, host, now + TOKEN_SECONDS)}
        return {
            "correlationId": correlation,
            "hostName": host,
            "containerName": CONTAINER,
            "blobName": blob,
            "sasToken": make_token(self._key, blob, now),
        }

    async def end(self, device: Device, body: JsonObject) -> None:
        """REST POST /devices/{id}/files/notifications: it worked, or it did not.

        Raises:
            ArgumentInvalid: no such upload has begun, or it took too long.
        """
        correlation, success = body.get("correlationId"), body.get("isSuccess")
        if not isinstance(correlation, str) or not isinstance(success, bool):
            raise ArgumentInvalid("a notification has a correlationId and isSuccess")
        upload = self._uploads.get(device.id, {}).pop(correlation, None)
        if upload is None or upload.until <= self._clock():
            raise ArgumentInvalid("no upload with this correlationId has begun")
        path = self._path(upload.blob)
        if success and path.exists():
            stat = path.stat()
            await self._notices.publish(
                {
                    "deviceId": device.id,
                    "blobUri": f"https://{upload.host}/{CONTAINER}/{upload.blob}",
                    "blobName": upload.blob,
                    "lastUpdatedTime": iso(stat.st_mtime),
                    "blobSizeInBytes": stat.st_size,
                    "enqueuedTimeUtc": iso(self._clock()),
                }
            )

    def verify(self, blob: str, query: Mapping[str, str]) -> None:
        """Whether an address gives the right to a blob.

        Raises:
            Unauthorized: it does not.
        """
        verify_token(self._key, blob, query, self._clock())

    def find(self, blob: str) -> Path | None:
        """The file of a blob, if it is there."""
        path = self._path(blob)
        return path if path.is_file() else None

    async def put(self, blob: str, chunks: AsyncIterable[bytes]) -> str:
        """Write a whole blob; it is there when all of it is. The answer is its ETag.

        Raises:
            MessageTooLarge: more than 1 GiB.
        """
        with self._new_file() as file:
            await self._receive(file, chunks, MAX_BLOB)
            return await asyncio.to_thread(_finish, file, self._path(blob))

    async def put_block(self, blob: str, block: str, chunks: AsyncIterable[bytes]) -> None:
        """Keep a part of a blob until `commit` names it.

        Raises:
            MessageTooLarge: more than 1 GiB for the blob, or 8 GiB for all blobs.
            BlockCountExceedsLimit: more than 50,000 parts, or 100,000 of all blobs.
        """
        name = file_name(block)
        room = self._room(blob, name)
        with self._new_file() as file:
            size = await self._receive(file, chunks, room)
            if size > self._room(blob, name):  # meanwhile another request added to the blob
                raise MessageTooLarge(f"a blob holds {MAX_BLOB} bytes at most")
            folder = self._blocks(blob)
            folder.mkdir(parents=True, exist_ok=True)
            _move(file, folder / name)
            self._add(blob, name, size)

    async def commit(self, blob: str, blocks: list[str]) -> str:
        """Make a blob of its parts, in this order. The answer is its ETag.

        Raises:
            ArgumentInvalid: a part is missing.
            MessageTooLarge: parts named more than once add up to more than 1 GiB.
        """
        etag = await asyncio.to_thread(self._join, blob, blocks)
        await self._discard(blob)
        return etag

    async def work(self) -> None:
        """Forget blocks that nobody committed, once a minute, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            await self.sweep()

    async def sweep(self) -> None:
        """Forget the blocks of blobs to which none was added for an hour: by then the right to write has ended."""
        oldest = self._clock() - STAGED_SECONDS
        for blob in [blob for blob, staged in self._blobs.items() if staged.touched < oldest]:
            await self._discard(blob)

    def _join(self, blob: str, blocks: list[str]) -> str:
        folder = self._blocks(blob)
        parts = [folder / file_name(block) for block in blocks]
        if not all(part.is_file() for part in parts):
            raise ArgumentInvalid("the block list names a block that was not put")
        if len(parts) > MAX_BLOCKS or sum(part.stat().st_size for part in parts) > MAX_BLOB:
            raise MessageTooLarge(f"a blob holds {MAX_BLOB} bytes at most")
        with self._new_file() as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
            return _finish(file, self._path(blob))

    def _room(self, blob: str, name: str) -> int:
        """How large a block may be.

        Raises:
            BlockCountExceedsLimit: there may be no such block.
        """
        staged = self._blobs.get(blob, _Staged(0.0))
        if name not in staged.sizes and (len(staged.sizes) >= MAX_BLOCKS or self._blocks_staged >= MAX_STAGED_BLOCKS):
            raise BlockCountExceedsLimit("there are too many blocks that are not committed")
        return MAX_BLOB - staged.total + staged.sizes.get(name, 0)

    def _add(self, blob: str, name: str, size: int) -> None:
        staged = self._blobs.setdefault(blob, _Staged(0.0))
        grown = size - staged.sizes.get(name, 0)
        self._blocks_staged += name not in staged.sizes
        self._bytes_staged += grown
        staged.total += grown
        staged.sizes[name] = size
        staged.touched = self._clock()

    async def _receive(self, file: IO[bytes], chunks: AsyncIterable[bytes], limit: int) -> int:
        """Write what comes, as long as there is room for it; the answer is its size."""
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                self._bytes_arriving += len(chunk)
                if size > limit:
                    raise MessageTooLarge(f"a blob holds {MAX_BLOB} bytes at most")
                if self._bytes_staged + self._bytes_arriving > MAX_STAGED:
                    raise MessageTooLarge(f"all that is not committed holds {MAX_STAGED} bytes at most")
                file.write(chunk)
            file.flush()
        finally:
            self._bytes_arriving -= size
        return size

    async def _discard(self, blob: str) -> None:
        """Forget the blocks of a blob: at once as far as others see, and then from the disk."""
        staged = self._blobs.pop(blob, _Staged(0.0))
        self._blocks_staged -= len(staged.sizes)
        self._bytes_staged -= staged.total
        folder, rubbish = self._blocks(blob), self._staged / f"{secrets.token_hex(8)}.rubbish"
        with contextlib.suppress(OSError):  # the next start clears what is left
            folder.rename(rubbish)
            await asyncio.to_thread(shutil.rmtree, rubbish, ignore_errors=True)

    def _path(self, blob: str) -> Path:
        return self._folder / file_name(blob)

    def _blocks(self, blob: str) -> Path:
        return self._staged / hashlib.sha256(blob.encode()).hexdigest()

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[IO[bytes]]:
        if not self._folder.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder.parent)
        self._staged.mkdir(exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._staged, delete=False) as file:
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)


def _move(file: IO[bytes], path: Path) -> None:
    Path(file.name).replace(path)


def _finish(file: IO[bytes], path: Path) -> str:
    file.flush()
    os.fsync(file.fileno())
    _move(file, path)
    sync_folder(path.parent)
    stat = path.stat()
    return f'"0x{stat.st_mtime_ns:X}"'
