# SPDX-License-Identifier: GPL-3.0-or-later
"""The medium of a first release: whole for its platform, no more, the same bytes each time; the agent flashes it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive
from fridge_agent import cli

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A release with an app (archive), and a runtime (files) for two platforms."""
    folder, layers = tmp_path / "build", []
    for name, platform in (("app", "any"), ("runtime", "linux-x86_64"), ("runtime", "linux-aarch64")):
        source = tmp_path / "source" / f"{name}-{platform}"
        (source / "lib").mkdir(parents=True)
        (source / "lib/one.py").write_text(f"{name} for {platform}")
        (source / "two.py").write_text("the same everywhere")
        files = layer_archive.collect_tree(source, [], [])
        if name == "runtime":
            layers.append(layer_archive.build_files(name, platform, files, "", folder, 3)[0])
        else:
            layers.append(layer_archive.build(name, platform, files, "", folder, 3))
    manifest = {
        "schema": 2, "id": "1-g0", "version": "1", "compatible": ["fridge-panel"], "minimum_agent": "0.1.0",
        "layers": [layer.to_dict() for layer in layers],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def options(build: Path, dest: Path, platform: str = "linux-x86_64") -> dict[str, Any]:
    return {
        "manifest": str(build / "manifest.json"), "objects": str(build), "platform": platform, "dest": str(dest),
    }  # fmt: skip


def test_a_device_installs_from_it_and_needs_nothing_else(run: Run, build: Path, tmp_path: Path) -> None:
    medium, unpacked = tmp_path / "medium.tar", tmp_path / "unpacked"
    result = run("release_medium", **options(build, medium))
    assert result["changed"]
    with tarfile.open(medium) as tar:
        names = tar.getnames()
        for member in tar:
            target = unpacked / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            target.write_bytes(source.read())
    assert result["files"] == len(names)
    there = [path for path in build.rglob("*") if path.is_file()]
    assert len(names) < len(there), "the other platform's files are not on it"
    status = cli.main(
        ["flash", f"--manifest={unpacked}/manifest.json", f"--objects={unpacked}", f"--base={tmp_path}/opt",
         "--platform=linux-x86_64"]
    )  # fmt: skip
    assert status == 0
    assert (tmp_path / "opt/current/runtime/lib/one.py").read_text() == "runtime for linux-x86_64"


def test_the_same_release_gives_the_same_bytes_and_no_change(run: Run, build: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    run("release_medium", **options(build, one))
    run("release_medium", **options(build, two))
    assert one.read_bytes() == two.read_bytes()
    assert not run("release_medium", **options(build, one))["changed"]
    one.write_bytes(b"damaged")
    assert run("release_medium", **options(build, one))["changed"]
    assert one.read_bytes() == two.read_bytes()
    assert not list(tmp_path.glob(".medium-*"))


def test_check_mode_tells_the_difference_and_writes_nothing(run: Run, build: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out/medium.tar"
    assert run("release_medium", check=True, **options(build, dest))["changed"]
    assert not dest.parent.exists()
    run("release_medium", **options(build, dest))
    assert not run("release_medium", check=True, **options(build, dest))["changed"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda build: next((build / "objects").rglob("*.zst")).unlink(), "lacks objects/"),
        (lambda build: next((build / "layers").glob("*.files.zst")).unlink(), "lacks layers/"),
        (lambda build: (build / "manifest.json").write_text("[]"), "is no manifest"),
        (lambda build: (build / "manifest.json").unlink(), "No such file"),
    ],
)
def test_what_is_not_whole_is_told_and_nothing_is_made(
    run: Run, build: Path, tmp_path: Path, spoil: Any, told: str
) -> None:
    for _ in range(2):  # of two platforms' files, one is ours
        if (build / "manifest.json").exists():
            spoil(build)
    result = run("release_medium", **options(build, tmp_path / "medium.tar"))
    assert result["failed"]
    assert told in result["msg"]
    assert not (tmp_path / "medium.tar").exists()


def test_a_platform_that_the_release_is_not_for_is_told(run: Run, build: Path, tmp_path: Path) -> None:
    result = run("release_medium", **options(build, tmp_path / "medium.tar", "linux-riscv64"))
    assert "has no layer for linux-riscv64, only for any, linux-aarch64, linux-x86_64" in result["msg"]
