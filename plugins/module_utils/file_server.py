# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain file server as a publisher sees it: list, read, and replace a file without a torn moment.

One class a protocol behind :class:`FileServer`: ftp, ftps (explicit TLS), sftp (paramiko), file (a local folder).
"""

from __future__ import annotations

import base64
import contextlib
import ftplib
import hashlib
import os
import socket
import ssl
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

TEMPORARY = "_upload-"
"""Begins the name of what is not whole yet. No dot: some servers (vsftpd) do not list names with one."""


class FileServerError(Exception):
    """The server refused or broke off; the text names host, file and reason."""


@dataclass(frozen=True)
class Login:
    """How to reach a server. `host_key` is the OpenSSH public key line (``ssh-ed25519 AAAA...``) for sftp.

    `private_key`: file of an OpenSSH key to log in with over sftp, which `password` then opens.
    """

    url: str
    username: str = "anonymous"
    password: str = ""
    ca_file: str | None = None
    host_key: str | None = None
    timeout: float = 30.0
    private_key: str | None = None


@dataclass(frozen=True)
class Entry:
    """A file on the server: bytes, and when it was written (UTC seconds) where the server tells."""

    size: int
    modified: float | None = None


class FileServer(ABC):
    """Files below the URL's path. Names are relative, with ``/``."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.url = urlsplit(login.url)
        self.base = unquote(self.url.path).rstrip("/")

    @abstractmethod
    def entries(self) -> dict[str, Entry]:
        """Every file below the base; {} where the base is not there yet."""

    @abstractmethod
    def fetch(self, name: str, sink: Callable[[bytes], Any]) -> bool:
        """Give the bytes of `name` to `sink`, in pieces; False where there is no such file."""

    @abstractmethod
    def put(self, name: str, source: BinaryIO, size: int, begun: int = 0) -> None:
        """Upload under a temporary name, check what arrived, then rename over `name`.

        `begun`: bytes that a killed upload left under the temporary name; they are kept where the protocol can, and
        then the whole is read back, since nobody knows what they are.
        """

    def read(self, name: str) -> bytes:
        """A whole small file; b'' where there is none."""
        parts: list[bytes] = []
        self.fetch(name, parts.append)
        return b"".join(parts)

    def digest(self, name: str) -> str:
        """SHA-256 of a file's bytes as the server gives them, in hex."""
        found = hashlib.sha256()
        self.fetch(name, found.update)
        return found.hexdigest()

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file; none there is fine."""

    @abstractmethod
    def close(self) -> None:
        """Hang up."""


def temporary(name: str) -> str:
    folder, _slash, base = name.rpartition("/")
    return f"{folder}/{TEMPORARY}{base}".lstrip("/")


def _check_resumed(server: FileServer, name: str, new: str, source: BinaryIO) -> None:
    """Believe a continued upload only after reading all of it back."""
    source.seek(0)
    if server.digest(new) != _sha256(source):
        server.remove(new)
        raise FileServerError(f"{name}: what a killed upload left there was not its beginning; removed, publish again")


def _sha256(source: BinaryIO) -> str:
    found = hashlib.sha256()
    while chunk := source.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()


def _check(name: str, arrived: int | None, size: int) -> None:
    if arrived is not None and arrived != size:
        raise FileServerError(f"{name}: {arrived} of {size} bytes arrived")


class FtpServer(FileServer):
    """FTP with MLSD (RFC 3659) or, where a server lacks it, NLST and SIZE."""

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self._client = self._connect()
        self._client.connect(self.url.hostname or "localhost", self.url.port or 21)
        self._client.login(login.username, login.password)
        self._secure()
        self._client.voidcmd("TYPE I")
        self._folders: set[str] = set()

    def _connect(self) -> ftplib.FTP:
        return ftplib.FTP(timeout=self.login.timeout)

    def _secure(self) -> None:
        """Nothing to secure on plain FTP: the metadata's signatures protect what is published."""

    def entries(self) -> dict[str, Entry]:
        return dict(self._walk(""))

    def _walk(self, folder: str) -> Iterator[tuple[str, Entry]]:
        for name, facts in self._listed(folder):
            path = f"{folder}/{name}".lstrip("/")
            if facts.get("type") == "dir":
                yield from self._walk(path)
            elif facts.get("type") == "file":
                yield path, Entry(int(facts.get("size", -1)), _ftp_time(facts.get("modify")))

    def _listed(self, folder: str) -> list[tuple[str, dict[str, str]]]:
        try:
            return list(self._client.mlsd(self._path(folder) or "/"))
        except ftplib.error_perm as exc:
            if str(exc)[:3] in ("550", "501"):
                return []
            if str(exc)[:3] in ("500", "502"):
                return list(self._listed_by_name(folder))
            raise

    def _listed_by_name(self, folder: str) -> Iterator[tuple[str, dict[str, str]]]:
        """For servers without MLSD (vsftpd): names, then SIZE and MDTM; what has no size is a folder."""
        try:
            names = self._client.nlst(self._path(folder) or "/")
        except ftplib.error_perm as exc:
            if str(exc).startswith("550"):
                return
            raise
        for full in names:
            name = full.rpartition("/")[2]
            path = self._path(f"{folder}/{name}".lstrip("/"))
            try:
                size = self._client.size(path)
            except ftplib.error_perm:
                yield name, {"type": "dir"}
                continue
            yield name, {"type": "file", "size": str(size), "modify": self._client.sendcmd(f"MDTM {path}")[4:]}

    def fetch(self, name: str, sink: Callable[[bytes], Any]) -> bool:
        try:
            self._client.retrbinary(f"RETR {self._path(name)}", sink, blocksize=1 << 18)
        except ftplib.error_perm as exc:
            if str(exc).startswith("550"):
                return False
            raise
        return True

    def put(self, name: str, source: BinaryIO, size: int, begun: int = 0) -> None:
        self._make_folders(name)
        new = temporary(name)
        source.seek(begun)
        self._client.storbinary(f"STOR {self._path(new)}", source, blocksize=1 << 18, rest=begun or None)
        _check(name, self._client.size(self._path(new)), size)
        if begun:
            _check_resumed(self, name, new, source)
        self._client.rename(self._path(new), self._path(name))

    def remove(self, name: str) -> None:
        with contextlib.suppress(ftplib.error_perm):
            self._client.delete(self._path(name))

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError, ftplib.Error):
            self._client.quit()

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}".strip("/")

    def _make_folders(self, name: str) -> None:
        parts = self._path(name).split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self._folders:
                with contextlib.suppress(ftplib.error_perm):  # it is there already
                    self._client.mkd(folder)
                self._folders.add(folder)


