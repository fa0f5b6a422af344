# SPDX-License-Identifier: Apache-2.0
"""Between core and QML: what is shown, as properties; what is touched, as presses. No decision is made here."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import Property, QObject, Signal, Slot

from ..agentlink import Offer
from ..control import Alarm, Button, Press, State

_ALARM_TEXTS = {
    Alarm.SENSOR: ("Temperature sensor lost", "Cooling goes on by the clock. Please call service."),
    Alarm.WARM: ("It is too warm inside", "Check the food, and that the door is shut."),
    Alarm.DOOR: ("The door is open", "Please close it. Tap the bell to silence."),
}


class ViewModel(QObject):
    """Set it with `show`; read the presses with `take_presses`."""

    changed = Signal()
    pressed = Signal(str, bool)
    answered = Signal(str, bool)
    update_changed = Signal()

    def __init__(self, version: str) -> None:
        super().__init__()
        self._version = version
        self._state = State()
        self._air: float | None = None
        self._door = False
        self._presses: list[Press] = []
        self._offer = Offer()

    def show_update(self, offer: Offer) -> None:
        """Show what the agent says about an update."""
        if offer != self._offer:
            self._offer = offer
            self.update_changed.emit()

    def show(self, state: State, air: float | None, door: bool) -> None:
        """Show the core's state; QML hears of it only when something that is shown differs."""
        before = self.shown()
        self._state, self._air, self._door = state, air, door
        if self.shown() != before:
            self.changed.emit()

    def take_presses(self) -> tuple[Press, ...]:
        """The presses since the last call."""
        presses, self._presses = tuple(self._presses), []
        return presses

    def shown(self) -> dict[str, object]:
        """Everything on the screen, by name."""
        names = ("temperature", "setpoint", "supercool", "locked", "power", "door", "cooling", "alarm", "silenced")
        return {name: getattr(self, f"_get_{name}")() for name in names} | {"version": self._version}

    # ---- from QML ---------------------------------------------------------

    @Slot(str, bool)
    def press(self, button: str, hold: bool) -> None:
        """A control was tapped, or held for three seconds."""
        self._presses.append(Press(Button(button), hold))
        self.pressed.emit(button, hold)

    @Slot(bool)
    def answer(self, yes: bool) -> None:
        """The owner answered the question about an update; the page goes away at once, whatever the agent says."""
        release = self._offer.release
        self.show_update(replace(self._offer, ask=False))
        self.answered.emit(release, yes)

    # ---- to QML -----------------------------------------------------------

    def _get_temperature(self) -> str:
        return "--" if self._air is None else f"{self._air:.0f}"

    def _get_setpoint(self) -> str:
        return f"{self._state.target:.0f}"

    def _get_supercool(self) -> bool:
        return self._state.supercool_until is not None

    def _get_locked(self) -> bool:
        return self._state.locked

    def _get_power(self) -> bool:
        return self._state.power

    def _get_door(self) -> bool:
        return self._door

    def _get_cooling(self) -> bool:
        return self._state.compressor

    def _get_alarm(self) -> str:
        first = next((alarm for alarm in Alarm if alarm in self._state.alarms), None)
        return str(first) if first else ""

    def _get_alarm_title(self) -> str:
        alarm = self._get_alarm()
        return _ALARM_TEXTS[Alarm(alarm)][0] if alarm else ""

    def _get_alarm_text(self) -> str:
        alarm = self._get_alarm()
        return _ALARM_TEXTS[Alarm(alarm)][1] if alarm else ""

    def _get_silenced(self) -> bool:
        return bool(self._state.alarms) and self._state.alarms == self._state.silenced

    def _get_version(self) -> str:
        return self._version

    def _get_update_asked(self) -> bool:
        return self._offer.ask

    def _get_update_version(self) -> str:
        return self._offer.version

    def _get_update_notes(self) -> str:
        return self._offer.notes

    def _get_update_progress(self) -> int:
        return self._offer.progress if self._offer.state == "downloading" else -1

    updateAsked = Property(bool, _get_update_asked, notify=update_changed)
    updateVersion = Property(str, _get_update_version, notify=update_changed)
    updateNotes = Property(str, _get_update_notes, notify=update_changed)
    updateProgress = Property(int, _get_update_progress, notify=update_changed)
    temperature = Property(str, _get_temperature, notify=changed)
    setpoint = Property(str, _get_setpoint, notify=changed)
    supercool = Property(bool, _get_supercool, notify=changed)
    locked = Property(bool, _get_locked, notify=changed)
    power = Property(bool, _get_power, notify=changed)
    door = Property(bool, _get_door, notify=changed)
    cooling = Property(bool, _get_cooling, notify=changed)
    alarm = Property(str, _get_alarm, notify=changed)
    alarmTitle = Property(str, _get_alarm_title, notify=changed)
    alarmText = Property(str, _get_alarm_text, notify=changed)
    silenced = Property(bool, _get_silenced, notify=changed)
    version = Property(str, _get_version, constant=True)
