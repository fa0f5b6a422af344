# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who we are to a hub: by connection string, by policy and key, by an identity of Azure."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import sys
import threading
import time
import typing as t
import urllib.parse
from pathlib import Path

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_connection import PROVISIONING, HubAddress, address
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_courier import Courier
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_errors import HubError
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_patience import Patience
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from hub_simulator import HOST, KEY, POLICY, HubSimulator

QUERY = {"query": "SELECT * FROM devices"}
TOKEN = "a-token-nobody-may-ever-see"
MODULE = "ansible_collections.iotops.fleet.plugins.module_utils.iothub_connection"


class Credential:
    """A TokenCredential of azure-identity's kind."""

    def __init__(self, error: Exception | None = None) -> None:
        self.scopes: list[str] = []
        self.error = error

    def get_token(self, *scopes: str, **_options: t.Any) -> AccessToken:
        self.scopes += scopes
        if self.error:
            raise self.error
        return AccessToken(TOKEN, int(time.time()) + 3600)


@pytest.fixture
def credential(monkeypatch: pytest.MonkeyPatch) -> Credential:
    credential = Credential()
    monkeypatch.setattr(f"{MODULE}.azure_credential", lambda: credential)
    return credential


def test_a_policy_is_named_by_its_parts(run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_device("f1")
    parts = {"connection_string": None, "hostname": HOST, "policy_name": POLICY}
    assert len(run("iothub_query_info", policy_key=KEY, **parts, **QUERY)["rows"]) == 1
    monkeypatch.setenv("IOTHUB_POLICY_KEY", KEY)
    assert len(run("iothub_query_info", **parts, **QUERY)["rows"]) == 1
    said = run("iothub_query_info", policy_key="d3Jvbmc=", **parts, **QUERY)["msg"]
    assert said == (
        "cannot run the query: the hub hub.example.test refused the key of policy iothubowner; check policy_key"
    )


def test_a_host_name_wins_over_the_variable_of_another_hub(
    run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTHUB_CONNECTION_STRING", f"HostName=other;SharedAccessKeyName=p;SharedAccessKey={KEY}")
    wrong = {"connection_string": None, "hostname": HOST, "policy_name": POLICY, "policy_key": "d3Jvbmc="}
    assert "the hub hub.example.test refused" in run("iothub_query_info", **wrong, **QUERY)["msg"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {},
            "no connection is given; give connection_string, or hostname, policy_name and policy_key, or hostname and",
        ),
        ({"hostname": HOST, "policy_name": "p"}, "hostname is given without policy_key;"),
        ({"hostname": HOST, "policy_key": KEY}, "hostname is given without policy_name;"),
        ({"hostname": HOST, "policy_name": "p", "policy_key": "no key!"}, "policy_key is not base64;"),
        ({"hostname": f"https://{HOST}", "policy_name": "p", "policy_key": KEY}, "hostname is not a host name:"),
        ({"hostname": f"{HOST}:0", "policy_name": "p", "policy_key": KEY}, "hostname is one with a bad port:"),
        ({"auth": "identity"}, "hostname is not given; auth=identity needs it"),
    ],
)
def test_what_is_missing_has_its_sentence(given: dict[str, t.Any], said: str) -> None:
    with pytest.raises(HubError) as error:
        address(given)
    assert said in str(error.value)
    assert KEY not in str(error.value)


def test_an_identity_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(HubError, match="auth=identity needs the Python library azure-identity; install it where"):
        address({"auth": "identity", "hostname": HOST})


def test_azures_own_credential_is_taken() -> None:
    from azure.identity import DefaultAzureCredential

    assert isinstance(address({"auth": "identity", "hostname": HOST}).credential, DefaultAzureCredential)


