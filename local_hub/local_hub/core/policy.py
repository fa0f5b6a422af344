# SPDX-License-Identifier: Apache-2.0
"""Shared access policies: the five that a new IoT Hub has, and what each may do.

https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#access-control-and-permissions
"""

from __future__ import annotations

import enum

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
    """Whether a token for `resource`, the path behind a hub's name, is good for `path`: its beginning, by segments."""
    resource, path = resource.strip("/"), path.strip("/")
    return not resource or path == resource or path.startswith(f"{resource}/")
