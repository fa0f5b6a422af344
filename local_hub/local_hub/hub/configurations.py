# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations at work.

A change of a configuration is answered when it is on disk; a background task then walks over all devices in small
steps, so that ten thousand twins never hold up the event loop. A change of a device is answered with its configurations
already applied. After a restart the walk starts again: what was half done is finished.
"""

from __future__ import annotations

import asyncio

from ..core.configuration import Configuration, assign, new_configuration, require_quoted_match
from ..core.errors import ArgumentInvalid, ConfigurationAlreadyExists, ConfigurationNotFound, ThrottlingException
from ..core.query import Condition, QueryError, parse_condition, parse_query
from ..core.timestamps import iso
from ..core.twin import JsonObject
from .device import Device
from .registry import Clock, Registry
from .store import Store
from .twins import Notice, notify

MAX_CONFIGURATIONS = 100
_STEP = 50


class Configurations:
    """All configurations of the hub."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._all: dict[str, Configuration] = {}
        self._order = 0
        self._dirty = asyncio.Event()
        self._metrics: dict[str, tuple[tuple[str, int], JsonObject, JsonObject]] = {}

    def load(self) -> None:
        """Read what the disk has, and check every device against it."""
        for (document,) in self._store.rows("SELECT document FROM configurations"):
            configuration = Configuration.from_record(document)
            self._all[configuration.id] = configuration
            self._order = max(self._order, configuration.created_order)
        self._dirty.set()

    async def put(self, configuration_id: str, body: JsonObject, if_match: str | None) -> Configuration:
        """REST PUT: without If-Match create, with it update what may change."""
        now = iso(self._clock())
        if if_match is None:
            configuration = self._create(configuration_id, body, now)
        else:
            old = self._get(configuration_id)
            require_quoted_match(if_match, old.etag)
            configuration = old.changed(body, now)
        self._all[configuration_id] = configuration
        sql = "INSERT OR REPLACE INTO configurations (id, document) VALUES (?, ?)"
        await self._changed(sql, (configuration_id, configuration.to_record()))
        return configuration

    async def delete(self, configuration_id: str, if_match: str | None) -> None:
        """REST DELETE; devices fall back to the next configuration that matches."""
        require_quoted_match(if_match, self._get(configuration_id).etag)
        del self._all[configuration_id]
        self._metrics.pop(configuration_id, None)
        await self._changed("DELETE FROM configurations WHERE id = ?", (configuration_id,))

    async def document(self, configuration_id: str) -> JsonObject:
        """REST's `Configuration` with the results of its metrics."""
        return await self._document(self._get(configuration_id))

    async def documents(self, top: int) -> list[JsonObject]:
        """REST's list."""
        return [await self._document(configuration) for configuration in list(self._all.values())[:top]]

    def reassign(self, device: Device) -> Notice | None:
        """Ask all configurations about one device and note the answer in its twin.

        Returns:
            What to tell the device, when its desired properties changed.
        """
        section, patch = assign(self._all.values(), device.twin, device.query_document())
        notice = None
        if patch:
            try:
                device.twin = device.twin.with_service_patch(None, patch, iso(self._clock()))
                notice = (patch, device.twin.desired.version)
            except ArgumentInvalid:
                # The twin has no room for the content. Azure shows that per device too, the rest of the fleet goes on.
                section = {name: {"status": "Error"} if state["status"] == "Applied" else state
                           for name, state in section.items()}  # fmt: skip
        if section != device.twin.configurations:
            device.twin = device.twin.with_configurations(section)
        return notice

    def reported_matters(self) -> bool:
        """Whether some target condition looks at reported properties."""
        return any("properties" in each.targets.roots for each in self._all.values())

    async def work(self) -> None:
        """Apply changed configurations to all devices, for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._walk()

    @staticmethod
    def test(body: JsonObject) -> JsonObject:
        """REST's testQueries: errors of a target condition and of metric queries."""
        condition, queries = body.get("targetCondition") or "", body.get("customMetricQueries") or {}
        if not isinstance(condition, str) or not isinstance(queries, dict):
            raise ArgumentInvalid("targetCondition is a text and customMetricQueries an object")
        errors = {name: error for name, query in queries.items() if (error := _query_error(str(query)))}
        return {"targetConditionError": _condition_error(condition), "customMetricQueryErrors": errors}

    def _get(self, configuration_id: str) -> Configuration:
        configuration = self._all.get(configuration_id)
        if configuration is None:
            raise ConfigurationNotFound(f"configuration {configuration_id} does not exist")
        return configuration

    def _create(self, configuration_id: str, body: JsonObject, now: str) -> Configuration:
        if configuration_id in self._all:
            raise ConfigurationAlreadyExists(f"configuration {configuration_id} exists already")
        if len(self._all) >= MAX_CONFIGURATIONS:
            raise ThrottlingException(f"a hub holds {MAX_CONFIGURATIONS} configurations at most")
        configuration = new_configuration(configuration_id, body, now, self._order + 1)
        self._order += 1
        return configuration

    async def _changed(self, sql: str, parameters: tuple[str, ...]) -> None:
        await self._store.commit((sql, parameters))
        self._dirty.set()

    async def _walk(self) -> None:
        devices = list(self._registry)
        for start in range(0, len(devices), _STEP):
            changed: list[tuple[Device, Notice | None]] = []
            for device in devices[start : start + _STEP]:
                before = device.twin
                notice = self.reassign(device)
                if device.twin is not before and self._registry.find(device.id) is device:
                    changed.append((device, notice))
            if changed:
                self._registry.changed()
                await self._store.commit(*(self._registry.save(device) for device, _ in changed))
            for device, notice in changed:
                notify(device, [notice])
            await asyncio.sleep(0)

    async def _document(self, configuration: Configuration) -> JsonObject:
        key = (configuration.etag, self._registry.generation)
        known = self._metrics.get(configuration.id)
        if known is None or known[0] != key:
            known = (key, *await self._measure(configuration))
            self._metrics[configuration.id] = known
        document = configuration.to_json()
        document["systemMetrics"]["results"] = known[1]
        document["metrics"]["results"] = known[2]
        return document

    async def _measure(self, configuration: Configuration) -> tuple[JsonObject, JsonObject]:
        conditions: dict[str, Condition] = {name: query.where for name, query in configuration.metrics.items()}
        custom = dict.fromkeys(conditions, 0)
        targeted = applied = 0
        for index, device in enumerate(list(self._registry)):
            document = device.query_document()
            targeted += configuration.targets(document)
            applied += device.twin.configurations.get(configuration.id) == {"status": "Applied"}
            for name, condition in conditions.items():
                custom[name] += condition(document)
            if index % _STEP == 0:
                await asyncio.sleep(0)
        return {"targetedCount": targeted, "appliedCount": applied}, custom


def _condition_error(text: str) -> str | None:
    try:
        parse_condition(text)
    except QueryError as error:
        return str(error)
    return None


def _query_error(text: str) -> str | None:
    try:
        parse_query(text)
    except QueryError as error:
        return str(error)
    return None
