# SPDX-License-Identifier: Apache-2.0
"""Whatever comes from outside is understood or refused with the declared error, whole or in single bytes.

A short look in every run; for hours with `pytest local_hub/tests/fuzz --hypothesis-profile=fuzz`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_hub.core.policy import OWNER
from local_hub.hub.hub import Hub

KEY = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="


class Bench:
    """A hub without sockets on a loop of its own; nothing on that loop may fail unseen."""

    def __init__(self, folder: Path) -> None:
        self.key = KEY
        self._loop = asyncio.new_event_loop()
        self.failures: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        self.hub = self.run(self._start(folder))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.hub.close())
        self._loop.close()

    async def _start(self, folder: Path) -> Hub:
        def failed(error: Exception) -> None:
            raise AssertionError(error)

        hub = Hub(folder / "hub.sqlite", {OWNER: KEY}, frozenset({"localhost"}), failed)
        hub.start()
        authentication = {"symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
        await hub.registry.put("one", {"authentication": authentication}, None)
        return hub


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()
