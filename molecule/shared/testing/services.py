# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios ask of a service: what it may really do, not what its unit says."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def within(seconds: float, check: Callable[[], Any]) -> bool:
    """Whether `check` came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.5)
    return False


def engine(host: Any, *words: str) -> None:
    """A word with the container engine itself: podman or docker."""
    subprocess.run([host.backend.NAME, *words], check=True, capture_output=True)


def main_pid(host: Any, unit: str) -> str:
    """The service's main process; "0" if there is none."""
    return str(host.check_output(f"systemctl show -p MainPID --value {unit}"))


def as_service(host: Any, unit: str, user: str, command: str) -> Any:
    """Run `command` in the mount namespace and with the user of the running service."""
    return host.run(f"nsenter --mount --target {main_pid(host, unit)} -- runuser -u {user} -- sh -c '{command}'")


def refused(result: Any) -> bool:
    """Refused by the kernel, and not failed for some other reason."""
    return result.rc != 0 and ("Read-only file system" in result.stderr or "Permission denied" in result.stderr)


def exposure(host: Any, unit: str) -> float:
    """The score of `systemd-analyze security`: 0 (nothing is exposed) to 10; kept in reports/molecule, too."""
    said = host.run(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found, said.stdout + said.stderr
    reports = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "reports/molecule"
    reports.mkdir(parents=True, exist_ok=True)
    (reports / f"{unit}.exposure").write_text(f"{found[1]}\n")
    return float(found[1])


def process_status(host: Any, pid: str) -> dict[str, str]:
    """/proc/PID/status."""
    lines = host.check_output(f"cat /proc/{pid}/status").splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def assert_sandboxed(host: Any, unit: str, capabilities: int = 0) -> None:
    """The kernel enforces the unit's sandbox: read-only root, no new privileges, a filter, at most `capabilities`."""
    pid = main_pid(host, unit)
    root = host.check_output(f"awk '$5 == \"/\" {{o=$6}} END {{print o}}' /proc/{pid}/mountinfo")
    assert "ro" in root.split(","), root
    status = process_status(host, pid)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["CapBnd"], 16) & ~capabilities == 0, status["CapBnd"]
    assert int(status["CapEff"], 16) & ~capabilities == 0, status["CapEff"]
