# SPDX-License-Identifier: Apache-2.0
"""The hub's words to a device: desired property `fridge.release` and the wake-up message of the same form.

Nothing in them is trusted beyond "look there": `trust` decides whether what lies there is signed.
"""

from __future__ import annotations

import json
from typing import Any

from .machine import Goal

_LIMIT = 512


def from_twin(twin: dict[str, Any]) -> Goal | None:
    """The goal in a whole twin (`{"desired": ...}`), or None where there is none or it makes no sense."""
    return from_desired(twin.get("desired", {}))


def from_desired(desired: dict[str, Any]) -> Goal | None:
    """The goal in desired properties or a patch of them."""
    fridge = desired.get("fridge")
    return _goal(fridge.get("release"), woken=False) if isinstance(fridge, dict) else None


def from_message(data: bytes) -> Goal | None:
    """The goal in a cloud-to-device message of type `release`."""
    try:
        return _goal(json.loads(data), woken=True)
    except ValueError:
        return None


def _goal(value: Any, *, woken: bool) -> Goal | None:
    if not isinstance(value, dict):
        return None
    fields = [value.get(key) for key in ("id", "version", "manifest")]
    if not all(isinstance(text, str) and 0 < len(text) <= _LIMIT for text in fields):
        return None
    release, version, manifest = fields
    return Goal(str(release), str(version), str(manifest), woken=woken)
