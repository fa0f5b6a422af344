# SPDX-License-Identifier: Apache-2.0
"""Devices that prove themselves by a certificate, through azure-iot-device."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub.models import AuthenticationMechanism, Device, X509Thumbprint

from local_hub.tests.certificates import Issued, issue

Eventually = Callable[..., Any]


def client(hub: Any, device_id: str, issued: Issued, folder: Path, **options: Any) -> Any:
    certificate, key = issued.files(folder, device_id)
    made = IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(certificate), str(key)),
        hub.host,
        device_id,
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
        **options,
    )
    hub._devices.append(made)
    return made


def test_a_self_signed_device_and_its_rollover(hub: Any, tmp_path: Path, eventually: Eventually) -> None:
    registry, old, new = hub.registry(), issue("whatever"), issue("whatever")
    made = registry.create_device_with_x509("x-1", old.sha1, new.sha256, "enabled")
    assert made.authentication.type == "selfSigned"
    assert made.authentication.x509_thumbprint.primary_thumbprint == old.sha1.upper()
    assert made.authentication.symmetric_key.primary_key is None
    assert registry.get_twin("x-1").authentication_type == "selfSigned"
    device = client(hub, "x-1", old, tmp_path)
    device.connect()
    device.send_message("proved")
    assert registry.get_device("x-1").connection_state == "Connected"
    device.shutdown()
    device = client(hub, "x-1", new, tmp_path)
    device.connect()
    device.shutdown()
    updated = registry.update_device_with_x509("x-1", made.etag, new.sha256, new.sha256, "enabled")
    with pytest.raises(CredentialError):
        client(hub, "x-1", old, tmp_path).connect()
    device = client(hub, "x-1", new, tmp_path)
    device.connect()
    registry.update_device_with_x509("x-1", updated.etag, new.sha256, new.sha256, "disabled")
    eventually(lambda: registry.get_device("x-1").connection_state == "Disconnected")
    device.shutdown()
    with pytest.raises(CredentialError):
        client(hub, "x-1", new, tmp_path).connect()


def test_a_device_whose_certificate_an_authority_signed(hub: Any, tmp_path: Path) -> None:
    root = issue("root", ca=True)
    between = issue("between", root, ca=True)
    device = issue("x-2", between)
    hub.registry().create_device_with_certificate_authority("x-2", "enabled")
    hub.registry().create_device_with_certificate_authority("x-3", "enabled")
    with pytest.raises(CredentialError):
        client(hub, "x-2", device, tmp_path).connect()
    root_file, _ = root.files(tmp_path, "root")
    assert hub.command("trust", str(root_file)).returncode == 0
    connected = client(hub, "x-2", device, tmp_path)
    connected.connect()
    connected.patch_twin_reported_properties({"proved": True})
    with pytest.raises(CredentialError):
        client(hub, "x-3", device, tmp_path).connect()
    leaf_file, _ = device.files(tmp_path, "leaf")
    refused = hub.command("trust", str(leaf_file))
    assert (refused.returncode, "is no certificate authority" in refused.stderr) == (1, True)


def test_an_authority_is_trusted_until_it_is_removed(hub: Any, tmp_path: Path) -> None:
    kept, removed = issue("kept", ca=True), issue("removed", ca=True)
    files = [authority.files(tmp_path, name)[0] for name, authority in (("kept", kept), ("removed", removed))]
    hub.registry().create_device_with_certificate_authority("x-5", "enabled")
    assert hub.command("trust", *map(str, files)).returncode == 0
    listed = hub.command("trust", "--list").stdout.splitlines()
    assert {line.partition(" ")[0] for line in listed} >= {kept.sha256.lower(), removed.sha256.lower()}
    client(hub, "x-5", issue("x-5", removed), tmp_path).connect()
    left = hub.command("trust", "--remove", "--list", str(files[1])).stdout
    assert (removed.sha256.lower() in left, kept.sha256.lower() in left) == (False, True)
    with pytest.raises(CredentialError):
        client(hub, "x-5", issue("x-5", removed), tmp_path).connect()
    client(hub, "x-5", issue("x-5", kept), tmp_path).connect()
    again = hub.command("trust", "--remove", *map(str, files))
    assert (again.returncode, "is not trusted" in again.stderr) == (1, True)
    assert hub.command("trust").returncode == 1


def test_each_kind_of_proof_is_good_for_its_own_kind_of_device(hub: Any, tmp_path: Path) -> None:
    registry, certificate = hub.registry(), issue("x-4")
    key = registry.create_device_with_sas("x-4", None, None, "enabled").authentication.symmetric_key.primary_key
    with pytest.raises(CredentialError):
        client(hub, "x-4", certificate, tmp_path).connect()
    authentication = AuthenticationMechanism(
        type="selfSigned", x509_thumbprint=X509Thumbprint(primary_thumbprint=certificate.sha1)
    )
    registry.protocol.devices.create_or_update_identity(
        "x-4", Device(device_id="x-4", status="enabled", authentication=authentication), if_match='"*"'
    )
    with pytest.raises(CredentialError):
        hub.device("x-4", key).connect()
    client(hub, "x-4", certificate, tmp_path).connect()


def test_a_certificate_without_its_key_proves_nothing(hub: Any, tmp_path: Path) -> None:
    """The handshake itself fails: nobody can show a certificate that is not his."""
    mine, stolen = issue("mine"), issue("stolen")
    _, key = mine.files(tmp_path, "mine")
    certificate, _ = stolen.files(tmp_path, "stolen")
    context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(certificate, key)
    context.load_cert_chain(*stolen.files(tmp_path, "stolen"))
    with socket.create_connection((hub.host, 8883)) as plain, context.wrap_socket(plain, server_hostname=hub.host):
        pass  # a certificate that nobody knows is no reason to refuse the handshake
