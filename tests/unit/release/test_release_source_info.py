# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release a checkout makes, on real Git repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    for number in (1, 2, 3):
        (folder / "app.py").write_text(f"version {number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", f"Change {number}")
    return folder


def test_the_version_counts_commits_and_the_id_names_the_commit(run: Run, checkout: Path) -> None:
    release = run("release_source_info", path=str(checkout), base_version="2.5.0")["release"]
    assert release["version"] == "2.5.3"
    assert release["id"] == f"2.5.3-g{git(checkout, 'rev-parse', 'HEAD')[:7]}"
    assert (release["dirty"], release["subject"]) == (False, "Change 3")


def test_a_dirty_tree_is_refused_with_the_files_named(run: Run, checkout: Path) -> None:
    (checkout / "app.py").write_text("hot fix\n")
    result = run("release_source_info", path=str(checkout), base_version="1.0")
    assert result["failed"]
    assert "app.py" in result["msg"]
    assert "release_allow_dirty" in result["msg"]


def test_an_override_releases_what_is_there_under_a_name_of_its_own(run: Run, checkout: Path) -> None:
    versions = set()
    for text in ("hot fix\n", "hotter fix\n"):
        (checkout / "app.py").write_text(text)
        release = run("release_source_info", path=str(checkout), base_version="1.0", allow_dirty=True)["release"]
        assert release["dirty"]
        assert git(checkout, "show", f"{release['tree']}:app.py") == text.strip()
        versions.add(release["version"])
    assert len(versions) == 2
    assert all(version.startswith("1.0.3+dirty.") for version in versions)


def test_untracked_files_are_told_and_never_released(run: Run, checkout: Path) -> None:
    (checkout / "notes.txt").write_text("x")
    result = run("release_source_info", path=str(checkout), base_version="1.0")
    assert result["untracked"] == ["notes.txt"]
    assert not result["release"]["dirty"]


def test_a_shallow_clone_cannot_be_counted(run: Run, checkout: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{checkout}", str(shallow))
    assert "shallow" in run("release_source_info", path=str(shallow), base_version="1.0")["msg"]
    given = run("release_source_info", path=str(shallow), base_version="1.0", version="1.0.3")
    assert given["release"]["version"] == "1.0.3"


def test_no_repository_is_one_sentence(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path) in run("release_source_info", path=str(tmp_path), base_version="1.0")["msg"]
