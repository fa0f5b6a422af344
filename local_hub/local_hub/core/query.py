# SPDX-License-Identifier: Apache-2.0
"""IoT Hub's query language over device twins.

    query      = SELECT ( "*" | COUNT "(" ")" [AS name] | column { "," column } ) FROM devices [ WHERE condition ]
    column     = path [AS name]
    condition  = conjunction { OR conjunction }
    conjunction= negation { AND negation }
    negation   = NOT negation | comparison
    comparison = operand [ operator operand | [NOT] IN "[" literal { "," literal } "]" ]
    operand    = literal | path | IS_DEFINED "(" path ")" | STARTSWITH "(" operand "," operand ")" | "(" condition ")"
    path       = name { "." name | ".[[" any "]]" | "['" any "']" }

Text becomes a tree, and the tree becomes one closure, so that a condition over ten thousand twins parses once.
A missing property is UNDEFINED: it makes a comparison UNDEFINED, and only TRUE selects a device. One exception, for
people: `tags.x = null` asks for devices without tags.x.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from .errors import ArgumentInvalid


class _Undefined:
    """The one value that is not there."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = _Undefined()
Document = Callable[[str], Any]
"""A twin as the language sees it: the name of a root (`tags`, `deviceId`) in, its value or UNDEFINED out."""

_Evaluate = Callable[[Document], Any]
_MAX_TEXT = 16 * 1024
_MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<bracket>\[\[[^\]\[]+\]\])
    | (?P<name>[A-Za-z_$][\w$-]*)
    | (?P<mark><=|>=|<>|!=|=|<|>|\(|\)|\[|\]|,|\.|\*)
    )""",
    re.VERBOSE,
)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: dict[str, Any] = {"TRUE": True, "FALSE": False, "NULL": None}
_RESERVED = frozenset({"SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "IN", "AS"})


class QueryError(ArgumentInvalid):
    """The text is not a query; the message says where."""


@dataclass(frozen=True)
class Condition:
    """A WHERE clause ready to be asked of many devices."""

    roots: frozenset[str]
    _evaluate: _Evaluate

    def __call__(self, document: Document) -> bool:
        return self._evaluate(document) is True


@dataclass(frozen=True)
class Column:
    """A projected path and the name it has in the result."""

    name: str
    value: _Evaluate


@dataclass(frozen=True)
class Query:
    """A parsed query. `columns` is None for `SELECT *`; `count` is the column's name for `SELECT COUNT()`."""

    columns: tuple[Column, ...] | None
    count: str | None
    where: Condition

    def row(self, document: Document) -> dict[str, Any]:
        """The projection of one device; a missing property gives no column."""
        values = ((column.name, column.value(document)) for column in self.columns or ())
        return {name: value for name, value in values if value is not UNDEFINED}


def parse_query(text: str) -> Query:
    """Read a whole query.

    Raises:
        QueryError: it is not one.
    """
    return _Parser(text).query()


def parse_condition(text: str) -> Condition:
    """Read the target condition of a configuration: `*` is every device, nothing is none.

    Raises:
        QueryError: it is not a condition.
    """
    stripped = text.strip()
    if stripped in ("", "*"):
        everything = stripped == "*"
        return Condition(frozenset(), lambda document: everything)
    return _Parser(text).lone_condition()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else self.text


def _tokens(text: str) -> list[_Token]:
    if len(text) > _MAX_TEXT:
        raise QueryError(f"the query is longer than {_MAX_TEXT} characters")
    result: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise QueryError(f"unexpected character at position {position}: {text[position : position + 10]!r}")
        result.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    return [*result, _Token("end", "", end)]


