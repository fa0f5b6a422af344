#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_fetch
short_description: Bring a published update repository to this machine
version_added: 0.1.0
description:
  - Brings the metadata, what waits for signatures, and the documents of the releases from a file server, so that a new
    CI machine or a second signer goes on where others stopped.
  - Everything but what waits for signatures must chain from O(root). What is here and newer than on the server is
    left alone and waits for M(iotops.fleet.file_publish).
author: The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.file_server
options:
  dest:
    description: Folder of the repository on this machine.
    type: path
    required: true
  root:
    description: Trusted root metadata, needed where O(dest) has none yet.
    type: path
  objects:
    description: Also bring the layers and patches, which making patches from earlier releases needs.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Verifies and compares, writes nothing.
  diff_mode:
    support: full
    description: Lists the files that are brought.
  idempotent:
    support: full
    description: What is here stays.
"""

EXAMPLES = r"""
- name: Go on where others stopped
  iotops.fleet.file_fetch:
    dest: "{{ local_dir }}/repository"
    root: root.json
    url: ftps://files.example.com/fridge
    username: publisher
    password: "{{ vault_file_server_password }}"
"""

RETURN = r"""
fetched:
  description: Files that were brought (in check mode, would be; without the objects).
  returned: success
  type: list
  elements: str
ahead:
  description: Whether O(dest) is newer than the server, so that nothing was brought.
  returned: success
  type: bool
removed:
  description: Files of C(pending/) that wait for nobody any more.
  returned: success
  type: list
  elements: str
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.file_server import FileServer, FileServerError, Login, connect

try:
    from ..module_utils import repository_fetch

    TUF_ERROR = None
except ImportError:
    TUF_ERROR = traceback.format_exc()


def bring(server: FileServer, params: dict[str, Any], check: bool) -> tuple[Any, list[str]]:
    """Fetch what is missing; what was planned, and the names of what was brought."""
    dest = Path(params["dest"])
    first = dest / "metadata/1.root.json"
    root = Path(params["root"]) if params["root"] and not first.exists() else first
    if not root.exists():
        raise FileServerError(f"{root} is missing: name the root metadata that you trust (option root)")
    published = repository_fetch.Published(server, root.read_bytes())
    todo = published.plan(dest)
    if check or todo.ahead:
        return todo, list(todo.files)
    repository_fetch.write(todo, dest)
    brought = list(todo.files)
    for name in published.objects(dest) if params["objects"] else ():
        published.bring_object(name, dest)
        brought.append(name)
    return todo, brought


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "root": {"type": "path"},
            "objects": {"type": "bool", "default": False},
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "default": "anonymous"},
            "password": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "path"},
            "host_key": {"type": "str", "no_log": False},
            "private_key": {"type": "path", "no_log": False},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    if TUF_ERROR:
        module.fail_json(msg=missing_required_lib("tuf"), exception=TUF_ERROR)
    p = module.params
    login = Login(p["url"], p["username"], p["password"], p["ca_file"], p["host_key"], p["timeout"], p["private_key"])
    try:
        with connect(login) as server:
            todo, fetched = bring(server, p, module.check_mode)
    except FileServerError as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename or p['dest']}: {exc.strerror}")
    changed = bool(fetched or todo.gone)
    after = "".join(f"{name}\n" for name in fetched)
    before = "".join(f"{name}\n" for name in todo.gone)
    module.exit_json(
        changed=changed,
        fetched=fetched,
        removed=todo.gone,
        ahead=todo.ahead,
        diff={"before": before, "after": after} if changed else {},
    )


if __name__ == "__main__":
    main()
