# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain file server of one machine: pyftpdlib, explicit FTPS, a publisher who writes and devices that read.

Usage: file_server.py SETTINGS.json, with {host, port, root, certificate, publisher: {name, password}}.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

READ = "elr"
WRITE = "elradfmwMT"


def serve(settings: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    root = Path(settings["root"])
    root.mkdir(parents=True, exist_ok=True)
    authorizer = DummyAuthorizer()
    authorizer.add_user(settings["publisher"]["name"], settings["publisher"]["password"], str(root), perm=WRITE)
    authorizer.add_anonymous(str(root), perm=READ)

    class Handler(TLS_FTPHandler):  # type: ignore[misc]
        """The classes are pyftpdlib's way to pass settings."""

    Handler.authorizer = authorizer
    Handler.certfile = settings["certificate"]
    Handler.keyfile = settings.get("key")
    Handler.tls_control_required = True
    Handler.tls_data_required = True
    Handler.ssl_protocol = SSL.TLS_SERVER_METHOD
    Handler.banner = "iotops.fleet file server"
    Handler.use_sendfile = False
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ThreadedFTPServer((settings["host"], settings["port"]), Handler).serve_forever()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
