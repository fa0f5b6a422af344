# SPDX-License-Identifier: Apache-2.0
"""A device that registers over AMQP: requests and answers on two links of `{scope}/registrations/{id}`.

What is asked stands in the application property `iotdps-operation-type`: azure-iot-provisioning-device-amqp of Node,
prov_transport_amqp_common.c of the C SDK. It proves itself by SASL PLAIN with a token, or by its certificate.
"""

from __future__ import annotations

import json
import re

from ..core.errors import ArgumentInvalid, HubError, Unauthorized
from ..hub.hub import Hub
from ..hub.provisioning import RETRY_AFTER, Applicant
from ..mqtt.provisioning import registration_body
from . import nodes
from .client import Replies, Wire
from .connection import IncomingDelivery, IncomingMessage, Link, Outcome
from .encoding import Int, encode_message

_REGISTRATION = re.compile(r"([^/]{1,64})/registrations/([^/]{1,128})", re.IGNORECASE)


def registration_of(path: str) -> tuple[str, str] | None:
    """Scope and registration id, if an address or a user's name is for provisioning."""
    match = _REGISTRATION.fullmatch(path)
    return (match[1], match[2]) if match else None


class ApplicantClient:
    """Implements `Client`."""

    def __init__(self, hub: Hub, applicant: Applicant, wire: Wire) -> None:
        self._hub = hub
        self._applicant = applicant
        self._wire = wire
        self._replies = Replies()

    @property
    def until(self) -> float:
        """When its token ends."""
        return self._applicant.until

    def attach(self, link: Link, path: str) -> None:
        """Client."""
        registration = registration_of(path)
        if registration is None or registration[1].lower() != self._applicant.registration_id.lower():
            raise Unauthorized("this is another's registration")
        if self.until <= self._hub.clock():
            raise Unauthorized("the token has expired")
        link.attach()
        if link.sends:
            self._replies.add(link)

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        """Client."""
        delivery.accept()
        self._wire.start(self._answer(link, message))

    def credited(self, link: Link) -> None:
        """Client. Answers wait for nothing."""

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        """Client. It asks again if it did not hear the answer."""

    def detached(self, link: Link) -> None:
        """Client."""
        self._replies.remove(link)

    async def _answer(self, link: Link, request: IncomingMessage) -> None:
        provisioning, asked = self._hub.provisioning, request.properties
        properties = {}
        try:
            match asked.get("iotdps-operation-type"):
                case "iotdps-register":
                    answer = await provisioning.register(self._applicant, registration_body(nodes.body_bytes(request)))
                    status = 202
                    properties["retry-after"] = str(RETRY_AFTER)
                case "iotdps-get-operationstatus":
                    answer = provisioning.operation(self._applicant, str(asked.get("iotdps-operation-id", "")))
                    status = 200
                case other:
                    raise ArgumentInvalid(f"{other} is no operation of provisioning")
        except HubError as error:
            answer, status = provisioning.refusal(error), error.status
        message = encode_message(
            data=json.dumps(answer).encode(),
            properties={"correlation-id": request.correlation_id},
            application_properties={"iotdps-status": Int(status), **properties},
        )
        self._replies.send(link, request, message)
