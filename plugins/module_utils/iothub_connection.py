# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the hub is and who we are to it: checked and taken apart.

There are three ways to say it, and :func:`address` reads all of them: a connection string, a shared access policy by
its parts, or a host name and an identity of Azure, whose token azure-identity fetches.

A wrong string is the most frequent first error, so each defect has its own sentence. No sentence contains the key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field

from .iothub_errors import Caller, HubError, Unreachable, without_signatures, worded

_ADVICE = (
    "take the connection string of a shared access policy, "
    "HostName=NAME.azure-devices.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY"
)
_TOKEN_SECONDS = 3600
_NAMES = ("HostName", "SharedAccessKeyName", "SharedAccessKey")


@dataclass(frozen=True)
class Service:
    """Which service of Azure's speaks here.

    :param noun: as errors name it
    :param scope: what a token of Azure's is asked for
    :param role: a role that may do all that the modules do
    """

    noun: str
    scope: str
    role: str


class Token(t.NamedTuple):
    """What a login over AMQP shows, until when; in seconds since 1970."""

    token: str
    expires_on: int


HUB = Service("hub", "https://iothubs.azure.net/.default", "IoT Hub Data Contributor")
PROVISIONING = Service(
    "provisioning service",
    "https://azure-devices-provisioning.net/.default",
    "Device Provisioning Service Data Contributor",
)


@dataclass(frozen=True)
class HubAddress:
    """A hub (or a provisioning service), and a policy of it or an identity of Azure.

    :param host: name or address, without port
    :param port: HTTPS port; AMQP always uses 5671, which no SDK lets one change
    :param policy: name of the shared access policy; empty for an identity
    :param key: the policy's key in base64: secret, kept out of repr
    :param credential: a TokenCredential of azure-identity instead of policy and key
    :param option: the module's option that has the key
    """

    host: str
    port: int
    policy: str = ""
    key: str = field(default="", repr=False)
    credential: t.Any = field(default=None, repr=False)
    option: str = "connection_string"
    service: Service = HUB

    @property
    def netloc(self) -> str:
        """``HOST`` or ``HOST:PORT``, the form that HostName= has."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"

    def caller(self) -> Caller:
        """Return who asks whom, in the words of an error."""
        service = f"the {self.service.noun} {self.netloc}"
        if self.credential is not None:
            role = f"give it the role {self.service.role}"
            return Caller(service, "this Azure identity", "the token of this Azure identity", role, role)
        name = f"policy {self.policy}"
        return Caller(service, name, f"the key of {name}", f"check {self.option}", "use a policy that has this right")

    def service_string(self) -> str:
        """Return the connection string in the one form the SDK's parser takes."""
        return f"HostName={self.netloc};SharedAccessKeyName={self.policy};SharedAccessKey={self.key}"

    def device_string(self, device: str, key: str, module: str | None = None) -> str:
        """Return the connection string of a device or a module; device SDKs take no port in HostName."""
        name = f"DeviceId={device}" + (f";ModuleId={module}" if module else "")
        return f"HostName={self.host};{name};SharedAccessKey={key}"

    def redact(self, text: str) -> str:
        """Return ``text`` without the key and without any signature made with it."""
        return without_signatures(text.replace(self.key, "***") if self.key else text)

    def authentication(self) -> t.Any:
        """Return what signs the requests of the SDK's REST client. Raises ImportError if azure-iot-hub is missing."""
        from azure.iot.hub.auth import AzureIdentityCredentialAdapter, ConnectionStringAuthentication

        if self.credential is not None:
            return AzureIdentityCredentialAdapter(self.credential, self.service.scope)
        return ConnectionStringAuthentication(self.service_string())

    def send_client(self) -> t.Any:
        """Return uamqp's client for messages to devices, not yet connected. Raises ImportError if uamqp is missing.

        As iothub_amqp_client of azure-iot-hub makes it; to import that takes longer than to send a thousand messages.
        Its thread that keeps a link alive is left out: it would delay the end by a second, and this link never idles.
        So is its sending again: three times at once and without a pause, which is what a throttling hub needs least.
        """
        import uamqp

        hub = f"https://{self.netloc}"
        kind = b"servicebus.windows.net:sastoken" if self.credential is None else b"bearer"
        audience = hub if self.credential is None else self.service.scope
        login = uamqp.authentication.JWTTokenAuth(audience, uri=hub, get_token=self._token, token_type=kind)
        login.update_token()
        once = uamqp.errors.ErrorPolicy(max_retries=0)
        return uamqp.SendClient(f"amqps://{self.netloc}/messages/devicebound", auth=login, error_policy=once)

    def _token(self) -> Token:
        if self.credential is not None:
            given = self.credential.get_token(self.service.scope)
            return Token(f"Bearer {given.token}", given.expires_on)
        expires_on = int(time.time()) + _TOKEN_SECONDS
        signed = hmac.digest(base64.b64decode(self.key), f"{self.netloc}\n{expires_on}".encode(), "sha256")
        signature = urllib.parse.quote(base64.b64encode(signed), safe="")
        name = urllib.parse.quote(self.policy, safe="")
        return Token(f"SharedAccessSignature sr={self.netloc}&sig={signature}&se={expires_on}&skn={name}", expires_on)


