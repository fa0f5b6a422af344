# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Direct methods of a list of devices: a few at a time, each called once at most, an answer for each.

A method may do anything, so nothing is repeated but what the hub throttled, which never reached a device.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-direct-methods
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from .iothub_batch import attempts, judge, raise_fatal
from .iothub_engine import Hub
from .iothub_errors import Broken, HubError
from .iothub_patch import Document
from .iothub_quota import Estimate, Operation, method_bytes
from .iothub_twins import Twins, chunks, existing, quoted

SHORTEST_RESPONSE, LONGEST = 5, 300  # seconds
_LARGEST = 131_072  # bytes of payload
_OFFLINE = frozenset({"DeviceNotOnline", "404103"})
_UNKNOWN_DEVICE = frozenset({"DeviceNotFound", "404001"})
_UNKNOWN_MODULE = frozenset({"ModuleNotFound", "404010"})
_GATEWAY_TIMEOUT = 504


@dataclass(frozen=True)
class Method:
    """A question to many devices."""

    name: str
    payload: t.Any = None
    module: str | None = None
    connect_timeout: int = 0
    response_timeout: int = 30

    def check(self) -> None:
        """Raise HubError for what no hub takes."""
        if not 0 < len(self.name) <= 100:
            raise HubError(f"method '{self.name}' is no name of a method: it has 1 to 100 characters")
        if not 0 <= self.connect_timeout <= LONGEST:
            raise HubError(f"connect_timeout is {self.connect_timeout} s; it is between 0 s and {LONGEST} s")
        if not SHORTEST_RESPONSE <= self.response_timeout <= LONGEST:
            span = f"{SHORTEST_RESPONSE} s and {LONGEST} s"
            raise HubError(f"response_timeout is {self.response_timeout} s; it is between {span}")
        size = len(json.dumps(self.payload))
        if size > _LARGEST:
            raise HubError(f"payload has {size} bytes; that of a direct method holds {_LARGEST} at most")

    @property
    def seconds(self) -> int:
        """How long a call may take."""
        return self.connect_timeout + self.response_timeout

    def document(self) -> Document:
        """Return the hub's document."""
        return {
            "methodName": self.name,
            "payload": self.payload,
            "connectTimeoutInSeconds": self.connect_timeout,
            "responseTimeoutInSeconds": self.response_timeout,
        }

    def of(self, device: str) -> str:
        """Return who is asked, in the words of an error."""
        return f"device '{device}'" if self.module is None else f"module '{self.module}' of device '{device}'"


class Calls:
    """Calls a method of devices and reports on each."""

    def __init__(
        self, hub: Hub, check_mode: bool, fail_on: str, parallel: int, estimate: Estimate | None = None
    ) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._fail_on = fail_on
        self._parallel = parallel
        self._estimate = estimate or Estimate()

    def check(self, method: Method) -> None:
        """Raise HubError for what cannot work, before anything is asked of the hub."""
        method.check()
        if self._parallel < 1:
            raise HubError(f"parallel is {self._parallel}; it must be 1 or more")
        if method.seconds >= self._hub.left():
            raise HubError(f"timeout is too short for one call, which may take {method.seconds} s; raise timeout")

    def run(self, ids: list[str], method: Method) -> dict[str, t.Any]:
        """Return ``changed`` and ``devices``; raise HubError, with them, if too many failed for ``fail_on``."""
        self.check(method)
        ids = list(dict.fromkeys(ids))
        size = len(json.dumps(method.document()))
        self._estimate.add(Operation.METHOD, method_bytes(size, len(ids)))
        if self._check_mode:
            outcomes: list[t.Any] = self._rehearse(ids, method)
        else:
            outcomes = attempts(lambda name: self._call(name, method), ids, self._parallel)
        return self._result(ids, method, outcomes)

    def _call(self, device: str, method: Method) -> Document:
        if self._hub.left() < method.seconds:
            raise HubError(f"{method.of(device)} was not called, since timeout was over before; raise timeout")
        return self._hub.invoke(device, method.module, method.document())

    def _result(self, ids: list[str], method: Method, outcomes: list[t.Any]) -> dict[str, t.Any]:
        devices = [_told(name, method, outcome) for name, outcome in zip(ids, outcomes, strict=True)]
        changed = any(device["called"] for device in devices)
        result = {"changed": changed, "devices": devices, **self._estimate.result()}
        raise_fatal(outcomes, result)
        errors = [device["error"] for device in devices if device["error"]]
        judge(result, errors, self._fail_on, f"do method {method.name}")
        return result

    # ---- check mode ----

    def _rehearse(self, ids: list[str], method: Method) -> list[Document | HubError]:
        """Find out who would be called: who is registered, and connected unless it may still come."""
        rows = self._modules(ids, method.module) if method.module else self._devices(ids)
        return [self._rehearsed(name, rows.get(name), method) for name in ids]

    def _devices(self, ids: list[str]) -> dict[str, Document]:
        found = existing(self._hub, ids, columns="deviceId, connectionState")
        found.update(Twins(self._hub).fresh([name for name in ids if name not in found]))
        return found

    def _modules(self, ids: list[str], module: str) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for part in chunks(ids):
            listed = ", ".join(map(quoted, part))
            where = f"deviceId IN [{listed}] AND moduleId = {quoted(module)}"
            for row in self._hub.query(f"SELECT * FROM devices.modules WHERE {where}"):  # noqa: S608
                found[row["deviceId"]] = row
        return found

    @staticmethod
    def _rehearsed(name: str, row: Document | None, method: Method) -> Document | HubError:
        if row is None:
            return HubError(_unregistered(name, method))
        if row.get("connectionState") == "Disconnected" and method.connect_timeout == 0:
            return HubError(_offline(name, method))
        return {"status": None, "payload": None}


def _told(device: str, method: Method, outcome: Document | HubError) -> Document:
    """Return a device's line of the result."""
    if not isinstance(outcome, HubError):
        status = outcome.get("status")
        refused = status is not None and not 200 <= status < 300
        error = f"{method.of(device)} answered {status} to method {method.name}" if refused else None
        return {"id": device, "called": True, "status": status, "payload": outcome.get("payload"), "error": error}
    error, reached = _worded(device, method, outcome)
    return {"id": device, "called": reached, "status": None, "payload": None, "error": error}


def _worded(device: str, method: Method, error: HubError) -> tuple[str, bool]:
    """Word an error for one device; the second value is False if it certainly was not called."""
    refusal = error.refusal
    if refusal is None:
        return str(error), isinstance(error, Broken)
    if refusal.code in _OFFLINE:
        return _offline(device, method), False
    if refusal.code in _UNKNOWN_DEVICE | _UNKNOWN_MODULE:
        return _unregistered(device, method), False
    if refusal.status == _GATEWAY_TIMEOUT:
        happened = f"{method.of(device)} did not answer to method {method.name} within {method.response_timeout} s"
        return f"{happened}; raise response_timeout if it needs longer", True
    return str(error), refusal.status >= 500


def _offline(device: str, method: Method) -> str:
    who = method.of(device)
    return f"{who} is not connected, or does not listen for methods; raise connect_timeout to wait for it"


def _unregistered(device: str, method: Method) -> str:
    if method.module is None:
        return f"device '{device}' is not registered; create it with iotops.fleet.iothub_device"
    return f"{method.of(device)} is not registered; check the ids"
