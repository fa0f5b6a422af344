# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Microsoft's SDKs for Node against the local hub: node_clients.py [FILE ...], the files of node/ unless told.

The SDKs are those of node/package.json, installed once into build/conformance/node by npm. They connect to ports 443,
5671 and 8883 whatever one tells them, so that hub and tests get a network of their own (`unshare`, no root needed).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).resolve().parent / "node"
BUILD, REPORTS = ROOT / "build/conformance/node", ROOT / "reports/conformance"
REPORT = REPORTS / "node.xml"
HUB = [sys.executable, "-m", "local_hub"]
ADDRESSES = ["--host", "127.0.0.1", "--hostname", "127.0.0.1", "--https-port", "443"]
LIMIT = 900
sys.path.insert(0, str(ROOT / "local_hub/tests"))


def main(files: list[str]) -> int:
    """Install, run in a network of its own, count; the exit status is 0 when nothing failed."""
    _install()
    REPORTS.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    namespaces = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL"]
    status = subprocess.run(
        [*namespaces, sys.executable, __file__, "--inside", *files], timeout=LIMIT + 60, check=False
    )
    if not REPORT.exists():
        print(f"no result (exit status {status.returncode}); see {REPORTS}/node.hub.log", file=sys.stderr)
        return 1
    root = ElementTree.parse(REPORT).getroot()  # noqa: S314 - node's own output
    for name, cases in [
        *((suite.get("name"), list(suite.iter("testcase"))) for suite in root.findall("testsuite")),
        ("others", root.findall("testcase")),
    ]:
        failed = sum(case.find("failure") is not None for case in cases)
        print(f"{name}: {len(cases) - failed} passed, {failed} failed")
    return status.returncode


def _install() -> None:
    """What package.json names, again only when it changed."""
    wanted = (TESTS / "package.json").read_text()
    installed = BUILD / "package.json"
    if (BUILD / ".complete").exists() and installed.read_text() == wanted:
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    installed.write_text(wanted)
    # no scripts: none of these packages needs one to work
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(["npm", "install", *options], cwd=BUILD, check=True)
    (BUILD / ".complete").touch()


def inside(files: list[str]) -> int:
    """In the namespaces: loopback up, the hub, the tests."""
    from certificates import issue  # local_hub/tests

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    data, certificates = BUILD / "hub", BUILD / "certificates"
    for folder in (data, certificates):
        shutil.rmtree(folder, ignore_errors=True)
    certificates.mkdir()
    for name in ("device", "node-x509"):
        issue(name).files(certificates, name)
    command = [*HUB, "env", "--data", str(data), *ADDRESSES, "--format", "json"]
    environment = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    with (REPORTS / "node.hub.log").open("wb") as log:
        hub = subprocess.Popen([*HUB, "serve", "--data", str(data), *ADDRESSES, "--route", "none"], stderr=log)
    try:
        subprocess.run([*HUB, "wait", "--data", str(data)], check=True, timeout=60)
        return _node(files, environment | {"NODE_CERTIFICATES": str(certificates)})
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.wait(20)


def _node(files: list[str], environment: dict[str, str]) -> int:
    paths = [str(TESTS / file) for file in files] or sorted(map(str, TESTS.glob("*.test.js")))
    reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", f"--test-reporter-destination={REPORT}"]
    environment = os.environ | environment | {"NODE_PATH": str(BUILD / "node_modules"), "NODE_NO_WARNINGS": "1"}
    return subprocess.run(
        ["node", "--test", "--test-concurrency=4", "--test-timeout=300000", *reporters, *paths],
        env=environment,
        timeout=LIMIT,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(inside(sys.argv[2:]) if sys.argv[1:2] == ["--inside"] else main(sys.argv[1:]))
