# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts a local hub for the integration tests; runs modules against it with the real SDK."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

_AMQPS, _MQTTS = 5671, 8883  # the SDKs let nobody change these, so that each hub needs an address of its own
_ADDRESSES = [f"127.0.{os.getpid() % 250 + 1}.{number}" for number in range(31, 40)]  # tests run in several processes
_COMMAND = [sys.executable, "-m", "local_hub"]


@dataclass(frozen=True)
class LocalHub:
    """A running hub.

    :param host: its address
    :param environment: what clients need, as ``local-hub env`` prints it
    """

    host: str
    environment: dict[str, str]

    @property
    def connection_string(self) -> str:
        return self.environment["IOTHUB_CONNECTION_STRING"]

    @property
    def ca_file(self) -> str:
        return self.environment["IOTHUB_CA_FILE"]

    @property
    def key(self) -> str:
        return self.connection_string.partition("SharedAccessKey=")[2]


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> t.Iterator[LocalHub]:
    """Serve a hub on a loopback address of its own, with options of ``local-hub serve``."""
    host = next(address for address in _ADDRESSES if _free(address, _AMQPS) and _free(address, _MQTTS))
    place = ["--data", str(folder / "data"), "--host", host, "--hostname", host, "--https-port", str(_any_port(host))]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*_COMMAND, "serve", *place, *options], stdout=log, stderr=log)
    try:
        _await(server, place, folder / "log")
        printed = subprocess.run([*_COMMAND, "env", *place, "--format", "json"], check=True, capture_output=True)
        yield LocalHub(host, json.loads(printed.stdout))
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture(scope="session")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[LocalHub]:
    """Serve a hub until the tests are over."""
    pytest.importorskip("local_hub")
    with serving(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def small_hub(tmp_path: Path) -> t.Iterator[LocalHub]:
    """Serve a hub with the limits of the free tier, for one test."""
    pytest.importorskip("local_hub")
    (tmp_path / "small").mkdir()
    with serving(tmp_path / "small", "--sku", "F1") as hub:
        yield hub


@pytest.fixture
def connect(local_hub: LocalHub) -> t.Iterator[t.Callable[..., t.Any]]:
    """Connect devices with azure-iot-device: ``connect(connection_string, answer)`` answers direct methods."""
    from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, MethodResponse

    clients: list[t.Any] = []

    def connected(text: str, answer: t.Callable[[str, t.Any], tuple[int, t.Any]] | None = None) -> t.Any:
        kind = IoTHubModuleClient if "ModuleId=" in text else IoTHubDeviceClient
        client = kind.create_from_connection_string(text, server_verification_cert=Path(local_hub.ca_file).read_text())
        clients.append(client)

        def respond(call: t.Any) -> None:
            assert answer is not None
            client.send_method_response(
                MethodResponse.create_from_method_request(call, *answer(call.name, call.payload))
            )

        client.connect()
        if answer is not None:
            client.on_method_request_received = respond
        return client

    yield connected
    for client in clients:
        client.shutdown()


class Runner(t.Protocol):
    """Runs a module in this process: ``run_module("iothub_device", devices=[...])`` returns what it prints."""

    def __call__(self, module: str, /, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]: ...


@pytest.fixture
def run_module(local_hub: LocalHub, capfd: pytest.CaptureFixture[str]) -> Runner:
    """Run modules against the local hub; whatever they print, the C library's words included, must hold no secret."""

    def runner(module: str, /, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments = {"connection_string": local_hub.connection_string, "ca_file": local_hub.ca_file, **options}
        arguments |= {"_ansible_check_mode": check, "_ansible_diff": True}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        main = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}").main
        capfd.readouterr()
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        out, err = capfd.readouterr()
        assert local_hub.key not in out + err
        assert "Traceback" not in out + err
        assert err == ""
        return t.cast("dict[str, t.Any]", json.loads(out))

    return runner


def _await(server: subprocess.Popen[bytes], place: list[str], log: Path) -> None:
    waited = subprocess.run([*_COMMAND, "wait", *place, "--timeout", "20"], check=False, capture_output=True)
    if waited.returncode or server.poll() is not None:
        pytest.fail(f"the local hub does not start: {log.read_text()[-2000:]}")


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _any_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout."""
    return Path(__file__).parents[2]


@pytest.fixture
def ansible_environment(local_hub: LocalHub) -> dict[str, str]:
    """Environment for ansible's commands: the hub by variables, Python's own folder first on PATH."""
    folder = str(Path(sys.executable).parent)
    return {**os.environ, **local_hub.environment, "PATH": f"{folder}:{os.environ['PATH']}"}
