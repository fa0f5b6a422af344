# SPDX-License-Identifier: Apache-2.0
"""The query language over twins."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.query import UNDEFINED, Aggregation, Document, QueryError, parse_condition, parse_query

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
    "parentScopes": ["ms-azure-iot-edge://up-1", 2],
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
        "tags.bucket IN [-5, 1200, 0x10] AND tags.bucket NIN [1, 2]",
        "tags.bucket = 1000 + 2 * 100 AND tags.bucket - 200 = 1000 AND tags.bucket % 7 = 3 AND tags.bucket / 2 = 600",
        "-tags.bucket + 1200 = 0 AND 10 / 4 = 2.5 AND 0x1F = 31 AND 2 - 1 - 1 = 0",
        "tags.name = 'it\\u0027s'",
        "ENDSWITH(deviceId, '-7') AND CONTAINS(deviceId, 'idge') AND STARTS_WITH(deviceId, 'f')",
        "IS_NULL(null) AND IS_BOOL(tags.demo) AND IS_NUMBER(tags.bucket) AND IS_STRING(tags.ring)",
        "IS_OBJECT(properties.reported.fridge) AND NOT IS_ARRAY(tags.ring) AND IS_PRIMITIVE(tags.ring)",
        "devices.deviceId = 'fridge-7' AND devices.tags.ring = 'fleet'",
        "is_defined(properties.reported.fridge.update) and tags.ring in ['fleet']",
        "FROM devices WHERE tags.ring = 'fleet'",
        "connectionState = 'Connected'",
        "ARRAY_CONTAINS(parentScopes, 'ms-azure-iot-edge://up-1') AND array_contains(parentScopes, 2)",
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
        "tags.ring + 1 = 1",
        "tags.bucket / 0 = 0",
        "tags.bucket % 0 = 0",
        "tags.missing + 1 = 1",
        "undefined = undefined",
        "IS_NULL(tags.missing)",
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
        "IS_DEFINED('text')",
        "IS_DEFINED(tags.ring, tags.bucket)",
        "STARTSWITH(tags.ring)",
        "tags.ring = 1 +",
        "tags.bucket = " + "9" * 5000,
        "NOT " * 100 + "tags.demo",
        "FROM devices.jobs WHERE jobId = 'x'",
        "[" * 2000 + "1" + "]" * 2000 + " = " + "[" * 2000 + "1" + "]" * 2000,
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
    assert parse_query("SELECT COUNT() AS total FROM devices").aggregates


@pytest.mark.parametrize(
    "text",
    [
        "SELECT deviceId FROM devices.jobs",
        "SELECT COUNT() AS n FROM devices.jobs",
        "SELECT FROM devices",
        "DELETE FROM devices",
        "SELECT * FROM rooms",
        "SELECT * FROM devices ORDER BY deviceId",
        "SELECT * FROM devices GROUP BY tags.ring",
        "SELECT deviceId, COUNT() AS n FROM devices",
        "SELECT tags.ring, COUNT() AS n FROM devices GROUP BY tags.bucket",
        "SELECT MEDIAN(tags.bucket) AS m FROM devices",
        "SELECT COUNT(tags.bucket) AS m FROM devices",
        "SELECT SUM() AS m FROM devices",
        "SELECT TOP * FROM devices",
        "SELECT TOP " + "9" * 5000 + " * FROM devices",
        "",
    ],
)
def test_other_queries_are_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_query(text)


def test_a_condition_knows_what_it_looks_at() -> None:
    assert parse_condition("tags.ring = 'a' OR is_defined(properties.reported.x)").roots == {"tags", "properties"}
    assert parse_query("SELECT deviceId FROM devices WHERE tags.a = 1").where.roots == {"tags"}


def rows(text: str, *twins: dict[str, Any]) -> list[dict[str, Any]]:
    aggregation = Aggregation(parse_query(text))
    for twin in twins:
        aggregation.add(document(twin))
    return aggregation.rows()


def test_documents_are_counted_and_summed_by_group() -> None:
    twins = [{"tags": {"ring": ring, "n": n}} for ring, n in (("a", 1), ("b", 5), ("a", 2), (True, 3), (1, "x"))]
    text = "SELECT tags.ring AS ring, COUNT() AS number, SUM(tags.n) AS total FROM devices GROUP BY tags.ring"
    assert rows(text, *twins) == [
        {"ring": "a", "number": 2, "total": 3},
        {"ring": "b", "number": 1, "total": 5},
        {"ring": True, "number": 1, "total": 3},
        {"ring": 1, "number": 1, "total": 0},
    ]
    text = "SELECT AVG(tags.n) AS a, MIN(tags.n) AS b, MAX(tags.n) AS c FROM devices"
    assert rows(text, *twins) == [{"a": 2.75, "b": 1, "c": 5}]
    assert rows(text) == [{}]
    huge = [{"tags": {"n": 1.7e308}}] * 3
    assert rows("SELECT SUM(tags.n) AS s, AVG(tags.n) AS a, MAX(tags.n) AS m FROM devices", *huge) == [{"m": 1.7e308}]
    assert rows("SELECT COUNT() AS n FROM devices") == [{"n": 0}]
    missing = rows("SELECT tags.x AS x, COUNT() AS n FROM devices GROUP BY tags.x", *twins)
    assert missing == [{"n": 5}]


def test_a_query_names_its_source_and_its_top() -> None:
    assert parse_query("SELECT TOP 3 * FROM devices.modules").top == 3
    texts = ("SELECT * FROM Devices", "SELECT * FROM devices.Modules", "SELECT * FROM devices.jobs")
    sources = [parse_query(text).source for text in texts]
    assert sources == ["devices", "devices.modules", "devices.jobs"]
    assert parse_condition("FROM devices.modules WHERE moduleId = 'a'").source == "devices.modules"
    assert parse_condition("FROM devices.modules")(document({}))


VALID = (
    "SELECT TOP 5 tags.ring AS ring, COUNT() AS n FROM devices WHERE NOT (tags.a = 'x' OR tags.b IN [1, -2.5, null])"
    " AND is_defined(properties.reported.[[a b]]) GROUP BY tags.ring",
    'SELECT * FROM devices.modules WHERE devices.modules.moduleId = "it\'s" AND tags.x + 2 * -3 % 0x1f <> undefined',
)
SNIPPETS = [*"()[]'\".,=<>!+-*/%\\ \n\0ü", "[[", "NOT ", " AND ", "9" * 30, "1e999", "GROUP BY", "$version", "true"]


def parses_or_refuses(text: str) -> None:
    with contextlib.suppress(QueryError):
        parse_condition(text)(document(TWIN))
    with contextlib.suppress(QueryError):
        query = parse_query(text)
        if query.where(document(TWIN)) and not query.aggregates:
            query.row(document(TWIN))


@given(st.text(max_size=80) | st.text(alphabet="ab.'\"[]()=<>!,* \\0SELECTFROMWHEREANDORNOTINdevicestags", max_size=80))
def test_any_text_parses_or_is_a_query_error(text: str) -> None:
    parses_or_refuses(text)


@given(st.sampled_from(VALID), st.data())
def test_any_mutilated_query_parses_or_is_a_query_error(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(st.sampled_from(SNIPPETS) | st.text(max_size=3)) + text[end:]
    parses_or_refuses(text)


LITERALS = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=10)


@given(LITERALS)
def test_a_literal_is_read_as_it_is_written(value: Any) -> None:
    text = json.dumps(value) if isinstance(value, bool | int | float | None) else quoted(value)
    assert parse_condition(f"tags.x = {text}")(document({"tags": {"x": value}}))


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