class _Parser:
    """Recursive descent over the grammar of this file's docstring, one method a rule."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._roots: set[str] = set()

    def query(self) -> Query:
        self._expect("SELECT")
        columns, count = self._selection()
        self._expect("FROM")
        if self._name("the source of the query").lower() != "devices":
            raise QueryError("only FROM devices can be queried")
        self._roots.clear()
        where = self._condition() if self._accept("WHERE") else lambda document: True
        self._end()
        return Query(columns, count, Condition(frozenset(self._roots), where))

    def lone_condition(self) -> Condition:
        evaluate = self._condition()
        self._end()
        return Condition(frozenset(self._roots), evaluate)

    def _selection(self) -> tuple[tuple[Column, ...] | None, str | None]:
        if self._accept("*"):
            return None, None
        if self._peek().word == "COUNT" and self._peek(1).text == "(":
            self._next += 2
            self._expect(")")
            return (), self._name("a name") if self._accept("AS") else "count"
        columns = [self._column()]
        while self._accept(","):
            columns.append(self._column())
        return tuple(columns), None

    def _column(self) -> Column:
        parts = self._path()
        name = self._name("a name") if self._accept("AS") else parts[-1]
        return Column(name, _reader(parts))

    def _condition(self) -> _Evaluate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise QueryError(f"the condition is nested deeper than {_MAX_DEPTH} levels")
        terms = [self._conjunction()]
        while self._accept("OR"):
            terms.append(self._conjunction())
        self._depth -= 1
        return terms[0] if len(terms) == 1 else _any_of(terms)

    def _conjunction(self) -> _Evaluate:
        terms = [self._negation()]
        while self._accept("AND"):
            terms.append(self._negation())
        return terms[0] if len(terms) == 1 else _all_of(terms)

    def _negation(self) -> _Evaluate:
        inverted = False
        while self._accept("NOT"):
            inverted = not inverted
        inner = self._comparison()
        return _not(inner) if inverted else inner

    def _comparison(self) -> _Evaluate:
        left = self._operand()
        token = self._peek()
        if token.text in ("=", "!=", "<>"):
            self._next += 1
            return _equality(left, self._operand(), wanted=token.text == "=")
        if token.text in _ORDER:
            self._next += 1
            return _ordering(left, self._operand(), _ORDER[token.text])
        if token.word == "NOT" and self._peek(1).word == "IN":
            self._next += 2
            return _not(_membership(left, self._list()))
        if self._accept("IN"):
            return _membership(left, self._list())
        return left

    def _operand(self) -> _Evaluate:
        token = self._peek()
        if self._accept("("):
            inner = self._condition()
            self._expect(")")
            return inner
        if token.kind in ("string", "number") or token.word in _WORDS:
            literal = self._literal()
            return lambda document: literal
        if token.kind == "name" and self._peek(1).text == "(":
            return self._function()
        return _reader(self._path())

    def _function(self) -> _Evaluate:
        token = self._take()
        self._expect("(")
        if token.word == "IS_DEFINED":
            read = _reader(self._path())
            self._expect(")")
            return lambda document: read(document) is not UNDEFINED
        if token.word == "STARTSWITH":
            text = self._operand()
            self._expect(",")
            prefix = self._operand()
            self._expect(")")
            return _starts_with(text, prefix)
        raise QueryError(f"unknown function {token.text} at position {token.position}")

    def _path(self) -> list[str]:
        parts = [self._name("a property")]
        while True:
            if self._accept("."):
                token = self._take()
                if token.kind == "bracket":
                    parts.append(token.text[2:-2])
                elif token.kind == "name":
                    parts.append(token.text)
                else:
                    raise self._unexpected(token, "a property")
            elif self._peek().text == "[" and self._peek(1).kind == "string":
                self._next += 1
                parts.append(_unquoted(self._take().text))
                self._expect("]")
            else:
                self._roots.add(parts[0].lower())
                return parts

    def _list(self) -> list[Any]:
        self._expect("[")
        items = [self._literal()]
        while self._accept(","):
            items.append(self._literal())
        self._expect("]")
        return items

    def _literal(self) -> Any:
        token = self._take()
        if token.kind == "string":
            return _unquoted(token.text)
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "name" and token.word in _WORDS:
            return _WORDS[token.word]
        raise self._unexpected(token, "a value")

    def _name(self, what: str) -> str:
        token = self._take()
        if token.kind != "name" or token.word in _RESERVED:
            raise self._unexpected(token, what)
        return token.text

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token

    def _accept(self, word: str) -> bool:
        token = self._peek()
        if token.kind in ("name", "mark") and token.word == word:
            self._next += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._unexpected(self._peek(), word)

    def _end(self) -> None:
        if self._peek().kind != "end":
            raise self._unexpected(self._peek(), "the end of the query")

    @staticmethod
    def _unexpected(token: _Token, wanted: str) -> QueryError:
        found = repr(token.text) if token.text else "the end"
        return QueryError(f"expected {wanted} at position {token.position}, found {found}")


def _unquoted(text: str) -> str:
    quote, body = text[0], text[1:-1]
    return re.sub(r"\\(.)", r"\1", body.replace(quote * 2, quote), flags=re.DOTALL)


def _reader(parts: list[str]) -> _Evaluate:
    root, rest = parts[0], parts[1:]

    def read(document: Document) -> Any:
        value = document(root)
        for name in rest:
            if not isinstance(value, dict) or name not in value:
                return UNDEFINED
            value = value[name]
        return value

    return read


def _any_of(terms: Iterable[_Evaluate]) -> _Evaluate:
    every = tuple(terms)

    def evaluate(document: Document) -> Any:
        result: Any = False
        for term in every:
            value = term(document)
            if value is True:
                return True
            if value is not False:
                result = UNDEFINED
        return result

    return evaluate


def _all_of(terms: Iterable[_Evaluate]) -> _Evaluate:
    every = tuple(terms)

    def evaluate(document: Document) -> Any:
        result: Any = True
        for term in every:
            value = term(document)
            if value is False:
                return False
            if value is not True:
                result = UNDEFINED
        return result

    return evaluate


def _not(inner: _Evaluate) -> _Evaluate:
    def evaluate(document: Document) -> Any:
        value = inner(document)
        return not value if isinstance(value, bool) else UNDEFINED

    return evaluate


def _equality(left: _Evaluate, right: _Evaluate, *, wanted: bool) -> _Evaluate:
    def evaluate(document: Document) -> Any:
        a, b = left(document), right(document)
        if a is None or b is None:
            a, b = (None if a is UNDEFINED else a), (None if b is UNDEFINED else b)
        if a is UNDEFINED or b is UNDEFINED:
            return UNDEFINED
        return _same(a, b) is wanted

    return evaluate


def _ordering(left: _Evaluate, right: _Evaluate, compare: Callable[[Any, Any], bool]) -> _Evaluate:
    def evaluate(document: Document) -> Any:
        a, b = left(document), right(document)
        comparable = (_is_number(a) and _is_number(b)) or (isinstance(a, str) and isinstance(b, str))
        return compare(a, b) if comparable else UNDEFINED

    return evaluate


def _membership(left: _Evaluate, items: list[Any]) -> _Evaluate:
    def evaluate(document: Document) -> Any:
        value = left(document)
        return UNDEFINED if value is UNDEFINED else any(_same(value, item) for item in items)

    return evaluate


def _starts_with(text: _Evaluate, prefix: _Evaluate) -> _Evaluate:
    def evaluate(document: Document) -> Any:
        a, b = text(document), prefix(document)
        return a.startswith(b) if isinstance(a, str) and isinstance(b, str) else UNDEFINED

    return evaluate


def _same(a: Any, b: Any) -> bool:
    # Python says True == 1; JSON does not.
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
