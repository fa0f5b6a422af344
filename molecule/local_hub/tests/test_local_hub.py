# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub as a service: it answers, keeps what it was told, and may do nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from services import as_service, assert_sandboxed, engine, exposure, main_pid, refused, within

UNIT, USER = "local-hub", "local-hub"
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = 1.1
CLIENT = Path(__file__).parents[2] / "shared/testing/hub_client.py"


@pytest.fixture(scope="module")
def hub(host: Any) -> Any:
    """Asks the hub: hub(method, path, body) -> (status, answer)."""
    engine(host, "cp", str(CLIENT), f"{host.backend.name}:/opt/hub_client.py")

    def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        python = "/opt/local-hub/current/venv/bin/python"
        text = f"'{json.dumps(body)}'" if body is not None else ""
        said = host.check_output(f"runuser -u {USER} -- {python} /opt/hub_client.py {method} '{path}' {text}")
        status, _, answer = said.partition(" ")
        return int(status), json.loads(answer) if answer.strip() else None

    return ask


def test_the_hub_answers_on_its_three_ports_and_only_to_this_machine(host: Any) -> None:
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled
    for port in (8443, 5671, 8883):
        assert host.socket(f"tcp://127.0.0.1:{port}").is_listening
    listening = [line.split()[3] for line in host.check_output("ss -Hlnt").splitlines()]
    assert all(address.startswith("127.0.0.1:") for address in listening), listening


def test_a_device_is_there_still_after_the_service_was_killed(host: Any, hub: Any) -> None:
    path = "/devices/fridge-1?api-version=2021-04-12"
    assert hub("PUT", path, {"deviceId": "fridge-1"})[0] == 200
    before = main_pid(host, UNIT)
    host.check_output(f"kill -9 {before}")
    assert within(60, lambda: host.service(UNIT).is_running and main_pid(host, UNIT) not in ("0", before))
    status, device = hub("GET", path)
    assert (status, device["deviceId"]) == (200, "fridge-1")


def test_the_name_that_was_added_is_in_its_certificate(host: Any) -> None:
    host.check_output(
        'python3 -c \'import socket, ssl; s = ssl.create_default_context(cafile="/var/lib/local-hub/ca.pem")'
        '.wrap_socket(socket.create_connection(("127.0.0.1", 8443)), server_hostname="hub.example.com")\''
    )


def test_it_runs_as_its_user_in_its_sandbox(host: Any) -> None:
    assert host.check_output(f"ps -o user= -p {main_pid(host, UNIT)}").strip() == USER
    assert_sandboxed(host, UNIT)
    assert exposure(host, UNIT) <= EXPOSURE_MAX
    for path in ("/etc/evil", "/usr/bin/evil", "/opt/local-hub/evil"):
        assert refused(as_service(host, UNIT, USER, f"touch {path}"))
    assert as_service(host, UNIT, USER, "touch /var/lib/local-hub/.probe && rm /var/lib/local-hub/.probe").rc == 0


def test_its_keys_are_nobody_elses(host: Any) -> None:
    assert host.file("/var/lib/local-hub").mode == 0o700
    assert refused(host.run("runuser -u nobody -- ls /var/lib/local-hub"))
    assert "SharedAccessKey" not in host.check_output("journalctl --no-pager -u local-hub")
