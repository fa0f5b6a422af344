# SPDX-License-Identifier: Apache-2.0
"""`fridge-agent`: run (the agent), run-app (the launcher), flash (a first release, at a bench), status, tuf-client."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import VERSION, bootstrap
from .config import Config, Paths, Server, load
from .durable import read_json
from .errors import AgentError, BadRelease
from .launcher import Launcher

if TYPE_CHECKING:
    from .transport import Transport


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
    tuf = commands.add_parser("tuf-client", help="the TUF client alone, as tuf-conformance drives it")
    _add_tuf_arguments(tuf)
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
    bootstrap.hand_over(config.paths, sys.argv[1:])
    from .agent import Agent  # the SDKs cost a second and 30 MB that the other commands need not pay

    agent = Agent(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    agent.run()
    if agent.succession:
        bootstrap.start_over(sys.argv[1:])
    bootstrap.ended_well(config.paths)
    return 0


def _run_app(config: Config) -> int:
    return Launcher(config).run()


def _flash(args: argparse.Namespace) -> int:
    """What a factory or a test bench does: whoever holds the medium is trusted, hashes are checked all the same."""
    from . import install, manifest
    from .layers import Stager

    paths = Paths(args.base, args.base, args.base, args.base)
    try:
        release = manifest.parse(args.manifest.read_bytes(), args.platform, args.hardware)
    except OSError as exc:
        raise BadRelease(f"cannot read {args.manifest}: {exc.strerror}") from exc
    with install.exclusive(paths), _medium(args.objects) as medium:
        Stager(paths, medium, lambda: None).stage(release)
        folder = install.switch(paths, release.id)
    print(folder)
    return 0


@contextmanager
def _medium(folder: Path) -> Iterator[Transport]:
    """A folder of objects as a transport: what a file server has below `targets/`."""
    from .transport import FolderTransport

    class Medium(FolderTransport):
        def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
            return super().read(path.removeprefix("targets/"), offset)

    yield Medium(Server(folder.resolve().as_uri()))


def _add_tuf_arguments(parser: argparse.ArgumentParser) -> None:
    def run(args: argparse.Namespace) -> int:
        from . import tufclient

        return tufclient.run(args)

    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("action", choices=["init", "refresh", "download"])
    parser.add_argument("trusted_root", type=Path, nargs="?")
    parser.set_defaults(command=run)


def _status(config: Config) -> int:
    print(json.dumps(read_json(config.paths.state / "update.json") or {"phase": "idle"}, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
