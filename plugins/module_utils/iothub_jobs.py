# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scheduled jobs: the hub itself changes twins or calls a method, for all devices that fulfil a condition.

A job never changes after its creation, so its id stands for what it does: the same id with another content is an error.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-jobs
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime

from .iothub_batch import judge
from .iothub_engine import Hub
from .iothub_errors import HubError, worded
from .iothub_methods import Method
from .iothub_patch import Document, same, without_system
from .iothub_quota import Estimate, Operation
from .iothub_twins import quoted

UPDATE_TWIN, DEVICE_METHOD = "scheduleUpdateTwin", "scheduleDeviceMethod"
TYPES = {"twin": UPDATE_TWIN, "method": DEVICE_METHOD}
OVER = frozenset({"completed", "failed", "cancelled"})
_ID = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$';+]{1,128}")
_LONGEST = 30 * 24 * 3600  # seconds
_THERE = 409


@dataclass(frozen=True)
class Order:
    """A job as it should be: a method, or else tags and desired properties; None leaves a choice to the hub."""

    id: str
    target_condition: str | None = None
    tags: Document | None = None
    desired: Document | None = None
    method: Method | None = None
    start_time: str | None = None
    max_execution_time: int | None = None

    def check(self) -> None:
        """Raise HubError for what no hub takes."""
        check_id(self.id)
        if self.method is not None:
            self.method.check()
        if self.start_time is not None:
            _moment(self.start_time)
        if self.max_execution_time is not None and not 0 < self.max_execution_time <= _LONGEST:
            raise HubError(f"max_execution_time is {self.max_execution_time} s; it is between 1 s and {_LONGEST} s")

    @property
    def empty(self) -> bool:
        """Whether it says nothing of what to do."""
        return self.method is None and self.tags is None and self.desired is None

    def document(self) -> Document:
        """Return the hub's document."""
        now = datetime.now(UTC)
        start = now if self.start_time is None else _moment(self.start_time)
        document: Document = {
            "jobId": self.id,
            "type": UPDATE_TWIN if self.method is None else DEVICE_METHOD,
            "queryCondition": self.target_condition,
            "startTime": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if self.max_execution_time is not None:
            document["maxExecutionTimeInSeconds"] = self.max_execution_time
        if self.method is not None:
            return {**document, "cloudToDeviceMethod": self.method.document()}
        desired = {} if self.desired is None else {"properties": {"desired": self.desired}}
        tags = {} if self.tags is None else {"tags": self.tags}
        return {**document, "updateTwin": {"etag": "*", **tags, **desired}}


def check_id(name: str) -> None:
    """Raise HubError for an id that no hub takes."""
    if not _ID.fullmatch(name):
        raise HubError(f"'{name}' is no job id: up to 128 ASCII letters, digits and -.%_#*?!(),:=@$';+")


def shown(job: Document) -> Document:
    """Return the hub's document under the names that the modules use."""
    counts = job.get("deviceJobStatistics") or {}
    method, update = job.get("cloudToDeviceMethod") or {}, job.get("updateTwin") or {}
    twin = job.get("type") == UPDATE_TWIN
    return {
        "id": job.get("jobId"),
        "type": next((name for name, kind in TYPES.items() if kind == job.get("type")), job.get("type")),
        "status": job.get("status"),
        "target_condition": job.get("queryCondition"),
        "tags": without_system(update.get("tags") or {}) if twin else None,
        "desired": without_system((update.get("properties") or {}).get("desired") or {}) if twin else None,
        "method": None if twin else method.get("methodName"),
        "payload": None if twin else method.get("payload"),
        "start_time": job.get("startTime"),
        "end_time": job.get("endTime"),
        "created_time": job.get("createdTime"),
        "max_execution_time": job.get("maxExecutionTimeInSeconds"),
        "failure_reason": job.get("failureReason"),
        "statistics": {
            name: counts.get(f"{field}Count") or 0
            for name, field in (
                ("devices", "device"),
                ("succeeded", "succeeded"),
                ("failed", "failed"),
                ("running", "running"),
                ("pending", "pending"),
            )
        },
    }


def part(row: Document) -> Document:
    """Return a device's part in a job, a row of devices.jobs, under the names that the modules use."""
    error, response = row.get("error") or {}, (row.get("outcome") or {}).get("deviceMethodResponse") or {}
    return {
        "id": row.get("deviceId"),
        "module": row.get("moduleId"),
        "status": "cancelled" if row.get("status") == "canceled" else row.get("status"),
        "response_status": response.get("status"),
        "response": response.get("payload"),
        "error": ": ".join(filter(None, (error.get("code"), error.get("description")))) or None,
    }


class Jobs:
    """Makes a job exist, follows it, cancels it."""

    def __init__(self, hub: Hub, check_mode: bool = False, estimate: Estimate | None = None) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._estimate = estimate or Estimate()

    # ---- reading ----

    def info(self, name: str | None, kind: str | None = None, status: str | None = None) -> list[Document]:
        """Return one job, or all of a kind and status, the newest first; a missing one gives an empty list."""
        if name is None:
            found = map(shown, self._hub.jobs(TYPES[kind] if kind else None, status))
            return sorted(found, key=lambda job: str(job["created_time"] or ""), reverse=True)
        check_id(name)
        job = self._hub.job(name)
        return [] if job is None else [shown(job)]

    def parts(self, name: str) -> list[Document]:
        """Return what became of each device of a job, by id."""
        sql = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = {quoted(name)}"  # noqa: S608 - quoted
        return sorted(map(part, self._hub.query(sql)), key=lambda one: (str(one["id"]), str(one["module"] or "")))

    # ---- present ----

    def present(self, order: Order) -> dict[str, t.Any]:
        """Create it unless it is there; return ``changed``, ``state``, ``job`` and ``diff``."""
        order.check()
        current = self._hub.job(order.id)
        self._estimate.add(Operation.JOB)
        if current is not None:
            self._refuse_other(shown(current), order)
            return self._result("unchanged", current, {}, {})
        self._refuse_incomplete(order)
        self._count(order)
        written = {**order.document(), "status": None} if self._check_mode else self._put(order)
        return self._result("created", written, {}, _steady(shown(order.document())))

    def _put(self, order: Order) -> Document:
        """Create it; one that is there now was made by somebody else, or by a call whose answer got lost."""
        try:
            return self._hub.put_job(order.document())
        except HubError as error:
            if error.refusal is None or error.refusal.status != _THERE:
                raise
            current = self._hub.job(order.id)
            if current is None:
                raise
        self._refuse_other(shown(current), order)
        return current

    def _refuse_incomplete(self, order: Order) -> None:
        lacking = (
            "target_condition" if order.target_condition is None else "tags, desired or method" if order.empty else ""
        )
        if lacking:
            raise HubError(worded(f"create job '{order.id}'", f"{lacking} is not given", f"give {lacking}"))

    def _refuse_other(self, before: Document, order: Order) -> None:
        """A hub never changes a job; what is not given is not compared."""
        wanted = _wanted(order)
        # a hub may leave out the nulls of a patch when it tells what the job does
        other = [key for key, value in wanted.items() if not same(_dense(before[key]), _dense(value))]
        if order.start_time and before["start_time"] and not _same_moment(order.start_time, before["start_time"]):
            other.append("start_time")
        if other:
            happened = f"it exists and cannot change, and differs in {', '.join(sorted(other))}"
            raise HubError(worded(f"create job '{order.id}'", happened, "use a new id"))

    def _count(self, order: Order) -> None:
        """Count the devices, if somebody wants to know how long it takes."""
        self._estimate.add(Operation.JOB)
        if self._estimate.sku is None:
            return
        condition = (order.target_condition or "").strip()
        source = condition if condition.upper().startswith("FROM ") else "FROM devices"
        where = "" if condition == "*" or source == condition else f" WHERE {condition}"
        self._estimate.add(Operation.QUERY)
        for row in self._hub.query(f"SELECT COUNT() AS number {source}{where}"):
            self._estimate.add(Operation.JOB_DEVICE, row["number"])

    # ---- following ----

    def follow(self, result: dict[str, t.Any], wait: float, poll: float, fail_on: str, say: t.Any) -> dict[str, t.Any]:
        """Wait until the job is over; return the result with what became of each device.

        Raises HubError, with the result, if it is not over in time, or if too many devices failed for ``fail_on``.
        """
        name, until = result["job"]["id"], self._hub.left() - wait
        while result["job"]["status"] not in OVER:
            say(_progress(result["job"]))
            if self._hub.left() - poll <= until or not self._hub.pause(poll):
                advice = "raise wait, or run again to go on waiting"
                raise HubError(worded(f"see the end of job '{name}'", _progress(result["job"]), advice), result)
            job = self._hub.job(name)
            if job is None:
                raise HubError(worded(f"see the end of job '{name}'", "the hub does not know it any more"), result)
            result = {**result, "job": shown(job)}
        result = {**result, "devices": self.parts(name)}
        self._judge(result, fail_on)
        return result

    @staticmethod
    def _judge(result: dict[str, t.Any], fail_on: str) -> None:
        job = result["job"]
        failed = [one for one in result["devices"] if one["status"] != "completed"]
        errors = [f"'{one['id']}' {one['status']}" + (f" ({one['error']})" if one["error"] else "") for one in failed]
        judge(result, errors, fail_on, f"do job {job['id']}")
        if job["status"] != "completed" and not result["devices"] and fail_on != "none":
            reason = job["failure_reason"] or "the hub gives no reason"
            raise HubError(worded(f"do job '{job['id']}'", f"it is {job['status']}: {reason}", "use a new id"), result)

    # ---- cancelled ----

    def cancelled(self, name: str) -> dict[str, t.Any]:
        """Cancel it if it is not over; return ``changed``, ``state``, ``job`` and ``diff``."""
        check_id(name)
        self._estimate.add(Operation.JOB)
        current = self._hub.job(name)
        if current is None:
            return {**self._result("absent", {}, {}, {}), "job": None}
        status = current.get("status")
        if status in OVER:
            return self._result("unchanged", current, {}, {})
        self._estimate.add(Operation.JOB)
        written = {**current, "status": "cancelled"} if self._check_mode else self._hub.cancel_job(name)
        return self._result("cancelled", written, {"status": status}, {"status": "cancelled"})

    def _result(self, state: str, job: Document, before: Document, after: Document) -> dict[str, t.Any]:
        return {
            "changed": state in ("created", "cancelled"),
            "state": state,
            "job": shown(job),
            "diff": {"before": before, "after": after},
            **self._estimate.result(),
        }


def _wanted(order: Order) -> Document:
    """Return what an existing job must be, by the names of ``shown``: only what is given."""
    wanted: Document = {"target_condition": order.target_condition, "max_execution_time": order.max_execution_time}
    if order.method is not None:
        wanted |= {"type": "method", "method": order.method.name, "payload": order.method.payload}
        return {name: value for name, value in wanted.items() if value is not None or name == "payload"}
    if not order.empty:
        wanted |= {"type": "twin", "tags": order.tags or {}, "desired": order.desired or {}}
    return {name: value for name, value in wanted.items() if value is not None}


def _dense(value: t.Any) -> t.Any:
    if not isinstance(value, dict):
        return value
    return {key: _dense(inner) for key, inner in value.items() if inner is not None}


def _steady(job: Document) -> Document:
    """Leave out of a diff what the hub works out, and the time of now."""
    moving = {"status", "start_time", "end_time", "created_time", "failure_reason", "statistics"}
    return {name: value for name, value in job.items() if name not in moving}


def _progress(job: Document) -> str:
    counts = job["statistics"]
    done = counts["succeeded"] + counts["failed"]
    return f"it is {job['status']}, {done} of {counts['devices']} devices are done, {counts['failed']} of them failed"


def _same_moment(one: str, other: str) -> bool:
    """Whether two times are the same, as exactly as hubs keep them."""
    return abs((_moment(one) - _moment(other)).total_seconds()) < 0.01


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise HubError(f"start_time '{text}' is no time; give one as 2026-11-23T18:00:00Z") from None
    if moment.tzinfo is None:
        raise HubError(f"start_time '{text}' has no time zone; give one as 2026-11-23T18:00:00Z")
    return moment
