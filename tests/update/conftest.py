# SPDX-License-Identifier: GPL-3.0-or-later
"""Maker's side and device's side together: a small real repository, and real file servers to read it from."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fridge_agent.config import App, Config, Paths, Server, Timing
from update.maker import Maker
from update.served import Server as FileServer


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


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> FileServer:
    """The kind of server that the test names (indirect parameter): folder, ftp, ftps, vsftpd or sftp."""
    return FileServer(request.param, tmp_path / "served", request)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class Sftp:
    """An OpenSSH server. It serves the whole file system, so URLs hold absolute paths."""

    port: int
    user: str
    host_key: str
    key: Path

    def url(self, folder: Path) -> str:
        return f"sftp://127.0.0.1:{self.port}{folder}"


def program(name: str, package: str) -> str:
    """A server of the distribution; without it, say what to install."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here (package {package}; see packages.apt)")
    return found


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sftp]:
    """OpenSSH's own server with a key of ours, for this user only."""
    sshd = program("sshd", "openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nMaxStartups 50\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it separates its privileges
    process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    await_port(port, process)
    yield Sftp(port, getpass.getuser(), (folder / "host.pub").read_text().strip(), folder / "user")
    process.kill()
    process.wait()


@pytest.fixture
def vsftpd(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[Callable[[Path], str]]:
    """vsftpd as Debian ships it, TLS with session reuse required: serves a folder to anonymous, who may write."""
    if os.geteuid() != 0:
        pytest.skip("vsftpd takes root to start")
    command = program("vsftpd", "vsftpd")
    running: list[subprocess.Popen[bytes]] = []

    def serve(folder: Path) -> str:
        port = free_port()
        # an anonymous root must not be writable, so what is written to lies one below it
        (folder / "fridge").mkdir(parents=True, exist_ok=True)
        shutil.chown(folder / "fridge", "ftp")
        for way in (folder, *folder.parents):
            way.chmod(way.stat().st_mode | 0o055) if way.stat().st_uid == 0 and way != Path("/") else None
        config = tmp_path / f"vsftpd-{port}.conf"
        on = (
            "listen anonymous_enable anon_upload_enable anon_mkdir_write_enable anon_other_write_enable write_enable "
            "no_anon_password ssl_enable allow_anon_ssl force_anon_logins_ssl force_anon_data_ssl require_ssl_reuse"
        )
        off = "listen_ipv6 background anon_world_readable_only seccomp_sandbox isolate isolate_network"
        settings = dict.fromkeys(on.split(), "YES") | dict.fromkeys(off.split(), "NO") | {
            "listen_address": "127.0.0.1", "listen_port": port, "anon_root": folder, "anon_umask": "022",
            "rsa_cert_file": certificate[0], "rsa_private_key_file": certificate[0], "pasv_address": "127.0.0.1",
            "max_per_ip": 20, "secure_chroot_dir": tmp_path, "ssl_ciphers": "HIGH",
        }  # fmt: skip
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        process = subprocess.Popen([command, config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(process)
        await_port(port, process)
        return f"ftps://localhost:{port}/fridge"

    yield serve
    for process in running:
        process.kill()
        process.wait()
