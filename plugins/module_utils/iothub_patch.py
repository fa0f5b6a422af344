# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON merge patch as twins have it (RFC 7396): what of a patch would really change a document."""

from __future__ import annotations

import typing as t

Json = t.Any
Document = dict[str, t.Any]

_NOTHING: t.Final = object()


def difference(current: Document, patch: Document) -> Document:
    """Return the part of ``patch`` that changes ``current``; empty if nothing does. null deletes a key."""
    changes: Document = {}
    for key, wanted in patch.items():
        found = current.get(key, _NOTHING)
        if wanted is None:
            if found is not _NOTHING and found is not None:
                changes[key] = None
        elif isinstance(wanted, dict) and isinstance(found, dict):
            inner = difference(found, wanted)
            if inner:
                changes[key] = inner
        elif found is _NOTHING and _only_deletes(wanted):
            continue
        elif not same(found, _without_nulls(wanted)):
            changes[key] = wanted
    return changes


def patched(current: Document, patch: Document) -> Document:
    """Return ``current`` with ``patch`` merged in; ``current`` stays as it is."""
    result = dict(current)
    for key, wanted in patch.items():
        if wanted is None:
            result.pop(key, None)
        elif isinstance(wanted, dict):
            found = result.get(key)
            result[key] = patched(found if isinstance(found, dict) else {}, wanted)
        else:
            result[key] = wanted
    return result


def touched(current: Document, patch: Document) -> Document:
    """Return the top-level keys of ``current`` that ``patch`` names: what a reader of a diff wants to see."""
    return {key: value for key, value in current.items() if key in patch}


def same(one: Json, other: Json) -> bool:
    """Compare as JSON does: 1 and 1.0 are one number, 1 and true are not one value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def without_system(document: Document) -> Document:
    """Return a twin's section without $metadata and $version, which the hub adds."""
    return {key: value for key, value in document.items() if not key.startswith("$")}


def _without_nulls(value: Json) -> Json:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}


def _only_deletes(value: Json) -> bool:
    """Whether a patch only deletes, so that applied to nothing it changes nothing."""
    if not isinstance(value, dict):
        return value is None
    return bool(value) and all(_only_deletes(inner) for inner in value.values())
