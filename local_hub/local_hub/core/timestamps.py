# SPDX-License-Identifier: Apache-2.0
"""Times as the hub writes and reads them: UTC, ISO 8601, milliseconds, Z."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"


def iso(now: float) -> str:
    """Seconds since the epoch as `2026-01-31T10:20:30.123Z`."""
    second, microseconds = divmod(round(now * 1_000_000), 1_000_000)
    return f"{_to_the_second(second)}.{microseconds // 1000:03d}Z"


def round_trip(now: float) -> str:
    """The same as `2026-01-31T10:20:30.1230000Z`, which .NET calls "o" and its SDK insists on in places."""
    return f"{iso(now)[:-1]}0000Z"


@functools.lru_cache(16)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_iso(text: str) -> float:
    """The reverse; a time without a zone is UTC.

    Raises:
        ValueError: not ISO 8601.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
