# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules in this process, as Ansible runs them, against a hub in memory."""

from __future__ import annotations

import importlib
import io
import json
import sys
import typing as t
from pathlib import Path

import pytest
import requests
from ansible.module_utils.testing import patch_module_args

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode adds no test folder
from hub_simulator import CONNECTION_STRING, KEY, HubSimulator
from provisioning_simulator import ProvisioningSimulator

PACKAGE = "ansible_collections.iotops.fleet.plugins"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


class Runner(t.Protocol):
    """Runs a module: ``run("iothub_device", check=True, devices=[...])`` returns its result."""

    def __call__(self, module: str, /, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the time that modules wait by."""
    clock = Clock()
    patience = importlib.import_module(f"{PACKAGE}.module_utils.iothub_patience").Patience
    monkeypatch.setattr(
        f"{PACKAGE}.module_utils.iothub_session.Patience",
        lambda seconds: patience(seconds, now=clock.now, sleep=clock.sleep),
    )
    return clock


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> HubSimulator:
    """Put a simulated hub where the network is."""
    simulator = HubSimulator()
    _answer(monkeypatch, simulator)
    courier = f"{PACKAGE}.module_utils.iothub_courier"
    monkeypatch.setattr(f"{courier}.Courier._client", lambda _courier: simulator.link())
    monkeypatch.setattr(f"{courier}.diagnose", lambda *_where: None)
    return simulator


@pytest.fixture
def provisioning(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> ProvisioningSimulator:
    """Put a simulated provisioning service where the network is."""
    simulator = ProvisioningSimulator()
    _answer(monkeypatch, simulator)
    return simulator


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a module's main with arguments and return the JSON it prints, which must hold no secret."""
    for name in ("IOTHUB_CONNECTION_STRING", "IOTHUB_CA_FILE", "IOTHUB_POLICY_KEY", "IOTDPS_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)

    def runner(module: str, /, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments = {"connection_string": CONNECTION_STRING, **options}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        main = importlib.import_module(f"{PACKAGE}.modules.{module}").main
        capsys.readouterr()
        arguments = {"_ansible_check_mode": check, "_ansible_diff": True, **arguments}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        out, err = capsys.readouterr()
        assert KEY not in out + err, "the service key is in the output"
        assert "sig=" not in out + err, "a signature is in the output"
        assert "Traceback" not in out + err
        assert err == ""
        return t.cast("dict[str, t.Any]", json.loads(out))

    return runner


def _answer(monkeypatch: pytest.MonkeyPatch, simulator: HubSimulator | ProvisioningSimulator) -> None:
    """Let a simulator answer all HTTP requests."""

    def send(_adapter: t.Any, request: requests.PreparedRequest, **_options: t.Any) -> requests.Response:
        body: t.Any = request.body or b""
        sent = requests.structures.CaseInsensitiveDict({name: str(value) for name, value in request.headers.items()})
        status, headers, document = simulator.handle(
            request.method or "", request.url or "", sent, body.encode() if isinstance(body, str) else body
        )
        return _response(request, status, headers, document)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)


def _response(
    request: requests.PreparedRequest, status: int, headers: dict[str, str], document: t.Any
) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    response.request = request
    response.url = request.url or ""
    text = "" if document is None else document if isinstance(document, str) else json.dumps(document)
    response.raw = io.BytesIO(text.encode())
    response._content = text.encode()
    response.encoding = "utf-8"
    return response
