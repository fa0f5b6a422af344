# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hub in memory, behind the real SDK: it answers HTTP requests and takes AMQP messages.

It stands where the network is, so that everything of Azure's SDK runs in the tests: signing, serializing, raising.

    hub = HubSimulator()
    hub.add_device("fridge-1", tags={"ring": "beta"})
    hub.refuse_next(429, "ThrottlingException", retry_after=3)
    hub.index_lags()          # queries answer from now on with what is there now, like Azure's index
    hub.connect("fridge-1", lambda name, payload: (200, payload))    # answers direct methods from now on
    hub.looks_until_over = 3  # a job is over when it has been looked at so often

It knows what the modules use and raises NotImplementedError for the rest. The wire forms are those of the REST API
2021-04-12: https://learn.microsoft.com/rest/api/iothub/service
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import re
import secrets
import typing as t
import urllib.parse

Document = dict[str, t.Any]
Answer = tuple[int, dict[str, str], t.Any]
Method = t.Callable[[str, t.Any], tuple[int, t.Any] | None]

HOST = "hub.example.test"
POLICY = "iothubowner"
KEY = base64.b64encode(b"a service key nobody may ever see").decode()
CONNECTION_STRING = f"HostName={HOST};SharedAccessKeyName={POLICY};SharedAccessKey={KEY}"
QUEUE_DEPTH = 50


