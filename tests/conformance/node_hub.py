# SPDX-License-Identifier: GPL-3.0-or-later
"""What both runners of Node's SDKs need: packages from npm, a network of their own, a hub in it.

The SDKs connect to ports 443, 5671 and 8883 whatever one tells them, so that hub and tests get namespaces (`unshare`,
no root needed).
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports/conformance"
HUB = [sys.executable, "-m", "local_hub"]
ADDRESSES = ["--host", "127.0.0.1", "--hostname", "127.0.0.1", "--https-port", "443"]
NAMESPACES = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL"]


def install(folder: Path, wanted: str) -> None:
    """What `wanted`, a package.json, names, into `folder`; again only when it changed."""
    installed, complete = folder / "package.json", folder / ".complete"
    if complete.exists() and installed.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    installed.write_text(wanted)
    # no scripts: none of these packages needs one to work
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(["npm", "install", *options], cwd=folder, check=True)
    complete.touch()


def environment(data: Path) -> dict[str, str]:
    """The connection strings of the hub in `data`, which need not run."""
    command = [*HUB, "env", "--data", str(data), *ADDRESSES, "--format", "json"]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout))


@contextmanager
def running(data: Path, log: Path, *options: str) -> Iterator[None]:
    """In the namespaces: loopback up, and the hub of `data` until the block ends."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with log.open("wb") as errors:
        hub = subprocess.Popen([*HUB, "serve", "--data", str(data), *ADDRESSES, *options], stderr=errors)
    try:
        subprocess.run([*HUB, "wait", "--data", str(data)], check=True, timeout=60)
        yield
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.wait(20)
