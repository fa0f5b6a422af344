#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_device
short_description: Make device identities of an IoT hub present or absent
version_added: 0.1.0
description:
  - Creates device identities with symmetric keys, sets their status and the tags of their twins, or deletes them.
  - A whole list of devices takes one call a hundred devices.
  - Existing keys and identity types are never changed.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.iothub.sku
  - iotops.fleet.attributes
  - iotops.fleet.attributes.full
  - iotops.fleet.attributes.actiongroup_iothub
options:
  devices:
    description: The devices.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: Device id, up to 128 ASCII letters, digits and C(-:.+%_#*?!(),=@;$'). Upper and lower case differ.
        type: str
        required: true
      tags:
        description:
          - Tags to merge into the twin. A null deletes a tag, tags that are not named stay.
        type: dict
      status:
        description:
          - Whether the device may connect. If not given, an existing device keeps its status and a new one is enabled.
        type: str
        choices: [enabled, disabled]
  state:
    description: Whether the devices shall exist. Tags and status are ignored for V(absent).
    type: str
    choices: [present, absent]
    default: present
  bucket_tag:
    description:
      - Set the tag C(bucket) to the bucket of the device, a number from 0 to 9999 that follows from its id alone (the
        first 8 bytes of the SHA-256 of the id, big-endian, modulo 10000). A rollout reaches a quarter of the fleet with
        the condition C(tags.bucket < 2500).
      - A C(bucket) given among O(devices[].tags) is taken instead.
    type: bool
    default: true
  return_keys:
    description:
      - Return the connection string of each device. It is a secret, so use C(no_log) on the task.
    type: bool
    default: false
seealso:
  - module: iotops.fleet.iothub_twin
"""

EXAMPLES = r"""
- name: Register the refrigerators of the beta ring
  iotops.fleet.iothub_device:
    connection_string: "{{ iothub_connection_string }}"
    devices:
      - id: fridge-0001
        tags: {ring: beta, model: cool-60}
      - id: fridge-0002
        tags: {ring: beta, model: cool-80}

- name: Register a refrigerator and fetch what it connects with
  iotops.fleet.iothub_device:
    devices:
      - id: fridge-0003
        tags: {ring: fleet}
    return_keys: true
  register: registered
  no_log: true

- name: Lock out a stolen refrigerator
  iotops.fleet.iothub_device:
    devices:
      - id: fridge-0001
        status: disabled

- name: Remove scrapped refrigerators
  iotops.fleet.iothub_device:
    devices:
      - id: fridge-0002
    state: absent
"""

RETURN = r"""
devices:
  description: The devices, in the order given. Also returned when the task fails because of some of them.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Device id.
      type: str
      sample: fridge-0001
    state:
      description: What became of it, V(created), V(changed), V(unchanged), V(absent) or V(failed).
      type: str
      sample: created
    error:
      description: Why it could not be done, and what to do.
      returned: state is V(failed)
      type: str
    connection_string:
      description:
        - What the device connects with, without the port that the hub's own connection string may have. B(A secret.)
        - Null for a device without a symmetric key, and in check mode for one that does not exist yet.
      returned: O(return_keys=true) and O(state=present)
      type: str
estimated_seconds:
  description: How long the throttles of a hub of this O(sku) make the batch last, in check mode too. 0 for a short one.
  returned: O(sku) is given
  type: int
  sample: 0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_devices import Devices, wanted
from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_module import Result, options, run, sku_options
from ..module_utils.iothub_quota import Estimate


def main() -> t.NoReturn:
    """Read the options, make the devices so, exit."""
    device = {
        "id": {"type": "str", "required": True},
        "tags": {"type": "dict"},
        "status": {"type": "str", "choices": ["enabled", "disabled"]},
    }
    module = AnsibleModule(
        argument_spec=options(
            devices={"type": "list", "elements": "dict", "required": True, "options": device},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            bucket_tag={"type": "bool", "default": True},
            return_keys={"type": "bool", "default": False, "no_log": False},
            **sku_options(),
        ),
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        estimate = Estimate(module.params["sku"], module.params["units"])
        devices = Devices(hub, module.check_mode, module.params["return_keys"], estimate)
        wishes = wanted(module.params["devices"], module.params["bucket_tag"])
        return devices.present(wishes) if module.params["state"] == "present" else devices.absent(wishes)

    run(module, work)


if __name__ == "__main__":
    main()
