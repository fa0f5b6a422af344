# SPDX-License-Identifier: GPL-3.0-or-later
"""A maker of fridges for tests: real keys, a real repository, tiny releases."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive, layer_patches, tuf_repository

RINGS = (tuf_repository.Ring("beta", ("beta-1",), 1), tuf_repository.Ring("fleet", ("fleet-1", "fleet-2"), 2))
PASSPHRASE = "tests only"


@dataclass
class Maker:
    """A maker of fridges with keys, a repository and a way to build tiny releases."""

    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def open(self, **changes: Any) -> tuf_repository.Repository:
        keys = tuf_repository.KeyStore(self.folder / "keys", PASSPHRASE)
        wanted = replace(tuf_repository.Wanted(RINGS), **changes)
        repository = tuf_repository.Repository(self.repository, keys, wanted)
        repository.ensure_keys(create=True, check=False)
        repository.ensure_roles()
        return repository

    def release(self, version: str, ring: str = "beta", text: str = "", **manifest: Any) -> str:
        """Build, sign and write release `version`; returns its TUF target path."""
        layers = [self.layer(name, f"{name} {text or version}") for name in ("app", "runtime")]
        data = {
            "schema": 1, "id": f"{version}-g0", "version": version, "compatible": ["fridge-panel"],
            "minimum_agent": "0.1.0", "layers": [layer.to_dict() for layer in layers], **manifest,
        }  # fmt: skip
        path = f"{ring}/{version}/manifest.json"
        repository = self.open()
        repository.ensure_target(ring, path, json.dumps(data, sort_keys=True).encode())
        for layer in layers:
            repository.ensure_object(self.folder / "build" / layer.path, layer.path)
        repository.write()
        return path

    def release_of(
        self, version: str, layers: dict[str, dict[str, bytes]], ring: str = "beta", patches_from: int = 3, **more: Any
    ) -> str:
        """Release `layers` (name -> path -> bytes; `runtime` as files, others as archives) with patches; its target.

        `more` goes into the manifest, but for `custom`, which the ring's people sign beside it.
        """
        build, custom = self.folder / "build", more.pop("custom", None)
        built = [self._built(name, files, build) for name, files in layers.items()]
        data = {
            "schema": 2, "id": f"{version}-g0", "version": version, "compatible": ["fridge-panel"],
            "minimum_agent": "0.1.0", "layers": [layer.to_dict() for layer, _ in built], **more,
        }  # fmt: skip
        repository = self.open()
        source = layer_patches.Patches(data, ring, build, self.repository, patches_from)
        made = [patch for step in source.steps(1 << 26) if (patch := source.make(step, 19))]
        for path in {path for _, paths in built for path in paths} | {patch.path for patch in made}:
            repository.ensure_object(build / path, path)
        manifest = f"{ring}/{version}/manifest.json"
        signed = {"custom": custom} if custom else {}
        repository.ensure_target(ring, manifest, json.dumps(data, sort_keys=True).encode(), **signed)
        repository.ensure_target(ring, f"{ring}/{version}/patches.json", source.document(made))
        repository.write()
        return manifest

    def _built(self, name: str, files: dict[str, bytes], build: Path) -> tuple[layer_archive.Layer, list[str]]:
        source = self.folder / "source-of" / name
        shutil.rmtree(source, ignore_errors=True)
        for path, data in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
            (source / path).chmod(0o755 if path.endswith(".sh") else 0o644)
        found = layer_archive.collect_tree(source, [], [])
        if name == "runtime":
            layer, objects = layer_archive.build_files(name, "any", found, "", build, 3)
            return layer, [layer.path, *objects]
        layer = layer_archive.build(name, "any", found, "", build, 3)
        return layer, [layer.path]

    def layer(self, name: str, text: str) -> layer_archive.Layer:
        source = self.folder / "source" / name
        (source / "fridge").mkdir(parents=True, exist_ok=True)
        (source / "fridge" / f"{name}.txt").write_text(text)
        files = layer_archive.collect_tree(source, [], [])
        return layer_archive.build(name, "any", files, "", self.folder / "build", 3)
