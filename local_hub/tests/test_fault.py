# SPDX-License-Identifier: Apache-2.0
"""Faults that tests of the SDKs ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.fault import Fault, Kind, requested_fault

TYPE, DELAY = "AzIoTHub_FaultOperationType", "AzIoTHub_FaultOperationDelayInSecs"
DURATION = "AzIoTHub_FaultOperationDurationInSecs"


@pytest.mark.parametrize(
    ("properties", "fault"),
    [
        ({}, None),
        ({"colour": "blue", DELAY: "1"}, None),
        ({TYPE: "KillTcp"}, Fault(Kind.TCP, 0)),
        ({TYPE: "KillAmqpC2DLink", DELAY: "2"}, Fault(Kind.DEVICEBOUND, 2)),
        ({TYPE: "KillAmqpc2dLink", DELAY: 2}, Fault(Kind.DEVICEBOUND, 2)),  # so it is called in the C SDK
        ({TYPE: "ShutDownMqtt", DELAY: "3600"}, Fault(Kind.MQTT_SHUTDOWN, 60)),
        ({TYPE: "SomethingElse", DELAY: "soon"}, Fault(None, 0)),
        ({TYPE: "InvokeThrottling", DELAY: "1", DURATION: "20"}, Fault(Kind.THROTTLING, 1, 20)),
    ],
)
def test_a_fault_is_read_from_the_properties_of_an_event(properties: dict[str, object], fault: Fault | None) -> None:
    assert requested_fault(properties) == fault


@given(st.text() | st.integers(), st.text() | st.integers() | st.text("0123456789", min_size=8))
def test_no_property_breaks_more_than_a_minute_later(kind: object, delay: object) -> None:
    fault = requested_fault({TYPE: kind, DELAY: delay})
    assert fault is not None
    assert 0 <= fault.delay <= 60
