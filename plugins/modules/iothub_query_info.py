#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_query_info
short_description: Query device twins and jobs of an IoT hub
version_added: 0.1.0
description:
  - Runs a query in the hub's SQL-like language and returns all rows, page after page.
  - Rows are returned as the hub sends them, so projections and C(COUNT) work too.
  - The index that a hub queries may be some seconds behind the twins.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.info_module
  - iotops.fleet.attributes.actiongroup_iothub
options:
  query:
    description: The query.
    type: str
    required: true
  max_items:
    description: Return so many rows at most. If not given, all of them.
    type: int
seealso:
  - name: IoT Hub query language
    description: The language.
    link: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language
"""

EXAMPLES = r"""
- name: Find the refrigerators whose update failed
  iotops.fleet.iothub_query_info:
    connection_string: "{{ iothub_connection_string }}"
    query: >-
      SELECT deviceId, properties.reported.fridge.update FROM devices
      WHERE tags.ring = 'beta' AND properties.reported.fridge.update.state = 'failed'
    max_items: 100
  register: failed

- name: Count a ring
  iotops.fleet.iothub_query_info:
    query: SELECT COUNT() AS size FROM devices WHERE tags.ring = 'fleet'
  register: ring
"""

RETURN = r"""
rows:
  description: The rows as the hub sends them. For C(SELECT *) these are twins.
  returned: success
  type: list
  elements: dict
  sample: [{deviceId: fridge-0001, tags: {ring: beta}}]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_module import Result, options, run


def main() -> t.NoReturn:
    """Read the options, run the query, exit."""
    module = AnsibleModule(
        argument_spec=options(query={"type": "str", "required": True}, max_items={"type": "int"}),
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        return {"changed": False, "rows": list(hub.query(module.params["query"], module.params["max_items"]))}

    run(module, work)


if __name__ == "__main__":
    main()
