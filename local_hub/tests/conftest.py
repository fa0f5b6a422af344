# SPDX-License-Identifier: Apache-2.0
"""What all tests of this folder share."""

from __future__ import annotations

import importlib
import sys

import pytest
from hypothesis import HealthCheck, settings

# pytest's importlib mode names this file local_hub.tests.conftest after its folders, and makes a module `local_hub` of
# the outer folder for that. The package of that name lies one folder deeper: put it in its place.
if not getattr(sys.modules.get("local_hub"), "__file__", None):
    sys.modules.pop("local_hub", None)
    importlib.import_module("local_hub")

# Nothing may depend on how busy the machine is.
settings.register_profile("local_hub", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("local_hub")
# For hours: --hypothesis-profile=fuzz
settings.register_profile("fuzz", settings.get_profile("local_hub"), max_examples=100_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("local hub")
    group.addoption("--rounds", type=int, default=3, help="how often tests/chaos kills the hub, and cuts its power")
    group.addoption("--seed", type=int, default=None, help="the chance of tests/chaos, to see a run again")
    group.addoption("--connections", type=int, default=2000, help="how many hostile connections at once")
