# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments under load: nothing acknowledged is lost, nothing completed comes again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from local_hub.tests.chaos.hub_process import HubProcess
from local_hub.tests.chaos.ledger import Ledger
from local_hub.tests.chaos.load import Load


@pytest.mark.timeout(3600)
async def test_nothing_acknowledged_is_lost(
    hub: HubProcess, rounds: int, seed: int, tell: Callable[[str], None]
) -> None:
    tell(f"seed {seed}")
    chance, ledger = random.Random(seed), Ledger()
    load = Load(hub, ledger, chance)
    hub.start()
    await hub.answers()
    await load.prepare()
    early = 0
    for number in range(1, rounds + 1):

        async def the_kill() -> None:
            await asyncio.sleep(0.1 + 2.0 * chance.random())
            hub.kill()

        await load.under_load(the_kill)
        if chance.random() < 0.2:  # once more while it starts
            early += 1
            hub.start()
            await asyncio.sleep(1.5 * chance.random())
            hub.kill()
        hub.start()
        await hub.answers()
        await load.look()
        assert not ledger.complaints, f"seed {seed}, round {number}: " + "; ".join(ledger.complaints[:20])
    await load.finish()
    for name, count in sorted(ledger.counts.items()):
        tell(f"{name}: {count}")
    tell(f"rounds: {rounds}, kills: {rounds + early} ({early} of them during a start); lost: {len(ledger.complaints)}")
    assert not ledger.complaints, f"seed {seed}: " + "; ".join(ledger.complaints[:20])
    assert "Traceback" not in hub.log.read_text()
