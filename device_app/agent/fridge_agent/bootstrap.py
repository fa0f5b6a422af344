# SPDX-License-Identifier: Apache-2.0
"""Which version of the agent runs: the one in the image, or the one that the current release brings.

A release may have a layer `agent`. The service manager always starts the image's agent; it looks here, and hands over
(exec, so it stays one process) to the release's agent. A version that has not proved itself yet is given a bounded
number of starts; then the release that brought it is rolled back, app and all, and the reason is left as a note for
the agent that comes next. So a broken agent costs a few restarts, never a visit to the kitchen.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from . import install
from .config import Paths
from .durable import read_json, write_json

LAYER = "agent"
STARTS_ALLOWED = 5
_VARIABLE = "FRIDGE_AGENT_LAYER"


def own_layer() -> str | None:
    """The layer (content hash) that this process runs from; None: the image's agent."""
    return os.environ.get(_VARIABLE) or None


def layer_of(paths: Paths) -> str | None:
    """The agent's layer in the current release, or None."""
    release = install.current(paths)
    link = release / LAYER if release else None
    return link.resolve().name if link and (link / "fridge_agent").is_dir() else None


def choose(paths: Paths) -> str | None:
    """The layer to run the agent from; counts the start, and rolls back where a version used up its starts."""
    layer = layer_of(paths)
    if layer is None or _read(_proven(paths)).get("layer") == layer:
        return layer
    trial = _read(_trial(paths))
    starts = int(trial.get("starts", 0)) if trial.get("layer") == layer else 0
    if starts < STARTS_ALLOWED:
        write_json(_trial(paths), {"layer": layer, "starts": starts + 1, "text": trial.get("text")})
        return layer
    release = install.current(paths)
    assert release is not None
    why = trial.get("text") or f"it was started {starts} times"
    write_json(_note(paths), {"code": "agent_failed", "text": f"the release's agent did not prove itself: {why}"})
    install.roll_back(paths, release.name)
    before = layer_of(paths)
    return before if before != layer else None


def prove(paths: Paths, layer: str) -> None:
    """Remember that the agent of `layer` works."""
    write_json(_proven(paths), {"layer": layer})
    _trial(paths).unlink(missing_ok=True)


def condemn(paths: Paths, layer: str, text: str) -> None:
    """Use up the starts of the agent of `layer`: the next start rolls back."""
    write_json(_trial(paths), {"layer": layer, "starts": STARTS_ALLOWED, "text": text})


def ended_well(paths: Paths) -> None:
    """Take back one start: being stopped on purpose says nothing against a version."""
    trial = _read(_trial(paths))
    if 0 < int(trial.get("starts", 0)) < STARTS_ALLOWED:
        write_json(_trial(paths), trial | {"starts": trial["starts"] - 1})


def take_note(paths: Paths) -> dict[str, str] | None:
    """Why the last start rolled back, once; `{code, text}` or None."""
    note = _read(_note(paths))
    _note(paths).unlink(missing_ok=True)
    return {"code": str(note["code"]), "text": str(note["text"])} if {"code", "text"} <= set(note) else None


def hand_over(paths: Paths, arguments: list[str]) -> None:
    """Go on as the agent that should run; returns where that is this one already.

    `arguments`: of the command line, without the program.
    """
    if own_layer():
        return  # the image's agent decided a moment ago
    layer = choose(paths)
    if layer is None:
        return
    environment = {**os.environ, _VARIABLE: layer, "PYTHONPATH": str(paths.layers / layer)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    _exec(arguments, environment)


def start_over(arguments: list[str]) -> None:
    """Become the image's agent, which decides anew."""
    _exec(arguments, {key: value for key, value in os.environ.items() if key not in (_VARIABLE, "PYTHONPATH")})


def _exec(arguments: list[str], environment: dict[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-s", "-m", "fridge_agent.cli", *arguments], environment)  # noqa: S606


def _proven(paths: Paths) -> Path:
    return paths.state / "agent-proven.json"


def _trial(paths: Paths) -> Path:
    return paths.state / "agent-trial.json"


def _note(paths: Paths) -> Path:
    return paths.state / "agent-failed.json"


def _read(path: Path) -> dict[str, Any]:
    stored = read_json(path)
    return stored if isinstance(stored, dict) else {}
