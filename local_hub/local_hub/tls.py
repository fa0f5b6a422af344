# SPDX-License-Identifier: Apache-2.0
"""TLS for all listeners: a client certificate is asked for, any is taken, and who holds its key is told.

IoT Hub knows self-signed certificates by their thumbprints, so that no authority can vouch for them in the handshake.
Python's `ssl` has no way to accept one (it offers no verify callback); pyOpenSSL has. The hub judges the certificate
when the device says who it is (core/client_certificate.py).

asyncio carries TLS only for `ssl`. So here is a transport over pyOpenSSL, with OpenSSL reading and writing the socket
itself: what a hub of thousands of idle devices holds for each of them is this object, its socket and OpenSSL's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

_log = logging.getLogger(__name__)
_RECORD = 16384
_HANDSHAKE_TIMEOUT = 15.0
_CLOSING_TIMEOUT = 2.0
_HIGH_WATER = 64 * 1024
_ACCEPT_AT_ONCE = 100
_ACCEPT_PAUSE = 1.0
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

ProtocolFactory = Callable[[], asyncio.Protocol]


class TlsContext:
    """The hub's certificate, and how connections are made with it: 1.2 at least, as IoT Hub."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        # OpenSSL would keep 34 KB of buffers for each connection, idle or not.
        self._context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.use_certificate_chain_file(str(certificate))
        self._context.use_privatekey_file(str(key))
        self._context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        # A resumed session has no chain of the client's, so there are none; nor may a client ask for new keys at will.
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)

    def accept(self, connection: socket.socket) -> SSL.Connection:
        """The server's side of one connection, before its handshake."""
        accepted = SSL.Connection(self._context, connection)
        accepted.set_accept_state()
        return accepted


