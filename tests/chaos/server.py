# SPDX-License-Identifier: GPL-3.0-or-later
"""A file server that lies, stalls and breaks off: HTTP, as a process of its own.

server.py FOLDER FAULT FROM COUNT [OLD]: serves FOLDER, and does FAULT to the requests FROM .. FROM+COUNT-1. Prints its
port, then a line for each request. OLD: folder of the repository as it was, for the fault `old`.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

FAULTS = ("missing", "error", "truncate", "corrupt", "longer", "reset", "stall", "old", "garbage", "empty")


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with or without Range."""

    folder: Path
    old: Path
    fault: str
    first: int
    count: int
    number = -1

    def do_GET(self) -> None:
        Handler.number += 1
        print(self.path, flush=True)
        faulty = self.first <= Handler.number < self.first + self.count
        root = self.old if faulty and self.fault == "old" else self.folder
        path = root / self.path.lstrip("/")
        if not path.is_file() or (faulty and self.fault == "missing"):
            self.send_error(404)
            return
        data = path.read_bytes()
        begin = self._offset()
        if faulty and self.fault not in ("old", "missing"):
            self._misbehave(data[begin:], begin)
            return
        self._answer(data[begin:], begin)

    def _offset(self) -> int:
        wanted = self.headers.get("Range", "")
        return int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0

    def _answer(self, data: bytes, begin: int, length: int | None = None) -> None:
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def _misbehave(self, data: bytes, begin: int) -> None:
        match self.fault:
            case "error":
                self.send_error(503)
            case "empty":
                self._answer(b"", begin)
            case "truncate":
                self._answer(data[: len(data) // 2], begin, len(data))
                self.close_connection = True
            case "corrupt":
                middle = len(data) // 2
                self._answer(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], begin)
            case "garbage":
                self._answer(bytes(reversed(data)), begin)
            case "longer":
                self._answer(data + b"x" * 100_000, begin)
            case "reset":
                self._answer(data[: len(data) // 3], begin, len(data))
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "stall":
                self._answer(data[: len(data) // 3], begin, len(data))
                self.wfile.flush()
                time.sleep(1.0)
                self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet; requests go to stdout."""


def main(folder: str, fault: str, first: str, count: str, old: str = "") -> None:
    """Serve until killed."""
    Handler.folder, Handler.old, Handler.fault = Path(folder), Path(old), fault
    Handler.first, Handler.count = int(first), int(count)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
