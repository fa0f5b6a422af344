#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_device_info
short_description: Read devices and modules of an IoT hub
version_added: 0.1.0
description:
  - Tells of devices whether they may connect, whether they are connected, and when they last did anything.
  - A hundred devices cost one query, one more with their modules.
  - Keys are read and returned only if O(return_keys) asks for them.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.info_module
  - iotops.fleet.attributes.actiongroup_iothub
options:
  devices:
    description: Ids of devices. Without O(devices) and O(target_condition) all devices are returned.
    type: list
    elements: str
  target_condition:
    description:
      - Which devices, a condition on tags and reported properties as in M(iotops.fleet.iothub_configuration). C(*) is
        all.
      - The index that a hub queries may be some seconds behind.
    type: str
  modules:
    description: Return the modules of each device too.
    type: bool
    default: false
  return_keys:
    description:
      - Return the connection string of each device and module. It is a secret, so use C(no_log) on the task.
      - Up to twenty devices cost a call of the registry each, more of them one call a thousand.
    type: bool
    default: false
seealso:
  - module: iotops.fleet.iothub_device
  - module: iotops.fleet.iothub_query_info
"""

EXAMPLES = r"""
- name: See whether two refrigerators are there
  iotops.fleet.iothub_device_info:
    connection_string: "{{ iothub_connection_string }}"
    devices: [fridge-0001, fridge-0002]
  register: found

- name: Say who is not
  ansible.builtin.debug:
    msg: "{{ found.missing + found.devices | selectattr('connection_state', 'ne', 'Connected') | map(attribute='id') }}"

- name: List the beta ring with its modules
  iotops.fleet.iothub_device_info:
    target_condition: tags.ring = 'beta'
    modules: true

- name: Fetch what a refrigerator connects with
  iotops.fleet.iothub_device_info:
    devices: [fridge-0003]
    return_keys: true
  register: credentials
  no_log: true
"""

RETURN = r"""
devices:
  description: The devices, in the order given, or by id. Those that are not registered are left out.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Device id.
      type: str
      sample: fridge-0001
    status: &status
      description: Whether it may connect, V(enabled) or V(disabled).
      type: str
      sample: enabled
    status_reason: &status_reason
      description: Why it has this status, if somebody said so.
      type: str
    status_updated_time: &status_updated_time
      description: When the status last changed, ISO 8601 UTC. Null if never.
      type: str
    connection_state: &connection_state
      description: V(Connected) or V(Disconnected). A hub may take a minute to notice that a device is gone.
      type: str
      sample: Connected
    last_activity_time: &last_activity_time
      description: When it last connected, received or sent, ISO 8601 UTC. Null if never.
      type: str
      sample: "2026-11-23T18:00:00.123Z"
    authentication_type: &authentication_type
      description: How it proves who it is, V(sas), V(selfSigned), V(certificateAuthority) or V(none).
      type: str
      sample: sas
    messages_waiting: &messages_waiting
      description: How many cloud-to-device messages wait for it.
      type: int
      sample: 0
    tags: &tags
      description: The tags of its twin.
      type: dict
      sample: {ring: beta}
    iot_edge:
      description: Whether it is an IoT Edge device.
      type: bool
      sample: false
    connection_string:
      description: What the device connects with. B(A secret.) Null for a device without a symmetric key.
      returned: O(return_keys=true)
      type: str
    modules:
      description: Its modules, by id.
      returned: O(modules=true)
      type: list
      elements: dict
      contains:
        id:
          description: Module id.
          type: str
          sample: thermostat
        # as of a device
        status: *status
        status_reason: *status_reason
        status_updated_time: *status_updated_time
        connection_state: *connection_state
        last_activity_time: *last_activity_time
        authentication_type: *authentication_type
        messages_waiting: *messages_waiting
        tags: *tags
        connection_string:
          description: What the module connects with. B(A secret.) Null for a module without a symmetric key.
          returned: O(return_keys=true)
          type: str
missing:
  description: Those of O(devices) that are not registered.
  returned: success
  type: list
  elements: str
  sample: [fridge-0009]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_identities import Identities
from ..module_utils.iothub_module import Result, options, run


def main() -> t.NoReturn:
    """Read the options, read the devices, exit."""
    module = AnsibleModule(
        argument_spec=options(
            devices={"type": "list", "elements": "str"},
            target_condition={"type": "str"},
            modules={"type": "bool", "default": False},
            return_keys={"type": "bool", "default": False, "no_log": False},
        ),
        mutually_exclusive=[("devices", "target_condition")],
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        given = module.params
        identities = Identities(hub, given["modules"], given["return_keys"])
        return {"changed": False, **identities.read(given["devices"], given["target_condition"])}

    run(module, work)


if __name__ == "__main__":
    main()
