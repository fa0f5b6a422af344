#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_report
short_description: Write the report of a release in a ring
version_added: 0.1.0
description:
  - Gathers what the hub, the UI tests and the telemetry store say of a release, and writes C(report.json),
    C(junit.xml) and the screenshots into the report's folder, and points C(latest) beside it there.
  - A report that would say the same as the one there is left alone.
author: The iotops.fleet project (@iotops-fleet)
options:
  state:
    description: V(present) makes sure that the report says what is so now.
    type: str
    choices: [present]
    default: present
  dest:
    description: Folder of the report.
    type: path
    required: true
  release:
    description: The release, with V(id) and V(version) and what else its hub configuration's labels told.
    type: dict
    required: true
  ring:
    description: The ring.
    type: str
    required: true
  verdict:
    description: V(go), V(wait) or V(stop).
    type: str
    choices: [go, wait, stop]
    required: true
  reason:
    description: Why, in a sentence.
    type: str
    required: true
  devices:
    description: One row a device, as M(iotops.fleet.release_status_info) returns them.
    type: list
    elements: dict
    required: true
  ui_tests:
    description: Folder with C(junit.xml) and C(screenshots/) of the UI tests.
    type: path
  telemetry_db:
    description: The telemetry collector's store.
    type: path
  published:
    description: Files that this run uploaded.
    type: list
    elements: str
    default: []
  steps:
    description: The run's steps with their seconds.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
    description: Compares, writes nothing.
  diff_mode:
    support: full
    description: Shows verdict and device states before and after.
  idempotent:
    support: full
    description: Times and durations of a run alone do not change a report.
"""

EXAMPLES = r"""
- name: Write the report
  iotops.fleet.release_report:
    dest: "reports/{{ status.release.id }}-beta"
    release: "{{ status.release }}"
    ring: beta
    verdict: "{{ status.verdict }}"
    reason: "{{ status.reason }}"
    devices: "{{ status.devices }}"
"""

RETURN = r"""
report:
  description: The report as it stands on disk (in check mode, would stand).
  returned: success
  type: dict
path:
  description: Path of C(report.json).
  returned: success
  type: str
"""

import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import release_report as sources


class Report:
    """The report's folder and what should be in it."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        # with a slash at its end it would have no name that `latest` can point to
        self.folder = os.path.normpath(params["dest"])
        self.path = os.path.join(self.folder, "report.json")

    def wanted(self, old: dict[str, Any] | None) -> dict[str, Any]:
        """The report as it should read; what an earlier run published and tested is kept."""
        p = self.params
        _check(p["release"], p["devices"])
        release, before = p["release"], old or {}
        tests = sources.ui_tests(p["ui_tests"]) if p["ui_tests"] else {}
        if not tests.get("tests"):
            tests = before.get("ui_tests", tests)
        return {
            "schema": sources.SCHEMA,
            "release": release["id"],
            "version": release["version"],
            "commit": release.get("commit", before.get("commit", "")),
            "ring": p["ring"],
            "verdict": p["verdict"],
            "reason": p["reason"],
            "ui_tests": tests,
            "published": sorted({*before.get("published", []), *p["published"]}),
            "devices": p["devices"],
            "telemetry": sources.telemetry(p["telemetry_db"], release["id"], p["ring"]),
            "steps": p["steps"] or before.get("steps", []),
            "generated_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }

    def present(self) -> dict[str, Any] | None:
        try:
            with open(self.path, encoding="utf-8") as source:
                found = json.load(source)
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("schema") == sources.SCHEMA else None

    def latest_is_this(self) -> bool:
        latest = os.path.join(os.path.dirname(self.folder), "latest")
        return os.path.islink(latest) and os.readlink(latest) == os.path.basename(self.folder)

    def write(self, report: dict[str, Any]) -> None:
        os.makedirs(self.folder, exist_ok=True)
        self._copy_tests()
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False, encoding="utf-8") as out:
            json.dump(report, out, indent=1, sort_keys=True)
            out.write("\n")
        os.chmod(out.name, 0o644)
        os.replace(out.name, self.path)

    def point_latest(self) -> None:
        latest = os.path.join(os.path.dirname(self.folder), "latest")
        temporary = f"{latest}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.basename(self.folder), temporary)
        os.replace(temporary, latest)

    def _copy_tests(self) -> None:
        source = self.params["ui_tests"]
        if source and os.path.exists(os.path.join(source, "junit.xml")):
            shutil.copyfile(os.path.join(source, "junit.xml"), os.path.join(self.folder, "junit.xml"))
            shots = os.path.join(source, "screenshots")
            if os.path.isdir(shots):
                shutil.copytree(shots, os.path.join(self.folder, "screenshots"), dirs_exist_ok=True)


def _check(release: dict[str, Any], devices: list[dict[str, Any]]) -> None:
    wanted = [("release", release, ("id", "version")), *(("devices", row, ("id", "state")) for row in devices)]
    for option, given, names in wanted:
        if missing := [name for name in names if name not in given]:
            raise sources.ReportError(
                f"{option} lacks {' and '.join(missing)}: give what iotops.fleet.release_status_info returned"
            )


def _told(report: dict[str, Any] | None) -> dict[str, Any]:
    if report is None:
        return {}
    return {
        "verdict": report["verdict"],
        "devices": {row["id"]: row["state"] for row in report["devices"]},
        "crashes": report["telemetry"]["crashes"]["count"],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "dest": {"type": "path", "required": True},
            "release": {"type": "dict", "required": True},
            "ring": {"type": "str", "required": True},
            "verdict": {"type": "str", "choices": ["go", "wait", "stop"], "required": True},
            "reason": {"type": "str", "required": True},
            "devices": {"type": "list", "elements": "dict", "required": True},
            "ui_tests": {"type": "path"},
            "telemetry_db": {"type": "path"},
            "published": {"type": "list", "elements": "str", "default": []},
            "steps": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    report = Report(module.params)
    try:
        old = report.present()
        new = report.wanted(old)
        differs = not sources.same(old, new)
        changed = differs or not report.latest_is_this()
        if differs and not module.check_mode:
            report.write(new)
        if changed and not module.check_mode:
            report.point_latest()
    except sources.ReportError as exc:
        module.fail_json(msg=f"report {report.folder}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"report {report.folder}: {exc.filename}: {exc.strerror}")
    module.exit_json(
        changed=changed,
        report=new if differs else old,
        path=report.path,
        diff={"before": _told(old), "after": _told(new)} if changed else {},
    )


if __name__ == "__main__":
    main()
