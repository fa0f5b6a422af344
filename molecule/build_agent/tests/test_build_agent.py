# SPDX-License-Identifier: GPL-3.0-or-later
"""How a vendor's agent is enrolled and run, and what a job may not do.

The agent is a stand-in (stand_in/): its config.sh writes down how it was called, its run.sh runs files as jobs. Nothing
here says that a vendor's own program works so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from services import assert_sandboxed, exposure, main_pid, within

UNIT, USER = "build-agent", "build-agent"
# what `systemd-analyze security` said when this was written
EXPOSURE_MAX = 1.5
GITHUB, AZURE = "iotops-build-agent-github", "iotops-build-agent-azure"
AGENT, WORK = "/var/lib/build-agent/agent", "/var/lib/build-agent/work"


@pytest.fixture
def job(host: Any) -> Callable[[str], tuple[int, str]]:
    """Gives the agent something to do: (exit status, what it said)."""

    def run(script: str) -> tuple[int, str]:
        name = f"{WORK}/{hashlib.sha256(script.encode()).hexdigest()[:12]}"
        host.check_output(f"rm -f {name}.status && cat > {name}.new <<'JOB'\n{script}\nJOB\n")
        host.check_output(f"chown {USER}: {name}.new && mv {name}.new {name}.job")
        assert within(30, lambda: host.file(f"{name}.status").exists)
        return int(host.file(f"{name}.status").content_string), host.file(f"{name}.out").content_string

    return run


@pytest.mark.only_on(GITHUB)
def test_a_runner_is_enrolled_as_github_wants_it(host: Any) -> None:
    assert host.file(f"{AGENT}/called").content_string.split("\n")[:-1] == [
        "--unattended", "--replace", "--url=https://github.com/example/fleet", "--name=builder-1", "--labels=iotops",
        f"--work={WORK}",
    ]  # fmt: skip


@pytest.mark.only_on(AZURE)
def test_an_agent_is_enrolled_as_azure_wants_it(host: Any) -> None:
    assert host.file(f"{AGENT}/called").content_string.split("\n")[:-1] == [
        "--unattended", "--acceptTeeEula", "--replace", "--url=https://dev.azure.com/example", "--auth=pat",
        "--agent=builder-1", "--pool=fleet", f"--work={WORK}",
    ]  # fmt: skip


def test_the_token_is_handed_over_and_kept_nowhere(host: Any) -> None:
    assert host.file(f"{AGENT}/called-by").content_string.strip() == USER
    expected = hashlib.sha256(b"bW9sZWN1bGU").hexdigest()
    assert host.file(f"{AGENT}/called-with-token").content_string.strip() == expected
    assert host.run("grep -r bW9sZWN1bGU /etc /var/lib/build-agent /opt/build-agent /root").stdout == ""
    assert "bW9sZWN1bGU" not in host.check_output("journalctl --no-pager")


def test_a_job_builds(host: Any, job: Callable[[str], tuple[int, str]]) -> None:
    status, said = job("git init -q repo && python3 -m venv --without-pip venv && echo $HOME && id -un && umask")
    assert (status, said.split()) == (0, ["/var/lib/build-agent", USER, "0077"])


@pytest.mark.parametrize(
    "path", ["/etc/evil", "/usr/local/bin/evil", "/opt/build-agent/evil", "/root/evil", "/home/evil"]
)
def test_a_job_writes_nothing_of_the_machine(host: Any, job: Callable[[str], tuple[int, str]], path: str) -> None:
    status, said = job(f"touch {path}")
    assert status != 0
    assert "Read-only file system" in said or "Permission denied" in said
    assert not host.file(path).exists


def test_a_job_becomes_nobody_else_and_sees_nobody_else(host: Any, job: Callable[[str], tuple[int, str]]) -> None:
    assert job("sudo -n id")[0] != 0
    assert job("unshare --user --map-root-user id")[0] != 0
    assert job("cp /bin/true mine && chmod u+s mine")[0] != 0
    status, said = job("cat /proc/1/cmdline")
    assert status != 0, said


def test_the_agent_runs_as_its_user_in_its_sandbox(host: Any) -> None:
    assert host.service(UNIT).is_enabled
    assert host.check_output(f"ps -o user= -p {main_pid(host, UNIT)}").strip() == USER
    assert_sandboxed(host, UNIT)
    assert exposure(host, UNIT) <= EXPOSURE_MAX


def test_a_killed_agent_comes_back(host: Any) -> None:
    before = main_pid(host, UNIT)
    host.check_output(f"kill -9 {before}")
    assert within(40, lambda: main_pid(host, UNIT) not in ("0", before))
