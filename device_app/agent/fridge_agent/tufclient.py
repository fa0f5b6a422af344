# SPDX-License-Identifier: Apache-2.0
"""The agent's TUF client behind the command line of theupdateframework/tuf-conformance (its CLIENT-CLI.md).

The suite gives a root file instead of the image's, and URLs of its own; fetching, verifying, storing and downloading
are the agent's.
"""

from __future__ import annotations

import argparse
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import TargetFile

from .config import Server
from .durable import write_bytes
from .errors import AgentError
from .transport import Transport, for_server
from .trust import DurableUpdater, Fetcher


def run(args: argparse.Namespace) -> int:
    """Do what the suite asks; 1 where the client refuses or cannot."""
    try:
        if args.action == "init":
            args.metadata_dir.mkdir(parents=True, exist_ok=True)
            write_bytes(args.metadata_dir / "root.json", args.trusted_root.read_bytes())
            return 0
        metadata = _transport(args.metadata_url)
        updater = DurableUpdater(str(args.metadata_dir), "", fetcher=_Fetcher(metadata), bootstrap=None)
        updater.refresh()
        for name in args.target_name if args.action == "download" else []:
            _download(updater, name, args.target_base_url, args.target_dir)
    except (AgentError, RepositoryError, DownloadError, OSError) as exc:
        print(f"tuf-client: {type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return 0


class _Fetcher(Fetcher):
    """The suite's metadata lies at the URL itself; ngclient puts a slash before each name."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return super()._fetch(url.lstrip("/"))


def _transport(url: str) -> Transport:
    return for_server(Server(url.rstrip("/")))


def _download(updater: DurableUpdater, name: str, base_url: str, folder: Path) -> None:
    info = updater.get_targetinfo(name)
    if info is None:
        raise RepositoryError(f"no trusted signer offers {name}")
    final = folder / urllib.parse.quote(name, "")
    if final.exists() and _holds(final, info):
        return
    folder.mkdir(parents=True, exist_ok=True)
    transport = _transport(base_url)
    fetcher = Fetcher(transport)
    data = fetcher.download_bytes(updater.target_path(info), info.length)
    info.verify_length_and_hashes(data)
    write_bytes(final, data)


def _holds(path: Path, info: TargetFile) -> bool:
    try:
        info.verify_length_and_hashes(path.read_bytes())
    except RepositoryError:
        return False
    return True
