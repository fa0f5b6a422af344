# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Enrolments: which devices may register by themselves, how they prove who they are, and what they become.

An update sends the whole enrolment back, as read and changed, under its ETag. Keys are read before, since Azure would
make new ones for an enrolment that comes without. https://learn.microsoft.com/azure/iot-dps/concepts-service
"""

from __future__ import annotations

import hashlib
import re
import ssl
import typing as t
from dataclasses import dataclass

from .iothub_batch import attempts, in_parallel, named, raise_fatal
from .iothub_errors import HubError, worded
from .iothub_patch import Document, same, without_system
from .iothub_provisioning import ALREADY_THERE, BULK, ProvisioningService

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-._:]{0,126}[A-Za-z0-9])?")
_DIRECT = 20  # up to so many are read one by one
_TRIES = 3  # times to decide anew when somebody else writes in between
_MEANWHILE = frozenset({409, 412})  # what the service answers then: it is there already, or another one
_READ_ONLY = frozenset({"createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState", "etag"})

SYMMETRIC_KEY, X509 = "symmetricKey", "x509"
# what becomes of the data of a device that registers anew: (is it assigned anew, does its data move along)
POLICIES = {"migrate": (True, True), "reset": (True, False), "never": (False, False)}


@dataclass(frozen=True)
class Wanted:
    """An enrolment as it should be; None leaves a field as it is (and to the service when it is created)."""

    id: str
    device_id: str | None = None
    primary_key: str | None = None
    secondary_key: str | None = None
    certificate: str | None = None
    secondary_certificate: str | None = None
    status: str | None = None
    tags: Document | None = None
    desired: Document | None = None
    iot_edge: bool | None = None
    reprovision: str | None = None
    allocation_policy: str | None = None
    iot_hubs: list[str] | None = None

    def check(self, group: bool) -> None:
        """Raise HubError for what no service takes."""
        if not _ID.fullmatch(self.id):
            raise HubError(f"'{self.id}' is no enrolment id: up to 128 ASCII letters, digits and -._:, the first and "
                           "the last of them a letter or digit")  # fmt: skip
        if group and self.device_id is not None:
            raise HubError(
                f"device_id is given for group '{self.id}'; the devices of a group are called as they register"
            )
        if bool(self.primary_key) != bool(self.secondary_key):
            raise HubError(
                f"enrolment '{self.id}' has one key only; give primary_key and secondary_key, or none of them"
            )
        if self.primary_key and self.certificate:
            raise HubError(f"enrolment '{self.id}' has keys and a certificate; give the ones or the other")
        if self.secondary_certificate and not self.certificate:
            raise HubError(f"enrolment '{self.id}' has a secondary_certificate only; give certificate too")
        for text in filter(None, (self.certificate, self.secondary_certificate)):
            thumbprint(self.id, text)

    def fields(self) -> Document:
        """Return the given fields but the proof, by their public names."""
        names = ("device_id", "status", "tags", "desired", "iot_edge", "reprovision", "allocation_policy", "iot_hubs")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def thumbprints(self) -> list[str]:
        """Return the SHA-256 thumbprints of the given certificates."""
        return [thumbprint(self.id, text) for text in (self.certificate, self.secondary_certificate) if text]

    def attestation(self, group: bool) -> Document:
        """Return how it is proved, as a new enrolment has it."""
        if self.certificate:
            pair = {"primary": {"certificate": self.certificate}}
            if self.secondary_certificate:
                pair["secondary"] = {"certificate": self.secondary_certificate}
            return {"type": X509, X509: {_certificates(group): pair}}
        keys = {"primaryKey": self.primary_key, "secondaryKey": self.secondary_key}
        return {"type": SYMMETRIC_KEY, SYMMETRIC_KEY: {name: key for name, key in keys.items() if key}}


def thumbprint(name: str, pem: str) -> str:
    """Return a certificate's SHA-256 thumbprint as the service writes it; raise HubError if it is no certificate."""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest().upper()
    except ValueError:
        raise HubError(f"the certificate of enrolment '{name}' is not PEM; it begins with -----BEGIN "
                       "CERTIFICATE-----") from None  # fmt: skip


