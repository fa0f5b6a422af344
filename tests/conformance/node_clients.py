# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Microsoft's SDKs for Node against the local hub: node_clients.py [FILE ...], the files of node/ unless told.

The SDKs are those of node/package.json, installed once into build/conformance/node by npm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from node_hub import NAMESPACES, REPORTS, ROOT, environment, install, running

TESTS = Path(__file__).resolve().parent / "node"
BUILD = ROOT / "build/conformance/node"
REPORT = REPORTS / "node.xml"
LIMIT = 900
sys.path.insert(0, str(ROOT / "local_hub/tests"))


def main(files: list[str]) -> int:
    """Install, run in a network of its own, count; the exit status is 0 when nothing failed."""
    install(BUILD, (TESTS / "package.json").read_text())
    REPORTS.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    status = subprocess.run(
        [*NAMESPACES, sys.executable, __file__, "--inside", *files], timeout=LIMIT + 60, check=False
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


def inside(files: list[str]) -> int:
    """In the namespaces: the hub, the tests."""
    from certificates import issue  # local_hub/tests

    data, certificates = BUILD / "hub", BUILD / "certificates"
    for folder in (data, certificates):
        shutil.rmtree(folder, ignore_errors=True)
    certificates.mkdir()
    for name in ("device", "node-x509"):
        issue(name).files(certificates, name)
    variables = environment(data) | {"NODE_CERTIFICATES": str(certificates)}
    with running(data, REPORTS / "node.hub.log", "--route", "none"):
        return _node(files, variables)


def _node(files: list[str], variables: dict[str, str]) -> int:
    paths = [str(TESTS / file) for file in files] or sorted(map(str, TESTS.glob("*.test.js")))
    reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout"]
    reporters += ["--test-reporter=junit", f"--test-reporter-destination={REPORT}"]
    variables = os.environ | variables | {"NODE_PATH": str(BUILD / "node_modules"), "NODE_NO_WARNINGS": "1"}
    return subprocess.run(
        ["node", "--test", "--test-concurrency=4", "--test-timeout=300000", *reporters, *paths],
        env=variables,
        timeout=LIMIT,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(inside(sys.argv[2:]) if sys.argv[1:2] == ["--inside"] else main(sys.argv[1:]))
