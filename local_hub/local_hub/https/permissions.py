# SPDX-License-Identifier: Apache-2.0
"""What a policy must grant for a REST request.

https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas#access-control-and-permissions says it of the identity
registry (RegistryRead, RegistryWrite) and of what services tell devices (ServiceConnect). Configurations and the import
of identities count as registry here, and so do the enrolments of the provisioning service.
"""

from __future__ import annotations

import re

from aiohttp import web

from ..core.policy import Right

_SERVICE = re.compile(r"/(twins|digitaltwins|messages|jobs/v2)/.*|/devices/query|/devices/\{id\}/commands")
_QUERY = re.compile(r".*/query|/configurations/testQueries")


def needed_right(request: web.Request) -> Right:
    """The right."""
    resource = request.match_info.route.resource
    path = "" if resource is None else resource.canonical
    if _SERVICE.fullmatch(path):
        return Right.SERVICE_CONNECT
    return Right.REGISTRY_READ if request.method == "GET" or _QUERY.fullmatch(path) else Right.REGISTRY_WRITE
