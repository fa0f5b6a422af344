# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing to, and reading from, the servers that people run: OpenSSH, vsftpd, pyftpdlib, a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import publishing
from ansible_collections.iotops.fleet.plugins.module_utils.file_server import FileServerError, Login, connect
from fridge_agent import errors
from fridge_agent.config import Config
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import Maker
from update.served import Server

if TYPE_CHECKING:
    from conftest import Sftp

Device = Callable[..., Config]
KINDS = ("folder", "ftp", "ftps", "vsftpd", "sftp")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_a_release_arrives_and_a_device_believes_it(server: Server, maker: Maker, device: Device) -> None:
    target = maker.release("1")
    first = server.publish(maker)
    assert files(server.folder) == files(maker.repository)
    assert first.upload[-1] == publishing.LAST
    assert b'"version": "1"' in server.trust(device).manifest(target, "beta")
    again = server.publish(maker, verify=True)
    assert (again.upload, again.removed, again.present) == ([], [], len(first.upload))


@pytest.mark.parametrize("server", ["ftp", "ftps", "vsftpd", "sftp"], indirect=True)
def test_a_killed_upload_of_an_object_is_continued(server: Server, maker: Maker) -> None:
    maker.release_of("1", {"app": {"big": os.urandom(3_000_000)}})
    name = next(name for name in files(maker.repository) if name.startswith("targets/layers/"))
    whole = (maker.repository / name).read_bytes()
    left = server.lay(name.replace("targets/layers/", "targets/layers/_upload-"), whole[:2_000_000])
    todo = server.publish(maker)
    assert todo.begun == {name: 2_000_000}
    assert (server.folder / name).read_bytes() == whole
    assert not left.exists()


@pytest.mark.parametrize("server", ["ftp", "sftp"], indirect=True)
def test_what_a_killed_upload_left_is_not_believed(server: Server, maker: Maker) -> None:
    maker.release("1")
    name = next(name for name in files(maker.repository) if name.startswith("targets/layers/"))
    server.lay(name.replace("targets/layers/", "targets/layers/_upload-"), b"?" * 10)
    with pytest.raises(FileServerError, match="was not its beginning; removed"):
        server.publish(maker)
    server.publish(maker)
    assert (server.folder / name).read_bytes() == (maker.repository / name).read_bytes()


def test_another_host_key_is_told_and_sent_nothing(sftp: Sftp, maker: Maker, device: Device, tmp_path: Path) -> None:
    maker.release("1")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    other = (tmp_path / "other.pub").read_text()
    login = Login(sftp.url(tmp_path / "served"), sftp.user, "", None, other, private_key=str(sftp.key))
    with pytest.raises(FileServerError, match="another host key"), connect(login):
        pass
    config = device(sftp.url(maker.repository), username=sftp.user, key_file=sftp.key, host_key=other)
    with pytest.raises(errors.ServerUnreachable, match="another host key"):
        TrustedRepository(for_server(config.server), config.server.root, tmp_path / "state").refresh()


PUBLISHER = """
    import sys
    from ansible_collections.iotops.fleet.plugins.module_utils import publishing
    from ansible_collections.iotops.fleet.plugins.module_utils.file_server import Login, connect
    source, url, user, password, ca, host_key, key = sys.argv[1:]
    login = Login(url, user, password, ca, host_key or None, private_key=key or None)
    with connect(login) as line:
        publishing.upload(source, line, publishing.plan(source, line), lambda: connect(login), 4)
"""


@pytest.mark.parametrize("server", ["ftp", "vsftpd", "sftp"], indirect=True)
@pytest.mark.timeout(240)
def test_a_publisher_killed_at_any_time_never_tears_what_a_device_reads(
    server: Server, maker: Maker, device: Device, tmp_path: Path
) -> None:
    maker.release_of("1", {"app": {"a": os.urandom(200_000)}})
    server.publish(maker)
    reader = server.trust(device)
    login = server.login
    arguments = [str(maker.repository), login.url, login.username, login.password, login.ca_file or "",
                 login.host_key or "", login.private_key or ""]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "collections")}
    killed, took = 0, 0.0
    for n in range(2, 6):
        maker.release_of(
            str(n), {"app": {"a": os.urandom(200_000)}, "runtime": {f"f{i}": os.urandom(999) for i in range(9)}}
        )
        publisher = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PUBLISHER), *arguments], env=environment, stderr=subprocess.DEVNULL
        )
        began = time.monotonic()
        # the first one goes through, and tells how long they take
        while publisher.poll() is None and (n == 2 or time.monotonic() - began < took * (0.4 + 0.2 * (n - 3))):
            assert reader.manifest("beta/1/manifest.json", "beta")  # never torn, whatever is under way
        if n == 2:
            took = time.monotonic() - began
        elif publisher.poll() is None:
            publisher.send_signal(signal.SIGKILL)
            killed += 1
        publisher.wait()
        assert reader.manifest("beta/1/manifest.json", "beta")
        if n % 2:
            server.publish(maker)
    server.publish(maker)
    assert killed
    assert reader.manifest("beta/5/manifest.json", "beta")
    assert server.publish(maker, verify=True).upload == []


