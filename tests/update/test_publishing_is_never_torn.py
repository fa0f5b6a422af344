# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is killed while signing or uploading leaves a repository that a device can read: whole, old or new."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import publishing, tuf_repository
from ansible_collections.iotops.fleet.plugins.module_utils.file_server import FileServerError, Login, connect
from fridge_agent.config import Config, Server
from fridge_agent.errors import FileMissing
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import PASSPHRASE, RINGS, Maker

Device = Callable[..., Config]


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


def login(url: str, certificate: Path | None = None, **more: Any) -> Login:
    return Login(url, "publisher", "secret", str(certificate) if certificate else None, **more)


def publish(maker: Maker, to: Login) -> publishing.Plan:
    with connect(to) as server:
        todo = publishing.plan(str(maker.repository), server)
        publishing.upload(str(maker.repository), server, todo)
    return todo


def readable(root: Path, folder: Path, state: Path, version: str) -> bool:
    """Whether a device that starts from the image finds `version` there; any other refusal is a failure."""
    trusted = TrustedRepository(for_server(Server(folder.as_uri(), root=root)), root, state)
    try:
        manifest = json.loads(trusted.manifest(f"beta/{version}/manifest.json", "beta"))
    except FileMissing:
        return False
    return all((folder / "targets" / layer["path"]).exists() for layer in manifest["layers"])


@pytest.mark.parametrize("kind", ["file", "ftp", "ftps"])
def test_everything_arrives_and_a_second_upload_sends_nothing(
    kind: str, maker: Maker, tmp_path: Path, ftp_server: Callable[..., str], certificate: tuple[Path, Path]
) -> None:
    maker.release("1")
    folder = tmp_path / "server"
    url = folder.as_uri() if kind == "file" else ftp_server(folder, tls=kind == "ftps")
    first = publish(maker, login(url, certificate[1]))
    assert first.upload[-1] == "metadata/timestamp.json"
    local = {path.relative_to(maker.repository) for path in maker.repository.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == local
    second = publish(maker, login(url, certificate[1]))
    assert (second.upload, second.present) == ([], len(first.upload))


def test_targets_go_before_what_names_them(maker: Maker, tmp_path: Path) -> None:
    maker.release("1")
    order = publish(maker, login((tmp_path / "server").as_uri())).upload
    for earlier, later in (("targets/", "metadata/"), (".beta.json", ".snapshot.json"), (".targets.json", ".snapshot")):
        assert (
            max(i for i, name in enumerate(order) if earlier in name and "metadata/" not in earlier)
            < min(i for i, name in enumerate(order) if later in name)
            or earlier == ".targets.json"
        )


def test_an_upload_killed_at_any_point_leaves_old_or_new_and_the_next_one_finishes(
    maker: Maker, device: Device, tmp_path: Path
) -> None:
    maker.release("1")
    root = device().server.root
    folder = tmp_path / "server"
    publish(maker, login(folder.as_uri()))
    maker.release("2")
    with connect(login(folder.as_uri())) as server:
        steps = len(publishing.plan(str(maker.repository), server).upload)
    assert steps > 4
    for step in range(steps + 1):
        with connect(login(folder.as_uri())) as server:
            todo = publishing.plan(str(maker.repository), server)
            publishing.upload(str(maker.repository), server, publishing.Plan(todo.upload[:1]))
        leftover = folder / "metadata" / "_upload-9.beta.json"
        leftover.write_bytes(b"half")
        assert readable(root, folder, tmp_path / f"state{step}", "1")
    assert readable(root, folder, tmp_path / "state-new", "2")
    assert publish(maker, login(folder.as_uri())).leftovers == ["metadata/_upload-9.beta.json"]
    assert not leftover.exists()


def test_a_signing_run_killed_at_any_write_is_mended_by_the_next(
    maker: Maker, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.release("1")
    root = device().server.root
    real = tuf_repository._write_atomically
    for kill_at in range(8):
        left = kill_at

        def dying(path: Path, data: bytes) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            real(path, data)

        version = str(10 + kill_at)
        with monkeypatch.context() as patch:
            patch.setattr(tuf_repository, "_write_atomically", dying)
            try:
                maker.release(version)
            except Killed:
                assert readable(root, maker.repository, tmp_path / f"killed{kill_at}", "1")
        maker.release(version)
        assert readable(root, maker.repository, tmp_path / f"mended{kill_at}", version)


def test_someone_elses_newer_metadata_is_not_overwritten(maker: Maker, tmp_path: Path) -> None:
    maker.release("1")
    folder = tmp_path / "server"
    publish(maker, login(folder.as_uri()))
    maker.release("2")
    newest = max((maker.repository / "metadata").glob("*.beta.json"))
    (folder / "metadata" / newest.name).write_bytes(newest.read_bytes() + b" ")
    with pytest.raises(FileServerError, match="someone else published"):
        publish(maker, login(folder.as_uri()))


def test_a_wrong_password_is_told_without_it(maker: Maker, tmp_path: Path, ftp_server: Callable[..., str]) -> None:
    maker.release("1")
    wrong = Login(ftp_server(tmp_path / "server", tls=False), "publisher", "not-the-secret")
    with pytest.raises(FileServerError, match="check username and password") as told:
        publish(maker, wrong)
    assert "not-the-secret" not in str(told.value)


def test_an_untrusted_certificate_is_told(maker: Maker, tmp_path: Path, ftp_server: Callable[..., str]) -> None:
    maker.release("1")
    with pytest.raises(FileServerError, match="not trusted"):
        publish(maker, login(ftp_server(tmp_path / "server")))


# ---- the repository itself -----------------------------------------------------


def test_a_published_version_never_gets_other_bytes(maker: Maker) -> None:
    maker.release("1")
    with pytest.raises(tuf_repository.RepositoryFault, match="published already with other bytes"):
        maker.release("1", text="other")


def test_nothing_new_means_nothing_signed(maker: Maker) -> None:
    maker.release("1")
    assert not maker.open().dirty


def test_keys_are_private_and_open_with_their_passphrase_only(maker: Maker) -> None:
    maker.release("1")
    for path in (maker.folder / "keys").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"ENCRYPTED" in path.read_bytes()
    keys = tuf_repository.KeyStore(maker.folder / "keys", "wrong")
    with pytest.raises(tuf_repository.RepositoryFault, match="does not open") as told:
        keys.signer("beta-1")
    assert "wrong" not in str(told.value)


def test_the_fleet_is_signed_by_two_and_beta_by_one(maker: Maker) -> None:
    maker.release("1")
    maker.release("1", ring="fleet")
    folder = maker.repository / "metadata"
    assert len(json.loads(max(folder.glob("*.beta.json")).read_bytes())["signatures"]) == 1
    assert len(json.loads(max(folder.glob("*.fleet.json")).read_bytes())["signatures"]) == 2


@pytest.mark.parametrize(("days", "renewed"), [(1, []), (10, ["timestamp"]), (25, ["snapshot", "timestamp"])])
def test_signatures_are_renewed_in_the_last_third_of_their_life(maker: Maker, days: int, renewed: list[str]) -> None:
    maker.release("1")
    later = datetime.now(UTC) + timedelta(days=days)
    keys = tuf_repository.KeyStore(maker.folder / "keys", PASSPHRASE)
    repository = tuf_repository.Repository(maker.repository, keys, tuf_repository.Wanted(RINGS), now=later)
    repository.ensure_roles()
    assert repository.changed == renewed
