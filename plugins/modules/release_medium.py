#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_medium
short_description: Make the medium that a device gets its first release from
version_added: 0.1.0
description:
  - Packs a built release's manifest and just the objects that a device of one platform needs into one tar, which is
    brought to the device and unpacked there for C(fridge-agent flash).
  - The same release gives the same bytes.
author: The iotops.fleet project (@iotops-fleet)
options:
  manifest:
    description: The release's C(manifest.json).
    type: path
    required: true
  objects:
    description: The folder that the paths of the manifest's layers are below.
    type: path
    required: true
  platform:
    description: The device's platform, for example V(linux-aarch64).
    type: str
    required: true
  dest:
    description: The tar to make.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Compares the tar that would be made with the one that is there, and writes nothing.
  diff_mode:
    support: none
    description: A tar is no text.
  idempotent:
    support: full
    description: A tar that is there and the same stays.
"""

EXAMPLES = r"""
- name: Pack the first release for a Pi
  iotops.fleet.release_medium:
    manifest: build/0.1.57-g1a2b3c4/manifest.json
    objects: build
    platform: linux-aarch64
    dest: build/medium/linux-aarch64.tar
"""

RETURN = r"""
dest:
  description: As O(dest).
  returned: success
  type: str
files:
  description: How many files are on the medium.
  returned: success
  type: int
"""

import traceback
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils import release_medium
from ..module_utils.layer_archive import LayerError

try:
    from backports import zstd  # noqa: F401 - used by layer_archive  # pylint: disable=unused-import

    ZSTD_ERROR = None
except ImportError:
    ZSTD_ERROR = traceback.format_exc()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "manifest": {"type": "path", "required": True},
            "objects": {"type": "path", "required": True},
            "platform": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if ZSTD_ERROR:
        module.fail_json(msg=missing_required_lib("backports.zstd"), exception=ZSTD_ERROR)
    p = module.params
    try:
        files = release_medium.contents(Path(p["manifest"]), Path(p["objects"]), p["platform"])
        changed = release_medium.make(files, Path(p["dest"]), check=module.check_mode)
    except LayerError as exc:
        module.fail_json(msg=f"medium for {p['platform']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"medium for {p['platform']}: {exc.filename or p['dest']}: {exc.strerror}")
    module.exit_json(changed=changed, dest=p["dest"], files=len(files))


if __name__ == "__main__":
    main()
