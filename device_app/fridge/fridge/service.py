# SPDX-License-Identifier: Apache-2.0
"""The control process's life: its loop, from the start to the signal that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from .app import App, Environment
from .hardware import Hardware
from .kitchen_server import KitchenServer
from .panel_process import PanelProcess

STEP_SECONDS = 0.25
ALIVE_SECONDS = 2.0
OFFER_SECONDS = 1.0


async def serve(environment: Environment, cabinet: Hardware, child: PanelProcess) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    failed: list[BaseException] = []

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # half an app is worse than one that is started anew
        failed.append(context.get("exception") or RuntimeError(context["message"]))
        stop.set()

    loop.set_exception_handler(fail)
    with contextlib.ExitStack() as stack:
        app = App(environment, cabinet, child)
        stack.callback(app.panel.close)
        # called first: the relay is off before anything else is waited for
        stack.callback(cabinet.close)
        app.notify(b"READY=1")
        if environment.simulate:
            stack.callback((await KitchenServer.open(app)).close)
        for seconds, call in (
            (STEP_SECONDS, app.step),
            (OFFER_SECONDS, app.tick_panel),
            (OFFER_SECONDS, lambda: app.notify(b"WATCHDOG=1")),
            (ALIVE_SECONDS, app.tell_alive),
        ):
            stack.callback(_every(seconds, call).cancel)
        await stop.wait()
        app.notify(b"STOPPING=1")
    if failed:
        raise failed[0]
    return 0


def _every(seconds: float, call: Any) -> asyncio.Task[None]:
    async def turn() -> None:
        while True:
            call()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(turn())
    # a task's exception would wait for somebody to ask
    task.add_done_callback(_raise)
    return task


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        task.get_loop().call_exception_handler({"message": "a turn of the loop failed", "exception": error})
