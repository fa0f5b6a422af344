# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices as hosts of an inventory: what a host knows of itself, and where it is reached."""

from __future__ import annotations

import hashlib
import json
import typing as t

from .iothub_engine import Hub
from .iothub_errors import HubError
from .iothub_identities import shown
from .iothub_patch import Document, without_system
from .iothub_twins import desired_of, matching, tags_of

Variables = dict[str, t.Any]
_PLACES = ("tags.", "properties.reported.")


def fingerprint(netloc: str, choice: t.Mapping[str, str | None]) -> str:
    """Return what tells apart, in a cache, the hosts of one hub and choice from those of another."""
    return hashlib.sha256(json.dumps([netloc, dict(choice)], sort_keys=True).encode()).hexdigest()[:12]


def hosts(
    hub: Hub, query: str | None = None, target_condition: str = "*", address: str | None = None
) -> dict[str, Variables]:
    """Return the variables of each device that the query, or else the condition, finds, by id."""
    if address is not None and not address.startswith(_PLACES):
        raise HubError(f"address is '{address}'; it begins with {' or '.join(_PLACES)}")
    rows = matching(hub, target_condition) if query is None else hub.query(query)
    return {_name(row): variables(row, address) for row in rows}


def variables(twin: Document, address: str | None) -> Variables:
    """Return the variables of a device from its twin; nothing in a twin is a key."""
    identity = shown(twin)
    result: Variables = {
        "iothub_id": twin["deviceId"],
        **{f"iothub_{name}": identity[name] for name in ("status", "connection_state", "last_activity_time")},
        "iothub_tags": tags_of(twin),
        "iothub_desired": desired_of(twin),
        "iothub_reported": without_system((twin.get("properties") or {}).get("reported") or {}),
    }
    where = _at(twin, address) if address else None
    if isinstance(where, str) and where:
        result["ansible_host"] = where
    return result


def _name(row: Document) -> str:
    name = row.get("deviceId")
    if not isinstance(name, str):
        raise HubError("query gives rows without deviceId; begin it with SELECT * FROM devices")
    return name


def _at(document: t.Any, path: str) -> t.Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document
