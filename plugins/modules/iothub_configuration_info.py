#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_configuration_info
short_description: Read automatic device configurations of an IoT hub
version_added: 0.1.0
description:
  - Returns one automatic device configuration, or all, with the results of their metrics.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.info_module
  - iotops.fleet.attributes.actiongroup_iothub
options:
  id:
    description: Id of a configuration. If not given, all are returned.
    type: str
seealso:
  - module: iotops.fleet.iothub_configuration
"""

EXAMPLES = r"""
- name: See how a rollout stands
  iotops.fleet.iothub_configuration_info:
    connection_string: "{{ iothub_connection_string }}"
    id: release-1-4-0-fleet
  register: rollout

- name: List all configurations, the strongest first
  iotops.fleet.iothub_configuration_info:
  register: all_configurations
"""

RETURN = r"""
configurations:
  description:
    - The configurations in the order in which the hub prefers them, the highest priority first, of equals the newest.
    - Empty if there is none of this id.
  returned: success
  type: list
  elements: dict
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

from ..module_utils.iothub_configurations import Configurations
from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_module import Result, options, run


def main() -> t.NoReturn:
    """Read the options, read the configurations, exit."""
    module = AnsibleModule(argument_spec=options(id={"type": "str"}), supports_check_mode=True)

    def work(hub: Hub) -> Result:
        return {"changed": False, "configurations": Configurations(hub).info(module.params["id"])}

    run(module, work)


if __name__ == "__main__":
    main()
