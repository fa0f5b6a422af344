# SPDX-License-Identifier: Apache-2.0
"""Configurations of modules and deployments to IoT Edge devices through azure-iot-hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.iot.hub.models import Configuration, ConfigurationContent, ConfigurationMetrics, Twin
from msrest.exceptions import HttpOperationError

Eventually = Callable[..., Any]
AGENT = {"schemaVersion": "1.1", "modules": {"camera": {"type": "docker"}}}


@pytest.fixture
def manager(hub: Any) -> Iterator[Any]:
    manager = hub.configurations()
    yield manager
    for configuration in manager.get_configurations():
        manager.delete_configuration(configuration.id)


@pytest.fixture
def edge(hub: Any) -> Iterator[Any]:
    registry = hub.registry()
    registry.create_device_with_sas("gateway", None, None, "enabled", iot_edge=True)
    registry.update_twin("gateway", Twin(tags={"place": "roof"}))
    yield registry
    registry.delete_device("gateway")


def desired(registry: Any, module: str, device: str = "gateway") -> dict[str, Any]:
    values = registry.get_module_twin(device, module).properties.desired
    return {name: value for name, value in values.items() if not name.startswith("$")}


def deployment(name: str, priority: int, content: dict[str, Any]) -> Configuration:
    return Configuration(
        id=name,
        content=ConfigurationContent(modules_content=content),
        target_condition="tags.place = 'roof'",
        priority=priority,
        metrics=ConfigurationMetrics(
            queries={"cameras": "SELECT moduleId FROM devices.modules WHERE moduleId = 'camera'"}
        ),
    )


def test_a_deployment_reaches_the_modules_of_edge_devices(manager: Any, edge: Any, eventually: Eventually) -> None:
    content = {"$edgeAgent": {"properties.desired": AGENT}, "camera": {"properties.desired": {"fps": 15}}}
    manager.create_configuration(deployment("base", 1, content))
    eventually(lambda: desired(edge, "$edgeAgent") == AGENT)
    assert desired(edge, "camera") == {"fps": 15}
    assert edge.get_module("gateway", "camera").managed_by == "iotEdge"
    manager.create_configuration(deployment("layer", 2, {"camera": {"properties.desired.mode": "night"}}))
    eventually(lambda: desired(edge, "camera") == {"fps": 15, "mode": "night"})
    measured = manager.get_configuration("layer")
    assert measured.system_metrics.results == {
        "targetedCount": 1,
        "appliedCount": 1,
        "reportedSuccessfulCount": 0,
        "reportedFailedCount": 0,
    }
    assert measured.metrics.results == {"cameras": 1}
    manager.create_configuration(deployment("strong", 9, {"$edgeAgent": {"properties.desired": {"modules": {}}}}))
    eventually(lambda: desired(edge, "$edgeAgent") == {"modules": {}})
    assert manager.get_configuration("base").system_metrics.results["appliedCount"] == 0


def test_module_content_is_for_modules_that_match(hub: Any, manager: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("carrier", None, None, "enabled")
    for name in ("one", "two"):
        registry.create_module_with_sas("carrier", name, "", None, None)
    registry.update_module_twin("carrier", "one", Twin(tags={"kind": "lamp"}))
    manager.create_configuration(
        Configuration(
            id="lamps",
            content=ConfigurationContent(module_content={"properties.desired.light": "on"}),
            target_condition="FROM devices.modules WHERE tags.kind = 'lamp'",
            priority=1,
        )
    )
    eventually(lambda: desired(registry, "one", "carrier") == {"light": "on"})
    registry.update_module_twin("carrier", "two", Twin(tags={"kind": "lamp"}))
    assert desired(registry, "two", "carrier") == {"light": "on"}
    assert manager.get_configuration("lamps").system_metrics.results == {"targetedCount": 2, "appliedCount": 2}
    registry.delete_device("carrier")


def test_content_can_be_applied_to_one_edge_device(manager: Any, edge: Any) -> None:
    content = ConfigurationContent(
        modules_content={"$edgeAgent": {"properties.desired": AGENT}, "camera": {"properties.desired.fps": 5}},
        device_content={"properties.desired.note": "by hand"},
    )
    manager.apply_configuration_on_edge_device("gateway", content)
    assert desired(edge, "$edgeAgent") == AGENT
    assert desired(edge, "camera") == {"fps": 5}
    assert edge.get_twin("gateway").properties.desired["note"] == "by hand"
    assert [module.module_id for module in edge.get_modules("gateway")] == ["$edgeAgent", "$edgeHub", "camera"]


def test_content_that_cannot_be_applied_is_refused_whole(hub: Any, manager: Any, edge: Any) -> None:
    edge.create_device_with_sas("plain", None, None, "enabled")
    whole = ConfigurationContent(modules_content={"$edgeAgent": {"properties.desired": AGENT}})
    large = {"$edgeAgent": {"properties.desired.a": 1}, "$edgeHub": {"properties.desired.text": ["x" * 4000] * 10}}
    for device, content, code in (
        ("nobody", whole, 404),
        ("plain", whole, 400),
        ("gateway", ConfigurationContent(device_content={"properties.desired.a": 1}), 400),
        ("gateway", ConfigurationContent(modules_content={"a": {"tags.b": 1}}), 400),
        ("gateway", ConfigurationContent(modules_content=large), 400),
    ):
        with pytest.raises(HttpOperationError) as error:
            manager.apply_configuration_on_edge_device(device, content)
        assert error.value.response.status_code == code
    assert desired(edge, "$edgeAgent") == {}
    edge.delete_device("plain")


def test_mistakes_in_configurations_have_azures_codes(manager: Any) -> None:
    good = {"device_content": {"properties.desired.a": 1}}
    bad_metric = ConfigurationMetrics(queries={"m": "SELECT"})
    for word, fields in (
        ("InvalidConfigurationContent", {"content": ConfigurationContent(device_content={"tags.a": 1})}),
        ("InvalidConfigurationTargetCondition", {"content": ConfigurationContent(**good), "target_condition": "tags."}),
        ("InvalidConfigurationCustomMetricsQuery", {"content": ConfigurationContent(**good), "metrics": bad_metric}),
    ):
        with pytest.raises(HttpOperationError) as error:
            manager.create_configuration(Configuration(id="bad", priority=1, **fields))
        assert error.value.response.status_code == 400
        assert error.value.response.json()["Message"].startswith(f"ErrorCode:{word};")
