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

from .errors import HubError, IotHubQuotaExceeded, ThrottlingException, Unauthorized

_TYPE, _DELAY = "AzIoTHub_FaultOperationType", "AzIoTHub_FaultOperationDelayInSecs"
_DURATION = "AzIoTHub_FaultOperationDurationInSecs"
_MAX_SECONDS = 60


class Kind(StrEnum):
    """What is to break. Of links, `Req` is the one for requests and `Resp` the one for answers to them."""

    AUTHENTICATION = "invokeautherror"
    QUOTA = "invokemaxmessagequota"
    THROTTLING = "invokethrottling"
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


REFUSALS: dict[Kind | None, type[HubError]] = {
    Kind.AUTHENTICATION: Unauthorized,
    Kind.QUOTA: IotHubQuotaExceeded,
    Kind.THROTTLING: ThrottlingException,
}
"""Faults that break nothing: over AMQP events are refused so for a while."""

_KINDS = {str(kind): kind for kind in Kind}  # `in Kind` takes texts from Python 3.12 on


@dataclass(frozen=True)
class Fault:
    """`kind` is None for one that does nothing here; `delay` and `duration` in seconds."""

    kind: Kind | None
    delay: float
    duration: float = 0


def requested_fault(properties: Mapping[str, object]) -> Fault | None:
    """The fault that an event with these properties asks for; None for any other event."""
    if _TYPE not in properties:
        return None
    kind = _KINDS.get(str(properties[_TYPE]).lower())
    return Fault(kind, _seconds(properties, _DELAY), _seconds(properties, _DURATION))


def _seconds(properties: Mapping[str, object], name: str) -> float:
    text = str(properties.get(name, "0"))
    return float(min(int(text), _MAX_SECONDS)) if text.isdecimal() and len(text) < 10 else 0.0
