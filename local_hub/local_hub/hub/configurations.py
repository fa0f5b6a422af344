# SPDX-License-Identifier: Apache-2.0
"""Automatic device configurations at work.

A change of a configuration is answered when it is on disk; a background task then walks over all devices in small
steps, so that ten thousand twins never hold up the event loop. A change of a device is answered with its configurations
already applied. After a restart the walk starts again: what was half done is finished.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque

from ..core.configuration import (
    AGENT,
    DEVICE,
    EDGE,
    MODULE,
    Configuration,
    Deployment,
    assign,
    checked_content,
    deploy,
    edge_modules,
    new_configuration,
    require_quoted_match,
    written,
)
from ..core.errors import (
    ArgumentInvalid,
    ConfigurationAlreadyExists,
    ConfigurationCountLimitExceeded,
    ConfigurationNotFound,
    InvalidConfigurationContent,
)
from ..core.query import DEVICES, MODULES, QueryError, parse_condition, parse_query
from ..core.timestamps import iso
from ..core.twin import JsonObject, Twin, difference, merge
from .device import Device
from .registry import Clock, Registry
from .store import Store
from .twins import Change, Twins, notify

MAX_CONFIGURATIONS = 100
_STEP = 50
_STEPS_ON_THE_WAY = 20


class Configurations:
    """All configurations of the hub."""

    def __init__(self, store: Store, registry: Registry, twins: Twins, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._twins = twins
        self._clock = clock
        self._all: dict[str, Configuration] = {}
        self._order = 0
        self._checked_patch: JsonObject = {}
        self.most = MAX_CONFIGURATIONS
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

    def in_order(self) -> list[Configuration]:
        """All of them, the oldest first."""
        return sorted(self._all.values(), key=lambda each: each.created_order)

    def reassign(self, device: Device) -> list[Change]:
        """Ask all configurations about a device and its modules, or about a module, and note the answer in the twins.

        Returns:
            Those that changed, and what to tell them.
        """
        if device.identity.module_id is not None:
            parent = self._registry.get(device.identity.device_id)
            return self._assign(device, MODULE, self._deployment(parent))
        changes = self._assign(device, DEVICE, None)
        deployment = self._deployment(device)
        for name in sorted(deployment.modules() - device.modules.keys()) if deployment else ():
            changes.append(Change(self._registry.add_edge_module(device, name), None, None))
        for module in device.modules.values():
            changes += self._assign(module, MODULE, deployment)
        return changes

    def met(self, device: Device) -> None:
        """A device or module is new, or its identity changed."""
        changes = self.reassign(device)
        if changes:
            saved = self._store.commit(*self._twins.statements(changes))
            saved.add_done_callback(lambda _: notify(changes))

    async def apply_content(self, device_id: str, body: JsonObject) -> None:
        """REST applyConfigurationContent: write a deployment to one IoT Edge device, once.

        Raises:
            InvalidConfigurationContent: there is no content for modules.
        """
        device = self._registry.get(device_id)
        content = checked_content(body)
        if EDGE not in content or MODULE in content:
            raise InvalidConfigurationContent(f"the content has {EDGE}, and may have {DEVICE}")
        if not device.identity.iot_edge:
            raise ArgumentInvalid(f"device {device_id} is not an IoT Edge device")
        wanted = {name: content[EDGE].get(name, {}) for name in content[EDGE].keys() | edge_modules(content[EDGE])}
        now = iso(self._clock())
        for name, pairs in wanted.items():  # all of it can be written, or nothing is
            _patched(device.modules[name].twin if name in device.modules else Twin(), pairs, now)
        _patched(device.twin, content.get(DEVICE, {}), now)
        # from here on in one turn of the event loop: nobody can delete the device in between
        made = [self._registry.add_edge_module(device, name) for name in sorted(wanted.keys() - device.modules.keys())]
        writes = [self._store.commit(*(self._registry.save(module) for module in made))]
        for each, pairs in (*((device.modules[name], pairs) for name, pairs in wanted.items()),
                            (device, content.get(DEVICE, {}))):  # fmt: skip
            patch = difference(each.twin.desired.values, written(each.twin.desired.values, pairs))
            if patch:
                writes.append(self._twins.write(each, None, patch))
        await asyncio.gather(*writes)

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
        if len(self._all) >= self.most:
            raise ConfigurationCountLimitExceeded(f"a hub holds {self.most} configurations at most")
        configuration = new_configuration(configuration_id, body, now, self._order + 1)
        self._order += 1
        return configuration

    async def _changed(self, sql: str, parameters: tuple[str, ...]) -> None:
        await self._store.commit((sql, parameters))
        self._dirty.set()

    async def _walk(self) -> None:
        devices = list(self._registry)
        on_the_way: deque[asyncio.Future[None]] = deque()
        for start in range(0, len(devices), _STEP):
            changes: list[Change] = []
            for device in devices[start : start + _STEP]:
                if self._registry.find(device.id) is device:
                    changes += self.reassign(device)
            if changes:
                self._registry.changed()
                saved = self._store.commit(*self._twins.statements(changes))
                saved.add_done_callback(functools.partial(_notify_of, changes))
                on_the_way.append(saved)
            if len(on_the_way) == _STEPS_ON_THE_WAY:
                await on_the_way.popleft()
            await asyncio.sleep(0)
        await asyncio.gather(*on_the_way)

    def _deployment(self, device: Device) -> Deployment | None:
        if not device.identity.iot_edge:
            return None
        return deploy(self._all.values(), device.query_document())

    def _assign(self, device: Device, kind: str, deployment: Deployment | None) -> list[Change]:
        twin, name = device.twin, device.identity.module_id or ""
        section, patch = assign(self._all.values(), twin, device.query_document(), kind)
        if deployment is not None and (name == AGENT or any(name in layer for layer in deployment.layers)):
            section = {**deployment.section, **section}
            patch = difference(twin.desired.values, merge(deployment.wanted(name, twin.desired.values), patch))
        notice = None
        if patch:
            try:
                # a configuration gives thousands of devices the same patch
                known = patch == self._checked_patch
                device.twin = twin.with_service_patch(None, patch, iso(self._clock()), checked=known)
                self._checked_patch = patch
                notice = (patch, device.twin.desired.version)
            except ArgumentInvalid:
                # The twin has no room for the content. Azure shows that per device too, the rest of the fleet goes on.
                section = {each: {"status": "Error"} if state["status"] == "Applied" else state
                           for each, state in section.items()}  # fmt: skip
        if section != device.twin.configurations:
            device.twin = device.twin.with_configurations(section)
        return [] if device.twin is twin else [Change(device, notice, twin)]

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
        system, custom = configuration.system_metrics(), configuration.metrics
        counts = [dict.fromkeys(queries, 0) for queries in (system, custom)]
        for index, device in enumerate([*self._registry, *self._registry.modules()]):
            source = DEVICES if device.identity.module_id is None else MODULES
            document = device.query_document()
            for queries, count in zip((system, custom), counts, strict=True):
                for name, query in queries.items():
                    count[name] += query.source == source and query.where(document)
            if index % _STEP == 0:
                await asyncio.sleep(0)
        return counts[0], counts[1]


def _notify_of(changes: list[Change], _: asyncio.Future[None]) -> None:
    notify(changes)


def _patched(twin: Twin, pairs: JsonObject, now: str) -> Twin:
    return twin.with_service_patch(None, difference(twin.desired.values, written(twin.desired.values, pairs)), now)


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
