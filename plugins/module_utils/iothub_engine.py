# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine: an IoT hub's service side as plain JSON documents, through Azure's own SDK.

Why JSON and not the SDK's models: ``query_iot_hub`` squeezes every row into a Twin and so loses the columns of
``SELECT COUNT() AS n``, and models drop fields they do not know. The SDK's generated client hands out the raw answer
when asked; that is what is used here.

The SDK's own retries are switched off: they know no deadline and would sleep for as long as a Retry-After says.
"""

from __future__ import annotations

import logging
import time
import typing as t

from .iothub_connection import HubAddress
from .iothub_courier import Courier, Message
from .iothub_errors import HubError, Refusal, read_refusal, worded
from .iothub_patch import Document
from .iothub_patience import Patience
from .iothub_trust import diagnose

BULK = 100  # devices a bulk call may carry
PAGE = 100  # rows asked for in a page of a query
_CONNECT = 10.0  # seconds to wait for a TCP connection

# what bulk_registry answers for these, as name (today) or number (older hubs)
ALREADY_THERE = frozenset({"DeviceAlreadyExists", "409001"})
NOT_THERE = frozenset({"DeviceNotFound", "404001"})

Answer = t.TypeVar("Answer", dict[str, t.Any], list[Document])


class Hub:
    """What the modules need of a hub. Every method raises HubError, worded, and nothing else of the hub's."""

    def __init__(self, address: HubAddress, patience: Patience, ca_file: str | None = None) -> None:
        """Prepare; nothing is sent yet. Raises ImportError if azure-iot-hub is missing."""
        from azure.iot.hub.auth import ConnectionStringAuthentication
        from azure.iot.hub.protocol.iot_hub_gateway_service_ap_is import IotHubGatewayServiceAPIs
        from msrest import exceptions

        _silence()
        self.address = address
        self._patience = patience
        self._ca_file = ca_file
        self._foreign: t.Any = exceptions
        self._rest = IotHubGatewayServiceAPIs(
            ConnectionStringAuthentication(address.service_string()), f"https://{address.netloc}"
        )
        self._rest.config.keep_alive = True  # one TLS connection for all calls
        self._rest.config.retry_policy.retries = 0
        self._rest.config.retry_policy.policy.status_forcelist = ()

    def close(self) -> None:
        """Give the connections back."""
        self._rest.close()

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
            failed.update(self._bulk(doing, operations[start : start + BULK]))
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

    # ---- one call ----

    def _call(self, doing: str, operation: t.Any, *arguments: t.Any) -> Document:
        """Run an operation and return its document."""
        return self._json(doing, self._answer(doing, operation, *arguments), dict)

    def _find(self, doing: str, operation: t.Any, *arguments: t.Any) -> Document | None:
        """Run an operation and return its document, or None if the hub answers 404."""
        raw = self._answer(doing, operation, *arguments, missing=True)
        return None if raw is None else self._json(doing, raw, dict)

    def _list(self, doing: str, operation: t.Any, *arguments: t.Any) -> list[Document]:
        """Run an operation and return its list of documents."""
        return self._json(doing, self._answer(doing, operation, *arguments), list)

    def _answer(self, doing: str, operation: t.Any, *arguments: t.Any, missing: bool = False) -> t.Any:
        """Run an operation until it is answered for good; return the SDK's raw answer."""
        attempt = 1
        while True:
            left = self._patience.left()
            self._rest.config.connection.timeout = (min(_CONNECT, max(1.0, left)), max(1.0, left))
            try:
                return operation(*arguments, raw=True)
            except self._foreign.HttpOperationError as error:
                refusal = read_refusal(error.response.status_code, error.response.text, error.response.headers)
                if missing and refusal.status == 404:
                    return None
                problem, passing, asked = self._refused(doing, refusal), refusal.passing, refusal.retry_after
            except self._foreign.ClientRequestError as error:
                problem, passing, asked = *self._unreachable(doing, error), None
            except (self._foreign.DeserializationError, ValueError):
                raise self._gibberish(doing) from None
            if not (passing and self._patience.pause(attempt, asked)):
                raise problem from None
            attempt += 1

    def _json(self, doing: str, raw: t.Any, kind: type[Answer]) -> Answer:
        """Return the body of an answer, which must be of ``kind``; no body is an empty one."""
        if not raw.response.content:
            return kind()
        try:
            body = raw.response.json()
        except ValueError:
            body = None
        if not isinstance(body, kind):
            raise self._gibberish(doing)
        return body

    def _refused(self, doing: str, refusal: Refusal) -> HubError:
        return refusal.error(doing, self.address.netloc, self.address.policy)

    def _gibberish(self, doing: str) -> HubError:
        return HubError(worded(doing, f"{self.address.netloc} answers, but not as an IoT hub does", "check HostName"))

    def _unreachable(self, doing: str, error: Exception) -> tuple[HubError, bool]:
        """Word a connection failure; the second value says whether it may pass by itself."""
        seconds = min(_CONNECT, max(1.0, self._patience.left()))
        trouble = diagnose(self.address.host, self.address.port, self._ca_file, seconds)
        if trouble:
            return HubError(worded(doing, trouble)), False
        inner = getattr(error, "inner_exception", None)
        happened = f"the connection to the hub {self.address.netloc} broke ({type(inner or error).__name__})"
        return HubError(worded(doing, happened, "run again; raise timeout if the hub is slow")), True


def _silence() -> None:
    """Keep the libraries' chatter off stderr, where Ansible would show it; uamqp logs each reconnect as an error."""
    for name in ("uamqp", "azure", "msrest", "urllib3"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def utc_milliseconds(seconds_from_now: int) -> int:
    """Return a moment as AMQP's timestamp."""
    return int((time.time() + seconds_from_now) * 1000)
