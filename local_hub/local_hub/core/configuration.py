# SPDX-License-Identifier: Apache-2.0
"""Automatic configurations: a target condition, a priority, and desired properties for whoever matches.

There are three kinds, by their content: `deviceContent` for devices, `moduleContent` for modules (its condition begins
with FROM devices.modules), and `modulesContent`, a deployment, for the modules of IoT Edge devices.

Of all configurations of a kind that match, the one with the highest priority is applied, the newest of equals. When it
goes, the next one is applied; what a configuration wrote stays until something else writes over it. Deployments also
have layers, which do not say the whole of $edgeAgent's properties: those above the one that does are applied on top.
https://learn.microsoft.com/azure/iot-hub/iot-hub-automatic-device-management
https://learn.microsoft.com/azure/iot-edge/module-deployment-monitoring#layered-deployment
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import (
    ArgumentInvalid,
    CannotModifyImmutableConfigurationContent,
    InvalidConfigurationContent,
    InvalidConfigurationCustomMetricsQuery,
    InvalidConfigurationTargetCondition,
    PreconditionFailed,
)
from .identity import new_etag
from .query import DEVICES, MODULES, Condition, Document, Query, QueryError, parse_condition, parse_query
from .twin import Twin, difference

JsonObject = dict[str, Any]

_ID = re.compile(r"[a-z0-9\-+%_*!',]{1,128}")
_PREFIX = "properties.desired"
DEVICE, MODULE, EDGE = "deviceContent", "moduleContent", "modulesContent"
_KINDS = (DEVICE, MODULE, EDGE)
AGENT = "$edgeAgent"
_ON_AGENT = f"select deviceId from devices.modules where moduleId = '{AGENT}' and "  # noqa: S608
_FROM_MODULES = re.compile(r"^from\s+devices\s*\.\s*modules", re.IGNORECASE)
_MAX_EDGE_MODULES = 50
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

    @property
    def kind(self) -> str:
        """Which of the three contents it has."""
        return next(iter(self.content))

    @property
    def is_layer(self) -> bool:
        """Whether it is a deployment that only adds to another one."""
        return self.kind == EDGE and _PREFIX not in self.content[EDGE].get(AGENT, {})

    def changed(self, body: JsonObject, now: str) -> Configuration:
        """This configuration with what a PUT may change: condition, labels, priority, metrics.

        Raises:
            ArgumentInvalid: the content differs; it is fixed at creation.
        """
        new = _parse(self.id, body, now, self.created_order)
        if _content_text(new.content) != _content_text(self.content):
            raise CannotModifyImmutableConfigurationContent(
                "the content of a configuration cannot be changed: create another one"
            )
        return replace(new, created=self.created)

    def apply(self, desired: JsonObject) -> JsonObject:
        """The merge-patch that brings desired properties to this configuration's content; empty when they are."""
        return difference(desired, written(desired, self.content[self.kind]))

    def system_queries(self) -> dict[str, str]:
        """Azure's own metrics, as queries."""
        text = self.target_condition.strip()
        where = "" if text == "*" else f" where {text or '1 = 0'}"
        if self.targets.source == MODULES:
            where = _FROM_MODULES.sub("", text)
        applied = f"configurations.[[{self.id}]].status = 'Applied'"
        if self.kind != EDGE:
            select = f"select deviceId from {self.targets.source}"  # noqa: S608
            return {"targetedCount": select + where, "appliedCount": f"{select} where {applied}"}
        reported = (
            f"{_ON_AGENT}{applied} and properties.desired.$version = properties.reported.lastDesiredVersion "
            "and properties.reported.lastDesiredStatus.code "
        )
        return {
            "targetedCount": f"select deviceId from devices{where}",  # noqa: S608
            "appliedCount": _ON_AGENT + applied,
            "reportedSuccessfulCount": f"{reported}= 200",
            "reportedFailedCount": f"{reported}!= 200",
        }

    def system_metrics(self) -> dict[str, Query]:
        """The same, ready to be asked."""
        return {name: parse_query(text) for name, text in self.system_queries().items()}

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


def assign(
    configurations: Iterable[Configuration], twin: Twin, document: Document, kind: str = DEVICE
) -> tuple[JsonObject, JsonObject]:
    """What configurations mean for one device, or one module.

    Returns:
        The twin's `configurations` section, and the merge-patch for its desired properties (empty: nothing to do).
    """
    matching = [each for each in configurations if each.kind == kind and each.targets(document)]
    if not matching:
        return {}, {}
    winner = max(matching, key=_rank)
    section = {each.id: {"status": "Applied" if each is winner else "Targeted"} for each in matching}
    return section, winner.apply(twin.desired.values)


