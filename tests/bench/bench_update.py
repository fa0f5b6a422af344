# SPDX-License-Identifier: GPL-3.0-or-later
"""What an update costs, as ratios measured side by side in one run: `make bench-update`.

Sizes come from a real pair of versions, the newest commit that changed one module of the app and the one before it.
Memory, blind time and the control loop's gap come from a real agent on a real hub with the real panel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive, layer_patches
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from fridge_agent.config import Server
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import Maker

ROOT = Path(__file__).parents[2]
APP = "device_app/fridge/fridge"
HOST = "127.0.0.77"
SETTLE = 6.0

failures: list[str] = []


def say(text: str, value: float, bound: float, unit: str = "") -> None:
    """One line, and whether it keeps its bound."""
    kept = value <= bound
    print(f"{'ok  ' if kept else 'MISS'} {text}: {value:.3f}{unit} (at most {bound:g}{unit})", flush=True)
    if not kept:
        failures.append(text)


def tell(text: str) -> None:
    print(f"     {text}", flush=True)


# ---- bytes ------------------------------------------------------------


def exported(commit: str, folder: Path) -> dict[str, bytes]:
    """The app's files at `commit`, as the release's layer holds them."""
    done = subprocess.run(["git", "-C", ROOT, "archive", commit, APP], capture_output=True, check=True)
    (folder / "export.tar").write_bytes(done.stdout)
    found = {}
    with tarfile.open(folder / "export.tar") as tar:
        for member in tar.getmembers():
            data = tar.extractfile(member)
            if data and not member.name.endswith("py.typed"):
                found[f"fridge/{Path(member.name).relative_to(APP).as_posix()}"] = data.read()
    return found


def one_module_change() -> str | None:
    """The newest commit that changed one module of the app and nothing else of it."""
    words = ["git", "-C", ROOT, "log", "--format=%H", "--diff-filter=M", "--", APP]
    for commit in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split():
        words = ["git", "-C", ROOT, "diff-tree", "--no-commit-id", "--name-only", "-r", commit, "--", APP]
        changed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if len(changed) == 1 and changed[0].endswith(".py"):
            return commit
    return None


def pack(files: dict[str, bytes], folder: Path) -> tuple[bytes, int]:
    """The tar of `files` and the compressed size of the whole layer."""
    for path, data in files.items():
        (folder / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / path).write_bytes(data)
    layer = layer_archive.build("app", "any", layer_archive.collect_tree(folder / "src", [], []), "", folder, 19)
    return layer_archive.decompress(folder / layer.path), layer.length


def sizes(folder: Path) -> None:
    commit = one_module_change()
    if commit is None:
        raise SystemExit("this checkout's history has no commit that changed one module of the app: clone it whole")
    old, _ = pack(exported(f"{commit}^", folder), folder / "old")
    new, full = pack(exported(commit, folder), folder / "new")
    ours = len(layer_patches.diff(old, new, 19))
    (folder / "a").write_bytes(old)
    (folder / "b").write_bytes(new)
    command = ["zstd", "-q", "-f", "-19", "--long=27", f"--patch-from={folder / 'a'}", folder / "b", "-o", folder / "p"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = (folder / "p").stat().st_size
    tell(
        f"one module changed in {commit[:7]}: whole layer {full} bytes, our patch {ours}, "
        f"zstd --patch-from -19 {theirs}"
    )
    say("patch of one module to the whole layer", 100 * ours / full, 2, " %")
    say("patch to zstd --patch-from -19", ours / theirs, 1.2)


def steady_check(maker: Maker, folder: Path) -> None:
    server = Server(maker.repository.as_uri(), root=maker.repository / "metadata/1.root.json")
    for _ in range(2):
        transport = for_server(server)
        TrustedRepository(transport, server.root, folder / "tuf").refresh()
        tell(f"check: {transport.requests} requests, {transport.received} bytes")
    say("requests of a steady check", transport.requests, 2)
    say("bytes of a steady check", transport.received, 600)


# ---- a device ------------------------------------------------------------


@contextmanager
def hub(folder: Path) -> Iterator[dict[str, str]]:
    """A local hub of its own; its environment."""
    program = Path(sys.executable).with_name("local-hub")
    words = ["--data", folder / "hub", "--host", HOST, "--hostname", HOST, "--https-port", "18443"]
    found = subprocess.run([program, "env", *words, "--format", "json"], capture_output=True, text=True, check=True)
    process = subprocess.Popen([program, "serve", *words], stderr=subprocess.DEVNULL)
    try:
        subprocess.run([program, "wait", *words, "--timeout", "30"], check=True, capture_output=True)
        environment = json.loads(found.stdout)
        os.environ["REQUESTS_CA_BUNDLE"] = environment["IOTHUB_CA_FILE"]
        yield environment
    finally:
        process.terminate()
        process.wait(20)


def memory(pid: int, field: str = "VmRSS") -> float:
    """MB of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has no {field}")


def bare() -> float:
    """MB of a process that only imports azure-iot-device."""
    code = "import azure.iot.device, sys, time; print('x', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1)
    found = memory(process.pid)
    process.kill()
    process.wait()
    return found


