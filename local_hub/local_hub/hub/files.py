# SPDX-License-Identifier: Apache-2.0
"""Files that devices upload: begun, written into a folder, ended, and told to services.

https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-file-upload . A blob lies under its name in DATA/blobs; what
is not committed yet lies in DATA/blobs/.staged and is forgotten at the next start.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core.blobs import CONTAINER, MAX_PENDING, TOKEN_SECONDS, blob_name, file_name, make_token, verify_token
from ..core.errors import ArgumentInvalid, MessageTooLarge, TooManyUploads
from ..core.timestamps import iso
from ..core.twin import JsonObject
from .device import Device
from .notices import Notices
from .registry import Clock

MAX_BLOB = 1024**3
MAX_BLOCKS = 50_000


@dataclass
class _Upload:
    blob: str
    host: str
    until: float


class Files:
    """Uploads on their way, and blobs."""

    def __init__(self, folder: Path, secret: bytes, notices: Notices, clock: Clock) -> None:
        self._folder = folder
        self._staged = folder / ".staged"
        self._key = hmac.digest(secret, b"blobs", "sha256")
        self._notices = notices
        self._clock = clock
        self._uploads: dict[str, dict[str, _Upload]] = {}
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
            await _write(file, chunks, MAX_BLOB)
            return await asyncio.to_thread(_finish, file, self._path(blob))

    async def put_block(self, blob: str, block: str, chunks: AsyncIterable[bytes]) -> None:
        """Keep a part of a blob until `commit` names it.

        Raises:
            MessageTooLarge: more than 1 GiB, or 50,000 parts.
        """
        folder = self._blocks(blob)
        have = {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}
        room = MAX_BLOB - sum(have.values())
        if len(have) >= MAX_BLOCKS or room <= 0:
            raise MessageTooLarge("the parts of the blob are too many or too large")
        folder.mkdir(parents=True, exist_ok=True)
        with self._new_file() as file:
            await _write(file, chunks, room)
            _move(file, folder / file_name(block))

    def commit(self, blob: str, blocks: list[str]) -> str:
        """Make a blob of its parts, in this order. The answer is its ETag.

        Raises:
            ArgumentInvalid: a part is missing.
            MessageTooLarge: parts named more than once add up to more than 1 GiB.
        """
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
            etag = _finish(file, self._path(blob))
        shutil.rmtree(folder, ignore_errors=True)
        return etag

    def _path(self, blob: str) -> Path:
        return self._folder / file_name(blob)

    def _blocks(self, blob: str) -> Path:
        return self._staged / hashlib.sha256(blob.encode()).hexdigest()

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[IO[bytes]]:
        self._staged.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._staged, delete=False) as file:
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)


async def _write(file: IO[bytes], chunks: AsyncIterable[bytes], limit: int) -> None:
    async for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            raise MessageTooLarge(f"a blob holds {MAX_BLOB} bytes at most")
        file.write(chunk)
    file.flush()


def _move(file: IO[bytes], path: Path) -> None:
    Path(file.name).replace(path)


def _finish(file: IO[bytes], path: Path) -> str:
    file.flush()
    os.fsync(file.fileno())
    _move(file, path)
    stat = path.stat()
    return f'"0x{stat.st_mtime_ns:X}"'
