#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: update_repository
short_description: Keep a signed TUF repository of releases
version_added: 0.1.0
description:
  - Brings a local folder to a TUF repository (U(https://theupdateframework.io/)) with the wanted rings, offers
    releases in them, and signs what changed. M(iotops.fleet.file_publish) carries the folder to a file server.
  - A ring is a delegated role that signs only below its own name, so a release is offered to a ring by those
    people's keys and no other.
  - Only the keys of what has to be signed now are needed. Metadata that still lacks signatures waits in C(pending/),
    where no device looks, until somebody brings the missing key and names the role in O(sign).
  - A change of the lists of keys is a rotation. A key that leaves the lists is revoked on every device.
  - Signatures that will soon expire are renewed where their keys are here.
author: The iotops.fleet project (@iotops-fleet)
options:
  state:
    description: V(present) makes sure that the roles and targets are there.
    type: str
    choices: [present]
    default: present
  repository:
    description: Folder of the repository.
    type: path
    required: true
  keys:
    description:
      - Folders of signing keys, encrypted PEM files named by key; the first one receives new keys.
      - A file C(<name>.pub) stands for a key whose private half is somewhere else.
    type: list
    elements: path
    required: true
  passphrase:
    description: Opens the signing keys.
    type: str
    required: true
  create_keys:
    description: Make the keys that neither the repository nor O(keys) knows.
    type: bool
    default: false
  rings:
    description: The rings, each with its signers.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the ring and of the folder that it signs for.
        type: str
        required: true
      keys:
        description: Names of the keys that may sign.
        type: list
        elements: str
        required: true
      threshold:
        description: How many of them must sign.
        type: int
        default: 1
  root_keys:
    description: Names of the keys that may sign for the whole repository, kept offline.
    type: list
    elements: str
    default: [root-1, root-2]
  root_threshold:
    description: How many of O(root_keys) must sign.
    type: int
    default: 2
  targets_keys:
    description: Names of the keys that say who signs for a ring, kept offline.
    type: list
    elements: str
    default: [targets]
  build_keys:
    description: Names of the keys that builders sign provenance with (M(iotops.fleet.release_provenance)). They sign no
      metadata; the targets role vouches for them.
    type: list
    elements: str
    default: [build]
  snapshot_key:
    description: Name of the key for snapshots, which a machine uses unattended.
    type: str
    default: snapshot
  timestamp_key:
    description: Name of the key for timestamps, which a machine uses unattended.
    type: str
    default: timestamp
  sign:
    description: Roles whose pending metadata gets the signatures of the keys that are here.
    type: list
    elements: str
    default: []
  releases_kept:
    description: How many releases a ring offers; older ones leave its metadata.
    type: int
    default: 5
  expiry:
    description: Days until signatures expire, by role; a ring's role uses V(ring).
    type: dict
    default: {}
  targets:
    description: Manifests to offer.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: TUF target path, for example V(beta/0.1.57/manifest.json). Its first part names the ring.
        type: str
        required: true
      src:
        description: File with the bytes.
        type: path
        required: true
      custom:
        description: Signed beside the target; C(downgrade) with V(true) allows devices to go back to it.
        type: dict
  objects:
    description: Content-addressed files that the manifests name, below C(targets/).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path below C(targets/), for example V(layers/<sha256>.app.tar.zst).
        type: str
        required: true
      src:
        description: File with the bytes.
        type: path
        required: true
attributes:
  check_mode:
    support: full
    description: Loads and compares everything, signs and writes nothing.
  diff_mode:
    support: full
    description: Shows role versions and the files that are written.
  idempotent:
    support: full
    description: Nothing is signed anew while nothing changed and no signature is in the last third of its life.
notes:
  - A target path that is published already with other bytes is an error, always.
"""

EXAMPLES = r"""
- name: Offer the release to the beta ring
  iotops.fleet.update_repository:
    repository: "{{ local_dir }}/repository"
    keys: "{{ local_dir }}/keys"
    passphrase: "{{ vault_signing_passphrase }}"
    rings:
      - name: beta
        keys: [beta-1]
      - name: fleet
        keys: [fleet-1, fleet-2]
        threshold: 2
    targets:
      - path: beta/0.1.57/manifest.json
        src: build/0.1.57/manifest.json
"""

RETURN = r"""
versions:
  description: Version of each role's metadata.
  returned: success
  type: dict
written:
  description: Paths in the repository that were written (in check mode, would be).
  returned: success
  type: list
  elements: str
pending:
  description: Metadata that still lacks signatures, in check mode as it is on disk.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role.
      type: str
    version:
      description: The version that waits.
      type: int
    signatures:
      description: How many signatures it has.
      type: int
    threshold:
      description: How many it needs.
      type: int
    missing:
      description: Names of the keys that could give one.
      type: list
      elements: str
expiring:
  description: Roles that should be renewed and whose keys are not here, with the time of their expiry.
  returned: success
  type: dict
created_keys:
  description: Names of the keys that were made.
  returned: success
  type: list
  elements: str
root:
  description: Path of the root metadata that devices must be given to trust this repository.
  returned: success
  type: str
"""

import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from ..module_utils import tuf_repository as tuf

    TUF_ERROR = None
except ImportError:
    TUF_ERROR = traceback.format_exc()


def repository(params: dict[str, Any]) -> Any:
    """The repository of the module's parameters, loaded."""
    rings = tuple(tuf.Ring(ring["name"], tuple(ring["keys"]), ring["threshold"]) for ring in params["rings"])
    for ring in rings:
        if not 1 <= ring.threshold <= len(set(ring.keys)):
            raise tuf.RepositoryFault(f"ring {ring.name}: threshold {ring.threshold} of {len(set(ring.keys))} keys")
    if not 1 <= params["root_threshold"] <= len(set(params["root_keys"])):
        raise tuf.RepositoryFault(f"root: threshold {params['root_threshold']} of {len(set(params['root_keys']))} keys")
    wanted = tuf.Wanted(
        rings,
        root_keys=tuple(params["root_keys"]),
        root_threshold=params["root_threshold"],
        targets_keys=tuple(params["targets_keys"]),
        build_keys=tuple(params["build_keys"]),
        online={"snapshot": params["snapshot_key"], "timestamp": params["timestamp_key"]},
        releases_kept=params["releases_kept"],
    )
    for role, days in params["expiry"].items():
        try:
            wanted.expiry[role] = float(days)
        except (ValueError, TypeError):
            raise tuf.RepositoryFault(f"expiry: {role}: {days!r} is no number of days") from None
    keys = tuf.KeyStore(tuple(Path(folder) for folder in params["keys"]), params["passphrase"])
    return tuf.Repository(Path(params["repository"]), keys, wanted)


def bring_about(repo: Any, params: dict[str, Any], check: bool) -> None:
    """Gather every wanted change in memory."""
    repo.ensure_keys(create=params["create_keys"], check=check)
    repo.ensure_roles()
    for item in params["objects"]:
        repo.ensure_object(Path(item["src"]), item["path"])
    for item in params["targets"]:
        ring, data = item["path"].split("/")[0], Path(item["src"]).read_bytes()
        repo.ensure_target(ring, item["path"], data, item["custom"])
    repo.ensure_signed(params["sign"])


def main() -> None:
    file = {"path": {"type": "str", "required": True}, "src": {"type": "path", "required": True}}
    names = {"type": "list", "elements": "str", "no_log": False}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "repository": {"type": "path", "required": True},
            "keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "create_keys": {"type": "bool", "default": False},
            "rings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
                    "threshold": {"type": "int", "default": 1},
                },
            },
            "root_keys": {**names, "default": ["root-1", "root-2"]},
            "root_threshold": {"type": "int", "default": 2},
            "targets_keys": {**names, "default": ["targets"]},
            "build_keys": {**names, "default": ["build"]},
            "snapshot_key": {"type": "str", "default": "snapshot", "no_log": False},
            "timestamp_key": {"type": "str", "default": "timestamp", "no_log": False},
            "sign": {"type": "list", "elements": "str", "default": []},
            "releases_kept": {"type": "int", "default": 5},
            "expiry": {"type": "dict", "default": {}},
            "targets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**file, "custom": {"type": "dict"}},
            },
            "objects": {"type": "list", "elements": "dict", "default": [], "options": file},
        },
        supports_check_mode=True,
    )
    if TUF_ERROR:
        module.fail_json(msg=missing_required_lib("tuf"), exception=TUF_ERROR)
    try:
        repo = repository(module.params)
        before = repo.versions()
        bring_about(repo, module.params, module.check_mode)
        changed, written, created = repo.dirty, repo.preview(), repo.created_keys
        if changed and not module.check_mode:
            repo.write()
    except tuf.RepositoryFault as exc:
        module.fail_json(msg=f"update repository {module.params['repository']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"update repository: {exc.filename or module.params['repository']}: {exc.strerror}")
    diff = {"before": {"versions": before}, "after": {"versions": repo.versions(), "written": written}}
    module.exit_json(
        changed=changed,
        versions=repo.versions(),
        written=written,
        created_keys=created,
        pending=[asdict(waits) for waits in repo.pending()],
        expiring=repo.expiring,
        root=f"{module.params['repository']}/metadata/1.root.json",
        diff=diff if changed else {},
    )


if __name__ == "__main__":
    main()