def _ftp_time(text: str | None) -> float | None:
    """``20261123180000.123`` (RFC 3659, UTC) as seconds."""
    try:
        return datetime.strptime((text or "").strip()[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class _ReusingFtpTls(ftplib.FTP_TLS):
    """Explicit FTPS whose data connections resume the control connection's session, as vsftpd demands."""

    def ntransfercmd(self, cmd: str, rest: Any = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(connection, server_hostname=self.host, session=session), size


class FtpsServer(FtpServer):
    """Explicit FTPS; the certificate is verified against `ca_file` or the system's authorities."""

    def _connect(self) -> ftplib.FTP:
        try:
            context = ssl.create_default_context(cafile=self.login.ca_file)
        except OSError as exc:  # which does not say of which file
            raise FileServerError(f"ca_file: {self.login.ca_file}: {exc.strerror or exc}") from exc
        return _ReusingFtpTls(timeout=self.login.timeout, context=context)

    def _secure(self) -> None:
        if isinstance(self._client, ftplib.FTP_TLS):
            self._client.prot_p()


class SftpServer(FileServer):
    """SFTP through paramiko, to a server whose host key is pinned."""

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        import paramiko
        from paramiko.pkey import UnknownKeyType

        if not login.host_key:
            raise FileServerError("sftp needs host_key, the server's public key line: an unknown server is not trusted")
        no_key = (ValueError, TypeError, paramiko.SSHException, UnknownKeyType)
        kind, _space, rest = login.host_key.partition(" ")
        try:
            expected = paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split(" ")[0]))
        except no_key as exc:
            raise FileServerError("host_key: no public key line (ssh-ed25519 AAAA...)") from exc
        key = None
        try:
            if login.private_key:
                key = paramiko.PKey.from_path(login.private_key, login.password or None)
        except no_key as exc:
            raise FileServerError(f"private_key: {login.private_key} is no key that the password opens") from exc
        host, port = self.url.hostname or "localhost", self.url.port or 22
        self._ssh = paramiko.Transport(socket.create_connection((host, port), timeout=login.timeout))
        self._ssh.start_client(timeout=login.timeout)
        if self._ssh.get_remote_server_key() != expected:
            self._ssh.close()
            raise FileServerError(f"{host}:{port} shows another host key than the pinned one: not sent anything")
        if key:
            self._ssh.auth_publickey(login.username, key)
        else:
            self._ssh.auth_password(login.username, login.password)
        client = paramiko.SFTPClient.from_transport(self._ssh)
        if client is None:
            raise FileServerError(f"{host}:{port} offers no sftp")
        self._client = client
        self._folders: set[str] = set()

    def entries(self) -> dict[str, Entry]:
        return dict(self._walk(""))

    def _walk(self, folder: str) -> Iterator[tuple[str, Entry]]:
        try:
            entries = self._client.listdir_attr(self._path(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            path = f"{folder}/{entry.filename}".lstrip("/")
            if stat.S_ISDIR(entry.st_mode or 0):
                yield from self._walk(path)
            else:
                yield path, Entry(entry.st_size or 0, entry.st_mtime)

    def fetch(self, name: str, sink: Callable[[bytes], Any]) -> bool:
        try:
            with self._client.open(self._path(name), "rb") as source:
                at, size = 0, source.stat().st_size or 0
                # many requests at once, since each costs a round trip. paramiko sends them from a thread of its own,
                # which must not die loudly when the line breaks meanwhile
                source._prefetch_thread = _until_hung_up(source._prefetch_thread)  # type: ignore[attr-defined]
                while at < size:
                    end = min(size, at + (1 << 21))
                    window = [(start, min(1 << 16, end - start)) for start in range(at, end, 1 << 16)]
                    for (_start, length), chunk in zip(window, source.readv(window), strict=True):
                        if len(chunk) != length:
                            raise FileServerError(f"{name} became shorter while it was read")
                        sink(chunk)
                    at = end
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, source: BinaryIO, size: int, begun: int = 0) -> None:
        self._make_folders(name)
        new = temporary(name)
        source.seek(begun)
        with self._client.open(self._path(new), "r+b" if begun else "wb") as out:
            out.set_pipelined(True)
            out.seek(begun)
            while chunk := source.read(1 << 15):
                out.write(chunk)
        _check(name, self._client.stat(self._path(new)).st_size, size)
        if begun:
            _check_resumed(self, name, new, source)
        self._client.posix_rename(self._path(new), self._path(name))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._client.remove(self._path(name))

    def close(self) -> None:
        self._ssh.close()

    def _path(self, name: str) -> str:
        # an absolute path, as in any URL; without one, below the folder that the log-in leads to
        return f"{self.base}/{name}".rstrip("/") if self.base else name or "."

    def _make_folders(self, name: str) -> None:
        parts = self._path(name).split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder and folder not in self._folders:
                with contextlib.suppress(OSError):  # it is there already
                    self._client.mkdir(folder)
                self._folders.add(folder)


def _until_hung_up(send: Callable[..., None]) -> Callable[..., None]:
    def run(*requests: Any) -> None:
        # who reads is told by the line itself
        with contextlib.suppress(OSError, EOFError):
            send(*requests)

    return run


class LocalFolder(FileServer):
    """A folder: a mounted share, or the root of a web server on this machine."""

    def entries(self) -> dict[str, Entry]:
        found = {}
        for folder, _folders, files in os.walk(self.base):
            for file in files:
                path = os.path.join(folder, file)
                found[os.path.relpath(path, self.base)] = Entry(os.path.getsize(path), os.path.getmtime(path))
        return found

    def fetch(self, name: str, sink: Callable[[bytes], Any]) -> bool:
        try:
            with open(os.path.join(self.base, name), "rb") as source:
                while chunk := source.read(1 << 20):
                    sink(chunk)
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, source: BinaryIO, size: int, begun: int = 0) -> None:
        final = os.path.join(self.base, name)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(final), prefix=TEMPORARY, delete=False) as out:
            while chunk := source.read(1 << 20):
                out.write(chunk)
            _check(name, out.tell(), size)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(out.name, 0o644)
        os.replace(out.name, final)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.base, name))

    def close(self) -> None:
        """A folder keeps no line open."""


