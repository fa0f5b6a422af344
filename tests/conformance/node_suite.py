# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Microsoft's end-to-end tests for Node, unchanged, against the local hub: node_suite.py [FILE ...].

AZURE_IOT_SDK_NODE: a checkout of Azure/azure-iot-sdk-node. Its tests are copied into build/conformance, where npm
installs the packages that they name; nothing in the checkout is built. A FILE is named as in the result, by folder
and file: e2etests/registry. Each gets a process of its own, two at a time, and all share a hub.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import node_hub
from local_hub.hub.provisioning import ID_SCOPE

BUILD, REPORTS = node_hub.ROOT / "build/conformance/node-suite", node_hub.REPORTS / "node-suite"
SUITE, PACKAGES = BUILD / "suite", BUILD / "packages"
REPORTER = Path(__file__).resolve().parent / "node-suite/reporter.js"
LIMIT = 3600  # all files; one file has FILE_LIMIT
FILE_LIMIT = 900
AT_ONCE = 2
sys.path.insert(0, str(node_hub.ROOT / "local_hub/tests"))

# The folders that have tests and a package.json of their own, the slowest test first: it would run on alone at the end.
FOLDERS = ["provisioning/e2e", "e2etests", "ts-e2e"]
_TYPESCRIPT = "tsconfig.json"
# Named by package.json for those who work on the suite.
_FOR_DEVELOPERS = re.compile("eslint|jshint|nyc|npm-run-all")
# These ask whether a client refuses a hub whose certificate it has no reason to trust.
_WITHOUT_TRUST = "server_validation"
# Run when they are named. They pass with no hub: the service client tries for four minutes, for which the test does not
# wait, and over MQTT the device client calls the reason UnauthorizedError. The suite's own `alltest` leaves them out.
_NAMED_ONLY = {"e2etests/server_validation"}
# By file, what of a test's name tells those that fail whatever this hub does, and why.
_CANNOT_PASS = {
    "provisioning/service_create_delete": (
        "IndividualEnrollment object with TPM",
        "the hub has no enrolments by TPM, nor custom allocation",
    ),
    "ts-e2e/job_client": (
        "scheduleDeviceMethod schedules a device method job and cancels it",
        "the test gives mocha's callback the cancelled job, which mocha takes for an error",
    ),
}
PASSED, FAILED, SKIPPED, RETRIED, CANNOT_PASS = "passed", "failed", "skipped", "retried", "cannot pass"


@dataclass(frozen=True)
class Test:
    """A file of tests, and in which of the folders it is."""

    folder: str
    file: Path

    @property
    def name(self) -> str:
        """As in e2etests/registry."""
        return f"{self.folder.split('/')[0]}/{self.file.name.split('.')[0].removeprefix('_')}"


def main(names: list[str]) -> int:
    """Copy, install, run in a network of its own, count; the exit status is 0 when nothing failed that can pass."""
    suite = Path(os.environ.get("AZURE_IOT_SDK_NODE", ""))
    if not (suite / "e2etests/package.json").exists():
        print("Set AZURE_IOT_SDK_NODE to a checkout of https://github.com/Azure/azure-iot-sdk-node", file=sys.stderr)
        return 1
    shutil.rmtree(SUITE, ignore_errors=True)
    for folder in FOLDERS:
        _prepare(suite / folder, folder)
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    command = [*node_hub.NAMESPACES, sys.executable, __file__, "--inside", *names]
    return subprocess.run(command, timeout=LIMIT, check=False).returncode


def _prepare(source: Path, folder: str) -> None:
    target, packages = SUITE / folder, PACKAGES / folder
    node_hub.install(packages, json.dumps(_wanted_packages(source), indent=2))
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (target / "node_modules").symlink_to(packages / "node_modules")
    if (source / _TYPESCRIPT).exists():
        shutil.copy(source.parent / _TYPESCRIPT, target.parent)  # which this one extends


def _wanted_packages(source: Path) -> dict[str, object]:
    """A package.json for npm.

    The suite is developed with the packages of its own repository, whose versions may not have been published yet; then
    the last one before is taken.
    """
    package = json.loads((source / "package.json").read_text())
    wanted = {
        name: f"<={version}" if version[0].isdigit() else version
        for kind in ("dependencies", "devDependencies", "optionalDependencies")
        for name, version in package.get(kind, {}).items()
        if not _FOR_DEVELOPERS.search(name)
    }
    if (source / _TYPESCRIPT).exists():
        wanted["ts-node"] = "^10.9.2"  # runs the tests as they are written
    return {"private": True, "dependencies": wanted}


