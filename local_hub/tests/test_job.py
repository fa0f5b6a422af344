# SPDX-License-Identifier: Apache-2.0
"""Scheduled jobs as values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.errors import ArgumentInvalid
from local_hub.core.job import COMPLETED, FAILED, QUEUED, RUNNING, SCHEDULED, DeviceJob, Job, new_job, statistics

NOW = 1_800_000_000.0
TWIN = {"type": "scheduleUpdateTwin", "updateTwin": {"tags": {"a": 1}}, "queryCondition": "tags.a = 1"}
METHOD = {"type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "reboot"}, "queryCondition": "*"}


def part(status: str = "pending", **fields: Any) -> DeviceJob:
    return DeviceJob("j", "scheduleUpdateTwin", "d", None, NOW, NOW, status, **fields)


def test_a_job_without_a_time_is_for_now() -> None:
    job = new_job("j", TWIN, NOW)
    assert (job.status, job.start, job.max_seconds, job.over) == (QUEUED, NOW, 3600, False)
    later = new_job("j", {**METHOD, "startTime": "2099-01-01T00:00:00", "maxExecutionTimeInSeconds": 60}, NOW)
    assert (later.status, later.max_seconds) == (SCHEDULED, 60)
    assert later.to_json(statistics([]))["startTime"] == "2099-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "change",
    [
        {"type": "import"},
        {"type": None},
        {"updateTwin": None},
        {"updateTwin": []},
        {"type": "scheduleDeviceMethod"},
        {"type": "scheduleDeviceMethod", "cloudToDeviceMethod": {}},
        {"queryCondition": None},
        {"queryCondition": " "},
        {"queryCondition": "tags.a ="},
        {"queryCondition": "FROM devices.jobs"},
        {"startTime": "tomorrow"},
        {"startTime": 5},
        {"maxExecutionTimeInSeconds": -1},
        {"maxExecutionTimeInSeconds": True},
        {"jobId": "another"},
    ],
)
def test_what_is_no_job_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArgumentInvalid):
        new_job("j", {**TWIN, **change}, NOW)


@given(
    st.dictionaries(
        st.sampled_from([*TWIN, *METHOD, "startTime", "maxExecutionTimeInSeconds"]),
        st.none() | st.text() | st.integers() | st.booleans() | st.dictionaries(st.text(), st.text(), max_size=2),
    )
)
def test_any_request_is_a_job_or_refused(body: dict[str, Any]) -> None:
    try:
        job = new_job("j", {**TWIN, **body}, NOW)
    except ArgumentInvalid:
        return
    assert Job.from_record(job.to_record()) == job


def test_a_job_that_goes_on_after_a_restart_keeps_its_time() -> None:
    job = Job.from_record(new_job("j", TWIN, NOW).running(NOW + 1).to_record()).running(NOW + 50)
    assert (job.status, job.running_since) == (RUNNING, NOW + 1)
    ended = job.ended(COMPLETED, NOW + 60)
    assert ended.over
    assert ended.to_json({})["endTime"] == "2027-01-15T08:01:00.000Z"


def test_parts_are_counted_and_shown() -> None:
    parts = [
        part(),
        part("running"),
        part("running").completed(NOW),
        part().failed(NOW, "X", "why"),
        part().cancelled(NOW),
    ]
    assert statistics(parts) == {
        "deviceCount": 5,
        "failedCount": 1,
        "succeededCount": 1,
        "runningCount": 1,
        "pendingCount": 1,
    }
    failed = parts[3]
    assert (failed.status, failed.to_json()["error"]) == (FAILED, {"code": "X", "description": "why"})
    assert DeviceJob.from_record(failed.to_record()) == failed
    answered = part().running(NOW).completed(NOW, {"status": 200, "payload": None})
    assert answered.to_json()["outcome"] == {"deviceMethodResponse": {"status": 200, "payload": None}}
