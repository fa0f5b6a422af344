#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_method
short_description: Call a direct method of devices through an IoT hub
version_added: 0.1.0
description:
  - Calls a direct method of each device of a list, or of all that fulfil a condition, some at a time, and returns what
    each answered.
  - A device must be connected to be called. For devices that come and go M(iotops.fleet.iothub_job) or desired
    properties are better.
  - No device is called twice. Only what the hub throttled, which never reached the device, is asked for again.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.iothub.chosen
  - iotops.fleet.iothub.sku
  - iotops.fleet.attributes
  - iotops.fleet.attributes.actiongroup_iothub
attributes:
  check_mode:
    support: full
    details:
      - Finds out which of the devices are registered and connected, and so would be called.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run calls again.
options:
  method:
    description: Name of the method.
    type: str
    required: true
  payload:
    description: What is given to the method, as JSON. 128 KiB at most.
    type: raw
  module:
    description: Call the module of this id on each device, instead of the device itself.
    type: str
  connect_timeout:
    description: Seconds to wait for a device that is not connected, from 0 to 300.
    type: int
    default: 0
  response_timeout:
    description:
      - Seconds to wait for a device's answer, from 5 to 300. O(timeout) must be longer than this and
        O(connect_timeout) together.
    type: int
    default: 30
  parallel:
    description: How many devices are called at the same time.
    type: int
    default: 20
  fail_on:
    description:
      - When the task fails. V(any) if one device or more did not do it, V(all) if no device did, V(none) never. To
        answer with a status that is not between 200 and 299 is not to do it.
      - A hub that cannot be reached or refuses the key is a failure always.
    type: str
    choices: [any, all, none]
    default: any
seealso:
  - module: iotops.fleet.iothub_job
  - module: iotops.fleet.iothub_message
"""

EXAMPLES = r"""
- name: Let two refrigerators blink
  iotops.fleet.iothub_method:
    connection_string: "{{ iothub_connection_string }}"
    devices: [fridge-0001, fridge-0002]
    method: blink
    payload: {seconds: 5}

- name: Ask all of the beta ring that are connected for their logs
  iotops.fleet.iothub_method:
    target_condition: tags.ring = 'beta' AND connectionState = 'Connected'
    method: logs
    payload: {lines: 100}
    response_timeout: 60
    timeout: 600
    parallel: 50
    fail_on: none
  register: logs

- name: Say who did not answer
  ansible.builtin.debug:
    msg: "{{ logs.devices | selectattr('error') | map(attribute='error') }}"
"""

RETURN = r"""
devices:
  description: The devices, in the order given, or by id. Also returned when the task fails because of some of them.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Device id.
      type: str
      sample: fridge-0001
    called:
      description:
        - V(false) if the method certainly did not reach the device (in check mode, if it would not be called).
        - V(true) with an C(error) if it may have reached it, as when the answer did not come in time.
      type: bool
      sample: true
    status:
      description: The status of the device's answer. Null if there was none.
      type: int
      sample: 200
    payload:
      description: The payload of the device's answer.
      type: raw
      sample: {blinked: 5}
    error:
      description: Why it was not done, and what to do. Null if it was.
      type: str
      sample: device 'fridge-0009' is not registered; create it with iotops.fleet.iothub_device
estimated_seconds:
  description: How long the throttles of a hub of this O(sku) make the batch last, in check mode too. 0 for a short one.
  returned: O(sku) is given
  type: int
  sample: 0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_methods import Calls, Method
from ..module_utils.iothub_module import Result, options, run, sku_options
from ..module_utils.iothub_quota import Estimate
from ..module_utils.iothub_twins import chosen_ids


def main() -> t.NoReturn:
    """Read the options, call, exit."""
    module = AnsibleModule(
        argument_spec=options(
            devices={"type": "list", "elements": "str"},
            target_condition={"type": "str"},
            method={"type": "str", "required": True},
            payload={"type": "raw"},
            module={"type": "str"},
            connect_timeout={"type": "int", "default": 0},
            response_timeout={"type": "int", "default": 30},
            parallel={"type": "int", "default": 20},
            fail_on={"type": "str", "choices": ["any", "all", "none"], "default": "any"},
            **sku_options(),
        ),
        mutually_exclusive=[("devices", "target_condition")],
        required_one_of=[("devices", "target_condition")],
        supports_check_mode=True,
    )
    given = module.params

    def work(hub: Hub) -> Result:
        estimate = Estimate(given["sku"], given["units"])
        method = Method(
            name=given["method"],
            payload=given["payload"],
            module=given["module"],
            connect_timeout=given["connect_timeout"],
            response_timeout=given["response_timeout"],
        )
        calls = Calls(hub, module.check_mode, given["fail_on"], given["parallel"], estimate)
        calls.check(method)
        return calls.run(chosen_ids(hub, given["devices"], given["target_condition"]), method)

    run(module, work)


if __name__ == "__main__":
    main()
