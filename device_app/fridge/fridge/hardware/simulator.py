# SPDX-License-Identifier: Apache-2.0
"""A cabinet without a cabinet: air and food as two thermal nodes in a kitchen, with faults and power failures to order.

Explicit Euler in steps of at most a second. The figures give about three starts an hour and a third of duty at 4 C,
as measured cabinets of this size do.

What a real cabinet keeps while its computer is off, its warmth and its faults, is kept in a small file: the record. A
process that starts with one finds the cabinet as it was left, and warmed since.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fridge.control.model import Outputs

from . import Hardware, HardwareError, kernel_boot_id
from .sound import Beeper, RecordedBeeper, open_beeper

KITCHEN = 21.0  # C
AIR_CAPACITY = 9_000.0  # J/K, air and inner walls
FOOD_CAPACITY = 60_000.0  # J/K, about 15 kg of food
WALL = 1.1  # W/K
DOOR = 28.0  # W/K more while the door is open
EXCHANGE = 4.0  # W/K between food and air
COOLING = 70.0  # W at the evaporator

STEP_SECONDS = 1.0
DARK_STEP_SECONDS = 10.0  # as fine as a cabinet that nobody watches needs
LONGEST_DRIVE_SECONDS = 3600.0  # simulated, in one call: a computer that slept does not compute for minutes
LONGEST_DARK_SECONDS = 7 * 86400.0  # simulated; a week makes everything as warm as the kitchen
RECORD_SECONDS = 1.0  # real

COLDEST_KITCHEN, WARMEST_KITCHEN = -20.0, 50.0
RECORD_NAME = "cabinet.json"

_CHOICES = {
    "door": ("closed", "open"),
    "probe": ("ok", "lost", "frozen", "noisy"),
    "relay": ("ok", "stuck-on", "stuck-off"),
}
_JITTER = (0.0, 0.3, -0.2, 0.1, -0.3, 0.2, -0.1)
_PLAUSIBLE = 100.0  # degrees either way; a record with more in it is spoilt


class SimulatedCabinet(Hardware):
    """The plant.

    Args:
        air: degrees Celsius at first; `food` likewise. A record takes precedence.
        speed: simulated seconds a real second; tests and demos turn it up.
        record: the file that outlives the process, None for a new cabinet each time.
        beeper: what sounds.
        wall: the wall clock, in seconds.

    Attributes:
        air_node, food_node: their temperatures, whatever the probe says.
        faults: what `fault` set, by name.
        outputs: the last ones driven, whatever the relay makes of them.

    Raises:
        ValueError: `speed` is no number above 0.
    """

    def __init__(
        self,
        air: float = 5.0,
        food: float = 5.0,
        speed: float = 1.0,
        record: Path | None = None,
        *,
        beeper: Beeper | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"a speed is a number above 0, not {speed}")
        self.air_node, self.food_node = air, food
        self.speed = speed
        self.beeper = beeper or RecordedBeeper()
        self.faults = {"door": "closed", "probe": "ok", "relay": "ok", "kitchen": f"{KITCHEN:g}"}
        self.outputs = Outputs(compressor=False, light=False, buzzer=False)
        self._kitchen = KITCHEN
        self._frozen = air
        self._readings = 0
        self._boot = _new_boot()
        self._wall = wall
        self._record = record
        self._recorded_at: float | None = None
        if record is not None and (left := _Record.read(record)) is not None:
            self._go_on(left)

    @property
    def cools(self) -> bool:
        """Whether the compressor really runs."""
        match self.faults["relay"]:
            case "stuck-on":
                return True
            case "stuck-off":
                return False
            case _:
                return self.outputs.compressor

    def fault(self, name: str, value: str) -> None:
        """Break a part, or mend it.

        | name | values |
        |---|---|
        | `door` | `closed`, `open` |
        | `probe` | `ok`, `lost`, `frozen` (repeats its last reading), `noisy` (up to 0.3 degrees beside) |
        | `relay` | `ok`, `stuck-on`, `stuck-off` |
        | `kitchen` | degrees Celsius around the cabinet |

        Raises:
            ValueError: there is no such part or value; the text says which there are.
        """
        value = _checked(name, value)
        if name == "probe" and self.faults["probe"] != "frozen":
            self._frozen = self.air_node
        self.faults[name] = value
        self._kitchen = float(self.faults["kitchen"])

    def air(self) -> float | None:
        match self.faults["probe"]:
            case "lost":
                return None
            case "frozen":
                return self._frozen
            case "noisy":
                self._readings += 1
                return self.air_node + _JITTER[self._readings % len(_JITTER)]
            case _:
                return self.air_node

    def door_open(self) -> bool:
        return self.faults["door"] == "open"

    def drive(self, outputs: Outputs, seconds: float) -> None:
        self.outputs = outputs
        self.beeper.alarm(outputs.buzzer)
        for chirp in outputs.chirps:
            self.beeper.chirp(chirp)
        self._pass(min(seconds * self.speed, LONGEST_DRIVE_SECONDS), STEP_SECONDS, COOLING if self.cools else 0.0)
        self._keep()

    def boot_id(self) -> str:
        return self._boot

    def close(self) -> None:
        self.outputs = Outputs(compressor=False, light=False, buzzer=False)
        self.beeper.alarm(False)
        if self._record is not None:
            # at high speed a second is long: what the last one cooled is not to be lost
            with suppress(OSError):
                self._write(self._record, self._wall())
        self._record = None

    def brown_out(self, seconds: float) -> None:
        """Leave a record of a power failure, to which the next process wakes as if it had been dark for `seconds`.

        This object records no more; the process that called ends, or executes itself anew.

        Args:
            seconds: simulated.

        Raises:
            OSError: the record cannot be written.
            ValueError: there is none, or `seconds` are negative.
        """
        if self._record is None:
            raise ValueError("a power failure needs a record to remember it by")
        if not seconds >= 0:
            raise ValueError(f"a power failure lasts for some seconds, not {seconds}")
        self._boot = _new_boot()
        self._write(self._record, self._wall() - min(seconds, LONGEST_DARK_SECONDS) / self.speed)
        self._record = None

    def _pass(self, seconds: float, step: float, cooling: float) -> None:
        """Let simulated time pass, with `cooling` watts at the evaporator."""
        while seconds > 0:
            self._advance(min(step, seconds), cooling)
            seconds -= step

    def _advance(self, seconds: float, cooling: float) -> None:
        gain = (WALL + (DOOR if self.door_open() else 0.0)) * (self._kitchen - self.air_node)
        exchange = EXCHANGE * (self.food_node - self.air_node)
        self.air_node += (gain + exchange - cooling) * seconds / AIR_CAPACITY
        self.food_node -= exchange * seconds / FOOD_CAPACITY

    def _go_on(self, left: _Record) -> None:
        self.air_node, self.food_node, self._frozen = left.air, left.food, left.frozen
        self.faults |= left.faults
        self._kitchen = float(self.faults["kitchen"])
        if left.boot.startswith(kernel_boot_id()):
            self._boot = left.boot
        self._pass(min((self._wall() - left.wall) * self.speed, LONGEST_DARK_SECONDS), DARK_STEP_SECONDS, 0.0)

    def _keep(self) -> None:
        if self._record is None:
            return
        now = self._wall()
        # a clock that was put back counts as time that passed
        if self._recorded_at is None or abs(now - self._recorded_at) >= RECORD_SECONDS:
            self._recorded_at = now
            # a full disk costs the memory of a simulation
            with suppress(OSError):
                self._write(self._record, now)

    def _write(self, path: Path, wall: float) -> None:
        _Record(self.air_node, self.food_node, self._frozen, dict(self.faults), wall, self._boot).write(path)


@dataclass(frozen=True)
class _Record:
    """What outlives the process. `wall`: since when nothing cools, in seconds of the wall clock."""

    air: float
    food: float
    frozen: float
    faults: dict[str, str]
    wall: float
    boot: str

    @classmethod
    def read(cls, path: Path) -> _Record | None:
        """The record at `path`; None where there is none, or a spoilt one."""
        try:
            return cls._from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> _Record:
        air, food, frozen = (float(data[key]) for key in ("air", "food", "frozen"))
        # NaN compares false, and infinity is too much
        if not all(abs(node) <= _PLAUSIBLE for node in (air, food, frozen)):
            raise ValueError(f"implausible temperatures {air}, {food}, {frozen}")
        wall = float(data["wall"])
        if not math.isfinite(wall):
            raise ValueError(f"no time: {wall}")
        faults = {name: _checked(name, value) for name, value in data["faults"].items()}
        return cls(air, food, frozen, faults, wall, str(data["boot"]))

    def write(self, path: Path) -> None:
        """Replace the file at `path`: a reader sees the old or the new one. Not flushed: it only plays a cabinet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)


