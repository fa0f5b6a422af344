# SPDX-License-Identifier: Apache-2.0
"""Scheduled jobs through azure-iot-hub."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import MethodResponse
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ExportImportDevice,
    JobRequest,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]


def jobs_of(hub: Any) -> Any:
    return IoTHubJobManager.from_connection_string(hub.connection_string)


def fleet(hub: Any, name: str, size: int) -> Any:
    registry = hub.registry()
    devices = [ExportImportDevice(id=f"{name}-{n}", import_mode="create", tags={"fleet": name}) for n in range(size)]
    for start in range(0, size, 100):
        assert registry.bulk_create_or_update_devices(devices[start : start + 100]).is_successful
    return registry


def request(condition: str, *, start: float = 0, seconds: int | None = None, **what: Any) -> JobRequest:
    kind = "scheduleUpdateTwin" if "update_twin" in what else "scheduleDeviceMethod"
    moment = datetime.datetime.fromtimestamp(time.time() + start, datetime.UTC).replace(tzinfo=None)
    return JobRequest(
        type=kind,
        query_condition=condition,
        start_time=moment.isoformat(),
        max_execution_time_in_seconds=seconds,
        **what,
    )


def ended(manager: Any, job_id: str) -> Callable[[], Any]:
    def look() -> Any:
        job = manager.get_scheduled_job(job_id)
        return job if job.status in ("completed", "failed", "cancelled") else None

    return look


def parts(registry: Any, job_id: str) -> list[dict[str, Any]]:
    text = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}'"  # noqa: S608
    result = registry.query_iot_hub(QuerySpecification(query=text))
    assert result.type == "DeviceJob"
    return [{"deviceId": item.device_id, "status": item.status, **item.additional_properties} for item in result.items]


PATCH = Twin(etag="*", tags={"done": True}, properties=TwinProperties(desired={"temperature": 4.5}))


def test_a_job_changes_twins(hub: Any, eventually: Eventually) -> None:
    registry, manager = fleet(hub, "jobtwin", 5), jobs_of(hub)
    created = manager.create_scheduled_job("jt-1", request("tags.fleet = 'jobtwin'", update_twin=PATCH))
    assert (created.job_id, created.type, created.query_condition) == (
        "jt-1",
        "scheduleUpdateTwin",
        "tags.fleet = 'jobtwin'",
    )
    job = eventually(ended(manager, "jt-1"))
    assert (job.status, job.device_job_statistics.device_count, job.device_job_statistics.succeeded_count) == (
        "completed",
        5,
        5,
    )
    twin = registry.get_twin("jobtwin-3")
    assert (twin.tags["done"], twin.properties.desired["temperature"]) == (True, 4.5)
    assert [(each["deviceId"], each["status"]) for each in parts(registry, "jt-1")] == [
        (f"jobtwin-{n}", "completed") for n in range(5)
    ]
    listed = manager.query_scheduled_jobs("scheduleUpdateTwin", "completed")
    assert (listed.type, "jt-1" in [item["jobId"] for item in listed.items]) == ("jobResponse", True)
    assert "jt-1" not in [item["jobId"] for item in manager.query_scheduled_jobs(None, "failed").items]


def test_a_job_calls_methods_and_tells_who_was_away(hub: Any, eventually: Eventually) -> None:
    registry, manager = fleet(hub, "jobmethod", 2), jobs_of(hub)
    device = hub.device("jobmethod-1")

    def answer(call: Any) -> None:
        device.send_method_response(MethodResponse.create_from_method_request(call, 200, {"got": call.payload}))

    device.on_method_request_received = answer
    device.connect()
    method = CloudToDeviceMethod(method_name="reboot", payload={"in": 3}, response_timeout_in_seconds=10)
    manager.create_scheduled_job("jm-1", request("tags.fleet = 'jobmethod'", cloud_to_device_method=method, seconds=60))
    job = eventually(ended(manager, "jm-1"))
    counts = job.device_job_statistics
    assert (job.status, counts.device_count, counts.succeeded_count, counts.failed_count) == ("completed", 2, 1, 1)
    away, there = parts(registry, "jm-1")
    assert (away["status"], away["error"]["code"]) == ("failed", "DeviceNotOnline")
    assert there["outcome"]["deviceMethodResponse"] == {"status": 200, "payload": {"got": {"in": 3}}}


def test_a_job_for_later_can_be_cancelled(hub: Any) -> None:
    registry, manager = fleet(hub, "joblater", 1), jobs_of(hub)
    made = manager.create_scheduled_job("jl-1", request("tags.fleet='joblater'", start=3600, update_twin=PATCH))
    # as Azure answers (e2etests/test/job_client.js of azure-iot-sdk-node)
    assert (made.status, manager.get_scheduled_job("jl-1").status) == ("queued", "scheduled")
    cancelled = manager.cancel_scheduled_job("jl-1")
    assert (cancelled.status, manager.get_scheduled_job("jl-1").status) == ("cancelled", "cancelled")
    assert "done" not in registry.get_twin("joblater-0").tags


def test_a_job_waits_for_its_time(hub: Any, eventually: Eventually) -> None:
    registry, manager = fleet(hub, "jobsoon", 1), jobs_of(hub)
    manager.create_scheduled_job("js-1", request("tags.fleet='jobsoon'", start=1.5, update_twin=PATCH))
    assert "done" not in registry.get_twin("jobsoon-0").tags
    assert eventually(ended(manager, "js-1")).status == "completed"
    assert registry.get_twin("jobsoon-0").tags["done"]


def test_a_running_job_is_cancelled_or_runs_out_of_time(hub: Any, eventually: Eventually) -> None:
    registry, manager = fleet(hub, "jobslow", 1), jobs_of(hub)
    slow = CloudToDeviceMethod(method_name="x", connect_timeout_in_seconds=120, response_timeout_in_seconds=5)
    condition = "tags.fleet = 'jobslow'"
    manager.create_scheduled_job("jr-1", request(condition, cloud_to_device_method=slow))
    eventually(lambda: manager.get_scheduled_job("jr-1").device_job_statistics.running_count == 1)
    assert manager.cancel_scheduled_job("jr-1").status == "cancelled"
    assert [part["status"] for part in parts(registry, "jr-1")] == ["canceled"]
    manager.create_scheduled_job("jr-2", request(condition, cloud_to_device_method=slow, seconds=1))
    job = eventually(ended(manager, "jr-2"))
    assert (job.status, job.failure_reason) == ("failed", "the job did not end within 1 s")
    assert [part["status"] for part in parts(registry, "jr-2")] == ["failed"]


def test_refusals_of_jobs_have_azures_codes(hub: Any) -> None:
    manager = jobs_of(hub)
    manager.create_scheduled_job("je-1", request("tags.fleet = 'nobody'", update_twin=PATCH))
    for code, word, act in (
        (409, "JobAlreadyExists", lambda: manager.create_scheduled_job("je-1", request("*", update_twin=PATCH))),
        (404, "JobNotFound", lambda: manager.get_scheduled_job("nothing")),
        (404, "JobNotFound", lambda: manager.cancel_scheduled_job("nothing")),
        (400, "ArgumentInvalid", lambda: manager.create_scheduled_job("je-2", request("tags.", update_twin=PATCH))),
    ):
        with pytest.raises(HttpOperationError) as error:
            act()
        assert error.value.response.status_code == code
        assert error.value.response.json()["Message"].startswith(f"ErrorCode:{word};")


def test_other_sdks_get_a_list_of_jobs_in_pages(hub: Any) -> None:
    manager = jobs_of(hub)
    for number in range(3):
        manager.create_scheduled_job(f"jq-{number}", request("tags.fleet = 'nobody'", update_twin=PATCH))
    names: list[str] = []
    headers = {"x-ms-max-item-count": "2"}
    while True:
        answer = hub.request("GET", "/jobs/v2/query", headers=headers)
        assert answer.headers["x-ms-item-type"] == "JobResponse"
        names += [job["jobId"] for job in answer.json()]
        if "x-ms-continuation" not in answer.headers:
            break
        headers["x-ms-continuation"] = answer.headers["x-ms-continuation"]
    assert len(names) == len(set(names))
    assert {"jq-0", "jq-1", "jq-2"} <= set(names)
    # the Azure CLI's client is made of a later swagger by the same generator (sdk/iothub/service of its extension)
    agent = "python/3.11 (Linux) msrest/0.7.1 iothubgatewayserviceapis/2020-09-30 Azure-SDK-For-Python"
    assert isinstance(hub.request("GET", "/jobs/v2/query", headers={"User-Agent": agent}).json(), list)


def test_jobs_survive_kill_9(own_hub: Any, eventually: Eventually) -> None:
    registry, manager = fleet(own_hub, "kept", 300), jobs_of(own_hub)
    slow = CloudToDeviceMethod(method_name="x", connect_timeout_in_seconds=120, response_timeout_in_seconds=5)
    manager.create_scheduled_job("soon", request("tags.fleet = 'kept'", start=3, update_twin=PATCH))
    manager.create_scheduled_job("methods", request("deviceId = 'kept-7'", cloud_to_device_method=slow))
    eventually(lambda: manager.get_scheduled_job("methods").device_job_statistics.running_count == 1)
    manager.create_scheduled_job("twins", request("tags.fleet = 'kept'", update_twin=PATCH))
    own_hub.stop(signal.SIGKILL)
    own_hub.start()
    registry, manager = own_hub.registry(), jobs_of(own_hub)
    for name in ("twins", "soon"):
        job = eventually(ended(manager, name))
        assert (job.status, job.device_job_statistics.succeeded_count) == ("completed", 300)
    assert eventually(ended(manager, "methods")).device_job_statistics.failed_count == 1
    counted = QuerySpecification(query="SELECT COUNT() AS n FROM devices WHERE tags.done = true")
    assert registry.query_iot_hub(counted).items[0].additional_properties == {"n": 300}
