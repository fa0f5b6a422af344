# SPDX-License-Identifier: Apache-2.0
"""A device's identity: who it is and how it proves that.

Rules of names: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any

from .client_certificate import thumbprint
from .compact_json import compact
from .errors import ArgumentInvalid
from .sas import key_bytes, new_key
from .timestamps import NEVER

JsonObject = dict[str, Any]

_DEVICE_ID = re.compile(r"[A-Za-z0-9\-.%_#*?!(),:=@$']{1,128}")
_STATUSES = ("enabled", "disabled")
_EDGE_SCOPE = "ms-azure-iot-edge://"
_MAX_SCOPE = 256
SAS, SELF_SIGNED, CERTIFICATE_AUTHORITY, NONE = "sas", "selfSigned", "certificateAuthority", "none"


@dataclass(frozen=True)
class Identity:
    """What the registry keeps of a device. What proves it depends on `authentication_type`."""

    device_id: str
    generation_id: str
    etag: str
    primary_key: str
    secondary_key: str
    status: str = "enabled"
    status_reason: str | None = None
    status_updated: str = NEVER
    iot_edge: bool = False
    module_id: str | None = None
    managed_by: str | None = None
    authentication_type: str = SAS
    primary_thumbprint: str | None = None
    secondary_thumbprint: str | None = None
    parent_scope: str | None = None
    """The scope of the IoT Edge device that it is a child of; whether there is one, only the registry knows."""
    edge_scope: str | None = None
    """The scope with which an IoT Edge device was imported; others have one that is made of their names."""

    @property
    def key(self) -> str:
        """The name under which the hub holds it: `deviceId`, or `deviceId/moduleId` for a module."""
        return self.device_id if self.module_id is None else module_key(self.device_id, self.module_id)

    @property
    def enabled(self) -> bool:
        """Whether the device may connect."""
        return self.status == "enabled"

    @property
    def scope(self) -> str | None:
        """By which an IoT Edge device's children name it; of another device, the scope that it is in."""
        if not self.iot_edge:
            return self.parent_scope
        return self.edge_scope or f"{_EDGE_SCOPE}{self.device_id}-{self.generation_id}"

    def scope_document(self) -> JsonObject:
        """What REST says of children and parents; nothing of a device that has neither."""
        if self.scope is None:
            return {}
        return {"deviceScope": self.scope, "parentScopes": [self.parent_scope] if self.parent_scope else []}

    def keys(self) -> list[bytes]:
        """Both keys, as they sign; none where a certificate is asked for."""
        if self.authentication_type != SAS:
            return []
        return [raw for raw in map(key_bytes, (self.primary_key, self.secondary_key)) if raw]

    def thumbprints(self) -> tuple[str | None, str | None]:
        """Of the certificates that prove a self-signed device."""
        return self.primary_thumbprint, self.secondary_thumbprint

    def authentication_document(self) -> JsonObject:
        """REST's `AuthenticationMechanism`; it has what counts for the type, and null elsewhere."""
        by_key = self.authentication_type == SAS
        return {
            "symmetricKey": {
                "primaryKey": self.primary_key if by_key else None,
                "secondaryKey": self.secondary_key if by_key else None,
            },
            "x509Thumbprint": self.thumbprint_document(),
            "type": self.authentication_type,
        }

    def thumbprint_document(self) -> JsonObject:
        """REST's `X509Thumbprint`."""
        return {"primaryThumbprint": self.primary_thumbprint, "secondaryThumbprint": self.secondary_thumbprint}

    def updated(self, body: JsonObject, now: str) -> Identity:
        """This identity with what `body` (a REST `Device`) says.

        Raises:
            ArgumentInvalid: it says something impossible.
        """
        status = body.get("status") or self.status
        if status not in _STATUSES:
            raise ArgumentInvalid("status is enabled or disabled")
        authentication_type = _authentication_type(body) or self.authentication_type
        primary, secondary = _keys(body)
        thumbprints = _thumbprints(body, authentication_type, self.thumbprints())
        iot_edge = bool((body.get("capabilities") or {}).get("iotEdge", False))
        return replace(
            self,
            etag=new_etag(),
            primary_key=primary or self.primary_key,
            secondary_key=secondary or self.secondary_key,
            status=status,
            status_reason=_text(body, "statusReason"),
            status_updated=now if status != self.status else self.status_updated,
            iot_edge=iot_edge,
            managed_by=_text(body, "managedBy") if self.module_id is not None else None,
            authentication_type=authentication_type,
            primary_thumbprint=thumbprints[0],
            secondary_thumbprint=thumbprints[1],
            parent_scope=None if self.module_id is not None else _parent_scope(body, iot_edge, self.parent_scope),
        )

    def to_record(self) -> str:
        """For the store."""
        return compact(vars(self))

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


