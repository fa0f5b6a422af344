# SPDX-License-Identifier: GPL-3.0-or-later
"""What the app's unit gives to whatever is started in it, and what it keeps from it. The launcher is a stand-in
(stand_in/); agent, launcher and app themselves are in the scenario `default`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from services import as_service, assert_sandboxed, exposure, main_pid, refused, within

UNIT, USER = "fridge-app", "fridge-app"
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = 1.3


def test_the_app_is_started_as_its_user_with_its_devices_groups(host: Any) -> None:
    started = json.loads(host.file("/var/lib/fridge-app/started").content_string)
    assert started["arguments"] == ["--config", "/etc/fridge-agent/agent.toml", "run-app"]
    # lgpio makes a file there
    assert started["folder"] == "/var/lib/fridge-app"
    assert host.check_output(f"ps -o user= -p {main_pid(host, UNIT)}").strip() == USER
    wanted = {host.group(name).gid for name in ("fridge", "video", "input", "gpio")}
    assert set(started["groups"]) == wanted


def test_the_pins_belong_to_their_group(host: Any) -> None:
    rules = host.file("/etc/udev/rules.d/60-iotops-fridge.rules")
    assert 'GROUP="gpio"' in rules.content_string
    host.check_output(
        "apt-get update -qq && apt-get install -qq -y --no-install-recommends udev >/dev/null 2>&1 && udevadm verify"
    )


def test_it_runs_in_its_sandbox(host: Any) -> None:
    assert_sandboxed(host, UNIT)
    assert exposure(host, UNIT) <= EXPOSURE_MAX


@pytest.mark.parametrize("path", ["/etc/evil", "/opt/fridge/evil", "/opt/fridge-agent/evil", "/home/evil", "/sys/evil"])
def test_it_writes_nothing_of_the_system(host: Any, path: str) -> None:
    assert refused(as_service(host, UNIT, USER, f"touch {path}"))


def test_it_writes_its_own_folder(host: Any) -> None:
    assert as_service(host, UNIT, USER, "touch /var/lib/fridge-app/.probe && rm /var/lib/fridge-app/.probe").rc == 0
    assert refused(host.run("runuser -u nobody -- ls /var/lib/fridge-app"))


def test_it_reaches_nobody_over_a_network(host: Any) -> None:
    # the filter is the process's own: asked of a process of the same unit
    properties = "-p RestrictAddressFamilies=AF_UNIX -p SystemCallFilter=@system-service -p SystemCallErrorNumber=EPERM"
    probe = "import socket; socket.socket(socket.AF_INET)"
    said = host.run(f"systemd-run --pipe --wait --quiet {properties} python3 -c '{probe}'")
    assert "Address family not supported" in said.stderr
    shown = host.check_output(f"systemctl show -p RestrictAddressFamilies --value {UNIT}")
    assert shown == "AF_UNIX"


def test_one_that_hangs_is_started_anew(host: Any) -> None:
    before = main_pid(host, UNIT)
    host.check_output(f"kill -STOP {before}")
    assert within(40, lambda: main_pid(host, UNIT) not in ("0", before)), "the watchdog did nothing"
