# SPDX-License-Identifier: Apache-2.0
"""The topics of IoT Hub over MQTT: what a device publishes, and what it hears.

https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub
and azure/iot/device/iothub/pipeline/mqtt_topic_iothub.py.
Values in topics are percent-encoded and a plus is a plus: never use the form encoding of urllib here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from ..core.c2d_queue import Message
from ..core.timestamps import round_trip

TWIN_RESPONSES = "$iothub/twin/res/#"
TWIN_PATCHES = "$iothub/twin/PATCH/properties/desired/#"
METHODS = "$iothub/methods/POST/#"

_SYSTEM = {
    "$.mid": "message-id",
    "$.cid": "correlation-id",
    "$.uid": "user-id",
    "$.ct": "content-type",
    "$.ce": "content-encoding",
    "$.exp": "absolute-expiry-time",
    "$.ifid": "iothub-interface-id",
    "$.sub": "dt-subject",
}
_CREATED = {"$.ctime": "iothub-creation-time-utc"}
"""What is a property of the application over AMQP: uamqp_messaging.c of azure-iot-sdk-c."""
_MAX_TOPIC = 8 * 1024
_MAX_REMEMBERED, _REMEMBERED = 256, 4096
_TWIN_GET = re.compile(r"\$iothub/twin/GET/?\?(.*)")
_TWIN_REPORT = re.compile(r"\$iothub/twin/PATCH/properties/reported/?\?(.*)")
_METHOD_ANSWER = re.compile(r"\$iothub/methods/res/(-?\d{1,10})/?\?(.*)")


@dataclass(frozen=True)
class Telemetry:
    """A device-to-cloud message."""

    system: dict[str, str]
    properties: dict[str, str]


@dataclass(frozen=True)
class TwinGet:
    """The device asks for its twin."""

    request_id: str


@dataclass(frozen=True)
class TwinReport:
    """The device reports properties, and may say on which version of them that is based."""

    request_id: str
    base: str | None = None


@dataclass(frozen=True)
class MethodAnswer:
    """The device answers a direct method."""

    status: int
    request_id: str


Publication = Telemetry | TwinGet | TwinReport | MethodAnswer


def devicebound(device_id: str) -> str:
    """The filter for cloud-to-device messages."""
    return f"devices/{device_id}/messages/devicebound/#"


def allowed_filters(key: str) -> frozenset[str]:
    """All that a device may subscribe to, or a module, whose key is `deviceId/moduleId`.

    Messages to modules come from other modules by the routes of IoT Edge: one may wait for them in vain here.
    """
    messages = f"{_base(key)}/inputs/#" if "/" in key else devicebound(key)
    return frozenset((messages, TWIN_RESPONSES, TWIN_PATCHES, METHODS))


def parse_publication(topic: str, key: str) -> Publication | None:
    """What a PUBLISH of this device or module means; None when it means nothing here."""
    if len(topic) > _MAX_REMEMBERED:
        return None if len(topic) > _MAX_TOPIC else _parse(topic, key)
    return _parse_again(topic, key)


def _parse(topic: str, key: str) -> Publication | None:
    base = f"{_base(key)}/messages/events"
    if topic == base or topic.startswith(f"{base}/"):
        return _telemetry(topic[len(base) :].strip("/"))
    if match := _TWIN_GET.fullmatch(topic):
        return TwinGet(_request_id(match[1]))
    if match := _TWIN_REPORT.fullmatch(topic):
        return TwinReport(_request_id(match[1]), _decode(match[1]).get("$version"))
    if match := _METHOD_ANSWER.fullmatch(topic):
        return MethodAnswer(int(match[1]), _request_id(match[2]))
    return None


# A device sends to the same topic all the time. Nobody changes what this gives.
_parse_again = functools.lru_cache(_REMEMBERED)(_parse)

_UNRESERVED = "!*'()"
"""What RFC 2396 leaves as it is and RFC 3986, and Python, do not."""


def twin_response(status: int, request_id: str, version: int | None = None) -> str:
    """Where the answer to a twin request goes."""
    suffix = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={quote(request_id, safe='')}{suffix}"


def desired_patch(version: int) -> str:
    """Where a change of desired properties goes."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_request(name: str, request_id: str) -> str:
    """Where a direct method goes. The C SDK reads names as they stand, and commands of components have a `*`."""
    return f"$iothub/methods/POST/{quote(name, safe=_UNRESERVED)}/?$rid={request_id}"


def message_topic(device_id: str, message: Message) -> str:
    """Where a cloud-to-device message goes, with all its properties in the topic."""
    system = (
        ("$.mid", message.message_id),
        ("$.to", message.to),
        ("$.cid", message.correlation_id),
        ("$.uid", message.user_id),
        ("$.ct", message.content_type),
        ("$.ce", message.content_encoding),
        ("$.exp", round_trip(message.expires_at)),
        ("iothub-ack", None if message.ack == "none" else message.ack),
    )
    pairs = [*((name, value) for name, value in system if value is not None), *message.properties.items()]
    return f"devices/{device_id}/messages/devicebound/" + _encode(pairs)


def _base(key: str) -> str:
    device_id, _, module_id = key.partition("/")
    return f"devices/{device_id}/modules/{module_id}" if module_id else f"devices/{device_id}"


def _encode(pairs: Iterable[tuple[str, object]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(_text(value), safe='')}" for name, value in pairs)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _telemetry(encoded: str) -> Telemetry:
    system, properties = {}, {}
    for name, value in _decode(encoded).items():
        if name in _SYSTEM:
            system[_SYSTEM[name]] = value
        elif name in _CREATED or not name.startswith("$."):
            properties[_CREATED.get(name, name)] = value
    return Telemetry(system, properties)


def _request_id(encoded: str) -> str:
    return _decode(encoded).get("$rid", "")


def _decode(encoded: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in encoded.lstrip("?").split("&") if part)
    return {unquote(name): unquote(value) for name, _, value in pairs}
