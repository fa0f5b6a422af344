# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every iothub module takes: which hub, whom to trust, how long to try."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for ``extends_documentation_fragment: iotops.fleet.iothub``."""

    DOCUMENTATION = r"""
options:
  connection_string:
    description:
      - Connection string of a shared access policy of the hub,
        C(HostName=NAME.azure-devices.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY).
      - The host name may carry a port, C(HOST:PORT), for HTTPS. Messages always go to port 5671.
      - If not given, the environment variable E(IOTHUB_CONNECTION_STRING) is used.
    type: str
    required: true
  ca_file:
    description:
      - PEM file that the certificate of the hub is verified against. Needed for a private hub only.
      - If not given, the environment variable E(IOTHUB_CA_FILE) is used, and then what the system trusts.
    type: path
  timeout:
    description:
      - Seconds that the whole operation may take, with all repetitions that throttling makes necessary.
    type: int
    default: 60
requirements:
  - six (azure-iot-hub 2.7 imports it without requiring it)
  - azure-iot-hub >= 2.7 (Python 3.13 at most, as its dependency uamqp)
notes:
  - Runs where the module is executed, usually C(localhost). The devices themselves are never connected to.
  - A hub that throttles is asked again, with growing pauses or when it says, until O(timeout) is over.
"""
