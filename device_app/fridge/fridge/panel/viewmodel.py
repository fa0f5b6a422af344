# SPDX-License-Identifier: Apache-2.0
"""Between the seam and QML: what is shown, as maps; what is touched, as signals. No decision is made here."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from PySide6.QtCore import Property, QObject, Signal, Slot

from ..agentlink import Offer
from ..seam import Preferences, Shown


class ViewModel(QObject):
    """Set it with the `show...` methods; what the owner does comes as signals.

    `still`: nothing blinks, so that pictures of a state are all the same.
    """

    shown_changed = Signal()
    offer_changed = Signal()
    preferences_changed = Signal()
    night_changed = Signal()
    still_changed = Signal()
    menu_asked = Signal()

    touched = Signal(str, str)
    answered = Signal(str, bool)
    preferred = Signal(dict)

    def __init__(self, version: str, *, dims: bool = False) -> None:
        super().__init__()
        self._version, self._dims = version, dims
        self._shown, self._offer, self._preferences = Shown(), Offer(), Preferences()
        self._night = False
        self._still = False

    def show(self, shown: Shown) -> None:
        """Show the core's state; QML hears of it only when something differs."""
        if shown != self._shown:
            self._shown = shown
            self.shown_changed.emit()

    def show_offer(self, offer: Offer) -> None:
        """Show what the agent says about an update."""
        if offer != self._offer:
            self._offer = offer
            self.offer_changed.emit()

    def show_preferences(self, preferences: Preferences) -> None:
        """Look as the owner wants it."""
        if preferences != self._preferences:
            self._preferences = preferences
            self.preferences_changed.emit()
            self.night_changed.emit()

    def show_hour(self, hour: int) -> None:
        """Take the hour of the kitchen's clock, 0 to 23, for the theme."""
        night = hour >= 21 or hour < 7
        if night != self._night:
            self._night = night
            self.night_changed.emit()

    @property
    def preferences(self) -> Preferences:
        return self._preferences

    # ---- from QML ---------------------------------------------------------

    @Slot(str, str)
    def touch(self, button: str, finger: str) -> None:
        """A finger at one of the four buttons: down, up or away."""
        self.touched.emit(button, finger)

    @Slot(bool)
    def answer(self, yes: bool) -> None:
        """The owner answered the question about an update; the page goes away at once, whatever the agent says."""
        release = self._offer.release
        self.show_offer(replace(self._offer, ask=False))
        self.answered.emit(release, yes)

    @Slot(str, str)
    def prefer(self, name: str, value: str) -> None:
        """The owner chose a language, a theme, or text size `large` or `normal`; shown at once."""
        match name:
            case "text":
                chosen = replace(self._preferences, large_text=value == "large")
            case _:
                chosen = Preferences.from_json({**asdict(self._preferences), name: value})
        self.show_preferences(chosen)
        self.preferred.emit(asdict(chosen))

    # ---- to QML -----------------------------------------------------------

    def _get_shown(self) -> dict[str, Any]:
        return {**asdict(self._shown), "alarms": list(self._shown.alarms)}

    def _get_offer(self) -> dict[str, Any]:
        return asdict(self._offer)

    def _get_preferences(self) -> dict[str, Any]:
        return asdict(self._preferences)

    def _get_night(self) -> bool:
        theme = self._preferences.theme
        return self._night if theme == "auto" else theme == "night"

    def _get_version(self) -> str:
        return self._version

    def _get_dims(self) -> bool:
        return self._dims

    def _get_still(self) -> bool:
        return self._still

    def _set_still(self, still: bool) -> None:
        self._still = still
        self.still_changed.emit()

    shown = Property("QVariantMap", _get_shown, notify=shown_changed)  # type: ignore[arg-type]  # a Qt type name is fine
    offer = Property("QVariantMap", _get_offer, notify=offer_changed)  # type: ignore[arg-type]  # a Qt type name is fine
    choices = Property("QVariantMap", _get_preferences, notify=preferences_changed)  # type: ignore[arg-type]  # a Qt type name is fine
    night = Property(bool, _get_night, notify=night_changed)
    version = Property(str, _get_version, constant=True)
    dims = Property(bool, _get_dims, constant=True)
    still = Property(bool, _get_still, _set_still, notify=still_changed)
