# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is called, who may do what on it, and how it keeps time and logs."""

from __future__ import annotations

from typing import Any

from services import within


def test_the_machine_knows_its_name_and_its_time_zone(host: Any) -> None:
    assert host.check_output("hostname") == "fridge-7"
    assert host.check_output("getent hosts fridge-7").split()[0] == "127.0.1.1"
    assert host.check_output("date -d @0 +%Z") == "CET"


def test_an_operator_becomes_root_without_a_password_and_nobody_else_does(host: Any) -> None:
    assert host.check_output("runuser -u olga -- sudo -n id -un") == "root"
    assert host.run("runuser -u nobody -- sudo -n id -un").rc != 0


def test_an_operators_key_counts_and_the_password_never(host: Any) -> None:
    keys = host.file("/home/olga/.ssh/authorized_keys")
    assert (keys.user, keys.mode) == ("olga", 0o600)
    assert host.check_output("getent shadow olga").split(":")[1] == "*"


def test_logs_stay_in_memory_and_are_bounded(host: Any) -> None:
    host.check_output("logger --tag fridge-test hello")
    assert within(10, lambda: "hello" in host.check_output("journalctl --no-pager -t fridge-test"))
    # the engine mounts /var/log/journal, and there are logs of before the role in it
    assert "hello" not in host.run("journalctl --no-pager --directory=/var/log/journal -t fridge-test").stdout
    # three times as much as may be kept
    host.check_output(
        "python3 -c \"print('\\n'.join(str(n) * 400 for n in range(6000, 18000)))\" | systemd-cat --identifier=flood"
    )
    host.check_output("journalctl --rotate")
    used = int(host.check_output("du -sk /run/log/journal").split()[0])
    assert used <= 8 * 1024 + 4096, f"{used} kB"


def test_what_hangs_is_started_anew(host: Any) -> None:
    manager = dict(
        line.split("=", 1)
        for line in host.check_output("systemctl show -p RuntimeWatchdogUSec -p DefaultLimitCORE").splitlines()
    )
    assert manager["DefaultLimitCORE"] == "0"
    # the container has no such hardware, and systemd says what it was asked for all the same
    assert "RuntimeWatchdogSec=30s" in host.check_output("systemd-analyze cat-config systemd/system.conf")


def test_the_time_comes_from_the_servers_that_were_named(host: Any) -> None:
    assert host.service("systemd-timesyncd").is_enabled
    assert "NTP=time.example.com" in host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")


def test_the_network_is_asked_for_an_address(host: Any) -> None:
    assert host.service("systemd-networkd").is_enabled
    # the container has no wired interface: that the file is understood is all that can be seen
    host.check_output("systemctl start systemd-networkd")
    said = host.check_output("journalctl --no-pager -u systemd-networkd")
    assert "60-iotops-wired" not in said, said
    assert "DHCP=yes" in host.check_output("networkctl cat 60-iotops-wired.network")