# ---- what is not needed any more ------------------------------------------------------------


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_what_nothing_names_goes_after_its_time_of_grace_and_devices_still_find_the_rest(
    server: Server, maker: Maker, device: Device
) -> None:
    for n in range(1, 9):
        maker.release_of(str(n), {"app": {"a": f"app {n}".encode()}, "runtime": {"f": f"lib {n}".encode() * 100}})
        server.publish(maker)
    server.lay("targets/objects/ab/abcd.zst", b"stray")
    assert server.publish(maker, prune_after=3600.0).prune == [], "devices may still be fetching it"
    before = files(server.folder)
    todo = server.publish(maker, prune_after=3600.0, now=time.time() + 7200)
    assert "targets/objects/ab/abcd.zst" in todo.prune
    gone = before - files(server.folder)
    assert gone == set(todo.prune)
    assert not [name for name in gone if name.endswith("root.json")]
    assert any(name.startswith("targets/layers/") for name in gone)
    for n in range(4, 9):
        assert server.trust(device).manifest(f"beta/{n}/manifest.json", "beta")
    assert publishing.live_names(str(maker.repository)) <= files(server.folder)


def test_where_it_is_not_known_what_is_live_nothing_is_pruned(maker: Maker, tmp_path: Path) -> None:
    maker.release("1")
    login = Login((tmp_path / "served").as_uri())
    with connect(login) as line:
        publishing.upload(str(maker.repository), line, publishing.plan(str(maker.repository), line))
        next((maker.repository / "targets/beta/1").glob("*.manifest.json")).write_bytes(b"{")
        todo = publishing.plan(str(maker.repository), line, prune_after=0.0, now=time.time() + 9e9)
    assert todo.prune == []
    assert "manifest" in todo.prune_refused


def test_a_machine_that_is_behind_does_not_put_its_state_over_a_newer_one(maker: Maker, tmp_path: Path) -> None:
    maker.release("1")
    login = Login((tmp_path / "served").as_uri())
    behind = {path: path.read_bytes() for path in maker.repository.rglob("*") if path.is_file()}
    maker.release("2")
    with connect(login) as line:
        publishing.upload(str(maker.repository), line, publishing.plan(str(maker.repository), line))
        for path in list(maker.repository.rglob("*")):
            if path.is_file() and path not in behind:
                path.unlink()
        (maker.repository / publishing.LAST).write_bytes(behind[maker.repository / publishing.LAST])
        with pytest.raises(FileServerError, match="someone else published"):
            publishing.plan(str(maker.repository), line)


def test_what_waits_for_signatures_travels_along_and_goes_when_it_is_done(maker: Maker, tmp_path: Path) -> None:
    maker.release("1")
    login = Login((tmp_path / "served").as_uri())
    waiting = maker.repository / "pending/2.fleet.json"
    waiting.parent.mkdir()
    for text in ('{"signed": {"targets": {}}, "signatures": [1]}', '{"signed": {"targets": {}}, "signatures": [2]}'):
        waiting.write_text(text)
        with connect(login) as line:
            publishing.upload(str(maker.repository), line, publishing.plan(str(maker.repository), line))
        assert (tmp_path / "served/pending/2.fleet.json").read_text() == text
    waiting.unlink()
    with connect(login) as line:
        todo = publishing.plan(str(maker.repository), line)
        publishing.upload(str(maker.repository), line, todo)
    assert todo.gone == ["pending/2.fleet.json"]
    assert not (tmp_path / "served/pending/2.fleet.json").exists()
