# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the device, and what it really may not do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import services
from services import exposure, main_pid, refused, within

SERVICES = {"fridge-agent": "fridge-agent", "fridge-app": "fridge-app"}
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = {"fridge-agent": 1.5, "fridge-app": 1.3}


def kitchen(host: Any, command: str) -> Any:
    """A word with the running app, as its own user."""
    return host.run(
        "runuser -u fridge-app -- env PYTHONPATH=/opt/fridge/current/app "
        f"python3 -m fridge.kitchen --run-dir /run/fridge {command}"
    )


def as_service(host: Any, service: str, command: str) -> Any:
    """Run `command` in the mount namespace and with the user of the running service."""
    return services.as_service(host, service, SERVICES[service], command)


def test_pid_1_is_systemd(host: Any) -> None:
    assert host.file("/proc/1/comm").content_string.strip() == "systemd"


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_runs_as_its_user_and_comes_with_the_boot(host: Any, service: str) -> None:
    assert host.service(service).is_running
    assert host.service(service).is_enabled
    assert host.check_output(f"ps -o user= -p {main_pid(host, service)}").strip() == SERVICES[service]


def test_the_app_of_the_first_release_answers_touches(host: Any) -> None:
    assert within(60, lambda: kitchen(host, "state").rc == 0), kitchen(host, "state").stderr
    manifest = json.loads(host.file("/opt/fridge/current/manifest.json").content_string)
    before = json.loads(kitchen(host, "state").stdout)
    assert before["version"] == manifest["version"]
    assert kitchen(host, "press temp").rc == 0
    assert json.loads(kitchen(host, "state").stdout)["setpoint"] != before["setpoint"]


def test_an_agent_without_a_hub_keeps_trying_and_does_not_die(host: Any) -> None:
    before = host.check_output("systemctl show -p NRestarts --value fridge-agent")
    assert within(60, lambda: "no line to the hub" in host.check_output("journalctl -u fridge-agent --no-pager"))
    assert host.check_output("systemctl show -p NRestarts --value fridge-agent") == before
    assert host.service("fridge-agent").is_running


@pytest.mark.parametrize("service", SERVICES)
def test_the_sandbox_is_enforced_by_the_kernel(host: Any, service: str) -> None:
    pid = main_pid(host, service)
    root = host.check_output(f"awk '$5 == \"/\" {{o=$6}} END {{print o}}' /proc/{pid}/mountinfo")
    assert "ro" in root.split(",")
    status = dict(line.split(":", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["CapBnd"], 16) == 0
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"].strip() == "2"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_exposed_no_more_than_it_was(host: Any, service: str) -> None:
    assert exposure(host, service) <= EXPOSURE_MAX[service]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("path", ["/etc/evil", "/usr/bin/evil", "/opt/fridge-agent/evil", "/home/evil"])
def test_the_system_cannot_be_written(host: Any, service: str, path: str) -> None:
    assert refused(as_service(host, service, f"touch {path}"))
    assert not host.file(path).exists


def test_the_app_cannot_write_releases_and_the_agent_can(host: Any) -> None:
    assert refused(as_service(host, "fridge-app", "touch /opt/fridge/releases/evil"))
    assert refused(as_service(host, "fridge-app", "ln -sfn / /opt/fridge/current"))
    probe = "/opt/fridge/releases/.probe"
    assert as_service(host, "fridge-agent", f"touch {probe} && rm {probe}").rc == 0


def test_only_the_agent_reads_the_hubs_key(host: Any) -> None:
    assert "SharedAccessKey" in as_service(host, "fridge-agent", "cat /etc/fridge-agent/hub-key").stdout
    assert refused(as_service(host, "fridge-app", "cat /etc/fridge-agent/hub-key"))
    assert refused(host.run("runuser -u nobody -- cat /etc/fridge-agent/hub-key"))
    assert "bW9sZWN1bGUgb25seQ" not in host.check_output("journalctl --no-pager")


def shown(host: Any) -> dict[str, Any]:
    """What the kitchen tells, once a panel lives."""
    found: dict[str, Any] = {}

    def there() -> bool:
        answer = kitchen(host, "state")
        found.update(json.loads(answer.stdout) if answer.rc == 0 else {})
        return bool(found.get("panel", {}).get("alive"))

    assert within(60, there), found
    return found


def control(host: Any) -> str:
    """The app's control process, the launcher's child."""
    return str(host.run(f"pgrep -P {main_pid(host, 'fridge-app')}").stdout.strip())


def test_a_crashed_panel_leaves_a_record_that_the_agent_takes_and_the_control_process_goes_on(host: Any) -> None:
    before, cooling = shown(host)["panel"]["pid"], control(host)
    assert kitchen(host, "crash exception").rc == 0
    assert within(30, lambda: shown(host)["panel"]["pid"] != before)
    assert control(host) == cooling
    assert within(10, lambda: not host.check_output("ls /var/lib/fridge-app/crashes"))


def test_a_control_process_that_hangs_is_started_anew(host: Any) -> None:
    shown(host)
    before = control(host)
    assert kitchen(host, "crash control-hang").rc == 0
    assert within(60, lambda: control(host) not in ("", before)), "nobody noticed"
    assert "gave no sign of life" in host.check_output("journalctl -u fridge-app --no-pager")
    shown(host)


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back(host: Any, service: str) -> None:
    before = main_pid(host, service)
    host.check_output(f"kill -9 {before}")
    assert within(30, lambda: host.service(service).is_running and main_pid(host, service) not in ("0", before))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_hangs_is_started_anew(host: Any, service: str) -> None:
    assert within(30, lambda: host.service(service).is_running)
    before = main_pid(host, service)
    host.check_output(f"kill -STOP {before}")
    assert within(60, lambda: main_pid(host, service) not in ("0", before)), "the watchdog did nothing"
    assert "watchdog" in host.check_output(f"journalctl -u {service} --no-pager").lower()
    assert within(30, lambda: host.service(service).is_running)


def test_a_proxys_password_is_the_agents_alone(host: Any) -> None:
    assert "cHJveHk" in as_service(host, "fridge-agent", "cat /etc/fridge-agent/server-proxy").stdout
    assert refused(as_service(host, "fridge-app", "cat /etc/fridge-agent/server-proxy"))
    assert "cHJveHk" not in host.file("/etc/fridge-agent/agent.toml").content_string
    assert "cHJveHk" not in host.check_output("journalctl --no-pager")
