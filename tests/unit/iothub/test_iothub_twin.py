# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_twin against a hub in memory."""

from __future__ import annotations

import typing as t

from ansible_collections.iotops.fleet.plugins.module_utils.iothub_patch import difference, patched
from hub_simulator import HubSimulator
from hypothesis import given
from hypothesis import strategies as some

_values = some.recursive(
    some.none() | some.booleans() | some.integers(-3, 3) | some.text("ab", max_size=2),
    lambda inner: some.dictionaries(some.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_documents = some.dictionaries(some.sampled_from("abc"), _values, max_size=3)


def _stored(value: t.Any) -> t.Any:
    """A twin never holds null."""
    if isinstance(value, dict):
        return {key: _stored(inner) for key, inner in value.items() if inner is not None}
    return value


@given(_documents.map(_stored), _documents)
def test_after_the_difference_there_is_none(current: dict[str, t.Any], patch: dict[str, t.Any]) -> None:
    after = patched(current, difference(current, patch))
    assert difference(after, patch) == {}


def test_true_is_not_one_but_one_is_one_point_zero() -> None:
    assert difference({"a": 1, "b": 1}, {"a": True, "b": 1.0}) == {"a": True}


def test_patches_only_what_differs(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1", tags={"ring": "fleet", "floor": 2}, desired={"fridge": {"a": 1, "b": 2}})
    hub.add_device("f2", tags={"ring": "beta"}, desired={"fridge": {"a": 1}})
    wish = {"devices": ["f1", "f2"], "tags": {"ring": "beta"}, "desired": {"fridge": {"a": 1, "b": None}}}
    before = hub.state()
    predicted = run("iothub_twin", check=True, **wish)
    assert hub.state() == before
    done = run("iothub_twin", **wish)
    assert (predicted["devices"], predicted["diff"]) == (done["devices"], done["diff"])
    assert done["devices"] == [
        {"id": "f1", "state": "changed", "patch": {"tags": {"ring": "beta"}, "desired": {"fridge": {"b": None}}}},
        {"id": "f2", "state": "unchanged", "patch": {"tags": {}, "desired": {}}},
    ]
    assert hub.writes() == [("PATCH", "/twins/f1")]
    assert hub.twins["f1"]["tags"] == {"ring": "beta", "floor": 2}
    assert hub.twins["f1"]["properties"]["desired"]["fridge"] == {"a": 1}
    assert done["diff"]["before"] == {"f1": {"tags": {"ring": "fleet"}, "desired": {"fridge": {"a": 1, "b": 2}}}}
    assert done["diff"]["after"] == {"f1": {"tags": {"ring": "beta"}, "desired": {"fridge": {"a": 1}}}}
    assert not run("iothub_twin", **wish)["changed"]


def test_a_missing_device_stops_all_before_anything_is_written(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    result = run("iothub_twin", devices=["f1", "nobody"], tags={"ring": "beta"})
    assert result["failed"]
    assert result["msg"] == (
        "cannot patch twins: 1 of the devices are not registered on the hub hub.example.test: 'nobody'; "
        "create them with iotops.fleet.iothub_device"
    )
    assert hub.writes() == []


def test_many_devices_are_read_by_query_and_a_lagging_index_does_not_fool_it(run: t.Any, hub: HubSimulator) -> None:
    names = [f"f{number}" for number in range(130)]
    for name in names:
        hub.add_device(name, tags={"ring": "fleet"})
    hub.index_lags()
    assert run("iothub_twin", devices=names, tags={"ring": "beta"})["changed"]
    hub.requests.clear()
    assert not run("iothub_twin", devices=names, tags={"ring": "beta"})["changed"]
    assert hub.writes() == []
    assert hub.requests.count(("POST", "/devices/query")) == 2
