#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_twin
short_description: Set tags and desired properties of device twins
version_added: 0.1.0
description:
  - Merges tags and desired properties into the twins of a list of devices, and only where something differs.
  - The same change is made to each. Nothing is written if one of the devices is not registered.
  - For a whole ring M(iotops.fleet.iothub_configuration) does it with one document; this module is for single devices.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.iothub.chosen
  - iotops.fleet.iothub.sku
  - iotops.fleet.attributes
  - iotops.fleet.attributes.full
  - iotops.fleet.attributes.actiongroup_iothub
options:
  tags:
    description: Tags to merge (JSON merge patch). A null deletes, what is not named stays.
    type: dict
    default: {}
  desired:
    description: Desired properties to merge (JSON merge patch). A null deletes, what is not named stays.
    type: dict
    default: {}
seealso:
  - module: iotops.fleet.iothub_configuration
"""

EXAMPLES = r"""
- name: Move two refrigerators to the beta ring
  iotops.fleet.iothub_twin:
    connection_string: "{{ iothub_connection_string }}"
    devices: [fridge-0001, fridge-0002]
    tags:
      ring: beta

- name: Widen the beta ring by a model
  iotops.fleet.iothub_twin:
    target_condition: tags.model = 'cool-60'
    tags:
      ring: beta

- name: Ask one refrigerator for a diagnosis, and withdraw an old request
  iotops.fleet.iothub_twin:
    devices: [fridge-0001]
    desired:
      fridge:
        diagnosis: {id: d-17, level: full}
        old_request: null
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
      description: What became of the twin, V(changed), V(unchanged) or V(failed).
      type: str
      sample: changed
    error:
      description: Why it could not be done, and what to do.
      returned: state is V(failed)
      type: str
    patch:
      description: What was (or in check mode would be) merged, the smallest patch that does it.
      type: dict
      contains:
        tags:
          description: Part of O(tags) that differed.
          type: dict
        desired:
          description: Part of O(desired) that differed.
          type: dict
      sample: {tags: {ring: beta}, desired: {}}
estimated_seconds:
  description: How long the throttles of a hub of this O(sku) make the batch last, in check mode too. 0 for a short one.
  returned: O(sku) is given
  type: int
  sample: 0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_module import Result, options, run, sku_options
from ..module_utils.iothub_quota import Estimate
from ..module_utils.iothub_twins import TwinPatch, TwinPatcher, chosen_ids


def main() -> t.NoReturn:
    """Read the options, patch the twins, exit."""
    module = AnsibleModule(
        argument_spec=options(
            devices={"type": "list", "elements": "str"},
            target_condition={"type": "str"},
            tags={"type": "dict", "default": {}},
            desired={"type": "dict", "default": {}},
            **sku_options(),
        ),
        mutually_exclusive=[("devices", "target_condition")],
        required_one_of=[("devices", "target_condition")],
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        estimate = Estimate(module.params["sku"], module.params["units"])
        patch = TwinPatch(module.params["tags"], module.params["desired"])
        ids = chosen_ids(hub, module.params["devices"], module.params["target_condition"])
        return TwinPatcher(hub, module.check_mode, estimate).apply(ids, patch)

    run(module, work)


if __name__ == "__main__":
    main()
