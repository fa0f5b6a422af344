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
  - Signatures that will soon expire are renewed.
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
    description: Folder of the signing keys, encrypted PEM files named by key.
    type: path
    required: true
  passphrase:
    description: Opens the signing keys.
    type: str
    required: true
  create_keys:
    description: Make the keys of a repository that does not exist yet.
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
    wanted = tuf.Wanted(rings)
    wanted.expiry.update({role: float(days) for role, days in params["expiry"].items()})
    return tuf.Repository(Path(params["repository"]), tuf.KeyStore(Path(params["keys"]), params["passphrase"]), wanted)


def bring_about(repo: Any, params: dict[str, Any], check: bool) -> None:
    """Gather every wanted change in memory."""
    repo.ensure_keys(create=params["create_keys"], check=check)
    repo.ensure_roles()
    for item in params["objects"]:
        repo.ensure_object(Path(item["src"]), item["path"])
    for item in params["targets"]:
        repo.ensure_target(item["path"].split("/")[0], item["path"], Path(item["src"]).read_bytes())


def main() -> None:
    file_list = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "required": True}, "src": {"type": "path", "required": True}},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "repository": {"type": "path", "required": True},
            "keys": {"type": "path", "required": True, "no_log": False},
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
            "expiry": {"type": "dict", "default": {}},
            "targets": file_list,
            "objects": file_list,
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
        root=f"{module.params['repository']}/metadata/1.root.json",
        diff=diff if changed else {},
    )


if __name__ == "__main__":
    main()
