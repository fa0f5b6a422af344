# SPDX-License-Identifier: Apache-2.0
"""How bytes come from the plain file server: one small seam, a class a protocol (ftp, ftps, sftp, http, https, file).

Nothing here is trusted. Lengths, hashes and signatures are checked by the callers (`trust`, `download`). What is
bounded here is time: no read outlasts a silent, a slow or a cancelled line, and none takes more than its bandwidth.
"""

from __future__ import annotations

import base64
import ftplib
import socket
import ssl
import threading
import time
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Server
from .errors import Cancelled, ConfigError, FileMissing, ServerUnreachable

if TYPE_CHECKING:
    import paramiko
    import urllib3

CHUNK = 64 * 1024
WINDOW = 32 * CHUNK
"""Bytes asked of an sftp server before the first of them has come."""
TIMEOUT = 30.0
PACE_SPAN = 60.0
PACE_LEAST = 6_000
"""A line that brings fewer bytes than this in `PACE_SPAN` seconds is given up: it may be held open on purpose."""
_GOODBYE = 5.0
# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h): the rest of the certificate is verified as ever
_NO_CHECK_TIME = 0x200000


class Transport(ABC):
    """Reads files below the server's base URL. Subclasses write one method; errors are worded here, once.

    One line is kept open between reads, for one thread. `cancelled` ends a read under way.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = urllib.parse.urlsplit(server.url)
        self.cancelled = threading.Event()
        self.clock_doubtful = False
        self.requests = 0
        self.received = 0

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of `path` (relative to the base URL) from `offset` on.

        The first chunk is read at once, so that a missing file is told before the first iteration.

        Raises:
            FileMissing: the server has no such file.
            ServerUnreachable: no connection, refused log-in, a drop, `TIMEOUT` seconds without a byte, or fewer than
                `PACE_LEAST` bytes in `PACE_SPAN` seconds.
            Cancelled: `cancelled` was set.
        """
        self.requests += 1
        chunks = self._worded(path, offset)
        first = next(chunks, b"")
        return _chain(first, chunks)

    def close(self) -> None:
        """Hang up; the next read dials again."""
        return

    def _worded(self, path: str, offset: int) -> Iterator[bytes]:
        whole = False
        try:
            yield from self._paced(self._read(path, offset))
            whole = True
        except self._failures() as exc:
            host = self.url.netloc.rpartition("@")[2] or "this machine"
            raise ServerUnreachable(f"file server {host}, {path}: {_reason(exc)}") from exc
        except FileMissing:
            whole = True
            raise
        finally:
            # a line that was left in the middle of a file is of no use to the next one
            if not whole:
                self.close()

    def _failures(self) -> tuple[type[Exception], ...]:
        return OSError, EOFError, ftplib.Error

    def _paced(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Give up a line that is too slow, and hold back one that is faster than this device may be."""
        began = window = time.monotonic()
        total = in_window = 0
        for chunk in chunks:
            if self.cancelled.is_set():
                raise Cancelled("something newer is wanted")
            total += len(chunk)
            in_window += len(chunk)
            self.received += len(chunk)
            now = time.monotonic()
            if now - window >= PACE_SPAN:
                if in_window < PACE_LEAST:
                    raise TimeoutError(f"{in_window} bytes came in {now - window:.0f} s, that is too slow")
                window, in_window = now, 0
            yield chunk
            if self.server.bandwidth and self.cancelled.wait(
                max(0.0, began + total / self.server.bandwidth - time.monotonic())
            ):
                raise Cancelled("something newer is wanted")

    @abstractmethod
    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        """Yield chunks; raise FileMissing for a missing file, one of `_failures` for the rest."""

    def _context(self) -> ssl.SSLContext:
        """TLS as verified as it can be: without a clock that can be believed, a certificate's dates say nothing."""
        context = ssl.create_default_context(cafile=self.server.ca_file)
        if self.clock_doubtful:
            context.verify_flags |= _NO_CHECK_TIME
        return context

    def _dial(self, host: str, port: int) -> socket.socket:
        """A connection, through the proxy where there is one (HTTP CONNECT, RFC 9110 section 9.3.6)."""
        if not self.server.proxy:
            return socket.create_connection((host, port), TIMEOUT)
        proxy = urllib.parse.urlsplit(self.server.proxy)
        line = socket.create_connection((proxy.hostname or "localhost", proxy.port or 3128), TIMEOUT)
        try:
            name = f"[{host}]" if ":" in host else host
            login = ""
            if proxy.username:
                secret = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
                login = f"Proxy-Authorization: Basic {base64.b64encode(secret.encode()).decode()}\r\n"
            line.sendall(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n{login}\r\n".encode())
            _expect_tunnel(line, f"{proxy.hostname}:{proxy.port or 3128}")
        except BaseException:
            line.close()
            raise
        return line


def _expect_tunnel(line: socket.socket, proxy: str) -> None:
    answer = b""
    # byte by byte: what follows the answer's blank line belongs to the server behind the proxy
    while not answer.endswith(b"\r\n\r\n"):
        byte = line.recv(1)
        if not byte or len(answer) > 8192:
            raise ConnectionError(f"proxy {proxy} hung up")
        answer += byte
    status = answer.split(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise ConnectionError(f"proxy {proxy} answered {status[:100]}")


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _reason(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    return str(exc) or type(exc).__name__


class _Ftp(ftplib.FTP):
    """ftplib over a dialler of ours, for control and passive data connections."""

    dial: Callable[[str, int], socket.socket]

    def connect(self, host: str = "", port: int = 0, *_: Any, **__: Any) -> str:
        self.host, self.port = host, port
        self.sock = self.dial(host, port)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

    def ntransfercmd(self, cmd: str, rest: Any = None) -> tuple[socket.socket, int | None]:
        line = self.dial(*self.makepasv())
        try:
            if rest is not None:
                self.sendcmd(f"REST {rest}")
            answer = self.sendcmd(cmd)
            if answer[0] == "2":  # some servers confirm the last transfer first
                answer = self.getresp()
            if answer[0] != "1":
                raise ftplib.error_reply(answer)
            return self._protected(line), None
        except BaseException:
            line.close()
            raise

    def _protected(self, line: socket.socket) -> socket.socket:
        return line


class _FtpTls(_Ftp, ftplib.FTP_TLS):
    """Explicit FTPS whose data connections resume the control connection's TLS session.

    vsftpd demands it by default (`522 SSL connection failed: session reuse required`).
    """

    def _protected(self, line: socket.socket) -> socket.socket:
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(line, server_hostname=self.host, session=session)


class FtpTransport(Transport):
    """Plain FTP: the metadata's signatures protect what comes, the line does not."""

    _client: _Ftp | None = None

    def _connect(self) -> _Ftp:
        client = _Ftp(timeout=TIMEOUT)
        self._open(client)
        return client

    def _open(self, client: _Ftp) -> None:
        client.dial = self._dial
        try:
            client.connect(self.url.hostname or "localhost", self.url.port or 21)
            client.login(self.server.username, self.server.password)
        except BaseException:
            client.close()
            raise

    def close(self) -> None:
        if self._client:
            self._client.close()
            self._client = None

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        fresh = self._client is None
        try:
            data = self._begin(path, offset)
        except (OSError, EOFError, ftplib.error_temp):
            # a line that was idle may have been closed by the server meanwhile
            self.close()
            if fresh:
                raise
            data = self._begin(path, offset)
        with data:
            while chunk := data.recv(CHUNK):
                yield chunk
        self._end()

    def _begin(self, path: str, offset: int) -> socket.socket:
        if self._client is None:
            self._client = self._connect()
            self._client.voidcmd("TYPE I")
        full = f"{self.url.path.rstrip('/')}/{path}".lstrip("/")
        try:
            return self._client.transfercmd(f"RETR {full}", rest=offset or None)
        except ftplib.error_perm as exc:
            if str(exc).startswith("550"):
                raise FileMissing(f"the file server has no {path}") from exc
            raise

    def _end(self) -> None:
        """Take the server's "complete"; one that does not come says nothing about the bytes, which are hashed."""
        assert self._client is not None
        assert self._client.sock is not None
        self._client.sock.settimeout(_GOODBYE)
        try:
            self._client.voidresp()
            self._client.sock.settimeout(TIMEOUT)
        except (OSError, EOFError, ftplib.Error):
            self.close()


class FtpsTransport(FtpTransport):
    """Explicit FTPS, certificate verified against `ca_file` or the system's authorities."""

    def _connect(self) -> _Ftp:
        client = _FtpTls(timeout=TIMEOUT, context=self._context())
        self._open(client)
        client.prot_p()
        return client


class SftpTransport(Transport):
    """SFTP by paramiko; the server's host key is pinned (`host_key`, an OpenSSH public key line)."""

    _client: paramiko.SFTPClient | None = None
    _ssh: paramiko.Transport | None = None

    def _failures(self) -> tuple[type[Exception], ...]:
        import paramiko

        return (*super()._failures(), paramiko.SSHException)

    def _connect(self) -> paramiko.SFTPClient:
        import paramiko

        kind, _, rest = self.server.host_key.partition(" ")
        try:
            expected = paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split(" ")[0]))
        except (ValueError, paramiko.SSHException) as exc:
            raise ConfigError(f"updates.host_key: not a public key line: {exc}") from exc
        host, port = self.url.hostname or "localhost", self.url.port or 22
        ssh = self._ssh = paramiko.Transport(self._dial(host, port))
        ssh.start_client(timeout=TIMEOUT)
        if ssh.get_remote_server_key() != expected:
            raise ConnectionError("it shows another host key than the pinned one")
        if self.server.key_file:
            key = paramiko.PKey.from_path(self.server.key_file, self.server.password or None)
            ssh.auth_publickey(self.server.username, key)
        else:
            ssh.auth_password(self.server.username, self.server.password)
        client = paramiko.SFTPClient.from_transport(ssh)
        if client is None:
            raise ConnectionError("it offers no sftp")
        channel = client.get_channel()
        assert channel is not None
        channel.settimeout(TIMEOUT)
        return client

    def close(self) -> None:
        if self._ssh:
            self._ssh.close()
        self._client = self._ssh = None

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        if self._client is None or self._ssh is None or not self._ssh.is_active():
            self._client = self._connect()
        base = urllib.parse.unquote(self.url.path).rstrip("/")
        try:
            source = self._client.open(f"{base}/{path}" if base else path, "rb")
        except FileNotFoundError as exc:
            raise FileMissing(f"the file server has no {path}") from exc
        with source:
            size = source.stat().st_size or 0
            # many requests at once, since each costs a round trip; in windows, so that a fast server does not fill the
            # memory. paramiko sends them from a thread of its own, which must not die loudly when we hang up meanwhile
            source._prefetch_thread = _until_hung_up(source._prefetch_thread)  # type: ignore[attr-defined]
            while offset < size:
                end = min(size, offset + WINDOW)
                window = [(at, min(CHUNK, end - at)) for at in range(offset, end, CHUNK)]
                for (_, length), chunk in zip(window, source.readv(window), strict=True):
                    if len(chunk) != length:
                        raise EOFError("the file became shorter while it was read")
                    yield chunk
                offset = end


def _until_hung_up(send: Callable[..., None]) -> Callable[..., None]:
    def run(*requests: Any) -> None:
        # who reads is told by the line itself
        with suppress(OSError, EOFError):
            send(*requests)

    return run


class HttpTransport(Transport):
    """http and https, with a Range request to resume; a server that ignores it is read from the start."""

    _pool: urllib3.PoolManager | None = None

    def _failures(self) -> tuple[type[Exception], ...]:
        import urllib3

        return (*super()._failures(), urllib3.exceptions.HTTPError)

    def _connect(self) -> urllib3.PoolManager:
        import urllib3

        options: dict[str, Any] = {"timeout": urllib3.Timeout(connect=TIMEOUT, read=TIMEOUT), "retries": False}
        if self.url.scheme == "https":
            options["ssl_context"] = self._context()
        if self.server.proxy:
            return urllib3.ProxyManager(self.server.proxy, **options)
        return urllib3.PoolManager(**options)

    def close(self) -> None:
        if self._pool:
            self._pool.clear()
            self._pool = None

    def _read(self, path: str, offset: int) -> Iterator[bytes]:
        if self._pool is None:
            self._pool = self._connect()
        # names come quoted from the TUF client, and plain from manifests
        url = f"{self.server.url}/{urllib.parse.quote(path, safe='/%')}"
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        answer = self._pool.request("GET", url, headers=headers, preload_content=False)
        try:
            if answer.status in (403, 404, 410):
                raise FileMissing(f"the file server has no {path}")
            if answer.status == 416:  # everything is here already
                return
            if answer.status not in (200, 206):
                raise ConnectionError(f"it answered {answer.status} {answer.reason or ''}".rstrip())
            skip = 0 if answer.status == 206 else offset
            for chunk in answer.stream(CHUNK, decode_content=False):
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:]
                skip = 0
        finally:
            with suppress(OSError):
                answer.drain_conn() if answer.status >= 400 else answer.release_conn()


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
    "sftp": SftpTransport,
    "http": HttpTransport,
    "https": HttpTransport,
    "file": FolderTransport,
}


def for_server(server: Server) -> Transport:
    """The transport for the URL that this device was provisioned with.

    Raises:
        ConfigError: the URL's scheme is none of ftp, ftps, sftp, http, https, file.
    """
    scheme = urllib.parse.urlsplit(server.url).scheme
    if scheme not in _BY_SCHEME:
        raise ConfigError(f"updates.url: '{scheme}' is not one of {', '.join(_BY_SCHEME)}")
    if scheme == "sftp" and not server.host_key:
        raise ConfigError("updates.host_key: sftp needs the server's public key line, an unknown server is not trusted")
    return _BY_SCHEME[scheme](server)
