# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twins of many devices: read them cheaply, patch only what differs."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .iothub_batch import attempts, in_parallel, named, raise_fatal
from .iothub_engine import Hub
from .iothub_errors import HubError, worded
from .iothub_patch import Document, difference, patched, touched, without_system
from .iothub_quota import Estimate, Operation

_DIRECT = 20  # up to so many twins are read one by one: current to the millisecond, and not from the query's quota
_IDS = 100  # ids in one IN list
_SQL = 4000  # characters of ids in one IN list: a hub refuses very long queries


def quoted(text: str) -> str:
    """Return ``text`` as a string literal of the hub's query language."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def chunks(ids: list[str]) -> t.Iterator[list[str]]:
    """Cut a list of ids so that each part fits into one query."""
    part: list[str] = []
    for device in ids:
        if part and (len(part) == _IDS or sum(map(len, part)) + len(device) > _SQL):
            yield part
            part = []
        part.append(device)
    if part:
        yield part


def existing(hub: Hub, ids: list[str], columns: str = "*") -> dict[str, Document]:
    """Return rows of those devices that a query finds; the hub's index may lag some seconds behind."""
    rows: dict[str, Document] = {}
    for part in chunks(ids):
        listed = ", ".join(map(quoted, part))
        sql = f"SELECT {columns} FROM devices WHERE deviceId IN [{listed}]"  # noqa: S608 (ids are quoted)
        for row in hub.query(sql):
            rows[row["deviceId"]] = row
    return rows


def matching(hub: Hub, condition: str, columns: str = "*") -> list[Document]:
    """Return rows of the devices that fulfil a target condition; ``*`` is all of them."""
    where = "" if condition.strip() == "*" else f" WHERE {condition}"
    return list(hub.query(f"SELECT {columns} FROM devices{where}"))  # noqa: S608 - the condition is the user's query


def chosen_ids(hub: Hub, ids: list[str] | None, condition: str | None) -> list[str]:
    """Return the ids that are given, or else those of the devices that fulfil the target condition, sorted."""
    if ids is not None:
        return ids
    return sorted(row["deviceId"] for row in matching(hub, condition or "*", "deviceId"))


class Twins:
    """Reads the twins of a list of devices, few directly, many by queries."""

    def __init__(self, hub: Hub, estimate: Estimate | None = None) -> None:
        self._hub = hub
        self._estimate = estimate or Estimate()

    def read(self, ids: list[str]) -> dict[str, Document]:
        """Return the twins of those that exist."""
        if len(ids) <= _DIRECT:
            return self.fresh(ids)
        self._estimate.add(Operation.QUERY, len(list(chunks(ids))))
        return existing(self._hub, ids)

    def fresh(self, ids: list[str]) -> dict[str, Document]:
        """Return the twins of those that exist, none older than this call."""
        self._estimate.add(Operation.TWIN_READ, len(ids))
        twins = zip(ids, in_parallel(self._hub.twin, ids), strict=True)
        return {device: twin for device, twin in twins if twin is not None}

    def differing(self, ids: list[str], differs: t.Callable[[str, Document | None], bool]) -> dict[str, Document]:
        """Read twins, and those that seem to differ a second time if the first answer may have been stale."""
        twins = self.read(ids)
        doubtful = [device for device in ids if differs(device, twins.get(device))]
        if len(ids) > _DIRECT and doubtful:
            twins.update(self.fresh(doubtful))
        return twins


@dataclass(frozen=True)
class TwinPatch:
    """What a twin should hold: tags and desired properties, null deletes."""

    tags: Document
    desired: Document

    def against(self, twin: Document) -> Document:
        """Return the smallest patch document that makes the twin so; empty if it is so."""
        change: Document = {}
        tags = difference(tags_of(twin), self.tags)
        desired = difference(desired_of(twin), self.desired)
        if tags:
            change["tags"] = tags
        if desired:
            change["properties"] = {"desired": desired}
        return change


