# SPDX-License-Identifier: Apache-2.0
"""One run of the panel's process, seen from the control process.

The first one is forked off before anything else is imported: it begins with Qt at once, while the control core starts
beside it. Later ones are spawned, since a process with threads must not fork.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import Self

from . import FD_VARIABLE

_NOT_ITS = "NOTIFY_SOCKET"  # it is the control process that the service manager hears


class PanelProcess:
    """A socket pair to the panel, what it says on stderr, and its process.

    `exited`: a descriptor that becomes readable when it has ended. `started`: monotonic seconds.
    """

    def __init__(self, pid: int, line: socket.socket, stderr: int) -> None:
        self.pid, self.line, self.stderr = pid, line, stderr
        self.exited = os.pidfd_open(pid)
        self.started = time.monotonic()
        self._status: int | None = None
        line.setblocking(False)
        os.set_blocking(stderr, False)

    @classmethod
    def fork(cls) -> Self:
        """Begin the panel in a copy of this process, which must have no threads yet. Does not return in the copy."""
        ours, theirs = socket.socketpair()
        heard, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.close(heard)
            os.dup2(said, 2)
            os.close(said)
            os.environ.pop(_NOT_ITS, None)
            os.environ[FD_VARIABLE] = str(theirs.detach())
            _be_the_panel()
        theirs.close()
        os.close(said)
        return cls(pid, ours, heard)

    @classmethod
    def spawn(cls) -> Self:
        """Begin the panel in a new interpreter."""
        ours, theirs = socket.socketpair()
        heard, said = os.pipe()
        theirs.set_inheritable(True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-s", "-m", "fridge.panel"],
            {**{key: value for key, value in os.environ.items() if key != _NOT_ITS}, FD_VARIABLE: str(theirs.fileno())},
            file_actions=[(os.POSIX_SPAWN_DUP2, said, 2)],
        )
        theirs.close()
        os.close(said)
        return cls(pid, ours, heard)

    def send_signal(self, number: int) -> None:
        if self._status is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended, negative for a signal; None where it has not within `seconds`."""
        if self._status is None and select.select([self.exited], [], [], seconds)[0]:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def end(self, grace: float) -> None:
        """Ask it to go (the line's end does), insist after `grace` seconds."""
        self.line.close()
        if self.wait(grace) is None:
            self.send_signal(signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """Give back what it held; it has ended."""
        self.line.close()
        os.close(self.stderr)
        os.close(self.exited)


def _be_the_panel() -> None:
    """The copy's whole life."""
    status = 1
    try:
        from .panel.__main__ import main

        main()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # nothing above may go on as if it were the control process
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
