# SPDX-License-Identifier: Apache-2.0
"""IoT Hub's query language over twins, module twins and device jobs: text in, something to ask documents out.

The text becomes a tree by the grammar below (LALR, by Lark), and the tree becomes one closure, so that a condition over
ten thousand twins is parsed once. What operators and functions mean is in query_values.py.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from . import query_values as values
from .errors import ArgumentInvalid
from .query_values import UNDEFINED, Document, Evaluate

__all__ = ["UNDEFINED", "Condition", "Document", "Query", "QueryError", "parse_condition", "parse_query"]

_GRAMMAR = r"""
query: _SELECT [top] (all | columns) _FROM source [where] [group]
target: condition | _FROM source [where]

top: _TOP INTEGER
all: "*"
columns: column ("," column)*
column: (path | call) [alias]
alias: _AS NAME
source: NAME ("." NAME)?
where: _WHERE condition
group: _GROUP _BY path

?condition: conjunction | conjunction (_OR conjunction)+ -> any_of
?conjunction: negation | negation (_AND negation)+ -> all_of
?negation: comparison | _NOT negation -> negation
?comparison: sum
    | sum SIGN sum -> comparison
    | sum _IN array -> membership
    | sum (_NIN | _NOT _IN) array -> exclusion
?sum: product | product (PLUS_MINUS product)+ -> arithmetic
?product: factor | factor (times factor)+ -> arithmetic
!times: "*" | "/" | "%"
?factor: operand | PLUS_MINUS factor -> signed
?operand: literal -> constant | array -> constant | path -> property | call -> function | "(" condition ")" -> nested

call: NAME "(" ")" | NAME "(" condition ("," condition)* ")"
path: NAME (("." NAME) | ("." BRACKET) | ("[" STRING "]"))*
array: "[" "]" | "[" element ("," element)* "]"
?element: literal | MINUS_NUMBER -> number | array
literal: STRING -> string | (INTEGER | FLOAT | HEX) -> number
    | _TRUE -> true | _FALSE -> false | _NULL -> null | _UNDEFINED -> undefined