def tags_of(twin: Document) -> Document:
    """Return the tags of a twin document."""
    return without_system(twin.get("tags") or {})


def desired_of(twin: Document) -> Document:
    """Return the desired properties of a twin document."""
    return without_system((twin.get("properties") or {}).get("desired") or {})


class TwinPatcher:
    """Brings the twins of devices to hold given tags and desired properties."""

    def __init__(self, hub: Hub, check_mode: bool, estimate: Estimate | None = None) -> None:
        self._hub = hub
        self._check_mode = check_mode
        self._estimate = estimate or Estimate()

    def apply(self, ids: list[str], patch: TwinPatch) -> dict[str, t.Any]:
        """Patch what differs; return the module's ``changed``, ``devices``, ``diff`` and ``estimated_seconds``.

        Nothing is written if one of the devices does not exist.
        """
        ids = list(dict.fromkeys(ids))
        twins = self._twins(ids, patch)
        self._refuse_missing([device for device in ids if device not in twins])
        changes = {device: patch.against(twins[device]) for device in ids}
        differing = [item for item in changes.items() if item[1]]
        self._estimate.add(Operation.TWIN_UPDATE, len(differing))
        failed = {} if self._check_mode else self._write(differing)
        done = {device: {} if device in failed else change for device, change in changes.items()}
        result = {
            "changed": any(done.values()),
            "devices": [_told(device, changes[device], failed.get(device)) for device in ids],
            "diff": _diff(twins, done),
            **self._estimate.result(),
        }
        raise_fatal(failed.values(), result)
        if failed:
            errors = [str(error) for error in failed.values()]
            raise HubError(f"{len(failed)} of {len(ids)} twins were not patched: {named(errors)}", result)
        return result

    def _write(self, changes: list[tuple[str, Document]]) -> dict[str, HubError]:
        """Patch; return the errors of those that failed."""
        outcomes = attempts(lambda change: self._hub.patch_twin(*change), changes)
        pairs = zip(changes, outcomes, strict=True)
        return {device: outcome for (device, _patch), outcome in pairs if isinstance(outcome, HubError)}

    def _twins(self, ids: list[str], patch: TwinPatch) -> dict[str, Document]:
        twins = Twins(self._hub, self._estimate)
        return twins.differing(ids, lambda _id, twin: twin is None or bool(patch.against(twin)))

    def _refuse_missing(self, missing: list[str]) -> None:
        if missing:
            names = ", ".join(f"'{device}'" for device in missing[:10]) + (", ..." if len(missing) > 10 else "")
            happened = (
                f"{len(missing)} of the devices are not registered on the hub {self._hub.address.netloc}: {names}"
            )
            raise HubError(worded("patch twins", happened, "create them with iotops.fleet.iothub_device"))


def _told(device: str, change: Document, error: HubError | None) -> dict[str, t.Any]:
    return {
        "id": device,
        "state": "failed" if error else "changed" if change else "unchanged",
        **({"error": str(error)} if error else {}),
        "patch": {"tags": change.get("tags", {}), "desired": change.get("properties", {}).get("desired", {})},
    }


def _diff(twins: dict[str, Document], changes: dict[str, Document]) -> dict[str, t.Any]:
    """Return before and after of what changes, ``{device: {tags, desired}}``, only the keys concerned."""
    before: Document = {}
    after: Document = {}
    for device, change in changes.items():
        if not change:
            continue
        tags, desired = change.get("tags", {}), change.get("properties", {}).get("desired", {})
        old_tags, old_desired = tags_of(twins[device]), desired_of(twins[device])
        before[device] = {"tags": touched(old_tags, tags), "desired": touched(old_desired, desired)}
        after[device] = {
            "tags": touched(patched(old_tags, tags), tags),
            "desired": touched(patched(old_desired, desired), desired),
        }
    return {"before": before, "after": after}
