# SPDX-License-Identifier: GPL-3.0-or-later
"""What the app costs, as ratios measured side by side in one run: `make bench-app`.

The rival is a bare QML window: the same Qt, one rectangle and one text, one process. Both start in turns, so that a
machine that is busy is busy for both; the median of the turns counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TURNS = 7
BOUNDS = {"time to first frame": 1.5, "idle memory": 1.5}
TWO_DAYS_CPU_SECONDS = 3.0

BARE = """
import os, sys, time
from PySide6.QtCore import QByteArray, QUrl
from PySide6.QtGui import QGuiApplication
from PySide6.QtQml import QQmlComponent
from PySide6.QtQuick import QQuickView
application = QGuiApplication([])
view = QQuickView()
view.setSource(QUrl.fromLocalFile(sys.argv[1]))
view.frameSwapped.connect(lambda: print("painted", flush=True))
view.resize(800, 480)
view.show()
application.exec()
"""
SCENE = 'import QtQuick\nRectangle { width: 800; height: 480; Text { anchors.centerIn: parent; text: "5" } }\n'

DAYS = """
import time
from fridge.control import Inputs, State, step
from fridge.hardware.simulator import SimulatedCabinet
cabinet, state = SimulatedCabinet(air=20.0, food=20.0), State()
for second in range(48 * 3600):
    state, outputs, _ = step(state, Inputs(cabinet.air(), cabinet.door_open()), float(second))
    cabinet.drive(outputs, 1.0)
print(time.process_time())
"""

failures: list[str] = []


def say(what: str, value: float, bound: float, unit: str = "") -> None:
    good = value <= bound
    print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.2f}{unit} (at most {bound:g}{unit})")
    if not good:
        failures.append(what)


def resident(pid: int) -> float:
    """Resident memory of a process and its children, in MB; pages that they share count twice."""
    pids = [pid]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids += [int(child) for child in children]
    total = 0
    for each in pids:
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def bare(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds to the first frame and MB at rest of a bare window."""
    scene = folder / "Bare.qml"
    scene.write_text(SCENE)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", BARE, scene], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        painted = time.monotonic() - began
        time.sleep(1.5)
        return painted, resident(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def app(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """The same of the fridge: control process and panel, until the panel's first frame is told of."""
    import socket

    path = folder / "agent.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.bind(str(path))
        agent.settimeout(60)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "fridge"],
            env=environment
            | {
                "FRIDGE_STATE_DIR": str(folder / "state"),
                "FRIDGE_RUN_DIR": str(folder / "run"),
                "FRIDGE_AGENT_SOCKET": str(path),
            },
        )
        try:
            agent.recv(4096)
            painted = time.monotonic() - began
            time.sleep(1.5)
            return painted, resident(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def main() -> int:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "QT_QUICK_BACKEND": "software"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # the first of each fills caches, and does not count
        bare(folder, environment), app(folder, environment)
        rivals, ours = [], []
        for _ in range(TURNS):
            rivals.append(bare(folder, environment))
            ours.append(app(folder, environment))
    (first, memory), (our_first, our_memory) = (
        tuple(statistics.median(column) for column in zip(*turns, strict=True)) for turns in (rivals, ours)
    )
    print(f"     a bare QML window: first frame after {first:.2f} s, {memory:.0f} MB at rest")
    print(f"     the fridge, both processes: first frame after {our_first:.2f} s, {our_memory:.0f} MB at rest")
    say("time to first frame", our_first / first, BOUNDS["time to first frame"])
    say("idle memory", our_memory / memory, BOUNDS["idle memory"])
    spent = float(subprocess.run([sys.executable, "-c", DAYS], check=True, capture_output=True, text=True).stdout)
    say("48 simulated hours", spent, TWO_DAYS_CPU_SECONDS, " s of CPU")
    print("every bound kept" if not failures else f"not kept: {', '.join(failures)}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
