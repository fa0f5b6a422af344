# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's real main() in this process."""

from __future__ import annotations

import importlib
import json
from typing import Any, Protocol

import pytest
from ansible.module_utils.testing import patch_module_args


class Run(Protocol):
    """`run("app_layer", check=True, name="app", ...)` returns the module's result."""

    def __call__(self, module: str, *, check: bool = False, **options: Any) -> dict[str, Any]: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def play(module: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        main = importlib.import_module(f"ansible_collections.iotops.fleet.plugins.modules.{module}").main
        capsys.readouterr()
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        out = capsys.readouterr().out
        assert "Traceback" not in out
        result: dict[str, Any] = json.loads(out)
        return result

    return play
