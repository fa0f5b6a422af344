# SPDX-License-Identifier: Apache-2.0
"""Scheduled jobs at work.

Each job has a task of its own that waits for its time, then for a place among the running ones, then goes through its
devices, a few at a time. Every step is on disk: after a restart a job goes on with the devices that are left. A method
that was on its way when the hub died counts as failed, since nobody knows whether the device got it.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-jobs
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator

from ..core.errors import HubError, JobAlreadyExists, JobNotFound
from ..core.job import CANCELLED, COMPLETED, DEVICE_METHOD, FAILED, QUEUED, RUNNING, DeviceJob, Job, new_job, statistics
from ..core.query import MODULES, UNDEFINED, Document
from ..core.quota import Operation
from ..core.twin import JsonObject
from .device import Device
from .meter import Meter
from .methods import Methods
from .queries import Collection, Found
from .registry import Clock, Registry
from .store import Statement, Store
from .twins import Twins

_log = logging.getLogger(__name__)
MAX_RUNNING = 10
Leave = Callable[[DeviceJob, float], DeviceJob]
"""What becomes of a device's part when its job ends early."""
_AT_ONCE = 50
_STEP = 200
_LONGEST_SLEEP = 3600.0
_RETENTION = 30 * 24 * 3600.0


class Jobs:
    """All jobs of the hub and what they did to each device."""

    def __init__(
        self, store: Store, registry: Registry, twins: Twins, methods: Methods, meter: Meter, clock: Clock
    ) -> None:
        self._store = store
        self._registry = registry
        self._twins = twins
        self._methods = methods
        self._meter = meter
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._parts: dict[str, dict[str, DeviceJob]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._new: asyncio.Queue[str] = asyncio.Queue()
        self._places = asyncio.Semaphore(meter.running_jobs or MAX_RUNNING)

    def load(self) -> None:
        """Read what the disk has; what is not over goes on."""
        for (record,) in self._store.rows("SELECT document FROM jobs"):
            job = Job.from_record(record)
            self._jobs[job.id], self._parts[job.id] = job, {}
        for job_id, key, record in self._store.rows("SELECT job_id, device_id, document FROM device_jobs"):
            self._parts[job_id][key] = DeviceJob.from_record(record)
        for job in self._jobs.values():
            if not job.over:
                self._new.put_nowait(job.id)

    async def put(self, job_id: str, body: JsonObject) -> JsonObject:
        """REST PUT: create. The answer is of a job that was not looked at yet: it is queued, whenever it starts.

        Raises:
            JobAlreadyExists: a job never changes.
        """
        if job_id in self._jobs:
            raise JobAlreadyExists(f"job {job_id} exists already")
        job = new_job(job_id, body, self._clock())
        self._jobs[job_id], self._parts[job_id] = job, {}
        await self._store.commit(*self._forgotten(), _saved(job))
        self._new.put_nowait(job_id)
        return {**self.document(job_id), "status": QUEUED}

    async def cancel(self, job_id: str) -> JsonObject:
        """REST POST cancel: what did not begin does not happen; a job that is over stays what it is."""
        job = self._get(job_id)
        if not job.over:
            task = self._tasks.pop(job_id, None)
            if task is not None:
                task.cancel()
            await self._finish(job.ended(CANCELLED, self._clock()), lambda part, now: part.cancelled(now))
        return self.document(job_id)

    def document(self, job_id: str) -> JsonObject:
        """REST's `JobResponse`."""
        return self._get(job_id).to_json(statistics(self._parts[job_id].values()))

    def documents(self, kind: str | None, status: str | None) -> list[JsonObject]:
        """REST's query, newest first."""
        found = [
            job
            for job in self._jobs.values()
            if (not kind or job.type.lower() == kind.lower()) and (not status or job.status == status.lower())
        ]
        return [self.document(job.id) for job in sorted(found, key=lambda job: (-job.created, job.id))]

    def collection(self) -> Collection:
        """devices.jobs, for queries."""
        return Collection(self._keys, self._read, "DeviceJob")

    async def work(self) -> None:
        """Run jobs, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                job_id = await self._new.get()
                if not self._jobs[job_id].over:
                    self._tasks[job_id] = group.create_task(self._run(job_id))

    async def _run(self, job_id: str) -> None:
        await self._due(self._jobs[job_id].start)
        if self._places.locked():
            await self._save(self._jobs[job_id].queued())
        async with self._places:
            fresh = self._jobs[job_id].status != RUNNING
            job = self._jobs[job_id].running(self._clock())
            await self._save(job, *(await self._begin(job) if fresh else ()))
            end = (job.running_since or 0.0) + job.max_seconds
            try:
                async with asyncio.timeout(end - self._clock()):
                    await self._execute(job)
            except TimeoutError:
                why = f"the job did not end within {job.max_seconds} s"
                await self._finish(
                    job.ended(FAILED, self._clock(), why), lambda part, now: part.failed(now, "JobCancelled", why)
                )
            else:
                await self._save(job.ended(COMPLETED, self._clock()))
        self._tasks.pop(job_id, None)

    async def _due(self, start: float) -> None:
        while True:
            delay = start - self._clock()
            if delay <= 0:
                return
            await asyncio.sleep(min(delay, _LONGEST_SLEEP))

    async def _begin(self, job: Job) -> list[Statement]:
        """Find the devices: those that fulfil the condition now."""
        modules = job.targets.source == MODULES
        now = self._clock()
        found: dict[str, DeviceJob] = {}
        for index, device in enumerate(self._registry.modules() if modules else list(self._registry)):
            if job.targets(device.query_document()):
                found[device.id] = _part(job, device, now)
            if index % _STEP == 0:
                await asyncio.sleep(0)
        self._parts[job.id] = found
        return [_saved_part(key, part) for key, part in found.items()]

    async def _execute(self, job: Job) -> None:
        waiting = iter([key for key, part in self._parts[job.id].items() if not part.over])
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._worker(job, waiting))

    async def _worker(self, job: Job, waiting: Iterator[str]) -> None:
        for key in waiting:
            await self._meter.turn(Operation.JOB_DEVICE)
            part = self._parts[job.id][key]
            try:
                self._meter.require_messages()
                done = await (self._call(job, key, part) if job.type == DEVICE_METHOD else self._update(job, key, part))
            except HubError as error:
                done = part.failed(self._clock(), error.code, str(error))
            except Exception:
                _log.exception("jobs: %s failed for %s", job.id, key)
                done = part.failed(self._clock(), HubError.code, "an internal error; the log of the hub has it")
            await self._save_part(key, done)

    async def _call(self, job: Job, key: str, part: DeviceJob) -> DeviceJob:
        if part.status == RUNNING:
            return part.failed(self._clock(), "ServerError", "the hub was restarted while the method was on its way")
        part = part.running(self._clock())
        await self._save_part(key, part)
        try:
            response = await self._methods.invoke(key, job.method or {})
        except HubError as error:
            return part.failed(self._clock(), error.code, str(error))
        self._meter.charge(len(json.dumps(job.method)))
        self._meter.charge(len(json.dumps(response)))
        return part.completed(self._clock(), response)

    async def _update(self, job: Job, key: str, part: DeviceJob) -> DeviceJob:
        patch = job.update_twin or {}
        etag = patch.get("etag")
        part = part.running(self._clock())
        self._meter.charge(len(json.dumps(patch)))
        await self._twins.patch_soon(key, patch, None if etag in (None, "", "*") else f'"{str(etag).strip(chr(34))}"')
        return part.completed(self._clock())

    async def _finish(self, job: Job, leave: Leave) -> None:
        """End a job before its devices are through."""
        now, statements = self._clock(), []
        for key, part in self._parts[job.id].items():
            if not part.over:
                self._parts[job.id][key] = left = leave(part, now)
                statements.append(_saved_part(key, left))
        await self._save(job, *statements)

    async def _save(self, job: Job, *statements: Statement) -> None:
        self._jobs[job.id] = job
        await self._store.commit(_saved(job), *statements)

    async def _save_part(self, key: str, part: DeviceJob) -> None:
        with contextlib.suppress(KeyError):  # the job is forgotten
            self._parts[part.job_id][key] = part
            await self._store.commit(_saved_part(key, part))

    def _get(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"job {job_id} does not exist")
        return job

    def _forgotten(self) -> list[Statement]:
        """Jobs are kept for 30 days."""
        oldest = self._clock() - _RETENTION
        old = [job.id for job in self._jobs.values() if job.over and (job.end or 0.0) < oldest]
        for job_id in old:
            del self._jobs[job_id], self._parts[job_id]
        return [
            (f"DELETE FROM {table} WHERE {column} = ?", (job_id,))  # noqa: S608
            for job_id in old
            for table, column in (("jobs", "id"), ("device_jobs", "job_id"))
        ]

    def _keys(self) -> list[str]:
        return sorted(f"{job_id}/{key}" for job_id, parts in self._parts.items() for key in parts)

    def _read(self, name: str) -> Found | None:
        job_id, _, key = name.partition("/")
        part = self._parts.get(job_id, {}).get(key)
        return None if part is None else (_document(part), part.to_json)


def _saved(job: Job) -> Statement:
    return ("INSERT OR REPLACE INTO jobs (id, document) VALUES (?, ?)", (job.id, job.to_record()))


def _saved_part(key: str, part: DeviceJob) -> Statement:
    sql = "INSERT OR REPLACE INTO device_jobs (job_id, device_id, document) VALUES (?, ?, ?)"
    return (sql, (part.job_id, key, part.to_record()))


def _part(job: Job, device: Device, now: float) -> DeviceJob:
    return DeviceJob(job.id, job.type, device.identity.device_id, device.identity.module_id, now, now)


def _document(part: DeviceJob) -> Document:
    fields = {name.lower(): value for name, value in part.to_json().items()}
    fields["createdtimeutc"] = fields["createddatetimeutc"]  # what the documentation's own example asks for
    return lambda name: fields.get(name.lower(), UNDEFINED)
