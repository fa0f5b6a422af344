# SPDX-License-Identifier: Apache-2.0
"""SQLite on disk, one writer thread, group commit.

Whoever changes state hands over statements in the same turn of the event loop in which he changed memory, so the
order on disk is the order in memory; the future he gets is done when the statements are on disk. All statements that
came while the last commit was being synced make the next transaction: one fsync for many operations. The writer has
one transaction at a time and gets the next whole, and rows for the same table that follow each other become one
statement: it gives the interpreter up at each step, and has to wait for a busy event loop to get it back.
A failed commit is the end of the process: memory would promise what the disk does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import queue
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Statement = tuple[str, Sequence[Any]]
Done = Callable[[], None]
Batch = list[tuple[Sequence[Statement], Done]]
_log = logging.getLogger(__name__)
_MAX_BATCH = 2000
_ROWS_AT_ONCE = 64
_PREPARED = 512
_ONE_ROW = re.compile(r"(INSERT .+ VALUES )(\([?, ]+\))( ON CONFLICT .+)?", re.DOTALL)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS devices (
    device_id TEXT PRIMARY KEY, identity TEXT NOT NULL, twin TEXT NOT NULL,
    subscriptions TEXT, last_activity TEXT);
CREATE TABLE IF NOT EXISTS c2d (
    sequence INTEGER PRIMARY KEY, device_id TEXT NOT NULL, message TEXT NOT NULL, body BLOB NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS feedback (sequence INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS provisioning (
    kind TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (sequence INTEGER PRIMARY KEY, notice TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    partition INTEGER NOT NULL, sequence INTEGER NOT NULL, enqueued_ms INTEGER NOT NULL, device_id TEXT NOT NULL,
    properties TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (partition, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS configurations (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS device_jobs (
    job_id TEXT NOT NULL, device_id TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (job_id, device_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transfers (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Store:
    """The hub's memory on disk."""

    def __init__(self, path: Path, on_failure: Callable[[Exception], None]) -> None:
        self._path = path
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._waiting: Batch = []
        self._writing = False
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._connection = self._connect()
        self._connection.executescript(_SCHEMA)
        self._readers = ThreadPoolExecutor(1, "store-read")
        self._reading: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._write, name="store-write", daemon=True)

    def start(self) -> None:
        """Begin to write. Before this, `rows` may be used on the caller's thread to load what is there."""
        self._thread.start()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read at start-up, synchronously."""
        return self._connection.execute(sql, parameters).fetchall()

    def commit(self, *statements: Statement) -> asyncio.Future[None]:
        """Queue statements for one transaction; the future is done when they are durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.commit_then(functools.partial(_resolve, future), *statements)
        return future

    def commit_then(self, done: Done, *statements: Statement) -> None:
        """The same for whoever has very many to wait for: `done` is called when they are durable."""
        self._waiting.append((statements, done))
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._hand_over)  # with all that comes in this turn of the event loop

    def note(self, *statements: Statement) -> None:
        """Queue statements nobody waits for (their loss at a crash harms nothing)."""
        self.commit_then(_nothing, *statements)

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read beside the writer, off the event loop; sees only what is committed."""
        return await self._loop.run_in_executor(self._readers, self._read, sql, parameters)

    async def close(self) -> None:
        """Write what is queued, then stop."""
        if self._thread.is_alive():
            while self._waiting:
                self._hand_over()
            self._batches.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
        await self._loop.run_in_executor(self._readers, self._close_reader)
        self._readers.shutdown()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=_PREPARED
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=5000")
        return connection

    def _read(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._reading is None:
            self._reading = self._connect()
        return self._reading.execute(sql, parameters).fetchall()

    def _close_reader(self) -> None:
        if self._reading is not None:
            self._reading.close()

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        self._writing = bool(batch)
        if batch:
            self._batches.put(batch)

    def _written(self, batch: Batch) -> None:
        self._hand_over()  # first, so that the disk works while the others are told
        for _, done in batch:
            try:
                done()
            except Exception:  # the others' operations are as durable
                _log.exception("store: what waited for the disk failed")

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._transaction([statement for statements, _ in batch for statement in statements])
            except (sqlite3.Error, ValueError, OverflowError) as error:  # the latter: a value that SQLite cannot hold
                self._loop.call_soon_threadsafe(self._on_failure, error)
                return
            with contextlib.suppress(RuntimeError):  # the loop may be closed already when the last batch is done
                self._loop.call_soon_threadsafe(self._written, batch)
        self._connection.close()

    def _transaction(self, statements: list[Statement]) -> None:
        few = list(merged(statements))
        if len(few) > 1:
            self._connection.execute("BEGIN IMMEDIATE")
        for sql, parameters in few:
            self._connection.execute(sql, parameters)
        if len(few) > 1:  # one statement is a transaction by itself
            self._connection.execute("COMMIT")


def merged(statements: Iterable[Statement]) -> Iterator[Statement]:
    """The same, with rows for one table that follow each other in one statement."""
    for sql, group in itertools.groupby(statements, key=lambda statement: statement[0]):
        rows = [parameters for _, parameters in group]
        if len(rows) == 1 or not _ONE_ROW.fullmatch(sql):
            yield from ((sql, row) for row in rows)
            continue
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            yield _of_rows(sql, len(some)), list(itertools.chain.from_iterable(some))


@functools.lru_cache(_PREPARED)
def _of_rows(sql: str, count: int) -> str:
    match = _ONE_ROW.fullmatch(sql)
    assert match is not None
    return f"{match[1]}{', '.join([match[2]] * count)}{match[3] or ''}"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """Nobody waits."""
