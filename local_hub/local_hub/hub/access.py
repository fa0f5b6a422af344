# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the service policy, and each device with its own keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ..core.client_certificate import verify_chain, verify_self_signed
from ..core.errors import Unauthorized
from ..core.identity import CERTIFICATE_AUTHORITY, SELF_SIGNED
from ..core.sas import SasToken, key_bytes
from .device import Device
from .registry import Clock, Registry

POLICY = "iothubowner"


class Access:
    """Checks tokens and certificates. `names` are the host names under which this hub is known to its clients.

    `authorities` gives the certificates (DER) of those who may vouch for devices.
    """

    def __init__(
        self,
        registry: Registry,
        policy_key: str,
        names: frozenset[str],
        clock: Clock,
        authorities: Callable[[], Sequence[bytes]] = lambda: (),
    ) -> None:
        self._registry = registry
        self._names = frozenset(name.lower() for name in names)
        self._clock = clock
        self._authorities = authorities
        # IoT Hub clients sign with the decoded key, Event Hubs clients with its text (core/sas.py).
        self._service_keys = [key_bytes(policy_key) or b"", policy_key.encode()]

    def knows(self, host: str) -> bool:
        """Whether a host, with or without a port, is this hub."""
        try:
            return urlsplit(f"//{host}").hostname in self._names
        except ValueError:
            return False

    def goes_by(self, name: str) -> bool:
        """Whether `name` is this hub's: the first part of its host name, as in user@sas.{name}, or all of it."""
        return any(name.lower() in (host, host.partition(".")[0]) for host in self._names)

    def service(self, credential: str, policy: str | None = None) -> SasToken:
        """Admit a service; `policy` is who it says it is where the token need not say it.

        Raises:
            Unauthorized: not with this token.
        """
        token = SasToken.parse(credential)
        if (token.policy or policy) != POLICY or policy not in (None, POLICY):
            raise Unauthorized(f"the policy {policy or token.policy!r} does not exist")
        token.verify(self._service_keys, self._clock())
        if token.resource.partition("/")[0] not in self._names:
            raise Unauthorized("the shared access signature is for another hub")
        return token

    def device(self, key: str, credential: str, certificates: Sequence[bytes] = ()) -> tuple[Device, float]:
        """Admit a device, or a module by `deviceId/moduleId`, and say until when.

        `credential` is its token, empty if it has none; `certificates` are those that its handshake showed.

        Raises:
            Unauthorized: unknown, disabled, or not with this token or certificate. The caller learns no difference.
        """
        device = self._registry.find(key)
        kind = device.identity.authentication_type if device else None
        if device is not None and kind in (SELF_SIGNED, CERTIFICATE_AUTHORITY) and not credential:
            until = self._by_certificate(device, certificates)
        else:
            until = self._by_token(device, key, credential)
        if device is None or not self._enabled(device):
            raise Unauthorized(f"device {key} may not connect")
        return device, until

    def _by_token(self, device: Device | None, key: str, credential: str) -> float:
        token = SasToken.parse(credential)
        token.verify(device.identity.keys() if device else [b"nobody"], self._clock())
        host, _, path = token.resource.partition("/")
        device_id, _, module_id = key.partition("/")
        resource = f"devices/{device_id}" + (f"/modules/{module_id}" if module_id else "")
        if host not in self._names or path not in ("", resource):
            raise Unauthorized("the shared access signature is for something else")
        return float(token.expiry)

    def _by_certificate(self, device: Device, certificates: Sequence[bytes]) -> float:
        if device.identity.authentication_type == SELF_SIGNED:
            verify_self_signed(certificates, device.identity.thumbprints(), self._clock())
        else:
            verify_chain(certificates, device.identity.device_id, self._authorities(), self._clock())
        return math.inf

    def _enabled(self, device: Device) -> bool:
        """A module is as enabled as its device."""
        owner = self._registry.find(device.identity.device_id)
        return device.identity.enabled and owner is not None and owner.identity.enabled
