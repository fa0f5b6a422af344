# SPDX-License-Identifier: GPL-3.0-or-later
"""Chaos at two sizes: a sample in every `make test`, everything with `--chaos=full` (`make chaos-update`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.device import Life, Plan, live
from chaos.factory import Factory
from fridge_agent.config import Config

COUNTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(COUNTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(COUNTS, [])
    if lines:
        terminalreporter.section("chaos: what was survived")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Says a count in the summary at the end."""
    return pytestconfig.stash[COUNTS].append


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("chaos") == "full")


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(tmp_path_factory.mktemp("factory"))


class Kitchens:
    """Copies of one device that runs release 1, each with its own end."""

    def __init__(self, factory: Factory, folder: Path) -> None:
        self.factory = factory
        self._folder = folder
        self._pattern = folder / "pattern"
        life = live(self.config(self._pattern), Plan(("1",), folder / "acknowledged"))
        assert life.status == 0
        assert factory.version_on(self.config(self._pattern)) == "1"

    def config(self, base: Path, url: str = "") -> Config:
        base.mkdir(parents=True, exist_ok=True)
        return self.factory.config(base, url)

    def another(self, url: str = "") -> Config:
        """A fresh copy, with links and hard links as they are."""
        base = self._folder / "kitchen"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(self._pattern, base, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
        return self.config(base, url)

    def ends_well(self, config: Config, goal: str, acknowledged: Path) -> Life:
        """Let it live on undisturbed and see it arrive."""
        life = self.ends(config, goal, acknowledged)
        assert self.factory.version_on(config) == goal
        return life

    def ends(self, config: Config, goal: str, acknowledged: Path) -> Life:
        """Let it live on undisturbed until its update has an end."""
        life = live(config, Plan((goal,), acknowledged))
        assert life.status == 0, (config.paths.base.parent / "device.log").read_text()[-2000:]
        return life


@pytest.fixture
def kitchens(factory: Factory, tmp_path: Path) -> Kitchens:
    return Kitchens(factory, tmp_path)