def shown(document: Document, group: bool) -> Document:
    """Return the service's document under the names that the modules use, without any key."""
    twin, attestation = document.get("initialTwin") or {}, document.get("attestation") or {}
    policy = document.get("reprovisionPolicy") or {}
    moves = (bool(policy.get("updateHubAssignment", True)), bool(policy.get("migrateDeviceData", True)))
    registration = document.get("registrationState") or {}
    result: Document = {
        "id": document["enrollmentGroupId" if group else "registrationId"],
        "status": document.get("provisioningStatus") or "enabled",
        "attestation": "symmetric_key" if attestation.get("type") == SYMMETRIC_KEY else attestation.get("type"),
        "thumbprints": _thumbprints(attestation, group),
        "tags": without_system(twin.get("tags") or {}),
        "desired": without_system((twin.get("properties") or {}).get("desired") or {}),
        "iot_edge": bool((document.get("capabilities") or {}).get("iotEdge")),
        "reprovision": next((name for name, pair in POLICIES.items() if pair == moves), "migrate"),
        "allocation_policy": document.get("allocationPolicy"),
        "iot_hubs": document.get("iotHubs") or [],
    }
    if not group:
        result["device_id"] = document.get("deviceId") or None
        result["registered_device_id"] = registration.get("deviceId")
        result["registration_status"] = registration.get("status")
    return result


