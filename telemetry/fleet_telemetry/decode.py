# SPDX-License-Identifier: Apache-2.0
"""From a device's message to records: CloudEvents (usage) and Sentry envelopes (crashes). Pure, and distrustful.

Formats: CloudEvents 1.0 JSON format; develop.sentry.dev, "Envelopes". The device id is the hub's word
(annotation iothub-connection-device-id), never the message's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

USAGE_TYPE = "fleet.usage.v1"
_TEXT_LIMIT = 300
_BUTTONS_LIMIT = 64


class Undecodable(ValueError):
    """The message is not of a form that the collector knows; the text says what was wrong."""


@dataclass(frozen=True)
class UsageRecord:
    """Button presses of one device in one period under one release."""

    id: str
    device: str
    release: str
    version: str
    ring: str
    started: str
    ended: str
    presses: dict[str, int]


@dataclass(frozen=True)
class CrashRecord:
    """One crash. `culprit` is the innermost frame of the app, the key that equal crashes share with `kind`."""

    id: str
    device: str
    release: str
    version: str
    ring: str
    at: str
    kind: str
    value: str
    culprit: str
    envelope: bytes


Record = UsageRecord | CrashRecord


def decode(device: str, body: bytes) -> Record:
    """The record in a telemetry message.

    Raises:
        Undecodable: neither a usage CloudEvent nor a Sentry envelope with an event.
    """
    try:
        head, _, rest = body.partition(b"\n")
        first = json.loads(head)
        if isinstance(first, dict) and first.get("specversion") == "1.0":
            return _usage(device, first)
        return _crash(device, body, rest)
    except Undecodable:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as exc:
        raise Undecodable(f"neither CloudEvent nor Sentry envelope: {type(exc).__name__}: {exc}") from exc


def _usage(device: str, event: dict[str, Any]) -> UsageRecord:
    if event["type"] != USAGE_TYPE:
        raise Undecodable(f"unknown CloudEvent type {event['type']!r}")
    data = event["data"]
    presses = {_text(key): _count(value) for key, value in list(data["presses"].items())[:_BUTTONS_LIMIT]}
    return UsageRecord(
        id=_text(event["id"]),
        device=device,
        release=_text(data["release"]),
        version=_text(data["version"]),
        ring=_text(data["ring"]),
        started=_time(data["from"]),
        ended=_time(data["to"]),
        presses=presses,
    )


def _crash(device: str, body: bytes, items: bytes) -> CrashRecord:
    event = _event(items)
    problem = event["exception"]["values"][-1]
    frames = (problem.get("stacktrace") or {}).get("frames") or []
    last = frames[-1] if frames else {}
    culprit = f"{last.get('filename', '?')}:{last.get('function', '?')}" if last else ""
    return CrashRecord(
        id=_text(event["event_id"]),
        device=device,
        release=_text((event.get("tags") or {}).get("release_id") or event["release"]),
        version=_text(event["release"]).partition("@")[2],
        ring=_text(event["environment"]),
        at=_time(event["timestamp"]),
        kind=_text(problem["type"]),
        value=_text(problem.get("value") or "", empty=True),
        culprit=_text(culprit, empty=True),
        envelope=body,
    )


def _event(items: bytes) -> dict[str, Any]:
    """The payload of the envelope's first `event` item."""
    while items:
        head, _, rest = items.partition(b"\n")
        header = json.loads(head)
        length = header.get("length")
        payload, items = _split(rest, length if isinstance(length, int) else None)
        if header.get("type") == "event":
            event = json.loads(payload)
            if isinstance(event, dict):
                return event
    raise Undecodable("the envelope holds no event")


def _split(rest: bytes, length: int | None) -> tuple[bytes, bytes]:
    if length is None:
        payload, _, after = rest.partition(b"\n")
        return payload, after
    if not 0 <= length <= len(rest):
        raise Undecodable(f"an item claims {length} bytes, {len(rest)} are left")
    return rest[:length], rest[length + 1 :]


def _text(value: Any, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise Undecodable(f"expected a text, not {value!r:.60}")
    return value[:_TEXT_LIMIT]


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise Undecodable(f"expected a count, not {value!r:.60}")
    return value


def _time(value: Any) -> str:
    datetime.fromisoformat(_text(value))
    return str(value)
