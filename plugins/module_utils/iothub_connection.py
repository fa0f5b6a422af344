# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the hub is and who we are to it: the service connection string, checked and taken apart.

A wrong string is the most frequent first error, so each defect has its own sentence. No sentence contains the key.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from .iothub_errors import HubError, without_signatures

_ADVICE = (
    "take the connection string of a shared access policy, "
    "HostName=NAME.azure-devices.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY"
)
_NAMES = ("HostName", "SharedAccessKeyName", "SharedAccessKey")


@dataclass(frozen=True)
class HubAddress:
    """A hub and a policy of it.

    :param host: name or address, without port
    :param port: HTTPS port; AMQP always uses 5671, which no SDK lets one change
    :param policy: name of the shared access policy
    :param key: the policy's key in base64: secret, kept out of repr
    """

    host: str
    port: int
    policy: str
    key: str = field(repr=False)

    @property
    def netloc(self) -> str:
        """``HOST`` or ``HOST:PORT``, the form that HostName= has."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"

    def service_string(self) -> str:
        """Return the connection string in the one form the SDK's parser takes."""
        return f"HostName={self.netloc};SharedAccessKeyName={self.policy};SharedAccessKey={self.key}"

    def device_string(self, device: str, key: str) -> str:
        """Return the connection string of a device; device SDKs take no port in HostName."""
        return f"HostName={self.host};DeviceId={device};SharedAccessKey={key}"

    def redact(self, text: str) -> str:
        """Return ``text`` without the key and without any signature made with it."""
        return without_signatures(text.replace(self.key, "***"))


def parse(connection_string: str) -> HubAddress:
    """Take a service connection string apart; raise HubError with the defect."""
    fields = _fields(connection_string)
    if "Endpoint" in fields or "EntityPath" in fields:
        raise HubError(f"connection_string is of an Event Hubs endpoint, not of an IoT hub; {_ADVICE}")
    if "DeviceId" in fields:
        raise HubError(f"connection_string is of a device, not of the hub's service side; {_ADVICE}")
    for name in _NAMES:
        if not fields.get(name):
            raise HubError(f"connection_string has no {name}; {_ADVICE}")
    _check_key(fields["SharedAccessKey"])
    host, port = _host_and_port(fields["HostName"])
    return HubAddress(host, port, fields["SharedAccessKeyName"], fields["SharedAccessKey"])


def _fields(connection_string: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in connection_string.strip().split(";"):
        if not part.strip():
            continue  # a trailing semicolon is common and harmless
        name, separator, value = part.partition("=")
        if not separator:
            raise HubError(f"connection_string has a part without '='; {_ADVICE}")
        if name.strip() in fields:
            raise HubError(f"connection_string names {name.strip()} twice; {_ADVICE}")
        fields[name.strip()] = value.strip()
    return fields


def _check_key(key: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise HubError(f"connection_string has a SharedAccessKey that is not base64; {_ADVICE}") from None


def _host_and_port(value: str) -> tuple[str, int]:
    host, separator, port = value.partition(":")
    if "/" in value or not host:
        raise HubError(f"connection_string has a HostName that is not a host name: {value!r}; {_ADVICE}")
    if not separator:
        return host, 443
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise HubError(f"connection_string has a HostName with a bad port: {value!r}; {_ADVICE}")
    return host, int(port)
