# SPDX-License-Identifier: Apache-2.0
"""The hub's own certificate authority, and the server certificate that it signs.

Everything is made on first use and kept; the server certificate is made again when the names change or its end is near.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .durable_files import sync_folder, write_file
from .tls import TlsContext

_CA_LIFETIME = timedelta(days=3650)
_SERVER_LIFETIME = timedelta(days=397)
_RENEW_BEFORE = timedelta(days=30)
_BACKDATE = timedelta(hours=1)


class Certificates:
    """The files in the data directory; `ensure` makes what is missing."""

    def __init__(self, directory: Path) -> None:
        self.ca = directory / "ca.pem"
        self.bundle = directory / "ca-bundle.pem"
        self.server = directory / "server.pem"
        self._ca_key = directory / "ca.key"
        self._server_key = directory / "server.key"
        self._device_cas = directory / "device-ca"
        self._authorities: tuple[list[Path], tuple[bytes, ...]] = ([], ())

    def ensure(self, names: frozenset[str], now: datetime) -> None:
        """Make the CA, the bundle and the server certificate, unless they are there and good for `names`."""
        if not (self.ca.exists() and self._ca_key.exists()) or _ends_soon(self.ca, now):
            self._make_ca(now)
            self.server.unlink(missing_ok=True)
        if not self._server_is_good(names, now):
            self._make_server(names, now)
        self._ensure_bundle()

    def trust(self, path: Path) -> None:
        """Let the authorities in a PEM file vouch for devices; a running hub takes them at once.

        Azure does this by its management API, out of reach of the service SDKs:
        https://learn.microsoft.com/azure/iot-hub/tutorial-x509-test-certs

        Raises:
            ValueError: one of the certificates is none of an authority.
        """
        found = _certificates(path)
        for certificate in found:
            try:
                constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            except x509.ExtensionNotFound:
                constraints = x509.BasicConstraints(ca=False, path_length=None)
            if not constraints.ca:
                raise ValueError(f"{certificate.subject.rfc4514_string()} is no certificate authority")
        self._device_cas.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._device_cas.parent)
        for certificate in found:
            write_file(self._authority(certificate), certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def distrust(self, path: Path) -> None:
        """Take `trust` back; a running hub lets no device in by these authorities any more.

        Raises:
            ValueError: one of them was not trusted; then all stay as they are.
        """
        found = _certificates(path)
        for certificate in found:
            if not self._authority(certificate).exists():
                raise ValueError(f"{certificate.subject.rfc4514_string()} is not trusted")
        for certificate in found:
            self._authority(certificate).unlink(missing_ok=True)
        sync_folder(self._device_cas)  # or a power cut would bring them back

    def device_authorities(self) -> tuple[bytes, ...]:
        """Who may vouch for devices, as DER."""
        files = sorted(self._device_cas.glob("*.pem"))  # their names tell what is in them
        if files != self._authorities[0]:
            known = []
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # it was taken back just now
                    certificate = x509.load_pem_x509_certificate(file.read_bytes())
                    known.append(certificate.public_bytes(serialization.Encoding.DER))
            self._authorities = (files, tuple(known))
        return self._authorities[1]

    def _authority(self, certificate: x509.Certificate) -> Path:
        return self._device_cas / f"{certificate.fingerprint(hashes.SHA256()).hex()}.pem"

    def server_context(self) -> TlsContext:
        """TLS of all listeners: a client certificate is asked for, since devices may have one; none is needed."""
        return TlsContext(self.server, self._server_key)

    def _ensure_bundle(self) -> None:
        """Everybody this machine trusts, and our CA: clients that get this file still reach the rest of the world."""
        files = [self.ca, Path(certifi.where()), *_system_roots()]
        wanted = [file.read_text().strip() for file in files if file.exists() and file != self.bundle]
        have = self.bundle.read_text() if self.bundle.exists() else ""
        # What is in it stays: the next call may come from an environment that names no roots of its own.
        if not all(text in have for text in wanted):
            write_file(self.bundle, ("\n".join(dict.fromkeys(wanted)) + "\n").encode(), 0o644)

    def _make_ca(self, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"local-hub CA {now:%Y-%m-%d %H:%M:%S}")])
        certificate = (
            _builder(name, name, key.public_key(), now, _CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_file(self._ca_key, _private_pem(key), 0o600)
        write_file(self.ca, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _make_server(self, names: frozenset[str], now: datetime) -> None:
        ca = x509.load_pem_x509_certificate(self.ca.read_bytes())
        ca_key = serialization.load_pem_private_key(self._ca_key.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local-hub")])
        certificate = (
            _builder(subject, ca.subject, key.public_key(), now, _SERVER_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        write_file(self._server_key, _private_pem(key), 0o600)
        write_file(self.server, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _server_is_good(self, names: frozenset[str], now: datetime) -> bool:
        if not (self.server.exists() and self._server_key.exists()) or _ends_soon(self.server, now):
            return False
        certificate = x509.load_pem_x509_certificate(self.server.read_bytes())
        ca = x509.load_pem_x509_certificate(self.ca.read_bytes())
        names_in_it = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return certificate.issuer == ca.subject and set(names_in_it) == {_general_name(name) for name in names}


def describe(der: bytes) -> str:
    """A certificate in one line: fingerprint, end, subject."""
    certificate = x509.load_der_x509_certificate(der)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return f"{fingerprint}  {certificate.not_valid_after_utc:%Y-%m-%d}  {certificate.subject.rfc4514_string()}"


def _certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _system_roots() -> list[Path]:
    """The roots that OpenSSL would use here, SSL_CERT_FILE included: behind a proxy that opens TLS they matter."""
    found = ssl.get_default_verify_paths().cafile
    return [Path(found)] if found else [Path("/etc/ssl/certs/ca-certificates.crt")]


def _ends_soon(path: Path, now: datetime) -> bool:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc < now + _RENEW_BEFORE


def utc_now() -> datetime:
    """Now, for `ensure`."""
    return datetime.now(UTC)
