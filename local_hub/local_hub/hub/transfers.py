# SPDX-License-Identifier: Apache-2.0
"""Import and export of identities and configurations at work: one job at a time, as Azure has it.

A job that a restart interrupts has failed; an import can be given again, since its lines say "create or update".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import aiohttp

from ..core.errors import HubError, JobNotFound, JobQuotaExceeded
from ..core.identity import module_key
from ..core.transfer import (
    CANCELLED,
    COMPLETED,
    ERRORS_BLOB,
    EXPORT,
    FAILED,
    RUNNING,
    Transfer,
    blob_address,
    bulk_item,
    configuration_match,
    new_transfer,
    read_lines,
    without_keys,
    write_lines,
)
from ..core.twin import JsonObject
from ..durable_files import write_file
from .configurations import Configurations
from .device import Device
from .registry import MAX_BULK, Clock, Registry
from .store import Store

_log = logging.getLogger(__name__)
_STEP = 200
_TIMEOUT = aiohttp.ClientTimeout(total=300)
_SAVE = "INSERT OR REPLACE INTO transfers (id, document) VALUES (?, ?)"


class Transfers:
    """All import and export jobs."""

    def __init__(self, store: Store, registry: Registry, configurations: Configurations, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._configurations = configurations
        self._clock = clock
        self._jobs: dict[str, Transfer] = {}
        self._task: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Read what the disk has."""
        for (record,) in self._store.rows("SELECT document FROM transfers"):
            job = Transfer.from_record(record)
            if job.status == RUNNING:
                job = job.ended(FAILED, self._clock(), "the hub was restarted")
            self._jobs[job.id] = job

    async def create(self, body: JsonObject) -> JsonObject:
        """REST POST /jobs/create.

        Raises:
            JobQuotaExceeded: one is running.
        """
        if any(job.status == RUNNING for job in self._jobs.values()):
            raise JobQuotaExceeded("one import or export job runs at a time")
        job = new_transfer(body, self._clock())
        self._jobs[job.id] = job
        await self._save(job)
        self._task = asyncio.create_task(self._run(job))
        return job.to_json()

    def document(self, job_id: str) -> JsonObject:
        """REST GET /jobs/{id}."""
        return self._get(job_id).to_json()

    def documents(self) -> list[JsonObject]:
        """REST GET /jobs, newest first."""
        return [job.to_json() for job in sorted(self._jobs.values(), key=lambda job: -job.start)]

    async def cancel(self, job_id: str) -> None:
        """REST DELETE /jobs/{id}; one that is over stays what it is."""
        job = self._get(job_id)
        if job.status == RUNNING:
            if self._task is not None:
                self._task.cancel()
            await self._save(job.ended(CANCELLED, self._clock()))

    async def close(self) -> None:
        """Stop the job at hand."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, job: Transfer) -> None:
        try:
            await (self._export(job) if job.type == EXPORT else self._import(job))
        except (HubError, OSError, aiohttp.ClientError, TimeoutError) as error:
            await self._save(job.ended(FAILED, self._clock(), str(error) or type(error).__name__))
        except Exception:
            _log.exception("transfers: %s failed", job.id)
            await self._save(job.ended(FAILED, self._clock(), "an internal error; the log of the hub has it"))
        else:
            await self._save(job.ended(COMPLETED, self._clock()))

    async def _export(self, job: Transfer) -> None:
        lines = []
        for index, device in enumerate(list(self._registry)):
            lines += [_line(each, job.exclude_keys) for each in (device, *device.modules.values())]
            if index % _STEP == 0:
                await asyncio.sleep(0)
        await _write(blob_address(job.output_uri, job.output_name), write_lines(lines))
        if job.include_configurations:
            address = blob_address(job.output_uri, job.configurations_name)
            await _write(address, write_lines(each.to_json() for each in self._configurations.in_order()))

    async def _import(self, job: Transfer) -> None:
        lines = read_lines(await _read(blob_address(job.input_uri, job.input_name)))
        configurations: list[JsonObject] = []
        if job.include_configurations:
            configurations = read_lines(await _read(blob_address(job.input_uri, job.configurations_name)))
        errors: list[JsonObject] = []
        for start in range(0, len(lines), MAX_BULK):
            items = [bulk_item(line, self._exists(line)) for line in lines[start : start + MAX_BULK]]
            errors += await self._registry.bulk(items)
        errors += await self._import_configurations(configurations)
        await _write(blob_address(job.output_uri, ERRORS_BLOB), write_lines(errors))

    async def _import_configurations(self, lines: list[JsonObject]) -> list[JsonObject]:
        errors: list[JsonObject] = []
        known = {each.id for each in self._configurations.in_order()}
        for line in lines:
            try:
                match = configuration_match(line, line["id"] in known)
                await self._configurations.put(line["id"], line, match)
            except HubError as error:
                errors.append({"id": line["id"], "errorCode": error.code, "errorStatus": str(error)})
            else:
                known.add(line["id"])
        return errors

    def _exists(self, line: JsonObject) -> bool:
        module_id = line.get("moduleId")
        return (
            self._registry.find(line["id"] if module_id is None else module_key(line["id"], str(module_id))) is not None
        )

    async def _save(self, job: Transfer) -> None:
        self._jobs[job.id] = job
        await self._store.commit((_SAVE, (job.id, job.to_record())))

    def _get(self, job_id: str) -> Transfer:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"job {job_id} does not exist")
        return job


def _line(device: Device, exclude_keys: bool) -> JsonObject:
    document = device.identity_document()
    authentication = document["authentication"]
    line = {
        "id": device.identity.device_id,
        "eTag": device.identity.etag,
        "authentication": without_keys(authentication) if exclude_keys else authentication,
        "twinETag": device.twin.etag,
        "tags": device.twin.tags,
        "properties": {"desired": device.twin.desired.document(), "reported": device.twin.reported.document()},
    }
    if device.identity.module_id is not None:
        return {**line, "moduleId": device.identity.module_id, "managedBy": device.identity.managed_by}
    extra = {name: document[name] for name in ("status", "statusReason", "capabilities")}
    return {**line, **extra}


async def _read(address: str) -> bytes:
    if address.startswith("/"):
        return await asyncio.to_thread(Path(address).read_bytes)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(address) as answer:
        answer.raise_for_status()
        return await answer.read()


async def _write(address: str, data: bytes) -> None:
    if address.startswith("/"):
        await asyncio.to_thread(write_file, Path(address), data, 0o600)
        return
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"}
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.put(address, data=data, headers=headers) as answer,
    ):
        answer.raise_for_status()
