# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile file server can do, with no key, with the stolen online keys, and with a ring's key.

After the attacks in python-tuf's own conformance suite (theupdateframework/tuf-conformance: rollback, key rotation,
delegations, expiry, file download) and the TUF specification's list (1.5.2), each written anew against our metadata.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.iotops.fleet.plugins.module_utils import tuf_repository as tuf
from fridge_agent import errors
from tuf.api.metadata import Metadata, MetaFile, Role, TargetFile
from update.maker import PASSPHRASE

TARGET = "beta/2/manifest.json"


class Forge:
    """The attacker's workshop: the honest files of releases 1 (`old`) and 2 (`now`), and what is laid on the server."""

    def __init__(self, old: dict[str, bytes], now: dict[str, bytes], keys: Path, thief: Path) -> None:
        self.old, self.now = old, now
        self.laid: dict[str, bytes | None] = {}
        self._keys = tuf.KeyStore(keys, PASSPHRASE)
        self._thief = tuf.KeyStore(thief, PASSPHRASE)
        if not self._thief.exists("thief"):
            self._thief.create("thief")

    def name(self, role: str, files: dict[str, bytes] | None = None) -> str:
        """The newest file of `role`."""
        if role == "timestamp":
            return "metadata/timestamp.json"
        found = [name for name in files or self.now if name.startswith("metadata/") and name.endswith(f".{role}.json")]
        return max(found, key=lambda name: int(name.split("/")[1].split(".")[0]))

    def read(self, role: str) -> Metadata[Any]:
        return Metadata.from_bytes(self.now[self.name(role)])

    def sign(self, metadata: Metadata[Any], *names: str) -> bytes:
        """`metadata` with the signatures of `names` alone; `thief` is a key that nobody knows."""
        metadata.signatures.clear()
        for name in names:
            signer = self._thief.signer(name) if name == "thief" else self._keys.signer(name)
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def lay(self, name: str, data: bytes | None) -> None:
        """What the server shall serve as `name`; None: nothing."""
        self.laid[name] = data

    def forged(self, role: str, *signers: str, change: Callable[[Any], None] = lambda signed: None) -> None:
        """The current document of `role`, changed, and signed by `signers`."""
        metadata = self.read(role)
        change(metadata.signed)
        self.lay(self.name(role), self.sign(metadata, *signers))

    def chain(
        self, change: Callable[[dict[str, Any]], Any], **documents: tuple[Metadata[Any], tuple[str, ...]]
    ) -> None:
        """New snapshot and timestamp by the stolen online keys: `change` edits what the snapshot names.

        `documents`: role metadata to lay, with their signers.
        """
        for role, (metadata, signers) in documents.items():
            self.lay(f"metadata/{metadata.signed.version}.{role}.json", self.sign(metadata, *signers))
        snapshot, timestamp = self.read("snapshot"), self.read("timestamp")
        snapshot.signed.version += 1
        change(snapshot.signed.meta)
        self.lay(f"metadata/{snapshot.signed.version}.snapshot.json", self.sign(snapshot, "snapshot"))
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self.lay("metadata/timestamp.json", self.sign(timestamp, "timestamp"))


@dataclass(frozen=True)
class Attack:
    """`make` lays the trap; the device must answer with one of `answers`.

    `seen`: it knows release 2 already; otherwise it has its image's root and nothing else.
    """

    name: str
    make: Callable[[Forge], None]
    answers: tuple[type[errors.AgentError], ...] = (errors.NotTrusted,)
    seen: bool = False


def _rolled_back(role: str) -> Callable[[Forge], None]:
    """The document of release 1 under the name that release 2's has."""
    return lambda forge: forge.lay(forge.name(role), forge.old[forge.name(role, forge.old)])


def _next_root(*signers: str, version: int = 2, change: Callable[[Any], None] = lambda signed: None) -> Any:
    def make(forge: Forge) -> None:
        root = forge.read("root")
        root.signed.version = version
        change(root.signed)
        forge.lay("metadata/2.root.json", forge.sign(root, *signers))

    return make


def _owned(signed: Any) -> None:
    """A root that gives everything to the thief."""
    key = copy.deepcopy(next(iter(signed.keys.values())))
    key.keyid = "f" * 64
    signed.keys[key.keyid] = key
    for role in signed.roles:
        signed.roles[role] = Role([key.keyid], 1)


