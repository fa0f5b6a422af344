# SPDX-License-Identifier: GPL-3.0-or-later
"""A maker of fridges for tests: real keys, a real repository, tiny releases."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive, tuf_repository

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

    def layer(self, name: str, text: str) -> layer_archive.Layer:
        source = self.folder / "source" / name
        (source / "fridge").mkdir(parents=True, exist_ok=True)
        (source / "fridge" / f"{name}.txt").write_text(text)
        files = layer_archive.collect_tree(source, [], [])
        return layer_archive.build(name, "any", files, "", self.folder / "build", 3)
