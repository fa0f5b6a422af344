# SPDX-License-Identifier: Apache-2.0
"""One run of the panel's process. It is started before anything else is imported, so this module imports little."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

from . import FD_VARIABLE


class PanelProcess:
    """`python -m fridge.panel`, a socket pair to it, and what it says on stderr."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair()
        # the service manager's socket is for the control process
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-m", "fridge.panel"],
                env=environment | {FD_VARIABLE: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.line.setblocking(False)
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.fileno()
        os.set_blocking(self.stderr, False)
        self.exited = os.pidfd_open(self.process.pid)
        self.started = time.monotonic()

    def end(self, grace: float) -> None:
        """Ask it to go (the line's end does), insist after `grace` seconds."""
        self.line.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """Give back what it held; it has ended."""
        self.line.close()
        if self.process.stderr:
            self.process.stderr.close()
        os.close(self.exited)
