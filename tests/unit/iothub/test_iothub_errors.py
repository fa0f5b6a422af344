# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules say when a hub does not do as asked; the runner checks each output for secrets."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
import requests
from ansible_collections.iotops.fleet.plugins.module_utils import iothub_connection, iothub_trust
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_errors import HubError
from hub_simulator import CONNECTION_STRING, HOST, KEY, HubSimulator

QUERY = {"query": "SELECT * FROM devices"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"HostName={HOST};SharedAccessKeyName=p", "has no SharedAccessKey;"),
        (f"HostName={HOST};SharedAccessKey={KEY}", "has no SharedAccessKeyName;"),
        (f"SharedAccessKeyName=p;SharedAccessKey={KEY}", "has no HostName;"),
        ("", "has no HostName;"),
        (KEY.rstrip("="), "has a part without '='"),
        (f"HostName={HOST};DeviceId=f1;SharedAccessKey={KEY}", "is of a device"),
        (f"Endpoint=sb://x/;SharedAccessKeyName=p;SharedAccessKey={KEY}", "is of an Event Hubs endpoint"),
        (f"HostName=https://{HOST};SharedAccessKeyName=p;SharedAccessKey={KEY}", "not a host name"),
        (f"HostName={HOST}:x;SharedAccessKeyName=p;SharedAccessKey={KEY}", "bad port"),
        (f"HostName={HOST};SharedAccessKeyName=p;SharedAccessKey=no key!", "is not base64"),
        (f"HostName={HOST};HostName={HOST};SharedAccessKeyName=p;SharedAccessKey={KEY}", "HostName twice"),
    ],
)
def test_each_defect_of_a_connection_string_has_its_sentence(text: str, said: str) -> None:
    with pytest.raises(HubError) as error:
        iothub_connection.parse(text)
    assert said in str(error.value)
    assert KEY not in str(error.value)
    assert "no key!" not in str(error.value)


def test_a_port_is_for_https_only() -> None:
    address = iothub_connection.parse(f"HostName=127.0.0.9:8443;SharedAccessKeyName=p;SharedAccessKey={KEY};")
    assert (address.host, address.port, address.netloc) == ("127.0.0.9", 8443, "127.0.0.9:8443")
    assert address.device_string("f1", "k") == "HostName=127.0.0.9;DeviceId=f1;SharedAccessKey=k"
    assert KEY not in repr(address)


def test_a_wrong_key_is_named_by_its_policy(run: t.Any, hub: HubSimulator) -> None:
    wrong = CONNECTION_STRING.replace(KEY, "d3Jvbmc=")
    result = run("iothub_query_info", connection_string=wrong, **QUERY)
    assert result["msg"] == (
        "cannot run the query: the hub hub.example.test refused the key of policy iothubowner; check connection_string"
    )
    assert "d3Jvbmc=" not in str(result)


