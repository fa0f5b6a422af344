# SPDX-License-Identifier: Apache-2.0
"""Digital twins as values: the documentation's own examples, patches, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpatch import apply_patch
from local_hub.core.digital_twin import (
    announced_model,
    changes,
    command_method,
    desired_patch,
    digital_twin,
    is_model,
)
from local_hub.core.errors import (
    ArgumentInvalid,
    InvalidDigitalTwinJsonPatch,
    InvalidDigitalTwinPatch,
    InvalidDigitalTwinPatchPath,
    InvalidDigitalTwinPayload,
)
from local_hub.core.notification import digital_twin_notification
from local_hub.core.twin import Twin

FIRST, NOW, LATER = "2020-07-17T06:10:31.000Z", "2020-07-17T06:11:04.000Z", "2020-07-17T06:12:00.000Z"
MODEL = "dtmi:com:example:TemperatureController;1"


def documented() -> Twin:
    """The device twin of https://learn.microsoft.com/azure/iot/concepts-digital-twin ."""
    twin = Twin().with_model(MODEL)
    twin = twin.with_reported_patch({"serialNumber": "x8329", "thermostat1": {"__t": "c", "max": 25.3}}, FIRST)
    twin = twin.with_service_patch(None, {"thermostat1": {"__t": "c", "targetTemperature": 21.8}}, NOW)
    done = {"value": 21.8, "ac": 200, "av": 2, "ad": "done"}
    return twin.with_reported_patch({"thermostat1": {"__t": "c", "targetTemperature": done}}, NOW)


def patched(twin: Twin, *operations: dict[str, Any]) -> Twin:
    return twin.with_service_patch(None, desired_patch("d", twin, list(operations)), LATER)


def test_it_shows_what_the_documentation_shows() -> None:
    assert digital_twin("sample-device", documented()) == {
        "$dtId": "sample-device",
        "serialNumber": "x8329",
        "thermostat1": {
            "max": 25.3,
            "targetTemperature": 21.8,
            "$metadata": {
                "targetTemperature": {
                    "desiredValue": 21.8,
                    "desiredVersion": 2,
                    "ackVersion": 2,
                    "ackCode": 200,
                    "ackDescription": "done",
                    "lastUpdateTime": NOW,
                },
                "max": {"lastUpdateTime": FIRST},
            },
        },
        "$metadata": {"$model": MODEL, "serialNumber": {"lastUpdateTime": FIRST}},
    }


def test_a_root_property_and_one_that_is_only_desired() -> None:
    twin = Twin().with_service_patch(None, {"fanSpeed": 2.0, "new": {"a": 1}}, NOW)
    twin = twin.with_reported_patch({"fanSpeed": {"value": 3.0, "ac": 200, "av": 1}}, LATER)
    shown = digital_twin("d", twin)
    assert (shown["fanSpeed"], "new" in shown) == (3.0, False)
    assert shown["$metadata"] == {
        "$model": "",
        "fanSpeed": {
            "desiredValue": 2.0,
            "desiredVersion": 2,
            "ackVersion": 1,
            "ackCode": 200,
            "lastUpdateTime": LATER,
        },
        "new": {"desiredValue": {"a": 1}, "desiredVersion": 2},
    }


def test_what_no_convention_has_is_not_shown() -> None:
    deep = {"a": {"b": {"c": {"d": {"e": {}}}}}}
    twin = Twin().with_reported_patch({"a-b": 1, "_a": 1, "list": [1], "deep": deep, "ok": {"value": 1}}, NOW)
    assert set(digital_twin("d", twin)) == {"$dtId", "$metadata", "ok"}


def test_a_property_of_a_component_is_set_and_cleared() -> None:
    twin = documented()
    path = "/thermostat1/targetTemperature"
    assert desired_patch("d", twin, [{"op": "add", "path": path, "value": 21.4}]) == {
        "thermostat1": {"__t": "c", "targetTemperature": 21.4}
    }
    # the last property of a component takes the component with it
    assert desired_patch("d", twin, [{"op": "remove", "path": path}]) == {"thermostat1": None}
    two = patched(twin, {"op": "add", "path": "/thermostat1/other", "value": {"a": 1, "b": 2}})
    assert patched(two, {"op": "remove", "path": path}).desired.values == {
        "thermostat1": {"__t": "c", "other": {"a": 1, "b": 2}}
    }
    again = patched(two, {"op": "replace", "path": "/thermostat1/other", "value": {"a": 3}})
    assert again.desired.values["thermostat1"]["other"] == {"a": 3}


