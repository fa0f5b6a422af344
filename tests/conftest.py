# SPDX-License-Identifier: GPL-3.0-or-later
"""What all test folders share: options."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", choices=["sample", "full"], default="sample", help="how much chaos tests/chaos makes")
