# SPDX-License-Identifier: Apache-2.0
"""What goes home, and its form: usage as CloudEvents (counts only), crashes as Sentry envelopes.

Formats: CloudEvents 1.0 JSON; Sentry envelope, one `event` item (develop.sentry.dev, "Envelopes" and "Event Payloads").
Nothing is made unless the owner consented.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .spool import Item

USAGE_TYPE = "fleet.usage.v1"
ENVELOPE = "application/x-sentry-envelope"
CLOUDEVENT = "application/cloudevents+json"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$')
_LAST = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<value>.*))?$")
_NAMESPACE = uuid.UUID("5f0e3a3c-6d5c-5b61-9d3e-2a8f4c1d7e90")
_BUTTON = re.compile(r"^[a-z_]{1,32}$")


class Usage:
    """Counts of one period under one release; at most 32 names, so that a mad app cannot fill the memory."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.presses: Counter[str] = Counter()

    def press(self, button: str) -> None:
        if _BUTTON.match(button) and (button in self.presses or len(self.presses) < 32):
            self.presses[button] += 1

    def restore(self, presses: Mapping[str, int]) -> None:
        self.presses.update({key: int(value) for key, value in presses.items()})


def usage_item(device_id: str, ring: str, release: Mapping[str, str], usage: Usage, now: float) -> Item:
    """One CloudEvent: presses by button between `usage.started` and `now`."""
    event_id = str(uuid.uuid5(_NAMESPACE, f"{device_id} {usage.started!r}"))
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/devices/{device_id}",
        "type": USAGE_TYPE,
        "time": _iso(now),
        "datacontenttype": "application/json",
        "data": {
            "release": release["id"],
            "version": release["version"],
            "ring": ring,
            "from": _iso(usage.started),
            "to": _iso(now),
            "presses": dict(sorted(usage.presses.items())),
        },
    }
    return Item(event_id, "usage", CLOUDEVENT, _compact(event))


def crash_item(device_id: str, ring: str, record: Mapping[str, Any]) -> Item:
    """One Sentry envelope from a launcher's crash record; the same record always gives the same event id."""
    event_id = uuid.uuid5(_NAMESPACE, f"{device_id} {record.get('at')!r} {record.get('release')}").hex
    kind, value, frames = _exception(str(record.get("stderr", "")), record)
    event = {
        "event_id": event_id,
        "timestamp": _iso(float(record.get("at", 0))),
        "platform": "python",
        "level": "fatal",
        "release": f"fridge@{record.get('version')}",
        "environment": ring,
        "server_name": device_id,
        "user": {"id": device_id},
        "tags": {"release_id": record.get("release"), "signal": record.get("signal")},
        "contexts": {"app": {"uptime_s": record.get("uptime_s"), "exit_code": record.get("exit_code")}},
        "exception": {"values": [{"type": kind, "value": value, "stacktrace": {"frames": frames}}]},
    }
    payload = _compact(event)
    header = _compact({"event_id": event_id, "sent_at": event["timestamp"]})
    item = _compact({"type": "event", "length": len(payload), "content_type": "application/json"})
    return Item(event_id, "crash", ENVELOPE, b"\n".join((header, item, payload, b"")))


def _exception(stderr: str, record: Mapping[str, Any]) -> tuple[str, str, list[dict[str, Any]]]:
    """Type, value and frames (oldest first) from the traceback at the end of stderr."""
    _, found, traceback = stderr.rpartition("Traceback (most recent call last):")
    frames: list[dict[str, Any]] = []
    kind, value = "Crash", f"ended by signal {record['signal']}" if record.get("signal") else "ended by itself"
    if not found:
        return (str(record["signal"]) if record.get("signal") else kind), value, frames
    for line in traceback.splitlines():
        if frame := _FRAME.match(line):
            frames.append(
                {"filename": _inside(frame["file"]), "lineno": int(frame["line"]), "function": frame["function"]}
            )
        elif (last := _LAST.match(line)) and not line.startswith(" "):
            kind, value = last["type"], last["value"] or ""
    return kind, value[:300], frames[-30:]


def _inside(path: str) -> str:
    """The path below the layer, so that no device's folder names leave it and equal crashes look equal."""
    return re.sub(r"^.*/(?:app|runtime|layers/[0-9a-f]{64})/", "", path)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
