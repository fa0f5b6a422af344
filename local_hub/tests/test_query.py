# SPDX-License-Identifier: Apache-2.0
"""The query language over twins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.query import UNDEFINED, Document, QueryError, parse_condition, parse_query

TWIN: dict[str, Any] = {
    "deviceId": "fridge-7",
    "status": "enabled",
    "connectionState": "Connected",
    "tags": {"ring": "fleet", "bucket": 1200, "demo": False, "name": "it's", "odd name": 1},
    "properties": {
        "desired": {"$version": 4},
        "reported": {"fridge": {"update": {"state": "idle", "progress": 0.5}}},
    },
    "configurations": {"fridge-2.4.0": {"status": "Applied"}},
}


def document(twin: dict[str, Any]) -> Document:
    return lambda name: twin.get(name, UNDEFINED)


@pytest.mark.parametrize(
    "text",
    [
        "tags.ring='fleet' AND tags.bucket < 2500",
        'tags.ring = "fleet"',
        "tags.bucket >= 1200 and tags.bucket <= 1200",
        "tags.bucket <> 3 AND tags.bucket != 4",
        "NOT tags.ring = 'beta'",
        "tags.ring IN ['beta', 'fleet']",
        "tags.ring NOT IN ['beta']",
        "tags.demo = false",
        "tags.name = 'it''s' AND tags.name = 'it\\'s'",
        "tags['odd name'] = 1 AND tags.[[odd name]] = 1",
        "(tags.ring = 'beta' OR tags.ring = 'fleet') AND deviceId = 'fridge-7'",
        "tags.ring = 'beta' AND tags.missing = 1 OR status = 'enabled'",
        "properties.reported.fridge.update.state = 'idle'",
        "properties.reported.fridge.update.progress > 0.25",
        "properties.desired.$version = 4",
        "configurations.[[fridge-2.4.0]].status = 'Applied'",
        "is_defined(tags.ring) AND NOT IS_DEFINED(tags.missing)",
        "STARTSWITH(deviceId, 'fridge-')",
        "tags.missing = null AND tags.ring != null",
        "tags.bucket > -5",
        "connectionState = 'Connected'",
        "*",
    ],
)
def test_these_conditions_hold(text: str) -> None:
    assert parse_condition(text)(document(TWIN))


@pytest.mark.parametrize(
    "text",
    [
        "tags.ring = 'beta'",
        "tags.ring = 'Fleet'",
        "tags.bucket < 1200",
        "tags.bucket = '1200'",
        "tags.ring < 5",
        "tags.missing = 1",
        "tags.missing != 1",
        "NOT tags.missing = 1",
        "tags.missing IN [1]",
        "tags.demo = 0",
        "tags.ring.deeper = 'x'",
        "STARTSWITH(tags.bucket, '1')",
        "tags.bucket",
        "",
    ],
)
def test_these_conditions_do_not_hold(text: str) -> None:
    assert not parse_condition(text)(document(TWIN))


@pytest.mark.parametrize(
    "text",
    [
        "tags.ring =",
        "tags.ring = 'fleet",
        "AND tags.ring = 1",
        "tags. = 1",
        "(tags.ring = 1",
        "tags.ring = 1)",
        "tags.ring IN []",
        "tags.ring IN ['a'",
        "tags.ring ~ 1",
        "frobnicate(tags.ring)",
        "tags.ring = 1 tags.bucket = 2",
        "(" * 100 + "1 = 1" + ")" * 100,
        "x" * 20_000,
    ],
)
def test_these_are_no_conditions(text: str) -> None:
    with pytest.raises(QueryError):
        parse_condition(text)


def test_a_query_projects_counts_or_takes_all() -> None:
    everything = parse_query("SELECT * FROM devices")
    assert everything.columns is None
    assert everything.where(document(TWIN))
    projected = parse_query("select deviceId, tags.ring AS ring, tags.missing from devices where status = 'enabled'")
    assert projected.row(document(TWIN)) == {"deviceId": "fridge-7", "ring": "fleet"}
    assert parse_query("SELECT COUNT() AS total FROM devices").count == "total"


@pytest.mark.parametrize(
    "text", ["SELECT * FROM devices.jobs", "SELECT FROM devices", "DELETE FROM devices", "SELECT * FROM rooms", ""]
)
def test_other_queries_are_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_query(text)


def test_a_condition_knows_what_it_looks_at() -> None:
    assert parse_condition("tags.ring = 'a' OR is_defined(properties.reported.x)").roots == {"tags", "properties"}
    assert parse_query("SELECT deviceId FROM devices WHERE tags.a = 1").where.roots == {"tags"}


@given(st.text(alphabet="ab.'\"[]()=<>!,* \\0SELECTFROMWHEREANDORNOTINdevicestags", max_size=80))
def test_any_text_parses_or_is_a_query_error(text: str) -> None:
    for parse in (parse_query, parse_condition):
        try:
            parse(text)
        except QueryError:
            continue
