# SPDX-License-Identifier: Apache-2.0
"""What each shared access policy may do, as Microsoft's SDKs find out, and devices that a policy speaks for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import QuerySpecification, Twin
from local_hub.core.sas import key_bytes, sign
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]
Act = Callable[[], object]

GRANTS = {
    "iothubowner": {"read", "write", "service"},
    "service": {"service"},
    "device": set(),
    "registryRead": {"read"},
    "registryReadWrite": {"read", "write"},
}


def environment(hub: Any, policy: str) -> dict[str, str]:
    told: dict[str, str] = json.loads(hub.command("env", "--policy", policy, "--format", "json").stdout)
    return told


def token(hub: Any, policy: str, path: str = "", lifetime: int = 60) -> str:
    key = environment(hub, policy)["IOTHUB_CONNECTION_STRING"].partition("SharedAccessKey=")[2]
    return sign(hub.host + path, key_bytes(key) or b"", int(time.time()) + lifetime, policy)


def allowed(act: Act) -> bool:
    """Whether it was let in. That something else is wrong with it afterwards shows that it was."""
    try:
        act()
    except HttpOperationError as error:
        return bool(error.response.status_code != 401)
    return True


def acts_of(registry: IoTHubRegistryManager, name: str) -> dict[str, list[Act]]:
    protocol = registry.protocol
    return {
        "read": [
            lambda: registry.get_device(name),
            lambda: registry.get_devices(1),
            lambda: registry.get_modules(name),
            lambda: registry.get_service_statistics(),
            lambda: registry.get_device_registry_statistics(),
            lambda: protocol.configuration.get_configurations(),
            lambda: protocol.jobs.get_import_export_jobs(),
        ],
        "write": [
            lambda: registry.create_device_with_sas(f"{name}-2", None, None, "enabled"),
            lambda: registry.create_module_with_sas(name, "m", "me", None, None),
            lambda: registry.delete_device(f"{name}-2"),
            lambda: protocol.configuration.delete("nobodys"),
            lambda: protocol.jobs.cancel_import_export_job("nobodys"),
        ],
        "service": [
            lambda: registry.get_twin(name),
            lambda: registry.update_twin(name, Twin(tags={"a": 1})),
            lambda: registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices")),
            lambda: protocol.jobs.query_scheduled_jobs(),
            lambda: protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue(name),
        ],
    }


@pytest.mark.parametrize("policy", GRANTS)
def test_a_policy_does_what_it_grants_and_nothing_else(hub: Any, policy: str) -> None:
    name = f"policed-{policy}"
    hub.registry().create_device_with_sas(name, None, None, "enabled")
    registry = IoTHubRegistryManager.from_connection_string(environment(hub, policy)["IOTHUB_CONNECTION_STRING"])
    for right, acts in acts_of(registry, name).items():
        assert [allowed(act) for act in acts] == [right in GRANTS[policy]] * len(acts), right


@pytest.mark.parametrize("policy", ["service", "registryReadWrite"])
def test_only_services_send_to_devices(hub: Any, policy: str) -> None:
    name = f"called-{policy}"
    device = hub.registry().create_device_with_sas(name, None, None, "enabled")
    assert device.cloud_to_device_message_count == 0
    registry = IoTHubRegistryManager.from_connection_string(environment(hub, policy)["IOTHUB_CONNECTION_STRING"])
    if policy == "service":
        registry.send_c2d_message(name, "come home")
    else:
        with pytest.raises(Exception, match=r"C2D message send failure|401"):
            registry.send_c2d_message(name, "come home")
    waiting = hub.registry().get_device(name).cloud_to_device_message_count
    assert waiting == (policy == "service")


def test_only_services_read_events(hub: Any) -> None:
    consumers = {policy: hub.consumer(policy=policy) for policy in ("service", "registryReadWrite")}
    assert consumers["service"].get_partition_ids() == ["0", "1"]
    with pytest.raises(EventHubError):
        consumers["registryReadWrite"].get_partition_ids()
    for consumer in consumers.values():
        consumer.close()


def test_a_token_is_good_for_what_it_names(hub: Any) -> None:
    hub.registry().create_device_with_sas("named", None, None, "enabled")
    hub.registry().create_device_with_sas("named-2", None, None, "enabled")

    def status(path: str, resource: str, method: str = "GET") -> int:
        return int(
            hub.request(method, path, headers={"Authorization": token(hub, "iothubowner", resource)}).status_code
        )

    assert status("/devices/named", "/devices") == 200
    assert status("/devices/named", "/devices/named") == 200
    assert status("/devices/named-2", "/devices/named") == 401
    assert status("/twins/named", "/devices") == 401


def connected(hub: Any, device_id: str, sas: str) -> IoTHubDeviceClient:
    authority = Path(hub.environment["IOTHUB_CA_FILE"]).read_text()
    client = IoTHubDeviceClient.create_from_sastoken(sas, server_verification_cert=authority, connection_retry=False)
    hub.keep(client)
    client.connect()
    return client


def test_a_token_service_lets_devices_in_over_mqtt(hub: Any, eventually: Eventually) -> None:
    """https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#create-a-token-service-to-integrate-existing-devices"""
    registry = hub.registry()
    registry.create_device_with_sas("guest", None, None, "enabled")
    registry.create_device_with_sas("other-guest", None, None, "enabled")
    connected(hub, "guest", token(hub, "device", "/devices/guest"))
    eventually(lambda: registry.get_device("guest").connection_state == "Connected")
    # whole hub, as an owner of a gateway may have it
    answer = hub.request(
        "POST", "/devices/other-guest/messages/events", data=b"hello", headers={"Authorization": token(hub, "device")}
    )
    assert answer.status_code == 204
    for policy, path in (("device", "/devices/guest"), ("service", "/devices/other-guest")):
        answer = hub.request(
            "POST",
            "/devices/other-guest/messages/events",
            data=b"hello",
            headers={"Authorization": token(hub, policy, path)},
        )
        assert answer.status_code == 401
    with pytest.raises(CredentialError):
        connected(hub, "guest", token(hub, "registryReadWrite", "/devices/guest"))


