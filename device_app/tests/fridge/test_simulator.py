# SPDX-License-Identifier: Apache-2.0
"""The simulated cabinet: its physics, its faults, and what it remembers over a restart and a power failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fridge.control.model import Chirp, Outputs
from fridge.hardware import simulator
from fridge.hardware.simulator import COOLING, KITCHEN, WALL, SimulatedCabinet
from fridge.hardware.sound import RecordedBeeper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OFF = Outputs(compressor=False, light=False, buzzer=False)
ON = Outputs(compressor=True, light=False, buzzer=False)
HOUR = 3600.0
nodes = st.floats(-10.0, KITCHEN)
kitchens = st.floats(10.0, 45.0)


class WallClock:
    """Wall time that a test turns."""

    def __init__(self) -> None:
        self.now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> WallClock:
    return WallClock()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run/cabinet.json"


# ---- physics -----------------------------------------------------------------------------------------------------


@given(
    air=nodes,
    food=nodes,
    kitchen=kitchens,
    turns=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 3600)), min_size=1, max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_air_and_food_stay_between_the_coldest_the_compressor_can_and_the_kitchen(
    air: float, food: float, kitchen: float, turns: list[tuple[bool, bool, int]]
) -> None:
    cabinet = SimulatedCabinet(air, food)
    cabinet.fault("kitchen", str(kitchen))
    kitchen = float(cabinet.faults["kitchen"])  # to six digits
    coldest = min(air, food, kitchen - COOLING / WALL) - 1e-9
    warmest = max(air, food, kitchen) + 1e-9
    for compressor, door, seconds in turns:
        cabinet.fault("door", "open" if door else "closed")
        cabinet.drive(ON if compressor else OFF, seconds)
        assert coldest <= cabinet.air_node <= warmest
        assert coldest <= cabinet.food_node <= warmest


@given(air=nodes, food=nodes, kitchen=kitchens)
@settings(max_examples=15, deadline=None)
def test_a_shut_cabinet_without_cooling_becomes_a_kitchen_and_never_turns_back(
    air: float, food: float, kitchen: float
) -> None:
    cabinet = SimulatedCabinet(air, food)
    cabinet.fault("kitchen", str(kitchen))
    kitchen = float(cabinet.faults["kitchen"])
    for _ in range(10):  # until air and food have agreed on how far they are behind each other
        cabinet.drive(OFF, HOUR)
    began = before = abs(kitchen - cabinet.air_node), abs(kitchen - cabinet.food_node)
    for _ in range(24):
        cabinet.drive(OFF, HOUR)
        after = abs(kitchen - cabinet.air_node), abs(kitchen - cabinet.food_node)
        assert after[0] <= before[0] + 1e-6
        assert after[1] <= before[1] + 1e-6
        before = after
    assert all(late <= early / 3 + 1e-6 for early, late in zip(began, before, strict=True))


@given(air=nodes, food=nodes, compressor=st.booleans(), parts=st.lists(st.integers(1, 600), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_time_in_one_piece_or_in_many_comes_to_the_same(
    air: float, food: float, compressor: bool, parts: list[int]
) -> None:
    whole, pieces = SimulatedCabinet(air, food), SimulatedCabinet(air, food)
    outputs = ON if compressor else OFF
    whole.drive(outputs, sum(parts))
    for seconds in parts:
        pieces.drive(outputs, seconds)
    assert whole.air_node == pytest.approx(pieces.air_node, abs=1e-6)
    assert whole.food_node == pytest.approx(pieces.food_node, abs=1e-6)


def test_speed_turns_one_real_second_into_many() -> None:
    fast, slow = SimulatedCabinet(speed=60.0), SimulatedCabinet()
    fast.drive(ON, 10.0)
    slow.drive(ON, 600.0)
    assert fast.air_node == slow.air_node
    assert fast.air_node < 5.0


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_time_goes_forward_only(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        SimulatedCabinet(speed=speed)


def test_an_open_door_warms_the_air_many_times_as_fast() -> None:
    shut, open_ = SimulatedCabinet(), SimulatedCabinet()
    open_.fault("door", "open")
    assert open_.door_open()
    for cabinet in (shut, open_):
        cabinet.drive(OFF, 60.0)
    assert open_.air_node - 5.0 > 10 * (shut.air_node - 5.0) > 0


# ---- faults ------------------------------------------------------------------------------------------------------


def test_a_new_cabinet_is_whole() -> None:
    cabinet = SimulatedCabinet()
    assert cabinet.faults == {"door": "closed", "probe": "ok", "relay": "ok", "kitchen": "21"}
    assert cabinet.air() == 5.0
    assert not cabinet.door_open()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("door", "ajar", "door is closed or open, not 'ajar'"),
        ("probe", "found", "probe is ok, lost, frozen or noisy, not 'found'"),
        ("relay", "", "relay is ok, stuck-on or stuck-off"),
        ("kitchen", "hot", "kitchen is a temperature from -20 to 50 degrees, not 'hot'"),
        ("kitchen", "nan", "kitchen is a temperature"),
        ("kitchen", None, "kitchen is a temperature"),
        ("oven", "on", "'oven' is none of door, probe, relay, kitchen"),
    ],
)
def test_a_fault_that_there_is_not_is_answered_with_those_that_there_are(name: str, value: Any, told: str) -> None:
    cabinet = SimulatedCabinet()
    with pytest.raises(ValueError, match=told):
        cabinet.fault(name, value)
    assert cabinet.faults == SimulatedCabinet().faults


def test_a_lost_probe_gives_nothing_and_a_found_one_the_truth() -> None:
    cabinet = SimulatedCabinet()
    cabinet.fault("probe", "lost")
    assert cabinet.air() is None
    cabinet.fault("probe", "ok")
    assert cabinet.air() == cabinet.air_node


def test_a_frozen_probe_repeats_itself_whatever_happens() -> None:
    cabinet = SimulatedCabinet()
    cabinet.fault("probe", "frozen")
    cabinet.drive(ON, HOUR)
    cabinet.fault("probe", "frozen")
    assert cabinet.air() == 5.0
    assert cabinet.air_node < 4.0


def test_a_noisy_probe_is_beside_the_truth_by_a_little_and_the_same_in_each_run() -> None:
    runs = []
    for _ in range(2):
        cabinet = SimulatedCabinet()
        cabinet.fault("probe", "noisy")
        runs.append([cabinet.air() for _ in range(70)])
    assert runs[0] == runs[1]
    readings = [reading for reading in runs[0] if reading is not None]
    assert (min(readings), max(readings)) == (4.7, 5.3)
    assert sum(readings) / len(readings) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("relay", "driven", "cools"),
    [("ok", ON, True), ("ok", OFF, False), ("stuck-on", OFF, True), ("stuck-off", ON, False)],
)
def test_a_relay_that_sticks_cools_as_it_likes_and_remembers_what_it_was_told(
    relay: str, driven: Outputs, cools: bool
) -> None:
    cabinet = SimulatedCabinet()
    cabinet.fault("relay", relay)
    cabinet.drive(driven, 600.0)
    assert cabinet.cools == cools
    assert (cabinet.air_node < 5.0) == cools
    assert cabinet.outputs == driven


def test_a_hot_kitchen_warms_more() -> None:
    hot, mild = SimulatedCabinet(), SimulatedCabinet()
    hot.fault("kitchen", "38.50")
    assert hot.faults["kitchen"] == "38.5"
    for cabinet in (hot, mild):
        cabinet.drive(OFF, HOUR)
    assert hot.air_node > mild.air_node


def test_what_sounds_is_remembered_once() -> None:
    cabinet = SimulatedCabinet()
    assert isinstance(cabinet.beeper, RecordedBeeper)
    loud = Outputs(compressor=False, light=False, buzzer=True)
    cabinet.drive(loud, 0.25)
    cabinet.drive(loud, 0.25)
    cabinet.drive(Outputs(compressor=False, light=False, buzzer=False, chirps=(Chirp.CLICK, Chirp.LONG)), 0.25)
    assert list(cabinet.beeper.sounded) == ["alarm", "quiet", "click", "long"]


# ---- over a restart ----------------------------------------------------------------------------------------------


def test_a_new_process_finds_the_cabinet_as_it_was_left_and_warmed_since(record: Path, wall: WallClock) -> None:
    first = SimulatedCabinet(air=4.0, food=3.0, speed=60.0, record=record, wall=wall)
    for name, value in {"door": "open", "probe": "noisy", "relay": "stuck-on", "kitchen": "30"}.items():
        first.fault(name, value)
    first.drive(OFF, 1.0)
    twin = SimulatedCabinet(first.air_node, first.food_node)
    wall.now += 30.0  # half an hour of the cabinet's time

    second = SimulatedCabinet(air=-20.0, food=-20.0, speed=60.0, record=record, wall=wall)

    assert second.faults == first.faults
    assert second.boot_id() == first.boot_id()
    twin.faults |= {"door": "open"}
    twin.fault("kitchen", "30")
    twin.drive(OFF, 1800.0)
    # the dark is computed in coarser steps
    assert second.air_node == pytest.approx(twin.air_node, abs=0.1)
    assert second.food_node == pytest.approx(twin.food_node, abs=0.1)
    assert second.air_node > first.air_node + 5


def test_a_frozen_probe_repeats_itself_over_a_restart(record: Path, wall: WallClock) -> None:
    first = SimulatedCabinet(air=4.5, record=record, wall=wall)
    first.fault("probe", "frozen")
    first.drive(ON, HOUR)
    assert SimulatedCabinet(record=record, wall=wall).air() == 4.5


def test_a_process_that_ends_in_peace_leaves_the_very_last(record: Path, wall: WallClock) -> None:
    first = SimulatedCabinet(record=record, wall=wall, speed=600.0)
    first.drive(ON, 1.0)
    wall.now += 0.5
    first.drive(ON, 0.5)
    first.close()
    assert not first.outputs.compressor
    assert SimulatedCabinet(record=record, wall=wall).air_node == first.air_node
    first.close()


def test_the_record_is_written_once_a_second(record: Path, wall: WallClock) -> None:
    cabinet = SimulatedCabinet(record=record, wall=wall)
    written = []
    for _ in range(12):
        cabinet.drive(ON, 0.25)
        written.append(json.loads(record.read_text())["wall"])
        wall.now += 0.25
    assert len(set(written)) == 3
    wall.now -= 86400.0
    cabinet.drive(ON, 0.25)
    assert json.loads(record.read_text())["wall"] == wall.now, "nor does a clock put back stop it"
    assert [path.name for path in record.parent.iterdir()] == ["cabinet.json"]


def test_a_clock_put_back_neither_cools_nor_warms(record: Path, wall: WallClock) -> None:
    SimulatedCabinet(air=4.0, record=record, wall=wall).drive(OFF, 0.0)
    wall.now -= 86400.0
    assert SimulatedCabinet(record=record, wall=wall).air_node == 4.0


def test_the_longest_dark_is_a_week_and_ends_as_warm_as_the_kitchen(record: Path, wall: WallClock) -> None:
    SimulatedCabinet(record=record, wall=wall).drive(OFF, 0.0)
    wall.now += 7 * 86400.0
    week = SimulatedCabinet(record=record, wall=wall)
    wall.now += 365 * 86400.0
    year = SimulatedCabinet(record=record, wall=wall)
    assert week.air_node == year.air_node == pytest.approx(KITCHEN, abs=0.01)


def test_another_run_of_the_computer_is_another_run_of_the_power(
    record: Path, wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SimulatedCabinet(air=4.0, record=record, wall=wall)
    first.drive(OFF, 0.0)
    monkeypatch.setattr(simulator, "kernel_boot_id", lambda: "another")
    second = SimulatedCabinet(record=record, wall=wall)
    assert second.air_node == 4.0
    assert second.boot_id() != first.boot_id()


def test_cabinets_without_a_record_know_nothing_of_each_other() -> None:
    assert SimulatedCabinet().boot_id() != SimulatedCabinet().boot_id()
    with pytest.raises(ValueError, match="needs a record"):
        SimulatedCabinet().brown_out(1.0)


def test_a_folder_that_cannot_be_written_costs_the_memory_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cabinet = SimulatedCabinet(record=tmp_path / "file/cabinet.json")
    cabinet.drive(ON, 60.0)
    assert cabinet.air_node < 5.0
    with pytest.raises(OSError, match="file"):
        cabinet.brown_out(1.0)
    cabinet.close()


# ---- over a power failure ----------------------------------------------------------------------------------------


def test_after_a_power_failure_it_was_dark_for_as_long_as_told(record: Path, wall: WallClock) -> None:
    first = SimulatedCabinet(air=4.0, food=4.0, speed=60.0, record=record, wall=wall)
    first.drive(ON, 0.0)
    before = first.boot_id()
    first.brown_out(4 * HOUR)
    wall.now += 2.0  # the process starts anew, which takes two minutes of the cabinet's time

    second = SimulatedCabinet(speed=60.0, record=record, wall=wall)

    twin = SimulatedCabinet(air=4.0, food=4.0)
    for seconds in (HOUR, HOUR, HOUR, HOUR, 120.0):
        twin.drive(OFF, seconds)
    assert second.air_node == pytest.approx(twin.air_node, abs=0.05)
    assert second.boot_id() != before
    assert SimulatedCabinet(record=record, wall=wall).boot_id() == second.boot_id(), "it failed once"


def test_the_process_that_fails_writes_nothing_after_its_end(record: Path, wall: WallClock) -> None:
    cabinet = SimulatedCabinet(record=record, wall=wall)
    cabinet.brown_out(60.0)
    left = record.read_text()
    wall.now += 5.0
    cabinet.drive(ON, 5.0)
    cabinet.close()
    assert record.read_text() == left


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_no_power_failure_is_shorter_than_nothing(record: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="lasts for some seconds"):
        SimulatedCabinet(record=record).brown_out(seconds)


# ---- a spoilt record ---------------------------------------------------------------------------------------------

_GOOD = {"air": 1.0, "food": 2.0, "frozen": 3.0, "faults": {"relay": "ok"}, "wall": 1_760_000_000.0, "boot": "b"}


def _fresh(record: Path, wall: WallClock) -> bool:
    """Whether a cabinet that starts here knows of nothing before."""
    cabinet = SimulatedCabinet(air=7.0, food=8.0, record=record, wall=wall)
    cabinet.drive(ON, 1.0)  # and works
    return cabinet.faults == SimulatedCabinet().faults and 7.9 < cabinet.food_node < 8.1


@pytest.mark.parametrize(
    "change",
    [
        {"air": None},
        {"air": "warm"},
        {"food": float("nan")},
        {"frozen": 1e300},
        {"wall": float("inf")},
        {"wall": 10**400},
        {"faults": []},
        {"faults": {"relay": "gone"}},
        {"faults": {"kitchen": [21]}},
        {"faults": {"oven": "on"}},
    ],
)
def test_a_spoilt_record_is_as_none(record: Path, wall: WallClock, change: dict[str, Any]) -> None:
    record.parent.mkdir()
    record.write_text(json.dumps(_GOOD | change))
    assert _fresh(record, wall)


def test_the_record_that_those_are_spoilt_ones_of_is_good(record: Path, wall: WallClock) -> None:
    record.parent.mkdir()
    record.write_text(json.dumps(_GOOD))
    assert not _fresh(record, wall)


def test_a_record_that_ends_in_the_middle_is_as_none(record: Path, wall: WallClock) -> None:
    record.parent.mkdir()
    whole = json.dumps(_GOOD)
    for length in range(len(whole)):
        record.write_text(whole[:length])
        assert _fresh(record, wall), whole[:length]


@given(content=st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_the_record_the_cabinet_starts(record: Path, wall: WallClock, content: bytes) -> None:
    record.parent.mkdir(exist_ok=True)
    record.write_bytes(content)
    cabinet = SimulatedCabinet(record=record, wall=wall)
    assert -101 < cabinet.air_node < 101
    cabinet.drive(ON, 1.0)


@given(
    values=st.dictionaries(
        st.sampled_from(sorted(_GOOD)),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            max_leaves=3,
        ),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_in_the_record_leaves_a_cabinet_of_plausible_warmth(
    record: Path, wall: WallClock, values: dict[str, Any]
) -> None:
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(_GOOD | values))
    cabinet = SimulatedCabinet(record=record, wall=wall)
    assert -101 < cabinet.air_node < 101
    cabinet.drive(ON, 1.0)
