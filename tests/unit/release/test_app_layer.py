# SPDX-License-Identifier: GPL-3.0-or-later
"""The same files give the same layer, wherever and whenever it is built."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive

if TYPE_CHECKING:
    from conftest import Run


def tree(folder: Path, names: list[str], text: str = "x") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} {text}")
    return folder


def test_order_time_and_folder_do_not_matter_and_a_byte_does(run: Run, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", ["b/c.py", "a.py", "z.qml"])
    two = tree(tmp_path / "elsewhere/two", ["z.qml", "a.py", "b/c.py"])
    for path in two.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    first = run("app_layer", name="app", src=str(one), dest=str(tmp_path / "out1"))
    second = run("app_layer", name="app", src=str(two), dest=str(tmp_path / "out2"))
    assert first["layer"] == second["layer"]
    (two / "a.py").write_text("another")
    third = run("app_layer", name="app", src=str(two), dest=str(tmp_path / "out2"))
    assert third["changed"]
    assert third["layer"]["sha256"] != first["layer"]["sha256"]


def test_the_object_on_disk_is_what_the_description_says(run: Run, tmp_path: Path) -> None:
    source = tree(tmp_path / "src", ["a.py"])
    layer = run("app_layer", name="app", src=str(source), dest=str(tmp_path / "out"))["layer"]
    path = tmp_path / "out" / layer["path"]
    assert layer_archive.sha256_file(path) == layer["sha256"]
    assert path.stat().st_size == layer["length"]


def test_a_second_build_changes_nothing_and_a_damaged_one_is_made_anew(run: Run, tmp_path: Path) -> None:
    options = {"name": "app", "src": str(tree(tmp_path / "src", ["a.py"])), "dest": str(tmp_path / "out")}
    layer = run("app_layer", **options)["layer"]
    assert not run("app_layer", **options)["changed"]
    (tmp_path / "out" / layer["path"]).write_bytes(b"damaged")
    assert run("app_layer", **options)["changed"]
    assert layer_archive.sha256_file(tmp_path / "out" / layer["path"]) == layer["sha256"]


def test_check_mode_tells_the_difference_and_builds_nothing(run: Run, tmp_path: Path) -> None:
    source = tree(tmp_path / "src", ["a.py"])
    result = run("app_layer", check=True, name="app", src=str(source), dest=str(tmp_path / "out"))
    assert result["changed"]
    assert result["diff"]["before"] != result["diff"]["after"]
    assert not (tmp_path / "out").exists()


def test_exclude_and_keep_choose_files(tmp_path: Path) -> None:
    source = tree(tmp_path, ["a.py", "a.pyc", "b/__pycache__/c.pyc", "b/c.qml"])
    assert sorted(layer_archive.collect_tree(source, [], ["*.pyc"])) == ["a.py", "b/c.qml"]
    assert sorted(layer_archive.collect_tree(source, ["*.qml"], [])) == ["b/c.qml"]


def test_a_link_in_the_source_is_refused(run: Run, tmp_path: Path) -> None:
    source = tree(tmp_path / "src", ["a.py"])
    (source / "b.py").symlink_to("/etc/passwd")
    result = run("app_layer", name="app", src=str(source), dest=str(tmp_path / "out"))
    assert result["failed"]
    assert "b.py" in result["msg"]


def test_a_missing_source_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("app_layer", name="app", src=str(tmp_path / "none"), dest=str(tmp_path / "out"))
    assert result["msg"] == f"layer app: {tmp_path / 'none'}: no such folder"


def test_wheels_are_trimmed_and_a_pattern_without_a_file_is_an_error(tmp_path: Path) -> None:
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/__init__.py", "x = 1")
        archive.writestr("thing/huge.so", "y" * 100)
    files = layer_archive.unpack_wheels([wheel], ["thing/*.py"], tmp_path / "one")
    assert list(files) == ["thing/__init__.py"]
    with pytest.raises(layer_archive.LayerError, match="thing/gone"):
        layer_archive.unpack_wheels([wheel], ["thing/*.py", "thing/gone*"], tmp_path / "two")
