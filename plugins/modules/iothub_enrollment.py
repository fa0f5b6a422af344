#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_enrollment
short_description: Make enrolments of a device provisioning service present or absent
version_added: 0.1.0
description:
  - Creates, changes or deletes individual enrolments or enrolment groups of Azure's Device Provisioning Service, by
    which devices register themselves at a hub.
  - A device proves who it is by a symmetric key (that of a group gives each of its devices an own one), or by an X.509
    certificate (for a group, one that a signing certificate vouches for). TPMs are not offered.
  - Deleting an enrolment takes no device from the hub; M(iotops.fleet.iothub_device) does.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub.provisioning
  - iotops.fleet.iothub.service
  - iotops.fleet.attributes
  - iotops.fleet.attributes.actiongroup_provisioning
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Keys are never shown, only that they differ. Certificates are shown by their thumbprints.
  idempotent:
    support: full
options:
  kind:
    description: Whether these are enrolments of single devices or of groups.
    type: str
    choices: [individual, group]
    default: individual
  state:
    description: Whether the enrolments shall exist. All but their ids is ignored for V(absent).
    type: str
    choices: [present, absent]
    default: present
  enrollments:
    description: The enrolments. What is not given stays, and is left to the service when one is created.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description:
          - Registration id of the device, or name of the group. Up to 128 ASCII letters, digits and C(-._:). Upper and
            lower case do not differ.
        type: str
        required: true
      device_id:
        description: Id that the device will have in the hub. If not given, its registration id. Not for groups.
        type: str
      primary_key:
        description:
          - Symmetric key in base64, of 16 to 64 bytes. If neither key nor certificate is given, the service makes keys
            for a new enrolment.
        type: str
      secondary_key:
        description: Second symmetric key, to change keys without a gap. Give both or none.
        type: str
      certificate:
        description:
          - X.509 certificate, the PEM text. For a device its own, for a group the one that signs those of its devices.
        type: str
      secondary_certificate:
        description:
          - Second certificate, to change certificates without a gap. If O(enrollments[].certificate) is given without
            it, there shall be no second one.
        type: str
      status:
        description: Whether devices may register by it.
        type: str
        choices: [enabled, disabled]
      tags:
        description: All tags that the twin of a new device shall have.
        type: dict
      desired:
        description: All desired properties that the twin of a new device shall have.
        type: dict
      iot_edge:
        description: Whether devices become IoT Edge devices.
        type: bool
      reprovision:
        description:
          - What happens when a device registers anew. V(migrate) assigns it a hub again and moves its data there,
            V(reset) assigns it and begins with O(enrollments[].tags) and O(enrollments[].desired), V(never) leaves it
            where it is.
        type: str
        choices: [migrate, reset, never]
      allocation_policy:
        description: How the service chooses a hub.
        type: str
        choices: [hashed, geoLatency, static]
      iot_hubs:
        description: Host names of the hubs that it chooses from. If not given, all that are linked to the service.
        type: list
        elements: str
  return_keys:
    description:
      - Return the symmetric keys. They are secrets, so use C(no_log) on the task. Keys that were given as options come
        back blanked.
    type: bool
    default: false
seealso:
  - module: iotops.fleet.iothub_enrollment_info
  - module: iotops.fleet.iothub_device
  - name: Device Provisioning Service
    description: What enrolments are.
    link: https://learn.microsoft.com/azure/iot-dps/concepts-service
"""

EXAMPLES = r"""
- name: Let the refrigerators of a factory register themselves, by keys that derive from the group's
  iotops.fleet.iothub_enrollment:
    connection_string: "{{ iotdps_connection_string }}"
    kind: group
    enrollments:
      - id: factory-north
        tags: {ring: fleet}
        reprovision: migrate
    return_keys: true
  register: factory
  no_log: true

- name: Enrol one refrigerator by its certificate
  iotops.fleet.iothub_enrollment:
    connection_string: "{{ iotdps_connection_string }}"
    enrollments:
      - id: fridge-0001
        certificate: "{{ lookup('ansible.builtin.file', 'fridge-0001.pem') }}"
        tags: {ring: beta}

- name: Stop a group from registering any more
  iotops.fleet.iothub_enrollment:
    kind: group
    enrollments:
      - id: factory-north
        status: disabled

- name: Remove an enrolment
  iotops.fleet.iothub_enrollment:
    enrollments:
      - id: fridge-0001
    state: absent
"""

RETURN = r"""
enrollments:
  description: The enrolments, in the order given. Also returned when the task fails because of some of them.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Registration id, or name of the group.
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
    primary_key:
      description: Symmetric key. B(A secret.) Null if it is proved by a certificate, or does not exist yet.
      returned: O(return_keys=true) and O(state=present)
      type: str
    secondary_key:
      description: Second symmetric key. B(A secret.)
      returned: O(return_keys=true) and O(state=present)
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_enrollments import POLICIES, Enrollments, Wanted
from ..module_utils.iothub_module import Result, options, run_provisioning
from ..module_utils.iothub_provisioning import ProvisioningService


def main() -> t.NoReturn:
    """Read the options, make the enrolments so, exit."""
    secret = {"type": "str", "no_log": True}
    enrollment = {
        "id": {"type": "str", "required": True},
        "device_id": {"type": "str"},
        "primary_key": secret,
        "secondary_key": secret,
        "certificate": {"type": "str"},
        "secondary_certificate": {"type": "str"},
        "status": {"type": "str", "choices": ["enabled", "disabled"]},
        "tags": {"type": "dict"},
        "desired": {"type": "dict"},
        "iot_edge": {"type": "bool"},
        "reprovision": {"type": "str", "choices": list(POLICIES)},
        "allocation_policy": {"type": "str", "choices": ["hashed", "geoLatency", "static"]},
        "iot_hubs": {"type": "list", "elements": "str"},
    }
    module = AnsibleModule(
        argument_spec=options(
            "IOTDPS",
            kind={"type": "str", "choices": ["individual", "group"], "default": "individual"},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            enrollments={"type": "list", "elements": "dict", "required": True, "options": enrollment},
            return_keys={"type": "bool", "default": False, "no_log": False},
        ),
        supports_check_mode=True,
    )
    given = module.params

    def work(service: ProvisioningService) -> Result:
        group = given["kind"] == "group"
        enrollments = Enrollments(service, group, module.check_mode, given["return_keys"])
        wanted = [Wanted(**one) for one in given["enrollments"]]
        return enrollments.present(wanted) if given["state"] == "present" else enrollments.absent(wanted)

    run_provisioning(module, work)


if __name__ == "__main__":
    main()
