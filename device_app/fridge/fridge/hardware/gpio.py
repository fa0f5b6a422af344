# SPDX-License-Identifier: Apache-2.0
"""A real cabinet at the GPIO pins of a Raspberry Pi, by gpiozero."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

from fridge.control.model import Chirp, Outputs

from . import Hardware, HardwareError, kernel_boot_id
from .backlight import Backlight, open_backlight
from .ds18b20 import Probe, open_probe
from .sound import Beeper

ALARM_SECONDS = 0.5  # on, and off
CHIRPS = {Chirp.CLICK: (0.03, 1), Chirp.LONG: (0.15, 1), Chirp.REFUSED: (0.03, 2)}
"""How long each sounds in seconds, and how often."""
CHIRP_GAP = 0.06  # seconds after each sound, so that two are heard as two

_HIGHEST_PIN = 27  # of the 40-pin header, BCM
_EXAMPLE = "give BCM numbers, like relay=17,door=27,buzzer=22,lamp=23"


@dataclass(frozen=True)
class Pins:
    """BCM numbers of the pins."""

    relay: int = 17
    door: int = 27
    buzzer: int = 22
    lamp: int = 23

    @classmethod
    def parse(cls, text: str) -> Pins:
        """`relay=17,door=27`: the pins with what `text` says; those that it does not name stay.

        Raises:
            HardwareError: a name or number is none, or two parts are at one pin.
        """
        given: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = (piece.strip() for piece in part.partition("="))
            if name not in {field.name for field in fields(cls)} or name in given:
                raise HardwareError("FRIDGE_PINS", f"{name!r} is no part, or named twice", _EXAMPLE)
            given[name] = _pin(number)
        pins = replace(cls(), **given)
        numbers = [getattr(pins, field.name) for field in fields(cls)]
        if len(set(numbers)) < len(numbers):
            raise HardwareError("FRIDGE_PINS", f"two parts at one pin: {pins}", _EXAMPLE)
        return pins


class BuzzerBeeper(Beeper):
    """A buzzer with a tone of its own; the patterns run in gpiozero's background thread.

    A chirp interrupts an alarm and is not interrupted; the alarm goes on with the first turn of the loop thereafter.
    """

    def __init__(self, buzzer: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buzzer = buzzer
        self._monotonic = monotonic
        self._waiting: deque[Chirp] = deque(maxlen=4)
        self._chirping_until = monotonic()
        self._wanted = self._sounding = False

    def alarm(self, on: bool) -> None:
        self._wanted = on
        self._turn()

    def chirp(self, chirp: Chirp) -> None:
        self._waiting.append(chirp)
        self._turn()

    def _turn(self) -> None:
        now = self._monotonic()
        if now < self._chirping_until:
            return
        if self._waiting:
            on, times = CHIRPS[self._waiting.popleft()]
            self._buzzer.beep(on, CHIRP_GAP, times)
            self._chirping_until = now + (on + CHIRP_GAP) * times
            self._sounding = False
        elif self._wanted and not self._sounding:
            self._buzzer.beep(ALARM_SECONDS, ALARM_SECONDS)
            self._sounding = True
        elif self._sounding and not self._wanted:
            self._buzzer.off()
            self._sounding = False


class GpioCabinet(Hardware):
    """Relay, door switch, lamp and buzzer at pins; probe and backlight by sysfs. Owns `probe` and closes it.

    The door switch closes to ground with the door. A cut wire so looks like an open door, and is heard of.

    Raises:
        HardwareError: gpiozero or the pins cannot be used; everything is let go again then.
    """

    def __init__(
        self, pins: Pins, probe: Probe, backlight: Backlight | None = None, *, relay_active_high: bool = True
    ) -> None:
        self._probe, self._backlight = probe, backlight
        self._open = ExitStack()
        self._open.callback(probe.close)
        try:
            gpiozero = _gpiozero()
            # the relay first: from here on it is off, whatever follows
            self._relay = self._own(
                gpiozero.OutputDevice(pins.relay, active_high=relay_active_high, initial_value=False)
            )
            self._lamp = self._own(gpiozero.LED(pins.lamp))
            self._door = self._own(gpiozero.Button(pins.door, pull_up=True))
            self._beeper = BuzzerBeeper(self._own(gpiozero.Buzzer(pins.buzzer)))
        except HardwareError:
            self._open.close()
            raise
        except Exception as exc:  # gpiozero lets its drivers' own errors through
            self._open.close()
            raise HardwareError(
                f"GPIO, {pins}",
                f"cannot be used: {type(exc).__name__}: {exc}",
                "run on a Raspberry Pi with lgpio and access to /dev/gpiochip*, or set FRIDGE_SIMULATE=1",
            ) from exc

    def air(self) -> float | None:
        return self._probe.value()

    def door_open(self) -> bool:
        return not self._door.is_pressed

    def drive(self, outputs: Outputs, seconds: float) -> None:
        self._relay.value = outputs.compressor
        self._lamp.value = outputs.light
        if self._backlight is not None:
            self._backlight.set(outputs.brightness)
        self._beeper.alarm(outputs.buzzer)
        for chirp in outputs.chirps:
            self._beeper.chirp(chirp)

    def boot_id(self) -> str:
        return kernel_boot_id()

    def close(self) -> None:
        try:
            # the relay first: ending a sound may take a moment
            if not self._relay.closed:
                self._relay.off()
        finally:
            self._open.close()

    def _own(self, device: Any) -> Any:
        self._open.callback(device.close)
        if hasattr(device, "off"):
            # a released pin keeps its level with some drivers
            self._open.callback(device.off)
        return device


def open_cabinet(variables: Mapping[str, str]) -> GpioCabinet:
    """The cabinet that the environment describes.

    Raises:
        HardwareError: a setting makes no sense, or a library or part is missing.
    """
    pins = Pins.parse(variables.get("FRIDGE_PINS", ""))
    active_high = _active_high(variables.get("FRIDGE_RELAY_ACTIVE") or "high")
    probe = open_probe(variables)
    return GpioCabinet(pins, probe, open_backlight(variables), relay_active_high=active_high)


def _pin(number: str) -> int:
    if number not in map(str, range(_HIGHEST_PIN + 1)):
        raise HardwareError("FRIDGE_PINS", f"{number!r} is no pin number from 0 to {_HIGHEST_PIN}", _EXAMPLE)
    return int(number)


def _active_high(level: str) -> bool:
    if level not in ("high", "low"):
        raise HardwareError(
            "FRIDGE_RELAY_ACTIVE", f"{level!r} is no level", "say high or low, as the relay board needs"
        )
    return level == "high"


def _gpiozero() -> Any:
    try:
        import gpiozero
    except ImportError as exc:
        raise HardwareError(
            "gpiozero",
            f"cannot be imported ({exc})",
            "install it (pip install gpiozero lgpio), or set FRIDGE_SIMULATE=1",
        ) from exc
    return gpiozero
