# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a batch takes under the throttles of a hub of a certain size: known before it begins.

A rate is a bucket of tokens that holds a minute's worth: a burst of a minute is served at once, after that each
operation waits for its token. Only throttles are counted, neither the network nor the messages of the day.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, field
from enum import Enum

from .iothub_errors import HubError

SKUS = ("F1", "S1", "S2", "S3")
METHOD_METER = 4096  # bytes in which the throttle of direct methods counts a request
_BURST = 60.0  # seconds


class Operation(Enum):
    """What is limited, as the documentation names it."""

    REGISTRY = "identity registry operations"
    C2D = "cloud-to-device sends"
    METHOD = "direct methods"
    QUERY = "queries"
    TWIN_READ = "twin reads"
    TWIN_UPDATE = "twin updates"
    JOB = "jobs operations"
    JOB_DEVICE = "jobs device operations"


def rates(sku: str, units: int) -> dict[Operation, float]:
    """Return what a hub does in a second; direct methods are counted by bytes. Raises HubError for no such hub."""
    if sku not in SKUS or not 1 <= units <= {"F1": 1, "S3": 10}.get(sku, 200):
        raise HubError(f"there is no hub of {units} units {sku}: F1 has 1, S1 and S2 have up to 200, S3 up to 10")
    large, middle = sku == "S3", sku == "S2"
    slow = (5000 if large else 100) / 60 * units
    return {
        Operation.REGISTRY: slow,
        Operation.C2D: slow,
        Operation.METHOD: 1024.0 * (24 * 1024 if large else 480 if middle else 160) * units,
        Operation.QUERY: (1000 if large else 20) / 60 * units,
        Operation.TWIN_READ: 500.0 * units if large else max(100.0, 10.0 * units * middle),
        Operation.TWIN_UPDATE: 250.0 * units if large else max(50.0, 5.0 * units * middle),
        Operation.JOB: slow,
        Operation.JOB_DEVICE: 50.0 * units if large else max(10.0, 1.0 * units * middle),
    }


def seconds(sku: str, units: int, work: t.Mapping[Operation, float]) -> int:
    """Return how many seconds the throttles make ``work`` last, beginning with a hub that is idle.

    The kinds of operations follow one another, as in the modules: first all is read, then all is written.
    """
    rate = rates(sku, units)
    return math.ceil(sum(_wait(rate[operation], operation, amount) for operation, amount in work.items()))


def _wait(rate: float, operation: Operation, amount: float) -> float:
    burst = rate * (1.0 if operation is Operation.JOB_DEVICE else _BURST)
    return max(0.0, amount - burst) / rate


def method_bytes(size: int, calls: int) -> int:
    """Return what the throttle counts for ``calls`` of a direct method whose request has ``size`` bytes."""
    return max(1, math.ceil(size / METHOD_METER)) * METHOD_METER * calls


@dataclass
class Estimate:
    """Counts the operations of a batch and puts the time into the module's result, if the user named a SKU."""

    sku: str | None = None
    units: int = 1
    work: dict[Operation, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sku is not None:
            rates(self.sku, self.units)  # a hub that does not exist is told before anything is done

    def add(self, operation: Operation, amount: float = 1) -> None:
        """Count operations."""
        self.work[operation] = self.work.get(operation, 0) + amount

    def result(self) -> dict[str, t.Any]:
        """Return ``estimated_seconds`` for the module's result; nothing if there is no SKU."""
        return {} if self.sku is None else {"estimated_seconds": seconds(self.sku, self.units, self.work)}
