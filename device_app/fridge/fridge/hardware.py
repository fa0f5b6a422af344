# SPDX-License-Identifier: Apache-2.0
"""The one seam to the cabinet: probe, door switch, compressor relay, light, buzzer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .control import Outputs


class Hardware(ABC):
    """A cabinet. The simulator in `plant` is one; GPIO is to be another."""

    @abstractmethod
    def air(self) -> float | None:
        """Air temperature in degrees Celsius, None while the probe gives none."""

    @abstractmethod
    def door_open(self) -> bool:
        """Whether the door stands open."""

    @abstractmethod
    def drive(self, outputs: Outputs, seconds: float) -> None:
        """Set relay, light and buzzer; `seconds` have passed since the last call."""
