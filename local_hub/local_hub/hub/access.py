# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the service policy, and each device with its own keys."""

from __future__ import annotations

from ..core.errors import Unauthorized
from ..core.sas import SasToken, key_bytes
from .device import Device
from .registry import Clock, Registry

POLICY = "iothubowner"


class Access:
    """Checks tokens. `names` are the host names under which this hub is known to its clients."""

    def __init__(self, registry: Registry, policy_key: str, names: frozenset[str], clock: Clock) -> None:
        self._registry = registry
        self._names = frozenset(name.lower() for name in names)
        self._clock = clock
        # IoT Hub clients sign with the decoded key, Event Hubs clients with its text (core/sas.py).
        self._service_keys = [key_bytes(policy_key) or b"", policy_key.encode()]

    def service(self, credential: str) -> SasToken:
        """Admit a service.

        Raises:
            Unauthorized: not with this token.
        """
        token = SasToken.parse(credential)
        if token.policy != POLICY:
            raise Unauthorized(f"the policy {token.policy!r} does not exist")
        token.verify(self._service_keys, self._clock())
        if token.resource.partition("/")[0] not in self._names:
            raise Unauthorized("the shared access signature is for another hub")
        return token

    def device(self, device_id: str, credential: str) -> tuple[Device, SasToken]:
        """Admit a device.

        Raises:
            Unauthorized: unknown, disabled, or not with this token. The caller learns no difference.
        """
        device = self._registry.find(device_id)
        token = SasToken.parse(credential)
        keys = device.identity.keys() if device else [b"nobody"]
        token.verify(keys, self._clock())
        host, _, path = token.resource.partition("/")
        if device is None or not device.identity.enabled:
            raise Unauthorized(f"device {device_id} may not connect")
        if host not in self._names or path not in ("", f"devices/{device_id}"):
            raise Unauthorized("the shared access signature is for something else")
        return device, token
