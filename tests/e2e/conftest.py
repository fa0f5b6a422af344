# SPDX-License-Identifier: GPL-3.0-or-later
"""A maker's whole world on one machine, beside whatever else runs here: a clone, a hub, a file server, five fridges."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Run:
    """A finished playbook run."""

    status: int
    text: str

    @property
    def changed(self) -> int:
        """Changes of all hosts together, from the recap."""
        return sum(int(number) for number in re.findall(r"changed=(\d+)", self.text))

    def must(self, succeed: bool = True) -> Run:
        assert (self.status == 0) == succeed, self.text[-6000:]
        return self


@dataclass
class World:
    """The clone and its services. `home` is the clone."""

    home: Path
    environment: dict[str, str]

    @property
    def local(self) -> Path:
        return self.home / ".local"

    def play(self, *words: str, timeout: float = 400) -> Run:
        command = [BIN / "ansible-playbook", *words]
        done = subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        # the error's own words come twice and wrapped: once in [ERROR], once in the result
        return Run(done.returncode, re.sub(r"\n +", " ", done.stdout + done.stderr))

    def supervise(self, *words: str) -> str:
        command = [BIN / "supervisorctl", "-c", self.local / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    def report(self, ring: str = "beta") -> dict[str, Any]:
        """The newest report of a ring."""
        paths = sorted((self.home / "reports").glob(f"*-{ring}/report.json"), key=lambda path: path.stat().st_mtime)
        found: dict[str, Any] = json.loads(paths[-1].read_text())
        return found

    def states(self, ring: str = "beta") -> dict[str, str]:
        return {device["id"]: device["state"] for device in self.report(ring)["devices"]}

    def published(self) -> set[str]:
        """Names of the files on the file server."""
        root = self.local / "files"
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *words]
        return subprocess.run(command, cwd=self.home, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, path: str, change: Callable[[str], str], subject: str) -> str:
        """Change a file and commit it; the hash of the commit before, to go back to."""
        before = self.git("rev-parse", "HEAD")
        file = self.home / path
        file.write_text(change(file.read_text()))
        self.git("commit", "-qam", subject)
        return before

    def running_version(self, device: str) -> str:
        manifest = self.local / "devices" / device / "opt/current/manifest.json"
        return str(json.loads(manifest.read_text())["version"])


def _free_address() -> str:
    """A loopback address on which the SDKs' fixed ports are free."""
    for last in range(101, 140):
        address = f"127.0.0.{last}"
        try:
            for port in (5671, 8883, 8443, 2121):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            continue
        return address
    raise RuntimeError("no loopback address has the ports 5671, 8883, 8443 and 2121 free")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("e2e") / "fleet"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(home)], check=True)
    (home / ".venv").symlink_to(BIN.parent)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "IOTHUB_", "EVENTHUB_"))},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "IOTOPS_LOCAL_HOST": _free_address(),
        "ANSIBLE_NOCOLOR": "1",
    }
    environment.pop("IOTOPS_LOCAL_DIR", None)
    made = World(home, environment)
    try:
        made.play("playbooks/local.yml").must()
        yield made
    finally:
        if (made.local / "supervisor.sock").exists():
            pid = int((made.local / "supervisord.pid").read_text())
            made.supervise("shutdown")
            deadline = time.monotonic() + 60
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
        shutil.rmtree(home, ignore_errors=True)