def test_nobody_signed_in_is_worded(run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.identity import EnvironmentCredential

    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(f"{MODULE}.azure_credential", EnvironmentCredential)
    identity = {"connection_string": None, "auth": "identity", "hostname": HOST}
    said = run("iothub_query_info", **identity, **QUERY)["msg"]
    assert said.startswith("cannot run the query: Azure gave no token for this identity (EnvironmentCredential")
    assert said.endswith("; sign in with az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
    assert hub.requests == []


def test_a_refused_identity_needs_a_role(run: t.Any, hub: HubSimulator, credential: Credential) -> None:
    identity = {"connection_string": None, "auth": "identity", "hostname": HOST}
    for status in (401, 403):
        hub.refuse_next(status)
        said = run("iothub_query_info", **identity, **QUERY)["msg"]
        assert "this Azure identity" in said
        assert said.endswith("; give it the role IoT Hub Data Contributor")


def test_a_credential_that_fails_tells_no_secret(run: t.Any, hub: HubSimulator, credential: Credential) -> None:
    credential.error = ClientAuthenticationError("DefaultAzureCredential failed\nmany\nlines")
    identity = {"connection_string": None, "auth": "identity", "hostname": HOST}
    said = run("iothub_method", devices=["a", "b"], method="x", **identity)["msg"]
    assert said.startswith("cannot call method 'x' of device ")
    assert "(DefaultAzureCredential failed)" in said


def test_a_key_is_in_no_repr() -> None:
    shown = repr(HubAddress("h", 443, "p", KEY, credential=Credential()))
    assert KEY not in shown
    assert "Credential" not in shown


class Stub(t.NamedTuple):
    """An HTTPS server that answers every request with no rows and keeps the headers."""

    port: int
    ca_file: str
    seen: list[tuple[str, str]]


@pytest.fixture
def stub(tmp_path: Path) -> t.Iterator[Stub]:
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem")]
    subprocess.run(["openssl", "req", *kind, *name, *files], check=True, capture_output=True)
    seen: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            body = json.dumps([]).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: t.Any) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Stub(server.server_port, str(tmp_path / "ca.pem"), seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_goes_to_the_hub_and_nowhere_else(run: t.Any, stub: Stub, credential: Credential) -> None:
    """Over real HTTPS, since no local hub takes tokens of Azure's."""
    identity = {"connection_string": None, "auth": "identity", "hostname": f"127.0.0.1:{stub.port}"}
    result = run("iothub_query_info", **identity, ca_file=stub.ca_file, **QUERY)
    assert result["rows"] == []
    assert stub.seen == [("/devices/query?api-version=2021-04-12", f"Bearer {TOKEN}")]
    assert set(credential.scopes) == {"https://iothubs.azure.net/.default"}
    assert TOKEN not in str(result)


def test_the_provisioning_service_has_a_scope_of_its_own(run: t.Any, stub: Stub, credential: Credential) -> None:
    identity = {"connection_string": None, "auth": "identity", "hostname": f"127.0.0.1:{stub.port}"}
    assert run("iothub_enrollment_info", **identity, ca_file=stub.ca_file)["enrollments"] == []
    assert stub.seen == [("/enrollments/query?api-version=2021-10-01", f"Bearer {TOKEN}")]
    assert set(credential.scopes) == {PROVISIONING.scope}


def test_messages_go_with_a_token_too() -> None:
    """What the SDK offers: a JWT in the put-token request of AMQP's claims-based security."""
    credential = Credential()
    client = HubAddress(HOST, 443, credential=credential).send_client()
    assert (client._auth.token_type, client._auth.token) == (b"bearer", f"Bearer {TOKEN}".encode())
    assert credential.scopes == ["https://iothubs.azure.net/.default"]
    by_key = HubAddress(HOST, 443, "p", base64.b64encode(b"k" * 16).decode()).send_client()
    assert by_key._auth.token_type == b"servicebus.windows.net:sastoken"


@pytest.mark.parametrize("port", [443, 8443])
def test_messages_go_with_the_token_that_microsofts_sdk_would_show(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.iot.hub.iothub_amqp_client import IoTHubAmqpClientSharedAccessKeyAuth

    monkeypatch.setattr("time.time", lambda: 1_800_000_000.5)
    where = HubAddress(HOST, port, "p", base64.b64encode(b"?>" * 16).decode())
    theirs = IoTHubAmqpClientSharedAccessKeyAuth(where.netloc, where.policy, where.key).amqp_client
    ours = where.send_client()
    # the same in the end: theirs leaves a slash in the signature as it is
    shown = [urllib.parse.unquote(client._auth.token.decode()) for client in (ours, theirs)]
    assert shown[0] == shown[1]
    for name in ("audience", "uri", "expires_at", "token_type"):
        assert getattr(ours._auth, name) == getattr(theirs._auth, name), name
    assert ours._hostname == theirs._hostname


def test_messages_without_a_token_are_worded() -> None:
    failing = HubAddress(HOST, 443, credential=Credential(ClientAuthenticationError("nobody signed in")))
    courier = Courier(failing, Patience(5), None, lambda _doing, _device: None)
    with pytest.raises(HubError, match=r"cannot send cloud-to-device messages: Azure gave no token .*nobody signed in"):
        courier._client()
