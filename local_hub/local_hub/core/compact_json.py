# SPDX-License-Identifier: Apache-2.0
"""JSON without spaces, as it lies on disk and as limits count it: it is made for every change of every twin."""

from __future__ import annotations

import json
from typing import Any

import orjson


def compact(value: Any) -> str:
    """The text."""
    return _encoded(value).decode()


def compact_size(value: Any) -> int:
    """Its length in bytes of UTF-8."""
    return len(_encoded(value))


def _encoded(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # halves of surrogate pairs, integers of more than 64 bits, very deep arrays
        return json.dumps(value, separators=(",", ":")).encode()