def _same_signature_twice(forge: Forge) -> None:
    root = forge.read("root")
    root.signed.version = 2
    document = json.loads(forge.sign(root, "root-1"))
    document["signatures"] *= 2
    forge.lay("metadata/2.root.json", json.dumps(document).encode())


def _ring(forge: Forge, *signers: str, change: Callable[[Any], None]) -> None:
    """The ring's next version, named by a snapshot that the stolen online keys sign."""
    ring = forge.read("beta")
    ring.signed.version += 1
    change(ring.signed)
    version = ring.signed.version
    forge.chain(lambda meta: meta.__setitem__("beta.json", MetaFile(version)), beta=(ring, signers))


def _another_manifest(signed: Any) -> None:
    signed.targets[TARGET] = TargetFile.from_data(TARGET, b"evil", ["sha256"])


def _expired(signed: Any) -> None:
    signed.expires = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)


def _manifest(forge: Forge) -> str:
    return next(name for name in forge.now if name.startswith("targets/beta/2/") and name.endswith(".manifest.json"))


def _expire(role: str, *signers: str) -> Callable[[Forge], None]:
    return lambda forge: forge.forged(role, *signers, change=_expired)


REFUSED, STALE = (errors.NotTrusted,), (errors.StaleMetadata, errors.ClockDoubtful)
GONE = (errors.FileMissing, errors.NotTrusted)
ROLES = ("timestamp", "snapshot", "targets", "beta")

NO_KEY = [
    Attack("timestamp of an earlier release", _rolled_back("timestamp"), seen=True),
    *(Attack(f"{role} of an earlier release", _rolled_back(role)) for role in ("snapshot", "beta")),
    *(Attack(f"{role} signed by nobody", lambda f, r=role: f.forged(r)) for role in ROLES),
    *(Attack(f"{role} signed by a stranger", lambda f, r=role: f.forged(r, "thief")) for role in ROLES),
    *(Attack(f"{role} is no JSON", lambda f, r=role: f.lay(f.name(r), b"\x00garbage")) for role in ROLES),
    *(
        Attack(f"{role} is of another role", lambda f, r=role: f.lay(f.name(r), f.now[f.name("root")]))
        for role in ROLES
    ),
    *(
        Attack(f"{role} without an end", lambda f, r=role: f.lay(f.name(r), f.now[f.name(r)] + b" " * 6_000_000))
        for role in ROLES
    ),
    *(Attack(f"{role} withheld", lambda f, r=role: f.lay(f.name(r), None), GONE) for role in ROLES),
    Attack("next root by strangers", _next_root("thief", change=_owned)),
    Attack("next root by one of two", _next_root("root-1", change=_owned)),
    Attack("next root with one signature twice", _same_signature_twice),
    Attack("next root that skips a version", _next_root("root-1", "root-2", version=3)),
    Attack("next root that is the first again", _next_root("root-1", "root-2", version=1)),
    Attack("a manifest with other bytes", lambda f: f.lay(_manifest(f), f.now[_manifest(f)].replace(b"2", b"3"))),
    Attack("a manifest that goes on and on", lambda f: f.lay(_manifest(f), f.now[_manifest(f)] + b" " * 100_000)),
    Attack("a manifest that breaks off", lambda f: f.lay(_manifest(f), f.now[_manifest(f)][:-9]), GONE),
]
"""A hostile server, or anybody on a line without protection."""

ONLINE_KEYS = [
    Attack(
        "the ring of an earlier release",
        lambda f: f.chain(lambda meta: meta.__setitem__("beta.json", MetaFile(1))),
        seen=True,
    ),
    Attack("a snapshot without the ring", lambda f: f.chain(lambda meta: meta.pop("beta.json")), seen=True),
    Attack("a snapshot without targets", lambda f: f.chain(lambda meta: meta.pop("targets.json")), seen=True),
    Attack("another manifest, ring by a stranger", lambda f: _ring(f, "thief", change=_another_manifest)),
    Attack("another manifest, ring by the online keys", lambda f: _ring(f, "timestamp", change=_another_manifest)),
    Attack("another manifest, ring by another ring", lambda f: _ring(f, "fleet-1", change=_another_manifest)),
    Attack("next root by the online keys", _next_root("snapshot", "timestamp", change=_owned)),
    Attack("an expired timestamp", _expire("timestamp", "timestamp"), STALE),
    Attack("an expired snapshot", _expire("snapshot", "snapshot"), STALE),
]
"""Who took the CI machine's keys can withhold news until it expires, and install nothing."""
