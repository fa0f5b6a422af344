# SPDX-License-Identifier: Apache-2.0
"""The line to Azure IoT Hub: azure-iot-device on one thread of its own, so that nothing else waits for a network.

In: goals (twin on every connect, desired patches, wake-up messages). Out: the newest report, then the spool.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.iot.device import IoTHubDeviceClient, Message

from . import goal
from .config import Hub
from .machine import Goal
from .spool import Item, Spool

log = logging.getLogger(__name__)
_BACKOFF_CAP = 60.0
_TURN = 1.0


class HubLink(threading.Thread):
    """Keeps the connection, with jittered backoff, for as long as the agent runs."""

    def __init__(self, hub: Hub, spool: Path, on_goal: Callable[[Goal], None]) -> None:
        super().__init__(name="hub", daemon=True)
        self._hub = hub
        self._spool_path = spool
        self._on_goal = on_goal
        self.connected_once = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._reread = False
        self._report: dict[str, Any] | None = None
        self._reported: dict[str, Any] | None = None
        self._message_goal: Goal | None = None

    def report(self, properties: dict[str, Any]) -> None:
        """Set what the twin's reported properties should say; only the newest is sent."""
        self._report = properties
        self._wake.set()

    def poke(self) -> None:
        """Something was spooled."""
        self._wake.set()

    def close(self) -> None:
        self._stopping.set()
        self._wake.set()
        self.join(10.0)

    # ---- the thread ----------------------------------------

    def run(self) -> None:
        spool = Spool(self._spool_path)
        failures = 0
        while not self._stopping.is_set():
            client = None
            try:
                client = self._client()
                client.connect()
                # setting a handler subscribes, which would connect by itself and without our backoff
                client.on_message_received = self._on_message
                client.on_twin_desired_properties_patch_received = self._on_patch
                client.on_connection_state_change = self._on_connection
                log.info("connected to the hub")
                failures = 0
                self.connected_once = True
                self._serve(client, spool)
            except Exception as exc:
                failures += 1
                wait = min(_BACKOFF_CAP, 2.0 ** min(failures, 6)) * random.uniform(0.5, 1.0)  # noqa: S311
                log.warning("no line to the hub (%s), next try in %.0f s", _reason(exc), wait)
                self._stopping.wait(wait)
            finally:
                if client is not None:
                    with suppress(Exception):
                        client.shutdown()
        spool.close()

    def _client(self) -> Any:
        options: dict[str, Any] = {"keep_alive": 30, "connection_retry": False}
        if self._hub.ca_file:
            options["server_verification_cert"] = self._hub.ca_file.read_text(encoding="ascii")
        client: Any = IoTHubDeviceClient.create_from_connection_string(self._hub.connection_string, **options)
        return client

    def _serve(self, client: Any, spool: Spool) -> None:
        """One connection's life; raises or returns when it is over."""
        self._reread, self._reported = True, None
        while client.connected and not self._stopping.is_set():
            if self._reread:
                self._reread = False
                self._read_goal(client)
            if self._report is not None and self._report != self._reported:
                newest = self._report
                client.patch_twin_reported_properties(newest)
                self._reported = newest
            if item := spool.oldest():
                client.send_message(_message(item))
                spool.done(item.id)
                continue
            self._wake.wait(_TURN)
            self._wake.clear()

    def _read_goal(self, client: Any) -> None:
        found = goal.from_twin(client.get_twin())
        woken, self._message_goal = self._message_goal, None
        if found and woken and woken.release == found.release:
            found = woken
        if found := found or woken:
            self._on_goal(found)

    # ---- called by the SDK's handler threads ----------------------------------------

    def _on_message(self, message: Any) -> None:
        if message.custom_properties.get("type") == "release":
            # only a wake-up: the twin, read anew, says what the goal is now
            self._message_goal = goal.from_message(bytes(message.data))
            self._reread = True
            self._wake.set()

    def _on_connection(self) -> None:
        self._wake.set()

    def _on_patch(self, patch: dict[str, Any]) -> None:
        if goal.from_desired(patch):
            # the SDK runs handlers in several threads, so patches may overtake each other: ask what holds now
            self._reread = True
            self._wake.set()


def _message(item: Item) -> Any:
    make: Any = Message
    message = make(item.body, message_id=item.id, content_encoding="utf-8", content_type=item.content_type)
    message.custom_properties["kind"] = item.kind
    return message


def _reason(exc: Exception) -> str:
    cause = exc.__cause__
    return f"{type(exc).__name__}: {cause or exc}".rstrip(": ")
