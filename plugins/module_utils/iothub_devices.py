# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Device identities: make a list of them exist, with status and tags, or not exist."""

from __future__ import annotations

import base64
import re
import secrets
import typing as t
from dataclasses import dataclass, field

from .iothub_bucket import bucket
from .iothub_engine import ALREADY_THERE, NOT_THERE, Hub
from .iothub_errors import HubError, worded
from .iothub_patch import Document, patched, touched
from .iothub_twins import TwinPatch, Twins, in_parallel, tags_of

# https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry#device-identity-properties
_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_LISTED = 1000  # identities that one list call returns
_DIRECT = 20


@dataclass(frozen=True)
class Wanted:
    """A device as it should be; ``status`` None leaves it as it is, and enabled when new."""

    id: str
    tags: Document = field(default_factory=dict)
    status: str | None = None

    def patch(self) -> TwinPatch:
        """Return what its twin should hold."""
        return TwinPatch(self.tags, {})


def wanted(devices: list[dict[str, t.Any]], bucket_tag: bool) -> list[Wanted]:
    """Read the module's option; raise HubError for an id no hub takes, or one that comes twice."""
    result: dict[str, Wanted] = {}
    for device in devices:
        name = device["id"]
        if not _ID.fullmatch(name):
            raise HubError(f"'{name}' is no device id: up to 128 ASCII letters, digits and -:.+%_#*?!(),=@;$'")
        if name in result:
            raise HubError(f"device '{name}' is listed twice")
        tags = {"bucket": bucket(name)} if bucket_tag else {}
        result[name] = Wanted(name, {**tags, **(device.get("tags") or {})}, device.get("status"))
    return list(result.values())


