# SPDX-License-Identifier: Apache-2.0
"""Valid inputs, damaged a little: what random bytes alone never reach."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes], hits: int = 3) -> bytes:
    """Bits flipped, parts cut out, repeated, replaced, ends cut off."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, hits))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 2, 4, 16))))
        match draw(st.sampled_from(["flip", "cut", "repeat", "replace", "end"])):
            case "flip" if start < len(data):
                data[start] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end]
            case "replace":
                data[start:end] = draw(
                    st.binary(max_size=5) | st.sampled_from((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4))
                )
            case "end":
                del data[start:]
    return bytes(data)
