# SPDX-License-Identifier: GPL-3.0-or-later
"""Maker's deltas and device's choice: the cheapest way that works, the same bytes at its end, and whole ones if not."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive, layer_patches
from backports import zstd
from fridge_agent import errors, install, layers, manifest
from fridge_agent.config import Config
from fridge_agent.layers import Account, Stager
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import Maker

Device = Callable[..., Config]


def noise(name: str, size: int = 40_000) -> bytes:
    return random.Random(name).randbytes(size)


class Appliance:
    """A maker whose releases have an app (one tar) and a runtime (files), and a device that follows them."""

    def __init__(self, maker: Maker, config: Config) -> None:
        self.maker, self.config = maker, config
        self.app = {"fridge/main.py": noise("main"), "fridge/other.py": noise("other"), "fridge/run.sh": b"#!/bin/sh\n"}
        self.runtime = {f"qt/lib{n}.so": noise(f"lib{n}") for n in range(5)}

    def release(self, version: str, **signed: Any) -> str:
        return self.maker.release_of(version, {"app": self.app, "runtime": self.runtime}, **signed)

    def follow(self, target: str) -> Account:
        transport = for_server(self.config.server)
        trust = TrustedRepository(transport, self.config.server.root, self.config.paths.state / "tuf")
        signed = trust.release(target, self.config.ring)
        release = manifest.parse(signed.manifest, self.config.platform, self.config.hardware)
        stager = Stager(self.config.paths, transport, lambda: signed.document("patches.json"))
        stager.stage(release)
        install.switch(self.config.paths, release.id)
        self.check()
        return stager.account

    def check(self) -> None:
        """Whatever way was gone, the release on disk is the maker's, byte for byte, mode for mode."""
        release = install.current(self.config.paths)
        assert release is not None
        for name, files in (("app", self.app), ("runtime", self.runtime)):
            root = (release / name).resolve()
            found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
            found.pop(layers.INDEX, None)
            assert {key: path.read_bytes() for key, path in found.items()} == files
            assert all(path.stat().st_mode & 0o777 in (0o644, 0o755) for path in found.values())

    def served(self, kind: str) -> list[Path]:
        return sorted((self.maker.repository / "targets" / kind).rglob("*.zst"))


@pytest.fixture
def appliance(maker: Maker, device: Device) -> Appliance:
    return Appliance(maker, device())


def changed(data: bytes) -> bytes:
    return data[:1000] + b"one line more\n" + data[1000:]


def test_a_first_release_is_fetched_whole(appliance: Appliance) -> None:
    account = appliance.follow(appliance.release("1"))
    assert set(account.fetched) == {"archive", "file", "index"}


def test_a_changed_module_costs_a_patch_and_an_unchanged_runtime_nothing(appliance: Appliance) -> None:
    full = appliance.follow(appliance.release("1")).total
    appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
    account = appliance.follow(appliance.release("2"))
    assert set(account.fetched) == {"patch"}
    assert account.total < full / 100


def test_a_changed_file_of_the_runtime_is_patched_and_the_others_are_linked(appliance: Appliance) -> None:
    appliance.follow(appliance.release("1"))
    appliance.runtime["qt/lib3.so"] = changed(appliance.runtime["qt/lib3.so"])
    appliance.runtime["qt/new.so"] = noise("new")
    del appliance.runtime["qt/lib0.so"]
    account = appliance.follow(appliance.release("2"))
    assert set(account.fetched) == {"index", "patch", "file"}
    assert account.linked == 3
    assert account.fetched["patch"] < 500


def test_a_device_that_was_off_for_releases_takes_a_patch_over_them(appliance: Appliance) -> None:
    appliance.follow(appliance.release("1"))
    for version in ("2", "3", "4"):
        appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
        target = appliance.release(version)
    assert set(appliance.follow(target).fetched) == {"patch"}


def test_a_device_that_was_off_for_longer_fetches_the_whole(appliance: Appliance) -> None:
    appliance.follow(appliance.release("1"))
    for version in ("2", "3", "4", "5"):
        appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
        target = appliance.release(version)
    assert set(appliance.follow(target).fetched) == {"archive"}


@pytest.mark.parametrize("harm", ["gone", "garbled", "short"])
def test_a_patch_that_the_server_spoils_is_replaced_by_the_whole(harm: str, appliance: Appliance) -> None:
    appliance.follow(appliance.release("1"))
    appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
    appliance.runtime["qt/lib3.so"] = changed(appliance.runtime["qt/lib3.so"])
    target = appliance.release("2")
    for patch in appliance.served("patches"):
        data = patch.read_bytes()
        patch.unlink()
        if harm != "gone":
            patch.write_bytes(bytes(reversed(data)) if harm == "garbled" else data[:-5])
    account = appliance.follow(target)
    assert (set(account.fetched), account.fell_back) == ({"index", "archive", "file"}, 2)


