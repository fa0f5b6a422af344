# SPDX-License-Identifier: Apache-2.0
"""HTTPS: authentication, errors in Azure's form, and the routes' table."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from ..core.errors import ArgumentInvalid, HubError, MessageTooLarge, Unauthorized
from ..core.timestamps import iso
from ..hub.hub import Hub
from ..tls import TlsContext, TlsListener
from .blobs import PREFIX as BLOB_PREFIX
from .blobs import blob_routes
from .configurations import configuration_routes
from .device_api import PATHS as DEVICE_PATHS
from .device_api import device_api_routes
from .devices import device_routes
from .digital_twins import digital_twin_routes
from .jobs import job_routes
from .messages import message_routes
from .metering import metered
from .modules import module_routes
from .permissions import admit
from .provisioning import DEVICE_PATHS as PROVISIONED_PATHS
from .provisioning import PATHS as PROVISIONING_PATHS
from .provisioning import provisioning_routes
from .twins import twin_routes
from .websockets import PATHS as WEBSOCKET_PATHS
from .websockets import WebSockets

_log = logging.getLogger(__name__)
_MAX_BODY = 2 * 1024 * 1024
_FIRST_REQUEST_TIMEOUT = 20.0
_NEXT_REQUEST_TIMEOUT = 120.0
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _OneLine(logging.Filter):
    """What is no HTTP is the client's fault, not a failure of the hub: one line, no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            reason = (error.message or type(error).__name__).splitlines()[0][:200]
            record.msg, record.args, record.exc_info = "https: a request is not HTTP: %s", (reason,), None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


_protocol_log = logging.getLogger(f"{__name__}.protocol")
_protocol_log.addFilter(_OneLine())


class HttpsServer:
    """Serves the REST API, and the other protocols' connections inside WebSockets."""

    def __init__(self, hub: Hub, websockets: WebSockets) -> None:
        self._hub = hub
        self._websockets = websockets
        self._runner: web.AppRunner | None = None
        self._listener: TlsListener | None = None
        self._silent: set[asyncio.Protocol] = set()

    async def start(self, host: str, port: int, tls: TlsContext) -> None:
        """Begin to listen.

        Raises:
            OSError: the port cannot be had.
        """
        application = make_application(self._hub)
        application.middlewares.insert(0, self._heard)
        application.add_routes(self._websockets.routes())
        application.on_shutdown.append(self._websockets.close)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_protocol_log,
            shutdown_timeout=2.0,
            keepalive_timeout=_NEXT_REQUEST_TIMEOUT,
        )
        await self._runner.setup()
        self._listener = TlsListener(self._connection, tls)
        self._listener.start(host, port)

    async def close(self) -> None:
        """Finish the requests at hand and stop."""
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        """A connection that says nothing for long is cut: aiohttp itself would wait for its first request for ever."""
        assert self._runner is not None
        assert self._runner.server is not None
        connection = self._runner.server()
        self._silent.add(connection)
        asyncio.get_running_loop().call_later(_FIRST_REQUEST_TIMEOUT, self._cut_silent, connection)
        return connection

    def _cut_silent(self, connection: RequestHandler) -> None:
        if connection in self._silent:
            self._silent.discard(connection)
            if connection.transport is not None:
                connection.transport.abort()

    @web.middleware
    async def _heard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        return await handler(request)


def make_application(hub: Hub) -> web.Application:
    """The application, for the server and for tests."""

    # aiohttp calls middlewares with the keyword `handler`: the parameter must have this name.
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if request.path in WEBSOCKET_PATHS or request.path.startswith(BLOB_PREFIX):
                return await handler(request)  # whoever asks is admitted there
            if not (DEVICE_PATHS.fullmatch(request.path) or PROVISIONED_PATHS.fullmatch(request.path)):
                admit(hub, request)
            if not _API_VERSION.fullmatch(request.query.get("api-version", "")):
                raise ArgumentInvalid("the query has no api-version")
            return await metered(hub, request, handler)
        except HubError as error:
            return _refusal(error, hub, request)
        except RecursionError:
            return _refusal(ArgumentInvalid("the JSON is nested too deep"), hub, request)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(MessageTooLarge(f"a request holds {_MAX_BODY} bytes at most"), hub, request)
        except web.HTTPException as error:
            return _unserved(error, hub, request)
        except Exception:
            _log.exception("https: %s %s failed", request.method, request.path)
            return _refusal(HubError("an internal error; the log of the hub has it"), hub, request)

    @web.middleware
    async def durable(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """What an answer tells may be a write of somebody else that is on its way to the disk: a crash took it back."""
        response = await handler(request)
        await hub.store.commit()
        return response

    application = web.Application(middlewares=[durable, guard], client_max_size=_MAX_BODY)
    for routes in (
        device_routes(hub),
        module_routes(hub),
        job_routes(hub),
        twin_routes(hub),
        digital_twin_routes(hub),
        configuration_routes(hub),
        message_routes(hub),
        device_api_routes(hub),
        provisioning_routes(hub),
    ):
        application.add_routes(defined := list(routes))
        # the SDKs for C and C# write some paths with a slash at the end
        application.add_routes(
            web.RouteDef(each.method, f"{each.path}/", each.handler, each.kwargs) for each in defined
        )
    application.add_routes(blob_routes(hub))
    return application


def _refusal(error: HubError, hub: Hub, request: web.Request) -> web.Response:
    if isinstance(error, Unauthorized):
        _log.info("https: refused: %s", error)
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    if PROVISIONING_PATHS.fullmatch(request.path):
        return web.json_response(hub.provisioning.refusal(error), status=error.status, headers=headers)
    text = "Unauthorized" if isinstance(error, Unauthorized) else str(error)
    body = {
        "Message": f"ErrorCode:{error.code};{text}",
        "ExceptionMessage": f"Tracking ID:{secrets.token_hex(16)}-TimeStamp:{iso(hub.clock())}",
    }
    return web.json_response(body, status=error.status, headers={"iothub-errorcode": error.code, **headers})


def _unserved(error: web.HTTPException, hub: Hub, request: web.Request) -> web.Response:
    """What aiohttp refuses: a path or a method that is not there."""
    if not PROVISIONING_PATHS.fullmatch(request.path):
        return web.json_response({"Message": f"ErrorCode:{error.reason}"}, status=error.status)
    refused = HubError(error.reason)
    refused.number = 1000 * error.status
    return web.json_response(hub.provisioning.refusal(refused), status=error.status)
