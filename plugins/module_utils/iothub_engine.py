# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine: an IoT hub's service side as plain JSON documents, through Azure's own SDK.

Why JSON and not the SDK's models: ``query_iot_hub`` squeezes every row into a Twin and so loses the columns of
``SELECT COUNT() AS n``, and models drop fields they do not know. The SDK's generated client hands out the raw answer
when asked; that is what is used here. How a call is repeated and its errors are worded: iothub_rest.
"""

from __future__ import annotations

import time
import typing as t

from .iothub_courier import Courier, Message
from .iothub_errors import HubError, read_refusal
from .iothub_patch import Document
from .iothub_rest import Rest, quoted_path

BULK = 100  # devices a bulk call may carry
PAGE = 100  # rows asked for in a page of a query

# what bulk_registry answers for these, as name (today) or number (older hubs)
ALREADY_THERE = frozenset({"DeviceAlreadyExists", "409001"})
NOT_THERE = frozenset({"DeviceNotFound", "404001"})


class Hub(Rest):
    """What the modules need of a hub. Every method raises HubError, worded, and nothing else of the hub's."""

    # ---- twins ----

    def twin(self, device: str) -> Document | None:
        """Return a device's twin, or None if there is no such device."""
        return self._find(f"read the twin of device '{device}'", self._rest.devices.get_twin, device)

    def patch_twin(self, device: str, patch: Document) -> Document:
        """Merge ``{"tags": {...}, "properties": {"desired": {...}}}`` into a twin and return the twin."""
        doing = f"patch the twin of device '{device}'"
        # "*": a merge patch names only what it changes, so somebody else's write in between is not lost
        return self._call(doing, self._rest.devices.update_twin, device, patch, "*")

    def query(self, sql: str, limit: int | None = None) -> t.Iterator[Document]:
        """Yield the rows of a query, page by page, ``limit`` at most."""
        token: str | None = None
        seen = 0
        while limit is None or seen < limit:
            size = PAGE if limit is None else min(PAGE, limit - seen)
            rows, token = self._page(sql, token, size)
            yield from rows if limit is None else rows[: limit - seen]
            seen += len(rows)
            if not token:
                return

    def _page(self, sql: str, token: str | None, size: int) -> tuple[list[Document], str | None]:
        raw = self._answer("run the query", self._rest.query.get_twins, {"query": sql}, token, str(size))
        rows: list[Document] = self._json("run the query", raw, list)
        return rows, raw.headers.get("x-ms-continuation")

    # ---- identities ----

    def identity(self, device: str) -> Document | None:
        """Return a device's identity with its keys, or None."""
        return self._find(f"read device '{device}'", self._rest.devices.get_identity, device)

    def identities(self, top: int = 1000) -> list[Document]:
        """Return identities with their keys, the first ``top`` (1000 at most) in the hub's order."""
        return self._list("list the devices", self._rest.devices.get_devices, top)

    def module_identities(self, device: str) -> list[Document]:
        """Return the identities of a device's modules with their keys."""
        return self._list(f"list the modules of device '{device}'", self._rest.modules.get_modules_on_device, device)

    def put_identity(self, identity: Document) -> Document:
        """Write a whole identity back, as read and changed; raises Changed if it was written in between."""
        doing = f"update device '{identity['deviceId']}'"
        etag = f'"{identity["etag"]}"'
        operation = self._rest.devices.create_or_update_identity
        return self._call(doing, operation, identity["deviceId"], identity, etag)

    def bulk(self, doing: str, operations: list[Document]) -> dict[str, str]:
        """Run registry operations (ExportImportDevice documents) and return the failed: ``{id: code or sentence}``."""
        failed: dict[str, str] = {}
        for start in range(0, len(operations), BULK):
            try:
                failed.update(self._bulk(doing, operations[start : start + BULK]))
            except HubError as error:
                if start == 0:
                    raise
                failed.update((operation["id"], str(error)) for operation in operations[start:])
                break
        return failed

    def _bulk(self, doing: str, operations: list[Document]) -> dict[str, str]:
        # the SDK takes status 400 for a result here, because partial failures come so; and anything else malformed too
        raw = self._answer(doing, self._rest.bulk_registry.update_registry, operations)
        document: Document = self._json(doing, raw, dict)
        errors = document.get("errors")
        if raw.response.status_code == 400 and not errors:
            raise self._refused(doing, read_refusal(400, raw.response.text, {}))
        return {
            error["deviceId"]: str(error.get("errorCode") or error.get("errorStatus") or "unknown error")
            for error in errors or []
        }

    # ---- configurations ----

    def configuration(self, name: str) -> Document | None:
        """Return an automatic device configuration, or None."""
        doing = f"read configuration '{name}'"
        return self._find(doing, self._rest.configuration.get, name)

    def configurations(self) -> list[Document]:
        """Return all configurations (a hub holds 100 at most)."""
        return self._list("list the configurations", self._rest.configuration.get_configurations)

    def put_configuration(self, configuration: Document, etag: str | None = None) -> Document:
        """Create (no etag) or replace a configuration; raises Changed if it was written in between."""
        doing = f"{'update' if etag else 'create'} configuration '{configuration['id']}'"
        quoted = f'"{etag}"' if etag else None
        operation = self._rest.configuration.create_or_update
        return self._call(doing, operation, configuration["id"], configuration, quoted)

    def delete_configuration(self, name: str) -> None:
        """Delete a configuration; one that is gone already is fine."""
        self._find(f"delete configuration '{name}'", self._rest.configuration.delete, name, "*")

    # ---- messages ----

    def send(self, messages: list[Message]) -> dict[str, str | None]:
        """Send cloud-to-device messages over one connection; return ``{device: None or what went wrong}``."""

        def check_key(doing: str, device: str) -> object:
            return self._find(doing, self._rest.devices.get_twin, device)

        return Courier(self.address, self._patience, self._ca_file, check_key).send(messages)

    # ---- direct methods ----

    def invoke(self, device: str, module: str | None, method: Document) -> Document:
        """Call a direct method of a device or module, never twice; return ``{"status": ..., "payload": ...}``."""
        where = f"device '{device}'" if module is None else f"module '{module}' of device '{device}'"
        doing = f"call method '{method['methodName']}' of {where}"
        if module is None:
            return self._call(doing, self._rest.devices.invoke_method, device, method, once=True)
        return self._call(doing, self._rest.modules.invoke_method, device, module, method, once=True)

    # ---- jobs ----

    def job(self, name: str) -> Document | None:
        """Return a scheduled job, or None."""
        return self._find(f"read job '{name}'", self._rest.jobs.get_scheduled_job, name)

    def jobs(self, kind: str | None = None, status: str | None = None) -> list[Document]:
        """Return the scheduled jobs; the SDK's own operation does not read what Azure answers."""
        given = {"jobType": kind, "jobStatus": status}
        query = {key: value for key, value in given.items() if value is not None}
        return list(self.pages("list the jobs", "GET", "/jobs/v2/query", **query))

    def put_job(self, job: Document) -> Document:
        """Create a scheduled job; a job never changes."""
        name = job["jobId"]
        return self._call(f"create job '{name}'", self.request("PUT", f"/jobs/v2/{quoted_path(name)}", job))

    def cancel_job(self, name: str) -> Document:
        """Cancel a scheduled job."""
        return self._call(f"cancel job '{name}'", self._rest.jobs.cancel_scheduled_job, name)


def utc_milliseconds(seconds_from_now: int) -> int:
    """Return a moment as AMQP's timestamp."""
    return int((time.time() + seconds_from_now) * 1000)