class HubSimulator:
    """Devices, twins, configurations and message queues of one hub."""

    def __init__(self) -> None:
        self.identities: dict[str, Document] = {}
        self.twins: dict[str, Document] = {}
        self.configurations: dict[str, Document] = {}
        self.queues: dict[str, list[t.Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        self.throttled_sends = 0
        self.modules: dict[str, dict[str, Document]] = {}
        self.jobs: dict[str, Document] = {}
        self.job_parts: dict[str, list[Document]] = {}
        self.looks_until_over = 1
        self._methods: dict[str, Method] = {}
        self.link_errors: list[Exception | None] = []  # one is raised, or not, each time a link works
        self._refusals: list[Answer] = []
        self._index: dict[str, Document] | None = None
        self._versions = 0

    # ---- what a test prepares and looks at ----

    def add_device(self, name: str, status: str = "enabled", **sections: Document) -> None:
        """Register a device with ``tags=`` and ``desired=``."""
        self._create({"id": name, "status": status, "tags": sections.get("tags", {})})
        self.twins[name]["properties"]["desired"].update(sections.get("desired", {}))

    def add_module(self, device: str, name: str) -> None:
        """Register a module of a device."""
        twin = _twin(device, self._etag(), "enabled", {"of": device})
        keys = {"primaryKey": _new_key(), "secondaryKey": _new_key()}
        twin |= {"moduleId": name, "identity": {"deviceId": device, "moduleId": name,
                                                "authentication": {"type": "sas", "symmetricKey": keys}}}  # fmt: skip
        self.modules.setdefault(device, {})[name] = twin

    def connect(self, name: str, answers: Method) -> None:
        """Connect a device, ``name``, or a module, ``device/module``; an answer of None comes too late."""
        self._methods[name] = answers
        device, _, module = name.partition("/")
        twin = self.modules[device][module] if module else self.twins[device]
        twin["connectionState"], twin["lastActivityTime"] = "Connected", "2026-11-23T18:00:00Z"

    def refuse_next(self, status: int, code: str = "", retry_after: int | None = None, times: int = 1) -> None:
        """Answer the next requests with an error."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._refusals += [(status, headers, _error(code, "said the hub"))] * times

    def index_lags(self) -> None:
        """Freeze what queries see; direct reads stay current."""
        self._index = copy.deepcopy(self.twins)

    def writes(self) -> list[tuple[str, str]]:
        """Return the requests that change something."""
        return [call for call in self.requests if call[0] != "GET" and call[1] != "/devices/query"]

    def state(self) -> Document:
        """Return everything a module may change, to compare before and after."""
        return copy.deepcopy(
            {"identities": self.identities, "twins": self.twins, "configurations": self.configurations,
             "jobs": self.jobs, "queues": {name: len(queue) for name, queue in self.queues.items()}}
        )  # fmt: skip

    # ---- HTTP ----

    def handle(self, method: str, url: str, headers: t.Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        parts = urllib.parse.urlsplit(url)
        path = [urllib.parse.unquote(part) for part in parts.path.strip("/").split("/")]
        self.requests.append((method, "/" + "/".join(path)))
        if self._refusals:
            return self._refusals.pop(0)
        if not _signed(headers.get("Authorization", "")):
            return 401, {}, _error("IotHubUnauthorizedAccess", "Unauthorized")
        document = json.loads(body) if body else None
        query = dict(urllib.parse.parse_qsl(parts.query))
        return self._route(method, path, headers, document, query)

    def _route(
        self, method: str, path: list[str], headers: t.Mapping[str, str], body: t.Any, query: dict[str, str]
    ) -> Answer:
        match (method, *path):
            case ("POST", "devices", "query"):
                return self._query(body["query"], headers)
            case ("POST", "devices"):
                return self._bulk(body)
            case ("GET", "devices"):
                return 200, {}, list(self.identities.values())[: int(query["top"])]
            case ("GET", "devices", name):
                return self._get(self.identities, name, "DeviceNotFound")
            case ("PUT", "devices", name):
                return self._put_identity(name, body, headers)
            case ("GET", "twins", name):
                return self._get(self.twins, name, "DeviceNotFound")
            case ("PATCH", "twins", name):
                return self._patch_twin(name, body)
            case ("GET", "devices", name, "modules"):
                return 200, {}, [twin["identity"] for twin in self.modules.get(name, {}).values()]
            case ("POST", "twins", name, "methods"):
                return self._invoke(name, None, body)
            case ("POST", "twins", name, "modules", module, "methods"):
                return self._invoke(name, module, body)
            case ("GET", "jobs", "v2", "query"):
                return self._list_jobs(query, headers)
            case ("GET", "jobs", "v2", name):
                self._advance(name)
                return self._get(self.jobs, name, "JobNotFound")
            case ("PUT", "jobs", "v2", name):
                return self._put_job(name, body)
            case ("POST", "jobs", "v2", name, "cancel"):
                self.jobs[name]["status"] = "cancelled"
                return 200, {}, self.jobs[name]
            case ("GET", "configurations"):
                return 200, {}, list(self.configurations.values())
            case ("GET", "configurations", name):
                return self._get(self.configurations, name, "ConfigurationNotFound")
            case ("PUT", "configurations", name):
                return self._put_configuration(name, body, headers)
            case ("DELETE", "configurations", name):
                found = self.configurations.pop(name, None)
                return (204, {}, None) if found else (404, {}, _error("ConfigurationNotFound", "not found"))
        raise NotImplementedError(f"{method} {path}")

    @staticmethod
    def _get(shelf: dict[str, Document], name: str, missing: str) -> Answer:
        return (200, {}, shelf[name]) if name in shelf else (404, {}, _error(missing, f"{name} not found"))

    def _query(self, sql: str, headers: t.Mapping[str, str]) -> Answer:
        modules = {f"{device}/{name}": twin for device, own in self.modules.items() for name, twin in own.items()}
        parts = {f"{job}/{n}": row for job, rows in self.job_parts.items() for n, row in enumerate(rows)}
        devices = self.twins if self._index is None else self._index
        rows = _select(sql, {"devices": devices, "devices.modules": modules, "devices.jobs": parts})
        start = int(headers.get("x-ms-continuation", "0"))
        end = start + int(headers.get("x-ms-max-item-count", "100"))
        more = {"x-ms-continuation": str(end)} if end < len(rows) else {}
        return 200, {"x-ms-item-type": "Twin", **more}, rows[start:end]

    def _bulk(self, operations: list[Document]) -> Answer:
        if len(operations) > 100:
            return 400, {}, _error("TooManyDevices", "more than 100")
        errors = []
        for operation in operations:
            there = operation["id"] in self.identities
            if operation["importMode"] == "create" and not there:
                self._create(operation)
            elif operation["importMode"] == "delete" and there:
                del self.identities[operation["id"]], self.twins[operation["id"]]
            else:
                code = "DeviceAlreadyExists" if there else "DeviceNotFound"
                errors.append({"deviceId": operation["id"], "errorCode": code, "errorStatus": "no"})
        return (400 if errors else 200), {}, {"isSuccessful": not errors, "errors": errors, "warnings": []}

    def _create(self, operation: Document) -> None:
        name = operation["id"]
        keys = {"primaryKey": _new_key(), "secondaryKey": _new_key()}
        authentication = operation.get("authentication") or {"type": "sas", "symmetricKey": keys}
        self.identities[name] = {"deviceId": name, "etag": self._etag(), "status": operation["status"],
                                 "authentication": authentication, "capabilities": {"iotEdge": False}}  # fmt: skip
        self.twins[name] = _twin(name, self._etag(), operation["status"], operation["tags"])
        self.queues[name] = []

    def _put_identity(self, name: str, body: Document, headers: t.Mapping[str, str]) -> Answer:
        if headers.get("If-Match") != f'"{self.identities[name]["etag"]}"':
            return 412, {}, _error("PreconditionFailed", "etag")
        self.identities[name] = {**body, "etag": self._etag()}
        self.twins[name]["status"] = body["status"]
        return 200, {}, self.identities[name]

    def _patch_twin(self, name: str, body: Document) -> Answer:
        twin = self.twins[name]
        _merge(twin["tags"], body.get("tags") or {})
        _merge(twin["properties"]["desired"], (body.get("properties") or {}).get("desired") or {})
        twin["etag"] = self._etag()
        return 200, {}, twin

    def _put_configuration(self, name: str, body: Document, headers: t.Mapping[str, str]) -> Answer:
        old, match = self.configurations.get(name), headers.get("If-Match")
        if old is not None and match is None:
            return 409, {}, _error("ConfigurationAlreadyExists", "there")
        if old is not None and match not in (f'"{old["etag"]}"', "*"):
            return 412, {}, _error("PreconditionFailed", "etag")
        if old is not None and old["content"] != body["content"]:
            return 400, {}, _error("CannotModifyImmutableConfigurationContent", "immutable")
        created = old["createdTimeUtc"] if old else f"2026-11-23T18:00:{len(self.configurations):02d}.123Z"
        self.configurations[name] = {**body, "etag": self._etag(), "createdTimeUtc": created,
                                     "systemMetrics": {"queries": {}, "results": {"targetedCount": 3}}}  # fmt: skip
        return 200, {}, self.configurations[name]

    # ---- methods and jobs ----

    def _invoke(self, device: str, module: str | None, body: Document) -> Answer:
        name = device if module is None else f"{device}/{module}"
        if device not in self.twins:
            return 404, {}, _error("DeviceNotFound", "not found")
        if module is not None and module not in self.modules.get(device, {}):
            return 404, {}, _error("ModuleNotFound", "not found")
        if name not in self._methods:
            # as Azure words it: a document in a text
            return 404, {}, {"Message": json.dumps({"errorCode": 404103, "message": "Timed out waiting for it."})}
        answer = self._methods[name](body["methodName"], body.get("payload"))
        if answer is None:
            return 504, {}, _error("GatewayTimeout", "Timed out")
        return 200, {}, {"status": answer[0], "payload": answer[1]}

    def _put_job(self, name: str, body: Document) -> Answer:
        if name in self.jobs:
            return 409, {}, _error("JobAlreadyExists", "there")
        self.jobs[name] = {**body, "status": "queued", "createdTime": f"2026-11-23T18:00:{len(self.jobs):02d}.123Z",
                           "endTime": None, "looks": 0, "deviceJobStatistics": {"deviceCount": 0}}  # fmt: skip
        return 200, {}, self.jobs[name]

    def _advance(self, name: str) -> None:
        """A look at a job: it runs at the first, and is over at the last."""
        job = self.jobs.get(name)
        if job is None or job["status"] not in ("queued", "running"):
            return
        job["looks"] += 1
        job["status"] = "running" if job["looks"] < self.looks_until_over else "completed"
        where = "" if job["queryCondition"] == "*" else f" WHERE {job['queryCondition']}"
        devices = _select(f"SELECT deviceId FROM devices{where}", {"devices": self.twins})  # noqa: S608
        if job["status"] == "completed":
            self.job_parts[name] = [self._do(name, job, row["deviceId"]) for row in devices]
        parts = self.job_parts.get(name, [])
        failed = sum(part["status"] == "failed" for part in parts)
        job["deviceJobStatistics"] = {"deviceCount": len(devices), "failedCount": failed,
                                      "succeededCount": len(parts) - failed}  # fmt: skip

    def _do(self, name: str, job: Document, device: str) -> Document:
        part = {"jobId": name, "deviceId": device, "status": "completed", "outcome": {}}
        if job["type"] == "scheduleUpdateTwin":
            self._patch_twin(device, job["updateTwin"])
            return part
        status, _headers, body = self._invoke(device, None, job["cloudToDeviceMethod"])
        if status == 200:
            return {**part, "outcome": {"deviceMethodResponse": body}}
        return {**part, "status": "failed", "error": {"code": "DeviceNotOnline", "description": "not there"}}

    def _list_jobs(self, query: dict[str, str], headers: t.Mapping[str, str]) -> Answer:
        """Answer with a list and a continuation, as the service does; the swagger, and so the SDK, has an object."""
        rows = [
            job
            for job in self.jobs.values()
            if query.get("jobType") in (None, job["type"]) and query.get("jobStatus") in (None, job["status"])
        ]
        start = int(headers.get("x-ms-continuation", "0"))
        more = {"x-ms-continuation": str(start + 2)} if start + 2 < len(rows) else {}
        return 200, more, rows[start : start + 2]

    def _etag(self) -> str:
        self._versions += 1
        return base64.b64encode(str(self._versions).encode()).decode()

    # ---- AMQP ----

    def refusal(self, device: str) -> tuple[bytes, bytes] | None:
        """Condition and description with which a message is not taken, or None."""
        if self.throttled_sends:
            self.throttled_sends -= 1
            return b"com.microsoft:server-busy", b"said"
        if device not in self.queues:
            return b"amqp:not-found", b"said"
        return (b"amqp:resource-limit-exceeded", b"said") if len(self.queues[device]) >= QUEUE_DEPTH else None

    def link(self) -> SendLink:
        """Open a link to messages/devicebound."""
        self.connections += 1
        return SendLink(self)


class SendLink:
    """What the courier uses of uamqp's SendClient."""

    def __init__(self, hub: HubSimulator) -> None:
        self._hub = hub
        self._pending: list[t.Any] = []

    def queue_message(self, message: t.Any) -> None:
        self._pending.append(message)

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Tell of each message without an answer that it failed, and no reason, as uamqp's C library does."""
        from uamqp import constants, errors

        while self._pending:
            lost = errors.MessageSendFailed(constants.ErrorCodes.UnknownError)
            self._pending.pop(0).on_send_complete(constants.MessageSendResult.Error, lost)

    def do_work(self) -> bool:
        """Settle one message."""
        from uamqp import constants, errors

        problem = self._hub.link_errors.pop(0) if self._hub.link_errors else None
        if problem:
            raise problem
        message = self._pending.pop(0)
        device = message.properties.to.decode().removeprefix("/devices/").removesuffix("/messages/devicebound")
        refusal = self._hub.refusal(device)
        if refusal is None:
            self._hub.queues[device].append(message)
            message.on_send_complete(constants.MessageSendResult.Ok, None)
        else:
            message.on_send_complete(constants.MessageSendResult.Error, errors.MessageException(*refusal))
        return True


def _select(sql: str, sources: dict[str, dict[str, Document]]) -> list[Document]:
    """Run the few forms of query that the modules and tests use: comparisons for equality and IN, joined by AND."""
    found = re.fullmatch(r"SELECT (.+?) FROM (devices[.a-z]*)(?: WHERE (.+))?", sql)
    if found is None:
        raise NotImplementedError(sql)
    columns, source, condition = found.groups()
    tests = [_test(part) for part in (condition or "").split(" AND ") if part]
    rows = [row for row in sources[source].values() if all(test(row) for test in tests)]
    if columns == "*":
        return rows
    if columns.startswith("COUNT() AS "):
        return [{columns.removeprefix("COUNT() AS "): len(rows)}]
    return [{column: row[column] for column in columns.split(", ")} for row in rows]


def _test(text: str) -> t.Callable[[Document], bool]:
    found = re.fullmatch(r"(?:devices\.jobs\.)?([\w.]+) (?:= |IN \[)(.+?)\]?", text)
    if found is None:
        raise NotImplementedError(text)
    path, listed = found.groups()
    values = [re.sub(r"\\(.)", r"\1", value) for value in re.findall(r"'((?:[^'\\]|\\.)*)'", listed)]

    def fulfilled(row: Document) -> bool:
        value: t.Any = row
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value in values

    return fulfilled


def _twin(device: str, etag: str, status: str, tags: Document) -> Document:
    return {"deviceId": device, "etag": etag, "status": status, "tags": tags, "connectionState": "Disconnected",
            "lastActivityTime": "0001-01-01T00:00:00Z", "statusUpdateTime": "0001-01-01T00:00:00Z",
            "authenticationType": "sas", "cloudToDeviceMessageCount": 0, "capabilities": {"iotEdge": False},
            "properties": {"desired": {"$metadata": {}, "$version": 1}, "reported": {}}}  # fmt: skip


def _merge(target: Document, patch: Document) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target.get(key)
            target[key] = dict(inner) if isinstance(inner, dict) else {}
            _merge(target[key], value)
        else:
            target[key] = value


def _signed(token: str) -> bool:
    fields = dict(urllib.parse.parse_qsl(token.removeprefix("SharedAccessSignature ")))
    signed = f"{fields.get('sr', '')}\n{fields.get('se', '')}".encode()
    right = base64.b64encode(hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(fields.get("sig", ""), right) and fields.get("skn") == POLICY


def _error(code: str, text: str) -> Document:
    return {"Message": f"ErrorCode:{code};{text}", "ExceptionMessage": "Tracking ID:1"}


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
