# SPDX-License-Identifier: Apache-2.0
"""Direct methods: a question to a connected device, its answer, or a timeout.

https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-direct-methods
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from ..core.compact_json import compact_bytes
from ..core.errors import ArgumentInvalid, DeviceNotOnline, GatewayTimeout, MessageTooLarge
from ..core.twin import JsonObject
from .device import Device
from .registry import Registry

MAX_PAYLOAD = 128 * 1024
_DEFAULT_RESPONSE_TIMEOUT = 30
_MAX_TIMEOUT = 300


class Methods:
    """Calls on their way."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._calls: dict[tuple[str, str], asyncio.Future[JsonObject]] = {}
        self._ids = itertools.count(1)

    async def invoke(self, key: str, body: JsonObject) -> JsonObject:
        """REST POST /twins/{id}/methods and /twins/{id}/modules/{mid}/methods.

        Raises:
            DeviceNotOnline: it was not there within the connect timeout.
            GatewayTimeout: it did not answer within the response timeout.
        """
        name = body.get("methodName")
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise ArgumentInvalid("methodName is a text of 1 to 100 characters")
        # null is a payload too: device_method_e2e of the C SDK has both (common_device_method_e2e.c)
        payload = compact_bytes(body["payload"]) if "payload" in body else b""
        if len(payload) > MAX_PAYLOAD:
            raise MessageTooLarge(f"the payload of a method holds {MAX_PAYLOAD} bytes at most")
        response_timeout = _seconds(body, "responseTimeoutInSeconds", 5, _DEFAULT_RESPONSE_TIMEOUT)
        device = await self._online(key, _seconds(body, "connectTimeoutInSeconds", 0, 0))
        return await self._call(device, name, payload, response_timeout)

    def answered(self, device: Device, request_id: str, status: int, payload: Any) -> None:
        """The device's answer; one that nobody waits for any more is dropped."""
        call = self._calls.get((device.id, request_id))
        if call is not None and not call.done():
            call.set_result({"status": status, "payload": payload})

    async def _online(self, key: str, timeout_seconds: int) -> Device:
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            device = self._registry.get(key)
            if device.link is not None:
                return device
            if asyncio.get_running_loop().time() >= deadline:
                raise DeviceNotOnline(f"device {key} is not connected")
            await asyncio.sleep(0.05)

    async def _call(self, device: Device, name: str, payload: bytes, timeout_seconds: int) -> JsonObject:
        request_id = str(next(self._ids))
        call: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._calls[device.id, request_id] = call
        try:
            if device.link is None or not device.link.call_method(name, request_id, payload):
                raise DeviceNotOnline(f"device {device.id} does not listen for methods")
            async with asyncio.timeout(timeout_seconds):
                return await call
        except TimeoutError:
            raise GatewayTimeout(f"device {device.id} did not answer within {timeout_seconds} s") from None
        finally:
            del self._calls[device.id, request_id]


def _seconds(body: JsonObject, name: str, least: int, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_TIMEOUT:
        raise ArgumentInvalid(f"{name} is an integer from {least} to {_MAX_TIMEOUT}")
    return value
