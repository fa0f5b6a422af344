# SPDX-License-Identifier: Apache-2.0
"""The part of Azure Storage's blob service that azure-storage-blob needs to upload a file and to read it back.

https://learn.microsoft.com/rest/api/storageservices/put-blob , put-block, put-block-list, get-blob. The right is in the
address (core/blobs.py).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

from aiohttp import web

from ..core.blobs import CONTAINER
from ..core.errors import ArgumentInvalid, HubError, MessageTooLarge, Unauthorized
from ..hub.files import MAX_BLOB
from ..hub.hub import Hub

PREFIX = f"/{CONTAINER}/"
_CHUNK = 256 * 1024
_CHUNK_TIMEOUT = 30.0
_MAX_LIST = 8 * 1024 * 1024
_VERSION = "2023-11-03"
_CODES = {401: "AuthenticationFailed", 404: "BlobNotFound", 409: "BlockCountExceedsLimit", 413: "RequestBodyTooLarge"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def blob_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/uploads/{blob}."""

    async def put(request: web.Request) -> web.StreamResponse:
        blob = request.match_info["blob"]
        hub.files.verify(blob, request.query)
        if (request.content_length or 0) > MAX_BLOB:
            raise MessageTooLarge(f"a blob holds {MAX_BLOB} bytes at most")
        match request.query.get("comp"):
            case None if request.headers.get("x-ms-blob-type", "BlockBlob") == "BlockBlob":
                return _created(await hub.files.put(blob, _chunks(request)))
            case "block":
                await hub.files.put_block(blob, request.query.get("blockid", ""), _chunks(request))
                return _created(None)
            case "blocklist":
                blocks = _block_list(b"".join([chunk async for chunk in _chunks(request, _MAX_LIST)]))
                return _created(await hub.files.commit(blob, blocks))
        raise ArgumentInvalid("only block blobs are offered")

    async def get(request: web.Request) -> web.StreamResponse:
        blob = request.match_info["blob"]
        hub.files.verify(blob, request.query)
        path = hub.files.find(blob)
        if path is None:
            raise web.HTTPNotFound
        return await _send(request, path)

    return web.put(PREFIX + "{blob:.+}", _guarded(put)), web.get(PREFIX + "{blob:.+}", _guarded(get))


async def _send(request: web.Request, path: Path) -> web.StreamResponse:
    """The blob or the part of it that the request names: azure-storage-blob has a header of its own for that."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        first, last = _range(request, stat.st_size)
        answer = web.StreamResponse(
            status=200 if first is None else 206,
            headers={
                "x-ms-blob-type": "BlockBlob",
                "x-ms-version": _VERSION,
                "ETag": f'"0x{stat.st_mtime_ns:X}"',
                "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            },
        )
        if first is not None:
            answer.headers["Content-Range"] = f"bytes {first}-{last}/{stat.st_size}"
        left = last + 1 - (first or 0)
        answer.content_length = left
        await answer.prepare(request)
        file.seek(first or 0)
        while left > 0 and request.method != "HEAD" and (data := file.read(min(left, _CHUNK))):
            left -= len(data)
            async with asyncio.timeout(_CHUNK_TIMEOUT):
                await answer.write(data)
    return answer


def _range(request: web.Request, size: int) -> tuple[int | None, int]:
    """First byte (None for all) and last byte."""
    text = request.headers.get("x-ms-range") or request.headers.get("Range")
    if text is None:
        return None, size - 1
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", text)
    if match is None or int(match[1]) >= size:
        raise _RangeNotSatisfiable
    last = int(match[2]) if match[2] else size - 1
    if last < int(match[1]):
        raise _RangeNotSatisfiable
    return int(match[1]), min(last, size - 1)


class _RangeNotSatisfiable(Exception):
    pass


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except HubError as error:
            status = 403 if isinstance(error, Unauthorized) else error.status
            return _error(status, _CODES.get(error.status, "InvalidInput"), str(error))
        except _RangeNotSatisfiable:
            return _error(416, "InvalidRange", "the range is not in the blob")
        except TimeoutError:
            return _error(500, "OperationTimedOut", "nothing came for too long")
        except web.HTTPNotFound:
            return _error(404, "BlobNotFound", "the blob does not exist")

    return guarded


async def _chunks(request: web.Request, limit: int = MAX_BLOB) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(_CHUNK_TIMEOUT):
            chunk = await request.content.read(_CHUNK)
        if not chunk:
            return
        limit -= len(chunk)
        if limit < 0:
            raise MessageTooLarge("the request is too large")
        yield chunk


def _block_list(text: bytes) -> list[str]:
    """Names of blocks in order. Documents with a DOCTYPE are refused: none of the dangers of XML comes without one."""
    if b"<!" in text:
        raise ArgumentInvalid("the block list has declarations")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - see above
    except ElementTree.ParseError as error:
        raise ArgumentInvalid(f"the block list is not XML: {error}") from None
    if any(item.tag not in ("Latest", "Uncommitted", "Committed") for item in root):
        raise ArgumentInvalid("the block list has elements that do not exist")
    return [item.text or "" for item in root]


def _created(etag: str | None) -> web.Response:
    headers = {
        "x-ms-request-id": secrets.token_hex(16),
        "x-ms-version": _VERSION,
        "Last-Modified": formatdate(usegmt=True),
    }
    if etag is not None:
        headers["ETag"] = etag
    return web.Response(status=201, headers=headers)


def _error(status: int, code: str, text: str) -> web.Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>'
    headers = {"x-ms-error-code": code, "x-ms-version": _VERSION}
    return web.Response(status=status, text=body, content_type="application/xml", headers=headers)
