# SPDX-License-Identifier: GPL-3.0-or-later
"""The maker's story, in order, on one machine: each test goes on where the one before stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BETA = ["fridge-beta-1", "fridge-beta-2", "fridge-beta-3"]


def test_promotion_before_any_release_is_refused(world: World) -> None:
    run = world.play("promote.yml", "-i", "fleet").must(succeed=False)
    assert "Not promoted to fleet: ring beta says wait" in run.text


def test_the_fleet_cannot_be_released_to_from_a_work_tree(world: World) -> None:
    run = world.play("release.yml", "-i", "fleet").must(succeed=False)
    assert "ansible-playbook promote.yml -i fleet" in run.text


def test_a_mistyped_ring_fails(world: World) -> None:
    assert world.play("release.yml", "-i", "btea").status != 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["vault_signing_passphrase="], "The secret vault_signing_passphrase is missing for ring beta"),
        (["iothub_connection_string=HostName=localhost:1;SharedAccessKeyName=x;SharedAccessKey=YWJj"], "localhost:1"),
        (["iothub_connection_string=HostName=localhost:1"], "SharedAccessKey"),
        (["iothub_connection_string="], "No hub: start the local one"),
    ],
)
def test_what_is_missing_or_wrong_is_told_in_a_sentence(world: World, wrong: list[str], words: str) -> None:
    run = world.play("release.yml", "-i", "beta", *(f"-e{word}" for word in wrong)).must(succeed=False)
    assert words in run.text
    assert "Build the release" not in run.text
    assert "Traceback" not in run.text
    assert "YWJj" not in run.text


def test_a_dirty_work_tree_is_not_released(world: World) -> None:
    (world.home / "README.md").write_text("changed")
    try:
        run = world.play("release.yml", "-i", "beta").must(succeed=False)
    finally:
        world.git("checkout", "README.md")
    assert "README.md" in run.text
    assert "release_allow_dirty" in run.text


def test_a_failing_ui_test_lets_nothing_be_published(world: World) -> None:
    before = world.commit(
        "device_app/tests/ui/test_panel.py",
        lambda text: text.replace('assert panel.text("temperature") == "5"', 'assert panel.text("temperature") == "6"'),
        "Expect the wrong temperature",
    )
    run = world.play("release.yml", "-i", "beta").must(succeed=False)
    world.git("reset", "-q", "--hard", before)
    assert "nothing is published" in run.text
    assert "test_it_shows_the_temperature_and_what_is_set" in run.text
    assert world.published() == set()


def test_an_unreachable_file_server_stops_before_anything_is_announced(world: World) -> None:
    run = world.play("release.yml", "-i", "beta", "-e", "file_server_url=ftps://127.0.0.1:1").must(succeed=False)
    assert "file server ftps://127.0.0.1:1" in run.text
    assert "has not been offered any release" in world.play("status.yml", "-i", "beta").must(succeed=False).text


def test_a_release_reaches_the_devices_that_are_on(world: World) -> None:
    world.play("release.yml", "-i", "beta").must()
    report = world.report()
    assert world.states() == dict(zip(BETA, ["succeeded", "succeeded", "pending"], strict=True))
    assert report["verdict"] == "wait"
    assert report["ui_tests"]["failed"] == 0
    assert report["ui_tests"]["passed"] > 10
    assert report["ui_tests"]["screenshots"]
    assert report["published"][0] == "metadata/1.beta.json"
    assert [step["name"] for step in report["steps"]] == ["build", "test", "publish", "announce", "wait"]
    assert "Not promoted" in world.play("promote.yml", "-i", "fleet").must(succeed=False).text


def test_a_hub_killed_meanwhile_loses_nothing_and_the_third_device_catches_up(world: World) -> None:
    os.kill(int(world.supervise("pid", "hub")), signal.SIGKILL)
    world.play("playbooks/local_power.yml", "-e", "power_device=fridge-beta-3", "-e", "power_state=on").must()
    world.play("playbooks/local_panels.yml", "-i", "beta").must()
    assert world.states() == dict.fromkeys(BETA, "succeeded")
    assert world.report()["verdict"] == "go"
    assert {world.running_version(device) for device in BETA} == {world.report()["version"]}


def test_the_same_commit_again_changes_nothing(world: World) -> None:
    run = world.play("release.yml", "-i", "beta").must()
    assert run.changed == 0
    assert "nothing was changed" in run.text
    assert world.play("release.yml", "-i", "beta", "--check", "--diff").must().changed == 0


def test_the_fleet_gets_a_go_only_after_a_second_person_signed_on_a_machine_of_their_own(world: World) -> None:
    person = world.local / "second-person"
    person.mkdir()
    (world.local / "keys/fleet-2.pem").rename(person / "fleet-2.pem")
    run = world.play("promote.yml", "-i", "fleet").must(succeed=False)
    assert "has 1 of 2 signatures and is not offered to any device yet" in run.text
    theirs = {
        "signing_keys": [str(person)],
        "update_repository_dir": str(person / "repository"),
        "update_repository_root": str(world.local / "repository/metadata/1.root.json"),
    }
    run = world.play("sign.yml", "-i", "fleet", "-e", json.dumps(theirs)).must(succeed=False)
    assert "Nothing was signed" in run.text
    signed = world.play("sign.yml", "-i", "fleet", "-e", json.dumps({**theirs, "sign_confirm": "2"})).must()
    assert "it has all its signatures" in signed.text
    world.play("promote.yml", "-i", "fleet").must()
    assert world.states("fleet") == dict.fromkeys(["fridge-fleet-1", "fridge-fleet-2"], "succeeded")


def test_a_crash_comes_home_with_its_release_and_ring(world: World) -> None:
    world.play("playbooks/crash_demo.yml", "-i", "beta").must()
    report = world.report()
    assert report["telemetry"]["crashes"]["count"] == 1
    group = report["telemetry"]["crashes"]["groups"][0]
    assert group["kind"] == "fridge.panel.player.DemonstratedFault"
    assert group["culprit"] == "fridge/panel/player.py:_fault"


def test_a_published_version_never_gets_other_bytes(world: World) -> None:
    version, before = world.report()["version"], world.published()
    back = world.commit(
        "device_app/fridge/fridge/hardware/simulator.py", lambda text: text + "\n# changed\n", "Change the plant"
    )
    run = world.play("release.yml", "-i", "beta", "-e", f"release_version={version}").must(succeed=False)
    world.git("reset", "-q", "--hard", back)
    assert "is published already with other bytes" in run.text
    assert world.published() == before


def test_a_release_that_dies_on_the_devices_is_rolled_back_and_stops(world: World) -> None:
    good = world.report()["version"]
    world.commit(
        "device_app/fridge/fridge/app.py",
        lambda text: text.replace(
            "        self._agent = AgentLink(environment.agent_socket)\n",
            "        self._agent = AgentLink(environment.agent_socket)\n"
            "        if environment.agent_socket:\n"
            '            raise RuntimeError("works on the build machine only")\n',
        ),
        "Break the app on devices only",
    )
    run = world.play("release.yml", "-i", "beta").must(succeed=False)
    report = world.report()
    assert report["verdict"] == "stop"
    lost = [device for device in report["devices"] if device["state"] == "rolled_back"]
    assert "works on the build machine only" in lost[0]["error"]["text"]
    assert "did not keep the release" in run.text
    # the first that falls back stops the release; the others may still be on probation
    deadline = time.monotonic() + 120
    while world.states() != dict.fromkeys(BETA, "rolled_back"):
        assert time.monotonic() < deadline, world.states()
        world.play("status.yml", "-i", "beta").must(succeed=False)
    assert {world.running_version(device) for device in BETA} == {good}
    assert "ring beta says stop" in world.play("promote.yml", "-i", "fleet").must(succeed=False).text
