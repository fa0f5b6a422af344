# SPDX-License-Identifier: Apache-2.0
"""Feedback of cloud-to-device messages, without a crash."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from local_hub.core.c2d_queue import Message
from local_hub.core.policy import OWNER
from local_hub.hub.hub import Hub


async def test_a_service_hears_of_a_success_when_the_disk_has_it_and_not_before(tmp_path: Path) -> None:
    """Otherwise kill -9 takes back a success that a service was told of: the message is delivered once more."""

    def failed(error: Exception) -> None:
        raise AssertionError(error)

    hub = Hub(tmp_path / "hub.sqlite", {OWNER: "a2V5"}, frozenset({"localhost"}), failed)
    hub.start()
    await hub.registry.put("one", {}, None)
    device, now = hub.registry.get("one"), time.time()
    await hub.messages.send("one", Message(0, b"x", now, now + 60, message_id="m", ack="full"))
    message = hub.messages.deliver(device)
    assert message is not None
    completing = asyncio.create_task(hub.messages.complete(device, message.sequence))
    await asyncio.sleep(0)
    assert len(device.queue) == 0
    assert hub.feedback.take() is None
    await completing
    await hub.store.commit()
    await asyncio.sleep(0)
    batch = hub.feedback.take()
    assert batch is not None
    assert batch[1][0]["originalMessageId"] == "m"
    await hub.close()
