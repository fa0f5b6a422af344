# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as people read it: written and rendered by ansible-playbook, with the page that the project ships."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.iotops.fleet.plugins.module_utils import rollout

JUNIT = """<testsuite>
<testcase classname="ui" name="test_door_opens"/>
<testcase classname="ui" name="test_light_goes_on[&lt;dark&gt;]"><failure message="dark"/></testcase>
</testsuite>"""
RELEASE = {"id": "2-g2", "version": "2", "commit": "0123456789abcdef", "announced_at": None}
ERROR = {"code": "probation", "text": "the app did not start <twice>"}
STEPS = [{"name": "build", "seconds": 30}, {"name": "publish", "seconds": 10.5}]


def row(device: str, connected: str, state: str, **update: t.Any) -> dict[str, t.Any]:
    """A device's row, as release_status_info makes it of a twin."""
    told = {"release": "2-g2", "state": state, "previous": "1", "changed_at": 0, **update}
    twin = {"deviceId": device, "connectionState": connected, "properties": {"reported": {"fridge": {"update": told}}}}
    return rollout.device(twin, RELEASE)


@pytest.fixture
def page(project: Path, tmp_path: Path) -> str:
    """A report of a release that failed, as HTML."""
    (tmp_path / "ui").mkdir()
    (tmp_path / "ui/junit.xml").write_text(JUNIT)
    report = {
        "dest": f"{tmp_path}/reports/2-g2", "release": RELEASE,
        "ring": "beta", "verdict": "stop", "reason": "1 of 2 devices did not keep the release: f2",
        "devices": [row("f1", "Connected", "succeeded"), row("f2", "Disconnected", "rolled_back", error=ERROR)],
        "ui_tests": f"{tmp_path}/ui", "steps": STEPS, "published": ["targets/beta/2/manifest.json"],
    }  # fmt: skip
    source = f"{project}/playbooks/templates/report.html.j2"
    play = {
        "hosts": "localhost", "gather_facts": False,
        "tasks": [
            {"iotops.fleet.release_report": report, "register": "made"},
            {"ansible.builtin.template": {"src": source, "dest": f"{tmp_path}/index.html", "mode": "0644"},
             "vars": {"report": "{{ made.report }}"}},
        ],
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
    ]
    ran = subprocess.run(
        [*command, str(tmp_path / "play.yml")],
        cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return (tmp_path / "index.html").read_text()


def rows(page: str, heading: str) -> list[str]:
    """The rows of a section's table, as text."""
    (section,) = re.findall(rf"<h2>{heading}</h2>(.*?)</section>", page, re.S)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr>(.*?)</tr>", section, re.S)]


def test_the_page_lists_tests_devices_and_the_timeline_and_nothing_can_smuggle_markup_in(page: str) -> None:
    assert rows(page, "UI tests") == ["test_door_opens passed", "test_light_goes_on[&lt;dark&gt;] failed"]
    _head, one, two = rows(page, "Devices")
    assert one == "f1 succeeded 1 2 1970-01-01 00:00:00"
    assert two == "f2 (offline) rolled_back 1 2 probation the app did not start &lt;twice&gt;"
    assert rows(page, "Timeline") == ["build 30 s", "publish 10.5 s"]
    assert '<div class="verdict" style="background: #b3261e">stop</div>' in page
    assert "1 of 2 devices did not keep the release: f2" in page
    assert "<b>1 / 2</b>" in page
    assert "No telemetry store on this machine." in page
    assert "targets/beta/2/manifest.json" in page