_SELECT.2: /select(?![\w$])/i
_TOP.2: /top(?![\w$])/i
_FROM.2: /from(?![\w$])/i
_WHERE.2: /where(?![\w$])/i
_GROUP.2: /group(?![\w$])/i
_BY.2: /by(?![\w$])/i
_AS.2: /as(?![\w$])/i
_OR.2: /or(?![\w$])/i
_AND.2: /and(?![\w$])/i
_NOT.2: /not(?![\w$])/i
_IN.2: /in(?![\w$])/i
_NIN.2: /nin(?![\w$])/i
_TRUE.2: /true(?![\w$])/i
_FALSE.2: /false(?![\w$])/i
_NULL.2: /null(?![\w$])/i
_UNDEFINED.2: /undefined(?![\w$])/i
SIGN: /<=|>=|<>|!=|=|<|>/
PLUS_MINUS: /[+-]/
STRING: /'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"/s
HEX.3: /0x[0-9a-fA-F]+/
FLOAT.3: /[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)/
INTEGER: /[0-9]+/
MINUS_NUMBER: /-[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/
BRACKET: /\[\[[^\]\[]+\]\]/
NAME: /[A-Za-z_$][\w$]*/
%ignore /\s+/
"""
DEVICES, MODULES, JOBS = "devices", "devices.modules", "devices.jobs"
_SOURCES = (DEVICES, MODULES, JOBS)
_MAX_TEXT = 8192  # https://learn.microsoft.com/azure/iot-hub/query-jobs#jobs-query-limitations, and of twins
_MAX_DIGITS = 400
_MAX_DEPTH = 64
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


class QueryError(ArgumentInvalid):
    """The text is not a query; the message says where."""


@dataclass(frozen=True)
class Condition:
    """A WHERE clause ready to be asked of many documents of its source. `roots` are the properties it looks at."""

    roots: frozenset[str]
    _evaluate: Evaluate
    source: str = DEVICES

    def __call__(self, document: Document) -> bool:
        return self._evaluate(document) is True


@dataclass(frozen=True)
class Column:
    """A projected property and the name it has in the result."""

    name: str
    value: Evaluate
    aggregate: Callable[[list[Any]], Any] | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """A parsed query. `columns` is None for `SELECT *`; `top` is None without TOP."""

    columns: tuple[Column, ...] | None
    where: Condition
    top: int | None = None
    group: Evaluate | None = None

    @property
    def source(self) -> str:
        """What is asked: devices, devices.modules or devices.jobs."""
        return self.where.source

    @property
    def aggregates(self) -> bool:
        """Whether all documents are needed before the first row can be told."""
        return self.group is not None or any(column.aggregate for column in self.columns or ())

    def row(self, document: Document) -> dict[str, Any]:
        """The projection of one document; a missing property gives no column."""
        cells = ((column.name, column.value(document)) for column in self.columns or ())
        return {name: value for name, value in cells if value is not UNDEFINED}


class Aggregation:
    """Takes documents in, one by one, and gives the rows of a query that aggregates."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._groups: dict[Any, list[list[Any]]] = {}
        if query.group is None:
            self._groups[UNDEFINED] = self._empty()

    def add(self, document: Document) -> None:
        """One more document that fulfils the condition."""
        key = UNDEFINED if self._query.group is None else self._query.group(document)
        # JSON's 1 and true are two groups, Python's are one; lists and objects cannot be keys
        cells = self._groups.setdefault((type(key), repr(key)) if key is not UNDEFINED else UNDEFINED, self._empty())
        for column, taken in zip(self._query.columns or (), cells, strict=True):
            if column.aggregate is not None or not taken:
                taken.append(column.value(document))

    def rows(self) -> list[dict[str, Any]]:
        """One a group, in the order in which groups were met first."""
        return [self._row(cells) for cells in self._groups.values()]

    def _empty(self) -> list[list[Any]]:
        return [[] for _ in self._query.columns or ()]

    def _row(self, cells: list[list[Any]]) -> dict[str, Any]:
        row = {}
        for column, taken in zip(self._query.columns or (), cells, strict=True):
            value = column.aggregate(taken) if column.aggregate else taken[0]
            if value is not UNDEFINED:
                row[column.name] = value
        return row


def parse_query(text: str) -> Query:
    """Read a whole query.

    Raises:
        QueryError: it is not one.
    """
    query: Query = _parse(text, "query")
    return query


def parse_condition(text: str) -> Condition:
    """Read the target condition of a configuration or a job: `*` is every device, nothing is none.

    A condition for modules begins with FROM devices.modules.
    https://learn.microsoft.com/azure/iot-hub/iot-hub-auto-device-config#create-a-configuration

    Raises:
        QueryError: it is not a condition.
    """
    stripped = text.strip()
    if stripped in ("", "*"):
        everything = stripped == "*"
        return Condition(frozenset(), lambda document: everything)
    condition: Condition = _parse(text, "target")
    return condition


@dataclass(frozen=True)
class _Node:
    """An expression on its way up the tree. `parts` are the names of a bare path."""

    evaluate: Evaluate
    roots: frozenset[str] = frozenset()
    depth: int = 1
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Call:
    """A call before it is known whether it is of a function or of an aggregate."""

    name: Token
    arguments: tuple[_Node, ...]


def _combined(evaluate: Evaluate, nodes: Iterable[_Node]) -> _Node:
    every = tuple(nodes)
    depth = 1 + max((node.depth for node in every), default=0)
    if depth > _MAX_DEPTH:
        raise QueryError(f"the condition is nested deeper than {_MAX_DEPTH} levels")
    return _Node(evaluate, frozenset().union(*(node.roots for node in every)), depth)


@v_args(inline=True)
class _Build(Transformer[Token, Any]):
    """From the leaves up: each rule of the grammar becomes what its method makes of its parts."""

    def query(self, top: int | None, columns: Any, source: str, where: _Node | None, group: _Node | None) -> Query:
        query = Query(columns, _condition(where, source), top, group.evaluate if group else None)
        _check(query, group)
        return query

    def target(self, *parts: Any) -> Condition:
        if isinstance(parts[0], _Node):
            return _condition(parts[0], DEVICES)
        source, where = parts
        if source == JOBS:
            raise QueryError("a target condition is for devices or for devices.modules")
        return _condition(where, source)

    def top(self, number: Token) -> int:
        if len(number) > _MAX_DIGITS:
            raise QueryError("TOP is too large")
        return int(number)

    def all(self) -> None:
        return None

    def columns(self, *columns: Column) -> tuple[Column, ...]:
        return columns

    def column(self, what: _Node | _Call, name: str | None) -> Column:
        if isinstance(what, _Node):
            return Column(name or what.parts[-1], what.evaluate, parts=what.parts)
        aggregate = values.AGGREGATES.get(what.name.upper())
        if aggregate is None:
            raise QueryError(f"unknown aggregate {what.name} at position {what.name.start_pos}")
        counting = what.name.upper() == "COUNT"
        if len(what.arguments) != (0 if counting else 1) or not all(node.parts for node in what.arguments):
            raise QueryError(f"{what.name.upper()} takes {'nothing' if counting else 'one property'}")
        value = what.arguments[0].evaluate if what.arguments else lambda document: None
        return Column(name or what.name.lower(), value, aggregate)

    def alias(self, name: Token) -> str:
        return str(name)

    def source(self, *names: Token) -> str:
        source = ".".join(names).lower()
        if source not in _SOURCES:
            raise QueryError(f"only FROM {', '.join(_SOURCES)} can be queried, not {source}")
        return source

    def where(self, condition: _Node) -> _Node:
        return condition

    def group(self, what: _Node) -> _Node:
        return what

    def any_of(self, *nodes: _Node) -> _Node:
        return _combined(values.any_of(node.evaluate for node in nodes), nodes)

    def all_of(self, *nodes: _Node) -> _Node:
        return _combined(values.all_of(node.evaluate for node in nodes), nodes)

    def negation(self, inner: _Node) -> _Node:
        return _combined(values.negation(inner.evaluate), [inner])

    def comparison(self, left: _Node, sign: Token, right: _Node) -> _Node:
        return _combined(values.comparison(left.evaluate, str(sign), right.evaluate), [left, right])

    def membership(self, left: _Node, items: list[Any]) -> _Node:
        if not items:
            raise QueryError("IN needs a value")
        return _combined(values.membership(left.evaluate, items), [left])

    def exclusion(self, left: _Node, items: list[Any]) -> _Node:
        inner = self.membership(left, items)
        return _combined(values.negation(inner.evaluate), [left])

    def arithmetic(self, first: _Node, *rest: Any) -> _Node:
        pairs = [(str(sign), node.evaluate) for sign, node in zip(rest[::2], rest[1::2], strict=True)]
        return _combined(values.arithmetic(first.evaluate, pairs), [first, *rest[1::2]])

    def times(self, sign: Token) -> Token:
        return sign

    def signed(self, sign: Token, inner: _Node) -> _Node:
        return _combined(values.minus(inner.evaluate), [inner]) if sign == "-" else inner

    def constant(self, value: Any) -> _Node:
        return _Node(lambda document: value)

    def property(self, node: _Node) -> _Node:
        return node

    def function(self, call: _Call) -> _Node:
        known = values.FUNCTIONS.get(call.name.upper())
        if known is None:
            raise QueryError(f"unknown function {call.name} at position {call.name.start_pos}")
        count, act = known
        if len(call.arguments) != count:
            raise QueryError(f"{call.name.upper()} takes {count} argument{'s' if count > 1 else ''}")
        if call.name.upper() == "IS_DEFINED" and not call.arguments[0].parts:
            raise QueryError("IS_DEFINED takes a property")
        inner = tuple(node.evaluate for node in call.arguments)
        return _combined(lambda document: act(*(each(document) for each in inner)), call.arguments)

    def nested(self, inner: _Node) -> _Node:
        return _combined(inner.evaluate, [inner])

    def call(self, name: Token, *arguments: _Node) -> _Call:
        return _Call(name, arguments)

    def path(self, *tokens: Token) -> _Node:
        parts = [_part(token) for token in tokens]
        # `devices.jobs.deviceId` is `deviceId`: documents may be named in front of their properties
        if len(parts) > 1 and parts[0].lower() == "devices":
            collection = len(parts) > 2 and parts[1].lower() in ("jobs", "modules")
            parts = parts[2 if collection else 1 :]
        return _Node(values.path(parts), frozenset({parts[0].lower()}), parts=tuple(parts))

    def array(self, *items: Any) -> list[Any]:
        array = list(items)
        if _depth(array) > _MAX_DEPTH:
            raise QueryError(f"an array is nested deeper than {_MAX_DEPTH} levels")
        return array

    def string(self, token: Token) -> str:
        return _unquoted(token)

    def number(self, token: Token) -> int | float:
        if len(token) > _MAX_DIGITS:
            raise QueryError(f"the number at position {token.start_pos} is too long")
        if token.type == "HEX":
            return int(token, 16)
        return float(token) if re.search(r"[.eE]", token) else int(token)

    def true(self) -> bool:
        return True

    def false(self) -> bool:
        return False

    def null(self) -> None:
        return None

    def undefined(self) -> Any:
        return UNDEFINED


_parser = Lark(_GRAMMAR, parser="lalr", start=["query", "target"], transformer=_Build(), maybe_placeholders=True)


def _parse(text: str, start: str) -> Any:
    if len(text) > _MAX_TEXT:
        raise QueryError(f"the query is longer than {_MAX_TEXT} characters")
    try:
        return _parser.parse(text, start=start)
    except UnexpectedInput as error:
        raise QueryError(_explanation(text, error)) from None


def _explanation(text: str, error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        return f"unexpected {str(error.token)!r} at position {error.token.start_pos}"
    if isinstance(error, UnexpectedCharacters):
        return f"unexpected character at position {error.pos_in_stream}: {text[error.pos_in_stream or 0 :][:10]!r}"
    return "the query ends too early"


def _condition(where: _Node | None, source: str) -> Condition:
    if where is None:
        return Condition(frozenset(), lambda document: True, source)
    return Condition(where.roots, where.evaluate, source)


def _check(query: Query, group: _Node | None) -> None:
    """What the grammar cannot say."""
    if query.source == JOBS and (query.columns is not None or group is not None):
        raise QueryError("queries of devices.jobs offer SELECT * only")
    if not query.aggregates:
        return
    if query.columns is None:
        raise QueryError("GROUP BY needs columns, not *")
    for column in query.columns:
        if column.aggregate is None and column.parts != (group.parts if group else None):
            raise QueryError(f"the column {column.name} is neither an aggregate nor in GROUP BY")


def _depth(value: Any) -> int:
    # no deeper than one above the limit: each array is looked at when it ends, from the inside out
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _part(token: Token) -> str:
    if token.type == "BRACKET":
        return token[2:-2]
    return _unquoted(token) if token.type == "STRING" else str(token)


def _unquoted(text: str) -> str:
    quote, body = text[0], text[1:-1]
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], body.replace(quote * 2, quote))
