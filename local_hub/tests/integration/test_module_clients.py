# SPDX-License-Identifier: Apache-2.0
"""Modules through azure-iot-device's module client: twin, methods, telemetry; beside their device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubModuleClient, MethodResponse
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from local_hub.core.sas import new_key

Eventually = Callable[..., Any]


def module(hub: Any, device_id: str, module_id: str, key: str | None = None) -> Any:
    if key is None:
        key = hub.registry().get_module(device_id, module_id).authentication.symmetric_key.primary_key
    made = IoTHubModuleClient.create_from_connection_string(
        f"HostName={hub.host};DeviceId={device_id};ModuleId={module_id};SharedAccessKey={key}",
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
    )
    hub._devices.append(made)
    return made


def test_a_module_does_what_a_device_does(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    created = registry.create_device_with_sas("with-module", None, None, "enabled")
    registry.create_module_with_sas("with-module", "camera", "me", None, None)
    device, camera = hub.device("with-module"), module(hub, "with-module", "camera")
    patches: list[Any] = []
    camera.on_twin_desired_properties_patch_received = patches.append
    device.connect()
    camera.connect()
    assert registry.get_device("with-module").connection_state == "Connected"
    assert registry.get_module("with-module", "camera").connection_state == "Connected"
    camera.patch_twin_reported_properties({"lens": "clean"})
    assert registry.get_module_twin("with-module", "camera").properties.reported["lens"] == "clean"
    assert "lens" not in registry.get_twin("with-module").properties.reported
    registry.update_module_twin("with-module", "camera", Twin(properties=TwinProperties(desired={"zoom": 2})))
    assert eventually(lambda: [each for each in patches if "zoom" in each])[0]["zoom"] == 2

    def answer(request: Any) -> None:
        camera.send_method_response(MethodResponse(request.request_id, 200, {"i am": "camera"}))

    camera.on_method_request_received = answer
    call = CloudToDeviceMethod(method_name="who", response_timeout_in_seconds=5, connect_timeout_in_seconds=5)
    assert registry.invoke_device_module_method("with-module", "camera", call).payload == {"i am": "camera"}
    camera.send_message("seen")
    registry.update_device_with_sas("with-module", created.etag, None, None, "disabled")
    eventually(lambda: registry.get_module("with-module", "camera").connection_state == "Disconnected")
    camera.shutdown()
    with pytest.raises(CredentialError):
        module(hub, "with-module", "camera").connect()


def test_a_device_speaks_for_its_modules_and_nobody_elses(hub: Any) -> None:
    """With the device's key the end-to-end tests of the C SDK connect a module (testtools/iothub_test)."""
    registry = hub.registry()
    keys = {
        name: registry.create_device_with_sas(name, None, None, "enabled").authentication.symmetric_key
        for name in ("with-module-2", "without-module")
    }
    registry.create_module_with_sas("with-module-2", "camera", "me", None, None)
    for wrong in (new_key(), keys["without-module"].primary_key):
        with pytest.raises(CredentialError):
            module(hub, "with-module-2", "camera", wrong).connect()
    module(hub, "with-module-2", "camera", keys["with-module-2"].secondary_key).connect()
    assert registry.get_module("with-module-2", "camera").connection_state == "Connected"
