# SPDX-License-Identifier: Apache-2.0
"""Queries: what is built by the grammar means what it was built to mean; anything else is a QueryError, soon."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from local_hub.core import query_values as values
from local_hub.core.query import UNDEFINED, Aggregation, Document, QueryError, parse_condition, parse_query

Expression = tuple[str, Callable[[Document], Any]]
"""Text, and what it means."""

NAMES = ["tags", "a", "b", "properties", "reported", "$version", "deviceId"]
wild = st.text(st.characters(), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | wild,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | wild, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4)


def document(twin: dict[str, Any]) -> Document:
    return lambda name: twin.get(name, UNDEFINED)


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def constant(value: Any) -> Expression:
    return (quoted(value) if isinstance(value, str) else json.dumps(value)), lambda _: value


numbers = st.integers(0, 10**9) | st.floats(0, 1e9, allow_nan=False).map(lambda value: float(f"{value:.3f}"))
literals = (st.none() | st.booleans() | numbers | wild).map(constant)


@st.composite
def paths(draw: st.DrawFn) -> Expression:
    parts = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    text = parts[0]
    for part in parts[1:]:
        text += draw(st.sampled_from((f".{part}", f"['{part}']", f".[[{part}]]")))
    return text, values.path(parts)


def bracketed(inner: Expression) -> Expression:
    return f"({inner[0]})", inner[1]


def compared(left: Expression, sign: str, right: Expression) -> Expression:
    return f"{left[0]} {sign} {right[0]}", values.comparison(left[1], sign, right[1])


def calculated(left: Expression, sign: str, right: Expression) -> Expression:
    return f"({left[0]} {sign} {right[0]})", values.arithmetic(left[1], [(sign, right[1])])


def called(name: str, arguments: list[Expression]) -> Expression:
    count, act = values.FUNCTIONS[name]
    taken = arguments[:count]
    text = f"{name.lower()}({', '.join(each[0] for each in taken)})"
    return text, lambda found: act(*(each[1](found) for each in taken))


functions = st.sampled_from([name for name in values.FUNCTIONS if name != "IS_DEFINED"])
signs = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
operands = literals | paths()


def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    inner = inner.map(bracketed)
    return st.one_of(
        st.builds(compared, inner, signs, inner),
        st.builds(calculated, inner, st.sampled_from("+-*/%"), inner),
        st.builds(called, functions, st.lists(inner, min_size=2, max_size=2)),
        inner.map(lambda each: (f"NOT {each[0]}", values.negation(each[1]))),
        inner.map(lambda each: (f"-{each[0]}", values.minus(each[1]))),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda each: (" AND ".join(one[0] for one in each), values.all_of(one[1] for one in each))
        ),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda each: (" or ".join(one[0] for one in each), values.any_of(one[1] for one in each))
        ),
    )


conditions = st.recursive(operands | st.builds(compared, operands, signs, operands), larger, max_leaves=8)


@given(conditions, st.lists(documents, min_size=1, max_size=3))
def test_a_condition_means_what_it_was_built_to_mean(condition: Expression, twins: list[dict[str, Any]]) -> None:
    text, meaning = condition
    try:
        parsed = parse_condition(text)
    except QueryError as error:
        assert "nested" in str(error) or "longer" in str(error)  # noqa: PT017
        return
    for twin in twins:
        assert parsed(document(twin)) is (meaning(document(twin)) is True)


columns = paths().map(lambda path: path[0])
aggregates = st.sampled_from(["COUNT()", "SUM(tags.a)", "AVG(tags.a)", "MIN(tags.a)", "MAX(tags.b)"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    group = draw(st.none() | columns)
    selected = draw(st.sampled_from(["*", "aggregate", "columns"]))
    if selected == "aggregate" or group:
        shown = draw(st.lists(aggregates, min_size=1, max_size=2)) + ([group] if group else [])
        selected = ", ".join(f"{each} AS c{number}" for number, each in enumerate(shown))
    elif selected == "columns":
        selected = ", ".join(draw(st.lists(columns, min_size=1, max_size=3)))
    top = draw(st.sampled_from(["", "TOP 3 "]))
    where = draw(st.just("") | conditions.map(lambda each: f" WHERE {each[0]}"))
    ending = f" GROUP BY {group}" if group else ""
    return f"SELECT {top}{selected} FROM devices{where}{ending}"  # noqa: S608


def ask(text: str, twins: list[dict[str, Any]]) -> None:
    """As hub/queries.py does; an answer must be JSON."""
    query = parse_query(text)
    found = [document(twin) for twin in twins if query.where(document(twin))]
    if query.aggregates:
        aggregation = Aggregation(query)
        for each in found:
            aggregation.add(each)
        json.dumps(aggregation.rows())
    else:
        json.dumps([query.row(each) for each in found])


@given(queries(), st.lists(documents, max_size=3))
def test_a_query_is_answered(text: str, twins: list[dict[str, Any]]) -> None:
    with contextlib.suppress(QueryError):
        ask(text, twins)


@given(queries(), st.data())
def test_a_damaged_query_is_answered_or_refused(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 8)))
        text = text[:start] + data.draw(wild | st.sampled_from("()[]'\".,=<*-\\")) + text[end:]
    with contextlib.suppress(QueryError):
        ask(text, [{"tags": {"a": 1, "b": "x"}}, {"tags": {"a": {"$version": 1e308}}}])
    with contextlib.suppress(QueryError):
        parse_condition(text)(document({"tags": {"a": 1}}))


@pytest.mark.parametrize(
    "part",
    ["(", "[", "NOT ", "-", "'", "''", '"', "\\", "a.", "a[", "1 + ", "1e9", "9", "a AND ", "a OR ", "[[a", "a,", " "],
)
def test_nothing_short_takes_long(part: str) -> None:
    for text in (part, f"a = {part}", f"SELECT {part}", f"a IN [{part}", f"FROM devices WHERE {part}"):
        began = time.process_time()
        with contextlib.suppress(QueryError):
            parse_query(text + part * (8000 // len(part)))
        with contextlib.suppress(QueryError):
            parse_condition(text + part * (8000 // len(part)))(document({"a": 1}))
        assert time.process_time() - began < 3


@given(wild, documents)
@example("tags.a = '\\ud800'", {"tags": {"a": "\ud800"}})
@example("tags.a * " + "9" * 390 + " * " + "9" * 390 + " > 1", {"tags": {"a": 1}})
@example(" * ".join(["9" * 399] * 20) + " > 1.5", {})
@example(" % ".join(["9" * 399] * 2) + " > 1.5", {})
@example("9" * 399 + " / 1.5 = 1", {})
@example("9" * 399 + " < 1.5", {})
def test_any_text_is_a_condition_or_a_query_error(text: str, twin: dict[str, Any]) -> None:
    with contextlib.suppress(QueryError):
        parse_condition(text)(document(twin))
