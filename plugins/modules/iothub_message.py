#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_message
short_description: Send cloud-to-device messages through an IoT hub
version_added: 0.1.0
description:
  - Sends one message to each device of a list, over one connection.
  - A hub keeps a message for a device that is offline, for two days at most and fifty messages a device. What must
    reach a device later than that belongs into its desired properties.
  - Delivery is at least once. If the connection breaks before the hub has answered, the message is sent again.
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
      - Finds out which of the devices exist, and so would be sent to.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run sends again.
options:
  body:
    description: A dictionary or list, sent as JSON, or a string, sent as it is. 64 KiB at most.
    type: raw
    required: true
  properties:
    description: Application properties of the message. Values are sent as text.
    type: dict
    default: {}
  message_id:
    description: Message id, the same for all devices. If not given, each message gets a random one.
    type: str
  ack:
    description: Which feedback the hub shall keep about the message's fate.
    type: str
    choices: [none, positive, negative, full]
    default: none
  ttl:
    description:
      - Seconds after which the hub drops the message if the device has not come for it, from 60 to 172800 (2 days).
      - If not given, the hub's own default applies, usually 1 hour.
    type: int
  fail_on:
    description:
      - When the task fails. V(any) if one device or more did not get it, V(all) if no device got it, V(none) never.
      - A hub that cannot be reached or refuses the key is a failure always.
    type: str
    choices: [any, all, none]
    default: any
seealso:
  - module: iotops.fleet.iothub_configuration
"""

EXAMPLES = r"""
- name: Wake up the refrigerators that shall update now
  iotops.fleet.iothub_message:
    connection_string: "{{ iothub_connection_string }}"
    devices: [fridge-0001, fridge-0002]
    body: {id: r-2026-11-23-1, version: 1.4.0, ring: beta}
    properties:
      type: release
    message_id: r-2026-11-23-1
    ack: full
    ttl: 172800
    fail_on: none
  register: wakeup

- name: Say who did not get it
  ansible.builtin.debug:
    msg: "{{ wakeup.devices | rejectattr('sent') | map(attribute='error') }}"
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
    sent:
      description: Whether the hub took the message (in check mode, whether it would be sent).
      type: bool
      sample: true
    error:
      description: Why not, and what to do. Null if it was sent.
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
from ..module_utils.iothub_messages import Letter, Post
from ..module_utils.iothub_module import Result, options, run, sku_options
from ..module_utils.iothub_quota import Estimate
from ..module_utils.iothub_twins import chosen_ids


def main() -> t.NoReturn:
    """Read the options, send, exit."""
    module = AnsibleModule(
        argument_spec=options(
            devices={"type": "list", "elements": "str"},
            target_condition={"type": "str"},
            body={"type": "raw", "required": True},
            properties={"type": "dict", "default": {}},
            message_id={"type": "str"},
            ack={"type": "str", "choices": ["none", "positive", "negative", "full"], "default": "none"},
            ttl={"type": "int"},
            fail_on={"type": "str", "choices": ["any", "all", "none"], "default": "any"},
            **sku_options(),
        ),
        mutually_exclusive=[("devices", "target_condition")],
        required_one_of=[("devices", "target_condition")],
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        estimate = Estimate(module.params["sku"], module.params["units"])
        fields = ("body", "properties", "message_id", "ack", "ttl")
        letter = Letter(**{name: module.params[name] for name in fields})
        post = Post(hub, module.check_mode, module.params["fail_on"], estimate)
        letter.check()
        return post.send(chosen_ids(hub, module.params["devices"], module.params["target_condition"]), letter)

    run(module, work)


if __name__ == "__main__":
    main()
