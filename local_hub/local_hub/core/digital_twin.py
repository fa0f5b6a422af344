# SPDX-License-Identifier: Apache-2.0
"""The digital twin: a device twin as services see it that think in components, properties and commands of a model.

What it looks like: https://learn.microsoft.com/azure/iot/concepts-digital-twin ; how it is changed, by JSON Patch
(RFC 6902): https://learn.microsoft.com/azure/iot/howto-manage-digital-twin ; what devices write:
https://learn.microsoft.com/azure/iot/concepts-convention . The hub never reads the model itself, as Azure does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qs

from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed, JsonPointerException

from .errors import (
    ArgumentInvalid,
    InvalidDigitalTwinJsonPatch,
    InvalidDigitalTwinPatch,
    InvalidDigitalTwinPatchPath,
    InvalidDigitalTwinPayload,
)
from .twin import JsonObject, Twin, merge

_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_]{0,62}[A-Za-z0-9])?")
_MODEL = re.compile(r"dtmi:[A-Za-z][A-Za-z0-9_]*(?::[A-Za-z][A-Za-z0-9_]*)*;[1-9][0-9]{0,8}(?:\.[0-9]{1,6})?")
_MAX_MODEL = 2048
_MAX_DEPTH = 5
_MAX_OPERATIONS = 1000
_MARKER, _METADATA = "__t", "$metadata"
_ACKNOWLEDGED, _ACKNOWLEDGEMENT = {"value", "ac"}, {"value", "ac", "av", "ad"}
_WRITES = ("add", "replace", "remove")


def announced_model(username: str) -> str:
    """The model that a device names in its MQTT user name, `host/device/?api-version=...&model-id=dtmi:...`, or none.

    https://learn.microsoft.com/azure/iot/concepts-developer-guide-device#model-id-announcement
    """
    return next(iter(parse_qs(username.partition("?")[2]).get("model-id", ())), "")


def is_model(text: str) -> bool:
    """Whether a text is a DTMI, the name of a model.

    https://azure.github.io/opendigitaltwins-dtdl/DTDL/v3/DTDL.v3.html#digital-twin-model-identifier
    """
    return len(text) <= _MAX_MODEL and _MODEL.fullmatch(text) is not None


def digital_twin(device_id: str, twin: Twin) -> JsonObject:
    """All that a device twin has in the form of the conventions; anything else stays out of sight."""
    sections = (twin.desired.values, twin.desired.metadata, twin.reported.values, twin.reported.metadata)
    components = _components(twin)
    values, metadata = _properties(*sections, leave_out=components)
    for name in components:
        shown, its_metadata = _properties(*(_object(section.get(name)) for section in sections))
        values[name] = {**shown, _METADATA: its_metadata}
    return {"$dtId": device_id, **values, _METADATA: {"$model": twin.model_id, **metadata}}


def changes(device_id: str, before: Twin, after: Twin) -> list[JsonObject]:
    """What changed in a digital twin, as JSON Patch; nothing if it is the same."""
    old, new = digital_twin(device_id, before), digital_twin(device_id, after)
    return [dict(operation) for operation in JsonPatch.from_diff(old, new, optimization=False)]


def desired_patch(device_id: str, twin: Twin, operations: Any) -> JsonObject:
    """The merge-patch of desired properties that a service's JSON Patch comes to.

    Raises:
        ArgumentInvalid, InvalidDigitalTwin...: it is no patch, or breaks the rules for names and values.
    """
    written = _written_paths(operations)
    before = _settable(digital_twin(device_id, twin))
    after = _applied(before, operations)
    components = _components(twin)
    patch: JsonObject = {}
    for name in dict.fromkeys(path[0] for path in written):
        _check_kind(name, twin, before, after, name in components, any(path[0] == name for path in written if path[1:]))
        whole = (name,) in written
        inner = None if whole else [path[1] for path in written if path[0] == name]
        patch[name] = _new_desired(twin.desired.values.get(name), after.get(name), inner)
    return patch


def command_method(component: str | None, command: str) -> str:
    """The direct method that a command is: `component*command`, or the command's name alone.

    https://learn.microsoft.com/azure/iot/concepts-convention#commands
    """
    return command if component is None else f"{component}*{command}"


def _components(twin: Twin) -> list[str]:
    sides = (twin.reported.values, twin.desired.values)
    names = (name for side in sides for name, value in side.items() if _object(value).get(_MARKER) == "c")
    return [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)]


def _properties(
    desired: JsonObject,
    desired_metadata: JsonObject,
    reported: JsonObject,
    reported_metadata: JsonObject,
    leave_out: Collection[str] = (),
) -> tuple[JsonObject, JsonObject]:
    """Values and metadata of the properties of one component, or of the root."""
    values: JsonObject = {}
    metadata: JsonObject = {}
    for name in dict.fromkeys((*reported, *desired)):
        if name in leave_out or not _NAME.fullmatch(name):
            continue
        about: JsonObject = {}
        if name in desired and _conforms(desired[name]):
            about |= {"desiredValue": desired[name]}
            about |= {"desiredVersion": _object(desired_metadata.get(name)).get("$lastUpdatedVersion")}
        if name in reported:
            value, acknowledgement = _acknowledged(reported[name])
            if _conforms(value):
                values[name] = value
                about |= acknowledgement
                about |= {"lastUpdateTime": _object(reported_metadata.get(name)).get("$lastUpdated")}
        if about:
            metadata[name] = about
    return values, metadata


def _acknowledged(value: Any) -> tuple[Any, JsonObject]:
    """The value of a reported property, and what the device says of a desired one that it took or refused."""
    if not isinstance(value, dict) or not _ACKNOWLEDGED <= value.keys() <= _ACKNOWLEDGEMENT:
        return value, {}
    names = {"av": "ackVersion", "ac": "ackCode", "ad": "ackDescription"}
    return value["value"], {shown: value[name] for name, shown in names.items() if name in value}


def _settable(document: JsonObject) -> JsonObject:
    """What paths of a patch lead into: a property exists when it is reported, but also when it is only desired."""
    metadata = document[_METADATA]
    wanted = {name: about["desiredValue"] for name, about in metadata.items() if "desiredValue" in _object(about)}
    parts = {
        name: _settable(value) if _is_component(value) else value for name, value in document.items() if name != "$dtId"
    }
    return {**wanted, **parts}


def _written_paths(operations: Any) -> dict[tuple[str, ...], None]:
    """The components and properties that a patch writes, in its order; everything about an operation is checked."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise InvalidDigitalTwinJsonPatch("a JSON Patch is a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        raise InvalidDigitalTwinJsonPatch(f"a JSON Patch has {_MAX_OPERATIONS} operations at most")
    written: dict[tuple[str, ...], None] = {}
    for operation in operations:
        kind, path = operation.get("op"), operation.get("path")
        if kind not in (*_WRITES, "test"):
            raise InvalidDigitalTwinJsonPatch(f"'op' is one of add, replace, remove, test, not {kind!r}")
        if not isinstance(path, str) or not path.startswith("/"):
            # the words of the service: https://github.com/Azure/azure-iot-sdk-csharp/pull/1565
            raise InvalidDigitalTwinPatch(
                f"Error in path: {path}. 'path' string must be non-null, begin with '/' and have atleast the component "
                "name."
            )
        if kind != "test":
            parts = tuple(path.split("/")[1:])
            if len(parts) > 2 or not all(map(_NAME.fullmatch, parts)):
                raise InvalidDigitalTwinPatchPath(f"Error in path: {path}. A component or a property can be written")
            if kind != "remove":
                _check_value(operation.get("value"), path, may_be_component=len(parts) == 1)
            written[parts] = None
    return written


