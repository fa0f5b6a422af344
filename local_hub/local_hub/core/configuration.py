# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations: a target condition, a priority, and desired properties for whoever matches.

Of all configurations that match a device the one with the highest priority is applied, the newest of equals. When it
goes, the next one is applied; what a configuration wrote stays until something else writes over it.
https://learn.microsoft.com/azure/iot-hub/iot-hub-automatic-device-management
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import ArgumentInvalid, InvalidConfigurationContent, PreconditionFailed
from .identity import new_etag
from .query import Condition, Document, Query, parse_condition, parse_query
from .twin import Twin, difference

JsonObject = dict[str, Any]

_ID = re.compile(r"[a-z0-9\-+%_*!',]{1,128}")
_PREFIX = "properties.desired"
_SELECT = "select deviceId from devices"
_MAX_METRICS = 5
_MAX_LABELS = 8 * 1024


@dataclass(frozen=True)
class Configuration:
    """One configuration, parsed and ready to be asked about devices."""

    id: str
    schema_version: str
    labels: dict[str, str]
    content: JsonObject
    target_condition: str
    priority: int
    metric_queries: dict[str, str]
    created: str
    updated: str
    etag: str
    created_order: int
    targets: Condition = field(repr=False, compare=False)
    metrics: dict[str, Query] = field(repr=False, compare=False)

    def changed(self, body: JsonObject, now: str) -> Configuration:
        """This configuration with what a PUT may change: condition, labels, priority, metrics.

        Raises:
            ArgumentInvalid: the content differs; it is fixed at creation.
        """
        new = _parse(self.id, body, now, self.created_order)
        if _content_text(new.content) != _content_text(self.content):
            raise ArgumentInvalid("the content of a configuration cannot be changed: create another one")
        return replace(new, created=self.created)

    def apply(self, desired: JsonObject) -> JsonObject:
        """The merge-patch that brings desired properties to this configuration's content; empty when they are."""
        wanted = desired
        for path, value in self.content["deviceContent"].items():
            wanted = _set(wanted, path.split(".")[2:], value)
        return difference(desired, wanted)

    def system_queries(self) -> dict[str, str]:
        """Azure's own two metrics, as queries."""
        where = self.target_condition.strip()
        targeted = "" if where == "*" else f" where {where or '1 = 0'}"
        applied = f" where configurations.[[{self.id}]].status = 'Applied'"
        return {"targetedCount": _SELECT + targeted, "appliedCount": _SELECT + applied}

    def to_json(self) -> JsonObject:
        """As REST shows it, without metric results."""
        return {
            "id": self.id,
            "schemaVersion": self.schema_version,
            "labels": self.labels,
            "content": self.content,
            "targetCondition": self.target_condition,
            "createdTimeUtc": self.created,
            "lastUpdatedTimeUtc": self.updated,
            "priority": self.priority,
            "systemMetrics": {"results": {}, "queries": self.system_queries()},
            "metrics": {"results": {}, "queries": self.metric_queries},
            "etag": self.etag,
        }

    def to_record(self) -> str:
        """For the store."""
        return json.dumps({**self.to_json(), "createdOrder": self.created_order}, separators=(",", ":"))

    @classmethod
    def from_record(cls, record: str) -> Configuration:
        """From the store."""
        data = json.loads(record)
        parsed = _parse(data["id"], data, data["lastUpdatedTimeUtc"], data["createdOrder"])
        return replace(parsed, created=data["createdTimeUtc"], etag=data["etag"])


def new_configuration(configuration_id: str, body: JsonObject, now: str, order: int) -> Configuration:
    """Read the body of a PUT that creates.

    Raises:
        ArgumentInvalid: the id, a query or the target condition is wrong.
        InvalidConfigurationContent: the content is not for devices.
    """
    if not _ID.fullmatch(configuration_id):
        raise ArgumentInvalid("a configuration id has 1 to 128 characters of a-z 0-9 and - + % _ * ! ' ,")
    return _parse(configuration_id, body, now, order)


def assign(configurations: Iterable[Configuration], twin: Twin, document: Document) -> tuple[JsonObject, JsonObject]:
    """What configurations mean for one device.

    Returns:
        The twin's `configurations` section, and the merge-patch for its desired properties (empty: nothing to do).
    """
    matching = [each for each in configurations if each.targets(document)]
    if not matching:
        return {}, {}
    winner = max(matching, key=lambda each: (each.priority, each.created_order))
    section = {each.id: {"status": "Applied" if each is winner else "Targeted"} for each in matching}
    return section, winner.apply(twin.desired.values)


def require_quoted_match(if_match: str | None, etag: str) -> None:
    """The precondition of a PUT, DELETE or PATCH.

    Raises:
        PreconditionFailed: somebody else was faster.
    """
    if if_match is not None and if_match not in ("*", f'"{etag}"', f'W/"{etag}"'):
        raise PreconditionFailed("the ETag does not match: somebody changed it meanwhile")


def _parse(configuration_id: str, body: JsonObject, now: str, order: int) -> Configuration:
    condition = _of_type(body, "targetCondition", str, "")
    queries = _of_type(_of_type(body, "metrics", dict, {}), "queries", dict, {})
    if len(queries) > _MAX_METRICS:
        raise ArgumentInvalid(f"a configuration has {_MAX_METRICS} metrics at most")
    return Configuration(
        id=configuration_id,
        schema_version=_of_type(body, "schemaVersion", str, "1.0"),
        labels=_labels(body),
        content=_content(body),
        target_condition=condition,
        priority=_priority(body),
        metric_queries=queries,
        created=now,
        updated=now,
        etag=new_etag(),
        created_order=order,
        targets=parse_condition(condition),
        metrics={name: parse_query(_text(query, f"metric {name}")) for name, query in queries.items()},
    )


def _content(body: JsonObject) -> JsonObject:
    content = _of_type(body, "content", dict, {})
    device = content.get("deviceContent")
    if not isinstance(device, dict) or not device:
        raise InvalidConfigurationContent("content.deviceContent has properties.desired.<path>: <value> pairs")
    for path in device:
        parts = path.split(".")
        if not path.startswith(f"{_PREFIX}.") or not all(parts):
            raise InvalidConfigurationContent(f"{path!r} is not a path below {_PREFIX}")
    return {"deviceContent": device}


def _labels(body: JsonObject) -> dict[str, str]:
    labels: dict[str, str] = _of_type(body, "labels", dict, {})
    if not all(isinstance(value, str) for value in labels.values()):
        raise ArgumentInvalid("labels are texts")
    if len(json.dumps(labels)) > _MAX_LABELS:
        raise ArgumentInvalid(f"labels are larger than {_MAX_LABELS} bytes")
    return labels


def _priority(body: JsonObject) -> int:
    priority = _of_type(body, "priority", int, 0)
    if isinstance(priority, bool) or not 0 <= priority < 2**31:
        raise ArgumentInvalid("priority is an integer from 0 on")
    return int(priority)


def _of_type(body: JsonObject, name: str, kind: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ArgumentInvalid(f"{name} is not of type {kind.__name__}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ArgumentInvalid(f"{what} is not a text")
    return value


def _content_text(content: JsonObject) -> str:
    return json.dumps(content, sort_keys=True)


def _set(section: JsonObject, path: list[str], value: Any) -> JsonObject:
    name, rest = path[0], path[1:]
    if rest:
        inner = section.get(name)
        value = _set(inner if isinstance(inner, dict) else {}, rest, value)
    if value is None:
        return {key: item for key, item in section.items() if key != name}
    return {**section, name: value}
