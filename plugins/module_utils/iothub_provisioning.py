# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Device Provisioning Service's service side as plain JSON documents.

No maintained SDK for Python has it, so this is its REST API, by the same engine that calls the hub's:
https://learn.microsoft.com/rest/api/iot-dps/service/individual-enrollment and .../enrollment-group
"""

from __future__ import annotations

import typing as t

from .iothub_patch import Document
from .iothub_rest import Rest, quoted_path

BULK = 10  # enrolments a bulk call may carry
ALREADY_THERE = frozenset({"409201"})


class ProvisioningService(Rest):
    """Enrolments of devices, one by one and in groups. Every method raises HubError, worded, and nothing else."""

    api_version = "2021-10-01"

    def enrollment(self, group: bool, name: str) -> Document | None:
        """Return an enrolment, or None."""
        return self._find(f"read {_kind(group)} '{name}'", self.request("GET", _path(group, name)))

    def enrollments(self, group: bool) -> t.Iterator[Document]:
        """Yield all enrolments of a kind, page by page."""
        table = _table(group)
        query = {"query": f"SELECT * FROM {table}"}  # noqa: S608 - one of two names
        return self.pages(f"list the {_kind(group)}s", "POST", f"/{table}/query", query)

    def attestation(self, group: bool, name: str) -> Document | None:
        """Return how an enrolment is proved, with its keys: they are in no other answer of Azure's."""
        path = f"{_path(group, name)}/attestationmechanism"
        return self._find(f"read the keys of {_kind(group)} '{name}'", self.request("POST", path))

    def put_enrollment(self, group: bool, name: str, document: Document, etag: str | None = None) -> Document:
        """Create (no etag) or replace an enrolment; raises Changed if it was written in between."""
        headers = {} if etag is None else {"If-Match": etag if etag.startswith('"') else f'"{etag}"'}
        doing = f"{'create' if etag is None else 'update'} {_kind(group)} '{name}'"
        return self._call(doing, self.request("PUT", _path(group, name), document, headers))

    def create_enrollments(self, documents: list[Document]) -> dict[str, tuple[str, str]]:
        """Create individual enrolments, ten a call; return the refused: ``{id: (code, sentence)}``."""
        refused: dict[str, tuple[str, str]] = {}
        for start in range(0, len(documents), BULK):
            body = {"mode": "create", "enrollments": documents[start : start + BULK]}
            answer = self._call("create enrolments", self.request("POST", "/enrollments", body))
            for error in answer.get("errors") or []:
                code, sentence = str(error.get("errorCode") or ""), str(error.get("errorStatus") or "")
                refused[str(error.get("registrationId")).lower()] = code, sentence
        return refused

    def delete_enrollment(self, group: bool, name: str) -> None:
        """Delete an enrolment; one that is gone already is fine."""
        self._find(f"delete {_kind(group)} '{name}'", self.request("DELETE", _path(group, name)))


def _kind(group: bool) -> str:
    return "enrolment group" if group else "enrolment"


def _table(group: bool) -> str:
    return "enrollmentGroups" if group else "enrollments"


def _path(group: bool, name: str) -> str:
    return f"/{_table(group)}/{quoted_path(name)}"
