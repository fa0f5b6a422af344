# SPDX-License-Identifier: Apache-2.0
"""A hub's data directory: its addresses, its keys, its certificates, and what clients need to know of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from .certificates import Certificates, utc_now
from .core.policy import OWNER, POLICIES
from .core.quota import Plan, plan
from .core.sas import new_key
from .durable_files import write_file

EVENT_HUB = "local-hub"
_AMQPS = 5671


class SettingsError(Exception):
    """Something a person must put right; the text is for him."""


@dataclass(frozen=True)
class Settings:
    """Where a hub listens, under which name clients know it, and the keys of its policies (core/policy.py)."""

    policy_keys: dict[str, str]
    host: str = "127.0.0.1"
    hostname: str = "localhost"
    https_port: int = 8443
    amqp_port: int = 5671
    mqtt_port: int = 8883
    aliases: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    sku: str = "none"
    units: int = 1

    @property
    def names(self) -> frozenset[str]:
        """All names that the certificate is for."""
        names = {"localhost", "127.0.0.1", self.hostname, self.host, *self.aliases}
        return frozenset(names - {"0.0.0.0", "::"})  # noqa: S104 - not bound here, only left out

    def limits(self) -> Plan | None:
        """What a hub of this SKU does, or None for one without limits.

        Raises:
            SettingsError: there is no hub with so many units.
        """
        try:
            return None if self.sku == "none" else plan(self.sku, self.units)
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def connection_string(self, policy: str = OWNER) -> str:
        """For azure-iot-hub."""
        port = "" if self.https_port == 443 else f":{self.https_port}"
        key = self.policy_keys[policy]
        return f"HostName={self.hostname}{port};SharedAccessKeyName={policy};SharedAccessKey={key}"

    def event_hub_connection_string(self, policy: str = OWNER) -> str:
        """For azure-eventhub. It takes the port from here only without TLS; with TLS it always uses 5671."""
        port = f":{self.amqp_port}"
        return (
            f"Endpoint=sb://{self.hostname}{port}/;SharedAccessKeyName={policy};"
            f"SharedAccessKey={self.policy_keys[policy]};EntityPath={EVENT_HUB}"
        )


@dataclass(frozen=True)
class Addresses:
    """What the command line says; None keeps what is known."""

    host: str | None = None
    hostname: str | None = None
    https_port: int | None = None
    amqp_port: int | None = None
    mqtt_port: int | None = None
    aliases: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    sku: str | None = None
    units: int | None = None


class DataDirectory:
    """The one place where a hub keeps things."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "hub.sqlite"
        self.certificates = Certificates(self.path)
        self._settings = self.path / "hub.json"

    def prepare(self, addresses: Addresses) -> Settings:
        """Make everything that is missing; safe to call from several processes at once, and again.

        Raises:
            SettingsError: the directory cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked("prepare.lock", wait=True):
                settings = self._merged(addresses)
                self.certificates.ensure(settings.names, utc_now())
                return settings
        except OSError as error:
            raise SettingsError(f"cannot use the data directory {self.path}: {error.strerror or error}") from error

    def serving(self) -> contextlib.AbstractContextManager[None]:
        """Held by the process that serves from this directory.

        Raises:
            SettingsError: another one does already.
        """
        return self._locked("serve.lock", wait=False)

    def environment(self, settings: Settings, policy: str = OWNER) -> dict[str, str]:
        """The variables with which Microsoft's SDKs find and trust this hub."""
        bundle = str(self.certificates.bundle)
        return {
            "IOTHUB_CONNECTION_STRING": settings.connection_string(policy),
            "EVENTHUB_CONNECTION_STRING": settings.event_hub_connection_string(policy),
            "IOTHUB_CA_FILE": str(self.certificates.ca),
            "SSL_CERT_FILE": bundle,
            "REQUESTS_CA_BUNDLE": bundle,
            "NODE_EXTRA_CA_CERTS": str(self.certificates.ca),
        }

    def _merged(self, addresses: Addresses) -> Settings:
        known = self._read()
        given = {name: value for name, value in asdict(addresses).items() if value is not None}
        keys = known.policy_keys if known else {}
        given["policy_keys"] = {policy: keys.get(policy) or new_key() for policy in POLICIES}
        settings = replace(known or Settings({}), **given)
        settings.limits()  # what cannot be is not remembered
        if settings != known:
            write_file(self._settings, json.dumps(asdict(settings), indent=2).encode(), 0o600)
        return settings

    def _read(self) -> Settings | None:
        if not self._settings.exists():
            return None
        try:
            fields = json.loads(self._settings.read_bytes())
            if "policy_key" in fields:  # as hubs kept it that had one policy
                fields["policy_keys"] = {OWNER: fields.pop("policy_key")}
            settings = Settings(**fields)
            return replace(settings, aliases=tuple(settings.aliases), routes=tuple(settings.routes))
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{self._settings} is damaged: {error}") from error

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[None]:
        with (self.path / name).open("a") as file:
            _lock(file, wait, self.path)
            yield


def _lock(file: IO[str], wait: bool, directory: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise SettingsError(f"another hub serves from {directory} already") from None
