# SPDX-License-Identifier: Apache-2.0
"""TLS for listeners that devices reach: a client certificate is asked for, any is taken, and who holds its key is told.

IoT Hub knows self-signed certificates by their thumbprints, so that no authority can vouch for them in the handshake.
Python's `ssl` has no way to accept one (it offers no verify callback); pyOpenSSL has. `TlsContext` has as much of
`ssl.SSLContext` as asyncio's sslproto.py uses, and the hub judges the certificate when the device says who it is
(core/client_certificate.py).
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

_CHUNK = 65536


class TlsContext:
    """Stands for an `ssl.SSLContext` of a server, 1.2 at least, as IoT Hub."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.use_certificate_chain_file(str(certificate))
        self._context.use_privatekey_file(str(key))
        self._context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        # A resumed session has no chain of the client's, so there are none; nor may a client ask for new keys at will.
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)

    def as_ssl(self) -> ssl.SSLContext:
        """For signatures that ask for the class of the standard library."""
        return cast(ssl.SSLContext, self)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = True,
        server_hostname: str | None = None,
    ) -> _TlsObject:
        """One connection."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return _TlsObject(connection, incoming, outgoing)


class _TlsObject:
    """Stands for an `ssl.SSLObject`."""

    def __init__(self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        self._call(self._connection.do_handshake)

    def read(self, size: int, buffer: Any = None) -> Any:
        """Bytes, or their number when they went into `buffer`; none at the end."""
        try:
            if buffer is None:
                return self._call(self._connection.recv, size)
            return self._call(self._connection.recv_into, buffer, size)
        except ssl.SSLZeroReturnError:
            return b"" if buffer is None else 0

    def write(self, data: Any) -> int:
        return int(self._call(self._connection.send, bytes(data)))

    def unwrap(self) -> None:
        if not self._call(self._connection.shutdown):
            raise ssl.SSLWantReadError

    def getpeercert(self) -> dict[str, Any]:
        return {}

    def cipher(self) -> tuple[str | None, str | None, int | None]:
        connection = self._connection
        return connection.get_cipher_name(), connection.get_cipher_version(), connection.get_cipher_bits()

    def compression(self) -> None:
        return None

    def client_certificates(self) -> list[bytes]:
        """The client's certificate and what it sent beside it, as DER; nothing if it sent none."""
        own = self._connection.get_peer_certificate(as_cryptography=True)
        if own is None:
            return []
        chain = self._connection.get_peer_cert_chain(as_cryptography=True) or []
        first = own.public_bytes(Encoding.DER)
        return list(dict.fromkeys((first, *(each.public_bytes(Encoding.DER) for each in chain))))

    def _call(self, act: Any, *arguments: Any) -> Any:
        """Carry bytes to and from asyncio around an operation, and speak of errors as the standard library does."""
        if self._incoming.pending:
            self._connection.bio_write(self._incoming.read())
        try:
            return act(*arguments)
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except SSL.SysCallError as error:
            raise ssl.SSLEOFError(str(error)) from None
        except SSL.Error as error:
            raise ssl.SSLError(f"{error.args[0] if error.args else 'TLS failed'}") from None
        finally:
            self._flush()

    def _flush(self) -> None:
        while True:
            try:
                self._outgoing.write(self._connection.bio_read(_CHUNK))
            except SSL.WantReadError:
                return


def client_certificates(transport: asyncio.BaseTransport) -> list[bytes]:
    """What the client of a connection proved to hold in its handshake."""
    handshake = transport.get_extra_info("ssl_object")
    return handshake.client_certificates() if isinstance(handshake, _TlsObject) else []