def test_no_policy_speaks_for_a_device_that_shows_a_certificate(hub: Any) -> None:
    hub.registry().create_device_with_x509("certified", "A" * 40, "B" * 40, "enabled")
    headers = {"Authorization": token(hub, "device", "/devices/certified")}
    answer = hub.request("POST", "/devices/certified/messages/events", data=b"hello", headers=headers)
    assert answer.status_code == 401


def test_a_device_looks_after_its_own_modules_and_nothing_else(hub: Any) -> None:
    """As iothub_registrymanager.c of the C SDK does with a device's connection string, and IoT Edge."""
    registry = hub.registry()
    device = registry.create_device_with_sas("with-modules", None, None, "enabled")
    registry.create_device_with_sas("neighbour", None, None, "enabled")
    key = key_bytes(device.authentication.symmetric_key.primary_key) or b""
    own = {"Authorization": sign(f"{hub.host}/devices/with-modules", key, int(time.time()) + 60)}

    def status(method: str, path: str, body: dict[str, str] | None = None) -> int:
        headers = own | ({"If-Match": '"*"'} if method == "DELETE" else {})
        return int(hub.request(method, path, headers=headers, json=body).status_code)

    identity = {"deviceId": "with-modules", "moduleId": "door"}
    assert status("PUT", "/devices/with-modules/modules/door", identity) == 201
    assert status("GET", "/devices/with-modules/modules/door") == 200
    assert hub.request("GET", "/devices/with-modules/modules", headers=own).json()[0]["moduleId"] == "door"
    assert registry.get_module("with-modules", "door").authentication.symmetric_key.primary_key
    assert status("PUT", "/devices/neighbour/modules/door", identity | {"deviceId": "neighbour"}) == 401
    assert [status("GET", path) for path in ("/devices/neighbour/modules", "/devices/with-modules", "/devices")] == [
        401,
        401,
        401,
    ]
    assert status("GET", "/twins/with-modules/modules/door") == 401
    assert status("DELETE", "/devices/with-modules/modules/door") == 204
    assert hub.request("GET", "/devices/with-modules/modules", headers={"Authorization": ""}).status_code == 401
