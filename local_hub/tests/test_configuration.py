# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations: who wins, and what that does to a twin."""

from __future__ import annotations

from typing import Any

import pytest
from local_hub.core.configuration import (
    EDGE,
    MODULE,
    Configuration,
    assign,
    deploy,
    new_configuration,
    require_quoted_match,
)
from local_hub.core.errors import (
    ArgumentInvalid,
    InvalidConfigurationContent,
    InvalidConfigurationCustomMetricsQuery,
    InvalidConfigurationTargetCondition,
    PreconditionFailed,
)
from local_hub.core.query import UNDEFINED
from local_hub.core.twin import Twin

NOW = "2026-01-01T00:00:00.000Z"


def body(value: Any = 1, condition: str = "tags.ring='fleet'", priority: int = 0, **more: Any) -> dict[str, Any]:
    content = {"deviceContent": {"properties.desired.fridge.release": value}}
    return {"content": content, "targetCondition": condition, "priority": priority, **more}


def configuration(name: str, order: int, **fields: Any) -> Configuration:
    return new_configuration(name, body(**fields), NOW, order)


def assigned(twin: Twin, *configurations: Configuration) -> tuple[dict[str, Any], dict[str, Any]]:
    return assign(configurations, twin, lambda root: twin.tags if root == "tags" else UNDEFINED)


FLEET = Twin().with_service_patch({"ring": "fleet"}, None, NOW)


def test_the_highest_priority_wins_and_the_newest_of_equals() -> None:
    low = configuration("low", 3, value=1, priority=1)
    high = configuration("high", 1, value=2, priority=9)
    equal = configuration("equal", 2, value=3, priority=9)
    section, patch = assigned(FLEET, low, high, equal)
    assert patch == {"fridge": {"release": 3}}
    assert section == {"low": {"status": "Targeted"}, "high": {"status": "Targeted"}, "equal": {"status": "Applied"}}


def test_who_is_not_targeted_keeps_what_he_has() -> None:
    assert assigned(Twin(), configuration("one", 1)) == ({}, {})


def test_content_replaces_the_whole_value_at_its_path_and_nothing_beside_it() -> None:
    twin = FLEET.with_service_patch(None, {"fridge": {"release": {"id": "r1", "old": True}, "other": 1}}, NOW)
    _, patch = assigned(twin, configuration("one", 1, value={"id": "r2"}))
    assert patch == {"fridge": {"release": {"id": "r2", "old": None}}}


def test_nothing_is_written_when_the_twin_is_as_wanted() -> None:
    twin = FLEET.with_service_patch(None, {"fridge": {"release": 1}}, NOW)
    assert assigned(twin, configuration("one", 1))[1] == {}


def test_condition_labels_priority_and_metrics_can_change_content_cannot() -> None:
    first = configuration("one", 1, labels={"wave": "1"})
    metrics = {"queries": {"idle": "SELECT deviceId FROM devices WHERE tags.a = 1"}}
    second = first.changed(body(condition="*", priority=5, labels={"wave": "2"}, metrics=metrics), NOW)
    assert (second.priority, second.labels, second.etag != first.etag) == (5, {"wave": "2"}, True)
    with pytest.raises(ArgumentInvalid, match="content"):
        first.changed(body(value=2), NOW)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"deviceContent": {}},
        {"modulesContent": {}},
        {"deviceContent": {"tags.x": 1}},
        {"deviceContent": {"properties.desired": 1}},
        {"deviceContent": {"properties.desired..x": 1}},
        {"deviceContent": {"properties.desired.x": 1}, "moduleContent": {"properties.desired.x": 1}},
        {"modulesContent": {"a": {"tags.x": 1}}},
        {"modulesContent": {"a": 1}},
        {"modulesContent": {f"m{number}": {"properties.desired.x": 1} for number in range(51)}},
    ],
)
def test_content_is_for_desired_properties_only(content: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigurationContent):
        new_configuration("one", {"content": content}, NOW, 1)


@pytest.mark.parametrize(
    "fields",
    [{"condition": "tags.ring ="}, {"priority": -1}, {"labels": {"a": 1}}, {"metrics": {"queries": {"a": "x"}}}],
)
def test_other_mistakes_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ArgumentInvalid):
        configuration("one", 1, **fields)


