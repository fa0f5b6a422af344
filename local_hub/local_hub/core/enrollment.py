# SPDX-License-Identifier: Apache-2.0
"""Enrolments of the Device Provisioning Service: which devices may register, how they prove it, what they become.

https://learn.microsoft.com/azure/iot-dps/concepts-service ; symmetric keys of groups:
https://learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation . The documents are those of
provisioningserviceclient (protocol/models).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from .client_certificate import verify_chain, verify_self_signed
from .errors import ArgumentInvalid
from .identity import SELF_SIGNED, new_etag
from .sas import key_bytes, new_key
from .timestamps import iso
from .twin import JsonObject

SYMMETRIC_KEY, X509 = "symmetricKey", "x509"
_REGISTRATION_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-._:]{0,126}[A-Za-z0-9])?")
_GROUP_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-._:]{0,126}[A-Za-z0-9])?")
_MAX_CERTIFICATE = 16 * 1024
_KEPT = (
    "capabilities", "initialTwin", "reprovisionPolicy", "optionalDeviceInformation", "allocationPolicy", "iotHubs",
    "customAllocationDefinition",
)  # fmt: skip


@dataclass(frozen=True)
class Enrollment:
    """One device's enrolment, or that of a group. `document` is as services see it, `certificates` are DER."""

    id: str
    group: bool
    document: JsonObject
    keys: tuple[str, str] | None = None
    certificates: tuple[bytes, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether its devices may register."""
        return self.document.get("provisioningStatus") != "disabled"

    @property
    def etag(self) -> str:
        """Its version."""
        return str(self.document["etag"])

    def device_id(self, registration_id: str) -> str:
        """What the registry will call the device."""
        return str(self.document.get("deviceId") or registration_id)

    def device_keys(self, registration_id: str) -> tuple[str, str] | None:
        """The keys of a device: those of its own enrolment, or what a group's keys make of its name."""
        if self.keys is None or not self.group:
            return self.keys
        return derived_key(self.keys[0], registration_id), derived_key(self.keys[1], registration_id)

    def verify_certificates(self, certificates: Sequence[bytes], registration_id: str, now: float) -> None:
        """Whether a client certificate is one of this enrolment.

        Raises:
            Unauthorized: it is not.
        """
        if self.group:
            verify_chain(certificates, registration_id, self.certificates, now)
        else:
            verify_self_signed(certificates, [_sha256(each) for each in self.certificates], now)

    def device(self, registration_id: str, certificates: Sequence[bytes]) -> JsonObject:
        """The REST `Device` that the registry gets; without a status, so that a disabled device stays so."""
        keys = self.device_keys(registration_id)
        authentication: JsonObject = {
            "symmetricKey": dict(zip(("primaryKey", "secondaryKey"), keys or (), strict=False))
        }
        if keys is None:
            thumbprint = _sha256(certificates[0])
            pair = {"primaryThumbprint": thumbprint, "secondaryThumbprint": thumbprint}
            authentication = {"type": SELF_SIGNED, "x509Thumbprint": pair}
        else:
            authentication["type"] = "sas"
        twin = self.document.get("initialTwin") or {}
        properties = twin.get("properties") or {}
        return {
            "authentication": authentication,
            "capabilities": self.document.get("capabilities") or {},
            "tags": twin.get("tags") or {},
            "properties": {"desired": properties.get("desired") or {}},
        }

    def record(self) -> JsonObject:
        """For the store."""
        certificates = [base64.b64encode(each).decode() for each in self.certificates]
        return {"group": self.group, "document": self.document, "keys": self.keys, "certificates": certificates}

    @classmethod
    def from_record(cls, name: str, record: JsonObject) -> Enrollment:
        """From the store."""
        keys = record["keys"]
        certificates = tuple(base64.b64decode(each) for each in record["certificates"])
        return cls(name, record["group"], record["document"], tuple(keys) if keys else None, certificates)


def new_enrollment(name: str, body: JsonObject, known: Enrollment | None, now: float, *, group: bool) -> Enrollment:
    """The enrolment that a service asks for, new or in place of a `known` one.

    Raises:
        ArgumentInvalid: a name or a field breaks the rules.
    """
    if not (_GROUP_ID if group else _REGISTRATION_ID).fullmatch(name):
        raise ArgumentInvalid(
            "a registration id has 1 to 128 characters of A-Z a-z 0-9 and - . _ : and ends in none of these"
        )
    field = "enrollmentGroupId" if group else "registrationId"
    if body.get(field) not in (None, name):
        raise ArgumentInvalid(f"{field} differs from the address")
    status = body.get("provisioningStatus") or "enabled"
    if status not in ("enabled", "disabled"):
        raise ArgumentInvalid("provisioningStatus is enabled or disabled")
    device_id = body.get("deviceId")
    if device_id is not None and (group or not isinstance(device_id, str)):
        raise ArgumentInvalid("deviceId is a text, and no group has one")
    for part in ("initialTwin", "capabilities", "reprovisionPolicy", "customAllocationDefinition"):
        if not isinstance(body.get(part) or {}, dict):
            raise ArgumentInvalid(f"{part} is an object")
    if not isinstance((body.get("initialTwin") or {}).get("properties") or {}, dict):
        raise ArgumentInvalid("initialTwin.properties is an object")
    if body.get("allocationPolicy") == "custom":
        raise ArgumentInvalid("custom allocation is not offered: there is one hub")
    document: JsonObject = {
        field: name,
        **({} if group else {"deviceId": device_id}),
        "provisioningStatus": status,
        "createdDateTimeUtc": known.document["createdDateTimeUtc"] if known else iso(now),
        "lastUpdatedDateTimeUtc": iso(now),
        "etag": new_etag(),
        **{each: body[each] for each in _KEPT if body.get(each) is not None},
    }
    return _with_attestation(Enrollment(name, group, document), body.get("attestation"), known)


def derived_key(key: str, registration_id: str) -> str:
    """A device's key from its group's key and its name."""
    digest = hmac.digest(key_bytes(key) or b"", registration_id.encode(), "sha256")
    return base64.b64encode(digest).decode()


def require_registration_id(text: str) -> str:
    """The name in its one form: names that differ by case only are the same.

    Raises:
        ArgumentInvalid: it is none.
    """
    if not _REGISTRATION_ID.fullmatch(text):
        raise ArgumentInvalid("this is no registration id")
    return text.lower()


def _with_attestation(enrollment: Enrollment, attestation: object, known: Enrollment | None) -> Enrollment:
    if not isinstance(attestation, dict):
        raise ArgumentInvalid("attestation is an object")
    match attestation.get("type"):
        case "symmetricKey":
            keys = _keys(attestation.get("symmetricKey") or {}, known)
            shown: JsonObject = {"symmetricKey": {"primaryKey": keys[0], "secondaryKey": keys[1]}}
            result = replace(enrollment, keys=keys)
        case "x509":
            kind = "signingCertificates" if enrollment.group else "clientCertificates"
            pair = (attestation.get("x509") or {}).get(kind)
            certificates = _certificates(pair) or (known.certificates if known else ())
            if not certificates:
                raise ArgumentInvalid(f"x509 has {kind}; caReferences are not offered")
            names = ("primary", "secondary")
            shown = {
                "x509": {kind: {name: {"info": _info(der)} for name, der in zip(names, certificates, strict=False)}}
            }
            result = replace(enrollment, certificates=certificates)
        case _:
            raise ArgumentInvalid("attestation is by symmetricKey or x509; there is no TPM here")
    return replace(result, document={**enrollment.document, "attestation": {"type": attestation["type"], **shown}})


def _keys(given: object, known: Enrollment | None) -> tuple[str, str]:
    if not isinstance(given, dict):
        raise ArgumentInvalid("symmetricKey is an object")
    old = (known.keys if known else None) or (new_key(), new_key())
    primary, secondary = given.get("primaryKey") or old[0], given.get("secondaryKey") or old[1]
    for key in (primary, secondary):
        raw = key_bytes(key) if isinstance(key, str) else None
        if raw is None or not 16 <= len(raw) <= 64:
            raise ArgumentInvalid("a symmetric key is base64 of 16 to 64 bytes")
    return primary, secondary


def _certificates(pair: object) -> tuple[bytes, ...]:
    if not isinstance(pair, dict):
        return ()
    given = [(pair.get(name) or {}).get("certificate") for name in ("primary", "secondary")]
    return tuple(_der(text) for text in given if text)


def _der(text: object) -> bytes:
    """A certificate as services send it: PEM, or base64 of PEM or of DER."""
    if not isinstance(text, str) or len(text) > _MAX_CERTIFICATE:
        raise ArgumentInvalid("a certificate is a text")
    try:
        data = text.encode() if "-----BEGIN" in text else base64.b64decode(text)
        pem = b"-----BEGIN" in data
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except (ValueError, binascii.Error):
        raise ArgumentInvalid("a certificate cannot be read") from None
    return certificate.public_bytes(Encoding.DER)


def _info(der: bytes) -> JsonObject:
    certificate = x509.load_der_x509_certificate(der)
    return {
        "subjectName": certificate.subject.rfc4514_string(),
        "issuerName": certificate.issuer.rfc4514_string(),
        "sha1Thumbprint": certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - Azure's
        "sha256Thumbprint": _sha256(der),
        "notBeforeUtc": iso(certificate.not_valid_before_utc.timestamp()),
        "notAfterUtc": iso(certificate.not_valid_after_utc.timestamp()),
        "serialNumber": f"{certificate.serial_number:X}",
        "version": 3,
    }


def _sha256(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex().upper()
