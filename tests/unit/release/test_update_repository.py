# SPDX-License-Identifier: GPL-3.0-or-later
"""A signed repository by the module: what it writes, what it refuses, and that it writes nothing when asked not to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Run

RINGS = [{"name": "beta", "keys": ["beta-1"]}, {"name": "fleet", "keys": ["fleet-1", "fleet-2"], "threshold": 2}]


class Company:
    """A folder of keys and a repository."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder / "repository"
        self.keys = folder / "keys"
        self.manifest = folder / "manifest.json"
        self.manifest.write_text('{"version": "1", "layers": []}')

    def sign(self, *, check: bool = False, **other: Any) -> dict[str, Any]:
        options = {
            "repository": str(self.folder), "keys": [str(self.keys)], "passphrase": "tests only", "rings": RINGS,
            "create_keys": True, **other,
        }  # fmt: skip
        return self.run("update_repository", check=check, **options)

    def offer(self, path: str = "beta/1/manifest.json", src: Path | None = None, **more: Any) -> dict[str, Any]:
        return {"targets": [{"path": path, "src": str(src or self.manifest), **more}]}

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def company(run: Run, tmp_path: Path) -> Company:
    return Company(run, tmp_path)


def test_a_release_is_offered_once_and_again_is_unchanged(company: Company) -> None:
    first = company.sign(**company.offer())
    assert first["changed"]
    assert "metadata/timestamp.json" in first["written"]
    assert set(first["created_keys"]) >= {"root-1", "root-2", "targets", "beta-1", "fleet-1", "fleet-2", "build"}
    assert Path(first["root"]).exists()
    for name in first["written"]:
        assert (company.folder / name).exists(), name
    again = company.sign(**company.offer())
    assert (again["changed"], again["written"], again["created_keys"], again["diff"]) == (False, [], [], {})
    assert again["versions"] == first["versions"]


def test_check_mode_says_what_would_be_written_and_writes_neither_keys_nor_metadata(company: Company) -> None:
    result = company.sign(check=True, **company.offer())
    assert result["changed"]
    assert result["written"]
    assert not company.folder.exists()
    assert not company.keys.exists()
    company.sign()
    before = company.files()
    result = company.sign(check=True, **company.offer())
    assert any(name.endswith("beta.json") for name in result["written"])
    assert company.files() == before


def test_the_diff_shows_which_roles_go_on(company: Company) -> None:
    company.sign()
    diff = company.sign(**company.offer())["diff"]
    assert diff["after"]["versions"]["beta"] == diff["before"]["versions"]["beta"] + 1
    assert diff["after"]["versions"]["fleet"] == diff["before"]["versions"]["fleet"]
    assert any(name.endswith(".manifest.json") for name in diff["after"]["written"])


def test_objects_travel_with_the_manifest(company: Company) -> None:
    layer = company.manifest.with_name("layer")
    layer.write_bytes(b"layer")
    company.sign(objects=[{"path": "layers/ab.app.tar.zst", "src": str(layer)}], **company.offer())
    assert (company.folder / "targets/layers/ab.app.tar.zst").read_bytes() == b"layer"


def test_one_of_two_signers_leaves_it_pending_and_says_whose_is_missing(company: Company) -> None:
    company.sign()
    for name in ("fleet-2.pem",):
        (company.keys / name).unlink()
    result = company.sign(create_keys=False, **company.offer("fleet/1/manifest.json"))
    assert result["pending"] == [
        {"role": "fleet", "version": 2, "signatures": 1, "threshold": 2, "missing": ["fleet-2"]}
    ]
    again = company.sign(create_keys=False, sign=["fleet"])
    assert "fleet version 2 has 1 of 2 signatures" in again["msg"]
    assert "bring one of fleet-2" in again["msg"]


def test_a_published_version_with_other_bytes_is_refused_and_nothing_is_written(company: Company) -> None:
    company.sign(**company.offer())
    company.manifest.write_text('{"version": "1", "layers": [], "another": 1}')
    before = company.files()
    result = company.sign(**company.offer())
    assert result["msg"].startswith(f"update repository {company.folder}: beta/1/manifest.json is published already")
    assert company.files() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rings": [{"name": "beta", "keys": ["beta-1"], "threshold": 2}]}, "ring beta: threshold 2 of 1 keys"),
        ({"rings": [{"name": "beta", "keys": ["a", "a"], "threshold": 2}]}, "ring beta: threshold 2 of 1 keys"),
        ({"rings": [{"name": "beta", "keys": ["a"], "threshold": 0}]}, "ring beta: threshold 0 of 1 keys"),
        ({"root_threshold": 3}, "root: threshold 3 of 2 keys"),
        ({"create_keys": False}, "signing keys missing: "),
        ({"expiry": {"ring": "soon"}}, "expiry: ring: 'soon' is no number of days"),
        ({"expiry": {"ring": None}}, "expiry: ring: None is no number of days"),
    ],
)
def test_what_cannot_be_signed_is_one_sentence(company: Company, options: dict[str, Any], said: str) -> None:
    result = company.sign(**options)
    assert result["failed"]
    assert result["msg"].startswith(f"update repository {company.folder}: {said}")
    assert not company.folder.exists()


def test_a_target_outside_its_ring_and_one_of_no_ring_are_refused(company: Company) -> None:
    company.sign()
    assert "the repository has no ring gamma" in company.sign(**company.offer("gamma/1/manifest.json"))["msg"]
    (company.folder / "metadata/timestamp.json").unlink()
    assert "it is incomplete, restore it from the file server" in company.sign()["msg"]


def test_a_wrong_passphrase_names_the_key(company: Company) -> None:
    company.sign()
    result = company.sign(passphrase="another", **company.offer())
    assert f"the passphrase does not open signing key {company.keys}/" in result["msg"]
    assert "another" not in result["msg"]


def test_a_manifest_that_is_missing_is_named(company: Company) -> None:
    missing = company.manifest.with_name("none.json")
    result = company.sign(**company.offer(src=missing))
    assert result["msg"] == f"update repository: {missing}: No such file or directory"


def test_metadata_that_cannot_be_read_is_said_to_be_so(company: Company) -> None:
    company.sign()
    (company.folder / "metadata/1.root.json").write_text("{")
    assert company.sign()["msg"].startswith(
        f"update repository {company.folder}: the repository in {company.folder} cannot be read: "
    )


def test_going_back_to_it_is_signed_beside_it(company: Company) -> None:
    company.sign(**company.offer(custom={"downgrade": True}))
    newest = max((company.folder / "metadata").glob("*.beta.json"), key=lambda path: int(path.name.split(".")[0]))
    targets = json.loads(newest.read_text())["signed"]["targets"]
    assert targets["beta/1/manifest.json"]["custom"] == {"downgrade": True}
