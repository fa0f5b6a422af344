#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_configuration
short_description: Manage automatic device configurations of an IoT hub
version_added: 0.1.0
description:
  - Creates, changes or deletes an automatic device configuration, which the hub itself applies to all devices that its
    target condition names, also to those that come to match later.
  - Changing the target condition is how a rollout is widened wave by wave.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.full
  - iotops.fleet.attributes.actiongroup_iothub
options:
  id:
    description:
      - Id of the configuration, up to 128 lowercase letters, digits and C(-:+%_#*?!(),=@;$'). A dot is not allowed.
    type: str
    required: true
  state:
    description: Whether the configuration shall exist.
    type: str
    choices: [present, absent]
    default: present
  content:
    description:
      - What the hub writes into the twins, by path, for example C(properties.desired.fridge.release).
      - Needed to create. A hub never changes the content of an existing configuration, so a different content is an
        error that names the keys that differ. Use a new id and a higher priority then.
    type: dict
  target_condition:
    description:
      - Which devices it is for, a condition on tags and reported properties. C(*) is all, an empty one is none.
      - Needed to create. If not given, an existing one stays.
    type: str
  priority:
    description:
      - Of configurations that write the same path to a device the one with the highest priority wins, of equals the
        newest. A new one has 0 if not given, an existing one keeps its own.
    type: int
  labels:
    description: All labels it shall have. Values are stored as text. If not given, existing ones stay.
    type: dict
  metrics:
    description: All custom metrics it shall have, name to query. If not given, existing ones stay.
    type: dict
seealso:
  - module: iotops.fleet.iothub_configuration_info
"""

EXAMPLES = r"""
- name: Offer a release to the first quarter of the fleet
  iotops.fleet.iothub_configuration:
    connection_string: "{{ iothub_connection_string }}"
    id: release-1-4-0-fleet
    target_condition: tags.ring = 'fleet' AND tags.bucket < 2500
    priority: 140
    labels:
      version: 1.4.0
      wave: 1
    content:
      properties.desired.fridge.release:
        id: r-2026-11-23-1
        version: 1.4.0
    metrics:
      succeeded: >-
        SELECT deviceId FROM devices
        WHERE configurations.[[release-1-4-0-fleet]].status = 'Applied'
        AND properties.reported.fridge.update.state = 'succeeded'

- name: Widen it to the whole fleet
  iotops.fleet.iothub_configuration:
    id: release-1-4-0-fleet
    target_condition: tags.ring = 'fleet'

- name: Withdraw it
  iotops.fleet.iothub_configuration:
    id: release-1-4-0-fleet
    state: absent
"""

RETURN = r"""
state:
  description: What became of it, V(created), V(changed), V(unchanged) or V(absent).
  returned: success
  type: str
  sample: created
configuration:
  description: The configuration as it is now (in check mode, as it would be), or null if absent.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the configuration.
      type: str
    content:
      description: What the hub writes into the twins, by path.
      type: dict
    target_condition:
      description: Which devices it is for.
      type: str
    priority:
      description: Its priority.
      type: int
    labels:
      description: Its labels.
      type: dict
    metrics:
      description: Its custom metrics, name to query.
      type: dict
    metrics_results:
      description: The last results of the custom metrics, name to count. The hub computes them every few minutes.
      type: dict
    system_metrics:
      description: The last results of the hub's own metrics, such as C(targetedCount) and C(appliedCount).
      type: dict
    created_time:
      description: When it was created, ISO 8601 UTC.
      type: str
    last_updated_time:
      description: When it was last changed, ISO 8601 UTC.
      type: str
    etag:
      description: Version mark of the hub.
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_configurations import Configurations, Wanted, texts
from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_module import Result, options, run


def main() -> t.NoReturn:
    """Read the options, make the configuration so, exit."""
    module = AnsibleModule(
        argument_spec=options(
            id={"type": "str", "required": True},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            content={"type": "dict"},
            target_condition={"type": "str"},
            priority={"type": "int"},
            labels={"type": "dict"},
            metrics={"type": "dict"},
        ),
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        configurations = Configurations(hub, module.check_mode)
        given = module.params
        if given["state"] == "absent":
            return configurations.absent(given["id"])
        wanted = Wanted(
            id=given["id"],
            content=given["content"],
            target_condition=given["target_condition"],
            priority=given["priority"],
            labels=texts(given["labels"]),
            metrics=texts(given["metrics"]),
        )
        return configurations.present(wanted)

    run(module, work)


if __name__ == "__main__":
    main()
