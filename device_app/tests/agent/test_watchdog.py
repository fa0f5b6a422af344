# SPDX-License-Identifier: Apache-2.0
"""What systemd hears of the agent, on a real notify socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fridge_agent.watchdog import ServiceManager


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(200).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@fridge-test-{os.getpid()}")
    yield manager
    manager.socket.close()


def test_signs_of_life_come_well_within_the_time_that_is_granted(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "10000000"})
    manager.ready()
    for tenths in range(200):
        manager.alive(now=1000 + tenths / 10)
    heard = systemd.heard()
    assert heard[0] == "READY=1"
    assert heard[1:] == ["WATCHDOG=1"] * 5  # at 0, 4, 8, 12 and 16 s of 20


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"})
    manager.alive(now=0)
    assert systemd.heard() == []


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "junk"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()
    manager.alive(now=0)
    manager.stopping()
