# SPDX-License-Identifier: Apache-2.0
"""A hub with the limits of a SKU, and how Microsoft's SDKs are told of them."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
import uamqp
from azure.iot.device.exceptions import ClientError
from azure.iot.hub import DigitalTwinClient
from azure.iot.hub.models import ConfigurationContent, QuerySpecification, Twin, TwinProperties
from local_hub.core.sas import key_bytes, sign
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]
EVERYTHING = QuerySpecification(query="SELECT * FROM devices")


def used(hub: Any, value: int) -> None:
    """Pretend that so much of the day's messages is used; the hub is not running."""
    with sqlite3.connect(hub.data / "hub.sqlite") as database:
        rows = [("quota.day", int(time.time() // 86400)), ("quota.used", value)]
        database.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", rows)


def stored(hub: Any) -> int:
    with sqlite3.connect(hub.data / "hub.sqlite") as database:
        rows = database.execute("SELECT value FROM counters WHERE name = 'quota.used'").fetchall()
    return int(rows[0][0]) if rows else 0


def test_a_throttled_service_hears_429_and_when_to_come_back(hub_with: Any) -> None:
    hub = hub_with("--sku", "S1")
    registry = hub.registry()
    registry.create_device_with_sas("one", None, None, "enabled")
    for _ in range(20):
        assert len(registry.query_iot_hub(EVERYTHING).items) == 1
    with pytest.raises(HttpOperationError) as error:  # on a busy machine more is allowed by now: one in three seconds
        [registry.query_iot_hub(EVERYTHING) for _ in range(20)]
    answer = error.value.response
    assert (answer.status_code, answer.headers["Retry-After"] in "123") == (429, True)
    assert answer.json()["Message"].startswith("ErrorCode:ThrottlingException;")
    assert registry.get_twin("one").device_id == "one"  # only queries are throttled
    statuses = [hub.request("GET", "/devices/one").status_code for _ in range(98)]
    while statuses[-1] == 200 and len(statuses) < 400:
        statuses.append(hub.request("GET", "/devices/one").status_code)
    assert (statuses[:98], statuses[-1]) == ([200] * 98, 429)


def test_the_sdk_waits_as_told_and_reads_again_by_itself(hub_with: Any) -> None:
    hub = hub_with("--sku", "S1")
    registry = hub.registry()
    registry.create_device_with_sas("one", None, None, "enabled")
    answers = [registry.get_device("one").device_id for _ in range(104)]
    assert answers == ["one"] * 104


def sent(registry: Any, device: str) -> tuple[str, str]:
    """How a message to a device ended, with the condition that azure-iot-hub does not show."""
    ends: list[tuple[str, str]] = []

    def ended(result: Any, error: Any) -> None:
        # uamqp has some conditions as an enumeration, others as bytes
        condition = b"" if result == uamqp.constants.MessageSendResult.Ok else error.condition
        ends.append((result.name, getattr(condition, "value", condition).decode()))

    properties = uamqp.message.MessageProperties(to=f"/devices/{device}/messages/devicebound")
    message = uamqp.Message("wake up", properties=properties)
    message.on_send_complete = ended
    client = registry.amqp_svc_client.amqp_client
    client.queue_message(message)
    client.send_all_messages(close_on_done=False)
    return ends[0]


def test_too_many_messages_to_devices_are_throttled_over_amqp(hub_with: Any) -> None:
    registry = hub_with("--sku", "S1").registry()
    for name in "abcdefgh":
        registry.create_device_with_sas(name, None, None, "enabled")
    ends = [sent(registry, "abc"[number // 40]) for number in range(100)]
    assert [condition for _, condition in ends] == [""] * 100
    while not ends[-1][1] and len(ends) < 320:  # on a busy machine more is allowed by now
        ends.append(sent(registry, "abcdefgh"[len(ends) // 40]))
    assert ends[-1][1] == "com.microsoft:device-container-throttled"


def test_a_hub_that_used_up_its_day_refuses_what_costs_messages(hub_with: Any) -> None:
    hub = hub_with("--sku", "F1")
    registry = hub.registry()
    registry.create_device_with_sas("one", None, None, "enabled")
    hub.stop()
    used(hub, 7_999)
    hub.start()
    registry = hub.registry()
    registry.update_twin("one", Twin(tags={"last": True}))
    for act in (lambda: registry.get_twin("one"), lambda: registry.query_iot_hub(EVERYTHING)):
        with pytest.raises(HttpOperationError) as error:
            act()
        assert error.value.response.status_code == 403
        assert error.value.response.json()["Message"].startswith("ErrorCode:IotHubQuotaExceeded;")
    assert sent(registry, "one")[1] == "com.microsoft:quota-exceeded"
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message("one", "too late")
    assert registry.get_device("one").status == "enabled"  # the registry costs nothing


def test_uploads_notifications_and_digital_twins_cost_messages(hub_with: Any, eventually: Eventually) -> None:
    """https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-pricing#charges-per-operation"""
    hub = hub_with("--sku", "F1")
    registry = hub.registry()
    registry.create_device_with_sas("edge", None, None, "enabled", True)
    key = registry.create_device_with_sas("one", None, None, "enabled").authentication.symmetric_key.primary_key
    token = sign(f"{hub.host}/devices/one", key_bytes(key) or b"", int(time.time()) + 60)

    def upload(path: str, body: dict[str, Any]) -> Any:
        answer = hub.request("POST", f"/devices/one/files{path}", json=body, headers={"Authorization": token})
        assert answer.ok, answer.text
        return answer

    begun = upload("", {"blobName": "a"}).json()  # one
    upload("/notifications", {"correlationId": begun["correlationId"], "isSuccess": False})  # one
    device, heard = hub.device("one"), []
    device.connect()
    registry.update_twin("one", Twin(properties=TwinProperties(desired={"goal": 1})))  # one: nobody hears of it
    device.on_twin_desired_properties_patch_received = heard.append
    registry.update_twin("one", Twin(properties=TwinProperties(desired={"goal": 2})))  # one, and one to the device
    registry.update_twin("one", Twin(tags={"ring": "demo"}))  # one
    twins = DigitalTwinClient.from_connection_string(hub.connection_string)
    assert twins.get_digital_twin("one")["$dtId"] == "one"  # one
    twins.update_digital_twin("one", [{"op": "add", "path": "/goal", "value": 3}])  # one, and one to the device
    content = ConfigurationContent(modules_content={"$edgeAgent": {"properties.desired": {"modules": {}}}})
    hub.configurations().apply_configuration_on_edge_device("edge", content)  # one
    eventually(lambda: len(heard) == 2)
    device.disconnect()
    assert hub.stop() == 0
    assert stored(hub) == 10
    hub.start()


def test_the_count_of_the_day_survives_kill_9(hub_with: Any, eventually: Eventually) -> None:
    hub = hub_with("--sku", "F1")
    registry = hub.registry()
    registry.create_device_with_sas("one", None, None, "enabled")
    device = hub.device("one")
    device.connect()
    device.send_message("x" * 5_000)
    device.disconnect()
    time.sleep(1.1)
    registry.get_twin("one")
    eventually(lambda: stored(hub) >= 10)
    hub.stop(signal.SIGKILL)
    hub.start()
    assert stored(hub) >= 10


def test_a_throttled_device_is_told_by_its_twin(hub_with: Any) -> None:
    hub = hub_with("--sku", "F1")
    hub.registry().create_device_with_sas("one", None, None, "enabled")
    hub.stop()
    used(hub, 8_000)
    hub.start()
    device = hub.device("one")
    device.connect()
    for act in (device.get_twin, lambda: device.patch_twin_reported_properties({"a": 1})):
        with pytest.raises(ClientError) as error:
            act()
        assert str(error.value.__cause__) == "twin operation returned status 403"


def test_a_hub_that_does_not_exist_is_refused(own_hub: Any) -> None:
    own_hub.stop()
    refused = own_hub.command("serve", "--sku", "F1", "--units", "3")
    assert (refused.returncode, "there is no hub of 3 units F1" in refused.stderr) == (1, True)
    own_hub.start()  # and not remembered
