# SPDX-License-Identifier: Apache-2.0
"""`python -m fridge.kitchen`: play the people in the kitchen of a simulated fridge. Needs no Qt.

With a command it does that; without one it asks for commands until `quit`.
"""

from __future__ import annotations

import argparse
import cmd
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

_TIMEOUT = 12.0
_START_SECONDS = 30.0
HELP = {
    "press": "power, temp, supercool, alarm, or another control of the panel by its name",
    "hold": "the same, for three seconds",
    "door": "open or closed",
    "probe": "ok, lost, frozen or noisy",
    "relay": "ok, stuck-on or stuck-off",
    "kitchen": "degrees around the cabinet",
    "power": "cut SECONDS: a power failure of so many simulated seconds",
    "screenshot": "a file",
    "state": "what the panel shows, and what is broken",
    "crash": "exception, segfault or hang (of the panel), control or control-hang",
}


def ask(run_dir: Path, command: dict[str, Any]) -> dict[str, Any]:
    """Send one command to the fridge whose run folder this is; its answer.

    Raises:
        OSError: no simulated fridge runs there, or it did not answer within 12 seconds.
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


def do(run_dir: Path, command: str, value: str) -> int:
    """Ask, and print the answer for a person; the exit status."""
    try:
        answer = ask(run_dir, {command: value})
    except OSError as exc:
        print(f"no fridge answers in {run_dir}: {exc}", file=sys.stderr)
        return 1
    if not answer.pop("ok"):
        print(answer["error"], file=sys.stderr)
        return 1
    if answer:
        print(json.dumps(answer, indent=1))
    return 0


class Prompt(cmd.Cmd):
    """A person's side of the kitchen."""

    intro = "You are in the kitchen. Type help, or quit."
    prompt = "kitchen> "

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir

    def default(self, line: str) -> bool | None:  # type: ignore[override]  # cmd's own stub says None
        word, _, value = line.partition(" ")
        if word in ("quit", "exit", "EOF"):
            return True
        if word not in HELP:
            print(f"{word!r} is nothing that can be done here; type help")
            return None
        do(self._run_dir, word, value.strip())
        return None

    def do_help(self, _: str) -> None:
        for word, meaning in HELP.items():
            print(f"  {word:<11} {meaning}")

    def emptyline(self) -> bool:
        return False


def _wait_for_fridge(run_dir: Path) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            ask(run_dir, {"state": ""})
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(
        prog="fridge.kitchen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {word:<11} {meaning}" for word, meaning in HELP.items()),
    )
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("command", choices=tuple(HELP), nargs="?")
    parser.add_argument("value", nargs="*", default=[])
    args = parser.parse_args(argv)
    if args.command:
        return do(args.run_dir, args.command, " ".join(args.value))
    if not _wait_for_fridge(args.run_dir):
        print(f"no fridge answers in {args.run_dir}", file=sys.stderr)
        return 1
    Prompt(args.run_dir).cmdloop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