def address(given: t.Mapping[str, t.Any], service: Service = HUB) -> HubAddress:
    """Read the connection options of a module or plugin; raise HubError with what is missing or wrong.

    ``hostname`` wins over ``connection_string``, so that an environment variable does not get in the way.
    """
    hostname = given.get("hostname")
    if given.get("auth") == "identity":
        if not hostname:
            raise HubError(f"hostname is not given; auth=identity needs it, NAME.azure-devices.net for a {HUB.noun}")
        host, port = _host_and_port(hostname, "hostname is")
        return HubAddress(host, port, credential=azure_credential(), service=service)
    if not hostname:
        return parse(_required(given), service)
    host, port = _host_and_port(hostname, "hostname is")
    for name in ("policy_name", "policy_key"):
        if not given.get(name):
            raise HubError(f"hostname is given without {name}; give policy_name and policy_key, or auth=identity")
    _check_key(given["policy_key"], "policy_key")
    return HubAddress(host, port, given["policy_name"], given["policy_key"], option="policy_key", service=service)


def _required(given: t.Mapping[str, t.Any]) -> str:
    text = given.get("connection_string")
    if text is None:
        raise HubError("no connection is given; give connection_string, or hostname, policy_name and policy_key, or "
                       "hostname and auth=identity")  # fmt: skip
    return str(text)


def azure_credential() -> t.Any:
    """Return azure-identity's own choice: environment, workload or managed identity, az login, in this order.

    Raises HubError if azure-identity is missing. Nothing is asked of Azure yet.
    """
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise HubError(f"auth=identity needs the Python library azure-identity; install it where the module runs "
                       f"({error})") from None  # fmt: skip
    return DefaultAzureCredential()


def no_token(doing: str, error: Exception) -> HubError:
    """Word azure-identity's failure; the text of its DefaultAzureCredential goes over many lines."""
    said = without_signatures((str(error).strip().splitlines() or [type(error).__name__])[0])[:300].rstrip(". ")
    advice = "sign in with az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
    return Unreachable(worded(doing, f"Azure gave no token for this identity ({said})", advice))


def parse(connection_string: str, service: Service = HUB) -> HubAddress:
    """Take a service connection string apart; raise HubError with the defect."""
    fields = _fields(connection_string)
    if "Endpoint" in fields or "EntityPath" in fields:
        raise HubError(f"connection_string is of an Event Hubs endpoint, not of an IoT hub; {_ADVICE}")
    if "DeviceId" in fields:
        raise HubError(f"connection_string is of a device, not of the hub's service side; {_ADVICE}")
    for name in _NAMES:
        if not fields.get(name):
            raise HubError(f"connection_string has no {name}; {_ADVICE}")
    _check_key(fields["SharedAccessKey"], "connection_string has a SharedAccessKey that")
    host, port = _host_and_port(fields["HostName"], "connection_string has a HostName that is")
    return HubAddress(host, port, fields["SharedAccessKeyName"], fields["SharedAccessKey"], service=service)


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


def _check_key(key: str, what: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise HubError(f"{what} is not base64; {_ADVICE}") from None


def _host_and_port(value: str, what: str) -> tuple[str, int]:
    """Read ``HOST`` or ``HOST:PORT``; ``what`` begins the sentence about it, with its verb."""
    host, separator, port = value.partition(":")
    if "/" in value or not host:
        raise HubError(f"{what} not a host name: {value!r}; {_ADVICE}")
    if not separator:
        return host, 443
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise HubError(f"{what} one with a bad port: {value!r}; {_ADVICE}")
    return host, int(port)
