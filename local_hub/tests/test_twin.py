# SPDX-License-Identifier: Apache-2.0
"""Twins: merge, metadata, limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.errors import ArgumentInvalid
from local_hub.core.twin import Twin, difference, merge

NOW = "2026-01-01T00:00:00.000Z"
LATER = "2026-01-02T00:00:00.000Z"
names = st.text("abc", min_size=1, max_size=2)
leaves = st.booleans() | st.integers(-5, 5) | st.text("xy", max_size=2) | st.lists(st.integers(0, 3), max_size=2)
objects = st.recursive(
    st.dictionaries(names, leaves, max_size=3), lambda inner: st.dictionaries(names, leaves | inner, max_size=3)
)


@given(objects, objects)
def test_the_difference_leads_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, difference(old, new)) == new
    assert difference(new, new) == {}


@given(objects, objects)
def test_merge_touches_neither_side(target: dict[str, Any], patch: dict[str, Any]) -> None:
    before = (repr(target), repr(patch))
    merge(target, patch)
    assert (repr(target), repr(patch)) == before


def test_null_removes_and_absence_keeps() -> None:
    twin = (
        Twin().with_service_patch({"a": {"b": 1, "c": 2}}, None, NOW).with_service_patch({"a": {"b": None}}, None, NOW)
    )
    assert twin.tags == {"a": {"c": 2}}


def test_metadata_tells_when_and_at_which_version_each_part_changed() -> None:
    twin = Twin().with_service_patch(None, {"a": {"b": 1}, "c": 1}, NOW)
    twin = twin.with_service_patch(None, {"a": {"b": 2}, "c": None}, LATER)
    assert twin.desired.document() == {
        "a": {"b": 2},
        "$version": 3,
        "$metadata": {
            "$lastUpdated": LATER,
            "$lastUpdatedVersion": 3,
            "a": {
                "$lastUpdated": LATER,
                "$lastUpdatedVersion": 3,
                "b": {"$lastUpdated": LATER, "$lastUpdatedVersion": 3},
            },
        },
    }


def test_the_etag_changes_with_service_writes_only() -> None:
    twin = Twin()
    reported = twin.with_reported_patch({"x": 1}, NOW)
    assert reported.etag == twin.etag
    assert reported.version > twin.version
    assert twin.with_service_patch({"x": 1}, None, NOW).etag != twin.etag


@pytest.mark.parametrize(
    "patch",
    [
        {"a b": 1},
        {"a.b": 1},
        {"$a": 1},
        {"": 1},
        {"a": "x" * 4097},
        {"a": 2**52},
        {f"k{index}": "x" * 4000 for index in range(9)},
        {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}}},
    ],
)
def test_what_azure_refuses_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(ArgumentInvalid):
        Twin().with_service_patch(None, patch, NOW)
    with pytest.raises(ArgumentInvalid):
        Twin().with_reported_patch(patch, NOW)


def test_a_twin_survives_its_record() -> None:
    twin = Twin().with_service_patch({"ring": "beta"}, {"a": [1, {"b": "ü"}]}, NOW).with_configurations({"c": {}})
    assert Twin.from_record(twin.to_record()) == twin