class Devices:
    """Makes identities present or absent, a hundred a call."""

    def __init__(self, hub: Hub, check_mode: bool, return_keys: bool = False) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._return_keys = return_keys
        self._keys: dict[str, str] = {}  # primary keys of devices created here

    # ---- present ----

    def present(self, devices: list[Wanted]) -> dict[str, t.Any]:
        """Create what is missing, change what differs; return ``changed``, ``devices`` and ``diff``."""
        by_id = {device.id: device for device in devices}
        twins = Twins(self._hub).differing(list(by_id), lambda name, twin: _differs(by_id[name], twin))
        new = [device for device in devices if device.id not in twins]
        if new and not self._check_mode:
            twins.update(self._create(new))
        new = [device for device in new if device.id not in twins]
        changed = [device for device in devices if device.id in twins and _differs(device, twins[device.id])]
        if not self._check_mode:
            in_parallel(lambda device: self._change(device, twins[device.id]), changed)
        states = {device.id: "unchanged" for device in devices}
        states.update({device.id: "changed" for device in changed})
        states.update({device.id: "created" for device in new})
        return self._result(states, _diff_present(states, by_id, twins))

    def _create(self, devices: list[Wanted]) -> dict[str, Document]:
        """Create identities with their tags; return the twins of those that were there after all."""
        failed = self._hub.bulk("create devices", [self._creation(device) for device in devices])
        there = [name for name, code in failed.items() if code in ALREADY_THERE]  # the query's index lagged
        self._report("create devices", {name: code for name, code in failed.items() if code not in ALREADY_THERE})
        for name in there:
            self._keys.pop(name, None)
        return Twins(self._hub).fresh(there)

    def _creation(self, device: Wanted) -> Document:
        document: Document = {
            "id": device.id,
            "importMode": "create",
            "status": device.status or "enabled",
            "tags": patched({}, device.tags),
        }
        if self._return_keys:
            # own keys, so that they need not be read back one device a call; as long as the hub's own
            primary, secondary = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
            document["authentication"] = {
                "type": "sas",
                "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary},
            }
            self._keys[device.id] = primary
        return document

    def _change(self, device: Wanted, twin: Document) -> None:
        patch = device.patch().against(twin)
        if patch:
            self._hub.patch_twin(device.id, patch)
        if device.status and twin.get("status") != device.status:
            identity = self._hub.identity(device.id)
            if identity is None:
                raise HubError(worded(f"update device '{device.id}'", "somebody deleted it meanwhile", "run again"))
            # the whole identity goes back: a bulk update would replace its keys
            self._hub.put_identity({**identity, "status": device.status})

    # ---- absent ----

    def absent(self, devices: list[Wanted]) -> dict[str, t.Any]:
        """Delete those that exist; return ``changed``, ``devices`` and ``diff``."""
        ids = [device.id for device in devices]
        twins = Twins(self._hub).differing(ids, lambda _id, twin: True)
        there = [name for name in ids if name in twins]
        if there and not self._check_mode:
            failed = self._hub.bulk("delete devices", [{"id": name, "importMode": "delete"} for name in there])
            self._report("delete devices", {name: code for name, code in failed.items() if code not in NOT_THERE})
        before = {name: _shown(twins[name]) for name in there}
        after: Document = {name: {} for name in there}
        result = self._result(dict.fromkeys(ids, "absent"), {"before": before, "after": after})
        return {**result, "changed": bool(there)}

    # ---- results ----

    def _result(self, states: dict[str, str], diff: dict[str, Document]) -> dict[str, t.Any]:
        devices: list[dict[str, t.Any]] = [{"id": name, "state": state} for name, state in states.items()]
        if self._return_keys:
            self._add_keys([device for device in devices if device["state"] != "absent"])
        changed = any(state in ("created", "changed") for state in states.values())
        return {"changed": changed, "devices": devices, "diff": diff}

    def _add_keys(self, devices: list[dict[str, t.Any]]) -> None:
        """Add ``connection_string`` to results; None for a device without a symmetric key, or not yet created."""
        unknown = [device["id"] for device in devices if device["id"] not in self._keys]
        if self._check_mode:
            unknown = [device["id"] for device in devices if device["state"] != "created"]
        self._keys.update(self._read_keys(unknown))
        for device in devices:
            key = self._keys.get(device["id"])
            device["connection_string"] = self._hub.address.device_string(device["id"], key) if key else None

    def _read_keys(self, ids: list[str]) -> dict[str, str]:
        """Read primary keys: many by one list call, the others one by one (registry calls are the scarcest)."""
        found: dict[str, Document] = {}
        if len(ids) > _DIRECT:
            found = {identity["deviceId"]: identity for identity in self._hub.identities(_LISTED)}
        missing = [name for name in ids if name not in found]
        found.update(
            (identity["deviceId"], identity) for identity in in_parallel(self._hub.identity, missing) if identity
        )
        keys = {name: _primary(found[name]) for name in ids if name in found}
        return {name: key for name, key in keys.items() if key}

    def _report(self, doing: str, failed: dict[str, str]) -> None:
        """Raise one error for the devices that a bulk call refused."""
        if failed:
            named = ", ".join(f"'{name}' ({code})" for name, code in list(failed.items())[:10])
            happened = f"the hub {self._hub.address.netloc} refused {len(failed)}: {named}"
            raise HubError(worded(doing, happened, "the others are done; correct these and run again"))


def _differs(device: Wanted, twin: Document | None) -> bool:
    if twin is None:
        return True
    return bool(device.patch().against(twin)) or (device.status is not None and twin.get("status") != device.status)


def _primary(identity: Document) -> str | None:
    keys = (identity.get("authentication") or {}).get("symmetricKey") or {}
    key = keys.get("primaryKey")
    return key if isinstance(key, str) else None


def _shown(twin: Document) -> Document:
    return {"status": twin.get("status"), "tags": tags_of(twin)}


def _diff_present(states: dict[str, str], by_id: dict[str, Wanted], twins: dict[str, Document]) -> dict[str, Document]:
    before: Document = {}
    after: Document = {}
    for name, state in states.items():
        device = by_id[name]
        if state == "created":
            before[name] = {}
            after[name] = {"status": device.status or "enabled", "tags": patched({}, device.tags)}
        elif state == "changed":
            old, new = _shown(twins[name]), patched(tags_of(twins[name]), device.tags)
            before[name] = {**old, "tags": touched(old["tags"], device.tags)}
            after[name] = {"status": device.status or old["status"], "tags": touched(new, device.tags)}
    return {"before": before, "after": after}
