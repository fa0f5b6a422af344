# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that has nothing goes on where others stopped, and believes the server no more than a device does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import publishing, repository_fetch
from ansible_collections.iotops.fleet.plugins.module_utils import tuf_repository as tuf
from ansible_collections.iotops.fleet.plugins.module_utils.file_server import Login, connect
from update.maker import PASSPHRASE, RINGS, Maker


class Company:
    """A maker, a server, and a second machine."""

    def __init__(self, maker: Maker, folder: Path) -> None:
        self.maker, self.second = maker, folder / "second"
        self.login = Login((folder / "served").as_uri())
        self.served = folder / "served"
        self.ahead = False

    def release(self, version: str, **more: object) -> None:
        content = {"app": {"a": version.encode()}, "runtime": {"lib": b"x" * 500 + version.encode()}}
        self.maker.release_of(version, content, **more)  # type: ignore[arg-type]
        self.publish(self.maker.repository)

    def publish(self, repository: Path) -> None:
        with connect(self.login) as line:
            publishing.upload(str(repository), line, publishing.plan(str(repository), line))

    def fetch(self, objects: bool = False) -> list[str]:
        root = (self.maker.repository / "metadata/1.root.json").read_bytes()
        with connect(self.login) as line:
            published = repository_fetch.Published(line, root)
            todo = published.plan(self.second)
            self.ahead = todo.ahead
            if todo.ahead:
                return []
            repository_fetch.write(todo, self.second)
            brought = list(todo.files)
            for name in published.objects(self.second) if objects else ():
                published.bring_object(name, self.second)
                brought.append(name)
        return brought


@pytest.fixture
def company(maker: Maker, tmp_path: Path) -> Company:
    made = Company(maker, tmp_path)
    made.release("1")
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_comes_back_and_the_second_time_nothing(company: Company) -> None:
    company.release("2")
    brought = company.fetch(objects=True)
    assert brought[brought.index("metadata/timestamp.json") - 1].endswith("snapshot.json")
    live = publishing.live_names(str(company.maker.repository))
    assert {name: data for name, data in files(company.maker.repository).items() if name in live} == files(
        company.second
    )
    assert company.fetch(objects=True) == []


def test_a_new_machine_releases_on_from_there(company: Company) -> None:
    company.fetch(objects=True)
    shutil.rmtree(company.maker.repository)
    shutil.copytree(company.second, company.maker.repository)
    company.release("2")
    assert "metadata/timestamp.json" in company.fetch()


def test_a_second_person_signs_on_a_machine_of_their_own(company: Company) -> None:
    def keys(name: str) -> tuf.KeyStore:
        folder = company.maker.folder / f"stick-{name}"
        folder.mkdir(exist_ok=True)
        for key in (name, "snapshot", "timestamp"):
            shutil.copy(company.maker.folder / "keys" / f"{key}.pem", folder)
        return tuf.KeyStore(folder, PASSPHRASE)

    first = tuf.Repository(company.maker.repository, keys("fleet-1"), tuf.Wanted(RINGS))
    first.ensure_target("fleet", "fleet/1/manifest.json", b"{}")
    first.write()
    company.publish(company.maker.repository)
    company.fetch()
    second = tuf.Repository(company.second, keys("fleet-2"), tuf.Wanted(RINGS))
    second.ensure_signed(["fleet"])
    second.write()
    assert second.pending() == []
    company.publish(company.second)
    assert not list((company.served / "pending").iterdir())


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/1.beta.json", "metadata/1.targets.json"])
def test_what_is_not_signed_is_not_brought(company: Company, name: str) -> None:
    path = company.served / name
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version":1'))
    with pytest.raises(repository_fetch.Untrusted):
        company.fetch()
    assert not company.second.exists()


def test_a_document_with_other_bytes_is_not_brought(company: Company) -> None:
    next((company.served / "targets/beta/1").glob("*.manifest.json")).write_bytes(b'{"layers": []}')
    with pytest.raises(repository_fetch.Untrusted, match="other bytes than were signed"):
        company.fetch()


def test_an_object_with_other_bytes_is_not_brought(company: Company) -> None:
    next((company.served / "targets/objects").rglob("*.zst")).write_bytes(b"x")
    with pytest.raises(repository_fetch.Untrusted, match="not what its name says"):
        company.fetch(objects=True)


def test_what_is_here_and_not_yet_published_is_not_overwritten(company: Company) -> None:
    company.fetch()
    wanted = tuf.Wanted(RINGS)
    keys = tuf.KeyStore(company.maker.folder / "keys", PASSPHRASE)
    ahead = tuf.Repository(company.second, keys, wanted)
    ahead.ensure_target("beta", "beta/9/manifest.json", b"{}")
    ahead.write()
    before = files(company.second)
    assert company.fetch() == []
    assert company.ahead
    assert files(company.second) == before
    company.publish(company.second)
    assert company.fetch() == []
    assert not company.ahead


def test_a_server_that_lost_everything_is_not_taken_for_the_truth(company: Company) -> None:
    company.fetch()
    shutil.rmtree(company.served)
    company.served.mkdir()
    before = files(company.second)
    assert company.fetch() == []
    assert company.ahead
    assert files(company.second) == before


def test_rotated_roots_are_followed_from_the_first(company: Company) -> None:
    wanted = replace(tuf.Wanted(RINGS), root_keys=("root-1", "root-3"))
    keys = tuf.KeyStore(company.maker.folder / "keys", PASSPHRASE)
    repository = tuf.Repository(company.maker.repository, keys, wanted)
    repository.ensure_keys(create=True, check=False)
    repository.ensure_roles()
    repository.write()
    company.publish(company.maker.repository)
    assert "metadata/2.root.json" in company.fetch()
