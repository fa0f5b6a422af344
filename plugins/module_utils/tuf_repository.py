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
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
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
    VerificationResult,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from .layer_patches import version_key
from .release_provenance import BUILD_KEYS

TOP = ("root", "targets", "snapshot", "timestamp")
KEY_NAME = "x-iotops-name"
"""The field of a public key in the metadata that holds its name: signed, so that it can be told who has signed."""


class RepositoryFault(Exception):
    """The repository cannot be brought to the wanted state; the text says why and what to do."""


@dataclass(frozen=True)
class Ring:
    """A delegated role: who may sign for it, and how many must."""

    name: str
    keys: tuple[str, ...]
    threshold: int


@dataclass(frozen=True)
class Wanted:
    """The repository as it should be. `expiry` in days by role name; rings use the key ``ring``.

    `online` names the keys of the roles that a machine signs unattended. `releases_kept` bounds what a ring offers.
    `build_keys` sign no metadata but provenance; the targets role vouches for them.
    """

    rings: tuple[Ring, ...]
    root_keys: tuple[str, ...] = ("root-1", "root-2")
    root_threshold: int = 2
    targets_keys: tuple[str, ...] = ("targets",)
    build_keys: tuple[str, ...] = ()
    online: dict[str, str] = field(default_factory=lambda: {"snapshot": "snapshot", "timestamp": "timestamp"})
    releases_kept: int = 5
    expiry: dict[str, float] = field(
        default_factory=lambda: {"root": 365, "targets": 365, "ring": 90, "snapshot": 30, "timestamp": 14}
    )

    def top_keys(self, role: str) -> tuple[tuple[str, ...], int]:
        """Names of the keys of a top role, and how many must sign."""
        if role == "root":
            return self.root_keys, self.root_threshold
        return (self.targets_keys if role == "targets" else (self.online[role],)), 1

    def names(self) -> list[str]:
        """Every key's name, once."""
        found = [name for role in TOP for name in self.top_keys(role)[0]]
        return list(dict.fromkeys([*found, *(name for ring in self.rings for name in ring.keys), *self.build_keys]))


@dataclass(frozen=True)
class Pending:
    """Metadata that still lacks signatures. `missing`: names of keys that could give one."""

    role: str
    version: int
    signatures: int
    threshold: int
    missing: tuple[str, ...]


