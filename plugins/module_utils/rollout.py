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


def unfinished(devices: list[dict[str, Any]]) -> list[str]:
    """Devices that are connected and still on their way: those worth waiting for."""
    return [row["id"] for row in devices if row["connected"] and row["state"] not in BAD | DONE]


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
