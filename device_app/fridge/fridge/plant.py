# SPDX-License-Identifier: Apache-2.0
"""A cabinet without a cabinet: air and food as two thermal nodes, in a kitchen of 21 degrees.

Explicit Euler in steps of at most a second. The figures give about three starts an hour and a third of duty at 4 C,
as measured cabinets of this size do.
"""

from __future__ import annotations

from .control import Outputs
from .hardware import Hardware

KITCHEN = 21.0  # C
AIR_CAPACITY = 9_000.0  # J/K, air and inner walls
FOOD_CAPACITY = 60_000.0  # J/K, about 15 kg of food
WALL = 1.1  # W/K
DOOR = 28.0  # W/K more while the door is open
EXCHANGE = 4.0  # W/K between food and air
COOLING = 70.0  # W at the evaporator


class SimulatedCabinet(Hardware):
    """The plant. `speed`: simulated seconds a real second; tests and demos turn it up."""

    def __init__(self, air: float = 5.0, food: float = 5.0, speed: float = 1.0) -> None:
        self.air_node, self.food_node = air, food
        self.speed = speed
        self.door = False
        self.probe_lost = False
        self.outputs = Outputs(False, False, False)

    def air(self) -> float | None:
        return None if self.probe_lost else self.air_node

    def door_open(self) -> bool:
        return self.door

    def drive(self, outputs: Outputs, seconds: float) -> None:
        self.outputs = outputs
        left = min(seconds * self.speed, 3600.0)
        while left > 0:
            step = min(1.0, left)
            self._advance(step)
            left -= step

    def _advance(self, seconds: float) -> None:
        gain = (WALL + (DOOR if self.door else 0.0)) * (KITCHEN - self.air_node)
        exchange = EXCHANGE * (self.food_node - self.air_node)
        cooling = COOLING if self.outputs.compressor else 0.0
        self.air_node += (gain + exchange - cooling) * seconds / AIR_CAPACITY
        self.food_node -= exchange * seconds / FOOD_CAPACITY
