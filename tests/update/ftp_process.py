# SPDX-License-Identifier: GPL-3.0-or-later
"""A small FTP server as a process of its own: ftp_process.py FOLDER [CERTIFICATE]; prints its port.

Not a thread: pyftpdlib closed from another thread closes descriptors that the next server has got meanwhile.
"""

from __future__ import annotations

import sys
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import ThreadedFTPServer


def main(folder: str, certificate: str | None = None) -> None:
    """Serve; publisher/secret may write, anybody may read."""
    authorizer = DummyAuthorizer()
    authorizer.add_user("publisher", "secret", folder, perm="elradfmwMT")
    authorizer.add_anonymous(folder)
    attributes: dict[str, Any] = {"authorizer": authorizer, "banner": "test", "use_sendfile": not certificate}
    if certificate:
        attributes |= {"certfile": certificate, "tls_control_required": True, "tls_data_required": True}
    handler = type("Handler", (TLS_FTPHandler if certificate else FTPHandler,), attributes)
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    print(server.address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
