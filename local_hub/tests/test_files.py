# SPDX-License-Identifier: Apache-2.0
"""Blobs and their blocks on disk: what is joined, what there is room for, and what is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from local_hub.core.errors import ArgumentInvalid, BlockCountExceedsLimit, MessageTooLarge
from local_hub.hub import files as module
from local_hub.hub.files import STAGED_SECONDS, Files


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Files:
    return Files(tmp_path / "blobs", b"key", cast(Any, None), clock)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def staged(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "blobs" / ".staged").rglob("*") if path.is_file())


async def test_blocks_are_joined_in_the_order_of_the_list(files: Files, tmp_path: Path) -> None:
    for name, data in (("b", b"old"), ("a", b"1"), ("b", b"22"), ("c", b"never")):
        await files.put_block("d/x", name, chunks(data))
    with pytest.raises(ArgumentInvalid):
        await files.commit("d/x", ["a", "z"])
    await files.commit("d/x", ["a", "b", "a"])
    path = files.find("d/x")
    assert path is not None
    assert (path.read_bytes(), staged(tmp_path)) == (b"1221", [])
    with pytest.raises(ArgumentInvalid):
        await files.commit("d/x", ["a"])


async def test_there_is_room_for_so_many_bytes(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STAGED", 10)
    monkeypatch.setattr(module, "MAX_BLOB", 8)
    await files.put_block("d/x", "a", chunks(b"123", b"45"))
    with pytest.raises(MessageTooLarge, match="a blob holds 8 bytes"):
        await files.put_block("d/x", "b", chunks(b"12", b"34"))
    with pytest.raises(MessageTooLarge, match="10 bytes"):
        await files.put_block("d/y", "b", chunks(b"123", b"456"))
    with pytest.raises(MessageTooLarge, match="10 bytes"):
        await files.put("d/z", chunks(b"123456"))
    await files.put_block("d/x", "a", chunks(b"12"))
    await files.put_block("d/y", "b", chunks(b"123", b"45678"))
    await files.commit("d/x", ["a"])
    await files.put("d/z", chunks(b"12"))
    assert staged(tmp_path) == ["b"]


async def test_there_is_room_for_so_many_blocks(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STAGED_BLOCKS", 3)
    monkeypatch.setattr(module, "MAX_BLOCKS", 2)
    for blob, name in (("d/x", "a"), ("d/x", "b"), ("d/y", "a"), ("d/x", "a")):
        await files.put_block(blob, name, chunks(b"1"))
    for blob in ("d/x", "d/y", "d/z"):
        with pytest.raises(BlockCountExceedsLimit):
            await files.put_block(blob, "c", chunks(b"1"))
    await files.commit("d/x", ["a", "b"])
    await files.put_block("d/z", "c", chunks(b"1"))


async def test_blocks_are_forgotten_an_hour_after_the_last_one(files: Files, clock: Clock, tmp_path: Path) -> None:
    await files.put_block("d/old", "a", chunks(b"1"))
    clock.now += STAGED_SECONDS
    await files.sweep()
    await files.put_block("d/new", "b", chunks(b"1"))
    clock.now += 1
    await files.sweep()
    assert staged(tmp_path) == ["b"]
    with pytest.raises(ArgumentInvalid):
        await files.commit("d/old", ["a"])


async def test_what_breaks_off_takes_no_room(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"12345"
        raise TimeoutError

    monkeypatch.setattr(module, "MAX_STAGED", 5)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await files.put_block("d/x", "a", broken())
    await files.put_block("d/x", "a", chunks(b"12345"))
    assert staged(tmp_path) == ["a"]
