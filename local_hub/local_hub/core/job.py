# SPDX-License-Identifier: Apache-2.0
"""Scheduled jobs: one change of twins, or one direct method, for all devices that fulfil a condition.

    scheduled --start--> queued --a place is free--> running --all devices done--> completed
        |                   |                           |----maximum time over---> failed
        `-------------------+---------cancel------------'------------------------> cancelled

A job is a value: each step gives a new one. Fields and states: `JobRequest`, `JobResponse` in service.json of
azure-iot-hub-python; https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-jobs and .../query-jobs
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .errors import ArgumentInvalid
from .query import Condition, parse_condition
from .timestamps import iso, parse_iso

JsonObject = dict[str, Any]

UPDATE_TWIN, DEVICE_METHOD = "scheduleUpdateTwin", "scheduleDeviceMethod"
SCHEDULED, QUEUED, RUNNING = "scheduled", "queued", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
PENDING, DEVICE_CANCELLED = "pending", "canceled"
"""States of a device's part in a job; it has running, completed and failed too (Azure spells this one with one l)."""

_ID = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$';+]{1,128}")
_DEFAULT_SECONDS = 3600
_MAX_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Job:
    """What a service asked for, and how far it is."""

    id: str
    type: str
    condition: str
    created: float
    start: float
    max_seconds: int
    method: JsonObject | None
    update_twin: JsonObject | None
    status: str
    running_since: float | None = None
    end: float | None = None
    failure: str | None = None
    targets: Condition = field(default=Condition(frozenset(), lambda document: False), repr=False, compare=False)

    @property
    def over(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in (COMPLETED, FAILED, CANCELLED)

    def queued(self) -> Job:
        """Its time has come."""
        return replace(self, status=QUEUED)

    def running(self, now: float) -> Job:
        """It begins; one that a restart interrupted goes on, and its time with it."""
        return replace(self, status=RUNNING, running_since=self.running_since or now)

    def ended(self, status: str, now: float, failure: str | None = None) -> Job:
        """It is over."""
        return replace(self, status=status, end=now, failure=failure)

    def to_json(self, statistics: JsonObject) -> JsonObject:
        """REST's `JobResponse`."""
        return {
            "jobId": self.id,
            "queryCondition": self.condition,
            "createdTime": iso(self.created),
            "startTime": iso(self.start),
            "endTime": None if self.end is None else iso(self.end),
            "maxExecutionTimeInSeconds": self.max_seconds,
            "type": self.type,
            "cloudToDeviceMethod": self.method,
            "updateTwin": self.update_twin,
            "status": self.status,
            "failureReason": self.failure,
            "statusMessage": None,
            "deviceJobStatistics": statistics,
        }

    def to_record(self) -> str:
        """For the store."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "targets"}
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_record(cls, record: str) -> Job:
        """From the store."""
        fields = json.loads(record)
        return cls(**fields, targets=parse_condition(fields["condition"]))


@dataclass(frozen=True)
class DeviceJob:
    """The part of one device or module in a job."""

    job_id: str
    job_type: str
    device_id: str
    module_id: str | None
    created: float
    updated: float
    status: str = PENDING
    start: float | None = None
    end: float | None = None
    response: JsonObject | None = None
    error: JsonObject | None = None

    @property
    def over(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in (COMPLETED, FAILED, DEVICE_CANCELLED)

    def running(self, now: float) -> DeviceJob:
        """Its turn has come."""
        return replace(self, status=RUNNING, start=now, updated=now)

    def completed(self, now: float, response: JsonObject | None = None) -> DeviceJob:
        """Done; a method has a response."""
        return replace(self, status=COMPLETED, end=now, updated=now, response=response)

    def failed(self, now: float, code: str, description: str) -> DeviceJob:
        """It could not be done."""
        return replace(self, status=FAILED, end=now, updated=now, error={"code": code, "description": description})

    def cancelled(self, now: float) -> DeviceJob:
        """The job was cancelled before its turn, or in the middle of it."""
        return replace(self, status=DEVICE_CANCELLED, end=now, updated=now)

    def to_json(self) -> JsonObject:
        """As queries of devices.jobs show it."""
        document = {
            "deviceId": self.device_id,
            "jobId": self.job_id,
            "jobType": self.job_type,
            "status": self.status,
            "startTimeUtc": None if self.start is None else iso(self.start),
            "endTimeUtc": None if self.end is None else iso(self.end),
            "createdDateTimeUtc": iso(self.created),
            "lastUpdatedDateTimeUtc": iso(self.updated),
            "outcome": {"deviceMethodResponse": self.response},
        }
        if self.module_id is not None:
            document["moduleId"] = self.module_id
        if self.error is not None:
            document["error"] = self.error
        return document

    def to_record(self) -> str:
        """For the store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_record(cls, record: str) -> DeviceJob:
        """From the store."""
        return cls(**json.loads(record))


def new_job(job_id: str, body: JsonObject, now: float) -> Job:
    """Read a `JobRequest`.

    Raises:
        ArgumentInvalid: it asks for something that is not offered.
    """
    if not _ID.fullmatch(job_id):
        raise ArgumentInvalid("a job id has 1 to 128 characters without spaces and slashes")
    if body.get("jobId") not in (None, job_id):
        raise ArgumentInvalid("jobId differs from the id in the path")
    kind = body.get("type")
    method, update = _object(body, "cloudToDeviceMethod"), _object(body, "updateTwin")
    if kind == UPDATE_TWIN and update is None:
        raise ArgumentInvalid(f"a job of type {UPDATE_TWIN} has an updateTwin")
    if kind == DEVICE_METHOD and not isinstance((method or {}).get("methodName"), str):
        raise ArgumentInvalid(f"a job of type {DEVICE_METHOD} has a cloudToDeviceMethod with a methodName")
    if kind not in (UPDATE_TWIN, DEVICE_METHOD):
        raise ArgumentInvalid(f"type is {UPDATE_TWIN} or {DEVICE_METHOD}")
    condition = body.get("queryCondition")
    if not isinstance(condition, str) or not condition.strip():
        raise ArgumentInvalid("queryCondition is the condition for devices to execute the job; * is for all of them")
    start = _start(body, now)
    return Job(
        id=job_id,
        type=kind,
        condition=condition,
        created=now,
        start=start,
        max_seconds=_seconds(body),
        method=method if kind == DEVICE_METHOD else None,
        update_twin=update if kind == UPDATE_TWIN else None,
        status=SCHEDULED if start > now else QUEUED,
        targets=parse_condition(condition),
    )


def statistics(parts: Iterable[DeviceJob]) -> JsonObject:
    """REST's `DeviceJobStatistics`."""
    count = Counter(part.status for part in parts)
    return {
        "deviceCount": count.total(),
        "failedCount": count[FAILED],
        "succeededCount": count[COMPLETED],
        "runningCount": count[RUNNING],
        "pendingCount": count[PENDING],
    }


def _object(body: JsonObject, name: str) -> JsonObject | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise ArgumentInvalid(f"{name} is an object")
    return value


def _start(body: JsonObject, now: float) -> float:
    text = body.get("startTime")
    if text is None or text == "":
        return now
    try:
        return max(parse_iso(text), 0.0)
    except (ValueError, TypeError, OverflowError):
        raise ArgumentInvalid("startTime is a time in ISO 8601") from None


def _seconds(body: JsonObject) -> int:
    value = body.get("maxExecutionTimeInSeconds")
    if not value and not isinstance(value, bool):  # absent; and 0 is what some SDKs write for absent
        return _DEFAULT_SECONDS
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_SECONDS:
        raise ArgumentInvalid(f"maxExecutionTimeInSeconds is an integer from 1 to {_MAX_SECONDS}")
    return value
