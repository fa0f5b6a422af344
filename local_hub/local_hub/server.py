# SPDX-License-Identifier: Apache-2.0
"""One process, one event loop, three listeners."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator
from typing import Protocol

from .amqp.server import AmqpServer
from .https.server import HttpsServer
from .https.websockets import WebSockets
from .hub.hub import Hub
from .mqtt.server import MqttServer
from .settings import EVENT_HUB, DataDirectory, Settings, SettingsError
from .tls import TlsContext

_log = logging.getLogger(__name__)
_GC_THRESHOLDS = (50_000, 20, 100)


class _Listener(Protocol):
    async def start(self, host: str, port: int, tls: TlsContext) -> None: ...
    async def close(self) -> None: ...


class _Failure:
    """Why the process must end, once something said so."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.stop = asyncio.Event()

    def __call__(self, error: Exception) -> None:
        self.error = error
        self.stop.set()


async def serve(directory: DataDirectory, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: a port is taken, or the disk failed.
    """
    _raise_file_limit()
    # A hundred thousand twins are millions of objects that stay: looking for garbage among them, as often as Python
    # does by itself, took a third of the time.
    gc.set_threshold(*_GC_THRESHOLDS)
    failure = _Failure()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, failure.stop.set)
    hub = _load(directory, settings, failure)
    try:
        async with _listening(hub, directory, settings):
            _log.info("serving %d devices as %s", len(hub.registry), settings.hostname)
            await failure.stop.wait()
            _log.info("stopping")
    finally:
        await hub.close()
    if failure.error is not None:
        raise SettingsError(f"stopped, since the hub cannot keep its promises: {failure.error}") from failure.error


def _raise_file_limit() -> None:
    """A connection is a file: take all that the system lets this process have, not the 1024 that shells begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and refuses it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _load(directory: DataDirectory, settings: Settings, failure: _Failure) -> Hub:
    try:
        authorities = directory.certificates.device_authorities
        hub = Hub(
            directory.database,
            settings.policy_keys,
            settings.names,
            failure,
            authorities=authorities,
            routes=settings.routes,
            name=EVENT_HUB,
            hostname=settings.hostname,
            limits=settings.limits(),
        )
        hub.start()
    except sqlite3.Error as error:
        raise SettingsError(f"cannot use the database {directory.database}: {error}") from error
    return hub


@contextlib.asynccontextmanager
async def _listening(hub: Hub, directory: DataDirectory, settings: Settings) -> AsyncIterator[None]:
    tls = directory.certificates.server_context()
    amqp, mqtt = AmqpServer(hub, EVENT_HUB, settings.hostname, settings.amqp_port), MqttServer(hub)
    listeners: list[tuple[str, _Listener, int, TlsContext]] = [
        ("amqp", amqp, settings.amqp_port, tls),
        ("mqtt", mqtt, settings.mqtt_port, tls),
        # REST last: whoever waits for an answer of it finds the others open too.
        ("https", HttpsServer(hub, WebSockets(mqtt.connection, amqp.connection)), settings.https_port, tls),
    ]
    started: list[_Listener] = []
    try:
        for name, listener, port, tls in listeners:
            try:
                await listener.start(settings.host, port, tls)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise SettingsError(f"cannot listen on {settings.host}:{port} for {name}: {reason}") from error
            started.append(listener)
            _log.info("%s on %s:%d", name, settings.host, port)
        yield
    finally:
        # REST last here too: AMQP inside WebSockets has something to say before they end
        for listener in started:
            await listener.close()
