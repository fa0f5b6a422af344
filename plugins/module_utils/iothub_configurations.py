# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Automatic device configurations: one document that steers a whole ring."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from .iothub_engine import Hub
from .iothub_errors import Changed, HubError, worded
from .iothub_patch import Document, same

# https://learn.microsoft.com/azure/iot-hub/iot-hub-automatic-device-management#create-a-configuration
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-:+%_#*?!(),=@;$'")
_LONGEST = 128
_TRIES = 3  # times to decide anew when somebody else writes in between


def check_id(name: str) -> None:
    """Raise HubError for an id that no hub takes."""
    bad = "".join(sorted(set(name) - _CHARACTERS))
    if bad or not 0 < len(name) <= _LONGEST:
        raise HubError(
            f"'{name}' is no configuration id: up to 128 lowercase letters, digits and -:+%_#*?!(),=@;$'"
            + (f", not {bad!r}" if bad else "")
        )


@dataclass(frozen=True)
class Wanted:
    """A configuration as it should be; None leaves a field as it is (and takes its default when created)."""

    id: str
    content: Document | None = None
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None

    def fields(self) -> Document:
        """Return the given changeable fields, by their public names."""
        given = {
            "target_condition": self.target_condition,
            "priority": self.priority,
            "labels": self.labels,
            "metrics": self.metrics,
        }
        return {name: value for name, value in given.items() if value is not None}


def texts(values: dict[str, t.Any] | None) -> dict[str, str] | None:
    """Return labels as a hub stores them: numbers and truth values written as JSON writes them."""
    if values is None:
        return None
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def shown(configuration: Document) -> Document:
    """Return the hub's document under the names that the modules use."""
    metrics = configuration.get("metrics") or {}
    return {
        "id": configuration["id"],
        "labels": configuration.get("labels") or {},
        "target_condition": configuration.get("targetCondition") or "",
        "priority": configuration.get("priority") or 0,
        "content": (configuration.get("content") or {}).get("deviceContent") or {},
        "metrics": metrics.get("queries") or {},
        "metrics_results": metrics.get("results") or {},
        "system_metrics": (configuration.get("systemMetrics") or {}).get("results") or {},
        "created_time": configuration.get("createdTimeUtc"),
        "last_updated_time": configuration.get("lastUpdatedTimeUtc"),
        "etag": configuration.get("etag"),
    }


def ranked(configurations: t.Iterable[Document]) -> list[Document]:
    """Sort as the hub decides conflicts: the highest priority first, of equals the newest."""
    newest_first = sorted(configurations, key=lambda one: str(one["created_time"] or ""), reverse=True)
    return sorted(newest_first, key=lambda one: -int(one["priority"]))


class Configurations:
    """Makes a configuration present or absent."""

    def __init__(self, hub: Hub, check_mode: bool = False) -> None:
        self._hub = hub
        self._check_mode = check_mode

    def info(self, name: str | None) -> list[Document]:
        """Return one configuration, or all, ranked; a missing one gives an empty list."""
        if name is None:
            return ranked(map(shown, self._hub.configurations()))
        check_id(name)
        found = self._hub.configuration(name)
        return [] if found is None else [shown(found)]

    def present(self, wanted: Wanted) -> dict[str, t.Any]:
        """Create or update; return ``changed``, ``state``, ``configuration`` and ``diff``."""
        check_id(wanted.id)
        for attempt in range(1, _TRIES + 1):
            try:
                return self._present(wanted)
            except Changed:
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")

    def _present(self, wanted: Wanted) -> dict[str, t.Any]:
        current = self._hub.configuration(wanted.id)
        return self._create(wanted) if current is None else self._update(current, wanted)

    def _create(self, wanted: Wanted) -> dict[str, t.Any]:
        if wanted.content is None or wanted.target_condition is None:
            lacking = "content" if wanted.content is None else "target_condition"
            raise HubError(worded(f"create configuration '{wanted.id}'", f"{lacking} is not given", f"give {lacking}"))
        fresh = {**shown({"id": wanted.id}), **wanted.fields(), "content": wanted.content}
        written = fresh if self._check_mode else shown(self._hub.put_configuration(_document(fresh)))
        return _result("created", {}, written)

    def _update(self, current: Document, wanted: Wanted) -> dict[str, t.Any]:
        before = shown(current)
        self._refuse_other_content(before, wanted)
        changes = {name: value for name, value in wanted.fields().items() if not same(before[name], value)}
        if not changes:
            return _result("unchanged", before, before)
        after = {**before, **changes}
        if not self._check_mode:
            after = shown(self._hub.put_configuration({**current, **_document(after)}, current.get("etag")))
        return _result("changed", before, after)

    def _refuse_other_content(self, before: Document, wanted: Wanted) -> None:
        """A hub never changes the content of a configuration: devices may have it already."""
        if wanted.content is None or same(before["content"], wanted.content):
            return
        keys = sorted(before["content"].keys() | wanted.content.keys())
        other = [key for key in keys if not same(before["content"].get(key), wanted.content.get(key))]
        happened = f"its content cannot change after creation, and differs in {', '.join(other)}"
        raise HubError(worded(f"update configuration '{wanted.id}'", happened, "use a new id"))

    def absent(self, name: str) -> dict[str, t.Any]:
        """Delete; return ``changed``, ``state``, ``configuration`` (null) and ``diff``."""
        check_id(name)
        current = self._hub.configuration(name)
        if current is not None and not self._check_mode:
            self._hub.delete_configuration(name)
        result = _result("absent", {} if current is None else shown(current), {})
        return {**result, "changed": current is not None, "configuration": None}


def _document(configuration: Document) -> Document:
    """Return the hub's document of our names, without what the hub computes."""
    return {
        "id": configuration["id"],
        "schemaVersion": "1.0",
        "labels": configuration["labels"],
        "content": {"deviceContent": configuration["content"]},
        "targetCondition": configuration["target_condition"],
        "priority": configuration["priority"],
        "metrics": {"queries": configuration["metrics"]},
    }


def _result(state: str, before: Document, after: Document) -> dict[str, t.Any]:
    return {
        "changed": state in ("created", "changed"),
        "state": state,
        "configuration": after,
        "diff": {"before": _steady(before), "after": _steady(after)},
    }


def _steady(configuration: Document) -> Document:
    """Leave out of a diff what moves by itself: results, times, etag."""
    moving = {"metrics_results", "system_metrics", "created_time", "last_updated_time", "etag"}
    return {name: value for name, value in configuration.items() if name not in moving}
