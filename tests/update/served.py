# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that people run, each over a folder: OpenSSH, vsftpd, pyftpdlib, a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import publishing
from ansible_collections.iotops.fleet.plugins.module_utils.file_server import Login, connect
from fridge_agent.config import Config
from fridge_agent.transport import Transport, for_server
from fridge_agent.trust import TrustedRepository
from update.maker import Maker

if TYPE_CHECKING:
    from conftest import Sftp

Device = Callable[..., Config]


class Server:
    """One kind of server over one folder, as publisher and as device see it."""

    def __init__(self, kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.owner: str | None = None
        self._lines: list[Transport] = []
        certificate: tuple[Path, Path] = request.getfixturevalue("certificate")
        self.device: dict[str, Any] = {"ca_file": certificate[1]}
        username, password, key, host_key = "anonymous", "", None, None
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            self.url = folder.as_uri()
        elif kind == "sftp":
            sftp: Sftp = request.getfixturevalue("sftp")
            self.url, username, key, host_key = sftp.url(folder), sftp.user, str(sftp.key), sftp.host_key
            self.device |= {"username": sftp.user, "key_file": sftp.key, "host_key": sftp.host_key}
        elif kind == "vsftpd":
            self.url = request.getfixturevalue("vsftpd")(folder)
            self.folder = folder / "fridge"
            self.owner = "ftp"
        else:
            self.url = request.getfixturevalue("ftp_server")(folder, tls=kind == "ftps")
            username, password = "publisher", "secret"
        self.login = Login(self.url, username, password, str(certificate[1]), host_key, private_key=key)

    def lay(self, name: str, data: bytes) -> Path:
        """Put a file there as the server itself would."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        for made in (path, *path.parents) if self.owner else ():
            if made.is_relative_to(self.folder):
                shutil.chown(made, self.owner)
        return path

    def publish(self, maker: Maker, **options: Any) -> publishing.Plan:
        with connect(self.login) as line:
            todo = publishing.plan(str(maker.repository), line, **options)
            publishing.upload(str(maker.repository), line, todo, lambda: connect(self.login), 4)
        return todo

    def trust(self, device: Device, state: str = "state") -> TrustedRepository:
        config = device(self.url, **self.device)
        line = for_server(config.server)
        self._lines.append(line)
        return TrustedRepository(line, config.server.root, config.paths.state / state)

    def hang_up(self) -> None:
        """End the lines of all devices so far: vsftpd takes fifty from one address."""
        while self._lines:
            self._lines.pop().close()
