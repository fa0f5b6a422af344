# SPDX-License-Identifier: Apache-2.0
"""Faults that the SDKs' own tests ask a hub for, by an event that reaches no reader.

azure-iot-sdk-python tests/e2e/iothub_e2e/utils.py (get_fault_injection_message), e2etests/test/*_disconnect.js of
azure-iot-sdk-node, iothub_client/tests/common_e2e of azure-iot-sdk-c, ErrorInjectionHelper.java of azure-iot-sdk-java.
They agree on the names, not on the case of their letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_TYPE, _DELAY = "AzIoTHub_FaultOperationType", "AzIoTHub_FaultOperationDelayInSecs"
_MAX_DELAY = 60


class Kind(StrEnum):
    """What is to break. Of links, `Req` is the one for requests and `Resp` the one for answers to them."""

    TCP = "killtcp"
    MQTT_SHUTDOWN = "shutdownmqtt"
    AMQP_SHUTDOWN = "shutdownamqp"
    AMQP_CONNECTION = "killamqpconnection"
    AMQP_SESSION = "killamqpsession"
    CBS_REQUESTS = "killamqpcbslinkreq"
    CBS_ANSWERS = "killamqpcbslinkresp"
    EVENTS = "killamqpd2clink"
    DEVICEBOUND = "killamqpc2dlink"
    METHOD_REQUESTS = "killamqpmethodreqlink"
    METHOD_ANSWERS = "killamqpmethodresplink"
    TWIN_REQUESTS = "killamqptwinlinkreq"
    TWIN_ANSWERS = "killamqptwinlinkresp"


_KINDS = {str(kind): kind for kind in Kind}  # `in Kind` takes texts from Python 3.12 on


@dataclass(frozen=True)
class Fault:
    """`kind` is None for one that does nothing here; `delay` in seconds."""

    kind: Kind | None
    delay: float


def requested_fault(properties: Mapping[str, object]) -> Fault | None:
    """The fault that an event with these properties asks for; None for any other event."""
    if _TYPE not in properties:
        return None
    named, text = str(properties[_TYPE]).lower(), str(properties.get(_DELAY, "0"))
    delay = min(int(text), _MAX_DELAY) if text.isdecimal() and len(text) < 10 else 0
    return Fault(_KINDS.get(named), float(delay))
