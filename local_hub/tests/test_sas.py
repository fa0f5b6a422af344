# SPDX-License-Identifier: Apache-2.0
"""Shared access signatures."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.errors import Unauthorized
from local_hub.core.policy import covers
from local_hub.core.sas import SasToken, key_bytes, new_key, sign

KEY = b"0123456789abcdef"
NOW = 1_000_000.0


def test_a_signed_token_is_admitted_until_it_expires() -> None:
    token = SasToken.parse(sign("localhost:8443", KEY, int(NOW) + 10, "iothubowner"))
    token.verify([KEY], NOW)
    assert token.policy == "iothubowner"
    with pytest.raises(Unauthorized, match="expired"):
        token.verify([KEY], NOW + 10)


def test_another_key_is_refused() -> None:
    token = SasToken.parse(sign("localhost", KEY, int(NOW) + 10))
    with pytest.raises(Unauthorized, match="does not match"):
        token.verify([b"another", b"key"], NOW)
    token.verify([b"another", KEY], NOW)


def test_a_changed_expiry_is_refused() -> None:
    text = sign("localhost", KEY, int(NOW) + 10).replace(f"se={int(NOW) + 10}", f"se={int(NOW) + 9999}")
    with pytest.raises(Unauthorized):
        SasToken.parse(text).verify([KEY], NOW)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("localhost:8443", "localhost"),
        ("127.0.0.23:8443", "127.0.0.23"),
        ("localhost/devices/fridge-1", "localhost/devices/fridge-1"),
        ("sb://localhost:5671/local-hub", "localhost/local-hub"),
        ("https://LOCALHOST:8443", "localhost"),
    ],
)
def test_the_resource_is_read_without_scheme_and_port(resource: str, expected: str) -> None:
    assert SasToken.parse(sign(resource, KEY, 1)).resource == expected


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    for credential in (text, f"SharedAccessSignature {text}", f"SharedAccessSignature sr={text}&sig={text}&se=1"):
        try:
            token = SasToken.parse(credential)
            token.verify([KEY], NOW)
        except Unauthorized:
            continue
        pytest.fail("a random text was admitted")


def test_keys_are_32_random_bytes_in_base64() -> None:
    assert len(base64.b64decode(new_key())) == 32
    assert new_key() != new_key()
    assert key_bytes("not base64!") is None


def test_a_resource_that_is_no_address_is_refused() -> None:
    with pytest.raises(Unauthorized):
        _ = SasToken.parse("SharedAccessSignature sr=[&sig=x&se=1").resource


@pytest.mark.parametrize(
    ("resource", "path", "good"),
    [
        ("devices/a", "devices/a", True),
        ("devices/a", "devices/a/modules/m", True),
        ("", "devices/a", True),
        ("devices/a", "devices/ab", False),
        ("devices/a%3Ab", "devices/a:b", True),
        ("devices/a%3Ab", "devices/a%3Ab", True),
        ("devices/a:b", "devices/a%3Ab", False),
        ("devices/a%253Ab", "devices/a:b", False),
    ],
)
def test_a_token_covers_what_begins_as_its_resource(resource: str, path: str, good: bool) -> None:
    """The C# SDK encodes the id of a device twice over AMQP."""
    assert covers(resource, path) is good
