# SPDX-License-Identifier: Apache-2.0
"""The hub without its protocols, for what cannot be timed from outside: deletions in between, and damaged disks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from local_hub.core.errors import (
    DeviceNotFound,
    HubError,
    IotHubQuotaExceeded,
    JobQuotaExceeded,
    ThrottlingException,
    TooManyDevices,
)
from local_hub.core.policy import OWNER
from local_hub.core.quota import Plan, plan
from local_hub.core.sas import key_bytes, sign
from local_hub.https.server import make_application
from local_hub.hub.hub import Hub

KEY = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="


def failed(error: Exception) -> None:
    raise AssertionError(error)


def opened(path: Path, limits: Plan | None = None, clock: Callable[[], float] = time.time) -> Hub:
    hub = Hub(path / "hub.sqlite", {OWNER: KEY}, frozenset({"localhost"}), failed, limits=limits, clock=clock)
    hub.start()
    return hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = opened(tmp_path)
    yield hub
    await hub.close()


async def test_a_deleted_device_s_last_report_does_not_bring_it_back(hub: Hub) -> None:
    device = await hub.registry.put("gone", {}, None)
    await hub.registry.delete("gone", None)
    with pytest.raises(DeviceNotFound):
        await hub.twins.report(device, {"a": 1})
    assert await hub.store.read("SELECT COUNT(*) FROM devices") == [(0,)]


async def test_a_module_without_its_device_does_not_stop_a_start(tmp_path: Path) -> None:
    hub = opened(tmp_path)
    await hub.registry.put("box", {}, None)
    await hub.registry.put_module("box", "door", {}, None)
    await hub.close()
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        database.execute("DELETE FROM devices WHERE device_id = 'box'")
    again = opened(tmp_path)
    assert (len(again.registry), again.registry.modules()) == (0, [])
    await again.close()


@pytest.mark.parametrize("write", ["patch", "replace"])
async def test_a_section_of_a_twin_that_is_null_is_emptied(hub: Hub, write: str) -> None:
    """As Microsoft's own tests for Node have it (e2etests/test/twin_e2e_tests.js)."""
    device = await hub.registry.put("d", {"tags": {"t": 1}, "properties": {"desired": {"a": {"b": 1}, "c": 2}}}, None)
    version = device.twin.desired.version
    await getattr(hub.twins, write)("d", {"properties": {"desired": None}}, None)
    assert (device.twin.desired.values, device.twin.desired.version) == ({}, version + 1)
    assert device.twin.tags == {"t": 1}
    await getattr(hub.twins, write)("d", {"tags": None, "properties": None}, None)
    assert device.twin.tags == {}


async def test_a_job_goes_on_when_its_devices_go_away(hub: Hub) -> None:
    for name in ("a", "b"):
        await hub.registry.put(name, {}, None)
    slow = {"methodName": "x", "connectTimeoutInSeconds": 5}
    await hub.jobs.put("j", {"type": "scheduleDeviceMethod", "cloudToDeviceMethod": slow, "queryCondition": "*"})
    while hub.jobs.document("j")["deviceJobStatistics"]["runningCount"] < 2:
        await hub.store.commit()
    await hub.registry.delete("a", None)
    while hub.jobs.document("j")["deviceJobStatistics"]["failedCount"] < 1:
        await hub.store.commit()
    assert hub.jobs.document("j")["status"] == "running"
    assert (await hub.jobs.cancel("j"))["status"] == "cancelled"


async def test_one_transfer_runs_at_a_time(hub: Hub, tmp_path: Path) -> None:
    body = {"type": "export", "outputBlobContainerUri": tmp_path.as_uri()}
    first = await hub.transfers.create(body)
    with pytest.raises(JobQuotaExceeded):
        await hub.transfers.create(body)
    await hub.transfers.cancel(first["jobId"])
    assert hub.transfers.document(first["jobId"])["status"] == "cancelled"


async def test_content_for_an_edge_device_is_written_whole_or_not_at_all(hub: Hub) -> None:
    edge = await hub.registry.put("edge", {"capabilities": {"iotEdge": True}}, None)
    large = {"$edgeHub": {"properties.desired.x": ["y" * 4000] * 9}, "new": {"properties.desired.a": 1}}
    with pytest.raises(HubError):
        await hub.configurations.apply_content("edge", {"modulesContent": large})
    assert sorted(edge.modules) == ["$edgeAgent", "$edgeHub"]
    fitting = {"new": {"properties.desired.a": 1}}
    await hub.configurations.apply_content("edge", {"modulesContent": fitting})
    assert edge.modules["new"].twin.desired.values == {"a": 1}


async def send(hub: Hub, count: int) -> None:
    await asyncio.gather(*(hub.events.append("one", "1", b"x", {}, {}) for _ in range(count)))


async def test_a_hub_takes_no_more_telemetry_than_its_size_allows(tmp_path: Path) -> None:
    limits = replace(plan("F1", 1), messages=7_000, devices=1)
    now = 1_800_000_000.0
    hub = opened(tmp_path, limits, lambda: now)
    await hub.registry.put("one", {}, None)
    with pytest.raises(TooManyDevices):
        await hub.registry.put("two", {}, None)
    await send(hub, 6_000)  # the burst of a minute
    with pytest.raises(ThrottlingException):
        await send(hub, 1)
    now += 1.0
    await send(hub, 100)
    await hub.close()
    hub = opened(tmp_path, replace(limits, messages=6_100), lambda: now)
    with pytest.raises(IotHubQuotaExceeded):
        await hub.events.append("one", "1", b"x", {}, {})
    await hub.close()


async def test_nobody_is_told_of_a_write_that_is_not_on_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign("localhost", key_bytes(KEY) or b"", int(time.time()) + 60, "iothubowner")
    device = await hub.registry.put("one", {}, None)
    written = threading.Event()
    transaction = hub.store._transaction

    def slow(statements: Any) -> None:
        written.wait(10)
        transaction(statements)

    monkeypatch.setattr(hub.store, "_transaction", slow)
    async with TestClient(TestServer(make_application(hub))) as client:
        writing = asyncio.ensure_future(hub.twins.patch("one", {"tags": {"a": 1}}, None))
        await asyncio.sleep(0)
        assert device.twin.tags == {"a": 1}
        reading = asyncio.ensure_future(
            client.get("/twins/one?api-version=2021-04-12", headers={"Authorization": token})
        )
        await asyncio.sleep(0.2)
        assert not reading.done()
        written.set()
        answer = await asyncio.wait_for(reading, 10)
        assert (await answer.json())["tags"] == {"a": 1}
        assert writing.done()
