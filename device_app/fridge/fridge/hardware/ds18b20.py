# SPDX-License-Identifier: Apache-2.0
"""The temperature probe: a DS18B20 on the one-wire bus, as the kernel's w1_therm driver shows it.

Reading the file `w1_slave` starts a conversion of 750 ms, and may hang for as long as the bus does. So a thread of its
own reads, and the control loop takes the newest good reading, or none once that is too old.

https://docs.kernel.org/w1/slaves/w1_therm.html
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import HardwareError

DEVICES = Path("/sys/bus/w1/devices")
READ_SECONDS = 2.0
STALE_SECONDS = 10.0
POWER_ON = 85_000  # millidegrees in the chip's memory before its first conversion
COLDEST, WARMEST = -40.0, 60.0  # a kitchen's worst; what is beyond is a fault of chip or cable

_NAME = re.compile(r"28-[0-9a-f]{1,16}", re.ASCII)
# nine bytes as read and whether their checksum held; then the last nine bytes that did, and what they say
_W1_SLAVE = re.compile(
    r"(?P<bytes>(?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} YES\n(?:[0-9a-f]{2} ){9}t=(?P<millidegrees>-?[0-9]{1,6})\n?"
)
_SHORTED = "00 " * 9  # what a data line at ground reads as; its checksum is right

_log = logging.getLogger(__name__)


def parse_w1_slave(text: str) -> float | None:
    """The degrees Celsius in a `w1_slave` file, None where it holds no reading to trust. Never raises.

    The second line repeats an old reading where the checksum of the new one is wrong, so the first line decides.
    """
    match = _W1_SLAVE.fullmatch(text)
    if match is None or match["bytes"] == _SHORTED:
        return None
    millidegrees = int(match["millidegrees"])
    degrees = millidegrees / 1000
    if millidegrees == POWER_ON or not COLDEST <= degrees <= WARMEST:
        return None
    return degrees


class Probe:
    """The newest good reading of a thread that reads all the time.

    Args:
        read: gives the text of `w1_slave`; may raise anything, and take its time.
    """

    def __init__(self, read: Callable[[], str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._monotonic = monotonic
        self._newest: tuple[float, float] | None = None  # (degrees, when); one assignment, so no lock
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to read. The first reading is there after a second or so."""
        threading.Thread(target=self._run, name="ds18b20", daemon=True).start()

    def value(self) -> float | None:
        """Degrees Celsius, None before the first good reading and once the newest is older than 10 seconds."""
        newest = self._newest
        if newest is None or self._monotonic() - newest[1] > STALE_SECONDS:
            return None
        return newest[0]

    def take(self) -> None:
        """Read once, for as long as that takes. Never raises."""
        # the time before: how long ago the chip measured is not known, when the bus hung
        began = self._monotonic()
        try:
            degrees = parse_w1_slave(self._read())
        except Exception as exc:  # whatever a driver comes up with: the next read may be good
            _log.debug("no reading: %r", exc)
            return
        if degrees is not None:
            self._newest = (degrees, began)

    def close(self) -> None:
        """End the thread after the read that it is at. Does not wait: that read may never end."""
        self._stop.set()

    def _run(self) -> None:
        self.take()
        while not self._stop.wait(READ_SECONDS):
            self.take()


def open_probe(variables: Mapping[str, str]) -> Probe:
    """The probe `FRIDGE_PROBE`, or the only one on the bus; started.

    A probe that is named may be missing: food must stay cold too when the power returns and the probe is dead.

    Raises:
        HardwareError: the name is none, or it is not named and there is not exactly one.
    """
    devices = Path(variables.get("FRIDGE_W1_ROOT") or DEVICES)
    file = devices / (_named(variables) or _only(devices)) / "w1_slave"
    probe = Probe(lambda: file.read_text(encoding="ascii"))
    probe.start()
    return probe


def _named(variables: Mapping[str, str]) -> str | None:
    name = variables.get("FRIDGE_PROBE") or None
    if name is not None and not _NAME.fullmatch(name):
        raise HardwareError(
            "FRIDGE_PROBE", f"{name!r} is no DS18B20", "give the name of its folder, 28-<12 hex digits>"
        )
    return name


def _only(devices: Path) -> str:
    names = sorted(path.name for path in devices.glob("28-*"))
    if not names:
        raise HardwareError(
            str(devices),
            "no DS18B20 there",
            "wire one and switch one-wire on (dtoverlay=w1-gpio), or name it in FRIDGE_PROBE to start without",
        )
    if len(names) > 1:
        raise HardwareError(str(devices), f"more than one DS18B20: {', '.join(names)}", "name one in FRIDGE_PROBE")
    return names[0]
