# SPDX-License-Identifier: Apache-2.0
"""The rest of azure-iot-hub's operations: bulk changes with ETags, purge, feedback over REST."""

from __future__ import annotations

from typing import Any

import pytest
from azure.iot.hub import IoTHubHttpRuntimeManager
from azure.iot.hub.models import ExportImportDevice
from msrest.exceptions import HttpOperationError


def test_bulk_changes_are_guarded_by_etags_one_by_one(hub: Any) -> None:
    registry = hub.registry()
    names = [f"etag-{number}" for number in range(3)]
    made = [ExportImportDevice(id=name, import_mode="create", status="enabled") for name in names]
    assert registry.bulk_create_or_update_devices(made).is_successful
    etag = registry.get_device("etag-0").etag
    changes = [
        ExportImportDevice(id="etag-0", import_mode="updateIfMatchETag", status="disabled", e_tag=etag),
        ExportImportDevice(id="etag-1", import_mode="updateIfMatchETag", status="disabled", e_tag="old"),
        ExportImportDevice(id="etag-2", import_mode="deleteIfMatchETag", e_tag="old"),
        ExportImportDevice(id="nobody", import_mode="update", status="disabled"),
    ]
    result = registry.bulk_create_or_update_devices(changes)
    assert not result.is_successful
    assert [(error.device_id, error.error_code) for error in result.errors] == [
        ("etag-1", "PreconditionFailed"),
        ("etag-2", "PreconditionFailed"),
        ("nobody", "DeviceNotFound"),
    ]
    assert [registry.get_device(name).status for name in names] == ["disabled", "enabled", "enabled"]
    twins = [
        ExportImportDevice(id="etag-0", import_mode="updateTwin", tags={"a": 1}),
        ExportImportDevice(id="etag-1", import_mode="updateTwinIfMatchETag", tags={"a": 1}, twin_etag="old"),
    ]
    result = registry.bulk_create_or_update_devices(twins)
    assert [error.device_id for error in result.errors] == ["etag-1"]
    assert [registry.get_twin(name).tags for name in names[:2]] == [{"a": 1}, {}]
    gone = [ExportImportDevice(id=name, import_mode="delete") for name in names]
    assert registry.bulk_create_or_update_devices(gone).is_successful


def test_a_bulk_is_not_larger_than_100(hub: Any) -> None:
    many = [ExportImportDevice(id=f"many-{number}", import_mode="create") for number in range(101)]
    with pytest.raises(HttpOperationError) as error:
        hub.registry().bulk_create_or_update_devices(many)
    assert error.value.response.status_code == 413
    assert error.value.response.json()["Message"].startswith("ErrorCode:TooManyDevices;")


def test_a_queue_can_be_purged_and_feedback_read(hub: Any) -> None:
    registry = hub.registry()
    runtime = IoTHubHttpRuntimeManager.from_connection_string(hub.connection_string)
    registry.create_device_with_sas("purged", None, None, "enabled")
    registry.send_c2d_message("purged", "one", {"ack": "full", "messageId": "p-1"})
    registry.send_c2d_message("purged", "two")
    assert registry.get_device("purged").cloud_to_device_message_count == 2
    purge = registry.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue
    result = purge("purged")
    assert (result.device_id, result.total_messages_purged) == ("purged", 2)
    with pytest.raises(HttpOperationError, match="Not Found"):
        purge("nobody")
    with pytest.raises(HttpOperationError) as error:
        runtime.complete_feedback_notification("no-such-token")
    assert error.value.response.status_code == 412
    registry.delete_device("purged")


def test_a_list_of_devices_can_be_cut(hub: Any) -> None:
    registry = hub.registry()
    for number in range(3):
        registry.create_device_with_sas(f"cut-{number}", None, None, "enabled")
    assert len(registry.get_devices(2)) == 2
    # "any value outside the range of 1-1000 is considered to be 1000", says the SDK
    assert len(registry.get_devices(1001)) == len(registry.get_devices())
