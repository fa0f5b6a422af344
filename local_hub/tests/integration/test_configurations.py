# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations through azure-iot-hub, on a real device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    ExportImportDevice,
    QuerySpecification,
    Twin,
)
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]
SELECT = "SELECT * FROM devices WHERE {}"
WAVE = "tags.rollout='{}' AND tags.bucket < {}"


@pytest.fixture
def manager(hub: Any) -> Iterator[Any]:
    manager = hub.configurations()
    yield manager
    for configuration in manager.get_configurations():
        manager.delete_configuration(configuration.id)


def configuration(name: str, condition: str, value: Any, priority: int = 1) -> Configuration:
    idle = f"properties.reported.fridge.update.state = 'idle' AND tags.rollout = '{name}'"
    return Configuration(
        id=name,
        schema_version="1.0",
        labels={"iotops": "release"},
        content=ConfigurationContent(device_content={"properties.desired.fridge.release": value}),
        target_condition=condition,
        priority=priority,
        metrics=ConfigurationMetrics(queries={"idle": SELECT.format(idle)}),
    )


def fleet(hub: Any, name: str, size: int = 10) -> Any:
    registry = hub.registry()
    devices = [
        ExportImportDevice(
            id=f"{name}-{n}", import_mode="create", status="enabled", tags={"rollout": name, "bucket": n}
        )
        for n in range(size)
    ]
    assert registry.bulk_create_or_update_devices(devices).is_successful
    return registry


def releases(registry: Any, name: str) -> list[Any]:
    # by their tag: others' devices on this hub may fill the first page
    those = QuerySpecification(query=SELECT.format(f"tags.rollout = '{name}'"))
    twins = registry.query_iot_hub(those).items
    return [twin.properties.desired.get("fridge", {}).get("release") for twin in twins]


def test_a_wave_widens_by_its_condition(hub: Any, manager: Any, eventually: Eventually) -> None:
    registry = fleet(hub, "wave")
    made = manager.create_configuration(configuration("wave", WAVE.format("wave", 3), "r1"))
    eventually(lambda: releases(registry, "wave").count("r1") == 3)
    made.target_condition = WAVE.format("wave", 10)
    manager.update_configuration(made, f'"{made.etag}"')
    eventually(lambda: releases(registry, "wave").count("r1") == 10)
    measured = manager.get_configuration("wave")
    assert measured.system_metrics.results == {"targetedCount": 10, "appliedCount": 10}
    assert measured.metrics.results == {"idle": 0}
    assert measured.labels == {"iotops": "release"}
    applied = "SELECT deviceId FROM devices WHERE configurations.[[wave]].status = 'Applied'"
    assert len(registry.query_iot_hub(QuerySpecification(query=applied)).items) == 10


def test_a_connected_device_hears_of_it_and_of_what_comes_after(hub: Any, manager: Any, eventually: Eventually) -> None:
    registry = fleet(hub, "live", 1)
    device = hub.device("live-0")
    patches: list[Any] = []
    device.on_twin_desired_properties_patch_received = patches.append
    device.connect()
    eventually(lambda: patches)  # the SDK makes one of all that is desired when it has connected
    manager.create_configuration(configuration("low", WAVE.format("live", 9), {"id": "r1"}, priority=1))
    assert eventually(lambda: patches[1:])[0]["fridge"] == {"release": {"id": "r1"}}
    manager.create_configuration(configuration("high", WAVE.format("live", 9), {"id": "r2"}, priority=2))
    assert eventually(lambda: patches[2:])[0]["fridge"] == {"release": {"id": "r2"}}
    manager.delete_configuration("high")
    assert eventually(lambda: patches[3:])[0]["fridge"] == {"release": {"id": "r1"}}
    manager.delete_configuration("low")
    gone = "SELECT deviceId FROM devices WHERE is_defined(configurations.low) AND tags.rollout='live'"
    eventually(lambda: not registry.query_iot_hub(QuerySpecification(query=gone)).items)
    assert releases(registry, "live") == [{"id": "r1"}]


def test_new_devices_and_new_tags_are_met_at_once(hub: Any, manager: Any) -> None:
    registry = hub.registry()
    manager.create_configuration(configuration("fresh", "tags.rollout='fresh'", "r1"))
    fleet(hub, "fresh", 1)
    assert releases(registry, "fresh") == ["r1"]
    registry.create_device_with_sas("fresh-late", None, None, "enabled")
    registry.update_twin("fresh-late", Twin(tags={"rollout": "fresh"}))
    assert releases(registry, "fresh") == ["r1", "r1"]


def test_content_is_fixed_and_etags_guard(hub: Any, manager: Any) -> None:
    made = manager.create_configuration(configuration("fixed", "tags.none = 1", "r1"))
    with pytest.raises(HttpOperationError, match="Conflict"):
        manager.create_configuration(configuration("fixed", "tags.none = 1", "r1"))
    with pytest.raises(HttpOperationError, match="Conflict"):
        # azure-iot-hub does not quote the ETag, and an ETag without quotes is none: as in Azure
        manager.update_configuration(made, made.etag)
    with pytest.raises(HttpOperationError, match="Precondition Failed"):
        manager.update_configuration(made, '"older"')
    with pytest.raises(HttpOperationError, match="Bad Request"):
        manager.update_configuration(configuration("fixed", "tags.none = 1", "r2"), f'"{made.etag}"')
    with pytest.raises(HttpOperationError, match="Not Found"):
        manager.get_configuration("nowhere")


def test_queries_can_be_tried(manager: Any) -> None:
    tried = manager.test_configuration_queries(
        ConfigurationQueriesTestInput(
            target_condition="tags.ring =",
            custom_metric_queries={"good": "SELECT deviceId FROM devices", "bad": "SELECT"},
        )
    )
    assert tried.target_condition_error
    assert list(tried.custom_metric_query_errors) == ["bad"]
