# SPDX-License-Identifier: Apache-2.0
"""`python -m fridge.kitchen`: play the people in the kitchen of a simulated fridge. Needs no Qt."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path
from typing import Any

_TIMEOUT = 10.0
COMMANDS = ("press", "hold", "door", "probe", "screenshot", "state", "crash")


def ask(run_dir: Path, command: dict[str, Any]) -> dict[str, Any]:
    """Send one command to the fridge whose run folder this is; its answer.

    Raises:
        OSError: no simulated fridge runs there, or it did not answer within 10 seconds.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_TIMEOUT)
        line.connect(str(run_dir / "kitchen.sock"))
        line.sendall(json.dumps(command).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            chunk = line.recv(65536)
            if not chunk:
                raise ConnectionError("the fridge hung up")
            data += chunk
    answer: dict[str, Any] = json.loads(data)
    return answer


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(prog="fridge.kitchen", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("value", nargs="?", default="")
    args = parser.parse_args(argv)
    try:
        answer = ask(args.run_dir, {args.command: args.value})
    except OSError as exc:
        print(f"no fridge answers in {args.run_dir}: {exc}", file=sys.stderr)
        return 1
    if not answer.pop("ok"):
        print(answer["error"], file=sys.stderr)
        return 1
    if answer:
        print(json.dumps(answer, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
