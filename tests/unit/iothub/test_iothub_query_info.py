# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_query_info against a hub in memory."""

from __future__ import annotations

import typing as t

import pytest
from hub_simulator import HubSimulator


@pytest.fixture
def fleet(hub: HubSimulator) -> HubSimulator:
    for number in range(230):
        hub.add_device(f"f{number:03d}", tags={"number": number})
    return hub


def test_follows_the_continuation_to_the_end(run: t.Any, fleet: HubSimulator) -> None:
    result = run("iothub_query_info", query="SELECT * FROM devices")
    assert not result["changed"]
    assert [item["tags"]["number"] for item in result["rows"]] == list(range(230))
    assert len(fleet.requests) == 3


def test_stops_at_max_items(run: t.Any, fleet: HubSimulator) -> None:
    assert len(run("iothub_query_info", query="SELECT * FROM devices", max_items=120)["rows"]) == 120
    assert len(fleet.requests) == 2
    assert run("iothub_query_info", query="SELECT * FROM devices", max_items=0)["rows"] == []


def test_keeps_columns_that_no_twin_has(run: t.Any, fleet: HubSimulator) -> None:
    """The SDK's own query method turns this row into an empty Twin."""
    assert run("iothub_query_info", query="SELECT COUNT() AS size FROM devices")["rows"] == [{"size": 230}]


def test_says_what_is_wrong_with_a_query(run: t.Any, fleet: HubSimulator) -> None:
    fleet.refuse_next(400, "ArgumentInvalid")
    result = run("iothub_query_info", query="SELECT nonsense")
    assert result["msg"] == "cannot run the query: the hub hub.example.test answered 400 ArgumentInvalid: said the hub"
