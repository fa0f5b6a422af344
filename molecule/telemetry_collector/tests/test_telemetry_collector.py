# SPDX-License-Identifier: GPL-3.0-or-later
"""From a device's message at a real hub to a row that a reader reads; and what the collector may not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from services import as_service, assert_sandboxed, engine, exposure, main_pid, refused, within

UNIT, USER = "fleet-telemetry", "fleet-telemetry"
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = 1.1
CLIENT = Path(__file__).parents[2] / "shared/testing/hub_client.py"
USAGE = {
    "specversion": "1.0", "type": "fleet.usage.v1", "source": "fridge-1",
    "data": {"release": "1-g1", "version": "1", "ring": "beta", "from": "2026-11-25T10:00:00Z",
             "to": "2026-11-25T11:00:00Z", "presses": {"temp": 3}},
}  # fmt: skip


@pytest.fixture(scope="module")
def send(host: Any) -> Any:
    """Sends a message as the device fridge-1, which is enrolled first."""
    engine(host, "cp", str(CLIENT), f"{host.backend.name}:/opt/hub_client.py")
    client = "runuser -u local-hub -- env DEVICE_KEY={} /opt/local-hub/current/venv/bin/python /opt/hub_client.py"
    path = "/devices/fridge-1?api-version=2021-04-12"
    host.check_output(f"{client.format('')} PUT '{path}' '{json.dumps({'deviceId': 'fridge-1'})}'")
    device = json.loads(host.check_output(f"{client.format('')} GET '{path}'").split(" ", 1)[1])
    key = device["authentication"]["symmetricKey"]["primaryKey"]

    def message(body: dict[str, Any]) -> str:
        events = "/devices/fridge-1/messages/events?api-version=2020-03-13"
        return str(host.check_output(f"{client.format(key)} POST '{events}' '{json.dumps(body)}'"))

    return message


def presses(host: Any) -> dict[str, int]:
    """What a reader of reports finds: message id and presses."""
    query = 'import json, sqlite3; c = sqlite3.connect("file:/var/lib/fleet-telemetry/telemetry.db?mode=ro", uri=True);'
    query += 'print(json.dumps(dict(c.execute("select release, sum(presses) from usage group by release"))))'
    said = host.run(f"runuser -u reporter -- python3 -c '{query}'")
    assert said.rc == 0, said.stderr
    return dict(json.loads(said.stdout))


def test_what_a_device_counts_is_read_in_a_report(host: Any, send: Any) -> None:
    assert send(USAGE | {"id": "1"}).startswith("204")
    assert within(60, lambda: presses(host).get("1-g1") == 3), host.check_output(f"journalctl --no-pager -u {UNIT}")


def test_a_message_counts_once_though_the_collector_was_killed(host: Any, send: Any) -> None:
    before = main_pid(host, UNIT)
    host.check_output(f"kill -9 {before}")
    later = json.loads(json.dumps(USAGE).replace("1-g1", "2-g2"))
    assert send(later | {"id": "2"}).startswith("204")
    assert send(later | {"id": "2"}).startswith("204")
    assert within(90, lambda: presses(host).get("2-g2")), host.check_output(f"journalctl --no-pager -u {UNIT}")
    assert presses(host)["2-g2"] == 3
    assert main_pid(host, UNIT) not in ("0", before)


def test_a_hub_that_is_away_does_not_end_it(host: Any, send: Any) -> None:
    before = host.check_output(f"systemctl show -p NRestarts --value {UNIT}")
    host.check_output("systemctl restart local-hub")
    last = json.loads(json.dumps(USAGE).replace("1-g1", "3-g3"))
    assert send(last | {"id": "3"}).startswith("204")
    assert within(90, lambda: presses(host).get("3-g3") == 3), host.check_output(f"journalctl --no-pager -u {UNIT}")
    assert host.check_output(f"systemctl show -p NRestarts --value {UNIT}") == before


def test_it_runs_as_its_user_in_its_sandbox(host: Any) -> None:
    assert host.service(UNIT).is_enabled
    assert host.check_output(f"ps -o user= -p {main_pid(host, UNIT)}").strip() == USER
    assert_sandboxed(host, UNIT)
    assert exposure(host, UNIT) <= EXPOSURE_MAX
    for path in ("/etc/evil", "/usr/bin/evil", "/opt/fleet-telemetry/evil"):
        assert refused(as_service(host, UNIT, USER, f"touch {path}"))
    assert as_service(host, UNIT, USER, "touch /var/lib/fleet-telemetry/.p && rm /var/lib/fleet-telemetry/.p").rc == 0


def test_the_key_is_handed_over_and_cannot_be_opened(host: Any) -> None:
    assert refused(as_service(host, UNIT, USER, "cat /etc/fleet-telemetry/connection-string"))
    assert refused(host.run("runuser -u nobody -- cat /etc/fleet-telemetry/connection-string"))
    assert "SharedAccessKey" not in host.check_output(f"tr '\\0' ' ' < /proc/{main_pid(host, UNIT)}/cmdline")


def test_only_readers_read(host: Any) -> None:
    assert refused(host.run("runuser -u nobody -- ls /var/lib/fleet-telemetry"))
    assert refused(host.run("runuser -u reporter -- touch /var/lib/fleet-telemetry/evil"))
