# SPDX-License-Identifier: Apache-2.0
"""A hub in a process of its own, and Microsoft's SDKs as its clients.

uamqp insists on port 5671 and azure-iot-device on 8883, so every hub gets a loopback address of its own: it runs beside
others and beside a hub on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.eventhub import EventHubConsumerClient
from azure.iot.device import IoTHubDeviceClient
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from local_hub.core.sas import key_bytes, sign

API_VERSION = {"api-version": "2021-04-12"}


class RunningHub:
    """A hub process, its data directory, and clients of it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.host = _free_address()
        self.https_port = _free_port(self.host)
        self.serve_options: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._devices: list[Any] = []
        self.environment = json.loads(self.command("env", "--format", "json").stdout)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.https_port}"

    @property
    def connection_string(self) -> str:
        return str(self.environment["IOTHUB_CONNECTION_STRING"])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(self._command("serve", *self.serve_options), stderr=log)
        waited = self.command("wait", "--timeout", "30")
        assert waited.returncode == 0, waited.stderr

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(20)

    def close(self) -> None:
        try:
            for device in self._devices:
                with contextlib.suppress(Exception):  # some tests have shut theirs down already
                    device.shutdown()
        finally:
            if self._process is not None and self._process.poll() is None:
                assert self.stop() == 0

    def authorization(self, lifetime: int = 60) -> dict[str, str]:
        key = self.connection_string.partition("SharedAccessKey=")[2]
        return {"Authorization": sign(self.host, key_bytes(key) or b"", int(time.time()) + lifetime, "iothubowner")}

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Plain REST, for what the SDK does not show."""
        options["headers"] = self.authorization() | options.get("headers", {})
        return requests.request(method, self.url + path, params=API_VERSION, timeout=10, **options)

    def registry(self) -> IoTHubRegistryManager:
        return IoTHubRegistryManager.from_connection_string(self.connection_string)

    def configurations(self) -> IoTHubConfigurationManager:
        return IoTHubConfigurationManager.from_connection_string(self.connection_string)

    def consumer(self, group: str = "$Default", policy: str = "iothubowner") -> EventHubConsumerClient:
        told = json.loads(self.command("env", "--policy", policy, "--format", "json").stdout)
        return EventHubConsumerClient.from_connection_string(
            told["EVENTHUB_CONNECTION_STRING"],
            group,
            connection_verify=self.environment["IOTHUB_CA_FILE"],
            retry_total=0,
        )

    def keep(self, device: Any) -> None:
        """Shut a device client down at the end."""
        self._devices.append(device)

    def device(self, device_id: str, key: str | None = None) -> IoTHubDeviceClient:
        if key is None:
            key = self.registry().get_device(device_id).authentication.symmetric_key.primary_key
        client = IoTHubDeviceClient.create_from_connection_string(
            f"HostName={self.host};DeviceId={device_id};SharedAccessKey={key}",
            server_verification_cert=Path(self.environment["IOTHUB_CA_FILE"]).read_text(),
            connection_retry_interval=1,
        )
        self._devices.append(client)
        return client

    def _command(self, *arguments: str) -> list[str]:
        address = ["--host", self.host, "--hostname", self.host, "--https-port", str(self.https_port)]
        return [sys.executable, "-m", "local_hub", arguments[0], "--data", str(self.data), *address, *arguments[1:]]


@pytest.fixture(scope="session")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("shared") / "hub")
    try:
        hub.start()
        yield hub
    finally:
        hub.close()


@pytest.fixture
def hub(shared_hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> RunningHub:
    """The hub that most tests share; each uses devices of its own."""
    _trust(shared_hub, monkeypatch)
    return shared_hub


@pytest.fixture
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    """A hub for one test, which may kill it."""
    hub = RunningHub(tmp_path / "hub")
    _trust(hub, monkeypatch)
    try:
        hub.start()
        yield hub
    finally:
        hub.close()


@pytest.fixture
def hub_with(own_hub: RunningHub) -> Callable[..., RunningHub]:
    """A hub for one test, started with options of `serve`."""

    def start(*options: str) -> RunningHub:
        assert own_hub.stop() == 0
        own_hub.serve_options = options
        own_hub.start()
        return own_hub

    return start


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until something is true, and give it."""

    def wait(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)
        return value

    return wait


def _trust(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, hub.environment[name])


def _free_address() -> str:
    for _ in range(100):
        address = f"127.{random.randint(1, 254)}.{os.getpid() % 250}.{random.randint(2, 254)}"
        if all(_is_free(address, port) for port in (5671, 8883)):
            return address
    raise RuntimeError("no loopback address with free ports 5671 and 8883")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
