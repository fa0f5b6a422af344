# SPDX-License-Identifier: Apache-2.0
"""Kitchen manners: when an update may take the panel away for a moment. Pure: kitchen, rules and time in, reason out.

An update waits, in this order, for: the release before to pass its trial, an alarm to end, the door to be shut, the
update window, nobody at the panel, and the owner's yes where the release asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, time

CONSENT_SNOOZE = 4 * 3600.0
KITCHEN_KNOWN = 15.0


@dataclass(frozen=True)
class Rules:
    """What one device waits for.

    `idle`: seconds without a press. `window`: local times (from, to), over midnight where from is later; None: any.
    `patience`: seconds after which window and idleness are no longer waited for; consent, alarm and door always are.
    """

    idle: float = 0.0
    window: tuple[time, time] | None = None
    consent: bool = False
    patience: float = 14 * 86400.0


@dataclass(frozen=True)
class Kitchen:
    """What the app last told. `heard_at` and `pressed_at` are monotonic seconds; None: never."""

    heard_at: float | None = None
    pressed_at: float | None = None
    door_open: bool = False
    alarm: bool = False
    consented: str | None = None
    asked_again_at: float = 0.0

    def pressed(self, up: float) -> Kitchen:
        return replace(self, pressed_at=up)

    def answered(self, release: str, yes: bool, up: float) -> Kitchen:
        """The owner answered; a no is a no for `CONSENT_SNOOZE` seconds."""
        if yes:
            return replace(self, consented=release)
        return replace(self, consented=None, asked_again_at=up + CONSENT_SNOOZE)

    def asks(self, up: float) -> bool:
        """Whether the panel should show the question now."""
        return up >= self.asked_again_at


def held_by(rules: Rules, kitchen: Kitchen, release: str, waited: float, up: float, local: datetime) -> str | None:
    """Why the update of `release` must wait at this moment, or None.

    Args:
        waited: seconds since it lies ready. up: monotonic seconds, as in `Kitchen`. local: the kitchen's wall clock.
    """
    # an app that says nothing is no kitchen to be polite to: an update may be what it needs
    known = kitchen.heard_at is not None and up - kitchen.heard_at <= KITCHEN_KNOWN
    if known and kitchen.alarm:
        return "alarm"
    if known and kitchen.door_open:
        return "door"
    if waited < rules.patience:
        if rules.window and not _inside(rules.window, local.time()):
            return "window"
        if known and kitchen.pressed_at is not None and up - kitchen.pressed_at < rules.idle:
            return "idle"
    if rules.consent and kitchen.consented != release:
        return "consent"
    return None


def parse_window(text: str) -> tuple[time, time]:
    """`"01:00-05:00"` as two times.

    Raises:
        ValueError: not of that form.
    """
    begin, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"update window {text!r}: write it like 01:00-05:00")
    try:
        return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError as exc:
        raise ValueError(f"update window {text!r}: write it like 01:00-05:00") from exc


def _inside(window: tuple[time, time], now: time) -> bool:
    begin, end = window
    return begin <= now < end if begin <= end else now >= begin or now < end
