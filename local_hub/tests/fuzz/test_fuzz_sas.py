# SPDX-License-Identifier: Apache-2.0
"""Shared access signatures: any text is a token or Unauthorized; only what the key signed is believed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from local_hub.core.errors import Unauthorized
from local_hub.core.sas import SasToken, key_bytes, sign

KEY = b"k" * 32
anything = st.text(
    st.characters()
)  # with lone surrogates, as aiohttp makes them of bytes in headers that are not UTF-8
fields = st.lists(
    st.tuples(st.sampled_from(["sr", "sig", "se", "skn", "x", ""]), anything | st.integers().map(str)), max_size=5
)
tokens = fields.map(lambda pairs: "SharedAccessSignature " + "&".join(f"{name}={value}" for name, value in pairs))


@given(tokens | anything)
@example("SharedAccessSignature sr=a&sig=\udcff&se=1")
@example("SharedAccessSignature sr=\udcff&sig=a&se=1")
@example("SharedAccessSignature sr=[&sig=a&se=" + "9" * 400)
@example("SharedAccessSignature sr=a&sig=a&se=-1_0")
def test_any_text_is_a_token_or_unauthorized(text: str) -> None:
    with contextlib.suppress(Unauthorized):
        token = SasToken.parse(text)
        assert abs(float(token.expiry)) < 1e19
        with contextlib.suppress(Unauthorized):
            assert isinstance(token.resource, str)
        with pytest.raises(Unauthorized):
            token.verify([KEY], 0.0)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 2**40), st.none() | st.just("iothubowner"))
def test_what_is_signed_is_believed(resource: str, expiry: int, policy: str | None) -> None:
    text = sign(resource, KEY, expiry, policy)
    if len(text) <= 4096:
        token = SasToken.parse(text)
        assert (token.expiry, token.policy) == (expiry, policy)
        token.verify([b"other", KEY], expiry - 1.0)
        with pytest.raises(Unauthorized):
            token.verify([KEY], float(expiry))
        with pytest.raises(Unauthorized):
            token.verify([b"other"], 0.0)


@given(st.data())
def test_a_changed_token_is_believed_only_if_it_says_the_same(data: st.DataObject) -> None:
    good = sign("localhost/devices/one", KEY, 2**33, "iothubowner")
    start = data.draw(st.integers(22, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 4)))
    text = good[:start] + data.draw(st.text(max_size=4)) + good[end:]
    with contextlib.suppress(Unauthorized):
        token = SasToken.parse(text)
        token.verify([KEY], 0.0)
        assert (token.signed_resource, token.expiry) == ("localhost%2Fdevices%2Fone", 2**33)


@given(st.text())
def test_any_text_is_a_key_or_none(text: str) -> None:
    key = key_bytes(text)
    assert key is None or isinstance(key, bytes)
