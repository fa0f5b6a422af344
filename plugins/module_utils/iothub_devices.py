# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Device identities: make a list of them exist, with status and tags, or not exist."""

from __future__ import annotations

import base64
import math
import re
import secrets
import typing as t
from dataclasses import dataclass, field

from .iothub_batch import attempts, in_parallel, named, raise_fatal
from .iothub_bucket import bucket
from .iothub_engine import ALREADY_THERE, BULK, NOT_THERE, Hub
from .iothub_errors import HubError, worded
from .iothub_patch import Document, patched, touched
from .iothub_quota import Estimate, Operation
from .iothub_twins import TwinPatch, Twins, tags_of

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

    def __init__(self, hub: Hub, check_mode: bool, return_keys: bool = False, estimate: Estimate | None = None) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._return_keys = return_keys
        self._estimate = estimate or Estimate()
        self._keys: dict[str, str] = {}  # primary keys of devices created here
        self._failed: dict[str, HubError] = {}  # devices for which it did not work, with the reason

    # ---- present ----

    def present(self, devices: list[Wanted]) -> dict[str, t.Any]:
        """Create what is missing, change what differs; return ``changed``, ``devices`` and ``diff``."""
        by_id = {device.id: device for device in devices}
        reader = Twins(self._hub, self._estimate)
        twins = reader.differing(list(by_id), lambda name, twin: _differs(by_id[name], twin))
        new = [device for device in devices if device.id not in twins]
        self._estimate.add(Operation.REGISTRY, math.ceil(len(new) / BULK))
        if new and not self._check_mode:
            twins.update(self._create(new))
        new = [device for device in new if device.id not in twins]
        changed = [device for device in devices if device.id in twins and _differs(device, twins[device.id])]
        for device in changed:
            self._count(device, twins[device.id])
        if not self._check_mode:
            outcomes = attempts(lambda device: self._change(device, twins[device.id]), changed)
            pairs = zip(changed, outcomes, strict=True)
            self._failed.update((device.id, error) for device, error in pairs if isinstance(error, HubError))
        states = {device.id: "unchanged" for device in devices}
        states.update({device.id: "changed" for device in changed})
        states.update({device.id: "created" for device in new})
        states.update(dict.fromkeys(self._failed, "failed"))
        changed_any = any(state in ("created", "changed") for state in states.values())
        return self._result(states, _diff_present(states, by_id, twins), changed_any)

    def _create(self, devices: list[Wanted]) -> dict[str, Document]:
        """Create identities with their tags; return the twins of those that were there after all."""
        failed = self._hub.bulk("create devices", [self._creation(device) for device in devices])
        there = [name for name, code in failed.items() if code in ALREADY_THERE]  # the query's index lagged
        self._refuse("create", {name: code for name, code in failed.items() if code not in ALREADY_THERE})
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
            primary, secondary = (base64.b64encode(secrets.token_bytes(32)).decode() for _key in range(2))
            document["authentication"] = {
                "type": "sas",
                "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary},
            }
            self._keys[device.id] = primary
        return document

    def _count(self, device: Wanted, twin: Document) -> None:
        """Count what a change costs: a patch of the twin, and reading and writing the identity for its status."""
        self._estimate.add(Operation.TWIN_UPDATE, bool(device.patch().against(twin)))
        self._estimate.add(Operation.REGISTRY, 2 * _other_status(device, twin))

    def _change(self, device: Wanted, twin: Document) -> None:
        patch = device.patch().against(twin)
        if patch:
            self._hub.patch_twin(device.id, patch)
        if _other_status(device, twin):
            identity = self._hub.identity(device.id)
            if identity is None:
                raise HubError(worded(f"update device '{device.id}'", "somebody deleted it meanwhile", "run again"))
            # the whole identity goes back: a bulk update would replace its keys
            self._hub.put_identity({**identity, "status": device.status})

    # ---- absent ----

    def absent(self, devices: list[Wanted]) -> dict[str, t.Any]:
        """Delete those that exist; return ``changed``, ``devices`` and ``diff``."""
        ids = [device.id for device in devices]
        twins = Twins(self._hub, self._estimate).differing(ids, lambda _id, twin: True)
        there = [name for name in ids if name in twins]
        self._estimate.add(Operation.REGISTRY, math.ceil(len(there) / BULK))
        if there and not self._check_mode:
            failed = self._hub.bulk("delete devices", [{"id": name, "importMode": "delete"} for name in there])
            self._refuse("delete", {name: code for name, code in failed.items() if code not in NOT_THERE})
        gone = [name for name in there if name not in self._failed]
        before = {name: _shown(twins[name]) for name in gone}
        after: Document = {name: {} for name in gone}
        return self._result(dict.fromkeys(ids, "absent"), {"before": before, "after": after}, bool(gone))

    # ---- results ----

    def _result(self, states: dict[str, str], diff: dict[str, Document], changed: bool) -> dict[str, t.Any]:
        states = {**states, **dict.fromkeys(self._failed, "failed")}
        devices: list[dict[str, t.Any]] = [
            {"id": name, "state": state, **({"error": str(self._failed[name])} if name in self._failed else {})}
            for name, state in states.items()
        ]
        if self._return_keys:
            self._add_keys([device for device in devices if device["state"] not in ("absent", "failed")])
        result = {"changed": changed, "devices": devices, "diff": diff, **self._estimate.result()}
        raise_fatal(self._failed.values(), result)
        if self._failed:
            errors = [str(error) for error in self._failed.values()]
            raise HubError(f"{len(errors)} of {len(devices)} devices were not made so: {named(errors)}", result)
        return result

    def _add_keys(self, devices: list[dict[str, t.Any]]) -> None:
        """Add ``connection_string`` to results; None for a device without a symmetric key, or not yet created."""
        unknown = [device["id"] for device in devices if device["id"] not in self._keys]
        if self._check_mode:
            unknown = [device["id"] for device in devices if device["state"] != "created"]
        self._keys.update(primary_keys(self._hub, unknown, self._estimate))
        for device in devices:
            key = self._keys.get(device["id"])
            device["connection_string"] = self._hub.address.device_string(device["id"], key) if key else None

    def _refuse(self, verb: str, failed: dict[str, str]) -> None:
        """Note the devices that a bulk call refused."""
        for name, code in failed.items():
            happened = f"{self._hub.address.caller().service} refused it ({code})"
            self._failed[name] = HubError(worded(f"{verb} device '{name}'", happened, "correct this and run again"))


def _differs(device: Wanted, twin: Document | None) -> bool:
    if twin is None:
        return True
    return bool(device.patch().against(twin)) or _other_status(device, twin)


def _other_status(device: Wanted, twin: Document) -> bool:
    return device.status is not None and twin.get("status") != device.status


def primary_keys(hub: Hub, ids: list[str], estimate: Estimate | None = None) -> dict[str, str]:
    """Read primary keys: many by one list call, the others one by one (registry calls are the scarcest)."""
    estimate = estimate or Estimate()
    found: dict[str, Document] = {}
    if len(ids) > _DIRECT:
        found = {identity["deviceId"]: identity for identity in hub.identities(_LISTED)}
        estimate.add(Operation.REGISTRY)
    missing = [name for name in ids if name not in found]
    estimate.add(Operation.REGISTRY, len(missing))
    found.update((identity["deviceId"], identity) for identity in in_parallel(hub.identity, missing) if identity)
    keys = {name: _primary(found[name]) for name in ids if name in found}
    return {name: key for name, key in keys.items() if key}


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
