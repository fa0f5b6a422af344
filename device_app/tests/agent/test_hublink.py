# SPDX-License-Identifier: Apache-2.0
"""The line to the hub, where there is none."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from fridge_agent.config import Hub
from fridge_agent.hublink import HubLink

NOBODY = f"HostName=127.0.0.99;DeviceId=fridge-1;SharedAccessKey={base64.b64encode(b'k' * 32).decode()}"


def test_a_hub_that_is_away_is_tried_again_and_again(tmp_path: Path, caplog: object) -> None:
    link = HubLink(Hub(NOBODY), tmp_path / "spool.db", lambda goal: None)
    link.start()
    deadline = time.monotonic() + 15
    tries = 0
    while tries < 2 and time.monotonic() < deadline:
        assert link.is_alive(), "a refused connection must not end the line for good"
        tries = caplog.text.count("no line to the hub")  # type: ignore[attr-defined]
        time.sleep(0.05)
    link.close()
    assert tries >= 2
    assert not link.is_alive()
