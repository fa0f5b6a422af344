# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the parts of Microsoft's suite, each against a hub of its own in a network of its own, all at the same time.

    iothub.py [PART ...]          from scripts/conformance-iothub, which prepares build/conformance
    iothub.py --inside PART       the same file inside the part's namespaces

The suite cuts its network with iptables, connects to ports 443, 5671 and 8883 and trusts certifi. So each part gets
user, network and process namespaces (`unshare`, no root needed), where these ports are free, iptables harms nobody and
nothing outlives the part; and certifi's file in the suite's environment gets the hubs' common CA.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from local_hub.hub.provisioning import ID_SCOPE

ROOT = Path(__file__).resolve().parents[2]
BUILD, REPORTS = ROOT / "build/conformance", ROOT / "reports/conformance"
SUITE, VENV = BUILD / "suite", BUILD / "iothub-venv"
HUB = [str(ROOT / ".venv/bin/python"), "-m", "local_hub"]
ADDRESSES = ["--host", "127.0.0.1", "--hostname", "127.0.0.1", "--https-port", "443"]
# The suite's hub in Azure has this route: its helpers read twinChangeEvents.
ROUTES = ["--route", "twin-changes"]


@dataclass(frozen=True)
class Part:
    """Tests that share a hub. `limit` is in seconds, for all of them together."""

    folder: str
    arguments: tuple[str, ...]
    limit: int = 1500


def _iothub(folder: str, transport: str) -> Part:
    return Part("iothub_e2e", (folder, f"--transport={transport}"))


def _stress(transport: str) -> Part:
    return Part("iothub_e2e", ("aio", f"--transport={transport}", "-m", "stress"), 5400)


PARTS = {
    "sync-mqtt": _iothub("sync", "mqtt"),
    "sync-mqttws": _iothub("sync", "mqttws"),
    "aio-mqtt": _iothub("aio", "mqtt"),
    "aio-mqttws": _iothub("aio", "mqttws"),
    "provisioning": Part("provisioning_e2e", ("tests",), 900),
    "stress-mqtt": _stress("mqtt"),
    "stress-mqttws": _stress("mqttws"),
}
USUAL = [name for name in PARTS if not name.startswith("stress")]


def main(arguments: list[str]) -> int:
    """All parts at once; the exit status is 0 when nothing failed."""
    unknown = set(arguments) - set(PARTS)
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    names = arguments or USUAL
    _prepare(names)
    running = {name: _start(name) for name in names}
    statuses = {name: _wait(name, process) for name, process in running.items()}
    good = [_report(name, status) for name, status in statuses.items()]
    return 0 if all(good) else 1


def _prepare(names: list[str]) -> None:
    """A fresh data directory a part, all of the same CA; certifi that trusts it."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    base = BUILD / "hub"
    for directory in [base, *(BUILD / f"hub-{name}" for name in names)]:
        shutil.rmtree(directory, ignore_errors=True)
    environment = _environment(base)
    trusted = (BUILD / "certifi.pem").read_text() + "\n" + Path(environment["IOTHUB_CA_FILE"]).read_text()
    (certifi,) = VENV.glob("lib/python*/site-packages/certifi/cacert.pem")
    certifi.write_text(trusted)
    for name in names:
        shutil.copytree(base, BUILD / f"hub-{name}")


def _environment(data: Path) -> dict[str, str]:
    command = [*HUB, "env", "--data", str(data), *ADDRESSES, "--format", "json"]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout))


def _start(name: str) -> subprocess.Popen[bytes]:
    (REPORTS / f"{name}.xml").unlink(missing_ok=True)
    namespaces = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child=KILL"]
    with (REPORTS / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*namespaces, sys.executable, __file__, "--inside", name], stdout=log, stderr=subprocess.STDOUT
        )


def _wait(name: str, process: subprocess.Popen[bytes]) -> int | None:
    limit = PARTS[name].limit + 60  # inside, pytest is ended first; this is for whatever hangs beyond it
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _report(name: str, status: int | None) -> bool:
    path = REPORTS / f"{name}.xml"
    if not path.exists():
        print(f"{name}: no result (exit status {status}); see {REPORTS / name}.log")
        return False
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314 - pytest's own output
        outcome = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        counts[outcome] += 1
        if outcome in ("failure", "error"):
            bad.append(f"    {outcome}: {case.get('classname')}::{case.get('name')}")
    failed = counts["failure"] + counts["error"]
    unfinished = "; not finished" if status not in (0, 1) or (status == 1 and not failed) else ""
    print(
        f"{name}: {counts['passed']} passed, {failed} failed, {counts['skipped']} skipped{unfinished}", *bad, sep="\n"
    )
    return failed == 0 and status == 0


def inside(name: str) -> int:
    """In the namespaces: loopback up, the hub, the tests."""
    part, data = PARTS[name], BUILD / f"hub-{name}"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with (REPORTS / f"{name}.hub.log").open("wb") as log:
        hub = subprocess.Popen([*HUB, "serve", "--data", str(data), *ADDRESSES, *ROUTES], stderr=log)
    subprocess.run([*HUB, "wait", "--data", str(data)], check=True, timeout=60)
    try:
        return _pytest(name, part, os.environ | _environment(data) | _provisioning(data))
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.wait(20)


def _provisioning(data: Path) -> dict[str, str]:
    """What the provisioning tests want to know, with a root of their own for certificates (vsts/dps-e2e.yaml)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root of the suite")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    password = "of no value"
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    return {
        "PROVISIONING_DEVICE_ENDPOINT": "127.0.0.1",
        "PROVISIONING_DEVICE_IDSCOPE": ID_SCOPE,
        "PROVISIONING_SERVICE_CONNECTION_STRING": _environment(data)["IOTHUB_CONNECTION_STRING"],
        "PROVISIONING_ROOT_CERT": base64.b64encode(root.public_bytes(Encoding.PEM)).decode(),
        "PROVISIONING_ROOT_CERT_KEY": base64.b64encode(sealed).decode(),
        "PROVISIONING_ROOT_PASSWORD": password,
    }


def _pytest(name: str, part: Part, environment: dict[str, str]) -> int:
    environment["PYTHONPATH"] = f"{SUITE / 'dev_utils'}:{SUITE / 'scripts'}"
    report = f"--junitxml={REPORTS / name}.xml"
    command = [str(VENV / "bin/python"), "-m", "pytest", "-p", "no:cacheprovider", report, *part.arguments]
    tests = subprocess.Popen(command, cwd=SUITE / "tests/e2e" / part.folder, env=environment)
    try:
        return tests.wait(part.limit)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {part.limit} s", flush=True)
        tests.send_signal(signal.SIGINT)  # pytest still writes its report
        deadline = time.monotonic() + 20
        while tests.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        tests.kill()
        return 1


if __name__ == "__main__":
    sys.exit(inside(sys.argv[2]) if sys.argv[1:2] == ["--inside"] else main(sys.argv[1:]))
