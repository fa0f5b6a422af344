# SPDX-License-Identifier: Apache-2.0
"""Changes of twins, identities and connections, read with azure-eventhub."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from azure.iot.hub.models import Configuration, ConfigurationContent, Twin, TwinProperties

Eventually = Callable[..., Any]


@contextmanager
def reading(hub: Any) -> Iterator[list[Any]]:
    client, events = hub.consumer(), []
    options = {"on_event_batch": lambda partition, batch: events.extend(batch), "starting_position": "-1"}
    thread = threading.Thread(target=client.receive_batch, kwargs=options, daemon=True)
    thread.start()
    try:
        yield events
    finally:
        client.close()
        thread.join(20)


def told(events: list[Any], source: str, module: str | None = None) -> list[tuple[str, Any]]:
    """What was done, and the body, of all events of one source."""
    found = []
    for event in list(events):
        system = event.system_properties
        if system[b"iothub-message-source"].decode() != source:
            continue
        name = system.get(b"iothub-connection-module-id")
        if (name.decode() if name else None) == module:
            assert event.properties[b"deviceId"] == system[b"iothub-connection-device-id"] == b"fridge"
            assert event.properties[b"hubName"] == b"local-hub"
            assert event.content_type == "application/json"
            found.append((event.properties[b"opType"].decode(), json.loads(event.body_as_str())))
    return found


def test_routes_tell_of_twins_identities_and_connections(hub_with: Any, eventually: Eventually) -> None:
    routes = ("twin-changes", "device-lifecycle", "device-connection-state")
    routed_hub = hub_with(*(option for route in routes for option in ("--route", route)))
    registry = routed_hub.registry()
    registry.create_device_with_sas("fridge", None, None, "enabled")
    registry.create_module_with_sas("fridge", "door", "", None, None)
    registry.update_twin("fridge", Twin(tags={"ring": "demo"}, properties=TwinProperties(desired={"t": 4})))
    registry.replace_twin("fridge", Twin(tags={"ring": "beta"}))
    registry.update_module_twin("fridge", "door", Twin(properties=TwinProperties(desired={"open": False})))
    device = routed_hub.device("fridge")
    device.connect()
    device.patch_twin_reported_properties({"temperature": 5})
    device.send_message("telemetry goes on")
    device.disconnect()
    content = ConfigurationContent(device_content={"properties.desired.t": 6})
    routed_hub.configurations().create_configuration(
        Configuration(id="six", content=content, target_condition="tags.ring = 'beta'", priority=1)
    )
    with reading(routed_hub) as events:
        eventually(lambda: len(told(events, "twinChangeEvents")) == 4)
        registry.delete_device("fridge")
        eventually(lambda: len(told(events, "deviceLifecycleEvents")) == 2)
    patched, replaced, reported, configured = told(events, "twinChangeEvents")
    assert patched[0] == "updateTwin"
    assert (patched[1]["tags"], patched[1]["properties"]["desired"]["t"]) == ({"ring": "demo"}, 4)
    assert patched[1]["properties"]["desired"]["$metadata"]["t"]["$lastUpdatedVersion"] == 2
    assert (replaced[0], replaced[1]["deviceId"], replaced[1]["tags"]) == ("replaceTwin", "fridge", {"ring": "beta"})
    assert reported[1]["properties"]["reported"]["temperature"] == 5
    assert configured[1]["properties"]["desired"]["t"] == 6
    assert [operation for operation, _ in told(events, "deviceLifecycleEvents")] == [
        "createDeviceIdentity",
        "deleteDeviceIdentity",
    ]
    assert [operation for operation, _ in told(events, "deviceConnectionStateEvents")] == [
        "deviceConnected",
        "deviceDisconnected",
    ]
    assert [body["properties"]["desired"]["open"] for _, body in told(events, "twinChangeEvents", "door")] == [False]
    assert len(told(events, "deviceLifecycleEvents", "door")) == 2
    sources = {event.system_properties[b"iothub-message-source"] for event in events}
    assert b"Telemetry" in sources


def test_without_routes_there_is_telemetry_only(hub: Any, eventually: Eventually) -> None:
    hub.registry().create_device_with_sas("fridge", None, None, "enabled")
    hub.registry().update_twin("fridge", Twin(tags={"ring": "demo"}))
    device = hub.device("fridge")
    device.connect()
    device.send_message("only this")
    with reading(hub) as events:
        own = [b"fridge"]
        eventually(lambda: [e for e in events if [e.system_properties[b"iothub-connection-device-id"]] == own])
    assert {event.system_properties[b"iothub-message-source"] for event in events} == {b"Telemetry"}
    hub.registry().delete_device("fridge")


def test_routes_are_remembered_and_can_be_switched_off(hub_with: Any) -> None:
    for options, routes in (
        (("--route", "twin-changes"), ["twin-changes"]),
        ((), ["twin-changes"]),
        (("--route", "none"), []),
    ):
        hub = hub_with(*options)
        assert json.loads((hub.data / "hub.json").read_text())["routes"] == routes
