#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_enrollment_info
short_description: Read enrolments of a device provisioning service
version_added: 0.1.0
description:
  - Returns individual enrolments or enrolment groups of Azure's Device Provisioning Service, and of an individual one
    what became of its device.
  - Keys are read and returned only if O(return_keys) asks for them.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub.provisioning
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.info_module
  - iotops.fleet.attributes.actiongroup_provisioning
options:
  kind:
    description: Whether to read enrolments of single devices or of groups.
    type: str
    choices: [individual, group]
    default: individual
  ids:
    description: Registration ids, or names of groups. If not given, all are returned.
    type: list
    elements: str
  return_keys:
    description: Return the symmetric keys. They are secrets, so use C(no_log) on the task. Costs a call each.
    type: bool
    default: false
seealso:
  - module: iotops.fleet.iothub_enrollment
"""

EXAMPLES = r"""
- name: See which groups there are
  iotops.fleet.iothub_enrollment_info:
    connection_string: "{{ iotdps_connection_string }}"
    kind: group
  register: groups

- name: See whether a refrigerator has registered
  iotops.fleet.iothub_enrollment_info:
    ids: [fridge-0001]
  register: fridge
"""

RETURN = r"""
enrollments:
  description: The enrolments. Those of O(ids) that do not exist are left out.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Registration id, or name of the group.
      type: str
      sample: fridge-0001
    device_id:
      description: Id that the device will have in the hub. Null if it is the registration id.
      returned: O(kind=individual)
      type: str
    registered_device_id:
      description: Id of the device that has registered. Null if none has.
      returned: O(kind=individual)
      type: str
    registration_status:
      description: What became of the registration, for example V(assigned). Null if there was none.
      returned: O(kind=individual)
      type: str
      sample: assigned
    status:
      description: Whether devices may register by it, V(enabled) or V(disabled).
      type: str
      sample: enabled
    attestation:
      description: How a device proves who it is, V(symmetric_key), V(x509) or V(tpm).
      type: str
      sample: symmetric_key
    thumbprints:
      description: SHA-256 thumbprints of the certificates.
      type: list
      elements: str
      sample: []
    tags:
      description: Tags that the twin of a new device will have.
      type: dict
    desired:
      description: Desired properties that the twin of a new device will have.
      type: dict
    iot_edge:
      description: Whether devices become IoT Edge devices.
      type: bool
    reprovision:
      description: What happens when a device registers anew, V(migrate), V(reset) or V(never).
      type: str
      sample: migrate
    allocation_policy:
      description: How the service chooses a hub, V(hashed), V(geoLatency) or V(static). Null for its own default.
      type: str
      sample: hashed
    iot_hubs:
      description: Host names of the hubs that it chooses from. Empty for all that are linked.
      type: list
      elements: str
    primary_key:
      description: Symmetric key. B(A secret.) Null if it is proved by a certificate.
      returned: O(return_keys=true)
      type: str
    secondary_key:
      description: Second symmetric key. B(A secret.)
      returned: O(return_keys=true)
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_enrollments import Enrollments
from ..module_utils.iothub_module import Result, options, run_provisioning
from ..module_utils.iothub_provisioning import ProvisioningService


def main() -> t.NoReturn:
    """Read the options, read the enrolments, exit."""
    module = AnsibleModule(
        argument_spec=options(
            "IOTDPS",
            kind={"type": "str", "choices": ["individual", "group"], "default": "individual"},
            ids={"type": "list", "elements": "str"},
            return_keys={"type": "bool", "default": False, "no_log": False},
        ),
        supports_check_mode=True,
    )

    def work(service: ProvisioningService) -> Result:
        group = module.params["kind"] == "group"
        enrollments = Enrollments(service, group, return_keys=module.params["return_keys"])
        return {"changed": False, "enrollments": enrollments.info(module.params["ids"])}

    run_provisioning(module, work)


if __name__ == "__main__":
    main()