def test_a_component_is_replaced_as_a_whole() -> None:
    twin = patched(documented(), {"op": "add", "path": "/thermostat1/other", "value": 1})
    whole = {"op": "add", "path": "/thermostat1", "value": {"targetTemperature": 5, "$metadata": {}}}
    patch = desired_patch("d", twin, [whole])
    assert patch == {"thermostat1": {"__t": "c", "other": None, "targetTemperature": 5}}
    added = patched(twin, {"op": "add", "path": "/thermostat2", "value": {"on": True, "$metadata": {}}})
    assert added.desired.values["thermostat2"] == {"__t": "c", "on": True}
    assert desired_patch("d", added, [{"op": "remove", "path": "/thermostat2"}]) == {"thermostat2": None}


def test_operations_follow_each_other() -> None:
    marked = {"$metadata": {}}
    operations = [
        {"op": "add", "path": "/fan", "value": marked},
        {"op": "test", "path": "/fan/$metadata", "value": {}},
        {"op": "add", "path": "/fan/speed", "value": 1},
        {"op": "replace", "path": "/fan/speed", "value": 2},
    ]
    before = copy.deepcopy(operations)
    assert desired_patch("d", Twin(), operations) == {"fan": {"__t": "c", "speed": 2}}
    assert operations == before
    assert desired_patch("d", Twin(), [{"op": "test", "path": "/$metadata/$model", "value": ""}]) == {}


def test_a_property_exists_when_it_is_reported_or_desired() -> None:
    twin = Twin().with_reported_patch({"reported": 1}, NOW).with_service_patch(None, {"desired": 1}, NOW)
    for name, patch in (("reported", {"reported": None}), ("desired", {"desired": None})):
        assert desired_patch("d", twin, [{"op": "remove", "path": f"/{name}"}]) == patch


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ({}, InvalidDigitalTwinJsonPatch),
        (["add"], InvalidDigitalTwinJsonPatch),
        ([{"op": "add", "path": "/a", "value": 1}] * 1001, InvalidDigitalTwinJsonPatch),
        ([{"op": "move", "path": "/a", "from": "/b"}], InvalidDigitalTwinJsonPatch),
        ([{"op": ["add"], "path": "/a"}], InvalidDigitalTwinJsonPatch),
        ([{"op": "add", "path": "targetTemperature", "value": 1}], InvalidDigitalTwinPatch),
        ([{"op": "add", "value": 1}], InvalidDigitalTwinPatch),
        ([{"op": "add", "path": "/1a", "value": 1}], InvalidDigitalTwinPatchPath),
        ([{"op": "add", "path": "/", "value": 1}], InvalidDigitalTwinPatchPath),
        ([{"op": "add", "path": "/" + 65 * "a", "value": 1}], InvalidDigitalTwinPatchPath),
        ([{"op": "add", "path": "/$metadata/$model", "value": "x"}], InvalidDigitalTwinPatchPath),
        ([{"op": "add", "path": "/thermostat1/targetTemperature/x", "value": 1}], InvalidDigitalTwinPatchPath),
        ([{"op": "add", "path": "/a"}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/a", "value": None}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/a", "value": [1]}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/a", "value": {"a-b": 1}}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/a", "value": {"b": 1, "$metadata": {"b": {}}}}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/a", "value": {"_b": 1, "$metadata": {}}}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/thermostat1/a", "value": {"$metadata": {}}}], InvalidDigitalTwinPayload),
        ([{"op": "add", "path": "/nowhere/a", "value": 1}], InvalidDigitalTwinPatch),
        ([{"op": "replace", "path": "/nowhere", "value": 1}], InvalidDigitalTwinPatch),
        ([{"op": "remove", "path": "/thermostat1/nothing"}], InvalidDigitalTwinPatch),
        ([{"op": "remove", "path": "/serialNumber/x"}], InvalidDigitalTwinPatch),
        ([{"op": "test", "path": "/serialNumber", "value": "other"}], InvalidDigitalTwinPatch),
        ([{"op": "test", "path": "/serialNumber"}], InvalidDigitalTwinPatch),
        ([{"op": "replace", "path": "/thermostat1", "value": {"targetTemperature": 1}}], InvalidDigitalTwinPatch),
        ([{"op": "add", "path": "/serialNumber", "value": {"$metadata": {}}}], ArgumentInvalid),
        ([{"op": "add", "path": "/odd", "value": 1}], ArgumentInvalid),
        ([{"op": "add", "path": "/unmarked/x", "value": 1}], ArgumentInvalid),
    ],
)
def test_what_breaks_the_rules_is_refused(operations: Any, error: type[Exception]) -> None:
    twin = documented().with_service_patch(None, {"odd": [1], "unmarked": {"x": 5}}, NOW)
    with pytest.raises(error) as refused:
        desired_patch("d", twin, operations)
    assert type(refused.value) is error


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "__t", "$metadata"]), inner),
    max_leaves=5,
)
_PATHS = st.sampled_from(
    ["/a", "/a/b", "/thermostat1", "/thermostat1/targetTemperature", "/", "", "/a/b/c", "/~2", "/-"]
)


