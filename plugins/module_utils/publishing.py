# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a file server to the content of a local TUF repository, in an order that is never torn.

Names are content-addressed or versioned, so a file that is there with the right size is there. Only
``metadata/timestamp.json`` changes under its name: it is compared by its bytes and goes last, and until it goes no
device sees any of the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .file_server import TEMPORARY, FileServer, FileServerError

LAST = "metadata/timestamp.json"


@dataclass
class Plan:
    """What an upload would do: names in upload order, leftovers of killed uploads to remove."""

    upload: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    present: int = 0

    @property
    def changed(self) -> bool:
        return bool(self.upload or self.leftovers)


def plan(source: str, server: FileServer) -> Plan:
    """Compare the local folder `source` with the server.

    Raises:
        FileServerError: `source` is no repository, or the server is ahead of it (someone else published).
    """
    local = _local_sizes(source)
    if LAST not in local:
        raise FileServerError(f"{source} is no update repository: it has no {LAST}")
    remote = server.sizes()
    result = Plan(leftovers=[name for name in remote if name.rpartition("/")[2].startswith(TEMPORARY)])
    for name in sorted(local, key=_order):
        if name == LAST:
            continue
        if remote.get(name) == local[name]:
            result.present += 1
        elif name.startswith("metadata/") and name in remote and server.read(name) != _bytes(source, name):
            raise FileServerError(
                f"{name} on the server is signed metadata that this machine does not have: "
                "someone else published meanwhile. Bring the repository folder up to date, then publish again"
            )
        else:
            result.upload.append(name)
    if server.read(LAST) == _bytes(source, LAST):
        result.present += 1
    else:
        result.upload.append(LAST)
    return result


def upload(source: str, server: FileServer, todo: Plan) -> None:
    """Carry out `todo`; a kill at any moment leaves a repository that is whole, old or new."""
    for name in todo.leftovers:
        server.remove(name)
    for name in todo.upload:
        path = os.path.join(source, name)
        with open(path, "rb") as data:
            server.put(name, data, os.path.getsize(path))


def _order(name: str) -> tuple[int, str]:
    """Targets before the metadata that names them, each role before the one that names it."""
    if not name.startswith("metadata/"):
        return 0, name
    role = name.removesuffix(".json").rpartition(".")[2]
    return {"root": 1, "snapshot": 4, "targets": 3}.get(role, 2), name


def _local_sizes(source: str) -> dict[str, int]:
    found = {}
    for folder, _, files in os.walk(source):
        for file in files:
            path = os.path.join(folder, file)
            if not file.startswith("."):
                found[os.path.relpath(path, source)] = os.path.getsize(path)
    return found


def _bytes(source: str, name: str) -> bytes:
    with open(os.path.join(source, name), "rb") as data:
        return data.read()
