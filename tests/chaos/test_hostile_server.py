# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that lies, once and for ever, at every request: old or new, whole; no attempt without a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chaos.device import Plan, live
from chaos.factory import TIMING
from chaos.server import FAULTS

if TYPE_CHECKING:
    from conftest import Kitchens

FOR_EVER = 1_000_000
SAMPLE = {("corrupt", 0), ("stall", 0), ("truncate", 6), ("missing", 6), ("old", 0), ("old", 6)}
# what one attempt may ask for: metadata, three documents, two layers, a handful of files
REQUESTS_PER_ATTEMPT = 30


@contextmanager
def serving(folder: Path, fault: str, first: int, count: int, old: Path) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(folder), fault, str(first), str(count)]
    process = subprocess.Popen([*command, str(old)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def told(acknowledged: Path) -> dict[str, object]:
    last: dict[str, object] = json.loads(acknowledged.read_text().splitlines()[-1])
    return last


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_once_is_overcome(
    fault: str, kitchens: Kitchens, full: bool, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    repository = kitchens.factory.maker.repository
    with serving(repository, fault, FOR_EVER, 0, kitchens.factory.before) as url:
        requests = live(kitchens.another(url), Plan(("2",), tmp_path / "undisturbed")).requests
    ends: Counter[object] = Counter()
    for first in range(0, requests, 1 if full else 4):
        acknowledged = tmp_path / f"acknowledged-{first}"
        with serving(repository, fault, first, 1, kitchens.factory.before) as url:
            config = kitchens.another(url)
            life = live(config, Plan(("2",), acknowledged))
        assert life.status == 0
        assert kitchens.factory.version_on(config) == "2", told(acknowledged)
        assert life.requests <= 2 * REQUESTS_PER_ATTEMPT
        ends[told(acknowledged)["state"]] += 1
    tell(f"server: {fault} once, at {ends.total()} of {requests} requests: {dict(ends)}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", [0, 2, 6])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_for_ever_ends_on_the_old_release_after_a_bounded_number_of_tries(
    fault: str, first: int, kitchens: Kitchens, full: bool, tmp_path: Path
) -> None:
    if not full and (fault, first) not in SAMPLE:
        pytest.skip("with --chaos=full")
    acknowledged = tmp_path / "acknowledged"
    with serving(kitchens.factory.maker.repository, fault, first, FOR_EVER, kitchens.factory.before) as url:
        config = kitchens.another(url)
        life = live(config, Plan(("2",), acknowledged))
    assert life.status == 0
    assert kitchens.factory.version_on(config) == "1"
    end = told(acknowledged)
    assert end["state"] in ("failed", "refused"), end
    assert isinstance(end["attempts"], int)
    assert end["attempts"] <= TIMING.download_attempts
    assert life.requests <= TIMING.download_attempts * REQUESTS_PER_ATTEMPT
    kitchens.ends_well(kitchens.config(config.paths.base.parent), "2", acknowledged)
