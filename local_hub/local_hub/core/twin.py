# SPDX-License-Identifier: Apache-2.0
"""The device twin: tags, desired and reported properties, merged by JSON merge-patch.

Everything that changes a twin lives in this file. A section is replaced, never changed in place, so that whoever
holds an older one keeps what he read.
Sizes, names, depth: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins#device-twins-limits
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import Any

from .compact_json import compact, compact_size
from .errors import ArgumentInvalid

JsonObject = dict[str, Any]

MAX_TAGS = 8 * 1024
MAX_PROPERTIES = 32 * 1024
_MAX_DEPTH = 10
# Azure names no limit for arrays in arrays. One there must be: what a device reports is read by recursive readers.
_MAX_ARRAYS = 32
_MAX_NAME = 1024
_MAX_STRING = 4096
_MAX_INTEGER = 2**52
_FORBIDDEN = frozenset(". $") | {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))}


@dataclass(frozen=True)
class Properties:
    """One side of the twin with its version and the time of each part's last update."""

    values: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    version: int = 1

    def patched(self, patch: JsonObject, now: str) -> Properties:
        """A new section with `patch` merged in; null removes. The version rises even if no value changes."""
        version = self.version + 1
        metadata = _stamp(self.metadata, patch, {"$lastUpdated": now, "$lastUpdatedVersion": version})
        return Properties(merge(self.values, patch), metadata, version)

    def document(self) -> JsonObject:
        """As it appears in a twin: values, $metadata, $version."""
        return {**self.values, "$metadata": self.metadata, "$version": self.version}


@dataclass(frozen=True)
class Twin:
    """What the hub remembers of one device besides its identity."""

    tags: JsonObject = field(default_factory=dict)
    desired: Properties = field(default_factory=Properties)
    reported: Properties = field(default_factory=Properties)
    version: int = 1
    service_version: int = 1
    configurations: JsonObject = field(default_factory=dict)
    model_id: str = ""

    @property
    def etag(self) -> str:
        """Changes with what a service writes (tags, desired), not with what the device reports."""
        return base64.b64encode(self.service_version.to_bytes(8, "big")).decode()

    def with_service_patch(
        self, tags: JsonObject | None, desired: JsonObject | None, now: str, *, checked: bool = False
    ) -> Twin:
        """Merge a service's patch of tags and desired properties.

        `checked` says that the same patch was checked before, for another twin; its size counts for each.

        Raises:
            ArgumentInvalid: the result breaks a limit.
        """
        new_tags = self.tags if tags is None else merge(self.tags, _checked(tags, "tags"))
        new_desired = self.desired
        if desired is not None:
            new_desired = self.desired.patched(desired if checked else _checked(desired, "properties.desired"), now)
            _check_size(new_desired.values, MAX_PROPERTIES, "properties.desired")
        if tags is not None:
            _check_size(new_tags, MAX_TAGS, "tags")
        # not `replace`: a configuration does this for every device of the hub
        return Twin(
            new_tags,
            new_desired,
            self.reported,
            self.version + 1,
            self.service_version + 1,
            self.configurations,
            self.model_id,
        )

    def with_reported_patch(self, patch: JsonObject, now: str) -> Twin:
        """Merge what the device reports.

        Raises:
            ArgumentInvalid: the result breaks a limit.
        """
        reported = self.reported.patched(_checked(patch, "properties.reported"), now)
        _check_size(reported.values, MAX_PROPERTIES, "properties.reported")
        return replace(self, reported=reported, version=self.version + 1)

    def with_configurations(self, configurations: JsonObject) -> Twin:
        """Note which automatic configurations target this device; not a change that a service's ETag guards."""
        return Twin(
            self.tags,
            self.desired,
            self.reported,
            self.version + 1,
            self.service_version,
            configurations,
            self.model_id,
        )

    def with_model(self, model_id: str) -> Twin:
        """Note which model the device says it has; not a change that a service's ETag guards."""
        return replace(self, model_id=model_id, version=self.version + 1)

    def to_record(self) -> str:
        """For the store."""
        return compact(
            {
                "tags": self.tags,
                "desired": [self.desired.values, self.desired.metadata, self.desired.version],
                "reported": [self.reported.values, self.reported.metadata, self.reported.version],
                "version": self.version,
                "service_version": self.service_version,
                "configurations": self.configurations,
                "model_id": self.model_id,
            }
        )

    @classmethod
    def from_record(cls, record: str) -> Twin:
        """From the store."""
        data = json.loads(record)
        return cls(
            tags=data["tags"],
            desired=Properties(*data["desired"]),
            reported=Properties(*data["reported"]),
            version=data["version"],
            service_version=data["service_version"],
            configurations=data["configurations"],
            model_id=data.get("model_id", ""),
        )


