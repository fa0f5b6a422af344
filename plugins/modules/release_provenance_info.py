#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_provenance_info
short_description: Check who built a release from what
version_added: 0.1.0
description:
  - Verifies a release's provenance with the builders' keys that the signed metadata of the update repository names, and
    that it vouches for the manifest and for the bill of materials.
  - Fails when it does not.
author: The iotops.fleet project (@iotops-fleet)
options:
  repository:
    description: Folder of the update repository, as it was signed here or brought by M(iotops.fleet.file_fetch).
    type: path
    required: true
  ring:
    description: Ring that offers the release.
    type: str
    required: true
  version:
    description: Version of the release.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
seealso:
  - module: iotops.fleet.release_provenance
"""

EXAMPLES = r"""
- name: Check that the builder vouches for what beta runs
  iotops.fleet.release_provenance_info:
    repository: "{{ update_repository_dir }}"
    ring: beta
    version: 0.1.57
  register: vouched
"""

RETURN = r"""
builder:
  description: URI of the builder.
  returned: success
  type: str
commit:
  description: Commit that the release was built from.
  returned: success
  type: str
statement:
  description: The whole in-toto statement.
  returned: success
  type: dict
files:
  description: Paths of the release's documents in the repository, by their name.
  returned: success
  type: dict
  sample:
    manifest.json: targets/beta/0.1.57/5d….manifest.json
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.release_contents import Unreadable, offered

try:
    from ..module_utils import release_provenance as provenance

    TUF_ERROR = None
except ImportError:
    TUF_ERROR = traceback.format_exc()

DOCUMENTS = ("manifest.json", "sbom.cdx.json", "provenance.dsse.json")


def read(repository: Path, ring: str, version: str) -> dict[str, Any]:
    """The verified provenance of a release in `repository`."""
    paths = offered(str(repository), ring, version)
    if missing := [name for name in DOCUMENTS if name not in paths]:
        raise provenance.NotProven(f"ring {ring} offers no {' and no '.join(missing)} of it")
    paths = {name: paths[name] for name in DOCUMENTS}
    vouched_for = {name: path.read_bytes() for name, path in paths.items() if name != "provenance.dsse.json"}
    envelope = paths["provenance.dsse.json"].read_bytes()
    statement = provenance.verified(envelope, provenance.build_keys(repository), vouched_for)
    try:
        predicate = statement["predicate"]
        told = {
            "builder": predicate["runDetails"]["builder"]["id"],
            "commit": predicate["buildDefinition"]["externalParameters"]["commit"],
        }
    except (KeyError, TypeError) as exc:
        raise provenance.NotProven(f"its statement lacks {exc}") from exc
    return {**told, "statement": statement, "files": {name: str(path) for name, path in paths.items()}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "path", "required": True},
            "ring": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    if TUF_ERROR:
        module.fail_json(msg=missing_required_lib("tuf"), exception=TUF_ERROR)
    p = module.params
    try:
        found = read(Path(p["repository"]), p["ring"], p["version"])
    except (provenance.NotProven, Unreadable) as exc:
        module.fail_json(msg=f"provenance of {p['ring']}/{p['version']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"provenance of {p['ring']}/{p['version']}: {exc.filename}: {exc.strerror}")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
