# SPDX-License-Identifier: GPL-3.0-or-later
"""The report says what tests, devices and telemetry said; a second one that would say the same is not written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_telemetry.decode import CrashRecord, UsageRecord
from fleet_telemetry.store import Store

if TYPE_CHECKING:
    from conftest import Run

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.ui" name="test_door_opens"/>
<testcase classname="tests.ui" name="test_light_goes_on"><failure message="dark">it stayed dark</failure></testcase>
<testcase classname="tests.ui" name="test_setup_breaks"><error message="no display"/></testcase>
<testcase classname="tests.ui" name="test_needs_a_camera"><skipped message="none"/></testcase>
</testsuite></testsuites>"""
RELEASE = {"id": "2.0-g2", "version": "2.0", "commit": "abcdef"}


def device(name: str, state: str) -> dict[str, Any]:
    return {"id": name, "state": state, "connected": True, "from": "1.0", "to": "2.0", "error": None}


class Desk:
    """A folder of reports, and what goes into the next one."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder / "reports" / "2.0-g2-beta"
        self.file = self.folder / "report.json"
        self.latest = self.folder.parent / "latest"
        self.tests = folder / "ui"
        (self.tests / "screenshots").mkdir(parents=True)
        (self.tests / "junit.xml").write_text(JUNIT)
        (self.tests / "screenshots/door.png").write_bytes(b"picture")
        (self.tests / "screenshots/notes.txt").write_text("no picture")
        self.telemetry = folder / "telemetry.db"

    def report(self, *, check: bool = False, **other: Any) -> dict[str, Any]:
        options = {
            "dest": str(self.folder), "release": RELEASE, "ring": "beta", "verdict": "wait", "reason": "1 of 2 run it",
            "devices": [device("f1", "succeeded"), device("f2", "pending")], "ui_tests": str(self.tests),
            "telemetry_db": str(self.telemetry), **other,
        }  # fmt: skip
        return self.run("release_report", check=check, **options)

    def hear(self) -> None:
        """What two devices told of the release, and one of another."""
        self.telemetry.parent.mkdir(parents=True, exist_ok=True)
        store = Store(self.telemetry, "hub")
        records: list[Any] = [
            UsageRecord("u1", "f1", "2.0-g2", "2.0", "beta", "t", "t", {"light": 2, "door": 1}),
            UsageRecord("u2", "f2", "2.0-g2", "2.0", "beta", "t", "t", {"light": 3}),
            UsageRecord("u3", "f3", "1.0-g1", "1.0", "beta", "t", "t", {"light": 9}),
            *(CrashRecord(f"c{n}", f"f{n % 2}", "2.0-g2", "2.0", "beta", f"2026-11-23T10:00:0{n}Z", "ValueError",
                          "too cold", "fridge/door.py", b"{}") for n in range(3)),
        ]  # fmt: skip
        for sequence, record in enumerate(records):
            store.add(record, "0", sequence)
        store.close()


@pytest.fixture
def desk(run: Run, tmp_path: Path) -> Desk:
    return Desk(run, tmp_path)


def on_disk(desk: Desk) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(desk.file.read_text())
    return read


def test_it_tells_each_test_each_device_and_what_was_heard(desk: Desk) -> None:
    desk.hear()
    steps = [{"name": "build", "seconds": 3.5}]
    result = desk.report(steps=steps, published=["targets/b", "targets/a"])
    assert result["changed"]
    assert result["path"] == str(desk.file)
    assert result["report"] == on_disk(desk)
    report = on_disk(desk)
    tests = report["ui_tests"]
    assert (tests["passed"], tests["failed"], tests["skipped"]) == (1, 2, 1)
    assert [test["name"] for test in tests["tests"] if test["result"] == "failed"] == [
        "test_light_goes_on", "test_setup_breaks",
    ]  # fmt: skip
    assert tests["screenshots"] == ["door.png"]
    assert {row["id"]: row["state"] for row in report["devices"]} == {"f1": "succeeded", "f2": "pending"}
    assert (report["steps"], report["published"]) == (steps, ["targets/a", "targets/b"])
    heard = report["telemetry"]
    assert (heard["presses"], heard["devices_heard"]) == ({"door": 1, "light": 5}, 2)
    assert (heard["crashes"]["count"], heard["crashes"]["devices"]) == (3, 2)
    (group,) = heard["crashes"]["groups"]
    assert (group["kind"], group["culprit"], group["value"], group["count"]) == (
        "ValueError", "fridge/door.py", "too cold", 3,
    )  # fmt: skip
    assert group["last_at"] == "2026-11-23T10:00:02Z"


def test_the_folder_can_be_taken_away_whole_and_latest_leads_to_it(desk: Desk) -> None:
    desk.report()
    assert (desk.folder / "junit.xml").read_text() == JUNIT
    assert (desk.folder / "screenshots/door.png").read_bytes() == b"picture"
    assert desk.latest.resolve() == desk.folder
    assert desk.file.stat().st_mode & 0o777 == 0o644
    assert not [path.name for path in desk.folder.iterdir() if path.name.startswith("tmp")]


def test_a_second_run_says_unchanged_however_long_it_took(desk: Desk) -> None:
    desk.report(steps=[{"name": "build", "seconds": 3.5}])
    before = desk.file.read_bytes()
    again = desk.report(steps=[{"name": "build", "seconds": 9.9}])
    assert (again["changed"], again["diff"]) == (False, {})
    assert again["report"]["steps"] == [{"name": "build", "seconds": 3.5}]
    assert desk.file.read_bytes() == before


def test_check_mode_says_what_would_change_and_writes_nothing(desk: Desk) -> None:
    result = desk.report(check=True)
    assert result["changed"]
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["devices"] == {"f1": "succeeded", "f2": "pending"}
    assert not desk.folder.parent.exists()


def test_the_diff_shows_the_verdict_and_who_moved(desk: Desk) -> None:
    desk.report()
    diff = desk.report(verdict="stop", devices=[device("f1", "succeeded"), device("f2", "failed")])["diff"]
    assert diff["before"] == {"verdict": "wait", "devices": {"f1": "succeeded", "f2": "pending"}, "crashes": 0}
    assert diff["after"] == {"verdict": "stop", "devices": {"f1": "succeeded", "f2": "failed"}, "crashes": 0}


def test_a_look_without_a_build_keeps_what_the_build_said(desk: Desk) -> None:
    desk.report(steps=[{"name": "build", "seconds": 3.5}], published=["targets/a"])
    later = desk.report(ui_tests=None, release={"id": "2.0-g2", "version": "2.0"}, verdict="go")
    report = later["report"]
    assert (report["ui_tests"]["failed"], report["published"], report["commit"]) == (2, ["targets/a"], "abcdef")
    assert report["steps"] == [{"name": "build", "seconds": 3.5}]
    assert report["verdict"] == "go"


def test_latest_is_moved_back_to_a_report_that_says_the_same(desk: Desk, tmp_path: Path) -> None:
    desk.report()
    desk.latest.unlink()
    desk.latest.symlink_to("another")
    (desk.folder.parent / "latest.new").symlink_to("what a killed run left")
    assert desk.report()["changed"]
    assert desk.latest.resolve() == desk.folder
    assert not desk.report()["changed"]


def test_without_tests_and_telemetry_it_says_so(desk: Desk, tmp_path: Path) -> None:
    report = desk.report(ui_tests=str(tmp_path / "none"), telemetry_db=None)["report"]
    assert (report["ui_tests"]["tests"], report["telemetry"]["available"]) == ([], False)
    assert not (desk.folder / "junit.xml").exists()


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"schema": 0, "verdict": "go"}'])
def test_a_report_that_cannot_be_read_is_written_anew(desk: Desk, text: str) -> None:
    desk.folder.mkdir(parents=True)
    desk.file.write_text(text)
    result = desk.report()
    assert result["changed"]
    assert result["diff"]["before"] == {}
    assert on_disk(desk)["verdict"] == "wait"


def test_a_folder_named_with_a_slash_at_its_end_is_the_same_folder(desk: Desk) -> None:
    assert desk.report(dest=f"{desk.folder}/")["changed"]
    assert desk.latest.resolve() == desk.folder
    assert not desk.report()["changed"]


def test_a_store_is_found_whatever_its_folder_is_called(desk: Desk, tmp_path: Path) -> None:
    desk.telemetry = tmp_path / "100%25 cold? #1" / "telemetry.db"
    desk.hear()
    assert desk.report()["report"]["telemetry"]["crashes"]["count"] == 3


def test_tests_that_are_no_junit_file_are_named(desk: Desk) -> None:
    (desk.tests / "junit.xml").write_text("<broken")
    result = desk.report()
    assert result["failed"]
    assert result["msg"].startswith(f"report {desk.folder}: {desk.tests}/junit.xml is not a JUnit file: ")
    assert not desk.folder.exists()


def test_a_store_that_is_no_database_is_named(desk: Desk) -> None:
    desk.telemetry.write_text("not a database, but long enough to be taken for the header of one" * 9)
    result = desk.report()
    assert result["msg"].startswith(f"report {desk.folder}: the telemetry store {desk.telemetry} cannot be read: ")


def test_a_place_that_cannot_be_written_is_named(desk: Desk) -> None:
    desk.folder.parent.parent.mkdir(exist_ok=True)
    desk.folder.parent.write_text("a file")
    assert desk.report()["msg"] == f"report {desk.folder}: {desk.file}: Not a directory"


@pytest.mark.parametrize(
    ("option", "value"),
    [("release", {}), ("release", {"id": "1"}), ("devices", [{"id": "f1"}]), ("devices", [{"state": "failed"}])],
)
def test_what_release_status_info_did_not_return_is_refused_in_a_sentence(desk: Desk, option: str, value: Any) -> None:
    result = desk.report(**{option: value})
    assert result["failed"]
    assert result["msg"].startswith(f"report {desk.folder}: {option}")
    assert "release_status_info" in result["msg"]
