# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory plugin iothub makes of twins; the plugin itself runs in tests/integration."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_connection import parse
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_engine import Hub
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_errors import HubError
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_hosts import fingerprint, hosts
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_session import session
from hub_simulator import CONNECTION_STRING, KEY, HubSimulator


@pytest.fixture
def read(hub: HubSimulator) -> t.Any:
    hub.add_device("f1", tags={"ring": "beta", "address": "10.0.0.1"}, desired={"fridge": {"eco": True}})
    hub.add_device("f2", tags={"ring": "fleet", "address": 17})
    hub.twins["f1"]["properties"]["reported"] = {"network": {"address": "10.0.0.2"}, "$version": 3}

    def reader(**choice: t.Any) -> dict[str, dict[str, t.Any]]:
        with session(Hub, parse(CONNECTION_STRING), 60, None) as engine:
            return hosts(engine, **choice)

    return reader


def test_a_host_knows_its_twin_and_no_key(read: t.Any) -> None:
    found = read()
    assert set(found) == {"f1", "f2"}
    assert found["f1"] == {
        "iothub_id": "f1",
        "iothub_status": "enabled",
        "iothub_connection_state": "Disconnected",
        "iothub_last_activity_time": None,
        "iothub_tags": {"ring": "beta", "address": "10.0.0.1"},
        "iothub_desired": {"fridge": {"eco": True}},
        "iothub_reported": {"network": {"address": "10.0.0.2"}},
    }
    assert "SharedAccessKey" not in str(found)


def test_an_address_is_a_text_at_a_path(read: t.Any) -> None:
    assert {name: one.get("ansible_host") for name, one in read(address="tags.address").items()} == {
        "f1": "10.0.0.1",
        "f2": None,
    }
    assert read(address="properties.reported.network.address")["f1"]["ansible_host"] == "10.0.0.2"
    with pytest.raises(HubError, match=r"address is 'network.address'; it begins with tags\. or"):
        read(address="network.address")


def test_a_condition_or_a_query_chooses(read: t.Any) -> None:
    assert set(read(target_condition="tags.ring = 'fleet'")) == {"f2"}
    assert set(read(query="SELECT * FROM devices WHERE tags.ring = 'beta'", target_condition="nonsense")) == {"f1"}
    with pytest.raises(HubError, match="query gives rows without deviceId; begin it with SELECT \\* FROM devices"):
        read(query="SELECT COUNT() AS n FROM devices")


def test_throttling_is_waited_for_and_a_refused_key_hidden(read: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.refuse_next(429, retry_after=7)
    assert len(read()) == 2
    assert len(clock.pauses) == 1
    hub.refuse_next(400, KEY)
    with pytest.raises(HubError) as error:
        read()
    assert KEY not in str(error.value)
    assert "***" in str(error.value)


def test_caches_of_other_hubs_and_choices_are_others() -> None:
    choice = {"query": None, "target_condition": "*", "address": None}
    prints = {fingerprint("a", choice), fingerprint("b", choice), fingerprint("a", {**choice, "query": "x"})}
    assert len(prints) == 3
    assert fingerprint("a", choice) == fingerprint("a", dict(reversed(choice.items())))
