# SPDX-License-Identifier: GPL-3.0-or-later
"""The same files give the same layer, wherever and whenever it is built."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


# ---- layers of wheels, fetched by the real pip from a folder ----


class Wheels:
    """A folder of wheels, and a requirements file that pins one of them."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.shelf, self.dest = run, folder / "shelf", folder / "out"
        self.shelf.mkdir()
        self.wheel = self.shelf / "thing-1.0-py3-none-any.whl"
        told = "Metadata-Version: 2.4\nName: thing\nVersion: 1.0\nLicense-Expression: MIT\n"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("thing/__init__.py", "x = 1")
            archive.writestr("thing/huge.so", "y" * 100)
            archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
            archive.writestr("thing-1.0.dist-info/METADATA", told)
        self.requirements = folder / "requirements.txt"
        self.pin(layer_archive.sha256_file(self.wheel))
        self.keep = folder / "keep.txt"
        self.keep.write_text("# what the app imports\nthing/*.py  # all of it\n\n")

    def pin(self, digest: str) -> None:
        self.requirements.write_text(
            f"--no-index\n--find-links {self.shelf}\nthing==1.0 \\\n    --hash=sha256:{digest}\n"
        )

    def build(self, *, check: bool = False, **other: Any) -> dict[str, Any]:
        options = {
            "name": "runtime", "platform": "linux-aarch64", "requirements": str(self.requirements),
            "wheel_platforms": ["manylinux_2_39_aarch64"], "keep_file": str(self.keep), "dest": str(self.dest), **other,
        }  # fmt: skip
        return self.run("app_layer", check=check, **options)


@pytest.fixture
def wheels(run: Run, tmp_path: Path) -> Wheels:
    return Wheels(run, tmp_path)


def test_a_layer_of_wheels_holds_what_is_kept_and_says_what_it_was_made_of(wheels: Wheels) -> None:
    result = wheels.build(format="files")
    (wheel,) = result["wheels"]
    assert (wheel["name"], wheel["version"], wheel["license"]) == ("thing", "1.0", "MIT")
    entries = layer_archive.read_index(wheels.dest / result["layer"]["path"])
    assert [entry["path"] for entry in entries] == ["thing/__init__.py"]
    assert result["layer"]["content_sha256"] == layer_archive.listing_digest(entries)
    assert result["objects"] == [result["layer"]["path"], layer_archive.object_path(entries[0]["object"]["sha256"])]
    for name in result["objects"]:
        assert (wheels.dest / name).exists()


def test_the_same_wheels_are_neither_fetched_nor_built_twice(wheels: Wheels) -> None:
    first = wheels.build()
    wheels.wheel.unlink()  # pip would find nothing
    again = wheels.build()
    assert (again["changed"], again["wheels"]) == (False, first["wheels"])
    wheels.keep.write_text("thing/*\n")
    assert wheels.build(check=True)["changed"]


def test_check_mode_fetches_no_wheel(wheels: Wheels) -> None:
    result = wheels.build(check=True)
    assert (result["changed"], result["wheels"], result["layer"]) == (True, [], {})
    assert not wheels.dest.exists()


def test_a_wheel_with_another_hash_is_refused_and_the_file_that_pins_it_is_named(wheels: Wheels) -> None:
    wheels.pin("0" * 64)
    result = wheels.build()
    assert result["failed"]
    assert result["msg"].startswith(f"layer runtime: {wheels.requirements}: pip could not fetch the wheels: ")
    assert not list(wheels.dest.glob("layers/*"))


def test_wheels_that_do_not_arrive_are_waited_for_no_longer(wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(layer_archive.subprocess, "run", never)
    said = f"layer runtime: {wheels.requirements}: the wheels did not arrive within 900 s"
    assert wheels.build()["msg"] == said


@pytest.mark.parametrize("option", ["requirements", "keep_file"])
def test_a_list_that_is_missing_is_named(wheels: Wheels, tmp_path: Path, option: str) -> None:
    result = wheels.build(**{option: str(tmp_path / "none.txt")})
    assert result["msg"] == f"layer runtime: {tmp_path / 'none.txt'}: No such file or directory"


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "thing.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(layer_archive.LayerError, match=r"thing\.whl: no wheel, 0 METADATA files"):
        layer_archive.describe_wheel(path)


def test_a_source_with_nothing_to_keep_is_an_error(run: Run, tmp_path: Path) -> None:
    source = tree(tmp_path / "src", ["a.py"])
    result = run("app_layer", name="app", src=str(source), dest=str(tmp_path / "out"), keep=["*.qml"])
    assert result["msg"] == f"layer app: {source}: nothing there matches *.qml"


def test_a_place_that_cannot_be_written_is_named_and_nothing_half_done_stays(run: Run, tmp_path: Path) -> None:
    source = tree(tmp_path / "src", ["a.py"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/layers").write_text("a file")
    result = run("app_layer", name="app", src=str(source), dest=str(tmp_path / "out"))
    assert result["failed"]
    assert str(tmp_path / "out") in result["msg"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["layers"]


def test_an_index_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.files.zst"
    layer_archive.write_whole(path, layer_archive._compress(b"[]", 1))
    with pytest.raises(layer_archive.LayerError, match="no index of a layer"):
        layer_archive.read_index(path)