def new_module_identity(device_id: str, module_id: str, body: JsonObject, now: str) -> Identity:
    """The identity that a REST `Module` asks for.

    Raises:
        ArgumentInvalid: a name or a field breaks the rules.
    """
    if not _DEVICE_ID.fullmatch(module_id):
        raise ArgumentInvalid("a module id has 1 to 128 characters of A-Z a-z 0-9 and - . % _ # * ? ! ( ) , : = @ $ '")
    generation = str(secrets.randbelow(10**18) + 10**17)
    identity = Identity(device_id, generation, new_etag(), new_key(), new_key(), module_id=module_id)
    return identity.updated(body, now)


def imported(identity: Identity, body: JsonObject) -> Identity:
    """The identity with the scope that an IoT Edge device brings along: its children name it.

    Raises:
        ArgumentInvalid: it is not a text.
    """
    scope = body.get("deviceScope")
    if not isinstance(scope, str | None) or len(scope or "") > _MAX_SCOPE:
        raise ArgumentInvalid(f"deviceScope is a text of {_MAX_SCOPE} characters at most")
    return replace(identity, edge_scope=scope or None) if identity.iot_edge else identity


def module_key(device_id: str, module_id: str) -> str:
    """No name has a slash: this is unambiguous."""
    return f"{device_id}/{module_id}"


def edge_device_of(scope: str) -> str:
    """The name of the IoT Edge device that has such a scope, if any has it."""
    return scope.removeprefix(_EDGE_SCOPE).rpartition("-")[0]


def new_etag() -> str:
    """An opaque version of an identity or a configuration."""
    return secrets.token_urlsafe(9)


def _authentication(body: JsonObject, part: str) -> JsonObject:
    authentication = body.get("authentication") or {}
    if not isinstance(authentication, dict):
        raise ArgumentInvalid("authentication is an object")
    value = authentication.get(part) or {}
    if not isinstance(value, dict):
        raise ArgumentInvalid(f"{part} is an object")
    return value


def _authentication_type(body: JsonObject) -> str | None:
    authentication = body.get("authentication") or {}
    if not isinstance(authentication, dict):
        raise ArgumentInvalid("authentication is an object")
    name = authentication.get("type")
    if name not in (None, SAS, SELF_SIGNED, CERTIFICATE_AUTHORITY, NONE):
        raise ArgumentInvalid("the type of authentication is sas, selfSigned, certificateAuthority or none")
    return name


def _thumbprints(
    body: JsonObject, authentication_type: str, known: tuple[str | None, str | None]
) -> tuple[str | None, str | None]:
    if authentication_type != SELF_SIGNED:
        return None, None
    given = _authentication(body, "x509Thumbprint")
    if not given and any(known):
        return known
    primary, secondary = thumbprint(given.get("primaryThumbprint")), thumbprint(given.get("secondaryThumbprint"))
    if primary is None and secondary is None:
        raise ArgumentInvalid("a self-signed device has a thumbprint at least")
    return primary, secondary


def _parent_scope(body: JsonObject, iot_edge: bool, known: str | None) -> str | None:
    """`deviceScope` of an IoT Edge device is its own, made by the hub; of another device it is its parent's."""
    scopes, scope = body.get("parentScopes"), None if iot_edge else body.get("deviceScope")
    if not isinstance(scopes, list | None) or not all(isinstance(each, str) for each in scopes or ()):
        raise ArgumentInvalid("parentScopes is a list of texts")
    if not isinstance(scope, str | None):
        raise ArgumentInvalid("deviceScope is a text")
    if len(scopes or ()) > 1:
        raise ArgumentInvalid("a device has one parent at most")
    # whoever writes what he read may have changed one of the two only
    named = {scope or None} if scope is not None else set()
    named |= {scopes[0] if scopes else None} if scopes is not None else set()
    changed = named - {known}
    if len(changed) > 1:
        raise ArgumentInvalid("deviceScope and parentScopes name two parents")
    return changed.pop() if changed else known


def _keys(body: JsonObject) -> tuple[str | None, str | None]:
    symmetric = _authentication(body, "symmetricKey")
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
