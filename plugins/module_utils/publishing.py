# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a local repository folder to a file server, so that a reader sees the old repository or the new one, whole.

Objects go first, over several lines at once; then metadata, each role before the one that names it; ``timestamp.json``,
which makes the new state visible, goes last; then what nothing names any more is removed, after a time of grace.
Nothing that a live reader may be fetching is ever overwritten by other bytes: every other name holds a hash or version.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from .file_server import TEMPORARY, Entry, FileServer, FileServerError, temporary
from .release_contents import Unreadable, live_names

LAST = "metadata/timestamp.json"
Connect = Callable[[], AbstractContextManager[FileServer]]


@dataclass
class Plan:
    """What an upload would do: names in upload order, and what it would remove.

    `leftovers`: of killed uploads that nothing continues. `gone`: pending metadata that waits for nobody any more.
    `prune`: what no live metadata names. `begun`: bytes of an upload that was killed, by name.
    """

    upload: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    prune: list[str] = field(default_factory=list)
    begun: dict[str, int] = field(default_factory=dict)
    present: int = 0
    prune_refused: str = ""

    @property
    def removed(self) -> list[str]:
        return [*self.leftovers, *self.gone, *self.prune]

    @property
    def changed(self) -> bool:
        return bool(self.upload or self.removed)


def plan(
    source: str, server: FileServer, *, verify: bool = False, prune_after: float | None = None, now: float | None = None
) -> Plan:
    """Compare the local folder `source` with the server.

    Args:
        verify: read every file on the server back, instead of trusting names that hold a hash.
        prune_after: seconds since its upload after which a file that nothing names goes; None: nothing goes.

    Raises:
        FileServerError: `source` is no repository, or the server is ahead of it (someone else published).
    """
    local = _local_sizes(source)
    if LAST not in local:
        raise FileServerError(f"{source} is no update repository: it has no {LAST}")
    remote = server.entries()
    _check_not_ahead(source, server)
    result = Plan()
    for name in sorted(local, key=_order):
        if name == LAST:
            continue
        if name in remote and _is_same(source, server, name, local[name], remote[name], verify):
            result.present += 1
        elif name.startswith("metadata/") and name in remote:
            raise FileServerError(
                f"{name} on the server is signed metadata that this machine does not have: "
                "someone else published meanwhile. Bring the repository folder up to date, then publish again"
            )
        else:
            result.upload.append(name)
            left = remote.get(temporary(name))
            if left and name.startswith("targets/") and 0 < left.size < local[name]:
                result.begun[name] = left.size
    if server.read(LAST) == _bytes(source, LAST):
        result.present += 1
    else:
        result.upload.append(LAST)
    continued = {temporary(name) for name in result.begun}
    result.leftovers = [n for n in remote if n.rpartition("/")[2].startswith(TEMPORARY) and n not in continued]
    result.gone = [name for name in remote if name.startswith("pending/") and name not in local]
    if prune_after is not None:
        _plan_prune(source, remote, result, (now or time.time()) - prune_after)
    return result


def upload(source: str, server: FileServer, todo: Plan, connect: Connect | None = None, lines: int = 1) -> None:
    """Carry out `todo`; a kill at any moment leaves a repository that is whole, old or new.

    Args:
        connect: opens another line to the server; objects go over up to `lines` of them at once.
    """
    for name in todo.leftovers:
        server.remove(name)
    objects = [name for name in todo.upload if name.startswith("targets/")]
    rest = [name for name in todo.upload if not name.startswith("targets/")]
    if connect is not None and lines > 1 and len(objects) > 1:
        _upload_side_by_side(source, server, connect, todo, objects, lines)
    else:
        for name in objects:
            _put(source, server, name, todo.begun.get(name, 0))
    for name in rest:
        _put(source, server, name)
    for name in (*todo.gone, *todo.prune):
        server.remove(name)


def _upload_side_by_side(
    source: str, server: FileServer, connect: Connect, todo: Plan, objects: list[str], lines: int
) -> None:
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in objects:
        names.put(name)

    def work(line: FileServer) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                name = names.get_nowait()
                _put(source, line, name, todo.begun.get(name, 0))

    def further_line() -> None:
        with contextlib.ExitStack() as stack:
            try:
                line = stack.enter_context(connect())
            except FileServerError:
                return  # the server takes no more lines: those that it took do all
            work(line)

    with ThreadPoolExecutor(lines) as pool:
        others = [pool.submit(further_line) for _line in range(min(lines, len(objects)) - 1)]
        try:
            work(server)
        finally:
            while not names.empty():  # a failure here ends the others after the file that they are at
                with contextlib.suppress(queue.Empty):
                    names.get_nowait()
        for other in others:
            other.result()


def _put(source: str, server: FileServer, name: str, begun: int = 0) -> None:
    path = os.path.join(source, name)
    with open(path, "rb") as data:
        server.put(name, data, os.path.getsize(path), begun)


def _is_same(source: str, server: FileServer, name: str, size: int, there: Entry, verify: bool) -> bool:
    if there.size != size:
        return False
    if name.startswith("targets/"):
        # the name holds the hash, and an upload gets its name only when it is whole
        return not verify or server.digest(name) == hashlib.sha256(_bytes(source, name)).hexdigest()
    return server.read(name) == _bytes(source, name)


def _check_not_ahead(source: str, server: FileServer) -> None:
    """Never put an older state over a newer one: devices that saw the newer one would refuse everything after."""
    there, here = server.read(LAST), _bytes(source, LAST)
    if not there or there == here:
        return
    try:
        versions = [int(json.loads(data)["signed"]["version"]) for data in (there, here)]
    except (ValueError, KeyError, TypeError) as exc:
        raise FileServerError(f"{LAST} on the server or here is not readable: {exc}") from exc
    if versions[0] >= versions[1]:
        raise FileServerError(
            f"the server has version {versions[0]} of {LAST}, this machine {versions[1]}: someone else published "
            "meanwhile. Bring the repository folder up to date (file_fetch), then publish again"
        )


def _plan_prune(source: str, remote: dict[str, Entry], result: Plan, before: float) -> None:
    try:
        live = live_names(source)
    except Unreadable as exc:
        result.prune_refused = str(exc)
        return
    for name, entry in sorted(remote.items()):
        known = name.startswith(("targets/", "metadata/")) and not name.rpartition("/")[2].startswith(TEMPORARY)
        if known and name not in live and entry.modified is not None and entry.modified < before:
            result.prune.append(name)


def _order(name: str) -> tuple[int, str]:
    """Targets before the metadata that names them, each role before the one that names it."""
    if not name.startswith("metadata/"):
        return 0, name
    role = name.removesuffix(".json").rpartition(".")[2]
    return {"root": 1, "snapshot": 4, "targets": 3}.get(role, 2), name


def _local_sizes(source: str) -> dict[str, int]:
    found = {}
    for folder, _folders, files in os.walk(source):
        for file in files:
            path = os.path.join(folder, file)
            if not file.startswith("."):
                found[os.path.relpath(path, source)] = os.path.getsize(path)
    return found


def _bytes(source: str, name: str) -> bytes:
    with open(os.path.join(source, name), "rb") as data:
        return data.read()
