# SPDX-License-Identifier: Apache-2.0
"""Notifications of twins, identities and connections as values."""

from __future__ import annotations

import json

from local_hub.core.identity import new_identity, new_module_identity
from local_hub.core.notification import (
    CONNECTION_STATE,
    LIFECYCLE,
    TWIN_CHANGES,
    changed_twin,
    connection_sequence,
    notification,
    whole_twin,
)
from local_hub.core.twin import Twin

FIRST, NOW = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"
DEVICE = new_identity("fridge", {}, FIRST)
MODULE = new_module_identity("fridge", "door", {}, FIRST)


def test_a_notification_is_marked_as_azure_marks_it() -> None:
    made = notification(TWIN_CHANGES, "updateTwin", MODULE, "hub", NOW, {"version": 2})
    assert (made.source, json.loads(made.body)) == ("twinChangeEvents", {"version": 2})
    assert made.properties == {
        "hubName": "hub",
        "deviceId": "fridge",
        "moduleId": "door",
        "operationTimestamp": NOW,
        "iothub-message-schema": "twinChangeNotification",
        "opType": "updateTwin",
    }
    assert (made.system["content-type"], made.system["content-encoding"], made.system["user-id"]) == (
        "application/json",
        "utf-8",
        "hub",
    )
    sources = [notification(route, "x", DEVICE, "hub", NOW, {}).source for route in (LIFECYCLE, CONNECTION_STATE)]
    assert sources == ["deviceLifecycleEvents", "deviceConnectionStateEvents"]
    assert "moduleId" not in notification(LIFECYCLE, "x", DEVICE, "hub", NOW, {}).properties


def test_a_change_shows_what_changed_with_its_metadata() -> None:
    twin = Twin().with_service_patch({"ring": "a"}, {"kept": 1, "fan": {"speed": 1, "on": True}}, FIRST)
    patch = {"fan": {"speed": 2}, "gone": None}
    twin = twin.with_service_patch(None, patch, NOW)
    stamp = {"$lastUpdated": NOW, "$lastUpdatedVersion": 3}
    assert changed_twin(twin, None, patch) == {
        "version": 3,
        "properties": {
            "desired": {
                "fan": {"speed": 2},
                "gone": None,
                "$metadata": {**stamp, "fan": {**stamp, "speed": stamp}},
                "$version": 3,
            }
        },
    }
    assert changed_twin(twin, {"ring": "b"}) == {"version": 3, "tags": {"ring": "b"}}
    reported = twin.with_reported_patch({"t": 1}, NOW)
    assert list(changed_twin(reported, reported={"t": 1})["properties"]) == ["reported"]


def test_a_whole_twin_has_its_names_and_both_sides() -> None:
    whole = whole_twin(MODULE, Twin())
    assert (whole["deviceId"], whole["moduleId"], whole["version"]) == ("fridge", "door", 1)
    assert whole["properties"]["reported"]["$version"] == 1


def test_connection_numbers_grow_as_texts() -> None:
    texts = [connection_sequence(*pair)["sequenceNumber"] for pair in ((5, 0), (5, 1), (16, 0), (10**17, 3))]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {64}
