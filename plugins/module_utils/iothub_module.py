# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the iothub modules have in common: their shared options, and the one way out of them."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule, env_fallback

from .iothub_connection import HUB, PROVISIONING, Service, address
from .iothub_engine import Hub
from .iothub_errors import HubError
from .iothub_provisioning import ProvisioningService
from .iothub_quota import SKUS
from .iothub_session import Engine, session

Result = dict[str, t.Any]
Specification = dict[str, dict[str, t.Any]]


def options(variable: str = "IOTHUB", /, **own: dict[str, t.Any]) -> Specification:
    """Return a module's argument_spec: the options of the fragment iotops.fleet.iothub and its own.

    :param variable: what the names of the environment variables of the connection begin with
    """
    secret = {"type": "str", "no_log": True}
    return {
        "connection_string": {**secret, "fallback": (env_fallback, [f"{variable}_CONNECTION_STRING"])},
        "hostname": {"type": "str"},
        "policy_name": {"type": "str"},
        "policy_key": {**secret, "fallback": (env_fallback, [f"{variable}_POLICY_KEY"])},
        "auth": {"type": "str", "choices": ["key", "identity"], "default": "key"},
        "ca_file": {"type": "path", "fallback": (env_fallback, ["IOTHUB_CA_FILE"])},
        "timeout": {"type": "int", "default": 60},
        **own,
    }


def sku_options() -> Specification:
    """Return the options of the fragment iotops.fleet.iothub.sku."""
    return {"sku": {"type": "str", "choices": list(SKUS)}, "units": {"type": "int", "default": 1}}


def run(module: AnsibleModule, work: t.Callable[[Hub], Result]) -> t.NoReturn:
    """Do the module's work on its hub and exit: the result, or the one worded error."""
    _run(module, HUB, Hub, work)


def run_provisioning(module: AnsibleModule, work: t.Callable[[ProvisioningService], Result]) -> t.NoReturn:
    """Do the module's work on its provisioning service and exit: the result, or the one worded error."""
    _run(module, PROVISIONING, ProvisioningService, work)


def _run(
    module: AnsibleModule, service: Service, engine: type[Engine], work: t.Callable[[Engine], Result]
) -> t.NoReturn:
    failed = None
    try:
        result = _result(module, service, engine, work)
    except HubError as error:
        result, failed = error.result, str(error)
    if failed is None:
        module.exit_json(**result)
    # outside the except block: ansible-core would append the chain of causes to the message
    module.fail_json(msg=failed, **_without_diff(module, result))
    raise SystemExit(1)  # never reached; fail_json has no type to say so


def _result(
    module: AnsibleModule, service: Service, engine: type[Engine], work: t.Callable[[Engine], Result]
) -> Result:
    where = address(module.params, service)
    if where.key:
        module.no_log_values.add(where.key)
    with session(engine, where, module.params["timeout"], module.params["ca_file"]) as connected:
        return _without_diff(module, work(connected))


def _without_diff(module: AnsibleModule, result: Result) -> Result:
    """Leave the diff out unless asked for: for a thousand devices it is large."""
    return result if module._diff else {name: value for name, value in result.items() if name != "diff"}
