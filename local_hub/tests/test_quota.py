# SPDX-License-Identifier: Apache-2.0
"""Rates and the day's messages as values; the numbers are those of the documentation's tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.errors import IotHubQuotaExceeded, ThrottlingException
from local_hub.core.quota import DAY, Bucket, Operation, Quota, plan

NOW = 20_000 * DAY + 3600.0


def per_minute(sku: str, units: int, operation: Operation) -> float:
    return round(plan(sku, units).rates[operation] * 60, 3)


@pytest.mark.parametrize(
    ("operation", "s1", "s2", "s3", "nine_s1", "twenty_s2"),
    [
        (Operation.REGISTRY, 100, 100, 5000, 900, 2000),
        (Operation.CONNECT, 6000, 7200, 360_000, 6480, 144_000),
        (Operation.D2C, 6000, 7200, 360_000, 6480, 144_000),
        (Operation.C2D, 100, 100, 5000, 900, 2000),
        (Operation.QUERY, 20, 20, 1000, 180, 400),
        (Operation.TWIN_READ, 6000, 6000, 30_000, 6000, 12_000),
        (Operation.TWIN_UPDATE, 3000, 3000, 15_000, 3000, 6000),
        (Operation.JOB, 100, 100, 5000, 900, 2000),
        (Operation.JOB_DEVICE, 600, 600, 3000, 600, 1200),
        (Operation.CONFIGURATION, 20, 20, 20, 180, 400),
    ],
)
def test_rates_are_those_of_the_table(
    operation: Operation, s1: float, s2: float, s3: float, nine_s1: float, twenty_s2: float
) -> None:
    assert [per_minute(sku, 1, operation) for sku in ("F1", "S1", "S2", "S3")] == [s1, s1, s2, s3]
    assert (per_minute("S1", 9, operation), per_minute("S2", 20, operation)) == (nine_s1, twenty_s2)


def test_a_day_has_so_many_messages() -> None:
    assert [plan(sku, 1).messages for sku in ("F1", "S1", "S2", "S3")] == [8_000, 400_000, 6_000_000, 300_000_000]
    assert (plan("S1", 3).messages, plan("F1", 1).chunk, plan("S3", 1).chunk) == (1_200_000, 512, 4096)


@pytest.mark.parametrize(("sku", "units"), [("F1", 2), ("S1", 0), ("S1", 201), ("S3", 11), ("S4", 1), ("B1", 1)])
def test_there_are_no_other_hubs(sku: str, units: int) -> None:
    with pytest.raises(ValueError, match="there is no hub"):
        plan(sku, units)


def test_a_minute_s_burst_passes_and_then_one_at_a_time() -> None:
    quota = Quota(plan("S1", 1))
    for _ in range(20):
        quota.admit(Operation.QUERY, NOW)
    with pytest.raises(ThrottlingException) as error:
        quota.admit(Operation.QUERY, NOW)
    assert error.value.retry_after == pytest.approx(3)
    quota.admit(Operation.QUERY, NOW + 3)
    with pytest.raises(ThrottlingException):
        quota.admit(Operation.QUERY, NOW + 4)
    quota.admit(Operation.REGISTRY, NOW + 4)  # a bucket of its own


def test_what_cannot_be_refused_waits_its_turn() -> None:
    quota = Quota(plan("S1", 1))
    waits = [quota.reserve(Operation.JOB_DEVICE, NOW) for _ in range(12)]
    assert waits[:10] == [0.0] * 10
    assert waits[10:] == pytest.approx([0.1, 0.2])


def test_methods_are_limited_by_their_bytes() -> None:
    quota = Quota(plan("S1", 1))
    for _ in range(60 * 40):
        quota.admit(Operation.METHOD, NOW, 4096)
    with pytest.raises(ThrottlingException):
        quota.admit(Operation.METHOD, NOW, 4096)


def test_messages_are_counted_in_chunks_until_midnight() -> None:
    quota = Quota(plan("F1", 1))
    for size, used in ((0, 1), (512, 2), (513, 4), (5000, 14)):
        quota.charge(NOW, size)
        assert quota.used == used
    quota.restore(quota.day, 7999)
    quota.require_messages(NOW)
    quota.charge(NOW, 1)
    with pytest.raises(IotHubQuotaExceeded, match="8000"):
        quota.require_messages(NOW)
    quota.require_messages(NOW + DAY - 3600)
    assert quota.used == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3)), max_size=60), st.floats(0.1, 50))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(asked: list[tuple[float, float]], rate: float) -> None:
    bucket, now, taken = Bucket(rate, 5.0), 0.0, 0.0
    for passed, amount in asked:
        now += passed
        wait = bucket.take(now, amount)
        assert wait >= 0
        taken += 0.0 if wait else amount
        assert taken <= 5.0 + rate * now + 1e-6
    assert bucket.take(now + 5.0 / rate + 1, 5.0) == 0.0


@given(st.lists(st.floats(-1000, 1000), max_size=30))
def test_a_clock_that_jumps_back_breaks_nothing(moments: list[float]) -> None:
    bucket = Bucket(1.0, 2.0)
    for moment in moments:
        assert 0 <= bucket.take(moment) <= 1
