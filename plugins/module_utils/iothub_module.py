# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the iothub modules have in common: their shared options, and the one way out of them."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from .iothub_connection import parse
from .iothub_engine import Hub
from .iothub_errors import HubError
from .iothub_patience import Patience
from .iothub_trust import trusting

Result = dict[str, t.Any]


def options(**own: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Return a module's argument_spec: the options of the fragment iotops.fleet.iothub and its own."""
    return {
        "connection_string": {
            "type": "str",
            "required": True,
            "no_log": True,
            "fallback": (env_fallback, ["IOTHUB_CONNECTION_STRING"]),
        },
        "ca_file": {"type": "path", "fallback": (env_fallback, ["IOTHUB_CA_FILE"])},
        "timeout": {"type": "int", "default": 60},
        **own,
    }


def run(module: AnsibleModule, work: t.Callable[[Hub], Result]) -> t.NoReturn:
    """Do the module's work on its hub and exit: the result, or the one worded error."""
    try:
        result = _result(module, work)
    except HubError as error:
        message, rest = str(error), error.result
    else:
        module.exit_json(**result)
    # outside the except block: ansible-core would append the chain of causes to the message
    module.fail_json(msg=message, **rest)
    raise SystemExit(1)  # never reached; fail_json has no type to say so


def _result(module: AnsibleModule, work: t.Callable[[Hub], Result]) -> Result:
    if module.params["timeout"] < 1:
        raise HubError(f"timeout is {module.params['timeout']} s; it must be 1 s or more")
    address = parse(module.params["connection_string"])
    module.no_log_values.add(address.key)
    ca_file = module.params["ca_file"]
    with trusting(ca_file):
        try:
            hub = Hub(address, Patience(module.params["timeout"]), ca_file)
        except ImportError as error:
            # azure-iot-hub 2.7 imports six without requiring it: name the module that is really missing
            raise HubError(f"{missing_required_lib('azure-iot-hub')} ({error})") from None
        try:
            return _without_diff(module, work(hub))
        except HubError as error:
            raise HubError(address.redact(str(error)), error.result) from None
        finally:
            hub.close()


def _without_diff(module: AnsibleModule, result: Result) -> Result:
    """Leave the diff out unless asked for: for a thousand devices it is large."""
    return result if module._diff else {name: value for name, value in result.items() if name != "diff"}
