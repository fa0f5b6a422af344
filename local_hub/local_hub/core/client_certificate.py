# SPDX-License-Identifier: Apache-2.0
"""Whether a certificate that a device holds is the one, or one of those, that its identity asks for.

Thumbprints: https://learn.microsoft.com/azure/iot-hub/reference-x509-certificates ; authorities:
https://learn.microsoft.com/azure/iot-hub/authenticate-authorize-x509 (the common name is the device's).
That the device holds the key was proved in the handshake; here are the rules, with the time passed in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import crypto

from .errors import ArgumentInvalid, Unauthorized

MAX_CHAIN = 8
_THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")


def thumbprint(text: object) -> str | None:
    """A thumbprint as the registry keeps it: SHA-1 or SHA-256 in upper-case hexadecimal digits; None for none.

    Raises:
        ArgumentInvalid: it is none.
    """
    if not text:
        return None
    plain = str(text).upper().replace(":", "").replace(" ", "")
    if not _THUMBPRINT.fullmatch(plain):
        raise ArgumentInvalid("a thumbprint is 40 (SHA-1) or 64 (SHA-256) hexadecimal digits")
    return plain


def verify_self_signed(certificates: Sequence[bytes], thumbprints: Iterable[str | None], now: float) -> None:
    """The first certificate must have one of the thumbprints.

    Raises:
        Unauthorized: it has not, or its time is over or not yet come.
    """
    certificate = _first(certificates, now)
    good = False
    for known in thumbprints:
        if known:
            digest = hashlib.sha1 if len(known) == 40 else hashlib.sha256  # thumbprints are Azure's, not ours to choose
            good |= hmac.compare_digest(digest(certificate).hexdigest().upper(), known)
    if not good:
        raise Unauthorized("the certificate has another thumbprint")


def verify_chain(certificates: Sequence[bytes], device_id: str, authorities: Iterable[bytes], now: float) -> None:
    """The first certificate must bear the device's name, and one of the authorities must vouch for it.

    Raises:
        Unauthorized: it does not.
    """
    leaf = x509.load_der_x509_certificate(_first(certificates, now))
    names = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device_id]:
        raise Unauthorized("the common name of the certificate is not the device's name")
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an authority that was registered may be an intermediate one
    store.set_time(datetime.fromtimestamp(now, UTC))
    known = 0
    for authority in authorities:
        store.add_cert(_openssl(authority))
        known += 1
    if not known:
        raise Unauthorized("the hub has no certificate authorities for devices")
    try:
        others = [_openssl(each) for each in certificates[1:MAX_CHAIN]]
        crypto.X509StoreContext(store, _openssl(certificates[0]), others).verify_certificate()
    except (crypto.X509StoreContextError, ValueError) as error:
        raise Unauthorized(f"no authority that the hub knows vouches for the certificate: {error}") from None


def _first(certificates: Sequence[bytes], now: float) -> bytes:
    if not certificates:
        raise Unauthorized("the device proves itself by a certificate, and showed none")
    try:
        certificate = x509.load_der_x509_certificate(certificates[0])
    except ValueError:
        raise Unauthorized("the certificate cannot be read") from None
    if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
        raise Unauthorized("the certificate is not valid at this time")
    return certificates[0]


def _openssl(certificate: bytes) -> crypto.X509:
    return crypto.X509.from_cryptography(x509.load_der_x509_certificate(certificate))