def edge(name: str, order: int, priority: int, content: dict[str, Any]) -> Configuration:
    return new_configuration(
        name, {"content": {"modulesContent": content}, "targetCondition": "*", "priority": priority}, NOW, order
    )


@pytest.mark.parametrize("kind", ["deviceContent", "moduleContent"])
def test_content_may_be_the_whole_of_desired_properties(kind: str) -> None:
    """As Microsoft's own tests for Node have it (e2etests/test/configurations.js)."""
    body = {"content": {kind: {"properties.desired": {"a": 1, "none": None}}}}
    configuration = new_configuration("whole", body, NOW, 1)
    assert configuration.apply({"a": 2, "old": 1}) == {"a": 1, "old": None}


def test_layers_lie_on_the_strongest_deployment() -> None:
    whole = {"$edgeAgent": {"properties.desired": {"modules": {"a": {"v": 1}, "none": None}}}}
    weak = edge("weak", 1, 1, {"$edgeAgent": {"properties.desired": {"modules": {"old": {}}}}})
    base = edge("base", 2, 5, {**whole, "a": {"properties.desired.speed": 1}})
    below = edge("below", 3, 4, {"a": {"properties.desired.below": 1}})
    layer = edge(
        "layer", 4, 6, {"$edgeAgent": {"properties.desired.modules.b": {"v": 2}}, "a": {"properties.desired.speed": 2}}
    )
    deployment = deploy([layer, base, below, weak], lambda root: UNDEFINED)
    assert deployment.section == {
        "weak": {"status": "Targeted"},
        "below": {"status": "Targeted"},
        "base": {"status": "Applied"},
        "layer": {"status": "Applied"},
    }
    assert deployment.modules() == {"$edgeAgent", "a", "b"}
    assert deployment.wanted("$edgeAgent", {"stale": 1}) == {"modules": {"a": {"v": 1}, "b": {"v": 2}}}
    assert deployment.wanted("a", {"kept": 1}) == {"kept": 1, "speed": 2}
    assert deploy([layer], lambda root: UNDEFINED).layers == ()
    assert (base.kind, base.is_layer, layer.is_layer) == (EDGE, False, True)
    assert set(base.system_metrics()) == {
        "targetedCount",
        "appliedCount",
        "reportedSuccessfulCount",
        "reportedFailedCount",
    }


def test_modules_have_configurations_of_their_own() -> None:
    made = new_configuration(
        "m",
        {
            "content": {"moduleContent": {"properties.desired.x": 1}},
            "targetCondition": "FROM devices.modules WHERE tags.a = 1",
        },
        NOW,
        1,
    )
    twin = Twin().with_service_patch({"a": 1}, None, NOW)
    assert assign([made], twin, {"tags": {"a": 1}}.get, MODULE) == ({"m": {"status": "Applied"}}, {"x": 1})
    assert assign([made], twin, {"tags": {"a": 1}}.get) == ({}, {})
    assert made.system_queries()["targetedCount"] == "select deviceId from devices.modules WHERE tags.a = 1"
    assert made.system_metrics()["targetedCount"].source == "devices.modules"


def test_the_condition_is_for_what_the_content_is_for() -> None:
    for content, condition in (("moduleContent", "tags.a = 1"), ("deviceContent", "FROM devices.modules")):
        with pytest.raises(InvalidConfigurationTargetCondition):
            new_configuration(
                "m", {"content": {content: {"properties.desired.x": 1}}, "targetCondition": condition}, NOW, 1
            )
    with pytest.raises(InvalidConfigurationCustomMetricsQuery):
        configuration("one", 1, metrics={"queries": {"jobs": "SELECT * FROM devices.jobs"}})


def test_a_configuration_survives_its_record() -> None:
    first = configuration("one", 7, labels={"a": "b"}, metrics={"queries": {"n": "SELECT * FROM devices"}})
    assert Configuration.from_record(first.to_record()) == first


def test_an_etag_must_match() -> None:
    for good in (None, "*", '"abc"', 'W/"abc"'):
        require_quoted_match(good, "abc")
    with pytest.raises(PreconditionFailed):
        require_quoted_match('"abd"', "abc")
