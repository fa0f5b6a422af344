# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices of an IoT hub as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: iothub
short_description: Devices of an Azure IoT hub as hosts
version_added: 0.1.0
description:
  - Makes a host of each device that a target condition or a query finds, with its tags and properties as variables.
  - It is for the few cases in which hosts are devices, as when a workshop reaches some of them by SSH. A fleet is
    steered through the hub, by the collection's modules, on C(localhost).
  - Its configuration file ends in C(iothub.yml) or C(iothub.yaml).
  - Keys of devices are never read.
author:
  - The iotops.fleet project (@iotops-fleet)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Token that makes sure that this is a configuration file of the plugin.
    type: str
    required: true
    choices: [iotops.fleet.iothub]
  target_condition:
    description:
      - Which devices, a condition on tags and reported properties, for example C(tags.ring = 'beta'). C(*) is all.
    type: str
    default: "*"
  query:
    description:
      - A whole query instead of O(target_condition). Its rows need a C(deviceId), so C(SELECT *) is best.
    type: str
  address:
    description:
      - Where C(ansible_host) is found in the twin, a path that begins with C(tags.) or C(properties.reported.).
      - Devices that have no text there get no C(ansible_host).
    type: str
  connection_string:
    description:
      - Connection string of a shared access policy of the hub,
        C(HostName=NAME.azure-devices.net;SharedAccessKeyName=POLICY;SharedAccessKey=KEY). The rights ServiceConnect and
        RegistryRead are enough. A secret, so leave it to the variable, or encrypt it with C(ansible-vault).
      - O(hostname) wins over it.
    type: str
    env:
      - name: IOTHUB_CONNECTION_STRING
  hostname:
    description: Host name of the hub, with O(policy_name) and O(policy_key), or with O(auth=identity).
    type: str
  policy_name:
    description: Name of the shared access policy, with O(hostname).
    type: str
  policy_key:
    description: Key of the shared access policy, with O(hostname). A secret.
    type: str
    env:
      - name: IOTHUB_POLICY_KEY
  auth:
    description:
      - Who we are to the hub. V(key) is a shared access policy. V(identity) is an identity of Azure, found by
        azure-identity, with a role such as IoT Hub Data Reader.
    type: str
    choices: [key, identity]
    default: key
  ca_file:
    description: PEM file that the certificate of the hub is verified against. Needed for a private hub only.
    type: path
    env:
      - name: IOTHUB_CA_FILE
  timeout:
    description: Seconds that reading may take, with all repetitions that throttling makes necessary.
    type: int
    default: 60
requirements:
  - six (azure-iot-hub 2.7 imports it without requiring it)
  - azure-iot-hub >= 2.7 (Python 3.13 at most, as its dependency uamqp)
  - azure-identity for O(auth=identity)
notes:
  - The variables of a host are C(iothub_id), C(iothub_status), C(iothub_connection_state),
    C(iothub_last_activity_time), C(iothub_tags), C(iothub_desired) and C(iothub_reported). O(compose), O(groups) and
    O(keyed_groups) can use them.
seealso:
  - module: iotops.fleet.iothub_device_info
  - module: iotops.fleet.iothub_query_info
"""

EXAMPLES = r"""
# workshop.iothub.yml: the beta ring, grouped by ring and model, reached at the address that a device reports itself.
# The connection string is in the environment variable IOTHUB_CONNECTION_STRING. What was read is kept for ten minutes.
plugin: iotops.fleet.iothub
target_condition: tags.ring = 'beta'
address: properties.reported.network.address
keyed_groups:
  - key: iothub_tags.ring
    prefix: ring
  - key: iothub_tags.model
    prefix: model
groups:
  online: iothub_connection_state == 'Connected'
compose:
  ansible_user: "'service'"
  release: iothub_reported.fridge.update.release | default('none')
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/iothub
cache_timeout: 600
"""

import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ..module_utils.iothub_connection import HubAddress, address
from ..module_utils.iothub_engine import Hub
from ..module_utils.iothub_errors import HubError
from ..module_utils.iothub_hosts import Variables, fingerprint, hosts
from ..module_utils.iothub_session import session

_CONNECTION = ("connection_string", "hostname", "policy_name", "policy_key", "auth", "ca_file", "timeout")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # ansible has no types
    """The plugin: reads hosts from the hub or from the cache, and puts them into the inventory."""

    NAME = "iotops.fleet.iothub"

    def verify_file(self, path: str) -> bool:
        """Return whether this is a configuration file of the plugin."""
        return bool(super().verify_file(path)) and path.endswith(("iothub.yml", "iothub.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        for name, variables in sorted(self._hosts(path, cache).items()):
            self._add(name, variables)

    def _hosts(self, path: str, cache: bool) -> dict[str, Variables]:
        """Return the hosts from the cache if it may be asked and has them, or else from the hub."""
        given = {name: self._templated(name) for name in _CONNECTION}
        choice = {name: self.get_option(name) for name in ("query", "target_condition", "address")}
        wanted = self.get_option("cache")
        try:
            where = address(given)
            if not wanted:
                return self._read(where, given, choice)
            self.load_cache_plugin()
            key = f"{self.get_cache_key(path)}_{fingerprint(where.netloc, choice)}"
            if not cache or key not in self._cache:
                self._cache[key] = self._read(where, given, choice)
            return t.cast("dict[str, Variables]", self._cache[key])
        except HubError as error:
            message = str(error)
        # outside the except block: no chain of causes, which might show more
        raise AnsibleParserError(message)

    @staticmethod
    def _read(where: HubAddress, given: Variables, choice: Variables) -> dict[str, Variables]:
        with session(Hub, where, given["timeout"], given["ca_file"]) as hub:
            return hosts(hub, **choice)

    def _templated(self, name: str) -> t.Any:
        value = self.get_option(name)
        return self.templar.template(value) if isinstance(value, str) and "{{" in value else value

    def _add(self, name: str, variables: Variables) -> None:
        self.inventory.add_host(name)
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
