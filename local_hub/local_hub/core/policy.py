# SPDX-License-Identifier: Apache-2.0
"""Shared access policies: the five that a new IoT Hub has, and what each may do.

https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#access-control-and-permissions
"""

from __future__ import annotations

import enum
from urllib.parse import unquote

OWNER = "iothubowner"


class Right(enum.Flag):
    """What a policy may grant."""

    REGISTRY_READ = enum.auto()
    REGISTRY_WRITE = enum.auto()
    SERVICE_CONNECT = enum.auto()
    DEVICE_CONNECT = enum.auto()


POLICIES = {
    OWNER: Right.REGISTRY_READ | Right.REGISTRY_WRITE | Right.SERVICE_CONNECT | Right.DEVICE_CONNECT,
    "service": Right.SERVICE_CONNECT,
    "device": Right.DEVICE_CONNECT,
    "registryRead": Right.REGISTRY_READ,
    "registryReadWrite": Right.REGISTRY_READ | Right.REGISTRY_WRITE,
}


def covers(resource: str, path: str) -> bool:
    """Whether a token for `resource`, the path behind a hub's name, is good for `path`: its beginning, by segments.

    Over AMQP the C# SDK encodes the id of a device twice (DeviceAuthenticationWithRegistrySymmetricKey.cs).
    """
    begins, path = {resource.strip("/"), unquote(resource).strip("/")}, path.strip("/")
    return any(not begin or path == begin or path.startswith(f"{begin}/") for begin in begins)
