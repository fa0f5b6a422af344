# SPDX-License-Identifier: Apache-2.0
"""The one seam to the cabinet: probe, door switch, compressor relay, lamp, buzzer, backlight.

Two rules. Nothing here decides: what to do comes as `Outputs`, what is seen goes to the core. And what breaks in
service (a probe, a display) never keeps the fridge from cooling, while a setting that makes no sense stops it at the
start with a `HardwareError`.

    gpio         a real cabinet, by gpiozero (imported nowhere else)
    ds18b20      its one-wire temperature probe
    backlight    its panel's brightness
    simulator    a cabinet that is a few lines of physics, with faults and power failures to order
    sound        beepers: buzzer, terminal bell, a list for tests
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from fridge.control.model import Outputs

__all__ = ["Hardware", "HardwareError", "kernel_boot_id", "open_hardware"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HardwareError(Exception):
    """The hardware cannot be opened as it is set up.

    Args:
        on: the setting or part.
        what: what is wrong with it.
        remedy: what to do, for a person who has the device before them.
    """

    def __init__(self, on: str, what: str, remedy: str) -> None:
        super().__init__(f"{on}: {what}; {remedy}")
        self.on, self.what, self.remedy = on, what, remedy


class Hardware(ABC):
    """A cabinet. All calls come from one thread, and none may take longer than a few milliseconds."""

    speed: float = 1.0
    """Seconds of the cabinet a second of the clock; only a simulated one is faster."""

    @abstractmethod
    def air(self) -> float | None:
        """Air temperature in degrees Celsius, None while the probe gives none."""

    @abstractmethod
    def door_open(self) -> bool:
        """Whether the door stands open."""

    @abstractmethod
    def drive(self, outputs: Outputs, seconds: float) -> None:
        """Set relay, lamp, alarm buzzer and brightness, and sound the chirps once each.

        Called at every turn of the loop, also where nothing changed.

        Args:
            seconds: real seconds since the last call.
        """

    @abstractmethod
    def boot_id(self) -> str:
        """What names this run of the power.

        Monotonic times, and a compressor that was interrupted, belong to one run. It stays the same when only the
        process starts anew.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, with the compressor's relay off. Harmless when called again."""


def open_hardware(variables: Mapping[str, str]) -> Hardware:
    """The cabinet that the environment asks for: simulated, or with `FRIDGE_SIMULATE=0` the one at the GPIO pins.

    Args:
        variables: the environment; README.md lists what is read.

    Raises:
        HardwareError: a setting makes no sense, or a library or part is missing.
    """
    if variables.get("FRIDGE_SIMULATE", "1") != "0":
        from .simulator import open_simulator

        return open_simulator(variables)
    from .gpio import open_cabinet

    return open_cabinet(variables)


def kernel_boot_id(source: Path = BOOT_ID) -> str:
    """What names this run of the kernel, so that monotonic times of another one are not mistaken for ours."""
    try:
        return source.read_text(encoding="ascii").strip() or uuid.uuid4().hex
    except (OSError, ValueError):
        # nobody knows: then it is a new one, and the compressor rests as after a power failure
        return uuid.uuid4().hex
