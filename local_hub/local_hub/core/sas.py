# SPDX-License-Identifier: Apache-2.0
"""Shared access signatures: `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`.

The signature is HMAC-SHA256 over "{sr}\n{se}". Whether `sr` is URL-encoded depends on the client (azure-iot-hub
encodes it in REST, azure/iot/hub/sastoken.py, and not in AMQP, azure/iot/hub/iothub_amqp_client.py), so the signed
text is always `sr` as it arrived. Keys of IoT Hub are base64, those of Event Hubs are the text itself
(azure/eventhub/_pyamqp/utils.py), so both readings of a policy key are tried.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote_plus, unquote, urlsplit

from .errors import Unauthorized

_PREFIX = "SharedAccessSignature "
_MAX_LENGTH = 4096
_MAX_DIGITS = 15


@dataclass(frozen=True)
class SasToken:
    """A token as read from the wire; nothing in it is believed before `verify`."""

    signed_resource: str
    signature: str
    expiry: int
    policy: str | None

    @property
    def resource(self) -> str:
        """The resource without scheme and port, in lower-case host form: `localhost/devices/fridge-1`.

        Raises:
            Unauthorized: it is no address.
        """
        decoded = unquote(self.signed_resource)
        if "://" not in decoded:
            decoded = f"sb://{decoded}"
        try:
            parts = urlsplit(decoded)
        except ValueError:
            raise Unauthorized("the shared access signature is for nothing that has an address") from None
        return (parts.hostname or "") + parts.path.rstrip("/")

    @classmethod
    def parse(cls, text: str) -> SasToken:
        """Read a token.

        Raises:
            Unauthorized: it is not a token at all.
        """
        # ASCII, since aiohttp makes lone surrogates of other bytes in headers, and those cannot be signed
        if len(text) > _MAX_LENGTH or not text.startswith(_PREFIX) or not text.isascii():
            raise Unauthorized("the credential is not a shared access signature")
        fields = dict(part.partition("=")[::2] for part in text[len(_PREFIX) :].split("&"))
        try:
            signature, expiry = unquote(fields["sig"]), fields["se"]
            if len(expiry) > _MAX_DIGITS:  # timers take a float
                raise Unauthorized("the shared access signature is for longer than anything lasts")
            return cls(fields["sr"], signature, int(expiry), fields.get("skn") or None)
        except (KeyError, ValueError):
            raise Unauthorized("the shared access signature lacks sr, sig or se") from None

    def verify(self, keys: Iterable[bytes], now: float) -> None:
        """Compare the signature with every key, in constant time, and the expiry with `now`.

        Raises:
            Unauthorized: wrong key, or too late.
        """
        good = False
        for key in keys:
            good |= hmac.compare_digest(_signature(key, self.signed_resource, self.expiry), self.signature.encode())
        if not good:
            raise Unauthorized("the shared access signature does not match")
        if self.expiry <= now:
            raise Unauthorized("the shared access signature has expired")


def sign(resource: str, key: bytes, expiry: int, policy: str | None = None) -> str:
    """Make a token, as the SDKs do."""
    encoded = quote_plus(resource)
    signature = quote_plus(_signature(key, encoded, expiry).decode())
    suffix = f"&skn={policy}" if policy else ""
    return f"{_PREFIX}sr={encoded}&sig={signature}&se={expiry}{suffix}"


def new_key() -> str:
    """A fresh symmetric key in the form Azure shows: base64 of 32 random bytes."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def key_bytes(key: str) -> bytes | None:
    """The bytes of a base64 key, or None when it is not base64."""
    try:
        return base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None


def _signature(key: bytes, resource: str, expiry: int) -> bytes:
    digest = hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest)
