# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who built a release from what: an in-toto statement with SLSA provenance, signed by the builder.

The layers of trust stay apart: people sign with their ring's keys that a release may reach a ring; the builder signs
with its own key what it built. Formats: in-toto Statement v1, SLSA provenance v1, DSSE v1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Targets

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "tag:iotops.fleet,2026:build/1"
"""How to read the predicate's parameters: docs/signing.md."""
BUILD_KEYS = "x-iotops-build-keys"
"""The field of the signed targets metadata that holds the builders' public keys, by key id."""


class NotProven(Exception):
    """The provenance does not vouch for the release; the text says why."""


def statement(
    manifest: bytes, files: dict[str, bytes], wheels: Iterable[dict[str, str]], builder: str, source: str = ""
) -> bytes:
    """The statement that `builder` (a URI) built `manifest`, its layers and `files` from the manifest's commit.

    `files`: further documents by name, such as the bill of materials. `wheels`: as app_layer returns them. `source`:
    URI of the source repository, where it may be told. The same inputs give the same bytes.
    """
    release = json.loads(manifest)
    commit = {"name": "source", "digest": {"gitCommit": release["commit"]}}
    if source:
        commit["uri"] = f"git+{source}@{release['commit']}"
    subjects = {"manifest.json": _sha256(manifest), **{name: _sha256(data) for name, data in files.items()}}
    subjects |= {layer["path"]: layer["sha256"] for layer in release["layers"]}
    materials = {wheel["sha256"]: wheel for wheel in wheels}
    told = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "commit": release["commit"],
                    "version": release["version"],
                    "compatible": release["compatible"],
                    "platforms": sorted({layer["platform"] for layer in release["layers"]} - {"any"}),
                },
                "resolvedDependencies": [
                    commit,
                    *(
                        {"name": wheel["file"], "digest": {"sha256": digest}}
                        for digest, wheel in sorted(materials.items(), key=lambda item: item[1]["file"])
                    ),
                ],
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def sealed(payload: bytes, signer: Signer) -> bytes:
    """`payload` in a DSSE envelope with the builder's signature."""
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True, indent=1).encode() + b"\n"


def build_keys(repository: Path) -> list[Key]:
    """The builders' keys that the newest targets metadata of `repository` names (the caller trusts the folder).

    Raises:
        NotProven: there is no such metadata, or it names none.
    """
    found = sorted((repository / "metadata").glob("*.targets.json"), key=lambda path: int(path.name.split(".")[0]))
    if not found:
        raise NotProven(f"{repository} has no targets metadata that could name the builder's key")
    signed = Metadata[Targets].from_file(str(found[-1])).signed
    keys = [Key.from_dict(keyid, dict(data)) for keyid, data in signed.unrecognized_fields.get(BUILD_KEYS, {}).items()]
    if not keys:
        raise NotProven(f"{found[-1]} names no builder's key: run keys.yml with signing_build_keys")
    return keys


def verified(envelope: bytes, keys: list[Key], files: dict[str, bytes]) -> dict[str, Any]:
    """The statement in `envelope`, signed by one of `keys`, which vouches for each of `files` (bytes by name).

    Raises:
        NotProven: the signature, the kind of statement or a file's hash is another.
    """
    try:
        opened = Envelope.from_dict(json.loads(envelope))
        opened.verify(keys, 1)
        told: dict[str, Any] = json.loads(opened.payload)
        kind = (opened.payload_type, told["_type"], told["predicateType"])
        subjects = {entry["name"]: entry["digest"]["sha256"] for entry in told["subject"]}
    except VerificationError as exc:
        raise NotProven("it is not signed by a builder whose key the repository names") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise NotProven(f"it is no signed provenance: {exc!r}") from exc
    if kind != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
        raise NotProven(f"it is a {kind[2]}, not {PREDICATE_TYPE}")
    for name, data in files.items():
        if subjects.get(name) != _sha256(data):
            raise NotProven(f"it does not vouch for {name} as it is here")
    return told


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
