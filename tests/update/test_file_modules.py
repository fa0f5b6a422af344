# SPDX-License-Identifier: GPL-3.0-or-later
"""file_publish and file_fetch as a playbook calls them, with the servers that people run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from unit.release.conftest import run  # noqa: F401 - a fixture
from update.maker import Maker
from update.served import Server

if TYPE_CHECKING:
    from unit.release.conftest import Run

KINDS = ("folder", "ftp", "ftps", "vsftpd", "sftp")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Desk:
    """A repository to publish, a server, and a machine that fetches it back."""

    def __init__(self, play: Run, maker: Maker, server: Server, folder: Path) -> None:
        self.play, self.maker, self.server = play, maker, server
        self.second = folder / "second"
        login = server.login
        self.options = {
            "url": login.url, "username": login.username, "password": login.password, "ca_file": login.ca_file,
            "host_key": login.host_key, "private_key": login.private_key,
        }  # fmt: skip
        maker.release_of("1", {"app": {"a": b"one"}, "runtime": {"lib": b"x" * 500}})

    @property
    def root(self) -> Path:
        return self.maker.repository / "metadata/1.root.json"

    def publish(self, *, check: bool = False, **other: Any) -> dict[str, Any]:
        return self._run("file_publish", check, {"src": str(self.maker.repository), **other})

    def fetch(self, *, check: bool = False, **other: Any) -> dict[str, Any]:
        return self._run("file_fetch", check, {"dest": str(self.second), "root": str(self.root), **other})

    def _run(self, module: str, check: bool, options: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in {**self.options, **options}.items() if value is not None}
        return self.play(module, check=check, **given)


@pytest.fixture
def desk(request: pytest.FixtureRequest, maker: Maker, tmp_path: Path) -> Desk:
    """By a folder, unless the test names other servers (indirect parameter)."""
    server = Server(getattr(request, "param", "folder"), tmp_path / "served", request)
    return Desk(request.getfixturevalue("run"), maker, server, tmp_path)


@pytest.mark.parametrize("desk", KINDS, indirect=True)
def test_what_is_published_comes_back_on_another_machine_and_the_second_time_nothing_moves(desk: Desk) -> None:
    there = files(desk.maker.repository)
    first = desk.publish()
    assert first["changed"]
    assert sorted(first["uploaded"]) == sorted(there)
    assert first["uploaded"][-1] == "metadata/timestamp.json"
    assert files(desk.server.folder) == there
    again = desk.publish(verify=True)
    assert (again["changed"], again["uploaded"], again["removed"], again["diff"]) == (False, [], [], {})
    assert again["present"] == len(there)
    fetched = desk.fetch(objects=True)
    assert fetched["changed"]
    assert files(desk.second) == there
    again = desk.fetch(objects=True)
    assert (again["changed"], again["fetched"], again["removed"], again["diff"]) == (False, [], [], {})


@pytest.mark.parametrize("desk", ["folder", "ftps", "sftp"], indirect=True)
def test_check_mode_says_what_would_move_and_moves_nothing(desk: Desk) -> None:
    would = desk.publish(check=True)
    assert would["changed"]
    assert files(desk.server.folder) == {}
    assert would["uploaded"] == desk.publish()["uploaded"]
    would = desk.fetch(check=True)
    assert would["changed"]
    assert not desk.second.exists()
    assert would["fetched"] == desk.fetch()["fetched"]


def test_the_diff_lists_what_comes_and_what_goes(desk: Desk) -> None:
    waiting = desk.maker.repository / "pending/2.fleet.json"
    waiting.parent.mkdir()
    waiting.write_text('{"signed": {"targets": {}}, "signatures": []}')
    assert "pending/2.fleet.json\n" in desk.publish()["diff"]["after"]
    assert "pending/2.fleet.json\n" in desk.fetch()["diff"]["after"]
    waiting.unlink()
    assert desk.publish()["diff"] == {"before": "pending/2.fleet.json\n", "after": ""}
    result = desk.fetch()
    assert (result["removed"], result["diff"]) == (
        ["pending/2.fleet.json"], {"before": "pending/2.fleet.json\n", "after": ""},
    )  # fmt: skip
    assert not (desk.second / "pending/2.fleet.json").exists()


def test_a_file_that_the_server_spoiled_is_found_only_when_it_is_read_back(desk: Desk) -> None:
    desk.publish()
    name = next(name for name in files(desk.server.folder) if name.startswith("targets/layers/"))
    path = desk.server.folder / name
    path.write_bytes(b"?" * path.stat().st_size)
    assert not desk.publish()["changed"]
    assert desk.publish(verify=True)["uploaded"] == [name]
    assert path.read_bytes() == (desk.maker.repository / name).read_bytes()


def test_what_nothing_names_goes_after_its_hours_and_not_when_nobody_knows_what_is_live(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.publish()
    stray = desk.server.lay("targets/stray", b"x")
    os.utime(stray, (time.time() - 7200, time.time() - 7200))
    assert not desk.publish(prune_after=0)["changed"]
    assert not desk.publish(prune_after=3)["changed"]
    result = desk.publish(prune_after=1, check=True)
    assert (result["removed"], result["diff"]["before"]) == (["targets/stray"], "targets/stray\n")
    assert stray.exists()
    assert desk.publish(prune_after=1)["removed"] == ["targets/stray"]
    assert not stray.exists()
    manifest = next((desk.maker.repository / "targets/beta/1").glob("*.manifest.json"))
    manifest.write_bytes(b"?" * manifest.stat().st_size)
    warned: list[str] = []
    # ansible-core keeps warnings for as long as the process lives, which here is that of all tests
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: warned.append(text))
    desk.publish()
    assert [text.partition(": ")[0] for text in warned] == ["nothing was pruned, since it is not known what is live"]


def test_what_is_newer_here_is_not_overwritten(desk: Desk) -> None:
    desk.publish()
    desk.fetch()
    desk.server.lay("metadata/timestamp.json", b"")
    before = files(desk.second)
    result = desk.fetch()
    assert (result["ahead"], result["changed"], result["fetched"]) == (True, False, [])
    assert files(desk.second) == before


def test_a_machine_that_is_behind_may_not_publish(desk: Desk) -> None:
    desk.publish()
    desk.fetch(objects=True)
    desk.maker.release("2")
    desk.publish()
    result = desk.publish(src=str(desk.second))
    assert result["failed"]
    assert "someone else published meanwhile" in result["msg"]
    assert "file_fetch" in result["msg"]


def test_a_folder_that_is_no_repository_is_named(desk: Desk, tmp_path: Path) -> None:
    result = desk.publish(src=str(tmp_path / "none"))
    assert result["failed"]
    assert f"{tmp_path / 'none'} is no update repository: it has no metadata/timestamp.json" in result["msg"]


def test_without_a_trusted_root_nothing_is_fetched(desk: Desk, tmp_path: Path) -> None:
    desk.publish()
    said = "is missing: name the root metadata that you trust (option root)"
    assert f"{desk.second}/metadata/1.root.json {said}" in desk.fetch(root=None)["msg"]
    assert f"{tmp_path}/none.json {said}" in desk.fetch(root=f"{tmp_path}/none.json")["msg"]
    (tmp_path / "other.json").write_text("{}")
    assert "the trusted root is no root metadata" in desk.fetch(root=f"{tmp_path}/other.json")["msg"]
    assert not desk.second.exists()


def test_what_is_not_signed_as_it_must_be_is_not_fetched(desk: Desk) -> None:
    desk.publish()
    path = desk.server.folder / "metadata/1.targets.json"
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version":1'))
    result = desk.fetch()
    assert result["failed"]
    assert "what the server has is not signed as it must be" in result["msg"]
    assert not desk.second.exists()


def test_a_place_on_this_machine_that_cannot_be_written_is_not_blamed_on_the_server(desk: Desk, tmp_path: Path) -> None:
    desk.publish()
    (tmp_path / "file").write_text("a file")
    result = desk.fetch(dest=f"{tmp_path}/file/second")
    assert result["failed"]
    assert f"{tmp_path}/file" in result["msg"]
    assert result["msg"].endswith(": Not a directory")
    assert "reachable" not in result["msg"]


@pytest.mark.parametrize("module", ["publish", "fetch"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "http://localhost/fridge"}, "url: 'http' is not one of ftp, ftps, sftp, file"),
        ({"url": "ftp://localhost:port/fridge"}, "url: ftp://localhost:port/fridge: "),
        ({"url": "ftp://localhost:1/fridge"}, "file server ftp://localhost:1/fridge: "),
        ({"url": "ftps://localhost:1/fridge", "ca_file": "/none.pem"}, "ca_file: /none.pem: No such file or directory"),
        ({"url": "sftp://localhost:1/fridge"}, "sftp needs host_key, the server's public key line"),
        ({"url": "sftp://localhost:1/fridge", "host_key": "rubbish"}, "host_key: no public key line"),
        ({"url": "sftp://localhost:1/fridge", "host_key": "ssh-ed25519 AAAA?"}, "host_key: no public key line"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_sentence_that_says_what_to_look_at(
    desk: Desk, module: str, options: dict[str, Any], said: str
) -> None:
    result: dict[str, Any] = getattr(desk, module)(**options)
    assert result["failed"]
    assert said in result["msg"]
    assert result["msg"].count("\n") == 0


@pytest.mark.parametrize("desk", ["ftp", "ftps"], indirect=True)
def test_a_wrong_password_is_said_to_be_one_and_is_not_shown(desk: Desk) -> None:
    result = desk.publish(password="swordfish")
    assert result["msg"].endswith("; check username and password")
    assert "swordfish" not in str(result)


@pytest.mark.parametrize("desk", ["ftps"], indirect=True)
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(desk: Desk) -> None:
    result = desk.publish(ca_file=None)
    assert "its certificate is not trusted" in result["msg"]
    assert result["msg"].endswith("; check ca_file")
    assert files(desk.server.folder) == {}


@pytest.mark.parametrize("desk", ["sftp"], indirect=True)
def test_a_private_key_that_is_missing_or_none_is_named(desk: Desk, tmp_path: Path) -> None:
    result = desk.publish(private_key=f"{tmp_path}/none")
    assert f"{tmp_path}/none: No such file or directory" in result["msg"]
    (tmp_path / "other").write_text("no key")
    result = desk.publish(private_key=f"{tmp_path}/other")
    assert f"private_key: {tmp_path}/other" in result["msg"]
