# SPDX-License-Identifier: Apache-2.0
"""The agent's hands: one thread that fetches, switches and rolls back, one effect at a time."""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import install, machine
from .clock import Clock
from .config import Config
from .durable import write_json
from .errors import AgentError, BadRelease, Cancelled, StorageFull
from .machine import Effect, Event, Failed
from .transport import for_server

if TYPE_CHECKING:
    from .trust import TrustedRepository

log = logging.getLogger(__name__)


class Worker(threading.Thread):
    """Carries out one effect at a time and answers with an event. A newer effect ends a fetch that is under way."""

    def __init__(
        self, config: Config, work: queue.Queue[Effect | None], put: Callable[[Event], None], clock: Clock
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._paths = config.paths
        self._work = work
        self._put = put
        self._clock = clock
        self._transport = for_server(config.server)
        self._handing = threading.Lock()

    def give(self, effect: Effect | None) -> None:
        """Hand over an effect, or None to end."""
        with self._handing:
            self._work.put(effect, timeout=30)
            self._transport.cancelled.set()

    def run(self) -> None:
        while True:
            effect = self._work.get()
            if effect is None:
                break
            if self._overtaken() and isinstance(effect, machine.Fetch):
                continue
            self._carry_out(effect)
        self._transport.close()

    def _overtaken(self) -> bool:
        """Whether something newer waits."""
        with self._handing:
            self._transport.cancelled.clear()
            return not self._work.empty()

    def _carry_out(self, effect: Effect) -> None:
        try:
            self._put(self._do(effect))
        except Cancelled:
            log.info("gave way to something newer: %s", effect)
        except AgentError as exc:
            self._failed(effect, exc)
        except OSError as exc:
            self._failed(effect, StorageFull(f"cannot write {exc.filename or 'on this device'}: {exc.strerror}"))
        except Exception as exc:
            log.exception("unexpected failure in %s", type(effect).__name__)
            self._failed(effect, AgentError(f"{type(exc).__name__}: {exc}"))

    def _failed(self, effect: Effect, exc: AgentError) -> None:
        if isinstance(effect, machine.RollBack):
            self._put(machine.RollBackFailed(exc.text))
        elif isinstance(effect, machine.Fetch | machine.Install):
            jitter = random.random()  # noqa: S311
            self._put(Failed(effect.release, exc.code, exc.text, exc.transient, exc.tries, jitter))

    def _do(self, effect: Effect) -> Event:
        match effect:
            case machine.Fetch(release, target):
                self._fetch(release, target)
                return machine.Fetched(release)
            case machine.Install(release):
                install.switch(self._paths, release)
                return machine.Installed(release)
            case machine.RollBack(release):
                found = install.describe(install.roll_back(self._paths, release)) or {}
                return machine.RolledBack(found.get("id"))
            case _:
                raise TypeError(f"not the worker's: {effect!r}")

    def _fetch(self, release_id: str, target: str) -> None:
        # a device that is never updated needs neither the TUF client nor zstd in its memory
        from . import manifest
        from .layers import Stager

        self._transport.clock_doubtful = self._clock.read(time.time()).doubtful
        signed = self._trust().release(target, self._config.ring)
        release = manifest.parse(signed.manifest, self._config.platform, self._config.hardware)
        if release.id != release_id:
            raise BadRelease(f"the hub names release {release_id}, and what is signed at {target} is {release.id}")
        running = install.describe(install.current(self._paths)) or {}
        manifest.check_direction(release, running.get("version"), signed.custom)
        meter = _Meter(self._put, release_id)
        stager = Stager(self._paths, self._transport, lambda: signed.document("patches.json"), meter)
        stager.stage(release)
        account = stager.account
        log.info("%s is staged: fetched %s bytes, linked %d files", release.version, account.fetched, account.linked)
        notes = str(json.loads(release.raw).get("notes", ""))[:500]
        staged = {"release": release.id, "consent": release.consent, "notes": notes, "cost": account.fetched}
        write_json(self._paths.state / "staged.json", staged)

    def _trust(self) -> TrustedRepository:
        from .trust import TrustedRepository

        return TrustedRepository(
            self._transport, self._config.server.root, self._config.paths.state / "tuf", self._clock
        )


class _Meter:
    """Tells the download's progress in tenths: enough for a person, and no disk write a chunk."""

    def __init__(self, put: Callable[[Event], None], release: str) -> None:
        self._put, self._release, self._last = put, release, -1

    def __call__(self, done: int, total: int) -> None:
        percent = min(done * 10 // max(total, 1) * 10, 100)
        if percent != self._last:
            self._last = percent
            self._put(machine.Progress(self._release, percent))
