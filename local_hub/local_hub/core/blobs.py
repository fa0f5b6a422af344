# SPDX-License-Identifier: Apache-2.0
"""File upload: who may write which blob until when, and the names of blobs.

https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-file-upload . The token looks like Azure Storage's (sv, sr,
sig, se, sp), but is signed with a key of the hub, since the hub is the storage too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from .errors import ArgumentInvalid, Unauthorized
from .timestamps import iso

CONTAINER = "uploads"
TOKEN_SECONDS = 3600.0
MAX_PENDING = 10
_MAX_NAME = 1024
_MAX_FILE_NAME = 200
_VERSION = "2018-03-28"


def blob_name(device_id: str, name: object) -> str:
    """The blob that a device's file becomes: `deviceId/name`.

    Raises:
        ArgumentInvalid: no blob can be called so.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or re.search(r"[\x00-\x1f\x7f]", name):
        raise ArgumentInvalid(f"blobName is a text of 1 to {_MAX_NAME} characters")
    if any(part in (".", "..") for part in name.split("/")):  # clients shorten such paths; empty parts they leave
        raise ArgumentInvalid("no part of blobName consists of dots")
    return f"{device_id}/{name}"


def file_name(blob: str) -> str:
    """One name of a file for one blob, that no blob's name can lead out of its folder."""
    encoded = quote(blob, safe="")
    encoded = f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded
    if len(encoded) <= _MAX_FILE_NAME:
        return encoded
    return f"{encoded[:100]}~{hashlib.sha256(blob.encode()).hexdigest()[:32]}"


def make_token(key: bytes, blob: str, now: float) -> str:
    """The query with which a blob may be written and read."""
    expiry = iso(now + TOKEN_SECONDS)
    fields = {"sv": _VERSION, "sr": "b", "sig": _signature(key, blob, expiry, "rw"), "se": expiry, "sp": "rw"}
    return "?" + urlencode(fields)


def verify_token(key: bytes, blob: str, query: Mapping[str, str], now: float) -> None:
    """Check such a query.

    Raises:
        Unauthorized: it is not for this blob, or too late.
    """
    expiry, given = query.get("se", ""), query.get("sig", "")
    expected = _signature(key, blob, expiry, query.get("sp", ""))
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Unauthorized("the signature of the blob's address does not match")
    if expiry <= iso(now):  # both in the same form, so that the order of texts is that of times
        raise Unauthorized("the blob's address has expired")


def _signature(key: bytes, blob: str, expiry: str, permissions: str) -> str:
    text = "\n".join((permissions, expiry, f"/blob/{CONTAINER}/{blob}"))
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
