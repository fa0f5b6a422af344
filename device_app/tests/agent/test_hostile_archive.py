# SPDX-License-Identifier: Apache-2.0
"""A layer's tar is unpacked before its hash is known: whatever is in it, nothing is written outside of its folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from fridge_agent.errors import BadRelease, NotTrusted
from fridge_agent.layers import unpack
from fridge_agent.manifest import Layer


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 4) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size if kind == tarfile.REGTYPE else 0
    return entry


def archive(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for entry in members:
            tar.addfile(entry, io.BytesIO(b"evil"[: entry.size]))
    return out.getvalue()


def layer(data: bytes) -> Layer:
    digest = hashlib.sha256(data).hexdigest()
    return Layer("app", "any", "archive", digest, len(data), digest, len(data), f"layers/{digest}")


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("a/../../outside")],
        [member("/tmp/outside")],
        [member("a", tarfile.SYMTYPE, "../..")],
        [member("a", tarfile.SYMTYPE, "../.."), member("a/outside")],
        [member("a", tarfile.LNKTYPE, "../outside")],
        [member("a", tarfile.CHRTYPE)],
        [member("a", tarfile.FIFOTYPE)],
        [member("a", tarfile.DIRTYPE)],
        [member("a"), member("a")],
        [member("a"), member("a/b")],
        [member(".")],
    ],
    ids=lambda members: " ".join(f"{each.name}:{each.type.decode()}" for each in members),
)
def test_what_is_no_plain_file_below_the_layer_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    layers = tmp_path / "base/layers"
    layers.mkdir(parents=True)
    data = archive(*members)
    with pytest.raises(BadRelease):
        unpack(layers, layer(data), io.BytesIO(data))
    assert not list(tmp_path.rglob("outside*"))
    assert not Path("/tmp/outside").exists()
    assert not (layers / layer(data).content_sha256).exists()


def test_files_keep_their_bytes_and_whether_they_run(tmp_path: Path) -> None:
    plain, program = member("a/b/plain"), member("a/program")
    plain.mode, program.mode = 0o4666, 0o777
    data = archive(plain, program)
    unpack(tmp_path, layer(data), io.BytesIO(data))
    root = tmp_path / layer(data).content_sha256
    found = {
        path.relative_to(root).as_posix(): path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_file()
    }
    assert found == {"a/b/plain": 0o644, "a/program": 0o755}
    assert (root / "a/program").read_bytes() == b"evil"


def test_other_content_than_was_signed_never_gets_its_name(tmp_path: Path) -> None:
    data, other = archive(member("a")), archive(member("b"))
    with pytest.raises(NotTrusted):
        unpack(tmp_path, layer(data), io.BytesIO(other))
    assert not (tmp_path / layer(data).content_sha256).exists()
