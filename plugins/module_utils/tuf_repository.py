# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The maker's side of the TUF repository: keys, roles, releases signed into a ring.

Roles: root (2 of 2), targets, snapshot, timestamp at the top; a ring is a delegated targets role that signs only
below its own name (``beta/``: one signature, ``fleet/``: two different people's). Consistent snapshots throughout.
Metadata is written with python-tuf's Metadata API (TUF specification 1.0, sections 3 and 4).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

TOP = ("root", "targets", "snapshot", "timestamp")


class RepositoryFault(Exception):
    """The repository cannot be brought to the wanted state; the text says why and what to do."""


@dataclass(frozen=True)
class Ring:
    """A delegated role: who signs for it, and how many must."""

    name: str
    keys: tuple[str, ...]
    threshold: int


@dataclass(frozen=True)
class Wanted:
    """The repository as it should be. `expiry` in days by role name; rings use the key ``ring``."""

    rings: tuple[Ring, ...]
    root_keys: tuple[str, ...] = ("root-1", "root-2")
    root_threshold: int = 2
    expiry: dict[str, float] = field(
        default_factory=lambda: {"root": 365, "targets": 365, "ring": 90, "snapshot": 30, "timestamp": 14}
    )


class KeyStore:
    """Private keys as encrypted PKCS#8 PEM files, one a name. The passphrase never leaves this object."""

    def __init__(self, folder: Path, passphrase: str) -> None:
        self._folder = folder
        self._passphrase = passphrase.encode()

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def create(self, name: str) -> None:
        """Make an Ed25519 key; an existing one is never overwritten."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(self._passphrase)
        )
        descriptor = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(pem)
            out.flush()
            os.fsync(out.fileno())

    def signer(self, name: str) -> CryptoSigner:
        """The signer of key `name`.

        Raises:
            RepositoryFault: no such key here, or the passphrase does not open it.
        """
        path = self._path(name)
        try:
            key = load_pem_private_key(path.read_bytes(), self._passphrase)
        except FileNotFoundError as exc:
            raise RepositoryFault(
                f"signing key {name} is not in {self._folder}: bring it, or create_keys once"
            ) from exc
        except (ValueError, TypeError) as exc:
            raise RepositoryFault(f"the passphrase does not open signing key {path}") from exc
        return CryptoSigner(key)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pem"


class Repository:
    """A local TUF repository folder (``metadata/``, ``targets/``). Changes gather in memory until `write`."""

    def __init__(self, folder: Path, keys: KeyStore, wanted: Wanted, now: datetime | None = None) -> None:
        self.folder = folder
        self._keys = keys
        self._wanted = wanted
        self._now = (now or datetime.now(UTC)).replace(microsecond=0)
        self._loaded: dict[str, Metadata[Any]] = {}
        self._changed: set[str] = set()
        self._files: dict[str, Callable[[Path], None]] = {}
        self.created_keys: list[str] = []
        self._load()

    @property
    def roles(self) -> tuple[str, ...]:
        return (*TOP, *(ring.name for ring in self._wanted.rings))

    @property
    def changed(self) -> list[str]:
        """The roles that `write` will sign anew."""
        return [role for role in self.roles if role in self._changed]

    def versions(self) -> dict[str, int]:
        """Current version of each role, as it will be after `write`."""
        return {role: self._loaded[role].signed.version for role in self.roles if role in self._loaded}

    # ---- wanted state ----------------------------------------------------

    def ensure_keys(self, *, create: bool, check: bool) -> None:
        """Make sure every key is here, creating the missing ones when allowed.

        Raises:
            RepositoryFault: keys are missing and `create` is false.
        """
        names = dict.fromkeys([*self._wanted.root_keys, "targets", "snapshot", "timestamp"])
        names.update(dict.fromkeys(key for ring in self._wanted.rings for key in ring.keys))
        missing = [name for name in names if not self._keys.exists(name)]
        if missing and (not create or "root" in self._loaded):
            raise RepositoryFault(
                f"signing keys missing: {', '.join(missing)}. "
                "A repository that exists is never given new keys silently: bring the keys, or rotate them"
            )
        if not check:
            for name in missing:
                self._keys.create(name)
        self.created_keys = missing

    def ensure_roles(self) -> None:
        """Create what is not there, and sign anew what has less than a third of its life left."""
        if "root" not in self._loaded:
            self._create()
        for role in self.roles:
            total = self._days(role)
            left = self._loaded[role].signed.expires - self._now
            if role not in self._changed and left < total / 3:
                self._touch(role)

    def ensure_target(self, ring: str, path: str, data: bytes) -> bool:
        """Offer `data` at TUF target path `path`, signed by `ring`; whether that changes anything.

        Raises:
            RepositoryFault: the path is not below the ring's name, or is taken by other bytes.
        """
        if path.split("/")[0] != ring:
            raise RepositoryFault(f"ring {ring} may sign only below {ring}/, not {path}")
        if ring not in self._loaded:
            raise RepositoryFault(f"the repository has no ring {ring}")
        targets: Targets = self._loaded[ring].signed
        digest = hashlib.sha256(data).hexdigest()
        old = targets.targets.get(path)
        if old is not None:
            if old.hashes.get("sha256") != digest:
                raise RepositoryFault(
                    f"{path} is published already with other bytes (sha256 {old.hashes.get('sha256', '?')[:12]}, "
                    f"this build {digest[:12]}): a published version never changes, release under a new one"
                )
            return False
        targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        folder, _, name = path.rpartition("/")
        self._files[f"targets/{folder}/{digest}.{name}"] = lambda final: _write_atomically(final, data)
        self._touch(ring)
        return True

    def ensure_object(self, source: Path, path: str) -> bool:
        """Put the file `source` at ``targets/<path>`` (content-addressed, named by a signed manifest)."""
        final = self.folder / "targets" / path
        if final.exists() and final.stat().st_size == source.stat().st_size:
            return False
        self._files[f"targets/{path}"] = lambda target: _copy_atomically(source, target)
        return True

    # ---- writing ---------------------------------------------------------

    @property
    def dirty(self) -> bool:
        return bool(self._changed or self._files or self.created_keys)

    def write(self) -> None:
        """Sign what changed and write it: objects first, the timestamp last."""
        if self._changed & {ring.name for ring in self._wanted.rings} or "targets" in self._changed:
            self._touch("snapshot")
        if "snapshot" in self._changed:
            self._refresh_snapshot()
            self._touch("timestamp")
        if "timestamp" in self._changed:
            snapshot = self._loaded["snapshot"].signed
            self._loaded["timestamp"].signed.snapshot_meta = MetaFile(snapshot.version)
        for name, make in self._files.items():
            make(self.folder / name)
        for role in (*(r for r in self.roles if r not in TOP), "targets", "root", "snapshot", "timestamp"):
            if role in self._changed:
                self._sign_and_write(role)

    def preview(self) -> list[str]:
        """What `write` would write, as paths in the repository."""
        changed = set(self._changed)
        if changed - {"root", "timestamp"}:
            changed |= {"snapshot", "timestamp"}
        names = [self._file_name(role) for role in self.roles if role in changed]
        return sorted([*self._files, *(f"metadata/{name}" for name in names)])

    # ---- inside ----------------------------------------------------------

    def _load(self) -> None:
        latest: dict[str, tuple[int, Path]] = {}
        for path in (self.folder / "metadata").glob("*.json"):
            version, _, role = path.name.removesuffix(".json").partition(".")
            if not role:
                latest[version] = (0, path)
            elif role in self.roles:
                latest[role] = max(latest.get(role, (0, path)), (int(version), path))
        try:
            for role, (_, path) in latest.items():
                self._loaded[role] = Metadata.from_file(str(path))
        except (RepositoryError, DeserializationError, ValueError) as exc:
            raise RepositoryFault(f"the repository in {self.folder} cannot be read: {exc}") from exc
        missing = [role for role in self.roles if self._loaded and role not in self._loaded]
        if missing:
            raise RepositoryFault(
                f"{self.folder}/metadata lacks {', '.join(missing)}: it is incomplete, restore it from the file server"
            )
        if self._loaded:
            self._mend()

    def _mend(self) -> None:
        """Name again what a write that was killed half-way signed and did not name."""
        snapshot, timestamp = self._loaded["snapshot"].signed, self._loaded["timestamp"].signed
        named = {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}
        roles = ("targets", *(ring.name for ring in self._wanted.rings))
        if any(named.get(role) != self._loaded[role].signed.version for role in roles):
            self._touch("snapshot")
        elif timestamp.snapshot_meta.version != snapshot.version:
            self._touch("timestamp")

    def _create(self) -> None:
        root = Root(expires=self._expiry("root"), consistent_snapshot=True)
        for role in TOP:
            names = self._wanted.root_keys if role == "root" else (role,)
            public = [self._public(name) for name in names]
            threshold = self._wanted.root_threshold if role == "root" else 1
            root.roles[role] = Role([key.keyid for key in public], threshold)
            root.keys.update({key.keyid: key for key in public})
        self._loaded["root"] = Metadata(root)
        self._loaded["targets"] = Metadata(Targets(expires=self._expiry("targets"), delegations=self._delegations()))
        self._loaded["snapshot"] = Metadata(Snapshot(expires=self._expiry("snapshot")))
        self._loaded["timestamp"] = Metadata(Timestamp(expires=self._expiry("timestamp")))
        for ring in self._wanted.rings:
            self._loaded[ring.name] = Metadata(Targets(expires=self._expiry(ring.name)))
        self._changed.update(self.roles)

    def _public(self, name: str) -> Any:
        # in check mode a key that would be created has no public half yet; any stands in for it
        if not self._keys.exists(name):
            return CryptoSigner.generate_ed25519().public_key
        return self._keys.signer(name).public_key

    def _delegations(self) -> Delegations:
        keys, roles = {}, {}
        for ring in self._wanted.rings:
            public = [self._public(name) for name in ring.keys]
            keys.update({key.keyid: key for key in public})
            paths = [f"{ring.name}/*", f"{ring.name}/*/*"]
            ids = [key.keyid for key in public]
            roles[ring.name] = DelegatedRole(ring.name, ids, ring.threshold, terminating=True, paths=paths)
        return Delegations(keys, roles)

    def _touch(self, role: str) -> None:
        if role in self._changed:
            return
        self._changed.add(role)
        signed = self._loaded[role].signed
        signed.version += 1
        signed.expires = self._expiry(role)

    def _refresh_snapshot(self) -> None:
        meta = self._loaded["snapshot"].signed.meta
        for role in ("targets", *(ring.name for ring in self._wanted.rings)):
            meta[f"{role}.json"] = MetaFile(self._loaded[role].signed.version)

    def _sign_and_write(self, role: str) -> None:
        metadata = self._loaded[role]
        metadata.signatures.clear()
        for name in self._signers(role):
            metadata.sign(self._keys.signer(name), append=True)
        data = metadata.to_bytes(JSONSerializer(compact=True))
        _write_atomically(self.folder / "metadata" / self._file_name(role), data)

    def _file_name(self, role: str) -> str:
        return "timestamp.json" if role == "timestamp" else f"{self._loaded[role].signed.version}.{role}.json"

    def _signers(self, role: str) -> tuple[str, ...]:
        if role == "root":
            return self._wanted.root_keys
        for ring in self._wanted.rings:
            if ring.name == role:
                return ring.keys[: ring.threshold]
        return (role,)

    def _days(self, role: str) -> timedelta:
        return timedelta(days=self._wanted.expiry[role if role in TOP else "ring"])

    def _expiry(self, role: str) -> datetime:
        return self._now + self._days(role)


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.chmod(out.name, 0o644)
    os.replace(out.name, path)


def _copy_atomically(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as out, open(source, "rb") as data:
        while chunk := data.read(1 << 20):
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    os.chmod(out.name, 0o644)
    os.replace(out.name, path)