def test_a_base_that_rotted_on_the_devices_disk_is_noticed(appliance: Appliance) -> None:
    appliance.follow(appliance.release("1"))
    release = install.current(appliance.config.paths)
    assert release is not None
    for name in ("app/fridge/other.py", "runtime/qt/lib3.so", "runtime/qt/lib1.so"):
        path = release / name
        path.chmod(0o644)
        path.write_bytes(b"rot" + path.read_bytes()[3:])
    appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
    appliance.runtime["qt/lib3.so"] = changed(appliance.runtime["qt/lib3.so"])
    account = appliance.follow(appliance.release("2"))
    assert account.fell_back == 2
    assert account.linked == 3, "lib1 was fetched anew"


def test_a_patch_too_large_for_the_devices_memory_is_not_taken(
    appliance: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    appliance.follow(appliance.release("1"))
    appliance.app["fridge/main.py"] = changed(appliance.app["fridge/main.py"])
    monkeypatch.setattr(layers, "PATCH_MEMORY", 1000)
    assert set(appliance.follow(appliance.release("2")).fetched) == {"archive"}


def test_an_interrupted_layer_of_files_is_continued(appliance: Appliance) -> None:
    target = appliance.release("1")
    last = next(path for path in appliance.served("objects") if zstd.decompress(path.read_bytes()) == noise("lib4"))
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(errors.FileMissing):
        appliance.follow(target)
    for path in appliance.served("objects"):
        path.write_bytes(b"?" * path.stat().st_size)  # what is here already is not fetched again
    last.write_bytes(kept)
    assert appliance.follow(target).fetched["file"] == len(kept)


def test_a_power_cut_in_the_midst_of_cleaning_leaves_no_half_layer_under_a_whole_name(
    appliance: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1", "2", "3"):
        appliance.app["fridge/main.py"] = noise(version)
        appliance.follow(appliance.release(version))
    whole = {path.name for path in appliance.config.paths.layers.iterdir()}

    def cut(path: Path, **_: Any) -> None:
        inner = next((child for child in Path(path).rglob("*") if child.is_file()), None)
        if inner and Path(path).parent.name == "layers":
            inner.unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        install.clean(appliance.config.paths)
    left = {path.name for path in appliance.config.paths.layers.iterdir()}
    assert {name for name in left if not name.startswith(install.UNFINISHED)} < whole
    monkeypatch.undo()
    appliance.app["fridge/main.py"] = noise("1")
    appliance.follow(appliance.release("4"))


def test_the_same_files_give_the_same_index_wherever_and_whenever(maker: Maker, tmp_path: Path) -> None:
    made = []
    for folder in ("one", "elsewhere"):
        source = tmp_path / folder / "src"
        for name in ("b/x", "a"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(noise(name))
        files = layer_archive.collect_tree(source, [], [])
        made.append(layer_archive.build_files("runtime", "any", files, "", tmp_path / folder, 12))
    assert made[0] == made[1]


def test_patches_are_the_same_however_often_they_are_made() -> None:
    old, new = noise("old", 2 << 20), changed(noise("old", 2 << 20))
    assert layer_patches.diff(old, new, 19) == layer_patches.diff(old, new, 19)


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../etc/passwd"}, {"path": "/etc/passwd"}, {"path": ".files.json"}, {"mode": 0o4755}, {"size": -1},
        {"sha256": "../.."}, {"path": "a//b"},
    ],
)  # fmt: skip
def test_an_index_that_reaches_outside_of_its_layer_is_refused(entry: dict[str, Any]) -> None:
    good = {"path": "a", "mode": 0o644, "size": 1, "sha256": "0" * 64, "object": {"sha256": "0" * 64, "length": 1}}
    manifest.read_entries(json.dumps({"files": [good]}).encode())
    with pytest.raises((ValueError, KeyError, TypeError)):
        manifest.read_entries(json.dumps({"files": [good | entry]}).encode())


def test_a_way_back_must_be_signed_as_one(appliance: Appliance) -> None:
    older = manifest.Manifest("1-g0", "0.1.9", False, (), b"")
    with pytest.raises(errors.Downgrade, match="older than"):
        manifest.check_direction(older, "0.1.10", {})
    with pytest.raises(errors.Downgrade):
        manifest.check_direction(older, "0.1.10", {"downgrade": "yes"})
    manifest.check_direction(older, "0.1.10", {"downgrade": True})
    manifest.check_direction(older, "0.1.9", {})
    manifest.check_direction(older, None, {})