def open_simulator(variables: Mapping[str, str]) -> SimulatedCabinet:
    """The simulated cabinet that the environment describes.

    Raises:
        HardwareError: a setting makes no sense.
    """
    folder = variables.get("FRIDGE_RUN_DIR")
    return SimulatedCabinet(
        speed=_speed(variables.get("FRIDGE_SPEED") or "1"),
        record=Path(folder) / RECORD_NAME if folder else None,
        beeper=open_beeper(variables),
    )


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise HardwareError("FRIDGE_SPEED", f"{text!r} is no speed", "give a number above 0, like 60")
    return speed


def _checked(name: str, value: str) -> str:
    """`value` as `faults` keeps it."""
    if name == "kitchen":
        return f"{_kitchen_degrees(value):g}"
    choices = _CHOICES.get(name)
    if choices is None:
        raise ValueError(f"{name!r} is none of {', '.join([*_CHOICES, 'kitchen'])}")
    if value not in choices:
        raise ValueError(f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
    return value


def _kitchen_degrees(value: str) -> float:
    try:
        degrees = float(value)
    except (ValueError, TypeError):
        degrees = math.nan
    if not COLDEST_KITCHEN <= degrees <= WARMEST_KITCHEN:
        raise ValueError(
            f"kitchen is a temperature from {COLDEST_KITCHEN:g} to {WARMEST_KITCHEN:g} degrees, not {value!r}"
        )
    return degrees


def _new_boot() -> str:
    # the kernel's too: monotonic times end with the computer that simulates
    return f"{kernel_boot_id()}-{uuid.uuid4().hex[:8]}"
