#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_layer
short_description: Build a deterministic layer of a release
version_added: 0.1.0
description:
  - Builds one layer of a release, a zstd-compressed tar whose bytes depend on its files only, from a folder of
    files or from pinned wheels for any platform, without emulation.
  - The layer's file is named by its hash. A description of it is written beside it, so that the same inputs are
    not built, and wheels not downloaded, twice.
author: The iotops.fleet project (@iotops-fleet)
options:
  name:
    description: Name of the layer, for example V(app) or V(runtime).
    type: str
    required: true
  platform:
    description: Platform that the layer runs on, for example V(linux-aarch64); V(any) for pure Python and data.
    type: str
    default: any
  dest:
    description: Folder that receives C(layers/<sha256>.<name>.tar.zst) and the description.
    type: path
    required: true
  src:
    description: Folder whose files make up the layer. Exactly one of O(src) and O(requirements) is needed.
    type: path
  prefix:
    description: Folder inside the layer that the files of O(src) go below.
    type: str
    default: ""
  requirements:
    description: Requirements file with exact versions and hashes of the wheels that make up the layer.
    type: path
  python_version:
    description: Python version on the device, for wheels.
    type: str
    default: "3.13"
  wheel_platforms:
    description: Platform tags to look for wheels with, most wanted first, for example V(manylinux_2_39_aarch64).
    type: list
    elements: str
    default: []
  cache:
    description: Folder that keeps downloaded wheels. By default C(wheels) below O(dest).
    type: path
  keep:
    description: Globs of the files to keep; all by default. A glob for wheels that matches nothing is an error.
    type: list
    elements: str
    default: []
  keep_file:
    description: File with further globs for O(keep), one a line; C(#) begins a comment.
    type: path
  exclude:
    description: Globs of files of O(src) to leave out.
    type: list
    elements: str
    default: []
  format:
    description:
      - V(archive) makes one compressed tar, which patches best while it is small.
      - V(files) makes an index and an object a file, for a large layer that changes in few files.
    type: str
    choices: [archive, files]
    default: archive
  level:
    description: zstd compression level.
    type: int
    default: 12
attributes:
  check_mode:
    support: full
    description: Compares the inputs with those of the layer that is there, and builds nothing.
  diff_mode:
    support: full
    description: Shows the digest of the inputs before and after.
  idempotent:
    support: full
    description: The same inputs change nothing.
"""

EXAMPLES = r"""
- name: Build the app's layer from the exported commit
  iotops.fleet.app_layer:
    name: app
    src: "{{ build_dir }}/source/fridge"
    prefix: fridge
    exclude: ["*.pyc"]
    dest: "{{ build_dir }}"

- name: Build the Qt layer for the Raspberry Pi, on any machine
  iotops.fleet.app_layer:
    name: runtime
    platform: linux-aarch64
    requirements: device_app/fridge/runtime-requirements.txt
    wheel_platforms: [manylinux_2_39_aarch64]
    keep_file: device_app/fridge/runtime-keep.txt
    dest: "{{ build_dir }}"
"""

RETURN = r"""
layer:
  description: The layer as a release's manifest names it. Empty in check mode when it is not built yet.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the layer.
      type: str
    platform:
      description: Platform of the layer.
      type: str
    sha256:
      description: Hash of the compressed object.
      type: str
    length:
      description: Bytes of the compressed object.
      type: int
    content_sha256:
      description: Hash of the tar in it.
      type: str
    unpacked:
      description: Bytes of the tar.
      type: int
    path:
      description: Path of the object below O(dest) and below C(targets/) on the file server.
      type: str
    format:
      description: As O(format).
      type: str
wheels:
  description: The wheels that the layer was made from, for a bill of materials.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      type: str
    version:
      description: Version of the package.
      type: str
    license:
      description: Licence that the package states, an SPDX expression where it is careful.
      type: str
    file:
      description: File name of the wheel.
      type: str
    sha256:
      description: Hash of the wheel.
      type: str
objects:
  description: Paths below O(dest) of everything that the file server needs for this layer.
  returned: success
  type: list
  elements: str
"""

import json
import tempfile
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils import layer_archive as archive

try:
    from backports import zstd  # noqa: F401 - used by layer_archive  # pylint: disable=unused-import

    ZSTD_ERROR = None
except ImportError:
    ZSTD_ERROR = traceback.format_exc()


class LayerBuild:
    """One layer: what it would be made from, what is there, and making it."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.dest = Path(params["dest"])
        self.record = self.dest / f"{params['name']}-{params['platform']}.json"
        self.keep = [*params["keep"], *self._listed(params["keep_file"])]

    @staticmethod
    def _listed(path: str | None) -> list[str]:
        if not path:
            return []
        lines = (line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line]

    def wanted(self) -> str:
        """Digest of the inputs."""
        p = self.params
        if p["requirements"]:
            tags = [p["python_version"], *p["wheel_platforms"]]
            pinned = Path(p["requirements"]).read_bytes()
            return archive.wheel_digest(p["name"], p["platform"], p["level"], pinned, self.keep, tags, p["format"])
        files = archive.collect_tree(Path(p["src"]), self.keep, p["exclude"])
        return archive.inputs_digest(p["name"], p["platform"], p["prefix"], p["level"], files, p["format"])

    def present(self) -> dict[str, Any]:
        """The record of the layer that is there and whole, or {}."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            # an object's own name holds its hash, and a layer's too
            whole = "wheels" in record and all(
                archive.sha256_file(self.dest / path) in path for path in record["objects"]
            )
        except (OSError, ValueError, KeyError):
            return {}
        return record if whole else {}

    def build(self, inputs: str) -> dict[str, Any]:
        """Build the layer and record it; the record."""
        p = self.params
        with tempfile.TemporaryDirectory(prefix="layer-") as folder:
            wheels = self._wheels()
            files = self._files(wheels, Path(folder))
            if p["format"] == "files":
                layer, objects = archive.build_files(
                    p["name"], p["platform"], files, p["prefix"], self.dest, p["level"]
                )
            else:
                layer = archive.build(p["name"], p["platform"], files, p["prefix"], self.dest, p["level"])
                objects = []
        record = {
            "inputs": inputs,
            "layer": layer.to_dict(),
            "objects": [layer.path, *objects],
            "wheels": [archive.describe_wheel(wheel) for wheel in wheels],
        }
        archive.write_whole(self.record, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")
        return record

    def _wheels(self) -> list[Path]:
        p = self.params
        if not p["requirements"]:
            return []
        pinned = Path(p["requirements"])
        cache = Path(p["cache"] or self.dest / "wheels") / p["platform"]
        wheels = archive.fetch_wheels(pinned, p["python_version"], p["wheel_platforms"], cache)
        return archive.named_by(pinned, wheels)

    def _files(self, wheels: list[Path], folder: Path) -> dict[str, Path]:
        p = self.params
        if not p["requirements"]:
            return archive.collect_tree(Path(p["src"]), self.keep, p["exclude"])
        return archive.unpack_wheels(wheels, self.keep or ["*"], folder)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "platform": {"type": "str", "default": "any"},
            "dest": {"type": "path", "required": True},
            "src": {"type": "path"},
            "prefix": {"type": "str", "default": ""},
            "requirements": {"type": "path"},
            "python_version": {"type": "str", "default": "3.13"},
            "wheel_platforms": {"type": "list", "elements": "str", "default": []},
            "cache": {"type": "path"},
            "keep": {"type": "list", "elements": "str", "default": []},
            "keep_file": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "format": {"type": "str", "choices": ["archive", "files"], "default": "archive"},
            "level": {"type": "int", "default": 12},
        },
        required_one_of=[("src", "requirements")],
        mutually_exclusive=[("src", "requirements")],
        supports_check_mode=True,
    )
    if ZSTD_ERROR:
        module.fail_json(msg=missing_required_lib("backports.zstd"), exception=ZSTD_ERROR)
    try:
        build = LayerBuild(module.params)
        inputs, present = build.wanted(), build.present()
        changed = present.get("inputs") != inputs
        record = {"layer": {}, "objects": [], "wheels": []} if changed else present
        if changed and not module.check_mode:
            record = build.build(inputs)
    except archive.LayerError as exc:
        module.fail_json(msg=f"layer {module.params['name']}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"layer {module.params['name']}: {exc.filename or module.params['dest']}: {exc.strerror}")
    diff = {"before": f"{present.get('inputs', '')}\n", "after": f"{inputs}\n"}
    told = {key: record[key] for key in ("layer", "objects", "wheels")}
    module.exit_json(changed=changed, diff=diff, **told)


if __name__ == "__main__":
    main()
