#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_job_info
short_description: Read scheduled jobs of an IoT hub
version_added: 0.1.0
description:
  - Returns one scheduled job with what became of each device, or all jobs of the last 30 days.
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
    description: Id of a job. If not given, all are returned.
    type: str
  type:
    description: Return only jobs that change twins, or only those that call a method. Without O(id).
    type: str
    choices: [twin, method]
  status:
    description: Return only jobs of this status. Without O(id).
    type: str
    choices: [scheduled, queued, running, completed, failed, cancelled]
seealso:
  - module: iotops.fleet.iothub_job
"""

EXAMPLES = r"""
- name: See what came of the reboot
  iotops.fleet.iothub_job_info:
    connection_string: "{{ iothub_connection_string }}"
    id: reboot-2026-11-24
  register: reboot

- name: List the jobs that are under way
  iotops.fleet.iothub_job_info:
    status: running
"""

RETURN = r"""
jobs:
  description: The jobs, the newest first. Empty if there is none of this id.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the job.
      type: str
      sample: reboot-2026-11-23
    type:
      description: What it does, V(twin) or V(method).
      type: str
      sample: method
    status:
      description:
        - V(scheduled), V(queued), V(running), V(completed), V(failed) or V(cancelled). Azure also says V(enqueued) and
          V(unknown).
      type: str
      sample: running
    target_condition:
      description: Which devices it is for.
      type: str
      sample: tags.ring = 'beta'
    tags:
      description: Tags that it merges into the twins. Null for a method.
      type: dict
    desired:
      description: Desired properties that it merges into the twins. Null for a method.
      type: dict
    method:
      description: Name of the method that it calls. Null for twins.
      type: str
      sample: reboot
    payload:
      description: What it gives to the method.
      type: raw
    start_time:
      description: When it begins or began, ISO 8601 UTC.
      type: str
      sample: "2026-11-23T18:00:00.123Z"
    end_time:
      description: When it ended, ISO 8601 UTC. Null before.
      type: str
    created_time:
      description: When it was created, ISO 8601 UTC.
      type: str
    max_execution_time:
      description: Seconds that it may take.
      type: int
      sample: 3600
    failure_reason:
      description: Why it failed as a whole.
      type: str
    statistics:
      description: How far it is, in numbers of devices. All are 0 before it begins.
      type: dict
      contains:
        devices:
          description: How many devices fulfilled the condition when it began.
          type: int
        succeeded:
          description: How many have done it.
          type: int
        failed:
          description: How many have failed.
          type: int
        running:
          description: How many are at it.
          type: int
        pending:
          description: How many have not begun.
          type: int
devices:
  description: What became of each device, by id.
  returned: O(id) is given
  type: list
  elements: dict
  contains:
    id:
      description: Device id.
      type: str
      sample: fridge-0001
    module:
      description: Module id. Null for a device.
      type: str
    status:
      description: V(pending), V(running), V(completed), V(failed) or V(cancelled).
      type: str
      sample: completed
    response_status:
      description: The status of the answer to a method. Null if there was none.
      type: int
      sample: 200
    response:
      description: The payload of the answer to a method.
      type: raw
    error:
      description: Why it failed.
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_jobs import Jobs
from ..module_utils.iothub_module import Result, options, run


def main() -> t.NoReturn:
    """Read the options, read the jobs, exit."""
    module = AnsibleModule(
        argument_spec=options(
            id={"type": "str"},
            type={"type": "str", "choices": ["twin", "method"]},
            status={
                "type": "str",
                "choices": ["scheduled", "queued", "running", "completed", "failed", "cancelled"],
            },
        ),
        mutually_exclusive=[("id", "type"), ("id", "status")],
        supports_check_mode=True,
    )

    def work(hub: Hub) -> Result:
        jobs, given = Jobs(hub), module.params
        found = jobs.info(given["id"], given["type"], given["status"])
        if given["id"] is None:
            return {"changed": False, "jobs": found}
        return {"changed": False, "jobs": found, "devices": jobs.parts(given["id"]) if found else []}

    run(module, work)


if __name__ == "__main__":
    main()
