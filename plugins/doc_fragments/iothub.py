# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every iothub module takes: which hub, who we are to it, whom to trust, how long to try."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments for ``extends_documentation_fragment: iotops.fleet.iothub[.part]``."""

    DOCUMENTATION = r"""
options:
  connection_string:
    description:
      - Connection string of a shared access policy of the hub,
        C(HostName=NAME.azure-devices.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY).
      - The host name may carry a port, C(HOST:PORT), for HTTPS. Messages always go to port 5671.
      - If not given, the environment variable E(IOTHUB_CONNECTION_STRING) is used. O(hostname) wins over both.
    type: str
  hostname:
    description:
      - Host name of the hub, C(NAME.azure-devices.net), where no connection string is at hand. Give O(policy_name) and
        O(policy_key) with it, or O(auth=identity).
    type: str
  policy_name:
    description: Name of the shared access policy, with O(hostname).
    type: str
  policy_key:
    description:
      - Key of the shared access policy, with O(hostname).
      - If not given, the environment variable E(IOTHUB_POLICY_KEY) is used.
    type: str
  auth:
    description:
      - Who we are to the hub. V(key) is a shared access policy, by O(connection_string) or O(policy_key).
      - V(identity) is an identity of Azure, found by the DefaultAzureCredential of azure-identity in the variables
        E(AZURE_CLIENT_ID), E(AZURE_TENANT_ID) and E(AZURE_CLIENT_SECRET), in a workload or managed identity, or in
        C(az login). It needs O(hostname) and a role such as IoT Hub Data Contributor. A local hub has no such
        identities.
    type: str
    choices: [key, identity]
    default: key
  ca_file:
    description:
      - PEM file that the certificate of the hub is verified against. Needed for a private one only.
      - If not given, the environment variable E(IOTHUB_CA_FILE) is used, and then what the system trusts.
    type: path
"""

    # Of a hub and of a provisioning service; use together with the standard fragment or PROVISIONING
    SERVICE = r"""
options:
  timeout:
    description:
      - Seconds that the whole operation may take, with all repetitions that throttling makes necessary.
    type: int
    default: 60
requirements:
  - six (azure-iot-hub 2.7 imports it without requiring it)
  - azure-iot-hub >= 2.7 (Python 3.13 at most, as its dependency uamqp)
  - azure-identity for O(auth=identity)
notes:
  - Runs where the module is executed, usually C(localhost). The devices themselves are never connected to.
  - A service that throttles is asked again, with growing pauses or when it says, until O(timeout) is over.
"""

    # How long a batch will take; use together with the standard fragment
    SKU = r"""
options:
  sku:
    description:
      - Size of the hub, to be told in RV(estimated_seconds) how long its throttles make the batch last.
      - It changes nothing else. A hub that throttles is obeyed in any case.
    type: str
    choices: [F1, S1, S2, S3]
  units:
    description: How many units of O(sku) the hub has.
    type: int
    default: 1
"""

    # Devices by id or by condition; use together with the standard fragment
    CHOSEN = r"""
options:
  devices:
    description: Ids of the devices. An empty list is fine and changes nothing.
    type: list
    elements: str
  target_condition:
    description:
      - Which devices, a condition on tags and reported properties as in M(iotops.fleet.iothub_configuration). C(*) is
        all. Give this or O(devices).
    type: str
"""

    # A provisioning service instead of a hub
    PROVISIONING = r"""
options:
  connection_string:
    description:
      - Connection string of a shared access policy of the provisioning service,
        C(HostName=NAME.azure-devices-provisioning.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY).
      - A local hub is its own provisioning service, so its connection string serves here too.
      - If not given, the environment variable E(IOTDPS_CONNECTION_STRING) is used. O(hostname) wins over both.
    type: str
  hostname:
    description:
      - Host name of the provisioning service, C(NAME.azure-devices-provisioning.net), where no connection string is at
        hand. Give O(policy_name) and O(policy_key) with it, or O(auth=identity).
    type: str
  policy_name:
    description: Name of the shared access policy, with O(hostname).
    type: str
  policy_key:
    description:
      - Key of the shared access policy, with O(hostname).
      - If not given, the environment variable E(IOTDPS_POLICY_KEY) is used.
    type: str
  auth:
    description:
      - Who we are to the provisioning service. V(key) is a shared access policy, by O(connection_string) or
        O(policy_key).
      - V(identity) is an identity of Azure, found by the DefaultAzureCredential of azure-identity in the variables
        E(AZURE_CLIENT_ID), E(AZURE_TENANT_ID) and E(AZURE_CLIENT_SECRET), in a workload or managed identity, or in
        C(az login). It needs O(hostname) and a role such as Device Provisioning Service Data Contributor. A local hub
        has no such identities.
    type: str
    choices: [key, identity]
    default: key
  ca_file:
    description:
      - PEM file that the certificate of the provisioning service is verified against. Needed for a private one only.
      - If not given, the environment variable E(IOTHUB_CA_FILE) is used, and then what the system trusts.
    type: path
"""
