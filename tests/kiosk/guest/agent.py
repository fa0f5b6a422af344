# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the virtual kiosk: owns the touchscreen, starts the app, and does what the test asks.

One JSON object a line in, one out, over a virtio-serial port; `answer` and what it calls are the commands. Needs no
package but Python. What it and the app print goes to the serial console, and so into the test's log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from touchscreen import Touchscreen

BASE = Path("/mnt/base/current")
RUN = Path("/run/fridge")
PORT = "org.iotops.kiosk"


class Kiosk:
    """The touchscreen and the app."""

    def __init__(self) -> None:
        # without udev Qt looks for touchscreens once, when it starts: so the screen comes first
        self._screen = Touchscreen(800, 480)
        print(f"kiosk: touchscreen at {self._screen.node()}")
        self._app: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {"PYTHONPATH": f"{BASE}/app:{BASE}/runtime", "FRIDGE_RUN_DIR": str(RUN)}

    def start(self, variables: dict[str, str]) -> dict[str, Any]:
        """Start the app as a device does, with these variables beside those that say where things are."""
        RUN.mkdir(exist_ok=True)
        environment = self._environment | {"FRIDGE_STATE_DIR": "/tmp/state"} | variables
        self._app = subprocess.Popen([sys.executable, "-s", "-m", "fridge"], env=environment)
        return {}

    def tap(self, x: int, y: int) -> dict[str, Any]:
        """A finger for a moment."""
        return {"seconds": self._screen.tap(x, y)}

    def hold(self, x: int, y: int, seconds: float) -> dict[str, Any]:
        """A finger that stays."""
        return {"seconds": self._screen.hold(x, y, seconds)}

    def kitchen(self, *words: str) -> dict[str, Any]:
        """What `python -m fridge.kitchen` says to these words; `app`: the status that the app has ended with."""
        command = [sys.executable, "-s", "-m", "fridge.kitchen", "--run-dir", str(RUN), *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        app = self._app.poll() if self._app else None
        return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "app": app}

    def opened(self) -> dict[str, Any]:
        """The device files that the app's processes have open, and which is the touchscreen."""
        found = {os.path.realpath(link) for link in Path("/proc").glob("[0-9]*/fd/*") if _of_app(link.parent.parent)}
        devices = sorted(name for name in found if name.startswith(("/dev/dri/", "/dev/input/", "/dev/fb")))
        return {"devices": devices, "touchscreen": self._screen.node()}

    def uptime(self) -> dict[str, Any]:
        """Seconds since the guest's kernel began."""
        return {"seconds": time.monotonic()}


def _of_app(process: Path) -> bool:
    try:
        return b"\0fridge" in (process / "cmdline").read_bytes()
    except OSError:
        return False  # ended meanwhile


def answer(kiosk: Kiosk, line: str) -> dict[str, Any]:
    """What to answer to a line: {"do": COMMAND, "with": ARGUMENTS, "id": NUMBER}."""
    asked = json.loads(line)
    try:
        result = getattr(kiosk, asked["do"])(*asked["with"])
    except Exception as exc:  # whatever it is, the test has to hear of it
        return {"id": asked["id"], "ok": False, "error": f"{type(exc).__name__}: {exc}"}
    return {"id": asked["id"], "ok": True, **result}


def port() -> Path:
    """The device file of the control channel."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT:
            return Path("/dev") / name.parent.name
    raise FileNotFoundError(f"no virtio-serial port {PORT}")


def main() -> None:
    """Serve until the other end hangs up."""
    kiosk = Kiosk()
    with port().open("r+b", buffering=0) as line:
        line.write(b'{"ok": true, "hello": "kiosk"}\n')
        buffer = b""
        while data := line.read(65536):
            buffer += data
            while b"\n" in buffer:
                one, _, buffer = buffer.partition(b"\n")
                line.write(json.dumps(answer(kiosk, one.decode())).encode() + b"\n")


if __name__ == "__main__":
    main()
