#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_status_info
short_description: Tell how a release fares in a ring
version_added: 0.1.0
description:
  - Reads from the hub which release a ring has, what each device says of it, and comes to a verdict, V(go), V(wait)
    or V(stop). Everything is the hub's word, so any machine comes to the same verdict.
  - Can wait until the devices that are connected have finished. A device that drops off the line in the midst of its
    update (it changes its own agent, or its network blinks) is waited for a minute longer.
    One that waits for its owner or for its update window is not waited for.
author: The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.info_module
  - iotops.fleet.attributes.actiongroup_iothub
options:
  ring:
    description: The ring.
    type: str
    required: true
  release:
    description: Id of the release. By default the one that the ring has been offered last.
    type: str
  success_share:
    description: Share of the ring's devices, 0 to 1, that must run the release for a V(go).
    type: float
    default: 1.0
  failures_max:
    description: How many devices may fail, refuse or roll back before it is a V(stop).
    type: int
    default: 0
  wait:
    description: Seconds to wait until no connected device is still on its way. Must be less than O(timeout).
    type: int
    default: 0
  poll:
    description: Seconds between two looks. A hub of one S1 unit answers 20 queries a minute.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Ask how the release fares in the beta ring
  iotops.fleet.release_status_info:
    connection_string: "{{ vault_iothub_connection_string }}"
    ring: beta
    wait: 180
    timeout: 240
  register: status
"""

RETURN = r"""
release:
  description: The release, from its configuration's labels. Empty when the ring has none.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the release.
      type: str
    version:
      description: Version of the release.
      type: str
    commit:
      description: Commit that it was built from.
      type: str
    manifest:
      description: TUF target path of its manifest.
      type: str
    configuration:
      description: Id of the hub's configuration.
      type: str
    announced_at:
      description: When the configuration was created.
      type: str
devices:
  description: One row a device, with id, state, from, to, announced_at, succeeded_at, error and more.
  returned: success
  type: list
  elements: dict
verdict:
  description: V(go), V(wait) or V(stop).
  returned: success
  type: str
reason:
  description: Why.
  returned: success
  type: str
unfinished:
  description: Devices that are still on their way and worth waiting for.
  returned: success
  type: list
  elements: str
"""

import random
import time
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_errors import HubError
from ..module_utils.iothub_module import Result, options, run
from ..module_utils.rollout import Gate, Watch, device, release_of, verdict


class Status:
    """One ring's release, as the hub tells it."""

    def __init__(self, hub: Hub, params: dict[str, Any]) -> None:
        self.hub = hub
        self.ring: str = params["ring"]
        self.wanted: str | None = params["release"]
        self.gate = Gate(params["success_share"], params["failures_max"])
        self.watch = Watch()

    def read(self) -> Result:
        """One look."""
        release = release_of(self.hub.configurations(), self.ring, self.wanted)
        if release is None:
            asked = f"release {self.wanted}" if self.wanted else "any release"
            return {
                "release": {}, "devices": [], "verdict": "wait", "unfinished": [],
                "reason": f"ring {self.ring} has not been offered {asked}",
            }  # fmt: skip
        twins = self.hub.query(f"SELECT * FROM devices WHERE tags.ring = '{self.ring}'")  # noqa: S608 - checked in main
        rows = sorted((device(twin, release) for twin in twins), key=lambda row: row["id"])
        word, reason = verdict(rows, self.gate)
        return {
            "release": release,
            "devices": rows,
            "verdict": word,
            "reason": reason,
            "unfinished": self.watch.unfinished(rows, time.monotonic()),
        }

    def settled(self, seconds: float, poll: float) -> Result:
        """Look until nothing is under way, or `seconds` are over; the last look either way."""
        end = time.monotonic() + seconds
        while True:
            found = self.read()
            if not found["unfinished"] or found["verdict"] == "stop" or time.monotonic() + poll > end:
                return found
            time.sleep(poll * random.uniform(0.8, 1.2))  # noqa: S311 - several controllers must not ask in step


def main() -> NoReturn:
    module = AnsibleModule(
        argument_spec=options(
            ring={"type": "str", "required": True},
            release={"type": "str"},
            success_share={"type": "float", "default": 1.0},
            failures_max={"type": "int", "default": 0},
            wait={"type": "int", "default": 0},
            poll={"type": "float", "default": 3.0},
        ),
        supports_check_mode=True,
    )
    p = module.params

    def work(hub: Hub) -> Result:
        if p["wait"] >= p["timeout"]:
            raise HubError(f"wait ({p['wait']} s) must be less than timeout ({p['timeout']} s)")
        if not all(letter.isalnum() or letter in "-_" for letter in p["ring"]):
            raise HubError(f"ring '{p['ring']}' is no name: letters, digits, - and _ only")
        return {"changed": False, **Status(hub, p).settled(0 if module.check_mode else p["wait"], p["poll"])}

    run(module, work)


if __name__ == "__main__":
    main()
