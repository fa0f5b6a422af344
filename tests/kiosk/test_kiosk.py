# SPDX-License-Identifier: GPL-3.0-or-later
"""The built layers on Debian's kernel: its DRM/KMS as the screen, its input layer as the touchscreen.

One after the other on one machine: the panel stays in the state that the test before left it in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kiosk.conftest import Pair

# starting is part of the first test, and slow
pytestmark = pytest.mark.timeout(420)

# the middles of buttons, as a finger finds them on the glass
TEMPERATURE = (306, 408)
ALARM = (682, 408)
# between the first two buttons
NOTHING = (212, 408)
# the panel takes three seconds for a long press
HOLD_SECONDS = 3.5
# an emulated panel that stalls for half a second between the finger's coming and going sees a shorter one
ATTEMPTS = 3


def setpoint(state: dict[str, Any]) -> int:
    return int(state["setpoint"])


def test_the_panel_comes_up(pair: Pair) -> None:
    end = time.monotonic() + 90
    # the kernel's empty console has two colours, the panel's smooth ones have hundreds
    while (picture := pair.machine.picture()).colours() < 50:
        assert time.monotonic() < end, "there is no picture on the screen"
        time.sleep(0.5)
    assert (picture.width, picture.height) == (800, 480)
    # by these ways and no other: the kernel's mode setting, and its input layer
    found = pair.machine.do("opened")
    assert found["touchscreen"] in found["devices"], "the app did not find the touchscreen"
    assert any(name.startswith("/dev/dri/card") for name in found["devices"]), "the app draws some other way"


def test_it_shows_what_it_shows_offscreen(pair: Pair) -> None:
    pair.look_the_same("1-start")


def test_a_tap_sets_the_temperature(pair: Pair) -> None:
    before = setpoint(pair.states()[0])
    pair.machine.do("tap", *NOTHING)
    time.sleep(2)
    assert setpoint(pair.states()[0]) == before, "a finger beside the buttons pressed one"

    pair.machine.do("tap", *TEMPERATURE)
    pair.offscreen.kitchen("press", "temp")
    pair.wait_for(f"the set temperature is {before - 1}", lambda state: setpoint(state) == before - 1)
    pair.look_the_same("2-colder")


def test_a_long_press_locks(pair: Pair) -> None:
    for _ in range(ATTEMPTS):
        held = pair.machine.do("hold", *ALARM, HOLD_SECONDS)["seconds"]
        assert held >= HOLD_SECONDS, f"the finger stayed for {held:.1f} s of the guest's time"
        if pair.machine_comes_to(lambda state: state["locked"] is True, seconds=10):
            break
    pair.offscreen.kitchen("hold", "alarm")
    pair.wait_for("it is locked", lambda state: state["locked"] is True)
    pair.look_the_same("3-locked")

    before = setpoint(pair.states()[0])
    pair.machine.do("tap", *TEMPERATURE)
    time.sleep(2)
    assert setpoint(pair.states()[0]) == before, "the lock let a finger through"
