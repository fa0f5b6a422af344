# SPDX-License-Identifier: Apache-2.0
"""The Device Provisioning Service: enrolments, and devices that register into this hub.

Devices speak to it by MQTT (mqtt/provisioning.py) and HTTPS (https/provisioning.py); both follow
azure/iot/device/provisioning/pipeline and https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration .
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.configuration import require_quoted_match
from ..core.enrollment import Enrollment, new_enrollment, require_registration_id
from ..core.errors import (
    EnrollmentExists,
    EnrollmentNotFound,
    HubError,
    RegistrationNotFound,
    TooManyEnrollments,
    Unauthorized,
)
from ..core.identity import new_etag
from ..core.sas import SasToken, key_bytes
from ..core.timestamps import iso
from ..core.twin import JsonObject
from .registry import Clock, Registry
from .store import Store

ID_SCOPE = "0neLocalHub"
MAX_ENROLLMENTS = 100_000
MAX_GROUPS = 100
RETRY_AFTER = 1
_ENROLLMENT, _GROUP, _REGISTRATION = "enrollment", "group", "registration"


@dataclass(frozen=True)
class Applicant:
    """A device that proved to belong to an enrolment. `until` is when its token ends."""

    registration_id: str
    enrollment: Enrollment
    certificates: tuple[bytes, ...]
    until: float


class Provisioning:
    """Enrolments by name, groups by name, and who has registered."""

    def __init__(self, store: Store, registry: Registry, hostname: str, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._hostname = hostname
        self._clock = clock
        self._enrollments: dict[str, Enrollment] = {}
        self._groups: dict[str, Enrollment] = {}
        self._registrations: dict[str, JsonObject] = {}

    def load(self) -> None:
        """Read what the disk has."""
        for kind, name, document in self._store.rows("SELECT kind, id, document FROM provisioning"):
            record = json.loads(document)
            if kind == _REGISTRATION:
                self._registrations[name] = record
            else:
                (self._groups if kind == _GROUP else self._enrollments)[name] = Enrollment.from_record(name, record)

    # Services

    def get(self, name: str, *, group: bool) -> JsonObject:
        """An enrolment as services see it.

        Raises:
            EnrollmentNotFound: there is none.
        """
        return self._document(self._find(name, group))

    def all(self, *, group: bool) -> list[JsonObject]:
        """All of them, by name."""
        known = self._groups if group else self._enrollments
        return [self._document(known[name]) for name in sorted(known)]

    async def put(self, name: str, body: JsonObject, if_match: str | None, *, group: bool) -> JsonObject:
        """Create (without If-Match) or replace one.

        Raises:
            EnrollmentExists, EnrollmentNotFound, ArgumentInvalid: it is not done.
        """
        key = name.lower()
        table, limit = (self._groups, MAX_GROUPS) if group else (self._enrollments, MAX_ENROLLMENTS)
        known = table.get(key)
        if known is None and if_match not in (None, "*"):
            raise EnrollmentNotFound(f"there is no enrolment {name}")
        if known is not None:
            if if_match is None:
                raise EnrollmentExists(f"there is an enrolment {name} already")
            require_quoted_match(if_match, known.etag)
        elif len(table) >= limit:
            raise TooManyEnrollments(f"there are {limit} enrolments of this kind at most")
        enrollment = table[key] = new_enrollment(name, body, known, self._clock(), group=group)
        await self._save(_GROUP if group else _ENROLLMENT, key, enrollment.record())
        return self._document(enrollment)

    async def delete(self, name: str, if_match: str | None, *, group: bool) -> None:
        """Forget one; devices that registered by it stay in the hub, and so do their registrations.

        https://learn.microsoft.com/azure/iot-dps/tutorial-custom-hsm-enrollment-group-x509 says that of groups.
        """
        known = self._find(name, group)
        require_quoted_match(if_match or "*", known.etag)
        (self._groups if group else self._enrollments).pop(name.lower())
        await self._forget(_GROUP if group else _ENROLLMENT, name.lower())

    def registration(self, name: str) -> JsonObject:
        """What became of a device that registered.

        Raises:
            RegistrationNotFound: it never did.
        """
        state = self._registrations.get(name.lower())
        if state is None:
            raise RegistrationNotFound(f"{name} has not registered")
        return {key: value for key, value in state.items() if key not in ("operationId", "group")}

    def registrations_of(self, group: str) -> list[JsonObject]:
        """The states of all devices of a group."""
        names = [name for name, state in self._registrations.items() if state["group"] == group.lower()]
        return [self.registration(name) for name in sorted(names)]

    async def delete_registration(self, name: str, if_match: str | None) -> None:
        """Forget that a device registered.

        Raises:
            RegistrationNotFound: it never did.
            PreconditionFailed: it has registered again meanwhile.
        """
        require_quoted_match(if_match, self.registration(name)["etag"])
        del self._registrations[name.lower()]
        await self._forget(_REGISTRATION, name.lower())

    # Devices

    def admit(self, scope: str, name: str, credential: str, certificates: Sequence[bytes]) -> Applicant:
        """Find the enrolment whose proof a device has: its own, or else that of a group.

        Raises:
            Unauthorized: there is none. The caller learns no more.
            ArgumentInvalid: this is no name.
        """
        registration_id = require_registration_id(name)
        if scope.lower() != ID_SCOPE.lower():
            raise Unauthorized("this is not the scope of the service")
        own = self._enrollments.get(registration_id)
        until, found = float("inf"), None
        if credential:
            token = SasToken.parse(credential)
            if token.resource.lower() != f"{ID_SCOPE}/registrations/{registration_id}".lower():
                raise Unauthorized("the shared access signature is for something else")
            until, found = float(token.expiry), self._by_token(token, name, own)
        else:
            found = self._by_certificate(certificates, name, own)
        if found is None or not found.enabled:
            raise Unauthorized(f"no enrolment admits {registration_id}")
        return Applicant(registration_id, found, tuple(certificates), until)

    async def register(self, applicant: Applicant, payload: JsonObject) -> JsonObject:
        """Put the device into the registry; the answer names the operation, which is done already.

        Raises:
            HubError: the registry does not take it.
        """
        enrollment, name = applicant.enrollment, applicant.registration_id
        device_id = enrollment.device_id(name)
        known = self._registry.find(device_id)
        body = enrollment.device(name, applicant.certificates)
        await self._registry.put(device_id, body, None if known is None else "*")
        now, earlier = iso(self._clock()), self._registrations.get(name)
        state: JsonObject = {
            "registrationId": name,
            "createdDateTimeUtc": earlier["createdDateTimeUtc"] if earlier else now,
            "assignedHub": self._hostname,
            "deviceId": device_id,
            "status": "assigned",
            "substatus": "initialAssignment" if known is None else "deviceDataMigrated",
            "lastUpdatedDateTimeUtc": now,
            "etag": new_etag(),
            "operationId": f"4.{secrets.token_hex(8)}.{secrets.token_hex(8)}",
            "group": enrollment.id.lower() if enrollment.group else None,
        }
        self._registrations[name] = state
        await self._save(_REGISTRATION, name, state)
        return {"operationId": state["operationId"], "status": "assigning"}

    def operation(self, applicant: Applicant, operation_id: str) -> JsonObject:
        """How a registration went.

        Raises:
            RegistrationNotFound: not the device's own, or not its last one.
        """
        state = self._registrations.get(applicant.registration_id)
        if state is None or state["operationId"] != operation_id:
            raise RegistrationNotFound("there is no such operation")
        shown = self.registration(applicant.registration_id)
        kind: JsonObject = {"symmetricKey": {}} if applicant.enrollment.keys else {"x509": {}}
        return {"operationId": operation_id, "status": "assigned", "registrationState": {**kind, **shown}}

    def refusal(self, error: HubError) -> JsonObject:
        """What this service tells of an error, by all protocols: ProvisioningServiceErrorDetails in its REST API.

        https://learn.microsoft.com/rest/api/iot-dps/service
        """
        return {
            "errorCode": error.number,
            "trackingId": str(uuid.uuid4()),
            "message": "Unauthorized" if isinstance(error, Unauthorized) else str(error),
            "timestampUtc": iso(self._clock()),
        }

    def _by_token(self, token: SasToken, name: str, own: Enrollment | None) -> Enrollment | None:
        now = self._clock()
        candidates: Iterable[Enrollment] = [own] if own is not None else self._groups.values()
        for candidate in candidates:
            # Clients make the key from the name as they spell it.
            for spelling in dict.fromkeys((name, name.lower())):
                try:
                    token.verify([key_bytes(key) or b"" for key in candidate.device_keys(spelling) or ()], now)
                except Unauthorized:
                    continue
                return candidate
        return None

    def _by_certificate(self, certificates: Sequence[bytes], name: str, own: Enrollment | None) -> Enrollment | None:
        candidates: Iterable[Enrollment] = [own] if own is not None else self._groups.values()
        for candidate in candidates:
            if not candidate.certificates:
                continue
            try:
                candidate.verify_certificates(certificates, name, self._clock())
            except Unauthorized:
                continue
            return candidate
        return None

    def _find(self, name: str, group: bool) -> Enrollment:
        found = (self._groups if group else self._enrollments).get(name.lower())
        if found is None:
            raise EnrollmentNotFound(f"there is no enrolment {name}")
        return found

    def _document(self, enrollment: Enrollment) -> JsonObject:
        if enrollment.group or enrollment.id.lower() not in self._registrations:
            return enrollment.document
        return {**enrollment.document, "registrationState": self.registration(enrollment.id)}

    async def _save(self, kind: str, name: str, document: JsonObject) -> None:
        sql = "INSERT OR REPLACE INTO provisioning (kind, id, document) VALUES (?, ?, ?)"
        await self._store.commit((sql, (kind, name, json.dumps(document))))

    async def _forget(self, kind: str, name: str) -> None:
        await self._store.commit(("DELETE FROM provisioning WHERE kind = ? AND id = ?", (kind, name)))