def _check_value(value: Any, path: str, *, may_be_component: bool) -> None:
    if not _is_component(value):
        if not _conforms(value):
            raise InvalidDigitalTwinPayload(
                f"the value of {path} is none of a property: it has null, an array, a name that DTDL does not "
                f"allow, or more than {_MAX_DEPTH} levels"
            )
    elif not may_be_component or value[_METADATA] != {}:
        raise InvalidDigitalTwinPayload(f"the value of {path}: a component has an empty $metadata, a property none")
    else:
        for name, inner in value.items():
            if name != _METADATA and not (_NAME.fullmatch(name) and _conforms(inner)):
                raise InvalidDigitalTwinPayload(f"{name!r} in {path} is not a property")


def _applied(document: JsonObject, operations: Any) -> JsonObject:
    try:
        result = JsonPatch(operations).apply(document)
    except JsonPatchTestFailed as error:
        raise InvalidDigitalTwinPatch(f"a test failed: {error}") from None
    except (JsonPatchException, JsonPointerException, TypeError, ValueError) as error:
        raise InvalidDigitalTwinPatch(f"the patch cannot be applied: {error}") from None
    return dict(result)


def _check_kind(
    name: str, twin: Twin, before: JsonObject, after: JsonObject, was_component: bool, has_inner_paths: bool
) -> None:
    """A component stays a component and a property a property, and what is neither cannot be written."""
    is_component = _is_component(after.get(name))
    exists = name in twin.desired.values or name in twin.reported.values
    if exists and not was_component and (name not in before or is_component or has_inner_paths):
        # the words of the documentation
        raise ArgumentInvalid(
            f"'{name}' exists within the device twin and is not digital twin conformant property. Please refer to "
            "aka.ms/dtpatch to update this to be conformant."
        )
    if name in after and was_component and not is_component:
        raise InvalidDigitalTwinPatch(f"{name} is a component: its value has an empty $metadata")
    if name in after and has_inner_paths and not is_component:
        raise InvalidDigitalTwinPatchPath(f"{name} is not a component")


def _new_desired(old: Any, new: Any, properties: list[str] | None) -> Any:
    """The merge-patch for a property, for a whole component, or for some `properties` of a component."""
    if not _is_component(new):
        return None if new is None else _instead(old, new)
    old = {name: value for name, value in _object(old).items() if name != _MARKER}
    if properties is None:
        return {_MARKER: "c", **_instead(old, {name: value for name, value in new.items() if name != _METADATA})}
    patch = {name: _instead(old.get(name), new[name]) if name in new else None for name in properties}
    return {_MARKER: "c", **patch} if merge(old, patch) else None


def _instead(old: Any, new: Any) -> Any:
    """The merge-patch that puts `new` in the place of `old`, and says all of it."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**dict.fromkeys(old.keys() - new.keys()), **{name: _instead(old.get(name), new[name]) for name in new}}


def _conforms(value: Any, depth: int = 0) -> bool:
    """Whether a value is one of DTDL's schemas for properties: primitives, and objects and maps of them."""
    if isinstance(value, dict):
        inner = (_NAME.fullmatch(name) and _conforms(item, depth + 1) for name, item in value.items())
        return depth < _MAX_DEPTH and all(inner)
    return isinstance(value, str | int | float)


def _is_component(value: Any) -> bool:
    return isinstance(value, dict) and _METADATA in value


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
