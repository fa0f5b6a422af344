# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a batch takes, told in advance; and that the local hub's throttles are the same."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_errors import HubError
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_quota import (
    METHOD_METER,
    SKUS,
    Operation,
    method_bytes,
    rates,
    seconds,
)
from hub_simulator import HubSimulator

BETA = {"tags": {"ring": "beta"}}


@pytest.mark.parametrize(
    ("sku", "units"), [(sku, units) for sku in SKUS for units in ([1] if sku == "F1" else [1, 3, 10])]
)
def test_the_figures_are_the_local_hubs(sku: str, units: int) -> None:
    quota = pytest.importorskip("local_hub.core.quota")
    theirs = quota.plan(sku, units).rates
    assert rates(sku, units) == {operation: theirs[quota.Operation(operation.value)] for operation in Operation}
    assert (quota.SKUS, quota.METHOD_METER) == (SKUS, METHOD_METER)


@pytest.mark.parametrize(
    ("sku", "units", "work", "expected"),
    [
        ("S1", 1, {}, 0),
        ("S1", 1, {Operation.C2D: 100}, 0),  # a minute's worth at once
        ("S1", 1, {Operation.C2D: 101}, 1),
        ("S1", 1, {Operation.C2D: 1100}, 600),
        ("S1", 10, {Operation.C2D: 1100}, 6),
        ("S3", 1, {Operation.C2D: 1100}, 0),
        ("S1", 1, {Operation.JOB_DEVICE: 110}, 10),
        ("F1", 1, {Operation.TWIN_UPDATE: 3500, Operation.QUERY: 25}, 25),
        ("S1", 1, {Operation.METHOD: method_bytes(10, 2500)}, 3),
        ("S1", 1, {Operation.METHOD: method_bytes(4097, 2500)}, 65),
    ],
)
def test_seconds(sku: str, units: int, work: dict[Operation, float], expected: int) -> None:
    assert seconds(sku, units, work) == expected


def test_there_is_no_such_hub(run: t.Any, hub: HubSimulator) -> None:
    with pytest.raises(HubError, match="there is no hub of 2 units F1: F1 has 1"):
        rates("F1", 2)
    said = run("iothub_twin", devices=["f1"], sku="F1", units=2, **BETA)["msg"]
    assert said.startswith("there is no hub of 2 units F1")
    assert hub.requests == []


@pytest.fixture
def fleet(hub: HubSimulator) -> list[str]:
    names = [f"f{number:04d}" for number in range(2200)]
    for name in names:
        hub.add_device(name)
        hub.connect(name, lambda _name, _payload: (200, None))
    return names


@pytest.mark.parametrize(
    ("module", "options", "expected"),
    [
        # to see that 2200 twins are as they should be takes 22 queries, two more than a minute's
        ("iothub_twin", {}, 6),
        ("iothub_message", {"body": "x"}, 1260),
        ("iothub_method", {"method": "x"}, 0),
    ],
)
def test_is_told_in_check_mode_as_in_the_run(
    run: t.Any, hub: HubSimulator, fleet: list[str], module: str, options: dict[str, t.Any], expected: int
) -> None:
    options = {"devices": fleet, "sku": "S1", "timeout": 100_000, **options}
    predicted = run(module, check=True, **options)
    assert predicted["estimated_seconds"] == expected
    assert run(module, **options)["estimated_seconds"] == expected


def test_devices_and_jobs_tell_it_too(run: t.Any, hub: HubSimulator, fleet: list[str]) -> None:
    new = [{"id": f"n{number}"} for number in range(110)]
    assert run("iothub_device", check=True, devices=new, sku="F1")["estimated_seconds"] == 0
    locked = [{"id": name, "status": "disabled"} for name in fleet[:60]]
    # reading and writing the identity of each: 120 operations of the registry, which does 100 a minute
    predicted = run("iothub_device", check=True, devices=locked, sku="F1")
    assert predicted["estimated_seconds"] == 12
    job = {"id": "j", "target_condition": "*", "tags": {"a": 1}, "sku": "S1"}
    assert run("iothub_job", check=True, **job)["estimated_seconds"] == 219
    assert run("iothub_job", **job)["estimated_seconds"] == 219


@pytest.mark.parametrize("module", ["iothub_twin", "iothub_message", "iothub_method"])
def test_nobody_asked_nothing_told(run: t.Any, hub: HubSimulator, module: str) -> None:
    options = {"iothub_twin": {"tags": {}}, "iothub_message": {"body": "x"}, "iothub_method": {"method": "x"}}[module]
    assert "estimated_seconds" not in run(module, devices=[], **options)
