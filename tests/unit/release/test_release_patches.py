# SPDX-License-Identifier: GPL-3.0-or-later
"""Patches from earlier releases: made once, listed in a document that is signed, and never for nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive

if TYPE_CHECKING:
    from conftest import Run

# nothing that zstd makes small by itself
BASE = random.Random(1).randbytes(20_000)


class Shop:
    """A repository with releases, and the build of the next one."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.build, self.repository = folder / "build", folder / "repository"
        self.dest = self.build / "patches.json"

    def release(self, version: str, text: bytes, form: str = "archive", place: str = "build") -> Path:
        """Build a release whose app is BASE and `text`; the path of its manifest."""
        source = self.folder / "source" / version
        source.mkdir(parents=True)
        (source / "a.bin").write_bytes(BASE + text)
        dest = self.build if place == "build" else self.repository / "targets"
        layer = self.run("app_layer", name="app", src=str(source), dest=str(dest), format=form)["layer"]
        path = self.build / version / "manifest.json"
        if place != "build":
            path = dest / "beta" / version / f"{'0' * 64}.manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": version, "layers": [layer]}))
        return path

    def patch(self, manifest: Path, *, check: bool = False, **other: Any) -> dict[str, Any]:
        options = {
            "manifest": str(manifest), "ring": "beta", "build": str(self.build), "repository": str(self.repository),
            "dest": str(self.dest), "level": 3, **other,
        }  # fmt: skip
        return self.run("release_patches", check=check, **options)


@pytest.fixture
def shop(run: Run, tmp_path: Path) -> Shop:
    return Shop(run, tmp_path)


@pytest.mark.parametrize("form", ["archive", "files"])
def test_each_patch_is_listed_is_there_and_is_small(shop: Shop, form: str) -> None:
    shop.release("1.0", b"one", form, "repository")
    shop.release("1.1", b"two", form, "repository")
    result = shop.patch(shop.release("1.2", b"three", form))
    assert result["changed"]
    assert len(result["patches"]) == 2
    assert len({patch["from"] for patch in result["patches"]}) == 2
    for patch in result["patches"]:
        path = shop.build / patch["path"]
        assert layer_archive.sha256_file(path) == patch["sha256"]
        assert path.stat().st_size == patch["length"] < len(BASE) / 10
    assert result["objects"] == sorted(patch["path"] for patch in result["patches"])
    assert json.loads(shop.dest.read_text())["patches"] == result["patches"]


def test_a_second_run_changes_nothing_and_makes_nothing_again(shop: Shop) -> None:
    shop.release("1.0", b"one", place="repository")
    manifest = shop.release("1.1", b"two")
    made = shop.patch(manifest)
    patch = shop.build / made["objects"][0]
    written = patch.stat().st_mtime_ns
    again = shop.patch(manifest)
    assert (again["changed"], again["diff"], again["patches"]) == (False, {}, made["patches"])
    assert patch.stat().st_mtime_ns == written


def test_a_patch_that_was_lost_is_made_again(shop: Shop) -> None:
    shop.release("1.0", b"one", place="repository")
    manifest = shop.release("1.1", b"two")
    patch = shop.build / shop.patch(manifest)["objects"][0]
    patch.unlink()
    shop.patch(manifest)
    assert patch.exists()


def test_check_mode_says_changed_and_makes_nothing(shop: Shop) -> None:
    shop.release("1.0", b"one", place="repository")
    manifest = shop.release("1.1", b"two")
    result = shop.patch(manifest, check=True)
    assert (result["changed"], result["patches"]) == (True, [])
    assert not shop.dest.exists()
    assert not (shop.build / "patches").exists()
    shop.patch(manifest)
    assert not shop.patch(manifest, check=True)["changed"]


def test_the_diff_shows_the_document(shop: Shop) -> None:
    manifest = shop.release("1.1", b"two")
    assert shop.patch(manifest)["diff"] == {"before": "", "after": '{"patches":[],"schema":1}'}
    shop.release("1.0", b"one", place="repository")
    diff = shop.patch(manifest)["diff"]
    assert diff["before"] == '{"patches":[],"schema":1}'
    assert '"from":' in diff["after"]


def test_only_the_newest_releases_before_it_are_patched_from(shop: Shop) -> None:
    for version in ("1.9", "1.10", "1.8", "1.12"):
        shop.release(version, version.encode(), place="repository")
    manifest = shop.release("1.11", b"next")
    one = shop.patch(manifest, releases=1)["patches"]
    newest = json.loads(next((shop.repository / "targets/beta/1.10").iterdir()).read_text())
    assert [patch["from"] for patch in one] == [newest["layers"][0]["content_sha256"]]
    assert shop.patch(manifest, releases=0)["patches"] == []
    assert len(shop.patch(manifest, releases=9)["patches"]) == 3


def test_no_patch_is_made_that_a_device_could_not_hold_or_that_saves_nothing(shop: Shop) -> None:
    shop.release("1.0", b"one", place="repository")
    manifest = shop.release("1.1", b"two")
    assert shop.patch(manifest, memory_max=len(BASE))["patches"] == []
    shop.release("1.2", random.Random(2).randbytes(200_000), place="repository")
    other = shop.release("1.3", random.Random(3).randbytes(200_000))
    for _run in range(2):  # that it is not worth it is remembered
        assert shop.patch(other, releases=1)["patches"] == []


def test_a_version_that_is_published_keeps_its_document(shop: Shop) -> None:
    manifest = shop.release("1.1", b"two")
    kept = shop.repository / "targets/beta/1.1" / f"{'1' * 64}.patches.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"schema":1,"patches":[{"path":"patches/ab/abc.zst"}]}')
    result = shop.patch(manifest)
    assert result["objects"] == ["patches/ab/abc.zst"]
    assert shop.dest.read_text() == kept.read_text()


@pytest.mark.parametrize("text", ["no json", "{}", "[1]", '{"version": "1"}', '{"version": "1", "layers": [1]}'])
def test_what_is_no_manifest_is_one_sentence(shop: Shop, text: str) -> None:
    shop.release("0.9", b"one", place="repository")
    path = shop.folder / "manifest.json"
    path.write_text(text)
    result = shop.patch(path)
    assert result["failed"]
    assert result["msg"].startswith(f"patches for ring beta: {path} or the repository cannot be read: ")
    assert not shop.dest.exists()


def test_a_manifest_that_is_missing_is_named(shop: Shop) -> None:
    assert "none/manifest.json" in shop.patch(shop.folder / "none/manifest.json")["msg"]


def test_an_earlier_layer_that_is_not_here_is_named_with_what_to_do(shop: Shop) -> None:
    old = json.loads(shop.release("1.0", b"one", place="repository").read_text())["layers"][0]["path"]
    (shop.repository / "targets" / old).unlink()
    result = shop.patch(shop.release("1.1", b"two"))
    assert result["msg"].startswith(f"patches for ring beta: {old} is neither in {shop.build} nor in ")
    assert "fetch the repository's objects" in result["msg"]


def test_a_damaged_layer_is_named(shop: Shop) -> None:
    old = json.loads(shop.release("1.0", b"one", place="repository").read_text())["layers"][0]["path"]
    (shop.repository / "targets" / old).write_bytes(b"damaged")
    result = shop.patch(shop.release("1.1", b"two"))
    assert result["msg"].startswith(f"patches for ring beta: {shop.repository / 'targets' / old}: ")


def test_another_form_or_another_platform_is_not_patched_from(shop: Shop) -> None:
    shop.release("1.0", b"one", "files", "repository")
    assert shop.patch(shop.release("1.1", b"two"))["patches"] == []
