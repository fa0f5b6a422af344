# SPDX-License-Identifier: Apache-2.0
"""`fridge-agent`: run (the agent), run-app (the launcher), flash (a first release, at the bench), status."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from . import VERSION
from .config import Config, Paths, load
from .durable import read_json
from .errors import AgentError, BadRelease
from .launcher import Launcher


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status. A failure a person can mend is one sentence on stderr and status 1."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("azure").setLevel(logging.ERROR)
    logging.getLogger("tuf").setLevel(logging.WARNING)
    try:
        return int(args.command(args))
    except AgentError as exc:
        print(f"fridge-agent: {exc.text}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fridge-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--config", type=Path, default=Path("/etc/fridge-agent/agent.toml"), metavar="FILE")
    commands = parser.add_subparsers(required=True)
    for name, command, secrets, text in (
        ("run", _run, True, "serve: update the device and send its telemetry"),
        ("run-app", _run_app, False, "run the app of the current release, and again when the release changes"),
        ("status", _status, False, "print the update's state as JSON"),
    ):
        commands.add_parser(name, help=text).set_defaults(command=_with_config(command, secrets))
    flash = commands.add_parser("flash", help="install a built release from a folder, without hub or server")
    flash.add_argument("--manifest", type=Path, required=True, help="the release's manifest.json")
    flash.add_argument("--objects", type=Path, required=True, help="folder that the manifest's layer paths are below")
    flash.add_argument("--base", type=Path, required=True, help="where to: for example /opt/fridge")
    flash.add_argument("--platform", required=True)
    flash.add_argument("--hardware", default="fridge-panel")
    flash.set_defaults(command=_flash)
    return parser


def _with_config(command: Callable[[Config], int], secrets: bool) -> Callable[[argparse.Namespace], int]:
    return lambda args: command(load(args.config, secrets=secrets))


def _run(config: Config) -> int:
    from .agent import Agent  # the SDKs cost a second and 30 MB that the other commands need not pay

    agent = Agent(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    return 0


def _run_app(config: Config) -> int:
    return Launcher(config).run()


def _flash(args: argparse.Namespace) -> int:
    """What a factory or a test bench does: whoever holds the medium is trusted, hashes are checked all the same."""
    from . import install, manifest

    paths = Paths(args.base, args.base, args.base, args.base)
    try:
        release = manifest.parse(args.manifest.read_bytes(), args.platform, args.hardware)
    except OSError as exc:
        raise BadRelease(f"cannot read {args.manifest}: {exc.strerror}") from exc
    with install.exclusive(paths):
        folder = install.install(paths, release, {layer.sha256: args.objects / layer.path for layer in release.layers})
        install.switch(paths, folder)
    print(folder)
    return 0


def _status(config: Config) -> int:
    print(json.dumps(read_json(config.paths.state / "update.json") or {"phase": "idle"}, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
