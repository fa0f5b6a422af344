# SPDX-License-Identifier: Apache-2.0
"""What the operators and functions of the query language make of values.

A missing property is UNDEFINED: it makes a comparison, a sum and a negation UNDEFINED, and only TRUE selects. One
exception, for people: `tags.x = null` asks for documents without tags.x. Comparisons are between primitive values of
one type; everything else is UNDEFINED.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language#expressions-and-conditions
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, Final


class _Undefined:
    """The one value that is not there."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = _Undefined()
Document = Callable[[str], Any]
"""A document as the language sees it: the name of a root (`tags`, `deviceId`) in, its value or UNDEFINED out."""
Evaluate = Callable[[Document], Any]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
}


def path(parts: list[str]) -> Evaluate:
    """A property, by the names that lead to it."""
    root, rest = parts[0], parts[1:]

    def read(document: Document) -> Any:
        value = document(root)
        for name in rest:
            if not isinstance(value, dict) or name not in value:
                return UNDEFINED
            value = value[name]
        return value

    return read


def any_of(terms: Iterable[Evaluate]) -> Evaluate:
    """OR."""
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


def all_of(terms: Iterable[Evaluate]) -> Evaluate:
    """AND."""
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


def negation(inner: Evaluate) -> Evaluate:
    """NOT."""

    def evaluate(document: Document) -> Any:
        value = inner(document)
        return not value if isinstance(value, bool) else UNDEFINED

    return evaluate


def comparison(left: Evaluate, sign: str, right: Evaluate) -> Evaluate:
    """= != <> < <= > >=."""
    if sign in _ORDER:
        return _ordering(left, right, _ORDER[sign])
    return _equality(left, right, wanted=sign == "=")


def membership(left: Evaluate, items: list[Any]) -> Evaluate:
    """IN."""

    def evaluate(document: Document) -> Any:
        value = left(document)
        return UNDEFINED if value is UNDEFINED else any(_same(value, item) for item in items)

    return evaluate


def arithmetic(first: Evaluate, rest: list[tuple[str, Evaluate]]) -> Evaluate:
    """+ - * / %, from left to right; of numbers only. What has no finite result is UNDEFINED."""
    steps = [(_ARITHMETIC[sign], term) for sign, term in rest]

    def evaluate(document: Document) -> Any:
        value = first(document)
        for act, term in steps:
            other = term(document)
            if not is_number(value) or not is_number(other):
                return UNDEFINED
            value = _finite(act, value, other)
        return value

    return evaluate


def minus(inner: Evaluate) -> Evaluate:
    """The sign."""

    def evaluate(document: Document) -> Any:
        value = inner(document)
        return -value if is_number(value) else UNDEFINED

    return evaluate


def is_number(value: Any) -> bool:
    """A number of JSON: Python's bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(act: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    try:
        result = act(a, b)
    except ArithmeticError:
        return UNDEFINED
    except ValueError:  # math.fmod of infinity
        return UNDEFINED
    if isinstance(result, float) and (math.isnan(result) or math.isinf(result)):
        return UNDEFINED
    return int(result) if isinstance(a, int) and isinstance(b, int) and result == int(result) else result


def _equality(left: Evaluate, right: Evaluate, *, wanted: bool) -> Evaluate:
    def evaluate(document: Document) -> Any:
        a, b = left(document), right(document)
        if a is None or b is None:
            a, b = (None if a is UNDEFINED else a), (None if b is UNDEFINED else b)
        if a is UNDEFINED or b is UNDEFINED:
            return UNDEFINED
        return _same(a, b) is wanted

    return evaluate


def _ordering(left: Evaluate, right: Evaluate, compare: Callable[[Any, Any], bool]) -> Evaluate:
    def evaluate(document: Document) -> Any:
        a, b = left(document), right(document)
        comparable = (is_number(a) and is_number(b)) or (isinstance(a, str) and isinstance(b, str))
        return compare(a, b) if comparable else UNDEFINED

    return evaluate


def _same(a: Any, b: Any) -> bool:
    # Python says True == 1; JSON does not.
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def _of_texts(act: Callable[[str, str], bool]) -> Callable[..., Any]:
    return lambda a, b: act(a, b) if isinstance(a, str) and isinstance(b, str) else UNDEFINED


_starts_with, _ends_with = _of_texts(str.startswith), _of_texts(str.endswith)


def _array_contains(array: Any, value: Any) -> Any:
    if not isinstance(array, list) or value is UNDEFINED:
        return UNDEFINED
    return any(_same(each, value) for each in array)


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "IS_DEFINED": (1, lambda value: value is not UNDEFINED),
    "IS_NULL": (1, lambda value: value is None),
    "IS_BOOL": (1, lambda value: isinstance(value, bool)),
    "IS_NUMBER": (1, is_number),
    "IS_STRING": (1, lambda value: isinstance(value, str)),
    "IS_OBJECT": (1, lambda value: isinstance(value, dict)),
    "IS_ARRAY": (1, lambda value: isinstance(value, list)),
    "IS_PRIMITIVE": (1, lambda value: value is None or isinstance(value, bool | int | float | str)),
    "STARTSWITH": (2, _starts_with),
    "STARTS_WITH": (2, _starts_with),
    "ENDSWITH": (2, _ends_with),
    "ENDS_WITH": (2, _ends_with),
    "CONTAINS": (2, _of_texts(str.__contains__)),
    "ARRAY_CONTAINS": (2, _array_contains),
}
"""How many arguments each function takes, and what it makes of their values."""


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if is_number(value)]


def _sum(values: list[Any]) -> Any:
    total = sum(_numbers(values))
    return total if math.isfinite(total) else UNDEFINED


def _average(values: list[Any]) -> Any:
    total, count = _sum(values), len(_numbers(values))
    return total / count if count and total is not UNDEFINED else UNDEFINED


AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "COUNT": len,
    "SUM": _sum,
    "AVG": _average,
    "MIN": lambda values: min(_numbers(values), default=UNDEFINED),
    "MAX": lambda values: max(_numbers(values), default=UNDEFINED),
}
"""What each aggregate makes of the values of a group; those that are no numbers do not count, except for COUNT."""
