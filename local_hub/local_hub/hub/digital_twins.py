# SPDX-License-Identifier: Apache-2.0
"""Digital twins at work: read, patch, and commands, which are direct methods."""

from __future__ import annotations

from typing import Any

from ..core.configuration import require_quoted_match
from ..core.digital_twin import command_method, desired_patch, digital_twin
from ..core.errors import DeviceNotFound
from ..core.twin import JsonObject
from .device import Device
from .methods import Methods
from .registry import Registry
from .twins import Twins


class DigitalTwins:
    """What REST's /digitaltwins does. Devices have one; modules have none in this API."""

    def __init__(self, registry: Registry, twins: Twins, methods: Methods) -> None:
        self._registry = registry
        self._twins = twins
        self._methods = methods

    def get(self, device_id: str) -> tuple[JsonObject, str]:
        """The digital twin and its ETag, which is that of the device twin.

        Raises:
            DeviceNotFound: there is no such device.
        """
        device = self._device(device_id)
        return digital_twin(device.id, device.twin), device.twin.etag

    async def patch(self, device_id: str, operations: Any, if_match: str | None) -> str:
        """Set or clear desired properties by JSON Patch. The answer is the new ETag.

        Raises:
            PreconditionFailed: somebody else was faster.
            ArgumentInvalid, InvalidDigitalTwin...: the patch cannot be applied.
        """
        device = self._device(device_id)
        require_quoted_match(if_match, device.twin.etag)
        patch = desired_patch(device.id, device.twin, operations)
        if patch:
            saved = self._twins.write(device, None, patch)
            etag = device.twin.etag
            await saved
            return etag
        return device.twin.etag

    async def command(self, device_id: str, component: str | None, name: str, options: JsonObject) -> JsonObject:
        """Call a command of the device, or of one of its components: `options` are payload and timeouts of a method.

        Returns:
            The device's `status` and `payload`.
        """
        device = self._device(device_id)
        return await self._methods.invoke(device.id, {**options, "methodName": command_method(component, name)})

    def _device(self, device_id: str) -> Device:
        device = self._registry.get(device_id)
        if device.identity.module_id is not None:
            raise DeviceNotFound(device_id)
        return device
