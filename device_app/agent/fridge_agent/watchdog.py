# SPDX-License-Identifier: Apache-2.0
"""Tells systemd that the agent lives (sd_notify(3)), so that one that hangs is started anew.

Without systemd, on a desk or in a test, there is nobody to tell and all of this is silent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

SHARE = 0.4
"""A sign of life comes after this share of the time that systemd grants (sd_watchdog_enabled(3) advises half)."""


class ServiceManager:
    """The service manager of this process, from its environment (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        granted = environment.get("WATCHDOG_USEC", "")
        self._interval = int(granted) / 1e6 * SHARE if meant and granted.isdigit() else None
        self._told: float | None = None

    def ready(self) -> None:
        """The agent serves its device now."""
        self._tell("READY=1")

    def alive(self, now: float) -> None:
        """Call at each turn of the main loop; `now` in monotonic seconds."""
        if self._interval is not None and (self._told is None or now - self._told >= self._interval):
            self._told = now
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent ends on purpose."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        # a manager that does not listen must not stop the agent: at worst it starts it anew
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.settimeout(1.0)
            line.sendto(text.encode(), self._address)