class TlsListener:
    """A listening socket; each connection gets a protocol when its handshake is done."""

    def __init__(self, factory: ProtocolFactory, context: TlsContext) -> None:
        self._factory = factory
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._transports: set[TlsTransport] = set()

    def start(self, host: str, port: int, backlog: int = 1024) -> None:
        """Begin to listen.

        Raises:
            OSError: the port cannot be had.
        """
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Stop listening. Connections that have a protocol are the protocol's to close; the others are cut."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for transport in list(self._transports):
            transport.cut_unless_open()

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_MORE_FILES:
                    raise
                # those that wait stay in the queue of the system until some of the others have gone
                _log.warning("tls: cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_ACCEPT_PAUSE, self._go_on)
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # it may have gone already
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            TlsTransport(self._loop, connection, self._context, self._factory, self._transports)

    def _go_on(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)


class TlsTransport(asyncio.Transport):
    """One connection. Its protocol is made, and told, after the handshake."""

    __slots__ = (
        "_closing",
        "_factory",
        "_high",
        "_loop",
        "_output",
        "_paused",
        "_peer",
        "_protocol",
        "_reading",
        "_socket",
        "_timer",
        "_tls",
        "_transports",
        "_writing",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        context: TlsContext,
        factory: ProtocolFactory,
        transports: set[TlsTransport],
    ) -> None:
        super().__init__()
        self._loop = loop
        self._socket: socket.socket | None = connection
        self._tls = context.accept(connection)
        self._factory = factory
        self._transports = transports
        self._protocol: asyncio.Protocol | None = None
        self._output = bytearray()
        self._high = _HIGH_WATER
        self._reading = self._writing = self._paused = self._closing = False
        self._timer: asyncio.TimerHandle | None = loop.call_later(_HANDSHAKE_TIMEOUT, self._release)
        transports.add(self)
        self._watch()

    # asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`socket`, `peername`, `sockname`, `sslcontext` as asyncio names them; `tls` is this transport."""
        if name in ("tls", "sslcontext"):
            return self
        if self._socket is None:
            return default
        if name == "socket":
            return self._socket
        with contextlib.suppress(OSError):
            if name == "peername":
                return self._socket.getpeername()
            if name == "sockname":
                return self._socket.getsockname()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading and not self._closing and self._socket is not None:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._watch()
            self._loop.call_soon(self._readable)  # OpenSSL may hold what epoll does not know of

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self._output)

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or not data:
            return
        if not self._output:
            data = data[self._send(data) :]
            if not data:
                return
        self._output += data
        if len(self._output) > self._high and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Send what was written, say goodbye, and wait a moment for the client to do so.

        A socket that is closed while the client still sends makes it lose what it was sent.
        """
        if self._closing or self._socket is None:
            return
        self._closing = True
        self._stop_watching()
        self._set_timer(_CLOSING_TIMEOUT)
        if not self._output:
            self._say_goodbye()

    def abort(self) -> None:
        """End at once."""
        self._lost(None)

    # the life of a connection

    def cut_unless_open(self) -> None:
        """End it if its handshake is not done, or if nobody looks at it any more."""
        if self._protocol is None:
            self._release()

    def client_certificates(self) -> list[bytes]:
        """The client's certificate and what it sent beside it, as DER; nothing if it sent none."""
        own = self._tls.get_peer_certificate(as_cryptography=True)
        if own is None:
            return []
        chain = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        first = own.public_bytes(Encoding.DER)
        return list(dict.fromkeys((first, *(each.public_bytes(Encoding.DER) for each in chain))))

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.WantWriteError:
            self._watch_writes()
            return
        except SSL.Error:
            self._release()
            return
        self._stop_timer()
        self._protocol = self._factory()
        self._protocol.connection_made(self)
        self._readable()

    def _readable(self) -> None:
        if self._socket is None or not self._reading or self._closing:
            return
        if self._protocol is None:
            self._shake_hands()
            return
        try:
            data = self._tls.recv(_RECORD)
        except SSL.WantReadError:
            return
        except SSL.WantWriteError:
            self._watch_writes()
            return
        except SSL.ZeroReturnError:
            self._ended()
            return
        except SSL.SysCallError as error:
            if error.args[0] == -1:  # the end of the stream without a goodbye
                self._ended()
            else:
                self._lost(OSError(*error.args[:2]))
            return
        except SSL.Error:
            self._lost(ConnectionError("the client broke the rules of TLS"))
            return
        self._protocol.data_received(data)
        # the rest of a record that does not fit into one read; what lies in the socket epoll tells
        if len(data) == _RECORD and self._socket is not None and self._tls.pending():
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_writer(self._socket)
        self._writing = False
        if self._protocol is None:
            self._shake_hands()
            return
        del self._output[: self._send(self._output)]
        if self._socket is None or self._output:
            return
        if self._closing:
            self._say_goodbye()
        elif self._paused:
            self._paused = False
            self._protocol.resume_writing()

    def _send(self, data: bytes | bytearray | memoryview[Any]) -> int:
        """Send as much as the socket takes, and return how much that is; the rest waits for the socket."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._tls.send(bytes(data[sent : sent + _RECORD]))
        except (SSL.WantWriteError, SSL.WantReadError):
            self._watch_writes()
            return sent
        except SSL.Error:
            self._lost(ConnectionError("the connection broke"))
        return len(data)

    def _ended(self) -> None:
        assert self._protocol is not None
        self._protocol.eof_received()
        self._closing = True
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        self._lost(None)

    def _say_goodbye(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._tell_lost(None)
        self._loop.add_reader(self._socket, self._drain)

    def _drain(self) -> None:
        assert self._socket is not None
        try:
            if self._socket.recv(4 * _RECORD):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._release()

    def _lost(self, error: Exception | None) -> None:
        if self._socket is not None:
            self._closing = True
            self._tell_lost(error)
            self._release()

    def _tell_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, error)

    def _release(self) -> None:
        if self._socket is None:
            return
        self._closing = True
        self._tell_lost(TimeoutError("the client did not read") if self._output else None)
        self._stop_timer()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        self._output.clear()
        self._transports.discard(self)

    # what epoll tells

    def _watch(self) -> None:
        assert self._socket is not None
        self._reading = True
        self._loop.add_reader(self._socket, self._readable)

    def _watch_writes(self) -> None:
        if not self._writing and self._socket is not None:
            self._writing = True
            self._loop.add_writer(self._socket, self._writable)

    def _stop_watching(self) -> None:
        self._reading = False
        if self._socket is not None:
            self._loop.remove_reader(self._socket)

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self._release)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def client_certificates(transport: asyncio.BaseTransport) -> list[bytes]:
    """What the client of a connection proved to hold in its handshake."""
    carrier = transport.get_extra_info("tls")
    return carrier.client_certificates() if isinstance(carrier, TlsTransport) else []