@given(st.lists(st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "remove", "test"]), "path": _PATHS},
                                      optional={"value": _VALUES}), max_size=4))  # fmt: skip
def test_any_patch_is_done_or_refused(operations: list[dict[str, Any]]) -> None:
    twin = documented()
    try:
        after = patched(twin, *operations)
    except ArgumentInvalid:
        return
    if operations and (operations[-1]["op"], operations[-1]["path"]) == ("add", "/a"):
        assert "a" in after.desired.values
    assert apply_patch(digital_twin("d", twin), changes("d", twin, after)) == digital_twin("d", after)


def test_changes_are_those_that_the_documentation_shows() -> None:
    before = Twin().with_reported_patch({"thermostat1": {"__t": "c", "max": 25}}, FIRST)
    wanted = before.with_service_patch(None, {"thermostat1": {"__t": "c", "targetTemperature": 21.8}}, NOW)
    assert changes("d", before, wanted) == [
        {
            "op": "add",
            "path": "/thermostat1/$metadata/targetTemperature",
            "value": {"desiredValue": 21.8, "desiredVersion": 2},
        }
    ]
    done = {"value": 21.8, "ac": 200, "av": 2, "ad": "done"}
    reported = wanted.with_reported_patch({"thermostat1": {"targetTemperature": done}}, NOW)
    metadata = "/thermostat1/$metadata/targetTemperature"
    made = {each["path"]: (each["op"], each["value"]) for each in changes("d", wanted, reported)}
    assert made == {
        f"{metadata}/ackCode": ("add", 200),
        f"{metadata}/ackDescription": ("add", "done"),
        f"{metadata}/ackVersion": ("add", 2),
        f"{metadata}/lastUpdateTime": ("add", NOW),
        "/thermostat1/targetTemperature": ("add", 21.8),
    }
    assert changes("d", reported, reported.with_service_patch({"ring": "a"}, None, LATER)) == []
    made_event = digital_twin_notification(changes("d", before, wanted))
    assert made_event.source == "digitalTwinChangeEvents"
    assert (made_event.system["content-type"], made_event.properties) == ("application/json-patch+json", {})
    assert json.loads(made_event.body)[0]["op"] == "add"


def test_models_are_announced_in_the_user_name() -> None:
    user = "hub/d/?api-version=2020-09-30&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1&x=1"
    assert announced_model(user) == "dtmi:com:example:Thermostat;1"
    assert announced_model("hub/d/?api-version=2020-09-30") == announced_model("hub/d") == ""
    good = ("dtmi:a;1", MODEL, "dtmi:a:b_c;1.2")
    bad = ("dtmi:a", "dtmi:a;0", "dtmi:1a;1", "urn:a;1", "dtmi:a;1\n", "dtmi:" + "a" * 2048 + ";1")
    assert [is_model(text) for text in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


def test_a_twin_remembers_its_model() -> None:
    assert Twin.from_record(documented().to_record()) == documented()
    old = json.loads(Twin().to_record())
    del old["model_id"]
    assert Twin.from_record(json.dumps(old)) == Twin()


def test_commands_are_methods() -> None:
    assert (command_method(None, "reboot"), command_method("thermostat1", "report")) == ("reboot", "thermostat1*report")
