# SPDX-License-Identifier: Apache-2.0
"""Which certificates prove a device."""

from __future__ import annotations

import time

import pytest
from local_hub.core.client_certificate import thumbprint, verify_chain, verify_self_signed
from local_hub.core.errors import ArgumentInvalid, Unauthorized
from local_hub.core.identity import Identity, new_identity

from local_hub.tests.certificates import issue

NOW = time.time()


def test_either_thumbprint_of_either_kind_is_good() -> None:
    old, new = issue("any name"), issue("any name")
    pair = (thumbprint(old.sha1), thumbprint(new.sha256))
    verify_self_signed([old.der], pair, NOW)
    verify_self_signed([new.der], pair, NOW)
    with pytest.raises(Unauthorized):
        verify_self_signed([issue("any name").der], pair, NOW)
    with pytest.raises(Unauthorized):
        verify_self_signed([issue("any name").der, old.der], pair, NOW)


@pytest.mark.parametrize("certificates", [[], [b""], [b"\x30\x03\x02\x01\x00"]])
def test_no_certificate_proves_nothing(certificates: list[bytes]) -> None:
    with pytest.raises(Unauthorized):
        verify_self_signed(certificates, ("0" * 40, None), NOW)
    with pytest.raises(Unauthorized):
        verify_chain(certificates, "device", [issue("root", ca=True).der], NOW)


def test_a_certificate_out_of_its_time_proves_nothing() -> None:
    old = issue("device", age_days=3)
    with pytest.raises(Unauthorized, match="at this time"):
        verify_self_signed([old.der], (thumbprint(old.sha1), None), NOW)
    root = issue("root", ca=True, age_days=3)
    with pytest.raises(Unauthorized):
        verify_chain([issue("device", root).der], "device", [root.der], NOW)


def test_a_chain_leads_to_an_authority() -> None:
    root = issue("root", ca=True)
    between = issue("between", root, ca=True)
    device = issue("device", between)
    verify_chain([device.der, between.der], "device", [root.der], NOW)
    verify_chain([device.der], "device", [between.der], NOW)
    refused = [
        ([device.der], "device", [root.der]),
        ([device.der, between.der], "other", [root.der]),
        ([device.der, between.der], "device", [issue("root", ca=True).der]),
        ([device.der, between.der], "device", []),
        ([issue("device", issue("no authority", root)).der], "device", [root.der]),
        ([issue("device").der], "device", [root.der]),
    ]
    for certificates, name, authorities in refused:
        with pytest.raises(Unauthorized):
            verify_chain(certificates, name, authorities, NOW)


def test_a_thumbprint_is_40_or_64_digits() -> None:
    assert thumbprint("ab:" * 19 + "ab") == "AB" * 20
    assert thumbprint("cd" * 32) == "CD" * 32
    assert thumbprint("") is None
    for wrong in ("ab", "x" * 40, "a" * 41):
        with pytest.raises(ArgumentInvalid):
            thumbprint(wrong)


def test_an_identity_keeps_how_it_is_proved() -> None:
    body = {"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "a" * 40}}}
    identity = Identity.from_record(new_identity("d", body, "now").to_record())
    assert identity.keys() == []
    assert identity.thumbprints() == ("A" * 40, None)
    assert identity.authentication_document()["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}
    same = identity.updated({"status": "enabled", "authentication": {"type": "selfSigned"}}, "later")
    assert same.thumbprints() == ("A" * 40, None)
    assert same.updated({"authentication": {"type": "sas"}}, "later").thumbprints() == (None, None)
    with pytest.raises(ArgumentInvalid):
        new_identity("d", {"authentication": {"type": "selfSigned"}}, "now")
    with pytest.raises(ArgumentInvalid):
        new_identity("d", {"authentication": {"type": "magic"}}, "now")
