# SPDX-License-Identifier: Apache-2.0
"""A device's identity: who it is and how it proves that.

Rules of names: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import ArgumentInvalid
from .sas import key_bytes, new_key
from .timestamps import NEVER

JsonObject = dict[str, Any]

_DEVICE_ID = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$']{1,128}")
_STATUSES = ("enabled", "disabled")


@dataclass(frozen=True)
class Identity:
    """What the registry keeps of a device; only symmetric keys prove it."""

    device_id: str
    generation_id: str
    etag: str
    primary_key: str
    secondary_key: str
    status: str = "enabled"
    status_reason: str | None = None
    status_updated: str = NEVER
    iot_edge: bool = False

    @property
    def enabled(self) -> bool:
        """Whether the device may connect."""
        return self.status == "enabled"

    def keys(self) -> list[bytes]:
        """Both keys, as they sign."""
        return [raw for raw in map(key_bytes, (self.primary_key, self.secondary_key)) if raw]

    def updated(self, body: JsonObject, now: str) -> Identity:
        """This identity with what `body` (a REST `Device`) says.

        Raises:
            ArgumentInvalid: it says something impossible.
        """
        status = body.get("status") or self.status
        if status not in _STATUSES:
            raise ArgumentInvalid("status is enabled or disabled")
        primary, secondary = _keys(body)
        return replace(
            self,
            etag=new_etag(),
            primary_key=primary or self.primary_key,
            secondary_key=secondary or self.secondary_key,
            status=status,
            status_reason=_text(body, "statusReason"),
            status_updated=now if status != self.status else self.status_updated,
            iot_edge=bool((body.get("capabilities") or {}).get("iotEdge", False)),
        )

    def to_record(self) -> str:
        """For the store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_record(cls, record: str) -> Identity:
        """From the store."""
        return cls(**json.loads(record))


def new_identity(device_id: str, body: JsonObject, now: str) -> Identity:
    """The identity that a REST `Device` asks for; keys are made unless given.

    Raises:
        ArgumentInvalid: a name or a field breaks the rules.
    """
    if not _DEVICE_ID.fullmatch(device_id):
        raise ArgumentInvalid("a device id has 1 to 128 characters of A-Z a-z 0-9 and - . % _ # * ? ! ( ) , : = @ $ '")
    generation = str(secrets.randbelow(10**18) + 10**17)
    return Identity(device_id, generation, new_etag(), new_key(), new_key()).updated(body, now)


def new_etag() -> str:
    """An opaque version of an identity or a configuration."""
    return secrets.token_urlsafe(9)


def _keys(body: JsonObject) -> tuple[str | None, str | None]:
    authentication = body.get("authentication") or {}
    if not isinstance(authentication, dict):
        raise ArgumentInvalid("authentication is an object")
    if authentication.get("type") not in (None, "sas"):
        raise ArgumentInvalid("authentication by certificate is not offered: use type sas")
    symmetric = authentication.get("symmetricKey") or {}
    if not isinstance(symmetric, dict):
        raise ArgumentInvalid("symmetricKey is an object")
    return _key(symmetric.get("primaryKey")), _key(symmetric.get("secondaryKey"))


def _key(key: Any) -> str | None:
    if not key:
        return None
    raw = key_bytes(key) if isinstance(key, str) else None
    if raw is None or not 16 <= len(raw) <= 64:
        raise ArgumentInvalid("a symmetric key is base64 of 16 to 64 bytes")
    return str(key)


def _text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > 128):
        raise ArgumentInvalid(f"{name} is a text of 128 characters at most")
    return value
