# SPDX-License-Identifier: GPL-3.0-or-later
"""Maker's side and device's side together: a small real repository, and real file servers to read it from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fridge_agent.config import App, Config, Paths, Server, Timing
from update.maker import Maker


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "maker")


@pytest.fixture
def device(tmp_path: Path, maker: Maker) -> Callable[..., Config]:
    """Makes a device's configuration that trusts the maker's first root."""

    def make(url: str = "", ring: str = "beta", **server: Any) -> Config:
        if not (maker.repository / "metadata/1.root.json").exists():
            maker.open().write()
        root = tmp_path / "root.json"
        root.write_bytes((maker.repository / "metadata/1.root.json").read_bytes())
        base = tmp_path / "device"
        return Config(
            device_id="fridge-1", ring=ring, platform="linux-x86_64", hardware="fridge-panel",
            paths=Paths(base / "opt", base / "state", base / "run", base / "app"),
            server=Server(url or maker.repository.as_uri(), root=root, **server),
            hub=None, app=App(sys.executable), timing=Timing(), consent=True,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost: (PEM with key, PEM of the authority)."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both, cert


@pytest.fixture
def ftp_server(certificate: tuple[Path, Path]) -> Iterator[Callable[..., str]]:
    """Serves a folder by pyftpdlib; `serve(folder, tls=True)` returns its URL. publisher/secret may write."""
    running: list[subprocess.Popen[str]] = []

    def serve(folder: Path, *, tls: bool = True) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(Path(__file__).with_name("ftp_process.py")), str(folder)]
        process = subprocess.Popen(
            command + ([str(certificate[0])] if tls else []),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        return f"{'ftps' if tls else 'ftp'}://localhost:{process.stdout.readline().strip()}"

    yield serve
    for process in running:
        process.kill()
        process.wait()
