# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A provisioning service in memory: enrolments, as Azure's REST API 2021-10-01 has them.

Unlike the local hub, and like Azure, it shows keys by ``attestationmechanism`` only, makes new ones for an enrolment
that is written without, and has its ETags in quotes. https://learn.microsoft.com/rest/api/iot-dps/service
"""

from __future__ import annotations

import copy
import json
import typing as t
import urllib.parse

from hub_simulator import KEY, Answer, Document, _error, _new_key, _signed

HOST = "dps.example.test"
CONNECTION_STRING = f"HostName={HOST};SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"


class ProvisioningSimulator:
    """Individual enrolments and groups."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Document]] = {"enrollments": {}, "enrollmentGroups": {}}
        self.keys: dict[str, Document] = {}
        self.requests: list[tuple[str, str]] = []
        self.versions: set[str] = set()
        self.bad: set[str] = set()  # ids that no bulk call takes
        self._refusals: list[Answer] = []
        self._etags = 0

    def refuse_next(self, status: int, code: int = 0, retry_after: int | None = None, times: int = 1) -> None:
        """Answer the next requests with an error, in the provisioning service's own form."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._refusals += [
            (status, headers, {"errorCode": code, "trackingId": "1", "message": "said the service"})
        ] * times

    def writes(self) -> list[tuple[str, str]]:
        """Return the requests that change something."""
        return [call for call in self.requests if call[0] in ("PUT", "DELETE") or call == ("POST", "/enrollments")]

    def state(self) -> Document:
        """Return everything a module may change, to compare before and after."""
        return copy.deepcopy({"tables": self.tables, "keys": self.keys})

    def handle(self, method: str, url: str, headers: t.Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        parts = urllib.parse.urlsplit(url)
        path = [urllib.parse.unquote(part) for part in parts.path.strip("/").split("/")]
        self.requests.append((method, "/" + "/".join(path)))
        self.versions.add(dict(urllib.parse.parse_qsl(parts.query))["api-version"])
        if self._refusals:
            return self._refusals.pop(0)
        if not _signed(headers.get("Authorization", "")):
            return 401, {}, _error("IotHubUnauthorizedAccess", "Unauthorized")
        table = self.tables[path[0]]
        if (method, path) == ("POST", ["enrollments"]):
            return self._bulk(json.loads(body))
        match (method, *path[1:]):
            case ("POST", "query"):
                return self._page(list(table.values()), int(headers.get("x-ms-continuation", "0")))
            case ("GET", name) if name.lower() in table:
                return 200, {}, table[name.lower()]
            case ("POST", name, "attestationmechanism") if name.lower() in table:
                shown = table[name.lower()]["attestation"]
                return 200, {}, {**shown, "symmetricKey": self.keys.get(path[0] + name.lower())}
            case ("PUT", name):
                return self._put(path[0], name, json.loads(body), headers.get("If-Match"))
            case ("DELETE", name) if name.lower() in table:
                del table[name.lower()]
                return 204, {}, None
        return 404, {}, {"errorCode": 404201, "trackingId": "1", "message": "Enrollment not found."}

    @staticmethod
    def _page(rows: list[Document], start: int) -> Answer:
        more = {"x-ms-continuation": str(start + 10)} if start + 10 < len(rows) else {}
        return 200, more, rows[start : start + 10]

    def _bulk(self, body: Document) -> Answer:
        assert body["mode"] == "create"
        assert len(body["enrollments"]) <= 10
        errors = []
        for one in body["enrollments"]:
            name, code = one["registrationId"], 400004
            if name not in self.bad:
                status, _headers, answer = self._put("enrollments", name, one, None)
                code = 0 if status == 200 else answer["errorCode"]
            if code:
                errors.append({"registrationId": name, "errorCode": code, "errorStatus": "no"})
        return 200, {}, {"isSuccessful": not errors, "errors": errors}

    def _put(self, kind: str, name: str, body: Document, match: str | None) -> Answer:
        table, key = self.tables[kind], name.lower()
        known = table.get(key)
        if known is not None and match != known["etag"]:
            return (409, {}, {"errorCode": 409201, "message": "exists"}) if match is None else (
                412, {}, {"errorCode": 412201, "message": "changed"})  # fmt: skip
        if known is not None and known["attestation"]["type"] != body["attestation"]["type"]:
            return 400, {}, {"errorCode": 400004, "message": "Attestation type cannot be changed"}
        self._etags += 1
        attestation = self._attestation(kind + key, body["attestation"], known)
        table[key] = {**body, "attestation": attestation, "etag": f'"{self._etags}"',
                      "createdDateTimeUtc": "2026-11-23T18:00:00Z"}  # fmt: skip
        return 200, {}, table[key]

    def _attestation(self, key: str, given: Document, known: Document | None) -> Document:
        if given["type"] == "symmetricKey":
            self.keys[key] = given.get("symmetricKey") or {"primaryKey": _new_key(), "secondaryKey": _new_key()}
            return {"type": "symmetricKey"}
        ((kind, pair),) = given["x509"].items()
        if any("certificate" not in one for one in pair.values()):
            assert known is not None
            return t.cast("Document", known["attestation"])
        infos = {name: {"info": {"sha256Thumbprint": _thumbprint(one["certificate"])}} for name, one in pair.items()}
        return {"type": "x509", "x509": {kind: infos}}


def _thumbprint(pem: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(SHA256()).hex().upper()
