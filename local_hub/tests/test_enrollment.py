# SPDX-License-Identifier: Apache-2.0
"""Enrolments: what a service may ask for, and which devices they admit."""

from __future__ import annotations

import base64
import json
import time

import pytest
from local_hub.core.enrollment import Enrollment, derived_key, new_enrollment, require_registration_id
from local_hub.core.errors import ArgumentInvalid, Unauthorized

from local_hub.tests.certificates import Issued, issue

NOW = time.time()


def pem(issued: Issued) -> str:
    return "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(issued.der).decode() + "-----END CERTIFICATE-----\n"


def test_a_key_of_a_device_is_made_as_azure_documents_it() -> None:
    """The example of https://learn.microsoft.com/azure/iot-dps/how-to-legacy-device-symm-key ."""
    key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    assert derived_key(key, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6") == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="


def test_keys_are_made_unless_given_and_stay() -> None:
    first = new_enrollment("d", {"attestation": {"type": "symmetricKey"}}, None, NOW, group=False)
    again = new_enrollment("d", {"attestation": {"type": "symmetricKey"}}, first, NOW + 1, group=False)
    assert first.keys == again.keys
    assert first.etag != again.etag
    assert first.document["createdDateTimeUtc"] == again.document["createdDateTimeUtc"]
    assert Enrollment.from_record("d", json.loads(json.dumps(first.record()))) == first


def test_certificates_admit_their_devices() -> None:
    mine, root = issue("d"), issue("root", ca=True)
    one = {"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": pem(mine)}}}}}
    own = new_enrollment("d", one, None, NOW, group=False)
    own.verify_certificates([mine.der], "d", NOW)
    der = base64.b64encode(root.der).decode()
    many = {"attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": der}}}}}
    group = new_enrollment("g", many, None, NOW, group=True)
    group.verify_certificates([issue("d", root).der], "d", NOW)
    for enrollment, certificate in ((own, issue("d")), (group, issue("d")), (group, issue("e", root))):
        with pytest.raises(Unauthorized):
            enrollment.verify_certificates([certificate.der], "d", NOW)
    assert own.device("d", [mine.der])["authentication"]["type"] == "selfSigned"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"attestation": {"type": "tpm"}},
        {"attestation": {"type": "x509"}},
        {"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "bm8="}}}}},
        {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}},
        {"attestation": {"type": "symmetricKey"}, "provisioningStatus": "maybe"},
        {"attestation": {"type": "symmetricKey"}, "registrationId": "other"},
        {"attestation": {"type": "symmetricKey"}, "initialTwin": [1]},
        {"attestation": {"type": "symmetricKey"}, "initialTwin": {"properties": "none"}},
        {"attestation": {"type": "symmetricKey"}, "allocationPolicy": "custom"},
    ],
)
def test_what_makes_no_sense_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ArgumentInvalid):
        new_enrollment("d", body, None, NOW, group=False)


def test_names_that_differ_by_case_are_one() -> None:
    assert require_registration_id("Fridge-1") == "fridge-1"
    for wrong in ("", "-a", "a-", "a/b", "a" * 129):
        with pytest.raises(ArgumentInvalid):
            require_registration_id(wrong)
