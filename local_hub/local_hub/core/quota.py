# SPDX-License-Identifier: Apache-2.0
"""How much a hub of a certain size does: so many operations a minute, so many messages a day.

A rate is a bucket of tokens that holds one minute's worth ("rate limitations that are applied in minute ranges"): a
burst of a minute is served at once, after that each operation waits for its token. Messages are counted in chunks, and
a day begins at 00:00 UTC.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-pricing
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from .errors import IotHubQuotaExceeded, ThrottlingException

SKUS = ("F1", "S1", "S2", "S3")
DAY = 24 * 3600
METHOD_METER = 4096
_BURST_SECONDS = 60.0


class Operation(StrEnum):
    """What is limited, as the documentation names it."""

    REGISTRY = "identity registry operations"
    CONNECT = "new device connections"
    D2C = "device-to-cloud sends"
    C2D = "cloud-to-device sends"
    FILE_UPLOAD = "file uploads"
    METHOD = "direct methods"
    QUERY = "queries"
    TWIN_READ = "twin reads"
    TWIN_UPDATE = "twin updates"
    JOB = "jobs operations"
    JOB_DEVICE = "jobs device operations"
    CONFIGURATION = "configurations"


@dataclass(frozen=True)
class Plan:
    """A SKU with a number of units: rates a second, messages a day, and how many there may be of some things.

    Direct methods are counted by their bytes, everything else by operations.
    """

    rates: dict[Operation, float]
    messages: int
    chunk: int
    running_jobs: int
    configurations: int
    devices: int


def plan(sku: str, units: int) -> Plan:
    """What the documentation's tables say.

    Raises:
        ValueError: there is no such hub.
    """
    if sku not in SKUS or not 1 <= units <= {"F1": 1, "S3": 10}.get(sku, 200):
        raise ValueError(f"there is no hub of {units} units {sku}: F1 has 1, S1 and S2 have up to 200, S3 up to 10")
    large, middle = sku == "S3", sku == "S2"
    slow = (5000 if large else 100) / 60 * units
    sends = 6000.0 * units if large else 120.0 * units if middle else max(100.0, 12.0 * units)
    return Plan(
        rates={
            Operation.REGISTRY: slow,
            Operation.CONNECT: sends,
            Operation.D2C: sends,
            Operation.C2D: slow,
            Operation.FILE_UPLOAD: slow,
            Operation.METHOD: 1024.0 * (24 * 1024 if large else 480 if middle else 160) * units,
            Operation.QUERY: (1000 if large else 20) / 60 * units,
            Operation.TWIN_READ: 500.0 * units if large else max(100.0, 10.0 * units * middle),
            Operation.TWIN_UPDATE: 250.0 * units if large else max(50.0, 5.0 * units * middle),
            Operation.JOB: slow,
            Operation.JOB_DEVICE: 50.0 * units if large else max(10.0, 1.0 * units * middle),
            Operation.CONFIGURATION: 20 / 60 * units,
        },
        messages={"F1": 8_000, "S1": 400_000, "S2": 6_000_000, "S3": 300_000_000}[sku] * units,
        chunk=512 if sku == "F1" else 4096,
        running_jobs=10 if large else 5 if middle else 1,
        configurations=20 if sku == "F1" else 100,
        devices=500 if sku == "F1" else 1_000_000,
    )


class Bucket:
    """Tokens that come back at a steady rate, up to a burst."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take tokens if they are there.

        Returns:
            0 if they were; otherwise nothing is taken, and these are the seconds until they will be.
        """
        self._refill(now)
        amount = min(amount, self._burst)  # what is larger than any burst passes when the bucket is full
        if self._tokens >= amount - 1e-9:
            self._tokens -= amount
            return 0.0
        return (amount - self._tokens) / self._rate

    def reserve(self, now: float, amount: float = 1.0) -> float:
        """Take tokens that may not be there yet.

        Returns:
            The seconds until they are.
        """
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)  # clocks are set back sometimes
        self._at = now
        self._tokens = min(self._burst, self._tokens + passed * self._rate)


class Quota:
    """All limits of one hub."""

    def __init__(self, limits: Plan) -> None:
        self.plan = limits
        self._buckets = {
            operation: Bucket(rate, rate * (1.0 if operation == Operation.JOB_DEVICE else _BURST_SECONDS))
            for operation, rate in limits.rates.items()
        }
        self.day = 0
        self.used = 0

    def admit(self, operation: Operation, now: float, amount: float = 1.0) -> None:
        """Let an operation through.

        Raises:
            ThrottlingException: not now; it says when.
        """
        wait = self._buckets[operation].take(now, amount)
        if wait:
            raise ThrottlingException(f"too many {operation}: try again in {wait:.2f} s", retry_after=wait)

    def reserve(self, operation: Operation, now: float) -> float:
        """Seconds to wait before an operation that cannot be refused."""
        return self._buckets[operation].reserve(now)

    def require_messages(self, now: float) -> None:
        """Whether there are messages left today.

        Raises:
            IotHubQuotaExceeded: there are none.
        """
        self._turn_day(now)
        if self.used >= self.plan.messages:
            raise IotHubQuotaExceeded(
                f"Total number of messages on IotHub exceeded the allocated quota. Max allowed message count : "
                f"{self.plan.messages}, current message count : {self.used}"
            )

    def charge(self, now: float, size: int) -> None:
        """Count a message of `size` bytes; an empty one counts as one chunk."""
        self._turn_day(now)
        self.used += max(1, math.ceil(size / self.plan.chunk))

    def restore(self, day: int, used: int) -> None:
        """Go on counting where an earlier process was."""
        self.day, self.used = day, used

    def _turn_day(self, now: float) -> None:
        day = int(now // DAY)
        if day > self.day:
            self.day, self.used = day, 0
