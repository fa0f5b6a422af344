#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_publish
short_description: Publish an update repository on a plain file server
version_added: 0.1.0
description:
  - Brings a file server (FTP, FTPS, SFTP or a folder) to the content of a local update repository as kept by
    M(iotops.fleet.update_repository).
  - Every file goes up under a temporary name, is checked, and is renamed. C(metadata/timestamp.json) goes last, so
    devices see the old repository or the new one and nothing between, even when the upload is killed.
author: The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.file_server
options:
  state:
    description: V(present) makes sure that everything is there.
    type: str
    choices: [present]
    default: present
  src:
    description: Folder of the repository.
    type: path
    required: true
  connections:
    description: How many lines to the server objects go over at once. A server that takes fewer gets fewer.
    type: int
    default: 4
  verify:
    description: Read every file on the server back and compare it, instead of trusting names that hold a hash.
    type: bool
    default: false
  prune_after:
    description:
      - Hours since its upload after which a file that no live metadata names is removed from the server. Devices may
        still be fetching what was live a moment ago.
      - V(0) removes nothing.
    type: float
    default: 168
attributes:
  check_mode:
    support: full
    description: Compares with the server, uploads nothing.
  diff_mode:
    support: full
    description: Lists the files that go up.
  idempotent:
    support: full
    description: What is there stays.
"""

EXAMPLES = r"""
- name: Publish
  iotops.fleet.file_publish:
    src: "{{ local_dir }}/repository"
    url: ftps://files.example.com/fridge
    username: publisher
    password: "{{ vault_file_server_password }}"
"""

RETURN = r"""
uploaded:
  description: Files that were uploaded (in check mode, would be), in order.
  returned: success
  type: list
  elements: str
removed:
  description: Leftovers of killed uploads, and files that no live metadata names, that were removed.
  returned: success
  type: list
  elements: str
present:
  description: How many files were there already.
  returned: success
  type: int
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.file_server import FileServerError, Login, connect
from ..module_utils.publishing import plan, upload


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "src": {"type": "path", "required": True},
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "default": "anonymous"},
            "password": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "path"},
            "host_key": {"type": "str", "no_log": False},
            "private_key": {"type": "path", "no_log": False},
            "connections": {"type": "int", "default": 4},
            "verify": {"type": "bool", "default": False},
            "prune_after": {"type": "float", "default": 168},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    p = module.params
    login = Login(p["url"], p["username"], p["password"], p["ca_file"], p["host_key"], p["timeout"], p["private_key"])
    prune_after = p["prune_after"] * 3600 if p["prune_after"] else None
    try:
        with connect(login) as server:
            todo = plan(p["src"], server, verify=p["verify"], prune_after=prune_after)
            if todo.changed and not module.check_mode:
                upload(p["src"], server, todo, lambda: connect(login), p["connections"])
    except FileServerError as exc:
        module.fail_json(msg=str(exc))
    if todo.prune_refused:
        module.warn(f"nothing was pruned, since it is not known what is live: {todo.prune_refused}")
    lines = "".join(f"{name}\n" for name in todo.upload)
    away = "".join(f"{name}\n" for name in todo.removed)
    module.exit_json(
        changed=todo.changed,
        uploaded=todo.upload,
        removed=todo.removed,
        present=todo.present,
        diff={"before": away, "after": lines} if todo.changed else {},
    )


if __name__ == "__main__":
    main()
