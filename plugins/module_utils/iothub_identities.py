# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hub knows of devices and modules: who they are, whether they are there, when they last were.

All of it but the keys is in the twins' documents, so that a hundred devices cost one query and no call of the registry,
which is the scarcest.
"""

from __future__ import annotations

import typing as t

from .iothub_batch import in_parallel
from .iothub_devices import primary_keys
from .iothub_engine import Hub
from .iothub_patch import Document
from .iothub_twins import Twins, chunks, matching, quoted, tags_of

_NEVER = "0001-"  # how a hub writes the time of what never happened


def shown(twin: Document) -> Document:
    """Return what the twin's document tells of the identity, under the names that the modules use."""
    return {
        "status": twin.get("status"),
        "status_reason": twin.get("statusReason"),
        "status_updated_time": _moment(twin.get("statusUpdateTime")),
        "connection_state": twin.get("connectionState"),
        "last_activity_time": _moment(twin.get("lastActivityTime")),
        "authentication_type": twin.get("authenticationType"),
        "messages_waiting": twin.get("cloudToDeviceMessageCount") or 0,
    }


def _moment(text: str | None) -> str | None:
    return None if not text or text.startswith(_NEVER) else text


class Identities:
    """Reads identities of a list of devices, or of those that fulfil a condition."""

    def __init__(self, hub: Hub, modules: bool = False, keys: bool = False) -> None:
        self._hub = hub
        self._modules = modules
        self._keys = keys

    def read(self, ids: list[str] | None, condition: str | None) -> dict[str, t.Any]:
        """Return ``devices`` and ``missing``, the ids of the list that are not registered."""
        if ids is not None:
            ids = list(dict.fromkeys(ids))
            # what the query's index does not have (yet) is asked for once more, directly
            twins = Twins(self._hub).differing(ids, lambda _id, twin: twin is None)
        else:
            twins = {twin["deviceId"]: twin for twin in matching(self._hub, condition or "*")}
            ids = sorted(twins)
        devices = [self._device(name, twins[name]) for name in ids if name in twins]
        if self._modules:
            self._add_modules(devices)
        if self._keys:
            self._add_keys(devices)
        return {"devices": devices, "missing": [name for name in ids if name not in twins]}

    @staticmethod
    def _device(name: str, twin: Document) -> Document:
        edge = bool((twin.get("capabilities") or {}).get("iotEdge"))
        return {"id": name, **shown(twin), "iot_edge": edge, "tags": tags_of(twin)}

    # ---- modules ----

    def _add_modules(self, devices: list[Document]) -> None:
        modules: dict[str, list[Document]] = {device["id"]: [] for device in devices}
        for part in chunks(list(modules)):
            listed = ", ".join(map(quoted, part))
            for twin in self._hub.query(f"SELECT * FROM devices.modules WHERE deviceId IN [{listed}]"):  # noqa: S608
                modules[twin["deviceId"]].append({"id": twin["moduleId"], **shown(twin), "tags": tags_of(twin)})
        for device in devices:
            device["modules"] = sorted(modules[device["id"]], key=lambda module: str(module["id"]))

    # ---- keys ----

    def _add_keys(self, devices: list[Document]) -> None:
        address = self._hub.address
        keys = primary_keys(self._hub, [device["id"] for device in devices])
        for device in devices:
            key = keys.get(device["id"])
            device["connection_string"] = address.device_string(device["id"], key) if key else None
        with_modules = [device for device in devices if device.get("modules")]
        lists = in_parallel(lambda device: self._hub.module_identities(device["id"]), with_modules)
        for device, identities in zip(with_modules, lists, strict=True):
            self._add_module_keys(device, {one["moduleId"]: one for one in identities})

    def _add_module_keys(self, device: Document, identities: dict[str, Document]) -> None:
        for module in device["modules"]:
            authentication = identities.get(module["id"], {}).get("authentication") or {}
            key = (authentication.get("symmetricKey") or {}).get("primaryKey")
            string = self._hub.address.device_string(device["id"], key, module["id"]) if key else None
            module["connection_string"] = string