def inside(names: list[str]) -> int:
    """In the namespaces: the hub, the tests."""
    from certificates import issue  # local_hub/tests

    data = BUILD / "hub"
    shutil.rmtree(data, ignore_errors=True)
    connections = node_hub.environment(data)
    certificate, key = issue("root of the suite", ca=True).files(BUILD, "root")
    subprocess.run([*node_hub.HUB, "trust", "--data", str(data), str(certificate)], check=True, timeout=60)
    environment = connections | _variables(connections["IOTHUB_CONNECTION_STRING"], certificate, key)
    tests = [test for folder in FOLDERS for test in _tests(folder)]
    chosen = [test for test in tests if (test.name in names if names else test.name not in _NAMED_ONLY)]
    # the suite's hub in Azure has this route (node_e2e_resources/iot-hub.bicep)
    with node_hub.running(data, REPORTS / "hub.log", "--route", "twin-changes"), ThreadPoolExecutor(AT_ONCE) as pool:
        good = list(pool.map(lambda test: _run(test, environment), chosen))
    return 0 if good and all(good) else 1


def _tests(folder: str) -> Iterator[Test]:
    """The files that the scripts of package.json give to mocha; the others are helpers, or run by nobody."""
    seen = set()
    for script in json.loads((SUITE / folder / "package.json").read_text())["scripts"].values():
        if command := re.search(r"mocha\b.* \"?(\S+\.js)\"?$", script):
            pattern = command[1].removeprefix("./")
            if (SUITE / folder / _TYPESCRIPT).exists():
                pattern = pattern.replace("dist/", "src/").replace(".js", ".ts")
            for file in sorted((SUITE / folder).glob(pattern)):
                if file not in seen:
                    seen.add(file)
                    yield Test(folder, file)


def _variables(connection: str, certificate: Path, key: Path) -> dict[str, str]:
    """The variables that the suite reads, as node_e2e_resources/deploy.sh sets them."""
    host = connection.partition(";")[0].removeprefix("HostName=")
    # any key: the client must end the conversation before it would show one
    device = f"HostName={host};DeviceId=nobody;SharedAccessKey={base64.b64encode(b'of no value').decode()}"
    root = {
        f"{service}_{name}": base64.b64encode(file.read_bytes()).decode()
        for service in ("IOTHUB_CA", "IOT_PROVISIONING")
        for name, file in (("ROOT_CERT", certificate), ("ROOT_CERT_KEY", key))
    }
    return {
        **root,
        "IOT_PROVISIONING_DEVICE_ENDPOINT": host,
        "IOT_PROVISIONING_DEVICE_IDSCOPE": ID_SCOPE,
        "IOT_PROVISIONING_SERVICE_CONNECTION_STRING": connection,
        "IOTHUB_CONN_STRING_INVALID_CERT": connection,
        "IOTHUB_DEVICE_CONN_STRING_INVALID_CERT": device,
        "DPS_CONN_STRING_INVALID_CERT": connection,
        "DPS_GLOBAL_DEVICE_ENDPOINT_INVALID_CERT": host,
    }


def _run(test: Test, environment: dict[str, str]) -> bool:
    """True when nothing in it failed and it came to its end."""
    report = REPORTS / test.name
    report.parent.mkdir(parents=True, exist_ok=True)
    output = report.with_suffix(".jsonl")
    # --exit: not all tests close their clients.
    # --retries: in some, a service changes what the device may or may not listen to by then.
    command = ["node", "node_modules/mocha/bin/mocha.js", "--exit", "--retries", "1", "--reporter", str(REPORTER)]
    if test.file.suffix == ".ts":
        command += ["--require", "ts-node/register/transpile-only"]
    command += ["--reporter-option", f"output={output}", str(test.file)]
    variables = {**os.environ, **environment}
    if test.file.stem.endswith(_WITHOUT_TRUST):
        del variables["NODE_EXTRA_CA_CERTS"]
    began = time.monotonic()
    with report.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=SUITE / test.folder, env=variables, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            status = process.wait(FILE_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    results = [_result(test, line) for line in output.read_text().splitlines()] if output.exists() else []
    counts = Counter(outcome for outcome, _ in results)
    # mocha's exit status is how many failed
    unfinished = "" if status == counts[FAILED] + counts[CANNOT_PASS] else f"; not finished, exit status {status}"
    print(
        f"{test.name}: {counts[PASSED]} passed, {counts[FAILED]} failed, {counts[SKIPPED]} skipped"
        + "".join(f", {counts[each]} {each}" for each in (RETRIED, CANNOT_PASS) if counts[each])
        + f" in {time.monotonic() - began:.0f} s{unfinished}",
        *(f"    {outcome}: {name}" for outcome, name in results if outcome in (FAILED, RETRIED)),
        *([f"    {_CANNOT_PASS[test.name][1]}"] if counts[CANNOT_PASS] else []),
        sep="\n",
        flush=True,
    )
    return not counts[FAILED] and not unfinished


def _result(test: Test, line: str) -> tuple[str, str]:
    """What a line of the reporter's file says: what became of which test."""
    said = json.loads(line)
    outcome, name = said["outcome"], said["name"]
    if test.name in _CANNOT_PASS and _CANNOT_PASS[test.name][0] in name:
        outcome = {FAILED: CANNOT_PASS, RETRIED: "tried again, as all that fail"}.get(outcome, outcome)
    return outcome, name


if __name__ == "__main__":
    sys.exit(inside(sys.argv[2:]) if sys.argv[1:2] == ["--inside"] else main(sys.argv[1:]))
