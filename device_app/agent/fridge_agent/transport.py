# SPDX-License-Identifier: Apache-2.0
"""How bytes come from the plain file server: one small seam, a class a protocol (ftp, ftps, https, file).

Nothing here is trusted. Lengths, hashes and signatures are checked by the callers (`trust`, `download`).
"""

from __future__ import annotations

import ftplib
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .config import Server
from .errors import ConfigError, FileMissing, ServerUnreachable

CHUNK = 64 * 1024
TIMEOUT = 30.0


class Transport(ABC):
    """Reads files below the server's base URL. Subclasses write one method; errors are worded here, once."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = urllib.parse.urlsplit(server.url)

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of `path` (relative to the base URL) from `offset` on.

        The first chunk is read at once, so that a missing file is told before the first iteration.

        Raises:
            FileMissing: the server has no such file.
            ServerUnreachable: no connection, refused log-in, a drop, or `TIMEOUT` seconds without a byte.
        """
        chunks = self._worded(path, offset)
        first = next(chunks, b"")
        return _chain(first, chunks)

    def _worded(self, path: str, offset: int) -> Iterator[bytes]:
        try:
            yield from self._read(path, offset)
        except (OSError, EOFError, ftplib.Error) as exc:
            host = self.url.netloc.rpartition("@")[2] or "this machine"
            raise ServerUnreachable(f"file server {host}, {path}: {_reason(exc)}") from exc

    @abstractmethod
    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        """Yield chunks; raise FileMissing for a missing file, OSError or ftplib.Error for the rest."""


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _reason(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    return str(exc) or type(exc).__name__


class FtpTransport(Transport):
    """Plain FTP: the metadata's signatures protect what comes, the line does not."""

    def _connect(self) -> ftplib.FTP:
        return ftplib.FTP(timeout=TIMEOUT)

    def _login(self, client: ftplib.FTP) -> None:
        client.connect(self.url.hostname or "localhost", self.url.port or 21)
        client.login(self.server.username, self.server.password)

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        client = self._connect()
        try:
            self._login(client)
            full = f"{self.url.path.rstrip('/')}/{path}".lstrip("/")
            client.voidcmd("TYPE I")
            try:
                data = client.transfercmd(f"RETR {full}", rest=offset or None)
            except ftplib.error_perm as exc:
                if str(exc).startswith("550"):
                    raise FileMissing(f"the file server has no {path}") from exc
                raise
            with data:
                while chunk := data.recv(CHUNK):
                    yield chunk
            client.voidresp()
        finally:
            client.close()


class _ReusingFtpTls(ftplib.FTP_TLS):
    """Explicit FTPS whose data connections resume the control connection's TLS session.

    vsftpd demands it by default (`522 SSL connection failed: session reuse required`).
    """

    def ntransfercmd(self, cmd: str, rest: Any = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
            connection = self.context.wrap_socket(connection, server_hostname=self.host, session=session)
        return connection, size


class FtpsTransport(FtpTransport):
    """Explicit FTPS, certificate verified against `ca_file` or the system's authorities."""

    def _connect(self) -> ftplib.FTP:
        context = ssl.create_default_context(cafile=self.server.ca_file)
        return _ReusingFtpTls(timeout=TIMEOUT, context=context)

    def _login(self, client: ftplib.FTP) -> None:
        super()._login(client)
        assert isinstance(client, ftplib.FTP_TLS)
        client.prot_p()


class HttpTransport(Transport):
    """http and https, with a Range request to resume; a server that ignores it is read from the start."""

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        request = urllib.request.Request(f"{self.server.url}/{urllib.parse.quote(path)}")
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        context = ssl.create_default_context(cafile=self.server.ca_file) if self.url.scheme == "https" else None
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
                skip = 0 if answer.status == 206 else offset
                while chunk := answer.read(CHUNK):
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    yield chunk[skip:]
                    skip = 0
        except urllib.error.HTTPError as exc:
            with suppress(OSError):
                exc.close()
            if exc.code in (403, 404, 410):
                raise FileMissing(f"the file server has no {path}") from exc
            raise


class FolderTransport(Transport):
    """A local folder: a USB stick, a mounted share, a test."""

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        try:
            with Path(urllib.parse.unquote(self.url.path), path).open("rb") as source:
                source.seek(offset)
                while chunk := source.read(CHUNK):
                    yield chunk
        except FileNotFoundError as exc:
            raise FileMissing(f"the file server has no {path}") from exc


_BY_SCHEME: dict[str, type[Transport]] = {
    "ftp": FtpTransport,
    "ftps": FtpsTransport,
    "http": HttpTransport,
    "https": HttpTransport,
    "file": FolderTransport,
}


def for_server(server: Server) -> Transport:
    """The transport for the URL that this device was provisioned with.

    Raises:
        ConfigError: the URL's scheme is none of ftp, ftps, http, https, file.
    """
    scheme = urllib.parse.urlsplit(server.url).scheme
    if scheme not in _BY_SCHEME:
        raise ConfigError(f"updates.url: '{scheme}' is not one of {', '.join(_BY_SCHEME)}")
    return _BY_SCHEME[scheme](server)