class Fridge:
    """Agent and app of one device, as services would run them."""

    def __init__(self, folder: Path, maker: Maker, environment: dict[str, str]) -> None:
        self.folder = folder
        self._registry = IoTHubRegistryManager.from_connection_string(environment["IOTHUB_CONNECTION_STRING"])
        device: Any = self._registry.create_device_with_sas("bench", "", "", "enabled")
        key = device.authentication.symmetric_key.primary_key
        folder.mkdir()
        (folder / "hub-key").write_text(f"HostName={HOST};DeviceId=bench;SharedAccessKey={key}")
        (folder / "root.json").write_bytes((maker.repository / "metadata/1.root.json").read_bytes())
        (folder / "agent.toml").write_text(
            '[device]\nid = "bench"\nring = "beta"\nplatform = "linux-x86_64"\n'
            f'[hub]\nconnection_string_file = "hub-key"\nca_file = "{environment["IOTHUB_CA_FILE"]}"\n'
            f'[updates]\nurl = "{maker.repository.as_uri()}"\nroot = "root.json"\n'
            '[paths]\nbase = "opt"\nstate = "state"\nrun = "run"\napp = "app"\n'
            f'[app]\npython = "{sys.executable}"\n[app.env]\nQT_QPA_PLATFORM = "offscreen"\nFRIDGE_SIMULATE = "1"\n'
            "[timing]\nprobation = 3.0\n"
        )
        self._log = (folder / "log").open("wb")
        self.app = self._start("run-app")
        self.agent = self._start("run")

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "fridge_agent.cli", "--config", self.folder / "agent.toml", command]
        return subprocess.Popen(words, stdout=self._log, stderr=self._log)

    def goal(self, version: str) -> None:
        release = {"id": f"{version}-g0", "version": version, "manifest": f"beta/{version}/manifest.json"}
        self._registry.update_twin("bench", Twin(properties=TwinProperties(desired={"fridge": {"release": release}})))

    def state(self) -> dict[str, Any]:
        twin: Any = self._registry.get_twin("bench")
        found: dict[str, Any] = ((twin.properties.reported or {}).get("fridge") or {}).get("update") or {}
        return found

    def arrives(self, version: str) -> dict[str, Any]:
        deadline = time.monotonic() + 90
        while (state := self.state()).get("state") != "succeeded" or state.get("version") != version:
            if time.monotonic() > deadline or self.agent.poll() is not None:
                raise SystemExit(f"the update did not arrive: {state}\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.2)
        return state

    def stop(self) -> None:
        for process in (self.agent, self.app):
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def device(maker: Maker, folder: Path) -> None:
    source = ROOT / APP
    app = {
        f"fridge/{path.relative_to(source).as_posix()}": path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    maker.release_of("1", {"app": app})
    changed = "fridge/control/__init__.py"
    maker.release_of("2", {"app": app | {changed: app[changed] + b"# one line more\n"}})
    with hub(folder) as environment:
        fridge = Fridge(folder / "device", maker, environment)
        try:
            fridge.goal("1")
            fridge.arrives("1")
            # a fresh agent: what a device has been for most of its life
            fridge.agent.send_signal(signal.SIGTERM)
            fridge.agent.wait(20)
            fridge.agent = fridge._start("run")
            time.sleep(SETTLE)
            imported, idle = bare(), memory(fridge.agent.pid)
            tell(f"memory: a bare import of azure-iot-device {imported:.1f} MB, the idle agent {idle:.1f} MB")
            say("idle agent to a bare import of azure-iot-device", idle / imported, 1.4)
            Path(f"/proc/{fridge.agent.pid}/clear_refs").write_text("5")  # forget the peak so far
            fridge.goal("2")
            state = fridge.arrives("2")
            peak = memory(fridge.agent.pid, "VmHWM")
            cost = json.loads((fridge.folder / "state/staged.json").read_text())["cost"]
            tell(
                f"the update fetched {cost} bytes; the agent's peak was {peak:.1f} MB, "
                f"and it kept {memory(fridge.agent.pid):.1f} MB after it"
            )
            if set(cost) != {"patch"}:
                failures.append("the update was to be a patch")
            say("peak while a patch is applied, to idle", peak / idle, 1.5)
            found = re.findall(r"the panel was dark for (\S+) s, the control loop stood still for (\S+) s",
                               (fridge.folder / "log").read_text())  # fmt: skip
            tell(f"at the switch the panel was dark for {found[-1][0]} s (reported: {state['blind_s']}), ")
            tell(f"and nobody controlled the compressor for {found[-1][1]} s (its minimum rest is 180 s)")
        finally:
            fridge.stop()


def main() -> int:
    """Measure; 1 where a bound is missed."""
    if shutil.which("zstd") is None:
        raise SystemExit("the zstd program is needed to compare with (packages-chaos.apt)")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        maker = Maker(folder / "maker")
        sizes(folder)
        maker.open().write()
        steady_check(maker, folder)
        device(maker, folder)
    print(f"{len(failures)} bounds missed" if failures else "every bound kept")
    return bool(failures)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
