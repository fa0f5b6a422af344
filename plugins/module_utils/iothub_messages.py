# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud-to-device messages for a list of devices: what the module sends and how it judges the answers."""

from __future__ import annotations

import json
import typing as t
import uuid
from dataclasses import dataclass

from .iothub_batch import judge
from .iothub_courier import Message
from .iothub_engine import Hub, utc_milliseconds
from .iothub_errors import HubError
from .iothub_quota import Estimate, Operation
from .iothub_twins import Twins, existing

# https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-messages-c2d#cloud-to-device-configuration-options
SHORTEST, LONGEST = 60, 172_800  # seconds a message may live
_LARGEST = 65_536  # bytes


@dataclass(frozen=True)
class Letter:
    """One text for many devices."""

    body: t.Any
    properties: dict[str, t.Any]
    message_id: str | None = None
    ack: str = "none"
    ttl: int | None = None

    def check(self) -> None:
        """Raise HubError for what no hub takes."""
        if self.ttl is not None and not SHORTEST <= self.ttl <= LONGEST:
            raise HubError(f"ttl is {self.ttl} s; a message lives between {SHORTEST} s and {LONGEST} s (2 days)")
        size = len(self.bytes())
        if size > _LARGEST:
            raise HubError(f"body has {size} bytes; a cloud-to-device message holds {_LARGEST} at most")

    def bytes(self) -> bytes:
        """Return the body as sent: JSON, unless it is a string."""
        if isinstance(self.body, str):
            return self.body.encode()
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    def to(self, device: str) -> Message:
        """Return the message for one device."""
        system: dict[str, t.Any] = {"message_id": self.message_id or str(uuid.uuid4()), "content_encoding": "utf-8"}
        if not isinstance(self.body, str):
            system["content_type"] = "application/json"
        if self.ttl is not None:
            system["absolute_expiry_time"] = utc_milliseconds(self.ttl)
        properties = {str(name): _text(value) for name, value in self.properties.items()}
        if self.ack != "none":
            properties["iothub-ack"] = self.ack
        return Message(device, self.bytes(), system, properties)


class Post:
    """Sends a letter to devices and reports on each."""

    def __init__(self, hub: Hub, check_mode: bool, fail_on: str, estimate: Estimate | None = None) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._fail_on = fail_on
        self._estimate = estimate or Estimate()

    def send(self, ids: list[str], letter: Letter) -> dict[str, t.Any]:
        """Return ``changed`` and ``devices``; raise HubError, with them, if too many failed for ``fail_on``."""
        letter.check()
        ids = list(dict.fromkeys(ids))
        self._estimate.add(Operation.C2D, len(ids))
        answers = self._rehearse(ids) if self._check_mode else self._hub.send([letter.to(device) for device in ids])
        devices = [{"id": name, "sent": answers[name] is None, "error": answers[name]} for name in ids]
        changed = any(device["sent"] for device in devices)
        result = {"changed": changed, "devices": devices, **self._estimate.result()}
        judge(result, [error for error in answers.values() if error], self._fail_on, "get the message")
        return result

    def _rehearse(self, ids: list[str]) -> dict[str, str | None]:
        """Find out who would get it: who exists. Those that the query does not find are looked up directly."""
        found = existing(self._hub, ids, columns="deviceId")
        found.update(Twins(self._hub).fresh([name for name in ids if name not in found]))
        advice = "create it with iotops.fleet.iothub_device"
        return {name: None if name in found else f"device '{name}' is not registered; {advice}" for name in ids}


def _text(value: t.Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
