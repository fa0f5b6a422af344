# SPDX-License-Identifier: Apache-2.0
"""A service on an AMQP connection: it sends to devices, hears what became of that, and reads events."""

from __future__ import annotations

import asyncio

from ..core.errors import HubError, IotHubQuotaExceeded, Unauthorized
from ..hub.hub import Hub
from . import nodes
from .client import Replies, Wire
from .connection import IncomingDelivery, IncomingMessage, Link, Outcome
from .receivers import EventReceiver, FeedbackReceiver, FileNotificationReceiver, Ownership, Receiver

_MANAGEMENT = "$management"
_DEVICEBOUND, _FEEDBACK = "messages/devicebound", "messages/servicebound/feedback"
_FILES = "messages/servicebound/filenotifications"
_EVENTS = "messages/events"
# services hear it so, by IotHubAmqpErrorCode.cs of the C# SDK; devices otherwise
_QUOTA_EXCEEDED = "com.microsoft:quota-exceeded"


class EventHub:
    """What the connections of all services share: name and place, and who reads which partition."""

    def __init__(self, name: str, created_ms: int, host: str, port: int) -> None:
        self.name = name
        self.created_ms = created_ms
        self.host = host
        self.port = port
        self.ownership = Ownership()


class ServiceClient:
    """Implements `Client`. Its token, `until` when it is one, comes by $cbs or by SASL PLAIN."""

    def __init__(self, hub: Hub, wire: Wire, event_hub: EventHub) -> None:
        self._hub = hub
        self._wire = wire
        self._event_hub = event_hub
        self._replies = Replies()
        self._receivers: dict[Link, Receiver] = {}
        self.until = 0.0

    def attach(self, link: Link, path: str) -> None:
        """Client."""
        node = path.lower()
        if self.until <= self._hub.clock():
            raise Unauthorized("put a token first")
        if link.sends and (node == _EVENTS or node.startswith(f"{_EVENTS}/")):
            # not IoT Hub itself has them: so clients that know it alone find the Event Hubs-compatible endpoint
            event_hub = self._event_hub
            link.redirect(event_hub.host, event_hub.port, event_hub.name + path[len(_EVENTS) :])
        elif node.endswith(_MANAGEMENT):
            link.attach()
            if link.sends:
                self._replies.add(link)
        elif link.sends and node == _FEEDBACK:
            link.attach()
            self._receivers[link] = FeedbackReceiver(self._hub, link, self._wire)
        elif link.sends and node == _FILES:
            link.attach()
            self._receivers[link] = FileNotificationReceiver(self._hub, link, self._wire)
        elif link.sends:
            self._attach_events(link, path)
        elif node == _DEVICEBOUND:
            link.attach()
        else:
            link.refuse("amqp:not-found", f"there is nothing at {path}")

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        """Client."""
        if nodes.node_path(link.target).lower().endswith(_MANAGEMENT):
            delivery.accept()
            # uamqp drops an answer that it reads before the acceptance of its question ("Did not receive send
            # confirmation for pending operation"), so that the acceptance leaves first.
            asyncio.get_running_loop().call_soon(self._answer, link, message)
        else:
            self._wire.start(self._devicebound(message, delivery))

    def credited(self, link: Link) -> None:
        """Client."""
        receiver = self._receivers.get(link)
        if receiver is not None:
            receiver.pump()

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        """Client."""
        receiver = self._receivers.get(link)
        if receiver is not None:
            receiver.settled(tag, outcome is Outcome.ACCEPTED)

    def detached(self, link: Link) -> None:
        """Client."""
        self._replies.remove(link)
        receiver = self._receivers.pop(link, None)
        if receiver is not None:
            receiver.close()
            if isinstance(receiver, EventReceiver):
                self._event_hub.ownership.release(receiver)

    def _attach_events(self, link: Link, path: str) -> None:
        source = nodes.event_source(path, self._event_hub.name)
        if source is None:
            link.refuse("amqp:not-found", f"there is nothing at {link.source}")
            return
        receiver = EventReceiver(self._hub, link, self._wire, source)
        if not self._event_hub.ownership.admit(receiver):
            receiver.close()
            link.refuse("amqp:link:stolen", "a receiver with a higher epoch reads this partition")
            return
        link.attach(settled=True)  # as Event Hubs: its clients ask for more, and never settle what they read
        self._receivers[link] = receiver

    def _answer(self, link: Link, message: IncomingMessage) -> None:
        event_hub = self._event_hub
        answer = nodes.management_answer(message, event_hub.name, self._hub.events, event_hub.created_ms)
        self._replies.send(link, message, answer)
        self._wire.flush()

    async def _devicebound(self, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        try:
            if self.until <= self._hub.clock():
                raise Unauthorized("the token has expired")
            device_id, command = nodes.devicebound(message, self._hub.clock())
            await self._hub.messages.send(device_id, command)
        except IotHubQuotaExceeded as error:
            delivery.reject(_QUOTA_EXCEEDED, f"{error.code}: {error}")
        except HubError as error:
            delivery.reject(error.condition, f"{error.code}: {error}")
        else:
            delivery.accept()
