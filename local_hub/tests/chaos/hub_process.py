# SPDX-License-Identifier: Apache-2.0
"""`local-hub serve` as a process that can be shot at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path


class HubProcess:
    """One data directory, one address, one process after the other."""

    def __init__(self, data: Path, seed: int, log: Path | None = None) -> None:
        self.data = data
        self.host = _free_address(seed)
        self.https_port = 8443
        self.log = log or data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        shown = subprocess.run(self._command("env", "--format", "json"), capture_output=True, check=True, timeout=60)
        environment = json.loads(shown.stdout)
        self.policy_key = environment["IOTHUB_CONNECTION_STRING"].partition("SharedAccessKey=")[2]
        self.trust = ssl.create_default_context(cafile=environment["IOTHUB_CA_FILE"])

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command("serve"), stderr=log)

    async def answers(self, seconds: float = 30.0) -> None:
        """Wait until REST answers; it listens last."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            try:
                _, writer = await asyncio.open_connection(self.host, self.https_port, ssl=self.trust)
                writer.transport.abort()
                return
            except OSError:
                assert asyncio.get_running_loop().time() < deadline, self.log.read_text()[-3000:]
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self.shoot()
        self.fall()

    def shoot(self) -> None:
        """kill -9, without waiting: a process that waits for a disk ends after the disk answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)

    def fall(self) -> None:
        """Wait for the end of what was shot."""
        assert self._process is not None
        assert self._process.wait(20) == -signal.SIGKILL, self.log.read_text()[-3000:]

    def close(self) -> None:
        if self.runs:
            assert self._process is not None
            self._process.terminate()
            assert self._process.wait(20) == 0

    def _command(self, *arguments: str) -> list[str]:
        address = ["--host", self.host, "--hostname", self.host, "--https-port", str(self.https_port)]
        return [sys.executable, "-m", "local_hub", arguments[0], "--data", str(self.data), *address, *arguments[1:]]


def _free_address(seed: int) -> str:
    """A loopback address of this process's own."""
    for number in range(200):
        address = f"127.{(seed + number) % 250 + 1}.{os.getpid() % 250}.77"
        try:
            for port in (5671, 8883, 8443):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            continue
        return address
    raise RuntimeError("no loopback address with free ports")
