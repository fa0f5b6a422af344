# SPDX-License-Identifier: Apache-2.0
"""The Device Provisioning Service over HTTPS: enrolments for services, registration for devices.

Services: provisioningserviceclient/protocol/provisioning_service_client.py; devices:
https://learn.microsoft.com/rest/api/iot-dps/device/runtime-registration
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from ..core.errors import ArgumentInvalid, HubError, Unauthorized
from ..core.twin import JsonObject
from ..hub.hub import Hub
from ..hub.provisioning import ID_SCOPE, RETRY_AFTER, Applicant
from ..tls import client_certificates
from .requests import json_object, page_size

DEVICE_PATHS = re.compile(rf"/{ID_SCOPE}/registrations/[^/]+(/.*)?", re.IGNORECASE)
"""Of devices, which are admitted there."""
PATHS = re.compile(rf"(/{ID_SCOPE})?/(enrollments|enrollmentGroups|registrations)(/.*)?", re.IGNORECASE)
"""Of this service, which words its errors otherwise than IoT Hub."""
_MAX_BULK = 10
# Not the whole text is looked at: the Azure CLI sends the SELECT inside what Python prints of an object
# (operations/dps.py of azure-iot-cli-extension), and Azure takes it.
_EVERYTHING, _SOME = re.compile(r"\bselect\s+\*", re.IGNORECASE), re.compile(r"\b(where|group|top)\b", re.IGNORECASE)


def provisioning_routes(hub: Hub) -> Iterable[web.RouteDef]:
    """/enrollments, /enrollmentGroups, /registrations, and /{scope}/registrations."""
    service = hub.provisioning

    def crud(path: str, *, group: bool) -> Iterable[web.RouteDef]:
        async def get(request: web.Request) -> web.Response:
            return _answer(service.get(request.match_info["id"], group=group))

        async def put(request: web.Request) -> web.Response:
            body = await json_object(request)
            return _answer(await service.put(request.match_info["id"], body, _if_match(request), group=group))

        async def delete(request: web.Request) -> web.Response:
            await service.delete(request.match_info["id"], _if_match(request), group=group)
            return web.Response(status=204)

        async def query(request: web.Request) -> web.Response:
            statement = str((await json_object(request)).get("query", "")).strip()
            if not _EVERYTHING.search(statement) or _SOME.search(statement):
                raise ArgumentInvalid("only SELECT * is offered here")
            kind = ("enrollmentGroupId", "enrollmentGroup") if group else ("registrationId", "enrollment")
            return _page(request, service.all(group=group), *kind)

        async def attestation(request: web.Request) -> web.Response:
            return _answer(service.get(request.match_info["id"], group=group)["attestation"])

        one = path + "/{id}"
        return (
            web.post(path + "/query", query),
            web.post(one + "/attestationmechanism", attestation),
            web.get(one, get),
            web.put(one, put),
            web.delete(one, delete),
        )

    async def bulk(request: web.Request) -> web.Response:
        body = await json_object(request)
        errors = await _bulk(hub, body.get("mode"), body.get("enrollments"))
        return web.json_response({"isSuccessful": not errors, "errors": errors})

    async def state(request: web.Request) -> web.Response:
        return _answer(service.registration(request.match_info["id"]))

    async def states(request: web.Request) -> web.Response:
        states = service.registrations_of(request.match_info["id"])
        return _page(request, states, "registrationId", "deviceRegistration")

    async def forget(request: web.Request) -> web.Response:
        await service.delete_registration(request.match_info["id"], _if_match(request))
        return web.Response(status=204)

    def admitted(request: web.Request) -> Applicant:
        if request.transport is None:
            raise Unauthorized("the connection is gone")
        certificates, credential = client_certificates(request.transport), request.headers.get("Authorization", "")
        return service.admit(request.match_info["scope"], request.match_info["id"], credential, certificates)

    async def register(request: web.Request) -> web.Response:
        applicant = admitted(request)
        answer = await service.register(applicant, await json_object(request))
        return web.json_response(answer, status=202, headers={"Retry-After": str(RETRY_AFTER)})

    async def look_up(request: web.Request) -> web.Response:
        return web.json_response(service.registration(admitted(request).registration_id))

    async def operation(request: web.Request) -> web.Response:
        return web.json_response(service.operation(admitted(request), request.match_info["operation"]))

    scoped = "/{scope}/registrations/{id}"
    return (
        *crud("/enrollments", group=False),
        *crud("/enrollmentGroups", group=True),
        # Azure's paths are the same in any case, and so Node's SDK spells its attestationmechanism
        *crud("/enrollmentgroups", group=True),
        web.post("/enrollments", bulk),
        web.post("/registrations/{id}/query", states),
        web.get("/registrations/{id}", state),
        web.delete("/registrations/{id}", forget),
        web.put(scoped + "/register", register),
        web.post(scoped, look_up),
        web.get(scoped + "/operations/{operation}", operation),
    )


async def _bulk(hub: Hub, mode: Any, items: Any) -> list[JsonObject]:
    if not isinstance(items, list) or not 0 < len(items) <= _MAX_BULK or not all(isinstance(i, dict) for i in items):
        raise ArgumentInvalid(f"a bulk operation holds 1 to {_MAX_BULK} enrolments")
    if mode not in ("create", "update", "updateIfMatchETag", "delete"):
        raise ArgumentInvalid("mode is create, update, updateIfMatchETag or delete")
    errors = []
    for item in items:
        name, etag = str(item.get("registrationId", "")), item.get("etag")
        match = {"create": None, "updateIfMatchETag": f'"{etag}"'}.get(mode, "*")
        try:
            if mode == "delete":
                await hub.provisioning.delete(name, "*", group=False)
            else:
                if mode != "create":
                    hub.provisioning.get(name, group=False)  # a PUT with any ETag would create it
                await hub.provisioning.put(name, item, match, group=False)
        except HubError as error:
            errors.append({"registrationId": name, "errorCode": error.number, "errorStatus": str(error)})
    return errors


def _if_match(request: web.Request) -> str | None:
    """The provisioning SDK sends its ETags without quotes."""
    value = request.headers.get("If-Match", "").strip()
    if not value or value.strip('"') == "*":
        return "*" if value else None
    return value if value.endswith('"') else f'"{value}"'


def _answer(document: JsonObject) -> web.Response:
    headers = {"ETag": f'"{document["etag"]}"'} if "etag" in document else {}
    return web.json_response(document, headers=headers)


def _page(request: web.Request, documents: list[JsonObject], key: str, item_type: str) -> web.Response:
    """A page of documents, which are in the order of their names; the continuation is the last name before it."""
    size, after = page_size(request), _decoded(request.headers.get("x-ms-continuation", ""))
    rest = [document for document in documents if document[key].lower() > after]
    headers = {"x-ms-item-type": item_type, "x-ms-max-item-count": str(size)}
    if len(rest) > size:
        headers["x-ms-continuation"] = base64.urlsafe_b64encode(rest[size - 1][key].lower().encode()).decode()
    return web.json_response(rest[:size], headers=headers)


def _decoded(continuation: str) -> str:
    try:
        return base64.urlsafe_b64decode(continuation.encode()).decode()
    except ValueError:
        raise ArgumentInvalid("the continuation token is not one of this service") from None