def merge(target: JsonObject, patch: JsonObject) -> JsonObject:
    """JSON merge-patch (RFC 7396) of two objects, without touching either."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            previous = result.get(name)
            result[name] = merge(previous if isinstance(previous, dict) else {}, value)
        else:
            result[name] = value
    return result


def difference(old: JsonObject, new: JsonObject) -> JsonObject:
    """The smallest merge-patch that turns `old` into `new`."""
    patch: JsonObject = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name not in old:
            patch[name] = value
            continue
        before = old[name]
        if isinstance(before, dict) and isinstance(value, dict):
            inner = difference(before, value)
            if inner:
                patch[name] = inner
        elif before != value or isinstance(before, bool) is not isinstance(value, bool):
            patch[name] = value
    return patch


def stamped(metadata: JsonObject, patch: JsonObject) -> JsonObject:
    """The metadata of what `patch` has just written."""
    result = {name: value for name, value in metadata.items() if name.startswith("$")}
    for name, value in patch.items():
        inner = metadata.get(name)
        if isinstance(inner, dict):
            result[name] = stamped(inner, value) if isinstance(value, dict) else inner
    return result


def without_system_fields(section: JsonObject) -> JsonObject:
    """A section as clients send it back, minus $metadata and $version that they read with it."""
    return {name: value for name, value in section.items() if name not in ("$metadata", "$version")}


def _stamp(metadata: JsonObject, patch: JsonObject, stamp: JsonObject) -> JsonObject:
    result = {**metadata, **stamp}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = _stamp(result.get(name, {}), value, stamp)
        else:
            result[name] = stamp
    return result


def _checked(section: JsonObject, where: str) -> JsonObject:
    _check(section, where, 1)
    return section


def _check(value: Any, where: str, depth: int) -> None:
    if isinstance(value, dict):
        _check_object(value, where, depth)
    elif isinstance(value, list):
        if depth > _MAX_ARRAYS:
            raise ArgumentInvalid(f"{where[:_MAX_NAME]} is nested deeper than {_MAX_ARRAYS} levels")
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, str) and len(value.encode(errors="replace")) > _MAX_STRING:
        raise ArgumentInvalid(f"{where} is longer than {_MAX_STRING} bytes")
    elif isinstance(value, int) and not isinstance(value, bool) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ArgumentInvalid(f"{where} is outside of the range of integers, -2^52 to 2^52-1")


def _check_object(value: JsonObject, where: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ArgumentInvalid(f"{where} is nested deeper than {_MAX_DEPTH} levels")
    for name, item in value.items():
        if not name or len(name.encode(errors="replace")) > _MAX_NAME or _FORBIDDEN.intersection(name):
            raise ArgumentInvalid(f"{name!r} in {where} is not a property name")
        _check(item, f"{where}.{name}", depth + 1)


def _check_size(section: JsonObject, limit: int, where: str) -> None:
    if compact_size(section) > limit:
        raise ArgumentInvalid(f"{where} is larger than {limit} bytes")
