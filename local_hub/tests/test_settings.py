# SPDX-License-Identifier: Apache-2.0
"""The data directory: keys, certificates, environment."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from local_hub.settings import Addresses, DataDirectory, Settings, SettingsError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_made_once_and_kept(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "hub")
    first = directory.prepare(Addresses())
    files = {path.name: path.read_bytes() for path in directory.path.iterdir()}
    assert directory.prepare(Addresses()) == first
    assert {path.name: path.read_bytes() for path in directory.path.iterdir()} == files
    assert mode(directory.path) == 0o700
    assert {mode(directory.path / name) for name in ("hub.json", "ca.key", "server.key")} == {0o600}


def test_the_server_certificate_follows_the_names(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare(Addresses())
    authority = directory.certificates.ca.read_bytes()
    aliases = ("host.containers.internal",)
    directory.prepare(Addresses(host="127.0.0.23", hostname="hub.example", aliases=aliases))
    assert directory.prepare(Addresses()).aliases == aliases
    certificate = x509.load_pem_x509_certificate(directory.certificates.server.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "hub.example", *aliases}
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "127.0.0.23"}
    assert directory.certificates.ca.read_bytes() == authority
    assert authority in directory.certificates.bundle.read_bytes()


def test_the_server_certificate_is_renewed_before_its_end(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    settings = directory.prepare(Addresses())
    before = directory.certificates.server.read_bytes()
    directory.certificates.ensure(settings.names, datetime.now(UTC) + timedelta(days=380))
    assert directory.certificates.server.read_bytes() != before


def test_addresses_are_remembered(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare(Addresses(https_port=9443))
    assert directory.prepare(Addresses()).https_port == 9443


def test_connection_strings_have_the_form_that_the_sdks_read() -> None:
    settings = Settings({"iothubowner": "a2V5"})
    assert settings.connection_string() == (
        "HostName=localhost:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=a2V5"
    )
    assert "HostName=hub;" in Settings({"iothubowner": "a2V5"}, hostname="hub", https_port=443).connection_string()
    assert settings.event_hub_connection_string().endswith(";EntityPath=local-hub")


def test_each_policy_has_a_key_of_its_own(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    settings = directory.prepare(Addresses())
    assert settings == directory.prepare(Addresses())
    assert len(set(settings.policy_keys.values())) == 5
    told = directory.environment(settings, "service")
    key = settings.policy_keys["service"]
    assert told["IOTHUB_CONNECTION_STRING"].endswith(f"SharedAccessKeyName=service;SharedAccessKey={key}")
    assert f"SharedAccessKeyName=service;SharedAccessKey={key};" in told["EVENTHUB_CONNECTION_STRING"]


def test_a_hub_from_before_policies_keeps_its_key(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare(Addresses())
    fields = json.loads((tmp_path / "hub.json").read_bytes())
    del fields["policy_keys"]
    (tmp_path / "hub.json").write_text(json.dumps({**fields, "policy_key": "a2V5"}))
    settings = directory.prepare(Addresses())
    assert settings.policy_keys["iothubowner"] == "a2V5"
    assert len(set(settings.policy_keys.values())) == 5


def test_several_processes_may_come_first(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_hub", "env", "--data", str(tmp_path / "hub"), "--format", "json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    outputs = {process.communicate(timeout=30)[0] for process in running}
    assert len(outputs) == 1
    environment = json.loads(outputs.pop())
    assert set(environment) == {
        "IOTHUB_CONNECTION_STRING",
        "EVENTHUB_CONNECTION_STRING",
        "IOTHUB_CA_FILE",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    }


def test_a_damaged_or_unusable_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "hub.json").write_text("{")
    with pytest.raises(SettingsError, match="damaged"):
        DataDirectory(tmp_path).prepare(Addresses())
    with pytest.raises(SettingsError, match="cannot use the data directory"):
        DataDirectory(Path(os.devnull) / "x").prepare(Addresses())
