# SPDX-License-Identifier: Apache-2.0
"""The kitchen around a simulated cabinet: a socket that plays the people in it. Never open with real hardware.

One JSON object a line in, one out. A press is a touch at the control that has the name, so it goes the same way as a
finger; see `kitchen` for the command line and README.md for the commands.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from .app import App
from .control import Button
from .control.timings import LONG_PRESS_SECONDS
from .hardware.simulator import SimulatedCabinet

TAP_SECONDS = 0.06
HOLD_LIMIT_SECONDS = 8.0
ANSWER_SECONDS = 8.0
_LINE_LIMIT = 4096


class KitchenError(Exception):
    """The command makes no sense; the text says why."""


class DemonstratedFault(RuntimeError):
    """A crash on purpose."""


Command = Callable[[Any], Awaitable[dict[str, Any] | None]]


class KitchenServer:
    """Listens on `kitchen.sock` in the run folder, for the owner of the process only."""

    def __init__(self, app: App, cabinet: SimulatedCabinet) -> None:
        self._app, self._cabinet = app, cabinet
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._commands: dict[str, Command] = {
            "press": self._press,
            "hold": self._hold,
            "power": self._power,
            "screenshot": self._screenshot,
            "state": self._state,
            "crash": self._crash,
            **{name: self._fault(name) for name in ("door", "probe", "relay", "kitchen")},
        }

    @classmethod
    async def open(cls, app: App) -> KitchenServer:
        """Listen, in the run folder of a simulated fridge."""
        assert isinstance(app.cabinet, SimulatedCabinet)
        server = cls(app, app.cabinet)
        folder = app.environment.run
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "kitchen.sock"
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server._server = await asyncio.start_unix_server(server._guest, path, limit=_LINE_LIMIT)
        finally:
            os.umask(mask)
        return server

    def close(self) -> None:
        if self._server:
            self._server.close()

    async def _guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a line, an answer, and so on; closed on the first nonsense of length."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, OSError):
            pass  # too long a line, or gone
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            ((name, value),) = json.loads(line).items()
            command = self._commands.get(name)
            if command is None:
                raise KitchenError(f"unknown command {name!r}")
            return {"ok": True, **(await command(value) or {})}
        except (KitchenError, ValueError, AttributeError, TypeError) as exc:
            return {"ok": False, "error": str(exc)}

    # ---- people -------------------------------------------------------------------

    async def _press(self, name: str) -> None:
        await self._play(finger="down", at=_text(name))
        await asyncio.sleep(TAP_SECONDS)
        await self._play(finger="up", at=name)

    async def _hold(self, name: str) -> None:
        await self._play(finger="down", at=_text(name))
        # until it was taken for a long press, however busy the machine is
        turns = int(HOLD_LIMIT_SECONDS / TAP_SECONDS) if name in set(Button) else int(LONG_PRESS_SECONDS / TAP_SECONDS)
        for _ in range(turns):
            await asyncio.sleep(TAP_SECONDS)
            if name in self._app.state.used_long:
                break
        await self._play(finger="up", at=name)

    async def _screenshot(self, path: str) -> None:
        await self._play(screenshot=_text(path))

    async def _state(self, _: object) -> dict[str, Any]:
        """All that the panel was told to show, and the state of the simulated cabinet."""
        return {
            **asdict(self._app.shown),
            "version": self._app.environment.version,
            "preferences": asdict(self._app.settings.preferences),
            "faults": self._cabinet.faults,
            "panel": {"pid": self._app.panel.pid, "alive": self._app.panel.alive},
        }

    # ---- faults -------------------------------------------------------------------

    def _fault(self, name: str) -> Command:
        async def command(value: str) -> None:
            self._cabinet.fault(name, _text(value))
            self._app.step()

        return command

    async def _power(self, value: str) -> None:
        """Cut the power for so many simulated seconds: nothing in memory survives, and the cabinet warms."""
        word, _, seconds = _text(value).partition(" ")
        if word != "cut" or not seconds.isdigit():
            raise KitchenError("power cut SECONDS")
        self._cabinet.brown_out(float(seconds))
        asyncio.get_running_loop().call_later(0.05, self._go_dark)

    def _go_dark(self) -> None:
        self._app.panel.close(grace=0)
        # the process goes on as a new one: for its launcher, nothing ended
        os.execv(sys.executable, [sys.executable, "-s", "-m", "fridge"])  # noqa: S606 - no shell is wanted

    async def _crash(self, kind: str) -> None:
        match kind:
            case "exception" | "segfault" | "hang":
                await self._play(crash=kind)
            case "control":
                asyncio.get_running_loop().call_later(0.05, _fault)
            case "control-hang":
                asyncio.get_running_loop().call_later(0.05, lambda: time.sleep(3600))
            case _:
                raise KitchenError("a crash is one of exception, segfault, hang (the panel's), control, control-hang")

    async def _play(self, **what: str) -> None:
        """Have the panel's process do something, as if by hand.

        Raises:
            KitchenError: it could not, or there is no panel now.
        """
        number = next(self._numbers)
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._app.answers[number] = waiting
        try:
            if not self._app.panel.tell_once("play", {"id": number, **what}):
                raise KitchenError("there is no panel at the moment")
            answer = await asyncio.wait_for(waiting, ANSWER_SECONDS)
        except TimeoutError:
            raise KitchenError(f"the panel did not answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            self._app.answers.pop(number, None)
        if not answer.pop("ok", False):
            raise KitchenError(answer.get("error", "the panel could not"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise KitchenError(f"{value!r} is no text")
    return value


def _fault() -> None:
    raise DemonstratedFault("crash on purpose, asked for in the kitchen")
