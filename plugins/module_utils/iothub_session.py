# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection to a service, from its beginning to its end, for modules and plugins alike."""

from __future__ import annotations

import contextlib
import typing as t

from ansible.module_utils.basic import missing_required_lib

from .iothub_connection import HubAddress
from .iothub_engine import Hub
from .iothub_errors import HubError
from .iothub_patience import Patience
from .iothub_provisioning import ProvisioningService
from .iothub_trust import trusting

Engine = t.TypeVar("Engine", Hub, ProvisioningService)


@contextlib.contextmanager
def session(engine: type[Engine], where: HubAddress, timeout: int, ca_file: str | None) -> t.Iterator[Engine]:
    """Give an engine for ``timeout`` seconds; HubErrors leave without the key in them."""
    if timeout < 1:
        raise HubError(f"timeout is {timeout} s; it must be 1 s or more")
    with trusting(ca_file):
        connected = engine(where, Patience(timeout), ca_file)
        try:
            yield connected
        except HubError as error:
            raise HubError(where.redact(str(error)), error.result) from None
        except ImportError as error:
            # azure-iot-hub 2.7 imports six without requiring it: name the module that is really missing
            raise HubError(f"{missing_required_lib('azure-iot-hub')} ({error})") from None
        finally:
            connected.close()
