# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the twins of a ring say about a release, and the verdict that follows: pure functions of hub data.

The verdict is worked out from the hub each time, never from a file of the CI machine, so any machine comes to the
same one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

BAD = frozenset({"failed", "rolled_back", "refused"})
DONE = frozenset({"succeeded"})
# a device in one of these may be off the line because it changes its own agent; in the others it was switched off
UNDER_WAY = frozenset({"downloading", "verified", "installing", "probation"})
# an owner, or a window of the night, may take days: no release run waits for them
SLOW = frozenset({"consent", "window"})


@dataclass(frozen=True)
class Gate:
    """When a ring's release may go on. `success_share` of all devices, 0..1; `failures_max` devices."""

    success_share: float = 1.0
    failures_max: int = 0


def release_of(configurations: list[dict[str, Any]], ring: str, wanted: str | None) -> dict[str, Any] | None:
    """The release that `ring` has been offered last (or the one with id `wanted`), from the hub's configurations.

    A release's configuration carries it in its labels; of several, the highest priority is the one in force.
    """
    mine = [found for found in configurations if (found.get("labels") or {}).get("ring") == ring]
    if wanted:
        mine = [found for found in mine if found["labels"].get("release") == wanted]
    if not mine:
        return None
    best = max(mine, key=lambda found: (found.get("priority", 0), found.get("createdTimeUtc") or ""))
    labels = best["labels"]
    return {
        "id": labels.get("release", ""),
        "version": labels.get("version", ""),
        "commit": labels.get("commit", ""),
        "manifest": labels.get("manifest", ""),
        "configuration": best["id"],
        "announced_at": _seconds(best.get("createdTimeUtc")),
    }


def device(twin: dict[str, Any], release: dict[str, Any]) -> dict[str, Any]:
    """One device's row of the report, from its twin as the hub's query returns it."""
    update = _update(twin)
    mine = update.get("release") == release["id"]
    state = str(update.get("state", "unknown")) if mine else "pending"
    changed = _iso(update.get("changed_at")) if mine else None
    return {
        "id": twin["deviceId"],
        "state": state,
        "connected": twin.get("connectionState") == "Connected",
        "from": update.get("previous") if mine else update.get("version"),
        "to": release["version"],
        "progress": update.get("progress", 0) if mine else 0,
        "waiting_for": update.get("waiting_for") if mine else None,
        "attempts": update.get("attempts", 0) if mine else 0,
        "blind_s": update.get("blind_s") if mine else None,
        "announced_at": release["announced_at"],
        "changed_at": changed,
        "succeeded_at": changed if state in DONE else None,
        "error": update.get("error") if mine else None,
    }


def verdict(devices: list[dict[str, Any]], gate: Gate) -> tuple[str, str]:
    """`go`, `wait` or `stop`, and why in one sentence."""
    if not devices:
        return "wait", "the ring has no devices"
    counts = Counter(row["state"] for row in devices)
    bad = [row["id"] for row in devices if row["state"] in BAD]
    if len(bad) > gate.failures_max:
        return "stop", f"{len(bad)} of {len(devices)} devices did not keep the release: {', '.join(bad[:5])}"
    succeeded = sum(counts[state] for state in DONE)
    share = succeeded / len(devices)
    told = f"{succeeded} of {len(devices)} devices run the release"
    if share >= gate.success_share:
        return "go", told
    return "wait", f"{told}, {gate.success_share:.0%} are needed"


class Watch:
    """Says for whom a release run still waits, look by look.

    `patience`: seconds for which a device that dropped off the line while under way is still waited for, from the last
    look that showed something new of it. The watch uses its own clock alone: a device's may be wrong.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self.patience = patience
        self._seen: dict[str, tuple[dict[str, Any], float]] = {}

    def unfinished(self, devices: list[dict[str, Any]], now: float) -> list[str]:
        """Ids of the devices worth waiting for; `now` in monotonic seconds."""
        return [row["id"] for row in devices if self._worth(row, now)]

    def _worth(self, row: dict[str, Any], now: float) -> bool:
        seen = self._seen.get(row["id"])
        if seen is None or seen[0] != row:
            seen = self._seen[row["id"]] = row, now
        if row["state"] in BAD | DONE or row["waiting_for"] in SLOW:
            return False
        return bool(row["connected"]) or (row["state"] in UNDER_WAY and now - seen[1] < self.patience)


def _update(twin: dict[str, Any]) -> dict[str, Any]:
    found: Any = twin.get("properties", {}).get("reported", {})
    for key in ("fridge", "update"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _seconds(text: Any) -> str | None:
    """The hub's time without its fractions, which differ between hubs."""
    return f"{text[:19]}Z" if isinstance(text, str) and len(text) >= 19 else None


def _iso(seconds: Any) -> str | None:
    if not isinstance(seconds, (int, float)):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
