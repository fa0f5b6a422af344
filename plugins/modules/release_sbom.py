#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_sbom
short_description: Write the bill of materials of a release
version_added: 0.1.0
description:
  - Writes what a release consists of as a CycloneDX 1.6 document, its layers and the wheels in them with hashes and
    licences, and the packages that the agent finds on the device.
  - The same commit gives the same bytes. A version that is published already keeps the bill that it was published with.
author: The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.release_document
options:
  layers:
    description: What M(iotops.fleet.app_layer) returned for each layer, with its
      RV(iotops.fleet.app_layer#module:layer) and RV(iotops.fleet.app_layer#module:wheels).
    type: list
    elements: dict
    required: true
  image_requirements:
    description: Requirements file with the packages of the device's image that the agent needs.
    type: path
attributes:
  check_mode:
    support: full
    description: Works the bill out and does not write it.
  diff_mode:
    support: full
    description: Shows the bill before and after.
  idempotent:
    support: full
    description: The same release changes nothing.
"""

EXAMPLES = r"""
- name: Write the bill of materials
  iotops.fleet.release_sbom:
    manifest: "{{ build_dir }}/{{ release.id }}/manifest.json"
    layers: "{{ [app_layer] + runtime_layers.results }}"
    image_requirements: requirements/agent.lock
    repository: "{{ update_repository_dir }}"
    ring: beta
    dest: "{{ build_dir }}/{{ release.id }}/sbom.cdx.json"
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
components:
  description: How many components the bill names.
  returned: success
  type: int
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.layer_archive import write_whole
from ..module_utils.release_contents import Unreadable, published, version_of

try:
    from ..module_utils import release_sbom as sbom

    SBOM_ERROR = None
except ImportError:
    SBOM_ERROR = traceback.format_exc()


def bill(params: dict[str, Any]) -> bytes:
    """The bill as it should be."""
    manifest = Path(params["manifest"]).read_bytes()
    there = published(params["repository"], params["ring"], version_of(manifest), "sbom.cdx.json")
    if there is not None:
        return there
    wheels = [
        {**wheel, "platform": result["layer"]["platform"]}
        for result in params["layers"]
        for wheel in result.get("wheels", [])
    ]
    needed = params["image_requirements"]
    image = sbom.pinned(Path(needed).read_text(encoding="utf-8")) if needed else []
    made: bytes = sbom.bill_of_materials(manifest, wheels, image)
    return made


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path", "required": True},
            "layers": {"type": "list", "elements": "dict", "required": True},
            "image_requirements": {"type": "path"},
            "repository": {"type": "path", "required": True},
            "ring": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if SBOM_ERROR:
        module.fail_json(msg=missing_required_lib("cyclonedx-python-lib"), exception=SBOM_ERROR)
    p = module.params
    dest = Path(p["dest"])
    try:
        before = dest.read_bytes() if dest.exists() else b""
        document = bill(p)
        if document != before and not module.check_mode:
            write_whole(dest, document)
    except (sbom.BadInput, Unreadable) as exc:
        module.fail_json(msg=f"bill of materials of {p['manifest']}: {exc}")
    except (OSError, ValueError, KeyError) as exc:
        module.fail_json(msg=f"bill of materials of {p['manifest']}: an input cannot be read: {exc}")
    changed = document != before
    module.exit_json(
        changed=changed,
        dest=str(dest),
        components=len(list(sbom.components(document))),
        diff={"before": before.decode(), "after": document.decode()} if changed else {},
    )


if __name__ == "__main__":
    main()