class Enrollments:
    """Makes enrolments of one kind present or absent."""

    def __init__(
        self, service: ProvisioningService, group: bool, check_mode: bool = False, return_keys: bool = False
    ) -> None:
        self._service = service
        self._group = group
        self._check_mode = check_mode
        self._return_keys = return_keys

    # ---- reading ----

    def info(self, ids: list[str] | None) -> list[Document]:
        """Return the enrolments of these ids that exist, or all; with their keys if that was asked for."""
        found = list(self._service.enrollments(self._group)) if ids is None else list(self._read(ids).values())
        result = [shown(document, self._group) for document in found]
        if self._return_keys:
            for one, keys in zip(result, in_parallel(self._keys, [one["id"] for one in result]), strict=True):
                one.update(keys)
        return result

    def _read(self, ids: list[str]) -> dict[str, Document]:
        """Return the documents of those that exist, by the lower-cased id: few directly, many page by page."""
        if len(ids) <= _DIRECT:
            documents = in_parallel(lambda name: self._service.enrollment(self._group, name), ids)
            return {name.lower(): document for name, document in zip(ids, documents, strict=True) if document}
        field = "enrollmentGroupId" if self._group else "registrationId"
        wanted = {name.lower() for name in ids}
        all_of_them = {str(one[field]).lower(): one for one in self._service.enrollments(self._group)}
        return {name: one for name, one in all_of_them.items() if name in wanted}

    def _keys(self, name: str) -> Document:
        attestation = self._service.attestation(self._group, name) or {}
        keys = attestation.get(SYMMETRIC_KEY) or {}
        return {"primary_key": keys.get("primaryKey"), "secondary_key": keys.get("secondaryKey")}

    # ---- present ----

    def present(self, wanted: list[Wanted]) -> dict[str, t.Any]:
        """Create what is missing, change what differs; return ``changed``, ``enrollments`` and ``diff``."""
        self._check(wanted)
        current = self._read([one.id for one in wanted])
        new = [one for one in wanted if one.id.lower() not in current]
        made = self._create_many(new) if len(new) > 1 and not (self._group or self._check_mode) else {}
        others = [one for one in wanted if one.id not in made]
        outcomes = attempts(lambda one: self._present(one, current.get(one.id.lower())), others)
        made.update({one.id: outcome for one, outcome in zip(others, outcomes, strict=True)})
        return self._result(wanted, [made[one.id] for one in wanted])

    def _create_many(self, wanted: list[Wanted]) -> dict[str, Document | HubError]:
        """Create individual enrolments by bulk calls; those that were there after all are left out."""
        made: dict[str, Document | HubError] = {}
        parts = [wanted[start : start + BULK] for start in range(0, len(wanted), BULK)]
        for part, outcome in zip(parts, attempts(self._create_part, parts), strict=True):
            made.update(dict.fromkeys([one.id for one in part], outcome) if isinstance(outcome, HubError) else outcome)
        return made

    def _create_part(self, wanted: list[Wanted]) -> dict[str, Document | HubError]:
        refused = self._service.create_enrollments([self._document(one) for one in wanted])
        made: dict[str, Document | HubError] = {}
        for one in wanted:
            code, sentence = refused.get(one.id.lower(), ("", ""))
            if code and code not in ALREADY_THERE:
                happened = f"{self._service.address.caller().service} refused it: {code} {sentence}".rstrip()
                made[one.id] = HubError(worded(f"create enrolment '{one.id}'", happened, "correct this and run again"))
            elif not code:
                made[one.id] = self._created(one)
        return made

    def _present(self, wanted: Wanted, current: Document | None) -> Document:
        for attempt in range(1, _TRIES + 1):
            try:
                return self._create(wanted) if current is None else self._update(wanted, current)
            except HubError as error:
                if attempt == _TRIES or error.refusal is None or error.refusal.status not in _MEANWHILE:
                    raise
                current = self._service.enrollment(self._group, wanted.id)
        raise AssertionError("unreachable")

    def _document(self, wanted: Wanted) -> Document:
        """Return the service's document of a new enrolment."""
        field = "enrollmentGroupId" if self._group else "registrationId"
        return _with({field: wanted.id, "attestation": wanted.attestation(self._group)}, wanted.fields())

    def _create(self, wanted: Wanted) -> Document:
        if not self._check_mode:
            self._service.put_enrollment(self._group, wanted.id, self._document(wanted))
        return self._created(wanted)

    def _created(self, wanted: Wanted) -> Document:
        after = {"id": wanted.id, "attestation": "x509" if wanted.certificate else "symmetric_key", **wanted.fields()}
        if wanted.certificate:
            after["thumbprints"] = wanted.thumbprints()
        return self._told(wanted, "created", {}, after)

    def _update(self, wanted: Wanted, current: Document) -> Document:
        before = shown(current, self._group)
        changes = {name: value for name, value in wanted.fields().items() if not same(before[name], value)}
        proof, old, new = self._proof(wanted, current, before)
        if not changes and not new:
            return self._told(wanted, "unchanged", {}, {})
        if not self._check_mode:
            kept = {name: value for name, value in current.items() if name not in _READ_ONLY}
            document = {**_with(kept, changes), "attestation": proof}
            self._service.put_enrollment(self._group, wanted.id, document, current["etag"])
        old = {**{name: before[name] for name in changes}, **old}
        return self._told(wanted, "changed", old, {**changes, **new})

    def _proof(self, wanted: Wanted, current: Document, before: Document) -> tuple[Document, Document, Document]:
        """Return how it shall be proved, and of that what differs: before and after, without any key."""
        attestation = current.get("attestation") or {}
        if wanted.certificate:
            if before["thumbprints"] == wanted.thumbprints():
                return attestation, {}, {}
            new = {"attestation": "x509", "thumbprints": wanted.thumbprints()}
            return wanted.attestation(self._group), {name: before[name] for name in new}, new
        if attestation.get("type") == SYMMETRIC_KEY:
            attestation = self._service.attestation(self._group, wanted.id) or attestation
        if not wanted.primary_key:
            return attestation, {}, {}
        keys = attestation.get(SYMMETRIC_KEY) or {}
        if (keys.get("primaryKey"), keys.get("secondaryKey")) == (wanted.primary_key, wanted.secondary_key):
            return attestation, {}, {}
        old = {"attestation": before["attestation"], "keys": "others"}
        return wanted.attestation(self._group), old, {"attestation": "symmetric_key", "keys": "as given"}

    # ---- absent ----

    def absent(self, wanted: list[Wanted]) -> dict[str, t.Any]:
        """Delete those that exist; return ``changed``, ``enrollments`` and ``diff``."""
        self._check(wanted)
        current = self._read([one.id for one in wanted])
        outcomes = attempts(lambda one: self._absent(one, current.get(one.id.lower())), wanted)
        return self._result(wanted, outcomes)

    def _absent(self, wanted: Wanted, current: Document | None) -> Document:
        if current is None:
            return self._told(wanted, "absent", {}, {})
        if not self._check_mode:
            self._service.delete_enrollment(self._group, wanted.id)
        return {**self._told(wanted, "absent", shown(current, self._group), {}), "changed": True}

    # ---- results ----

    def _check(self, wanted: list[Wanted]) -> None:
        seen: set[str] = set()
        for one in wanted:
            one.check(self._group)
            if one.id.lower() in seen:
                raise HubError(f"enrolment '{one.id}' is listed twice; upper and lower case do not differ")
            seen.add(one.id.lower())

    @staticmethod
    def _told(wanted: Wanted, state: str, before: Document, after: Document) -> Document:
        changed = state in ("created", "changed")
        return {"id": wanted.id, "state": state, "changed": changed, "before": before, "after": after}

    def _result(self, wanted: list[Wanted], outcomes: list[Document | HubError]) -> dict[str, t.Any]:
        told, failed = [], []
        diff: dict[str, Document] = {"before": {}, "after": {}}
        for one, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, HubError):
                failed.append(str(outcome))
                told.append({"id": one.id, "state": "failed", "error": str(outcome)})
                continue
            told.append({"id": one.id, "state": outcome["state"]})
            if outcome["changed"]:
                diff["before"][one.id], diff["after"][one.id] = outcome["before"], outcome["after"]
        result = {"changed": bool(diff["before"]), "enrollments": self._with_keys(told), "diff": diff}
        raise_fatal(outcomes, result)
        if failed:
            raise HubError(f"{len(failed)} of {len(wanted)} enrolments were not made so: {named(failed)}", result)
        return result

    def _with_keys(self, told: list[Document]) -> list[Document]:
        """Add the keys of those that are there, if asked; None in check mode for one that does not exist yet."""
        if not self._return_keys:
            return told
        there = [one for one in told if one["state"] in ("created", "changed", "unchanged")]
        for one, keys in zip(there, in_parallel(self._keys, [one["id"] for one in there]), strict=True):
            one.update(keys)
        return told


