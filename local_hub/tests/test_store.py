# SPDX-License-Identifier: Apache-2.0
"""The store: what is handed over in order is on disk in order, in as few statements as can be."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.hub.store import Statement, Store, merged

TWIN = (
    "INSERT INTO devices (device_id, identity, twin) VALUES (?, ?, ?) "
    "ON CONFLICT (device_id) DO UPDATE SET identity = excluded.identity, twin = excluded.twin"
)
COUNTERS = "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?), (?, ?)"
GONE = "DELETE FROM devices WHERE device_id = ?"


def failed(error: Exception) -> None:
    raise AssertionError(error)


def twin(number: int, text: str = "{}") -> Statement:
    return (TWIN, (f"d{number}", "{}", text))


def test_rows_of_one_table_share_statements() -> None:
    statements = list(merged(twin(number) for number in range(64 + 8 + 3)))
    assert [len(parameters) // 3 for _, parameters in statements] == [64, 11]
    assert statements[0][0].count("(?, ?, ?)") == 64
    assert statements[0][0].endswith("SET identity = excluded.identity, twin = excluded.twin")


def test_a_statement_of_several_rows_is_left_alone() -> None:
    statements = [(COUNTERS, ("a", 1, "b", 2))] * 10
    assert list(merged(statements)) == statements


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300))
def test_merged_statements_do_what_they_did_one_by_one(steps: list[tuple[int, bool]]) -> None:
    statements: list[Statement] = [
        (GONE, (f"d{number}",)) if gone else twin(number, str(index)) for index, (number, gone) in enumerate(steps)
    ]

    def result(these: Any) -> list[Any]:
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE devices (device_id TEXT PRIMARY KEY, identity TEXT, twin TEXT)")
        for sql, parameters in these:
            database.execute(sql, parameters)
        return database.execute("SELECT * FROM devices ORDER BY device_id").fetchall()

    assert result(merged(statements)) == result(statements)


async def test_whoever_waits_is_told_when_it_is_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite", failed)
    store.start()
    told: asyncio.Queue[int] = asyncio.Queue()
    for number in range(200):
        store.commit_then(lambda number=number: told.put_nowait(number), twin(number))  # type: ignore[misc]
    order = [await asyncio.wait_for(told.get(), 10) for _ in range(200)]
    assert order == list(range(200))
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM devices").fetchone() == (200,)
    await store.close()


async def test_one_that_fails_when_told_keeps_nobody_else_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "hub.sqlite", failed)
    store.start()
    store.commit_then(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    await asyncio.wait_for(store.commit(twin(1)), 10)
    assert "what waited for the disk failed" in caplog.text
    await store.close()


async def test_closing_writes_all_that_waits_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite", failed)
    store.start()
    first = store.commit(twin(0))
    await asyncio.sleep(0)
    for number in range(1, 4500):  # more than one transaction takes
        store.note(twin(number))
    await store.close()
    assert first.done()
    with sqlite3.connect(tmp_path / "hub.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM devices").fetchone() == (4500,)


async def test_what_comes_while_the_disk_is_busy_is_one_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite", failed)
    store.start()
    seen: list[int] = []
    watcher = sqlite3.connect(tmp_path / "hub.sqlite")

    def count() -> None:
        seen.append(watcher.execute("SELECT COUNT(*) FROM devices").fetchone()[0])

    store.commit_then(count, twin(0))
    await asyncio.sleep(0)  # it is on its way
    for number in range(1, 100):
        store.commit_then(count, twin(number))
    await store.commit()
    assert set(seen) <= {1, 100}
    assert seen[-1] == 100
    watcher.close()
    await store.close()
