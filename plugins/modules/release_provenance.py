#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_provenance
short_description: Sign who built a release from what
version_added: 0.1.0
description:
  - Writes an in-toto statement with SLSA provenance v1 in a DSSE envelope, signed with the builder's key. It vouches
    for the manifest, the layers that it names and the bill of materials, and names the commit and the wheels that
    they were built from.
  - The same build gives the same bytes. A version that is published already keeps the provenance that it has.
author: The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.release_document
options:
  sbom:
    description: Bill of materials of the release.
    type: path
    required: true
  layers:
    description: What M(iotops.fleet.app_layer) returned for each layer.
    type: list
    elements: dict
    required: true
  builder:
    description: URI that names the builder, for example that of a pipeline.
    type: str
    required: true
  source:
    description: URI of the source repository, without credentials. Left out of the statement when empty.
    type: str
    default: ""
  keys:
    description: Folders of keys.
    type: list
    elements: path
    required: true
  key:
    description: Name of the builder's key.
    type: str
    default: build
  passphrase:
    description: Passphrase of the key.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Signs, and does not write.
  diff_mode:
    support: full
    description: Shows the signed envelope before and after.
  idempotent:
    support: full
    description: The same build changes nothing.
seealso:
  - module: iotops.fleet.release_provenance_info
  - name: SLSA provenance v1
    description: The predicate.
    link: https://slsa.dev/spec/v1.0/provenance
"""

EXAMPLES = r"""
- name: Sign who built the release from what
  iotops.fleet.release_provenance:
    manifest: "{{ build_dir }}/{{ release.id }}/manifest.json"
    sbom: "{{ build_dir }}/{{ release.id }}/sbom.cdx.json"
    layers: "{{ [app_layer] + runtime_layers.results }}"
    builder: https://ci.example.com/fridge
    keys: ["{{ local_dir }}/keys"]
    passphrase: "{{ vault_signing_passphrase }}"
    repository: "{{ update_repository_dir }}"
    ring: beta
    dest: "{{ build_dir }}/{{ release.id }}/provenance.dsse.json"
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.layer_archive import write_whole
from ..module_utils.release_contents import Unreadable, published, version_of

try:
    from ..module_utils import release_provenance as provenance
    from ..module_utils import tuf_repository as tuf

    TUF_ERROR = None
except ImportError:
    TUF_ERROR = traceback.format_exc()


def envelope(params: dict[str, Any]) -> bytes:
    """The signed envelope as it should be."""
    manifest, sbom = Path(params["manifest"]).read_bytes(), Path(params["sbom"]).read_bytes()
    there = published(params["repository"], params["ring"], version_of(manifest), "provenance.dsse.json")
    if there is not None:
        return there
    wheels = [wheel for result in params["layers"] for wheel in result.get("wheels", [])]
    payload = provenance.statement(manifest, {"sbom.cdx.json": sbom}, wheels, params["builder"], params["source"])
    store = tuf.KeyStore(tuple(Path(folder) for folder in params["keys"]), params["passphrase"])
    made: bytes = provenance.sealed(payload, store.signer(params["key"]))
    return made


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path", "required": True},
            "sbom": {"type": "path", "required": True},
            "layers": {"type": "list", "elements": "dict", "required": True},
            "builder": {"type": "str", "required": True},
            "source": {"type": "str", "default": ""},
            "keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
            "key": {"type": "str", "default": "build", "no_log": False},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "repository": {"type": "path", "required": True},
            "ring": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if TUF_ERROR:
        module.fail_json(msg=missing_required_lib("tuf"), exception=TUF_ERROR)
    p = module.params
    dest = Path(p["dest"])
    try:
        before = dest.read_bytes() if dest.exists() else b""
        document = envelope(p)
        if document != before and not module.check_mode:
            write_whole(dest, document)
    except (tuf.RepositoryFault, Unreadable) as exc:
        module.fail_json(msg=f"provenance of {p['manifest']}: {exc}")
    except (OSError, ValueError, KeyError) as exc:
        module.fail_json(msg=f"provenance of {p['manifest']}: an input cannot be read: {exc}")
    changed = document != before
    module.exit_json(
        changed=changed,
        dest=str(dest),
        diff={"before": before.decode(), "after": document.decode()} if changed else {},
    )


if __name__ == "__main__":
    main()