class KeyStore:
    """Private keys as encrypted PKCS#8 PEM files, one a name, in folders that may come and go (a person's stick).

    A file ``<name>.pub`` (PEM) stands for a key whose private half is somewhere else. The passphrase never leaves this
    object.
    """

    def __init__(self, folders: Path | tuple[Path, ...], passphrase: str) -> None:
        self._folders = (folders,) if isinstance(folders, Path) else folders
        self._passphrase = passphrase.encode()

    def exists(self, name: str) -> bool:
        """Whether the private key is here."""
        return self._find(f"{name}.pem") is not None

    def create(self, name: str) -> None:
        """Make an Ed25519 key in the first folder; an existing one is never overwritten."""
        folder = self._folders[0]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(self._passphrase))
        descriptor = os.open(folder / f"{name}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(pem)
            out.flush()
            os.fsync(out.fileno())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write_atomically(folder / f"{name}.pub", public)

    def signer(self, name: str) -> CryptoSigner:
        """The signer of key `name`.

        Raises:
            RepositoryFault: no such key here, or the passphrase does not open it.
        """
        path = self._find(f"{name}.pem")
        if path is None:
            folders = ", ".join(map(str, self._folders))
            raise RepositoryFault(f"signing key {name} is not in {folders}: bring it, or create_keys once")
        try:
            key = load_pem_private_key(path.read_bytes(), self._passphrase)
        except (ValueError, TypeError) as exc:
            raise RepositoryFault(f"the passphrase does not open signing key {path}") from exc
        return CryptoSigner(key)

    def public(self, name: str) -> Key | None:
        """The public half, from either file; None where there is neither."""
        if self.exists(name):
            return self.signer(name).public_key
        path = self._find(f"{name}.pub")
        if path is None:
            return None
        try:
            return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
        except ValueError as exc:
            raise RepositoryFault(f"{path} is no public key in PEM form") from exc

    def _find(self, file: str) -> Path | None:
        return next((folder / file for folder in self._folders if (folder / file).exists()), None)


class Repository:
    """A local TUF repository folder (``metadata/``, ``targets/``, ``pending/``). Changes gather until `write`.

    Metadata that has not all its signatures yet is kept in ``pending/``, where no device looks; whoever brings the
    missing key adds a signature, and the last one publishes.
    """

    def __init__(self, folder: Path, keys: KeyStore, wanted: Wanted, now: datetime | None = None) -> None:
        self.folder = folder
        self._keys = keys
        self._wanted = wanted
        self._now = (now or datetime.now(UTC)).replace(microsecond=0)
        self._loaded: dict[str, Metadata[Any]] = {}
        self._published: dict[str, Metadata[Any]] = {}
        self._pending: set[str] = set()
        self._changed: set[str] = set()
        self._cosign: set[str] = set()
        self._files: dict[str, Callable[[Path], None]] = {}
        self._gone: set[str] = set()
        self.created_keys: list[str] = []
        self.expiring: dict[str, str] = {}
        """Roles that should be renewed and whose keys are not here, with their expiry."""
        self._load()

    @property
    def roles(self) -> tuple[str, ...]:
        return (*TOP, *(ring.name for ring in self._wanted.rings))

    @property
    def _people(self) -> tuple[str, ...]:
        """The roles that people sign, delegators first."""
        return ("root", "targets", *(ring.name for ring in self._wanted.rings))

    @property
    def changed(self) -> list[str]:
        """The roles that `write` will sign anew."""
        return [role for role in self.roles if role in self._changed]

    def versions(self) -> dict[str, int]:
        """Current version of each role, as it will be after `write`."""
        return {role: self._loaded[role].signed.version for role in self.roles if role in self._loaded}

    def pending(self) -> list[Pending]:
        """What lacks signatures, after `write` or as it is on disk."""
        return [self._describe(role) for role in self.roles if role in self._pending]

    # ---- wanted state ----------------------------------------------------

    def ensure_keys(self, *, create: bool, check: bool) -> None:
        """Make sure that every wanted key is known, creating those that no metadata knows when allowed.

        A key that the metadata knows and that is not here is somebody else's: what needs it becomes pending.

        Raises:
            RepositoryFault: keys are unknown and `create` is false.
        """
        known = self._known_keys()
        missing = [name for name in self._wanted.names() if name not in known and self._keys.public(name) is None]
        if missing and not create:
            raise RepositoryFault(
                f"signing keys missing: {', '.join(missing)}. Bring them, or their .pub files, or create_keys once"
            )
        if not check:
            for name in missing:
                self._keys.create(name)
        self.created_keys = missing

    def ensure_roles(self) -> None:
        """Create what is not there, follow a change of keys, and renew what has less than a third of its life left."""
        if "root" not in self._loaded:
            self._create()
            return
        self._ensure_top_keys()
        self._ensure_ring_keys()
        self._ensure_build_keys()
        for role in self.roles:
            left = self._loaded[role].signed.expires - self._now
            if role in self._changed or role in self._pending or left >= self._days(role) / 3:
                continue
            if self._can_sign(role):
                self._touch(role)
            else:
                self.expiring[role] = self._loaded[role].signed.expires.strftime("%Y-%m-%dT%H:%M:%SZ")

    def ensure_target(self, ring: str, path: str, data: bytes, custom: dict[str, Any] | None = None) -> bool:
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
            if old.unrecognized_fields.get("custom") == (custom or None):
                return False
        target = TargetFile.from_data(path, data, ["sha256"])
        if custom:
            target.unrecognized_fields["custom"] = custom
        self._touch(ring)
        targets.targets[path] = target
        folder, _slash, name = path.rpartition("/")
        self._files[f"targets/{folder}/{digest}.{name}"] = lambda final: _write_atomically(final, data)
        self._drop_old(ring, path)
        return True

    def ensure_object(self, source: Path, path: str) -> bool:
        """Put the file `source` at ``targets/<path>`` (content-addressed, named by a signed manifest)."""
        final = self.folder / "targets" / path
        if final.exists() and final.stat().st_size == source.stat().st_size:
            return False
        self._files[f"targets/{path}"] = lambda target: _copy_atomically(source, target)
        return True

    def ensure_signed(self, roles: list[str]) -> None:
        """Add the signatures of the keys that are here to the pending metadata of `roles`.

        Raises:
            RepositoryFault: nothing of that role is pending, or no key is here that has not signed yet.
        """
        for role in roles:
            if role not in self._pending:
                raise RepositoryFault(f"nothing of role {role} waits for a signature")
            able = [name for name in self._signer_names(role) if self._keys.exists(name)]
            if not any(self._key_id(name) not in self._loaded[role].signatures for name in able):
                waits = self._describe(role)
                raise RepositoryFault(
                    f"{role} version {waits.version} has {waits.signatures} of {waits.threshold} signatures, and no "
                    f"key is here that could add one: bring one of {', '.join(waits.missing)}"
                )
            self._cosign.add(role)

    # ---- writing ---------------------------------------------------------

    @property
    def dirty(self) -> bool:
        return bool(self._changed or self._files or self.created_keys or self._cosign or self._completed())

    def write(self) -> None:
        """Sign and write what changed, objects first, the timestamp last; ``pending/`` gets what lacks signatures.

        What devices are given is always whole: under a root or delegation that still lacks signatures the old keys
        sign on, and without the online keys nothing leaves ``pending/``.
        """
        ready = {role for role in self._people if self._make_ready(role)}
        self._check_delegated()
        if not self._name_in_snapshot(ready):
            self._pending |= ready
            ready = set()
        for name, make in self._files.items():
            make(self.folder / name)
        order = (*(ring.name for ring in self._wanted.rings), "targets", "root", "snapshot", "timestamp")
        for role in order:
            if role in ready:
                self._publish(role)
            elif role in self._pending:
                self._keep_pending(role)
        for name in sorted(self._gone):
            (self.folder / name).unlink(missing_ok=True)

    def _make_ready(self, role: str) -> bool:
        """Sign `role` where that is wanted; whether it is new and has all its signatures."""
        changed = role in self._changed | self._cosign
        if not changed and role not in self._pending:
            if role == "root" or self._verified(role):
                return False
            # who delegates to it names other keys now
            self._touch(role)
            changed = True
        if changed:
            self._sign(role)
        enough = self._verified(role)
        (self._pending.discard if enough else self._pending.add)(role)
        return enough

    def _name_in_snapshot(self, ready: set[str]) -> bool:
        """Sign snapshot and timestamp anew where needed, and add them to `ready`; whether the keys for that are here.

        Raises:
            RepositoryFault: they are not, and nothing else could wait for them.
        """
        if ready - {"root"} or not self._verified("snapshot"):
            self._touch("snapshot")
        if "snapshot" in self._changed:
            self._refresh_snapshot(ready)
        if "snapshot" in self._changed or not self._verified("timestamp"):
            self._touch("timestamp")
        online = [role for role in ("snapshot", "timestamp") if role in self._changed]
        if "timestamp" in online:
            self._loaded["timestamp"].signed.snapshot_meta = MetaFile(self._loaded["snapshot"].signed.version)
            signed_at = self._now.strftime("%Y-%m-%dT%H:%M:%SZ")
            self._loaded["timestamp"].signed.unrecognized_fields["signed_at"] = signed_at
        for role in online:
            self._sign(role)
            if not self._verified(role):
                if not ready or role not in self._published:
                    self._keys.signer(self._wanted.online[role])  # tells which key is not here
                for undone in online:
                    self._loaded[undone] = self._copy(self._published[undone])
                    self._changed.discard(undone)
                return False
        ready.update(online)
        return True

    def preview(self) -> list[str]:
        """What `write` would write, as paths in the repository."""
        wanted = self._changed | self._cosign
        ready = {role for role in wanted if role in self._wanted.online or self._can_sign(role)}
        ready |= {role for role in self._pending - wanted if self._verified(role)}
        if ready - {"root", "timestamp"}:
            ready |= {"snapshot", "timestamp"}
        if not all(self._can_sign(role) for role in ready & set(self._wanted.online)):
            ready = set()
        names = []
        for role in self.roles:
            if role == "snapshot" and role in ready - self._changed:
                names.append(f"metadata/{self._loaded[role].signed.version + 1}.snapshot.json")
            elif role in ready:
                names.append(f"metadata/{self._file_name(role)}")
            elif role in wanted and role not in self._wanted.online:
                names.append(f"pending/{self._file_name(role)}")
        return sorted([*self._files, *names])

    # ---- loading ---------------------------------------------------------

    def _load(self) -> None:
        latest: dict[str, tuple[int, Path]] = {}
        for path in (self.folder / "metadata").glob("*.json"):
            version, _dot, role = path.name.removesuffix(".json").partition(".")
            if not role:
                latest[version] = (0, path)
            elif role in self.roles:
                latest[role] = max(latest.get(role, (0, path)), (int(version), path))
        try:
            for role, (_version, path) in latest.items():
                self._loaded[role] = Metadata.from_file(str(path))
                self._published[role] = Metadata.from_file(str(path))
            self._load_pending()
        except (RepositoryError, DeserializationError, ValueError) as exc:
            raise RepositoryFault(f"the repository in {self.folder} cannot be read: {exc}") from exc
        missing = [role for role in self.roles if self._loaded and role not in self._published]
        if missing:
            raise RepositoryFault(
                f"{self.folder}/metadata lacks {', '.join(missing)}: it is incomplete, restore it from the file server"
            )
        if self._loaded:
            self._mend()

    def _load_pending(self) -> None:
        """Go on from what waits for signatures, unless something newer was published meanwhile."""
        for path in sorted((self.folder / "pending").glob("*.json")):
            version, _dot, role = path.name.removesuffix(".json").partition(".")
            current = self._published[role].signed.version if role in self._published else 0
            if role in self.roles and version.isdigit() and int(version) == current + 1:
                self._loaded[role] = Metadata.from_file(str(path))
                self._pending.add(role)
            else:
                # what it was based on is gone: a signature on it would be worth nothing
                self._gone.add(f"pending/{path.name}")

    def _mend(self) -> None:
        """Name again what a write that was killed half-way signed and did not name."""
        snapshot, timestamp = self._loaded["snapshot"].signed, self._loaded["timestamp"].signed
        named = {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}
        roles = ("targets", *(ring.name for ring in self._wanted.rings))
        if any(named.get(role) != self._published[role].signed.version for role in roles):
            self._touch("snapshot")
        elif timestamp.snapshot_meta.version != snapshot.version:
            self._touch("timestamp")

    # ---- keys and roles ----------------------------------------------------

    def _create(self) -> None:
        root = Root(expires=self._expiry("root"), consistent_snapshot=True)
        for role in TOP:
            self._set_top_keys(root, role)
        self._loaded["root"] = Metadata(root)
        targets = Targets(expires=self._expiry("targets"), delegations=self._delegations())
        targets.unrecognized_fields[BUILD_KEYS] = self._build_keys()
        self._loaded["targets"] = Metadata(targets)
        self._loaded["snapshot"] = Metadata(Snapshot(expires=self._expiry("snapshot")))
        self._loaded["timestamp"] = Metadata(Timestamp(expires=self._expiry("timestamp")))
        for ring in self._wanted.rings:
            self._loaded[ring.name] = Metadata(Targets(expires=self._expiry(ring.name)))
        self._changed.update(self.roles)

    def _ensure_top_keys(self) -> None:
        root: Root = self._loaded["root"].signed
        for role in TOP:
            names, threshold = self._wanted.top_keys(role)
            ids = [self._public(name).keyid for name in names]
            if (sorted(root.roles[role].keyids), root.roles[role].threshold) != (sorted(ids), threshold):
                self._touch("root")
                self._set_top_keys(root, role)
                self._touch(role)
        if "root" in self._changed:
            used = {keyid for role in root.roles.values() for keyid in role.keyids}
            root.keys = {keyid: key for keyid, key in root.keys.items() if keyid in used}

    def _set_top_keys(self, root: Root, role: str) -> None:
        names, threshold = self._wanted.top_keys(role)
        public = [self._public(name) for name in names]
        root.roles[role] = Role([key.keyid for key in public], threshold)
        root.keys.update({key.keyid: key for key in public})

    def _ensure_ring_keys(self) -> None:
        targets: Targets = self._loaded["targets"].signed
        wanted = self._delegations()
        held = targets.delegations
        if held is None or held.to_dict() != wanted.to_dict():
            self._touch("targets")
            targets.delegations = wanted
            for ring in self._wanted.rings:
                if not self._verified(ring.name):
                    self._touch(ring.name)

    def _ensure_build_keys(self) -> None:
        targets: Targets = self._loaded["targets"].signed
        if targets.unrecognized_fields.get(BUILD_KEYS, {}) != self._build_keys():
            self._touch("targets")
            targets.unrecognized_fields[BUILD_KEYS] = self._build_keys()

    def _build_keys(self) -> dict[str, Any]:
        public = [self._public(name) for name in self._wanted.build_keys]
        return {key.keyid: key.to_dict() for key in public}

    def _check_delegated(self) -> None:
        """Never publish keys of a role under which what devices have of it would not verify any more."""
        for role in self._people[1:]:
            if role in self._pending and role in self._published:
                held, (names, threshold) = self._published[role], self._signers(role)
                if not self._result(role, held).verified:
                    raise RepositoryFault(
                        f"with the new keys of {role}, its published metadata has too few signatures: bring "
                        f"{threshold} of {', '.join(names)} in the same run, or let them sign first"
                    )

    def _known_keys(self) -> dict[str, Key]:
        """The public keys that the metadata knows, by the name that stands with them."""
        found: dict[str, Key] = {}
        for metadata in (*self._published.values(), *self._loaded.values()):
            signed = metadata.signed
            held = signed.keys if isinstance(signed, Root) else {}
            if isinstance(signed, Targets) and signed.delegations:
                held = signed.delegations.keys
            builders = signed.unrecognized_fields.get(BUILD_KEYS, {})
            known = [*held.values(), *(Key.from_dict(keyid, dict(data)) for keyid, data in builders.items())]
            found.update({str(key.unrecognized_fields.get(KEY_NAME, key.keyid)): key for key in known})
        return found

    def _public(self, name: str) -> Key:
        key, known = self._keys.public(name), self._known_keys().get(name)
        if key is not None and known is not None and key.keyid != known.keyid:
            raise RepositoryFault(
                f"the key {name} that is here is not the {name} that the repository knows: a new key gets a new name"
            )
        key = key or known
        if key is None:
            # in check mode a key that would be created has no public half yet; any stands in for it
            key = CryptoSigner.generate_ed25519().public_key
        key.unrecognized_fields[KEY_NAME] = name
        return key

    def _key_id(self, name: str) -> str:
        return self._public(name).keyid

    def _delegations(self) -> Delegations:
        keys, roles = {}, {}
        for ring in self._wanted.rings:
            public = [self._public(name) for name in ring.keys]
            keys.update({key.keyid: key for key in public})
            paths = [f"{ring.name}/*", f"{ring.name}/*/*"]
            ids = [key.keyid for key in public]
            roles[ring.name] = DelegatedRole(ring.name, ids, ring.threshold, terminating=True, paths=paths)
        return Delegations(keys, roles)

    # ---- signing ---------------------------------------------------------

    def _touch(self, role: str) -> None:
        if role in self._changed:
            return
        self._changed.add(role)
        metadata = self._loaded[role]
        # other content than was signed so far: every signature is asked for again
        metadata.signatures.clear()
        metadata.signed.version = self._published[role].signed.version + 1 if role in self._published else 1
        metadata.signed.expires = self._expiry(role)

    def _sign(self, role: str) -> None:
        """Sign with the keys that are here, as many as it takes."""
        metadata = self._loaded[role]
        if role in self._changed:
            metadata.signatures.clear()
        for name in self._signer_names(role):
            if self._keys.exists(name) and not (self._verified(role) and self._verified(role, soon=True)):
                metadata.sign(self._keys.signer(name), append=True)

    def _can_sign(self, role: str) -> bool:
        """Whether the keys that are here are enough for `role`."""
        here = {self._key_id(name) for name in self._signer_names(role) if self._keys.exists(name)}
        if role in self._cosign:
            here |= set(self._loaded[role].signatures)
        asked = [self._role(role)]
        if role == "root" and "root" in self._published:
            asked.append(self._published["root"].signed.roles["root"])
        return all(len(here & set(one.keyids)) >= one.threshold for one in asked)

    def _completed(self) -> bool:
        """Whether something that waited has all its signatures by now, and the online keys are here to publish it."""
        return any(self._verified(role) for role in self._pending) and all(
            any(self._keys.exists(name) for name in self._signer_names(role)) for role in ("snapshot", "timestamp")
        )

    def _signers(self, role: str) -> tuple[tuple[str, ...], int]:
        if role in TOP:
            return self._wanted.top_keys(role)
        ring = next(ring for ring in self._wanted.rings if ring.name == role)
        return ring.keys, ring.threshold

    def _signer_names(self, role: str) -> list[str]:
        """Who may sign: whom the inventory names, and whom devices believe until a new delegation is published.

        For a new root these are its own people and those of the root before (TUF specification, 6.1).
        """
        names = list(self._signers(role)[0])
        if role == "root":
            before: Root | Targets | None = self._published["root"].signed if "root" in self._published else None
        else:
            before = self._delegator(role).signed
        if before is not None:
            keys = before.keys if isinstance(before, Root) else before.delegations.keys if before.delegations else {}
            try:
                trusted = before.get_delegated_role(role).keyids
            except ValueError:
                trusted = []
            held = (keys[keyid].unrecognized_fields.get(KEY_NAME) for keyid in trusted)
            names += [name for name in held if isinstance(name, str)]
        return list(dict.fromkeys(names))

    def _delegator(self, role: str, *, soon: bool = False) -> Metadata[Any]:
        """The metadata that says whose signatures count for `role`, as devices have it or (`soon`) will have it."""
        name = "root" if role in TOP else "targets"
        waits = name in self._pending and name in self._published
        return self._published[name] if waits and not soon else self._loaded[name]

    def _role(self, role: str) -> Role:
        found: Role = self._delegator(role).signed.get_delegated_role(role)
        return found

    def _verified(self, role: str, *, soon: bool = False) -> bool:
        """Whether `role` has all its signatures; `soon`: under what waits for signatures itself."""
        metadata = self._loaded[role]
        if role == "root":
            before = self._published["root"].signed if "root" in self._published else None
            if before is not None and metadata.signed.version == before.version:
                before = None
            return bool(
                metadata.signed.get_root_verification_result(
                    before, metadata.signed_bytes, metadata.signatures
                ).verified
            )
        return self._result(role, metadata, soon=soon).verified

    def _result(self, role: str, metadata: Metadata[Any], *, soon: bool = False) -> VerificationResult:
        found: VerificationResult = self._delegator(role, soon=soon).signed.get_verification_result(
            role, metadata.signed_bytes, metadata.signatures
        )
        return found

    def _describe(self, role: str) -> Pending:
        names, threshold = self._signers(role)
        metadata = self._loaded[role]
        signed = {name for name in self._signer_names(role) if self._key_id(name) in metadata.signatures}
        missing = tuple(name for name in self._signer_names(role) if name not in signed)
        if self._verified(role):
            missing = tuple(self._wanted.online.values())
        return Pending(role, metadata.signed.version, len(signed & set(names)), threshold, missing)

    def _refresh_snapshot(self, ready: set[str]) -> None:
        meta = self._loaded["snapshot"].signed.meta
        for role in self._people[1:]:
            # what is pending is not published, so it is not named
            held = self._loaded if role in ready or role not in self._published else self._published
            meta[f"{role}.json"] = MetaFile(held[role].signed.version)

    # ---- files -----------------------------------------------------------

    def _publish(self, role: str) -> None:
        _write_atomically(self.folder / "metadata" / self._file_name(role), self._bytes(role))
        self._gone.add(f"pending/{self._file_name(role)}")

    def _keep_pending(self, role: str) -> None:
        if role not in self._published:
            waits = self._describe(role)
            raise RepositoryFault(
                f"a new repository is signed in one ceremony: {role} has {waits.signatures} of {waits.threshold} "
                f"signatures, bring {', '.join(waits.missing)}"
            )
        _write_atomically(self.folder / "pending" / self._file_name(role), self._bytes(role))

    @staticmethod
    def _copy(metadata: Metadata[Any]) -> Metadata[Any]:
        return Metadata.from_bytes(metadata.to_bytes())

    def _bytes(self, role: str) -> bytes:
        return self._loaded[role].to_bytes(JSONSerializer(compact=True))

    def _file_name(self, role: str) -> str:
        return "timestamp.json" if role == "timestamp" else f"{self._loaded[role].signed.version}.{role}.json"

    def _drop_old(self, ring: str, offered: str) -> None:
        """Offer the newest releases only: metadata that every device fetches must stay small."""
        targets: Targets = self._loaded[ring].signed
        by_version: dict[str, list[str]] = {}
        for path in targets.targets:
            by_version.setdefault(path.rpartition("/")[0], []).append(path)
        newest = sorted(by_version, key=lambda folder: version_key(folder.rpartition("/")[2]), reverse=True)
        for folder in newest[self._wanted.releases_kept :]:
            if folder == offered.rpartition("/")[0]:
                continue
            for path in by_version[folder]:
                dropped = targets.targets.pop(path)
                self._gone.add(f"targets/{folder}/{dropped.hashes['sha256']}.{path.rpartition('/')[2]}")

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
