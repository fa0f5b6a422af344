# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin: `@pytest.mark.only_on("container", ...)` asks a test of some of a scenario's containers."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_on(container, ...): the containers that the test is about")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    beside = [item for item in items if not _meant(item)]
    config.hook.pytest_deselected(items=beside)
    items[:] = [item for item in items if item not in beside]


def _meant(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("only_on")
    if mark is None:
        return True
    return item.callspec.params["_testinfra_host"].backend.name in mark.args  # type: ignore[attr-defined]
