# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a published repository to a machine that has none, or an older one: a new CI machine, a second signer.

The file server is believed no more than a device believes it: everything must chain from a root that the person holds.
Expiry is not asked for, since whoever fetches may be about to renew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from .file_server import FileServer, FileServerError
from .layer_archive import write_whole
from .release_contents import live_names, objects_of

LIMIT = 16_000_000


@dataclass
class Fetch:
    """What would be brought: bytes by name, verified, in the order in which they are written."""

    files: dict[str, bytes] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    ahead: bool = False


class Untrusted(FileServerError):
    """The server's repository does not chain from the trusted root."""


class Published:
    """The repository on `server`, verified from the root metadata `root`."""

    def __init__(self, server: FileServer, root: bytes) -> None:
        self._server = server
        try:
            self._root: Metadata[Root] = Metadata.from_bytes(root)
        except (DeserializationError, ValueError) as exc:
            raise Untrusted(f"the trusted root is no root metadata: {exc}") from exc

    def plan(self, dest: Path) -> Fetch:
        """What `dest` lacks of metadata, pending metadata and the documents that they name.

        Raises:
            Untrusted: a signature, version or hash does not hold.
        """
        if _ahead(dest, self._server.read("metadata/timestamp.json")):
            return Fetch(ahead=True)
        found = Fetch()
        try:
            metadata = dict(self._metadata())
        except (RepositoryError, DeserializationError, KeyError, ValueError) as exc:
            raise Untrusted(f"what the server has is not signed as it must be: {exc}") from exc
        documents = dict(self._documents(metadata, dest))
        waiting = dict(self._pending())
        for name, data in (*documents.items(), *waiting.items(), *metadata.items()):
            path = dest / name
            if not path.exists() or path.read_bytes() != data:
                found.files[name] = data
        local = (f"pending/{path.name}" for path in (dest / "pending").glob("*.json"))
        found.gone = sorted(name for name in local if name not in waiting)
        return found

    def objects(self, dest: Path) -> Iterator[str]:
        """Names of the objects that `dest` lacks; fetch each by `bring_object` before asking for the next.

        Layers and patches come first: what the indexes among them name is known only then.
        """
        documents = (
            path for path in (dest / "targets").rglob("*.json") if not path.name.endswith(("cdx.json", "dsse.json"))
        )
        named = sorted({f"targets/{held}" for path in documents for held in objects_of(path.read_bytes())})
        yield from (name for name in named if not (dest / name).exists())
        yield from sorted(name for name in live_names(str(dest)) if not (dest / name).exists())

    def bring_object(self, name: str, dest: Path) -> None:
        """Fetch one object, whose name holds its hash."""
        data = self._server.read(name)
        if not data or hashlib.sha256(data).hexdigest() not in name:
            raise Untrusted(f"{name} is missing on the server, or not what its name says")
        write_whole(dest / name, data)

    # ---- inside ----------------------------------------

    def _read(self, name: str) -> bytes:
        data = self._server.read(name)
        if not data:
            raise Untrusted(f"the server has no {name}")
        if len(data) > LIMIT:
            raise Untrusted(f"{name} has {len(data)} bytes")
        return data

    def _metadata(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the current metadata, roots first and the timestamp last (TUF specification, 5.3 to 5.6)."""
        for version in range(1, self._root.signed.version + 1):
            yield f"metadata/{version}.root.json", self._server.read(f"metadata/{version}.root.json")
        while newer := self._server.read(f"metadata/{self._root.signed.version + 1}.root.json"):
            root: Metadata[Root] = Metadata.from_bytes(newer)
            self._root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
            root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
            if root.signed.version != self._root.signed.version + 1:
                raise ValueError(f"root {root.signed.version} follows root {self._root.signed.version}")
            self._root = root
            yield f"metadata/{root.signed.version}.root.json", newer
        timestamp = self._verified(self._root, "timestamp", "metadata/timestamp.json")
        version = timestamp[0].signed.snapshot_meta.version
        snapshot = self._verified(self._root, "snapshot", f"metadata/{version}.snapshot.json", version)
        named = {name: meta.version for name, meta in snapshot[0].signed.meta.items()}
        targets = self._verified(
            self._root, "targets", f"metadata/{named['targets.json']}.targets.json", named["targets.json"]
        )
        delegations = targets[0].signed.delegations
        for ring in delegations.roles if delegations and delegations.roles else ():
            name = f"metadata/{named[f'{ring}.json']}.{ring}.json"
            yield name, self._verified(targets[0], ring, name, named[f"{ring}.json"])[1]
        yield f"metadata/{named['targets.json']}.targets.json", targets[1]
        yield f"metadata/{version}.snapshot.json", snapshot[1]
        yield "metadata/timestamp.json", timestamp[1]

    def _verified(
        self, delegator: Metadata[Any], role: str, name: str, version: int | None = None
    ) -> tuple[Metadata[Any], bytes]:
        data = self._read(name)
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        if version is not None and metadata.signed.version != version:
            raise ValueError(f"{name} has version {metadata.signed.version}")
        return metadata, data

    def _documents(self, metadata: dict[str, bytes], dest: Path) -> Iterator[tuple[str, bytes]]:
        for data in metadata.values():
            signed = Metadata.from_bytes(data).signed
            offered: dict[str, Any] = signed.targets if isinstance(signed, Targets) else {}
            for path, target in offered.items():
                folder, _slash, base = path.rpartition("/")
                name = f"targets/{folder}/{target.hashes['sha256']}.{base}"
                if (dest / name).exists():
                    # it was checked when it was brought, or it was made here
                    continue
                document = self._read(name)
                if hashlib.sha256(document).hexdigest() != target.hashes["sha256"]:
                    raise Untrusted(f"{name} has other bytes than were signed")
                if base in ("manifest.json", "patches.json"):
                    list(objects_of(document))
                yield name, document

    def _pending(self) -> Iterator[tuple[str, bytes]]:
        """What waits for signatures: by its nature not verified; whoever signs looks at what it says."""
        for name in self._server.entries():
            if name.startswith("pending/") and name.endswith(".json") and name.count("/") == 1:
                yield name, self._read(name)


def _ahead(dest: Path, timestamp: bytes | None) -> bool:
    """Whether `dest` holds what was not published yet."""
    path = dest / "metadata/timestamp.json"
    if not path.exists():
        return False
    if not timestamp:
        return True
    try:
        here, there = (int(json.loads(data)["signed"]["version"]) for data in (path.read_bytes(), timestamp))
    except (ValueError, KeyError, TypeError):
        return False  # what follows says what is wrong with it
    return here > there


def write(todo: Fetch, dest: Path) -> None:
    """Carry out `todo`; the timestamp is written last, so that a kill leaves the old state or the new one."""
    for name, data in todo.files.items():
        write_whole(dest / name, data)
    for name in todo.gone:
        (dest / name).unlink(missing_ok=True)
