# SPDX-License-Identifier: GPL-3.0-or-later
"""The network between a controller and a hub in a cloud: everything arrives a while later, none of it slower.

    python -m bench.far_away HERE THERE SECONDS PORT...

Listens on the address HERE and passes what comes to the same port of THERE, each byte SECONDS later, both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_BEHIND = 1000  # chunks on the way in one direction


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_BEHIND)

    async def arrive() -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    arriving = loop.create_task(arrive())
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await on_the_way.put((loop.time() + seconds, data))
    await on_the_way.put((loop.time() + seconds, b""))
    with contextlib.suppress(OSError):
        await arriving


async def main(here: str, there: str, seconds: float, ports: list[int]) -> None:
    servers = []
    for port in ports:

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            back, out = await asyncio.open_connection(there, port)
            await asyncio.gather(_pass_on(reader, out, seconds), _pass_on(back, writer, seconds))

        servers.append(await asyncio.start_server(connected, here, port))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), [int(port) for port in sys.argv[4:]]))
