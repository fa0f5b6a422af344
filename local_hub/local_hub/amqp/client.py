# SPDX-License-Identifier: Apache-2.0
"""Who may be at the other end of a connection, and what each is given of it.

Services (service.py), devices (device.py) and those that register to become devices (provisioning.py) come by the same
port. The connection (server.py) finds out whose a link is; from then on the link's events are that client's.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from ..core.fault import Fault
from .connection import IncomingDelivery, IncomingMessage, Link, Outcome
from .nodes import Node, node_path

MAX_QUEUED = 100
"""Messages that proton holds for a client that gives no credit."""


class Wire(Protocol):
    """The connection as a client's links use it."""

    @property
    def congested(self) -> bool:
        """Whether the client leaves unread what it was sent."""

    def flush(self) -> None:
        """Put on the socket what links have sent."""

    async def drained(self) -> None:
        """Wait until the client has read most of what is on the socket."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background; what it says is put on the socket afterwards."""

    def fail(self, fault: Fault, links: Mapping[Link, Node]) -> None:
        """Break as a device asked for, whose links these are."""


class Client(Protocol):
    """One of them."""

    def attach(self, link: Link, path: str) -> None:
        """It wants a link to or from `path`: attach or refuse it.

        Raises:
            HubError: the link is refused for this.
        """

    def received(self, link: Link, message: IncomingMessage, delivery: IncomingDelivery) -> None:
        """It sent a message."""

    def credited(self, link: Link) -> None:
        """It takes more messages now."""

    def settled(self, link: Link, tag: int, outcome: Outcome) -> None:
        """It dealt with a message."""

    def detached(self, link: Link) -> None:
        """The link is gone."""


class Replies:
    """Links for answers of a node that is asked by messages."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def add(self, link: Link) -> None:
        """A client listens."""
        self._links.append(link)

    def remove(self, link: Link) -> None:
        """It does not any more."""
        if link in self._links:
            self._links.remove(link)

    def send(self, asked: Link, request: IncomingMessage, answer: bytes) -> None:
        """On the link of the same node in the same session, that of `reply-to` if there are several.

        uamqp asks before it gives credit for the answer, so that credit is no condition: proton holds it back.
        """
        node = node_path(asked.target).lower()
        fitting = [
            each
            for each in self._links
            if each.session == asked.session and node_path(each.source).lower() == node and each.queued < MAX_QUEUED
        ]
        named = [each for each in fitting if request.reply_to and each.target == request.reply_to]
        for each in (named or fitting)[:1]:
            each.send(answer)
