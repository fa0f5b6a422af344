# SPDX-License-Identifier: Apache-2.0
"""JSON without spaces, as it lies on disk, goes to devices and is counted; made for every change of a twin."""

from __future__ import annotations

import json
from typing import Any

import orjson


def compact_bytes(value: Any) -> bytes:
    """The text in UTF-8."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # halves of surrogate pairs, integers of more than 64 bits, very deep arrays
        return json.dumps(value, separators=(",", ":")).encode()


def compact(value: Any) -> str:
    """The text."""
    return compact_bytes(value).decode()


def compact_size(value: Any) -> int:
    """Its length in bytes of UTF-8."""
    return len(compact_bytes(value))
