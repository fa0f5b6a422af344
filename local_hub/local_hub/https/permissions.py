# SPDX-License-Identifier: Apache-2.0
"""Who may make a REST request, and what a policy must grant for it.

https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#access-control-and-permissions says it of the identity
registry (RegistryRead, RegistryWrite) and of what services tell devices (ServiceConnect). Configurations and the import
of identities count as registry here, and so do the enrolments of the provisioning service. A device looks after its own
modules itself: iothub_registrymanager.c of the C SDK, given a device's connection string, and IoT Edge do that.
"""

from __future__ import annotations

import re

from aiohttp import web

from ..core.errors import Unauthorized
from ..core.policy import Right
from ..core.sas import SasToken
from ..hub.hub import Hub
from ..tls import client_certificates
from .requests import route_path

_OWN = ("/devices/{id}/modules", "/devices/{id}/modules/{mid}")
_SERVICE = re.compile(r"/(twins|digitaltwins|messages|jobs/v2)/.*|/devices/query|/devices/\{id\}/commands")
_QUERY = re.compile(r".*/query|/configurations/testQueries")


def admit(hub: Hub, request: web.Request) -> None:
    """Admit who asks for something that not everybody may have.

    Raises:
        Unauthorized: not with this token or certificate.
    """
    path, credential = route_path(request), request.headers.get("Authorization", "")
    if path in _OWN and not (credential and SasToken.parse(credential).policy):
        if request.transport is None:
            raise Unauthorized("the connection is gone")
        hub.access.device(request.match_info["id"], credential, client_certificates(request.transport))
    else:
        hub.access.service(credential, _needed_right(request.method, path), request.path)


def _needed_right(method: str, path: str) -> Right:
    if _SERVICE.fullmatch(path):
        return Right.SERVICE_CONNECT
    return Right.REGISTRY_READ if method == "GET" or _QUERY.fullmatch(path) else Right.REGISTRY_WRITE