def _with(document: Document, changes: Document) -> Document:
    """Return the service's document with fields, which have the names of the modules, put in."""
    result = dict(document)
    plain = {"device_id": "deviceId", "status": "provisioningStatus", "iot_hubs": "iotHubs",
             "allocation_policy": "allocationPolicy"}  # fmt: skip
    for name, field in plain.items():
        if name in changes:
            result[field] = changes[name]
    if "iot_edge" in changes:
        result["capabilities"] = {**(result.get("capabilities") or {}), "iotEdge": changes["iot_edge"]}
    if "reprovision" in changes:
        moves, data = POLICIES[changes["reprovision"]]
        result["reprovisionPolicy"] = {"updateHubAssignment": moves, "migrateDeviceData": data}
    if "tags" in changes or "desired" in changes:
        twin = result.get("initialTwin") or {}
        old = (twin.get("properties") or {}).get("desired") or {}
        result["initialTwin"] = {
            "tags": changes.get("tags", twin.get("tags") or {}),
            "properties": {"desired": changes.get("desired", old)},
        }
    return result


def _certificates(group: bool) -> str:
    return "signingCertificates" if group else "clientCertificates"


def _thumbprints(attestation: Document, group: bool) -> list[str]:
    pair = (attestation.get(X509) or {}).get(_certificates(group)) or {}
    infos = [((pair.get(name) or {}).get("info") or {}) for name in ("primary", "secondary")]
    return [str(info["sha256Thumbprint"]).upper() for info in infos if info.get("sha256Thumbprint")]
