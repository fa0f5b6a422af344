#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iothub_job
short_description: Schedule jobs of an IoT hub, follow and cancel them
version_added: 0.1.0
description:
  - Creates a scheduled job, by which the hub itself changes the twins, or calls a direct method, of all devices that
    fulfil a condition when it begins. Or cancels one.
  - A job never changes, so its id stands for what it does. If it exists already with the same content nothing is done
    but to go on waiting; with another content it is an error that names what differs. A hub keeps jobs for 30 days.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - iotops.fleet.iothub
  - iotops.fleet.iothub.service
  - iotops.fleet.iothub.sku
  - iotops.fleet.attributes
  - iotops.fleet.attributes.actiongroup_iothub
attributes:
  check_mode:
    support: full
    details:
      - Does not wait.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - By the id of the job.
options:
  id:
    description: Id of the job, up to 128 ASCII letters, digits and C(-.%_#*?!(),:=@$';+).
    type: str
    required: true
  state:
    description:
      - V(present) creates it. V(cancelled) cancels it if it is not over; one that does not exist is fine.
    type: str
    choices: [present, cancelled]
    default: present
  target_condition:
    description:
      - Which devices it is for, a condition on tags and reported properties. C(*) is all. C(FROM devices.modules WHERE
        ...) is for modules.
      - Needed to create.
    type: str
  tags:
    description: Tags to merge into the twins (JSON merge patch). A null deletes.
    type: dict
  desired:
    description: Desired properties to merge into the twins (JSON merge patch). A null deletes.
    type: dict
  method:
    description: Name of a direct method to call instead.
    type: str
  payload:
    description: What is given to O(method), as JSON. 128 KiB at most.
    type: raw
  connect_timeout:
    description: Seconds to wait for a device that is not connected, from 0 to 300, with O(method).
    type: int
    default: 0
  response_timeout:
    description: Seconds to wait for a device's answer, from 5 to 300, with O(method).
    type: int
    default: 30
  start_time:
    description: When it shall begin, ISO 8601 with a time zone. If not given, at once.
    type: str
  max_execution_time:
    description: Seconds that it may take. If not given, the hub's own limit.
    type: int
  wait:
    description:
      - Seconds to wait until it is over. Must be less than O(timeout). The task fails if it is not over then; run it
        again to go on waiting. How far it is goes to the system log at each look.
      - 0 does not wait, and so never fails because of a device.
    type: int
    default: 0
  poll:
    description: Seconds between two looks.
    type: float
    default: 3.0
  fail_on:
    description:
      - When the task fails, after O(wait). V(any) if one device or more did not do it, V(all) if no device did, V(none)
        never.
    type: str
    choices: [any, all, none]
    default: any
seealso:
  - module: iotops.fleet.iothub_job_info
  - module: iotops.fleet.iothub_method
"""

EXAMPLES = r"""
- name: Reboot the beta ring at night, and see tomorrow what came of it
  iotops.fleet.iothub_job:
    connection_string: "{{ iothub_connection_string }}"
    id: reboot-2026-11-24
    target_condition: tags.ring = 'beta'
    method: reboot
    payload: {delay: 3}
    connect_timeout: 60
    start_time: "2026-11-24T02:00:00+01:00"
    max_execution_time: 7200

- name: Set the eco mode of a model, and wait for it
  iotops.fleet.iothub_job:
    id: eco-mode-on
    target_condition: tags.model = 'cool-60'
    desired: {fridge: {eco: true}}
    wait: 300
    timeout: 330
    sku: S1
  register: eco

- name: Call the reboot off
  iotops.fleet.iothub_job:
    id: reboot-2026-11-24
    state: cancelled
"""

RETURN = r"""
state:
  description: What became of it, V(created), V(unchanged), V(cancelled), or V(absent) if there was nothing to cancel.
  returned: success
  type: str
  sample: created
job:
  description: The job as it is now (in check mode, as it would be), or null if there is none.
  returned: success
  type: dict
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
          V(unknown). Null in check mode for a job that does not exist yet.
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
  description:
    - What became of each device, by id. Also returned when the task fails because of some of them.
  returned: O(wait) is not 0 and the job is over
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
estimated_seconds:
  description: How long the throttles of a hub of this O(sku) make the batch last, in check mode too. 0 for a short one.
  returned: O(sku) is given
  type: int
  sample: 0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_errors import HubError
from ..module_utils.iothub_jobs import Jobs, Order
from ..module_utils.iothub_methods import Method
from ..module_utils.iothub_module import Result, options, run, sku_options
from ..module_utils.iothub_quota import Estimate


def order(given: dict[str, t.Any]) -> Order:
    """Read the module's options."""
    of_method = {name: given[name] for name in ("payload", "connect_timeout", "response_timeout")}
    names = ("id", "target_condition", "tags", "desired", "start_time", "max_execution_time")
    method = Method(given["method"], **of_method) if given["method"] else None
    return Order(method=method, **{name: given[name] for name in names})


def main() -> t.NoReturn:
    """Read the options, make the job so, wait, exit."""
    module = AnsibleModule(
        argument_spec=options(
            id={"type": "str", "required": True},
            state={"type": "str", "choices": ["present", "cancelled"], "default": "present"},
            target_condition={"type": "str"},
            tags={"type": "dict"},
            desired={"type": "dict"},
            method={"type": "str"},
            payload={"type": "raw"},
            connect_timeout={"type": "int", "default": 0},
            response_timeout={"type": "int", "default": 30},
            start_time={"type": "str"},
            max_execution_time={"type": "int"},
            wait={"type": "int", "default": 0},
            poll={"type": "float", "default": 3.0},
            fail_on={"type": "str", "choices": ["any", "all", "none"], "default": "any"},
            **sku_options(),
        ),
        mutually_exclusive=[("method", "tags"), ("method", "desired")],
        required_by={"payload": "method"},
        supports_check_mode=True,
    )
    given = module.params

    def work(hub: Hub) -> Result:
        if given["wait"] and given["wait"] >= given["timeout"]:
            raise HubError(f"wait ({given['wait']} s) must be less than timeout ({given['timeout']} s)")
        jobs = Jobs(hub, module.check_mode, Estimate(given["sku"], given["units"]))
        if given["state"] == "cancelled":
            return jobs.cancelled(given["id"])
        result = jobs.present(order(given))
        if module.check_mode or not given["wait"]:
            return result
        return jobs.follow(result, given["wait"], given["poll"], given["fail_on"], module.log)

    run(module, work)


if __name__ == "__main__":
    main()