@dataclass(frozen=True)
class Deployment:
    """What deployments mean for the modules of one IoT Edge device."""

    section: JsonObject
    layers: tuple[JsonObject, ...]
    """Contents to write, one over the other."""

    def modules(self) -> set[str]:
        """All modules that have content or that $edgeAgent is told to run."""
        names: set[str] = set()
        for layer in self.layers:
            names |= layer.keys() | edge_modules(layer)
        return names

    def wanted(self, module_id: str, desired: JsonObject) -> JsonObject:
        """Desired properties of a module with all layers written to them."""
        for layer in self.layers:
            desired = written(desired, layer.get(module_id, {}))
        return desired


def deploy(configurations: Iterable[Configuration], document: Document) -> Deployment:
    """Which deployments an IoT Edge device gets, from those that match it."""
    matching = sorted((each for each in configurations if each.kind == EDGE and each.targets(document)), key=_rank)
    base = next((each for each in reversed(matching) if not each.is_layer), None)
    applied = [] if base is None else matching[matching.index(base) :]
    section = {each.id: {"status": "Applied" if each in applied else "Targeted"} for each in matching}
    return Deployment(section, tuple(each.content[EDGE] for each in applied))


def edge_modules(content: JsonObject) -> set[str]:
    """The modules that a `modulesContent` tells $edgeAgent to run."""
    modules: Any = written({}, content.get(AGENT, {})).get("modules")
    return set(modules) if isinstance(modules, dict) else set()


def written(desired: JsonObject, content: JsonObject) -> JsonObject:
    """Desired properties with `properties.desired.<path>: <value>` pairs written to them."""
    for path, value in content.items():
        names = path.split(".")[2:]
        desired = _set(desired, names, value) if names else _without_nulls(value)
    return desired


def checked_content(content: Any) -> JsonObject:
    """A `ConfigurationContent` of any kinds, as applyConfigurationContent takes it.

    Raises:
        InvalidConfigurationContent: it is not for desired properties.
    """
    if not isinstance(content, dict):
        raise InvalidConfigurationContent("the content of a configuration is an object")
    found = {kind: content[kind] for kind in _KINDS if content.get(kind)}
    for kind, value in found.items():
        if kind != EDGE:
            _check_pairs(value)
        elif not isinstance(value, dict) or len(value) > _MAX_EDGE_MODULES:
            raise InvalidConfigurationContent(f"content.{EDGE} has up to {_MAX_EDGE_MODULES} modules")
        else:
            for pairs in value.values():
                _check_pairs(pairs)
    return found


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
    content = _content(body)
    targets = _targets(condition, next(iter(content)))
    return Configuration(
        id=configuration_id,
        schema_version=_of_type(body, "schemaVersion", str, "1.0"),
        labels=_labels(body),
        content=content,
        target_condition=condition,
        priority=_priority(body),
        metric_queries=queries,
        created=now,
        updated=now,
        etag=new_etag(),
        created_order=order,
        targets=targets,
        metrics={name: _metric(name, query) for name, query in queries.items()},
    )


def _content(body: JsonObject) -> JsonObject:
    content = checked_content(_of_type(body, "content", dict, {}))
    if len(content) != 1:
        raise InvalidConfigurationContent(f"content has one of {', '.join(_KINDS)}")
    return content


def _check_pairs(pairs: Any) -> None:
    if not isinstance(pairs, dict) or not pairs:
        raise InvalidConfigurationContent(f"content has {_PREFIX}.<path>: <value> pairs")
    for path, value in pairs.items():
        if path == _PREFIX and isinstance(value, dict):
            continue
        if not path.startswith(f"{_PREFIX}.") or not all(path.split(".")):
            raise InvalidConfigurationContent(f"{path!r} is not a path below {_PREFIX}")


def _targets(condition: str, kind: str) -> Condition:
    try:
        targets = parse_condition(condition)
    except QueryError as error:
        raise InvalidConfigurationTargetCondition(str(error)) from None
    nothing = not condition.strip()
    if not nothing and (targets.source == MODULES) is not (kind == MODULE):
        source = MODULES if kind == MODULE else DEVICES
        raise InvalidConfigurationTargetCondition(f"the target condition of {kind} is for {source}")
    return targets


def _metric(name: str, text: Any) -> Query:
    try:
        query = parse_query(_text(text, f"metric {name}"))
    except QueryError as error:
        raise InvalidConfigurationCustomMetricsQuery(f"metric {name}: {error}") from None
    if query.source not in (DEVICES, MODULES):
        raise InvalidConfigurationCustomMetricsQuery(f"metric {name}: only devices and modules can be counted")
    return query


def _rank(configuration: Configuration) -> tuple[int, int]:
    return configuration.priority, configuration.created_order


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


def _without_nulls(value: JsonObject) -> JsonObject:
    return {
        name: _without_nulls(item) if isinstance(item, dict) else item
        for name, item in value.items()
        if item is not None
    }


def _set(section: JsonObject, path: list[str], value: Any) -> JsonObject:
    name, rest = path[0], path[1:]
    if rest:
        inner = section.get(name)
        value = _set(inner if isinstance(inner, dict) else {}, rest, value)
    if value is None:
        return {key: item for key, item in section.items() if key != name}
    return {**section, name: value}
