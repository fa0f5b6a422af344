# SPDX-License-Identifier: Apache-2.0
"""Which partition a device's events lie in: lookup3 against its author's vectors and against azure-eventhub's."""

from __future__ import annotations

from collections import Counter

import pytest
from azure.eventhub._buffered_producer._partition_resolver import compute_hash
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.partition import lookup3, partition_of


@pytest.mark.parametrize(
    ("data", "primary", "secondary"),
    [(b"", 0xDEADBEEF, 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551, 0xCE7226E6)],
)
def test_the_vectors_of_its_author(data: bytes, primary: int, secondary: int) -> None:
    assert lookup3(data) == (primary, secondary)


@given(st.binary(max_size=60))
def test_the_hash_is_that_of_event_hubs(data: bytes) -> None:
    assert lookup3(data) == tuple(compute_hash(data.decode("latin-1")))


@given(st.text(max_size=128), st.integers(1, 32))
def test_every_device_has_a_partition_whatever_the_case_of_its_letters(device_id: str, count: int) -> None:
    assert 0 <= partition_of(device_id, count) < count
    assert partition_of("Fridge-7", count) == partition_of("fridge-7", count)


def test_devices_are_spread() -> None:
    spread = Counter(partition_of(f"fridge-{number}", 4) for number in range(4000))
    assert all(800 < spread[partition] < 1200 for partition in range(4))
