# SPDX-License-Identifier: Apache-2.0
"""Reads the Event Hubs-compatible endpoint with azure-eventhub and stores what the devices said.

Positions live in the store, not in a checkpoint service: a record and its position are one transaction.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from azure.eventhub import EventHubConsumerClient

from .decode import Undecodable, decode
from .store import Store

log = logging.getLogger(__name__)
_DEVICE = b"iothub-connection-device-id"
_SOURCE = b"iothub-message-source"


class Collector:
    """One consumer of all partitions."""

    def __init__(self, connection_string: str, store: Store, consumer_group: str, ca_file: Path | None) -> None:
        self._connection_string = connection_string
        self._store = store
        self._group = consumer_group
        self._ca_file = ca_file
        self._client: EventHubConsumerClient | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        if self._client is not None:
            self._client.close()

    def run(self) -> None:
        """Receive until `stop`; the SDK reconnects by itself, this starts it again where it gives up."""
        wait = 1.0
        while not self._stopped.is_set():
            options: dict[str, Any] = {"connection_verify": str(self._ca_file)} if self._ca_file else {}
            self._client = EventHubConsumerClient.from_connection_string(
                self._connection_string, consumer_group=self._group, **options
            )
            try:
                positions: dict[str, Any] = dict(self._store.positions())
                with self._client:
                    self._client.receive(
                        on_event=self._on_event,
                        on_error=self._on_error,
                        starting_position=positions,  # a partition not in it: from the beginning
                        starting_position_inclusive=False,
                        max_wait_time=None,
                    )
            except Exception as exc:
                log.warning("no line to the event hub: %s", exc)
            self._stopped.wait(wait)
            wait = min(wait * 2, 30.0)

    def _on_event(self, context: Any, event: Any) -> None:
        properties = event.system_properties or {}
        if properties.get(_SOURCE, b"Telemetry") not in (b"Telemetry", "Telemetry"):
            return
        device = _decoded(properties.get(_DEVICE, b"unknown"))
        body = b"".join(event.body) if not isinstance(event.body, bytes) else event.body
        partition, sequence = str(context.partition_id), int(event.sequence_number)
        try:
            self._store.add(decode(device, body), partition, sequence)
        except Undecodable as exc:
            log.warning("left out a message of %s: %s", device, exc)
            self._store.reject(device, str(exc), partition, sequence)

    def _on_error(self, context: Any, error: Exception) -> None:
        where = f"partition {context.partition_id}" if context else "the event hub"
        log.warning("%s: %s", where, error)


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
