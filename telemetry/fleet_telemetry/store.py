# SPDX-License-Identifier: Apache-2.0
"""Where usage and crashes are kept: SQLite, one writer, any number of readers (`file:...?mode=ro`).

A record and the position it was read at are stored in one transaction, and a record's id is unique per device, so a
collector killed at any moment neither loses nor counts twice.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .decode import CrashRecord, Record, UsageRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    id TEXT NOT NULL, device TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL, ring TEXT NOT NULL,
    started TEXT NOT NULL, ended TEXT NOT NULL, button TEXT NOT NULL, presses INTEGER NOT NULL,
    PRIMARY KEY (device, id, button)
);
CREATE INDEX IF NOT EXISTS usage_release ON usage (release, ring);
CREATE TABLE IF NOT EXISTS crash (
    id TEXT NOT NULL, device TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL, ring TEXT NOT NULL,
    at TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, culprit TEXT NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY (device, id)
);
CREATE INDEX IF NOT EXISTS crash_release ON crash (release, ring);
CREATE TABLE IF NOT EXISTS rejected (device TEXT NOT NULL, why TEXT NOT NULL, at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS position (
    source TEXT NOT NULL, partition TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (source, partition)
);
"""
_REJECTED_LIMIT = 1000


class Store:
    """The collector's end. Positions belong to a `source`: one hub's name is no other's."""

    def __init__(self, path: Path, source: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._source = source
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def add(self, record: Record, partition: str, sequence: int) -> None:
        """Store `record` and that everything up to `sequence` of `partition` is stored."""
        with self._transaction():
            if isinstance(record, UsageRecord):
                self._add_usage(record)
            else:
                self._add_crash(record)
            self._move(partition, sequence)

    def reject(self, device: str, why: str, partition: str, sequence: int) -> None:
        """Remember that a message made no sense; the newest 1000 of these are kept."""
        with self._transaction():
            self._db.execute("INSERT INTO rejected (device, why) VALUES (?, ?)", (device, why[:300]))
            self._db.execute(
                "DELETE FROM rejected WHERE rowid <= (SELECT max(rowid) FROM rejected) - ?", (_REJECTED_LIMIT,)
            )
            self._move(partition, sequence)

    def positions(self) -> dict[str, int]:
        """Last stored sequence number by partition id."""
        rows = self._db.execute("SELECT partition, sequence FROM position WHERE source = ?", (self._source,))
        return {str(partition): int(sequence) for partition, sequence in rows}

    def close(self) -> None:
        self._db.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _add_usage(self, record: UsageRecord) -> None:
        common = (record.id, record.device, record.release, record.version, record.ring, record.started, record.ended)
        self._db.executemany(
            "INSERT OR IGNORE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*common, button, count) for button, count in record.presses.items()],
        )

    def _add_crash(self, record: CrashRecord) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO crash VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, record.device, record.release, record.version, record.ring,
                record.at, record.kind, record.value, record.culprit, record.envelope,
            ),
        )  # fmt: skip

    def _move(self, partition: str, sequence: int) -> None:
        self._db.execute(
            "INSERT INTO position VALUES (?, ?, ?) ON CONFLICT (source, partition)"
            " DO UPDATE SET sequence = max(sequence, excluded.sequence)",
            (self._source, partition, sequence),
        )


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
