# SPDX-License-Identifier: GPL-3.0-or-later
"""The same layers twice: on a screen of a virtual machine with Debian's kernel, and offscreen beside it on the host.

`make kiosk-test` says in KIOSK_IMAGE where kernel and root file system are (scripts/kiosk-image), and in KIOSK_BASE
where `fridge-agent flash` unpacked the layers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports" / "kiosk"
PORT = "org.iotops.kiosk"
SIZE = (800, 480)
# under emulation on a busy machine everything takes a multiple of what it takes on a quiet one
BOOT_SECONDS = 120.0
PANEL_SECONDS = 120.0
ANSWER_SECONDS = 60.0
SETTLE_SECONDS = 60.0
# a pixel differs when a channel is further off than this; and how many may
LEVELS, SHARE = 8, 0.002

# the app's variables that both have. UTC: the panel looks another way at night, and the guest has no other time zone
APP = {"FRIDGE_VERSION": "kiosk", "FRIDGE_SIMULATE": "1", "QT_QUICK_BACKEND": "software", "TZ": "UTC"}
ON_SCREEN = {"QT_QPA_PLATFORM": "linuxfb", "QT_QPA_FB_DRM": "1", "QT_QPA_FB_HIDECURSOR": "1"}


# what is started ends with the test, even if that is killed
TIED = ["setpriv", "--pdeathsig=KILL", "--"]


class KioskError(AssertionError):
    """The machine or what runs on it did not do what was asked; the text says what."""


class NotYetError(KioskError):
    """The app does not answer, and may yet come to it."""


# ---- pictures ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """`data`: red, green and blue of each pixel, row by row."""

    width: int
    height: int
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Picture:
        """A PPM, which both QEMU and Qt write, and which needs no library to read."""
        content = path.read_bytes()
        head = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", content)
        if head is None:
            raise KioskError(f"{path} is no PPM as expected")
        picture = cls(int(head[1]), int(head[2]), content[head.end() :])
        if len(picture.data) != picture.width * picture.height * 3:
            raise KioskError(f"{path} is cut short")
        return picture

    def differing(self, other: Picture) -> list[int]:
        """The numbers of the pixels that differ."""
        if self.data == other.data:
            return []
        return [
            at // 3
            for at in range(0, len(self.data), 3)
            if self.data[at : at + 3] != other.data[at : at + 3]
            and any(abs(a - b) > LEVELS for a, b in zip(self.data[at : at + 3], other.data[at : at + 3], strict=True))
        ]

    def colours(self) -> int:
        return len({self.data[at : at + 3] for at in range(0, len(self.data), 3)})

    def marked(self, pixels: list[int]) -> Picture:
        """The picture in the dark, with these pixels bright."""
        data = bytearray(value // 4 for value in self.data)
        for pixel in pixels:
            data[3 * pixel : 3 * pixel + 3] = b"\xff\x40\xff"
        return Picture(self.width, self.height, bytes(data))

    def save(self, path: Path) -> None:
        """Write it as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        row = self.width * 3
        rows = b"".join(b"\0" + self.data[at : at + row] for at in range(0, len(self.data), row))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        packed = (struct.pack(">I", len(data)) + kind + data + _crc(kind + data) for kind, data in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


# ---- the two kiosks ---------------------------------------------------------------------------------------------


class Lines:
    """JSON objects over a Unix socket, one a line; QEMU connects to it."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None
        self._buffer = b""

    def accept(self, seconds: float) -> None:
        self._listener.settimeout(seconds)
        self._connection, _ = self._listener.accept()
        self._listener.close()

    def send(self, message: dict[str, Any]) -> None:
        assert self._connection is not None
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any]:
        """The next object.

        Raises:
            KioskError: none came in time, or the other end hung up.
        """
        assert self._connection is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            self._connection.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                raise KioskError(f"no answer within {seconds:.0f} s") from None
            if not data:
                raise KioskError("the virtual machine hung up")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()


class Machine:
    """The virtual machine: a screen, a finger, and the app of the layers on Debian's kernel."""

    def __init__(self, image: Path, disk: Path, folder: Path, console: Path) -> None:
        self._folder, self.console = folder, console
        self._agent, self._monitor = Lines(folder / "agent"), Lines(folder / "monitor")
        width, height = SIZE
        # fmt: off
        command = [
            *TIED, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            # no KVM: the same everywhere, and CI agents seldom have it
            "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-smp", "2",
            "-kernel", image / "vmlinuz", "-initrd", image / "initrd",
            "-append", f"console=ttyS0 loglevel=4 panic=-1 video=Virtual-1:{width}x{height}",
            "-serial", f"file:{console}",
            "-drive", f"if=virtio,format=raw,readonly=on,file={image / 'root.ext4'}",
            "-drive", f"if=virtio,format=raw,readonly=on,file={disk}",
            "-device", f"virtio-gpu-pci,xres={width},yres={height}",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={folder / 'agent'}",
            "-device", f"virtserialport,chardev=agent,name={PORT}",
            "-chardev", f"socket,id=monitor,path={folder / 'monitor'}",
            "-mon", "chardev=monitor,mode=control",
        ]
        # fmt: on
        self._asked = 0
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            self._monitor.accept(20)
            self._agent.accept(20)
            self._monitor.receive(20)
            self._manage("qmp_capabilities")
            self._agent.receive(BOOT_SECONDS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()
        self._agent.close()
        self._monitor.close()

    def do(self, command: str, *arguments: object, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Have the agent in the guest do something.

        Raises:
            KioskError: it could not, or did not answer within so many seconds.
        """
        self._asked += 1
        self._agent.send({"do": command, "with": arguments, "id": self._asked})
        end = time.monotonic() + seconds
        # earlier ones came too late for who asked
        while (answer := self._agent.receive(end - time.monotonic())).get("id") != self._asked:
            pass
        if not answer["ok"]:
            raise KioskError(f"{command} in the guest: {answer['error']}")
        return answer

    def kitchen(self, *words: str) -> str:
        answer = self.do("kitchen", *words)
        if answer["app"] is not None:
            raise KioskError(f"the app in the guest has ended with status {answer['app']}")
        if answer["status"]:
            raise NotYetError(f"kitchen {' '.join(words)} in the guest: {answer['err']}")
        return str(answer["out"])

    def picture(self) -> Picture:
        """What the screen shows, as QEMU sees it: below the guest's kernel."""
        path = self._folder / "screen.ppm"
        self._manage("screendump", filename=str(path))
        return Picture.read(path)

    def _manage(self, command: str, **arguments: str) -> None:
        self._monitor.send({"execute": command, "arguments": arguments})
        while "event" in (answer := self._monitor.receive(ANSWER_SECONDS)):
            pass
        if "return" not in answer:
            raise KioskError(f"QEMU's monitor: {answer}")


class Offscreen:
    """The app of the same layers on this machine, without a screen."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._folder = folder
        layers = base / "current"
        # what this shell has set for another fridge or another Qt is not meant
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("FRIDGE_", "QT_"))}
        self._environment = (
            inherited
            | APP
            | {
                "PYTHONPATH": f"{layers}/app:{layers}/runtime",
                "PYTHONDONTWRITEBYTECODE": "1",
                "FRIDGE_STATE_DIR": str(folder / "state"),
                "FRIDGE_RUN_DIR": str(folder / "run"),
                "QT_QPA_PLATFORM": "offscreen",
            }
        )
        # a group of its own: the app may be several processes
        self._process = subprocess.Popen(
            [*TIED, sys.executable, "-s", "-m", "fridge"], cwd=folder, env=self._environment, start_new_session=True
        )

    def close(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kitchen(self, *words: str) -> str:
        command = [sys.executable, "-s", "-m", "fridge.kitchen", "--run-dir", self._folder / "run", *words]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        if self._process.poll() is not None:
            raise KioskError(f"the app on the host has ended with status {self._process.returncode}")
        if done.returncode:
            raise NotYetError(f"kitchen {' '.join(words)} on the host: {done.stderr}")
        return done.stdout

    def picture(self) -> Picture:
        path = self._folder / "picture.ppm"
        self.kitchen("screenshot", str(path))
        return Picture.read(path)


@dataclass
class Pair:
    """The two, side by side."""

    machine: Machine
    offscreen: Offscreen

    def states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return shown(self.machine.kitchen("state")), shown(self.offscreen.kitchen("state"))

    def machine_comes_to(self, true: Callable[[dict[str, Any]], bool], seconds: float) -> bool:
        """Whether this becomes true of the state on the screen in so many seconds."""
        end = time.monotonic() + seconds
        while not (reached := true(shown(self.machine.kitchen("state")))) and time.monotonic() < end:
            pass
        return reached

    def wait_for(self, what: str, true: Callable[[dict[str, Any]], bool], seconds: float = SETTLE_SECONDS) -> None:
        """Wait until both tell a state of which this is true."""
        end = time.monotonic() + seconds
        while not all(map(true, states := self.states())):
            if time.monotonic() > end:
                raise KioskError(
                    f"not within {seconds:.0f} s: {what}. On the screen: {states[0]}, offscreen: {states[1]}"
                )

    def look_the_same(self, name: str, seconds: float = SETTLE_SECONDS) -> None:
        """In the same state both show the same, which is kept under this name in reports/kiosk.

        Asked again and again for a while: something may blink, or a frame be still on its way.
        """
        end = time.monotonic() + seconds
        while True:
            before = self.states()
            screen, offscreen = self.machine.picture(), self.offscreen.picture()
            states = self.states()
            same_state = before == states and states[0] == states[1]
            comparable = (screen.width, screen.height) == (offscreen.width, offscreen.height) == SIZE
            pixels = screen.differing(offscreen) if comparable else []
            count, allowed = len(pixels), SHARE * screen.width * screen.height
            if same_state and comparable and count <= allowed:
                break
            if time.monotonic() > end:
                break
        screen.save(REPORTS / f"{name}-screen.png")
        offscreen.save(REPORTS / f"{name}-offscreen.png")
        print(f"{name}: {count} of {screen.width * screen.height} pixels differ")
        if pixels:
            offscreen.marked(pixels).save(REPORTS / f"{name}-difference.png")
        assert comparable, (
            f"the screen is {screen.width} by {screen.height}, offscreen {offscreen.width} by {offscreen.height}"
        )
        assert same_state, f"never in the same state. On the screen: {states[0]}, offscreen: {states[1]}"
        assert count <= allowed, f"{count} pixels differ, see {REPORTS}/{name}-difference.png"


def _told(states: tuple[dict[str, Any], dict[str, Any]]) -> str:
    return f"On the screen: {states[0]}, offscreen: {states[1]}"


def shown(text: str) -> dict[str, Any]:
    """A state as the kitchen tells it, without what the panel does not show: process numbers, tenths of a degree."""
    told = json.loads(text)
    told.pop("panel", None)
    return {name: round(value) if isinstance(value, float) else value for name, value in told.items()}


# ---- fixtures ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """Both started, and the app in both as well."""
    image, base = os.environ.get("KIOSK_IMAGE"), os.environ.get("KIOSK_BASE")
    if not image or not base:
        pytest.skip("make kiosk-test runs this")
    REPORTS.mkdir(parents=True, exist_ok=True)
    # not pytest's folder: the path of a Unix socket must be short
    with tempfile.TemporaryDirectory(prefix="kiosk-") as name:
        folder = Path(name)
        disk = _disk(Path(base), folder)
        offscreen = Offscreen(Path(base), folder)
        try:
            machine = Machine(Path(image), disk, folder, REPORTS / "console.log")
            try:
                began = machine.do("uptime")["seconds"]
                machine.do("start", APP | ON_SCREEN)
                _wait_for_kitchens(machine, offscreen)
                print(f"guest: up after {began:.1f} s, the app answers at {machine.do('uptime')['seconds']:.1f} s")
                yield Pair(machine, offscreen)
            finally:
                machine.close()
        finally:
            offscreen.close()


def _disk(base: Path, folder: Path) -> Path:
    """The disk of this run: what runs in the guest, and the layers."""
    tree, disk = folder / "tree", folder / "disk.ext4"
    shutil.copytree(base, tree / "base", symlinks=True)
    shutil.copytree(Path(__file__).parent / "guest", tree / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    used = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    with disk.open("wb") as out:
        out.truncate(used + used // 8 + (16 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", tree, disk], check=True)
    shutil.rmtree(tree)
    return disk


def _wait_for_kitchens(machine: Machine, offscreen: Offscreen) -> None:
    end = time.monotonic() + PANEL_SECONDS
    for kiosk in (machine, offscreen):
        while True:
            try:
                kiosk.kitchen("state")
                break
            except NotYetError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Beside a failure: the end of the guest's console, where kernel, agent and app write."""
    report = yield
    console = REPORTS / "console.log"
    if report.failed and console.exists():
        lines = console.read_text(errors="replace").splitlines()
        report.sections.append(("end of the guest's console", "\n".join(lines[-40:])))
    return report
