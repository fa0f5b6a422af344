# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which certificates we believe, and whether a hub shows one.

Two libraries connect: requests (HTTPS, looks at REQUESTS_CA_BUNDLE) and uamqp (AMQPS, its own OpenSSL, looks at
SSL_CERT_FILE when a connection is made). uamqp words every TLS failure as "Authorization timeout.", after 10 seconds;
:func:`diagnose` does the handshake with Python's ssl instead and can say what is wrong, at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import typing as t

from .iothub_errors import HubError

_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@contextlib.contextmanager
def trusting(ca_file: str | None) -> t.Iterator[None]:
    """Verify hubs against ``ca_file`` (PEM) inside the block; the environment as it is when None."""
    if ca_file is None:
        yield
        return
    _check(ca_file)
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, ca_file))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def diagnose(host: str, port: int, ca_file: str | None, seconds: float) -> str | None:
    """Connect to ``host:port`` with TLS and return what is wrong, in words, or None if nothing is.

    Takes ``seconds`` at most.
    """
    where = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout=max(0.5, seconds)) as plain,
            _context(ca_file).wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {where} is not trusted ({error.verify_message}); {_trust_advice(ca_file)}"
    except ssl.SSLError as error:
        return f"{where} does not speak TLS as a hub does ({error.reason or error}); check HostName and its port"
    except TimeoutError:
        return f"cannot reach the hub {where}: no answer in {seconds:.0f} s; check HostName and the firewall"
    except socket.gaierror:
        return f"cannot reach the hub {where}: the name does not resolve; check HostName"
    except OSError as error:
        return f"cannot reach the hub {where}: {error.strerror or error}; check HostName and the firewall"


def _trust_advice(ca_file: str | None) -> str:
    if ca_file is None:
        return "for a private hub give its CA as ca_file"
    return f"check that ca_file {ca_file} holds the CA of this hub"


def _context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None:
        with contextlib.suppress(ImportError):
            import certifi  # comes with requests; what both libraries believe by default

            context.load_verify_locations(certifi.where())
    return context


def _check(ca_file: str) -> None:
    """Refuse a file that cannot be used: requests and uamqp would word it badly, or ignore it."""
    try:
        ssl.create_default_context(cafile=ca_file)
    except FileNotFoundError:
        raise HubError(f"ca_file {ca_file} does not exist") from None
    except ssl.SSLError:
        raise HubError(f"ca_file {ca_file} holds no PEM certificate") from None
    except OSError as error:
        raise HubError(f"ca_file {ca_file} cannot be read: {error.strerror}") from None
