# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release's report says: gathered from the UI tests' JUnit file, the telemetry store and the hub's rows."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SCHEMA = 1
# facts of one run that do not make a report another one
VOLATILE = ("generated_at", "steps", "published_now")


class ReportError(Exception):
    """A source of the report cannot be read; the text names it."""


def ui_tests(folder: str) -> dict[str, Any]:
    """`{passed, failed, skipped, seconds, tests, screenshots}` from ``junit.xml`` and ``screenshots/`` in `folder`."""
    path = os.path.join(folder, "junit.xml")
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))  # noqa: S314 - our own pytest wrote it
    except FileNotFoundError:
        cases = []
    except ElementTree.ParseError as exc:
        raise ReportError(f"{path} is not a JUnit file: {exc}") from exc
    tests = [_case(case) for case in cases]
    shots = os.path.join(folder, "screenshots")
    names = sorted(name for name in os.listdir(shots) if name.endswith(".png")) if os.path.isdir(shots) else []
    return {
        "passed": sum(test["result"] == "passed" for test in tests),
        "failed": sum(test["result"] == "failed" for test in tests),
        "skipped": sum(test["result"] == "skipped" for test in tests),
        "tests": tests,
        "screenshots": names,
    }


def _case(case: ElementTree.Element) -> dict[str, str]:
    result = "passed"
    if case.find("failure") is not None or case.find("error") is not None:
        result = "failed"
    elif case.find("skipped") is not None:
        result = "skipped"
    return {"name": case.get("name", "?"), "suite": case.get("classname", ""), "result": result}


def telemetry(database: str | None, release_id: str, ring: str) -> dict[str, Any]:
    """Usage and crashes of one release in one ring.

    `{available, presses: {button: n}, devices_heard, crashes: {count, devices, groups: [{kind, culprit, value, ...}]}}`
    """
    empty = {"available": False, "presses": {}, "devices_heard": 0, "crashes": {"count": 0, "devices": 0, "groups": []}}
    if not database or not os.path.exists(database):
        return empty
    where = f"{Path(database).absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=10)) as db:
            return _telemetry(db, (release_id, ring))
    except sqlite3.Error as exc:
        raise ReportError(f"the telemetry store {database} cannot be read: {exc}") from exc


def _telemetry(db: sqlite3.Connection, key: tuple[str, str]) -> dict[str, Any]:
    where = "WHERE release = ? AND ring = ?"
    presses = db.execute(f"SELECT button, sum(presses) FROM usage {where} GROUP BY button ORDER BY button", key)  # noqa: S608
    by_button = {button: int(count) for button, count in presses}
    heard = db.execute(f"SELECT count(DISTINCT device) FROM usage {where}", key).fetchone()[0]  # noqa: S608
    total, devices = db.execute(f"SELECT count(*), count(DISTINCT device) FROM crash {where}", key).fetchone()  # noqa: S608
    groups = db.execute(
        "SELECT kind, culprit, max(value), count(*), count(DISTINCT device), min(at), max(at)"  # noqa: S608
        f" FROM crash {where} GROUP BY kind, culprit ORDER BY count(*) DESC, kind LIMIT 50",
        key,
    )
    names = ("kind", "culprit", "value", "count", "devices", "first_at", "last_at")
    return {
        "available": True,
        "presses": by_button,
        "devices_heard": heard,
        "crashes": {
            "count": total,
            "devices": devices,
            "groups": [dict(zip(names, row, strict=True)) for row in groups],
        },
    }


def same(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether two reports tell the same of the release, whenever and however fast they were made."""
    if old is None:
        return False
    return {k: v for k, v in old.items() if k not in VOLATILE} == {k: v for k, v in new.items() if k not in VOLATILE}
