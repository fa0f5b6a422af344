# SPDX-License-Identifier: GPL-3.0-or-later
"""A touchscreen that the kernel believes in: uinput, with the codes and ranges of the Pi's own 800 by 480 panel.

To everything above the kernel's input layer a finger here is a finger: Qt finds the device in /dev/input and reads the
multitouch protocol of type B from it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

_UI_SET_EVBIT, _UI_SET_KEYBIT, _UI_SET_ABSBIT, _UI_SET_PROPBIT = 0x40045564, 0x40045565, 0x40045567, 0x4004556E
_UI_DEV_SETUP, _UI_ABS_SETUP, _UI_DEV_CREATE = 0x405C5503, 0x401C5504, 0x5501
_EV_SYN, _EV_KEY, _EV_ABS = 0x00, 0x01, 0x03
_BTN_TOUCH = 0x14A
_ABS_X, _ABS_Y, _ABS_MT_SLOT, _ABS_MT_X, _ABS_MT_Y, _ABS_MT_TRACKING_ID = 0x00, 0x01, 0x2F, 0x35, 0x36, 0x39
_INPUT_PROP_DIRECT = 0x01
_BUS_VIRTUAL = 0x06
_TAP_SECONDS = 0.12


class Touchscreen:
    """One finger on a screen of `width` by `height`."""

    def __init__(self, width: int, height: int) -> None:
        self._device = os.open("/dev/uinput", os.O_WRONLY | os.O_CLOEXEC)
        self._finger = 0
        for kind in (_EV_SYN, _EV_KEY, _EV_ABS):
            fcntl.ioctl(self._device, _UI_SET_EVBIT, kind)
        fcntl.ioctl(self._device, _UI_SET_KEYBIT, _BTN_TOUCH)
        fcntl.ioctl(self._device, _UI_SET_PROPBIT, _INPUT_PROP_DIRECT)
        last = {_ABS_X: width - 1, _ABS_Y: height - 1, _ABS_MT_X: width - 1, _ABS_MT_Y: height - 1}
        for axis, maximum in (last | {_ABS_MT_SLOT: 9, _ABS_MT_TRACKING_ID: 65535}).items():
            fcntl.ioctl(self._device, _UI_SET_ABSBIT, axis)
            # struct uinput_abs_setup: code, padding, then struct input_absinfo
            fcntl.ioctl(self._device, _UI_ABS_SETUP, struct.pack("=HHiiiiii", axis, 0, 0, 0, maximum, 0, 0, 0))
        setup = struct.pack("=HHHH80sI", _BUS_VIRTUAL, 1, 1, 1, b"kiosk touchscreen", 0)
        fcntl.ioctl(self._device, _UI_DEV_SETUP, setup)
        fcntl.ioctl(self._device, _UI_DEV_CREATE)

    def node(self) -> str:
        """The device file that the panel reads, once the kernel has made it."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for name in Path("/sys/class/input").glob("event*/device/name"):
                node = Path("/dev/input") / name.parts[-3]
                if name.read_text().strip() == "kiosk touchscreen" and node.exists():
                    return str(node)
            time.sleep(0.05)
        raise TimeoutError("the kernel made no device file for the touchscreen")

    def tap(self, x: int, y: int) -> float:
        """Touch and let go; how long the finger stayed, by the guest's clock."""
        return self.hold(x, y, _TAP_SECONDS)

    def hold(self, x: int, y: int, seconds: float) -> float:
        """Touch, stay, let go; how long the finger stayed, by the guest's clock."""
        self._finger += 1
        self._send(
            (_EV_ABS, _ABS_MT_SLOT, 0),
            (_EV_ABS, _ABS_MT_TRACKING_ID, self._finger),
            (_EV_ABS, _ABS_MT_X, x),
            (_EV_ABS, _ABS_MT_Y, y),
            (_EV_KEY, _BTN_TOUCH, 1),
            (_EV_ABS, _ABS_X, x),
            (_EV_ABS, _ABS_Y, y),
        )
        began = time.monotonic()
        time.sleep(seconds)
        self._send((_EV_ABS, _ABS_MT_TRACKING_ID, -1), (_EV_KEY, _BTN_TOUCH, 0))
        return time.monotonic() - began

    def _send(self, *events: tuple[int, int, int]) -> None:
        # struct input_event; the kernel puts in the time
        packed = [struct.pack("=qqHHi", 0, 0, *event) for event in (*events, (_EV_SYN, 0, 0))]
        os.write(self._device, b"".join(packed))
