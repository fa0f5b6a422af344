# SPDX-License-Identifier: Apache-2.0
"""HTTPS: authentication, errors in Azure's form, and the routes' table."""

from __future__ import annotations

import logging
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..core.errors import ArgumentInvalid, HubError, MessageTooLarge, Unauthorized
from ..core.timestamps import iso
from ..hub.hub import Hub
from .configurations import configuration_routes
from .devices import device_routes
from .messages import message_routes
from .twins import twin_routes

_log = logging.getLogger(__name__)
_MAX_BODY = 2 * 1024 * 1024
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpsServer:
    """Serves the REST API."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Begin to listen.

        Raises:
            OSError: the port cannot be had.
        """
        self._runner = web.AppRunner(make_application(self._hub), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls, backlog=1024).start()

    async def close(self) -> None:
        """Finish the requests at hand and stop."""
        if self._runner is not None:
            await self._runner.cleanup()


def make_application(hub: Hub) -> web.Application:
    """The application, for the server and for tests."""

    # aiohttp calls middlewares with the keyword `handler`: the parameter must have this name.
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            hub.access.service(request.headers.get("Authorization", ""))
            if not _API_VERSION.fullmatch(request.query.get("api-version", "")):
                raise ArgumentInvalid("the query has no api-version")
            return await handler(request)
        except HubError as error:
            return _refusal(error, hub)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(MessageTooLarge(f"a request holds {_MAX_BODY} bytes at most"), hub)
        except web.HTTPException as error:
            return web.json_response({"Message": f"ErrorCode:{error.reason}"}, status=error.status)
        except Exception:
            _log.exception("https: %s %s failed", request.method, request.path)
            return _refusal(HubError("an internal error; the log of the hub has it"), hub)

    application = web.Application(middlewares=[guard], client_max_size=_MAX_BODY)
    application.add_routes(device_routes(hub))
    application.add_routes(twin_routes(hub))
    application.add_routes(configuration_routes(hub))
    application.add_routes(message_routes(hub))
    return application


def _refusal(error: HubError, hub: Hub) -> web.Response:
    text = "Unauthorized" if isinstance(error, Unauthorized) else str(error)
    if isinstance(error, Unauthorized):
        _log.info("https: refused: %s", error)
    body = {
        "Message": f"ErrorCode:{error.code};{text}",
        "ExceptionMessage": f"Tracking ID:{secrets.token_hex(16)}-TimeStamp:{iso(hub.clock())}",
    }
    return web.json_response(body, status=error.status, headers={"iothub-errorcode": error.code})
