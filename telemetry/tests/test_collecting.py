# SPDX-License-Identifier: Apache-2.0
"""From what an agent sends to rows, and nothing else whatever else comes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fleet_telemetry.decode import CrashRecord, Undecodable, UsageRecord, decode
from fleet_telemetry.store import Store
from fridge_agent import telemetry as agent
from hypothesis import given
from hypothesis import strategies as st

RECORD = {
    "at": 1795000000.5, "release": "1-g1", "version": "1", "exit_code": 1, "signal": None, "uptime_s": 3.0,
    "stderr": 'noise\nTraceback (most recent call last):\n  File "/opt/fridge/releases/1-g1/app/fridge/app.py", '
    "line 7, in step\n    boom()\nValueError: too cold\n",
}  # fmt: skip


def usage(presses: dict[str, int], started: float = 1795000000.0) -> bytes:
    counted = agent.Usage(started)
    counted.restore(presses)
    return agent.usage_item("fridge-1", "beta", {"id": "1-g1", "version": "1"}, counted, started + 60).body


def test_an_agents_usage_becomes_counts() -> None:
    record = decode("fridge-1", usage({"temp": 3}))
    assert isinstance(record, UsageRecord)
    assert (record.release, record.ring, record.presses) == ("1-g1", "beta", {"temp": 3})


def test_an_agents_crash_becomes_a_group_key_without_device_paths() -> None:
    record = decode("fridge-1", agent.crash_item("fridge-1", "beta", RECORD).body)
    assert isinstance(record, CrashRecord)
    assert (record.kind, record.value, record.culprit) == ("ValueError", "too cold", "fridge/app.py:step")
    assert (record.release, record.version, record.ring) == ("1-g1", "1", "beta")


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode("fridge-1", data)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_json_does_more_than_be_refused(value: Any) -> None:
    body = json.dumps({"specversion": "1.0", "type": "fleet.usage.v1", "id": "1", "data": value}).encode()
    with pytest.raises(Undecodable):
        decode("fridge-1", body)


@pytest.mark.parametrize("presses", [{"temp": -1}, {"temp": True}, {"temp": 2**40}, {"": 1}])
def test_counts_that_are_none_are_refused(presses: dict[str, Any]) -> None:
    body = usage({"temp": 1}).replace(b'"presses":{"temp":1}', b'"presses":' + json.dumps(presses).encode())
    with pytest.raises(Undecodable):
        decode("fridge-1", body)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as db:
        return db.execute(sql).fetchall()


def test_the_same_message_twice_counts_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", "hub")
    for sequence in (4, 5):
        store.add(decode("fridge-1", usage({"temp": 3, "power": 1})), "0", sequence)
        store.add(decode("fridge-1", agent.crash_item("fridge-1", "beta", RECORD).body), "1", sequence)
    store.add(decode("fridge-2", usage({"temp": 3})), "0", 6)
    assert rows(tmp_path / "t.db", "SELECT sum(presses) FROM usage") == [(7,)]
    assert rows(tmp_path / "t.db", "SELECT count(*) FROM crash") == [(1,)]
    assert store.positions() == {"0": 6, "1": 5}


def test_positions_belong_to_their_hub(tmp_path: Path) -> None:
    Store(tmp_path / "t.db", "hub-a").reject("d", "why", "0", 9)
    assert Store(tmp_path / "t.db", "hub-b").positions() == {}


def test_a_collector_killed_at_any_moment_loses_nothing_it_had_stored(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from fleet_telemetry.store import Store\n"
        "from fleet_telemetry.decode import UsageRecord\n"
        "s = Store(Path(sys.argv[1]), 'hub'); n = s.positions().get('0', -1) + 1\n"
        "while True:\n"
        "    s.add(UsageRecord(str(n), 'd', 'r', 'v', 'b', 't', 't', {'temp': 1}), '0', n)\n"
        "    print(n, flush=True); n += 1\n"
    )
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path / "t.db")], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15)
        process.kill()
        told = process.stdout.read().split()
        process.wait()
        stored = Store(tmp_path / "t.db", "hub").positions()["0"]
        assert stored >= int(told[-1] if told else 0)
        assert rows(tmp_path / "t.db", "SELECT count(*) FROM usage") == [(stored + 1,)]