_BY_SCHEME: dict[str, type[FileServer]] = {
    "ftp": FtpServer,
    "ftps": FtpsServer,
    "sftp": SftpServer,
    "file": LocalFolder,
}


@contextlib.contextmanager
def connect(login: Login) -> Iterator[FileServer]:
    """The server behind `login`, for the length of a `with`.

    Raises:
        FileServerError: unknown scheme, no connection, refused log-in, or a failure inside the `with`.
    """
    parts = urlsplit(login.url)
    if parts.scheme not in _BY_SCHEME:
        raise FileServerError(f"url: '{parts.scheme}' is not one of {', '.join(_BY_SCHEME)}")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError as exc:
        raise FileServerError(f"url: {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: {exc}") from exc
    where = f"file server {parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    server = None
    try:
        server = _BY_SCHEME[parts.scheme](login)
        yield server
    except FileServerError as exc:
        raise type(exc)(f"{where}: {exc}") from exc
    except ssl.SSLCertVerificationError as exc:
        raise FileServerError(f"{where}: its certificate is not trusted ({exc.verify_message}); check ca_file") from exc
    except ftplib.error_perm as exc:
        hint = "; check username and password" if str(exc).startswith("530") else ""
        raise FileServerError(f"{where}: it answered {exc}{hint}") from exc
    except (OSError, EOFError, ftplib.Error) as exc:
        if isinstance(exc, OSError) and isinstance(exc.filename, str):
            raise FileServerError(f"{exc.filename}: {exc.strerror}") from exc  # a file of this machine
        raise FileServerError(f"{where}: {exc or type(exc).__name__}; is it running and reachable?") from exc
    except Exception as exc:
        if type(exc).__module__.startswith("paramiko"):
            raise FileServerError(f"{where}: {exc or type(exc).__name__}; check username and password") from exc
        raise
    finally:
        if server is not None:
            server.close()
