# SPDX-License-Identifier: Apache-2.0
"""Who may do what: services by policies, and each device with its own keys, its certificate, or by a policy too."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from ..core.client_certificate import verify_chain, verify_self_signed
from ..core.errors import Unauthorized
from ..core.identity import CERTIFICATE_AUTHORITY, SAS, SELF_SIGNED
from ..core.policy import POLICIES, Right, covers
from ..core.sas import SasToken, key_bytes
from .device import Device
from .registry import Clock, Registry


class Access:
    """Checks tokens and certificates. `names` are the host names under which this hub is known to its clients.

    `policy_keys` has the key, base64, of each policy by its name (core/policy.py);
    `authorities` gives the certificates (DER) of those who may vouch for devices.
    """

    def __init__(
        self,
        registry: Registry,
        policy_keys: Mapping[str, str],
        names: frozenset[str],
        clock: Clock,
        authorities: Callable[[], Sequence[bytes]] = lambda: (),
    ) -> None:
        self._registry = registry
        self._names = frozenset(name.lower() for name in names)
        self._clock = clock
        self._authorities = authorities
        # IoT Hub clients sign with the decoded key, Event Hubs clients with its text (core/sas.py).
        self._keys = {name: [key_bytes(key) or b"", key.encode()] for name, key in policy_keys.items()}

    def knows(self, host: str) -> bool:
        """Whether a host, with or without a port, is this hub."""
        try:
            return urlsplit(f"//{host}").hostname in self._names
        except ValueError:
            return False

    def goes_by(self, name: str) -> bool:
        """Whether `name` is this hub's: the first part of its host name, as in user@sas.{name}, or all of it."""
        return any(name.lower() in (host, host.partition(".")[0]) for host in self._names)

    def service(self, credential: str, right: Right, path: str | None = None, policy: str | None = None) -> SasToken:
        """Admit a service that wants `right`, at `path` if that is known by now.

        `policy` is who it says it is if the token need not say it.

        Raises:
            Unauthorized: not with this token.
        """
        token = SasToken.parse(credential)
        if token.policy and policy not in (None, token.policy):
            raise Unauthorized(f"the token is of policy {token.policy!r}, not of {policy!r}")
        resource = self._by_policy(token, token.policy or policy, right)
        if path is not None and not covers(resource, path):
            raise Unauthorized(f"the shared access signature is for {resource} only")
        return token

    def event_hub(self, policy: str, key: str) -> None:
        """Admit a reader of events that gives a policy's key itself, as Event Hubs let it do over SASL PLAIN.

        Raises:
            Unauthorized: not with this key.
        """
        known = self._keys.get(policy)
        if known is None or not hmac.compare_digest(known[1], key.encode()):
            raise Unauthorized(f"the user {policy} is none of this hub, or has another key")
        self._grants(policy, Right.SERVICE_CONNECT)

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
        device_id, _, module_id = key.partition("/")
        path = f"devices/{device_id}" + (f"/modules/{module_id}" if module_id else "")
        if token.policy:  # a token service of the fleet's owner speaks for the device
            resource = self._by_policy(token, token.policy, Right.DEVICE_CONNECT)
            if device is not None and device.identity.authentication_type != SAS:
                raise Unauthorized(f"device {key} shows a certificate")
        else:
            token.verify(self._device_keys(device) if device else [b"nobody"], self._clock())
            resource = self._resource(token)
        if not covers(resource, path):
            raise Unauthorized("the shared access signature is for something else")
        return float(token.expiry)

    def _device_keys(self, device: Device) -> list[bytes]:
        """Those of a device speak for its modules too: createSASConnectionString of the C SDK's iothub_account.c."""
        owner = self._registry.find(device.identity.device_id)
        own = device.identity.keys()
        return own + owner.identity.keys() if own and owner is not None and owner is not device else own

    def _by_policy(self, token: SasToken, policy: str | None, right: Right) -> str:
        """Verify a policy's token, and say what it is for."""
        keys = self._keys.get(policy or "")
        if keys is None:
            raise Unauthorized(f"the policy {policy!r} does not exist")
        token.verify(keys, self._clock())
        self._grants(policy or "", right)
        return self._resource(token)

    def _grants(self, policy: str, right: Right) -> None:
        missing = right & ~POLICIES[policy]
        if missing:
            raise Unauthorized(f"the policy {policy} does not grant {', '.join(str(each.name) for each in missing)}")

    def _resource(self, token: SasToken) -> str:
        host, _, path = token.resource.partition("/")
        if host not in self._names:
            raise Unauthorized("the shared access signature is for another hub")
        return path

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
