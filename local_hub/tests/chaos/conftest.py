# SPDX-License-Identifier: Apache-2.0
"""kill -9 and power cuts of the hub: a few rounds in every run, `--rounds N` for more; the counts come at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_hub.tests.chaos.hub_process import HubProcess

COUNTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(COUNTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(COUNTS, [])
    if lines:
        terminalreporter.section("chaos: what the hub was asked and kept")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Says a line in the summary at the end."""
    return pytestconfig.stash.setdefault(COUNTS, []).append


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("rounds"))


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    given = pytestconfig.getoption("seed")
    return random.SystemRandom().randrange(1_000_000) if given is None else int(given)


@pytest.fixture
def hub(tmp_path: Path, seed: int) -> Iterator[HubProcess]:
    """Not started."""
    process = HubProcess(tmp_path / "hub", seed)
    yield process
    process.close()
