# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository names is found down to the last object; what cannot be read is named, so that nothing is pruned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import release_contents
from ansible_collections.iotops.fleet.plugins.module_utils.release_contents import Unreadable
from update.maker import Maker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    maker = Maker(tmp_path)
    maker.release_of("1", {"app": {"a": b"one"}, "runtime": {"lib": b"x" * 500}})
    return maker.repository


def change(path: Path, **signed: Any) -> None:
    document = json.loads(path.read_text())
    document["signed"] |= signed
    path.write_text(json.dumps(document))


def test_all_that_devices_fetch_is_live_and_a_stray_file_is_not(folder: Path) -> None:
    (folder / "targets/stray").write_text("x")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    live = release_contents.live_names(str(folder))
    assert any(name.startswith("targets/objects/") for name in live)
    assert any(name.startswith("targets/layers/") for name in live)
    assert there - live == {"targets/stray"}


def test_what_waits_for_a_signature_is_live(folder: Path) -> None:
    (folder / "pending").mkdir()
    target = {"beta/2/notes.txt": {"hashes": {"sha256": "ab"}}}
    (folder / "pending/2.beta.json").write_text(json.dumps({"signed": {"targets": target}}))
    assert "targets/beta/2/ab.notes.txt" in release_contents.live_names(str(folder))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"signed": {}}', '{"signed": {"meta": {}}}', '{"signed": {"meta": {"snapshot.json": {}}}}']
)
def test_a_damaged_timestamp_is_named(folder: Path, text: str) -> None:
    (folder / "metadata/timestamp.json").write_text(text)
    with pytest.raises(Unreadable, match=r"timestamp\.json"):
        release_contents.live_names(str(folder))


@pytest.mark.parametrize("meta", [[], {"beta.json": {}}, {"beta.json": 1}, {"gone.json": {"version": 1}}])
def test_a_damaged_snapshot_is_named(folder: Path, meta: Any) -> None:
    newest = json.loads((folder / "metadata/timestamp.json").read_text())["signed"]["meta"]["snapshot.json"]["version"]
    change(folder / f"metadata/{newest}.snapshot.json", meta=meta)
    with pytest.raises(Unreadable, match=r"snapshot\.json|1\.gone\.json"):
        release_contents.live_names(str(folder))


@pytest.mark.parametrize("targets", [[], {"beta/1/x": {}}, {"beta/1/x": {"hashes": {}}}, {"beta/1/x": 1}])
def test_damaged_targets_are_named(folder: Path, targets: Any) -> None:
    for path in (folder / "metadata").glob("*.beta.json"):
        change(path, targets=targets)
    with pytest.raises(Unreadable, match=r"\d\.beta\.json"):
        release_contents.live_names(str(folder))


def test_a_document_that_is_gone_or_no_document_is_named(folder: Path) -> None:
    manifest = next((folder / "targets/beta/1").glob("*.manifest.json"))
    manifest.write_text("[1]")
    with pytest.raises(Unreadable, match="not a manifest"):
        release_contents.live_names(str(folder))
    manifest.unlink()
    with pytest.raises(Unreadable, match=f"{manifest.name}: No such file"):
        release_contents.live_names(str(folder))


def test_a_damaged_index_is_named(folder: Path) -> None:
    index = next((folder / "targets/layers").glob("*.files.zst"))
    index.write_bytes(b"damaged")
    with pytest.raises(Unreadable, match=index.name):
        release_contents.live_names(str(folder))


def test_a_ring_that_was_never_signed_for_is_said_to_have_no_metadata(folder: Path) -> None:
    assert "manifest.json" in release_contents.offered(str(folder), "beta", "1")
    assert release_contents.offered(str(folder), "beta", "9") == {}
    with pytest.raises(Unreadable, match="no metadata of ring gamma"):
        release_contents.offered(str(folder), "gamma", "1")
