# SPDX-License-Identifier: Apache-2.0
"""The durable queue of what still has to be told home: SQLite, WAL, synchronous FULL, one row a message.

A message id that is put twice is stored once. The oldest usage makes room when the spool is full; crashes stay.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

LIMIT = 2000


@dataclass(frozen=True)
class Item:
    """One message: `kind` is usage or crash, `body` goes out as it is."""

    id: str
    kind: str
    content_type: str
    body: bytes


class Spool:
    """At-least-once: an item leaves only when `done` is called for it."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._limit = limit
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS item (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,"
            " kind TEXT NOT NULL, content_type TEXT NOT NULL, body BLOB NOT NULL)"
        )

    def put(self, item: Item) -> None:
        """Store `item`; it is on disk when this returns."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(
                "INSERT OR IGNORE INTO item (id, kind, content_type, body) VALUES (?, ?, ?, ?)",
                (item.id, item.kind, item.content_type, item.body),
            )
            excess = int(self._db.execute("SELECT count(*) FROM item").fetchone()[0]) - self._limit
            if excess > 0:
                self._db.execute(
                    "DELETE FROM item WHERE seq IN (SELECT seq FROM item ORDER BY kind = 'crash', seq LIMIT ?)",
                    (excess,),
                )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def oldest(self) -> Item | None:
        """The next item to send."""
        row = self._db.execute("SELECT id, kind, content_type, body FROM item ORDER BY seq LIMIT 1").fetchone()
        return Item(*row) if row else None

    def done(self, item_id: str) -> None:
        """The hub acknowledged this item."""
        self._db.execute("DELETE FROM item WHERE id = ?", (item_id,))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM item").fetchone()[0])

    def close(self) -> None:
        self._db.close()
