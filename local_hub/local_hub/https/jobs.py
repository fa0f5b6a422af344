# SPDX-License-Identifier: Apache-2.0
"""Scheduled jobs, and import and export of identities, over REST.

azure/iot/hub/protocol/operations/jobs_operations.py
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from ..core.errors import ArgumentInvalid
from ..hub.hub import Hub
from .requests import json_object, page_size


def job_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/jobs/v2, and /jobs without it."""
    jobs = hub.jobs

    async def get(request: web.Request) -> web.Response:
        return web.json_response(jobs.document(request.match_info["id"]))

    async def put(request: web.Request) -> web.Response:
        return web.json_response(await jobs.put(request.match_info["id"], await json_object(request)))

    async def cancel(request: web.Request) -> web.Response:
        return web.json_response(await jobs.cancel(request.match_info["id"]))

    async def query(request: web.Request) -> web.Response:
        found = jobs.documents(request.query.get("jobType"), request.query.get("jobStatus"))
        start = _start(request)
        end = start + page_size(request, request.query.get("pageSize"))
        continuation = str(end) if end < len(found) else None
        headers = {"x-ms-item-type": "JobResponse"} | ({"x-ms-continuation": continuation} if continuation else {})
        agent = request.headers.get("User-Agent", "")
        if "iothubgatewayserviceapis/" not in agent or "Azure-SDK-For-Python" in agent:
            return web.json_response(found[start:end], headers=headers)
        # azure-iot-hub reads what the swagger says, `QueryResult`; all others read a list and these headers
        # (azure-iot-sdk-csharp, QueryResult.FromHttpResponseAsync; azure-iothub's query.js; azure-iot-cli-extension)
        result = {"type": "jobResponse", "items": found[start:end], "continuationToken": continuation}
        return web.json_response(result, headers=headers)

    transfers = hub.transfers

    async def create_transfer(request: web.Request) -> web.Response:
        return web.json_response(await transfers.create(await json_object(request)))

    async def list_transfers(request: web.Request) -> web.Response:
        return web.json_response(transfers.documents())

    async def get_transfer(request: web.Request) -> web.Response:
        return web.json_response(transfers.document(request.match_info["id"]))

    async def cancel_transfer(request: web.Request) -> web.Response:
        await transfers.cancel(request.match_info["id"])
        return web.Response(status=204)

    return (
        web.post("/jobs/create", create_transfer),
        web.get("/jobs", list_transfers),
        web.get("/jobs/{id}", get_transfer),
        web.delete("/jobs/{id}", cancel_transfer),
        web.get("/jobs/v2/query", query),
        web.get("/jobs/v2/{id}", get),
        web.put("/jobs/v2/{id}", put),
        web.post("/jobs/v2/{id}/cancel", cancel),
    )


def _start(request: web.Request) -> int:
    token = request.headers.get("x-ms-continuation") or request.query.get("continuationToken") or "0"
    if not token.isdecimal() or len(token) > 9:
        raise ArgumentInvalid("the continuation token is not one of this hub")
    return int(token)
