# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hardened machine refuses, asked from outside of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import engine, within

SERVER, IMAGE = "iotops-hardening", "iotops-hardening-image"
on_server = pytest.mark.only_on(SERVER)
on_image = pytest.mark.only_on(IMAGE)


@pytest.fixture
def address(host: Any) -> str:
    found = re.search(r"inet ([0-9.]+)/", host.check_output("ip -4 address show dev eth0"))
    assert found
    return found[1]


@pytest.fixture
def key(host: Any, tmp_path: Path) -> Path:
    """A key of three users: one who may log in, one who is in no such group, and root."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text()
    host.check_output("groupadd --force operators")
    for user, groups in (("olga", "operators"), ("eve", "users")):
        host.run(f"useradd --create-home --groups {groups} --shell /bin/bash {user}")
        host.check_output(f"echo {user}:known | chpasswd")
    for user, home in (("olga", "/home/olga"), ("eve", "/home/eve"), ("root", "/root")):
        host.check_output(f"install -d -m 700 -o {user} {home}/.ssh")
        host.check_output(f"echo '{public.strip()}' > {home}/.ssh/authorized_keys && chown {user} {home}/.ssh/*")
    return path


def ssh(address: str, user: str, key: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=10",
        "NumberOfPasswordPrompts=1",
    ]
    command = ["ssh", "-F", "none", *(word for option in options for word in ("-o", option))]
    command += ["-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"] if key else []
    environment = dict(os.environ)
    if not key:
        # a password, given as ssh takes it without a terminal
        environment |= {"SSH_ASKPASS": "/bin/echo", "SSH_ASKPASS_REQUIRE": "force"}
        command += ["-o", "PubkeyAuthentication=no"]
    environment.pop("SSH_AUTH_SOCK", None)
    return subprocess.run(
        [*command, f"{user}@{address}", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def answers(address: str, port: int) -> bool:
    """Whether anything at all comes back: dropped packets are silence."""
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@on_server
def test_a_member_logs_in_with_a_key(address: str, key: Path) -> None:
    result = ssh(address, "olga", key, "id", "-un")
    assert result.stdout.strip() == "olga", result.stderr


@on_server
@pytest.mark.parametrize("user", ["root", "eve"])
def test_others_do_not_even_with_a_key(address: str, key: Path, user: str) -> None:
    result = ssh(address, user, key, "id")
    assert result.returncode == 255
    assert "Permission denied (publickey)" in result.stderr


@on_server
def test_no_password_is_asked_for(address: str, key: Path) -> None:
    result = ssh(address, "olga", None, "id")
    assert result.returncode == 255
    assert "Permission denied (publickey)" in result.stderr


@on_server
def test_a_session_is_no_way_through(address: str, key: Path) -> None:
    result = ssh(address, "olga", key, "-W", f"{address}:22")
    assert "administratively prohibited" in result.stderr or "stdio forwarding failed" in result.stderr


@on_server
def test_old_algorithms_are_refused(address: str, key: Path) -> None:
    for option in (
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "Ciphers=aes128-ctr",
        "HostKeyAlgorithms=rsa-sha2-256",
    ):
        result = ssh(address, "olga", key, "-o", option, "id")
        assert "no matching" in result.stderr.lower(), (option, result.stderr)


@pytest.fixture
def listeners(host: Any) -> Iterator[None]:
    """Somebody at a port that is open, at one that is open to others, and at one that is closed."""
    for port in (8080, 40001, 9999):
        host.check_output(f"systemd-run --unit=listen-{port} python3 -m http.server {port}")
    assert within(20, lambda: host.check_output("ss -Hlnt").count("0.0.0.0:") >= 4)
    yield
    for port in (8080, 40001, 9999):
        host.run(f"systemctl stop listen-{port}")


@on_server
def test_only_what_is_named_passes_the_firewall(address: str, listeners: None) -> None:
    assert answers(address, 22)
    assert answers(address, 8080)
    assert not answers(address, 40001), "open to other addresses only"
    assert not answers(address, 9999)
    assert not answers(address, 23), "a closed port is silent too"


@on_server
def test_the_rules_come_with_the_boot_and_keep_others_tables(host: Any) -> None:
    assert host.service("nftables").is_enabled
    host.check_output("nft add table inet others")
    host.check_output("systemctl reload nftables")
    assert "table inet others" in host.check_output("nft list tables")
    assert host.check_output("nft list ruleset").count("chain input") == 1


def test_nothing_listens_but_ssh(host: Any) -> None:
    lines = host.check_output("ss -Hlntup").splitlines()
    outside = [line for line in lines if not re.search(r"\s(127\.|\[::1\])", line)]
    assert outside, "not even ssh"
    assert all("sshd" in line and ":22 " in line for line in outside), outside


@on_server
def test_a_security_update_would_be_taken_and_no_other(host: Any) -> None:
    said = host.check_output("unattended-upgrade --dry-run --debug 2>&1")
    allowed = re.search(r"Allowed origins are: (.*)", said)
    assert allowed
    assert allowed[1] == "origin=Debian,codename=trixie-security,label=Debian-Security"
    for timer in ("apt-daily", "apt-daily-upgrade"):
        assert host.service(f"{timer}.timer").is_running
        assert host.service(f"{timer}.timer").is_enabled


@on_image
def test_an_image_does_not_update_itself(host: Any) -> None:
    assert not host.package("unattended-upgrades").is_installed


def test_what_nobody_needs_cannot_be_started(host: Any) -> None:
    for unit in ("ctrl-alt-del.target", "debug-shell.service", "avahi-daemon.service"):
        assert "masked" in host.run(f"systemctl start {unit}").stderr


@on_server
def test_modules_are_kept_out(host: Any) -> None:
    assert host.check_output("modprobe --showconfig").count("/bin/false") == 10


@on_server
def test_the_kernels_settings_are_read_at_boot(host: Any) -> None:
    # the container's kernel is the host's: what would be set, and not what is
    effective = host.check_output("systemd-analyze cat-config sysctl.d")
    assert "kernel.kptr_restrict = 2" in effective
    assert "/etc/sysctl.d/60-iotops-hardening.conf" in effective


@on_image
def test_after_a_boot_the_root_is_read_only_and_the_rest_is_not(host: Any) -> None:
    name = "cat /var/lib/ssh/ssh_host_ed25519_key.pub"
    engine(host, "restart", "--time=5", IMAGE)
    assert within(60, lambda: host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"))
    assert host.check_output("systemctl is-system-running") == "running", host.run("systemctl --failed").stdout
    for path in ("/etc/evil", "/usr/bin/evil", "/evil"):
        assert "Read-only file system" in host.run(f"touch {path}").stderr
    for path in ("/var/lib/good", "/home/good", "/tmp/good"):
        host.check_output(f"touch {path}")
    assert host.file("/data/overlay/var/upper/lib/good").exists, "it is written beside the root"
    assert host.service("ssh").is_running
    assert within(10, lambda: host.run(name).rc == 0)