def test_throttling_waits_as_long_as_the_hub_says(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.add_device("f1")
    hub.refuse_next(429, "ThrottlingException", retry_after=7, times=2)
    assert len(run("iothub_query_info", **QUERY)["rows"]) == 1
    assert len(clock.pauses) == 2
    assert all(7 <= pause <= 7.5 for pause in clock.pauses)


def test_throttling_without_a_hint_backs_off_with_jitter(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.refuse_next(503, "ServerBusy", times=5)
    run("iothub_query_info", **QUERY)
    for attempt, pause in enumerate(clock.pauses):
        assert 0.25 * 2**attempt <= pause <= 0.5 * 2**attempt


def test_throttling_ends_at_the_deadline(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.refuse_next(429, "ThrottlingException", retry_after=40, times=5)
    result = run("iothub_query_info", timeout=60, **QUERY)
    assert result["msg"] == (
        "cannot run the query: the hub hub.example.test is throttling (said the hub); "
        "raise timeout, ask for less, or add units"
    )
    assert len(clock.pauses) == 1


def test_a_used_up_quota_is_not_retried(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.refuse_next(403, "IotHubQuotaExceeded")
    assert "used up its messages of the day" in run("iothub_query_info", **QUERY)["msg"]
    assert clock.pauses == []


def test_something_that_is_no_hub_is_recognized(run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "handle", lambda *_request: (200, {}, "<html>Welcome</html>"))
    result = run("iothub_query_info", **QUERY)
    assert "hub.example.test answers, but not as an IoT hub does; check HostName" in result["msg"]


def test_a_broken_connection_is_tried_again(run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, broken = hub.handle, [1, 2]

    def breaking(*request: t.Any) -> t.Any:
        if broken:
            broken.pop()
            raise requests.exceptions.ConnectionError(f"reset; {CONNECTION_STRING}")
        return handle(*request)

    monkeypatch.setattr(hub, "handle", breaking)
    monkeypatch.setattr(
        "ansible_collections.iotops.fleet.plugins.module_utils.iothub_rest.diagnose", lambda *_where: None
    )
    assert run("iothub_query_info", **QUERY)["rows"] == []


def test_an_unreachable_hub_is_named_with_its_port(run: t.Any) -> None:
    with socket.socket() as taken:  # bound, not listening: refuses
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = CONNECTION_STRING.replace(HOST, f"127.0.0.1:{port}")
        result = run("iothub_query_info", connection_string=text, timeout=5, **QUERY)
    assert result["msg"].startswith(f"cannot run the query: cannot reach the hub 127.0.0.1:{port}: Connection refused")


def test_bad_ca_files_are_told_apart(run: t.Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    assert run("iothub_query_info", ca_file=str(tmp_path / "gone"), **QUERY)["msg"].endswith("does not exist")
    assert run("iothub_query_info", ca_file=str(tmp_path / "ca.pem"), **QUERY)["msg"].endswith("no PEM certificate")


def test_trusting_leaves_the_environment_as_it_was(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/before")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with iothub_trust.trusting(tls.ca_file):
        assert os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"] == tls.ca_file
    assert os.environ["SSL_CERT_FILE"] == "/before"
    assert "REQUESTS_CA_BUNDLE" not in os.environ


def test_diagnosis_of_a_certificate(tls: Tls) -> None:
    assert iothub_trust.diagnose("127.0.0.1", tls.port, tls.ca_file, 5) is None
    said = iothub_trust.diagnose("127.0.0.1", tls.port, None, 5)
    assert said is not None
    assert "is not trusted (self-signed certificate); for a private hub give its CA as ca_file" in said
    said = iothub_trust.diagnose("localhost", tls.port, tls.ca_file, 5)
    assert said is not None
    assert "mismatch" in said.lower()


def test_a_distrusted_hub_is_worded_so_for_messages_too(
    run: t.Any, hub: HubSimulator, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uamqp itself would say "Authorization timeout" after ten seconds."""
    courier = "ansible_collections.iotops.fleet.plugins.module_utils.iothub_courier"
    monkeypatch.setattr(f"{courier}._PORT", tls.port)
    monkeypatch.setattr(f"{courier}.diagnose", iothub_trust.diagnose)
    text = CONNECTION_STRING.replace(HOST, "127.0.0.1")
    result = run("iothub_message", connection_string=text, devices=["f1"], body="x")
    assert f"the certificate of 127.0.0.1:{tls.port} is not trusted" in result["msg"]


def test_a_missing_library_is_named(run: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.iot.hub.auth", None)
    assert "azure-iot-hub" in run("iothub_query_info", **QUERY)["msg"]


def test_a_missing_library_is_named_for_messages_too(
    run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uamqp", None)
    result = run("iothub_message", devices=["f1"], body="x")
    assert "azure-iot-hub" in result["msg"]
    assert "uamqp" in result["msg"]


class Tls(t.NamedTuple):
    """A TLS server on 127.0.0.1 with a certificate of its own."""

    port: int
    ca_file: str


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"]
    request = ["openssl", "req", *kind, *name, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(request, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_greet, args=(server, context), daemon=True).start()
        yield Tls(server.getsockname()[1], str(certificate))


def _greet(server: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands with everyone until the socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            client, _address = server.accept()
            client.settimeout(5)
            with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True):
                pass
