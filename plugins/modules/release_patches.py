#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_patches
short_description: Make patches from earlier releases to a release
version_added: 0.1.0
description:
  - Makes zstd patches from the layers of a ring's newest releases to those of a release that is about to be offered
    there, and lists them in C(patches.json), which is signed like the manifest.
  - A device applies a patch where it has what the patch starts from, and fetches the whole object elsewhere.
author: The iotops.fleet project (@iotops-fleet)
options:
  manifest:
    description: The release's C(manifest.json).
    type: path
    required: true
  ring:
    description: The ring that the release is offered to.
    type: str
    required: true
  build:
    description: Folder of the release's layers, which receives the patches.
    type: path
    required: true
  repository:
    description: Folder of the update repository, with the earlier releases.
    type: path
    required: true
  dest:
    description: Where C(patches.json) is written.
    type: path
    required: true
  releases:
    description: From how many earlier releases patches are made. V(0) makes none.
    type: int
    default: 3
  level:
    description: zstd compression level.
    type: int
    default: 19
  memory_max:
    description: Bytes of old and new content together that a patch may ask of a device's memory.
    type: int
    default: 50331648
attributes:
  check_mode:
    support: full
    description: Finds what patches could be made, and makes none.
  diff_mode:
    support: full
    description: Shows C(patches.json) before and after; in check mode only whether it is there.
  idempotent:
    support: full
    description: Patches that were made are kept. A release that is published already keeps its C(patches.json).
"""

EXAMPLES = r"""
- name: Make patches from the ring's last three releases
  iotops.fleet.release_patches:
    manifest: build/0.1.57/manifest.json
    ring: beta
    build: build
    repository: "{{ update_repository_dir }}"
    dest: build/0.1.57/beta-patches.json
"""

RETURN = r"""
patches:
  description: The entries of C(patches.json).
  returned: success
  type: list
  elements: dict
objects:
  description: Paths of the patches below O(build).
  returned: success
  type: list
  elements: str
dest:
  description: As O(dest).
  returned: success
  type: str
"""

import json
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils import layer_patches
from ..module_utils.layer_archive import LayerError, write_whole
from ..module_utils.release_contents import published

try:
    from backports import zstd  # noqa: F401 - used by layer_patches  # pylint: disable=unused-import

    ZSTD_ERROR = None
except ImportError:
    ZSTD_ERROR = traceback.format_exc()


def wanted(params: dict[str, Any], check: bool) -> tuple[bytes, bool]:
    """``patches.json`` as it should be, and whether anything is still to be made for it."""
    manifest = json.loads(Path(params["manifest"]).read_bytes())
    source = layer_patches.Patches(
        manifest, params["ring"], Path(params["build"]), Path(params["repository"]), params["releases"]
    )
    there = published(params["repository"], params["ring"], manifest["version"], "patches.json")
    if there is not None:
        return there, False
    steps = source.steps(params["memory_max"])
    if check:
        return b"", bool(steps)
    made = (source.make(step, params["level"]) for step in steps)
    return source.document([patch for patch in made if patch]), False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path", "required": True},
            "ring": {"type": "str", "required": True},
            "build": {"type": "path", "required": True},
            "repository": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "releases": {"type": "int", "default": 3},
            "level": {"type": "int", "default": 19},
            "memory_max": {"type": "int", "default": 50331648},
        },
        supports_check_mode=True,
    )
    if ZSTD_ERROR:
        module.fail_json(msg=missing_required_lib("backports.zstd"), exception=ZSTD_ERROR)
    p = module.params
    dest = Path(p["dest"])
    try:
        before = dest.read_bytes() if dest.exists() else b""
        if module.check_mode and before:
            document, changed = before, False
        else:
            document, unknown = wanted(p, module.check_mode)
            changed = unknown or document != before
        if changed and not module.check_mode:
            write_whole(dest, document)
    except LayerError as exc:
        module.fail_json(msg=f"patches for ring {p['ring']}: {exc}")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        module.fail_json(msg=f"patches for ring {p['ring']}: {p['manifest']} or the repository cannot be read: {exc}")
    patches = json.loads(document)["patches"] if document else []
    module.exit_json(
        changed=changed,
        patches=patches,
        objects=sorted({patch["path"] for patch in patches}),
        dest=str(dest),
        diff={"before": before.decode(), "after": document.decode()} if changed else {},
    )


if __name__ == "__main__":
    main()
