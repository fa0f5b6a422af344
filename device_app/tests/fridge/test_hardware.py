# SPDX-License-Identifier: Apache-2.0
"""The seam to a real cabinet, on mock pins and folders that look like sysfs."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpiozero
import pytest
from fridge.control.model import Chirp, Outputs
from fridge.hardware import HardwareError, gpio, kernel_boot_id, open_hardware
from fridge.hardware.backlight import Backlight, open_backlight
from fridge.hardware.ds18b20 import STALE_SECONDS, Probe, open_probe, parse_w1_slave
from fridge.hardware.gpio import BuzzerBeeper, GpioCabinet, Pins
from fridge.hardware.simulator import SimulatedCabinet
from fridge.hardware.sound import RecordedBeeper, TerminalBell
from gpiozero.pins.mock import MockFactory
from hypothesis import given
from hypothesis import strategies as st

OFF = Outputs(compressor=False, light=False, buzzer=False)
ALL_ON = Outputs(compressor=True, light=True, buzzer=True)
AT_21_5 = "58 01 4b 46 7f ff 08 10 b9 : crc=b9 YES\n58 01 4b 46 7f ff 08 10 b9 t=21500\n"


class Clock:
    """Monotonic time that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def soon(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true within five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def pins() -> Iterator[MockFactory]:
    """A Raspberry Pi whose pins a test drives."""
    before = gpiozero.Device.pin_factory
    factory = gpiozero.Device.pin_factory = MockFactory()
    yield factory
    factory.reset()
    gpiozero.Device.pin_factory = before


@pytest.fixture
def one_wire(tmp_path: Path) -> Path:
    """A one-wire bus with one probe at 21.5 degrees."""
    devices = tmp_path / "w1"
    for name in ("28-000005e2fdc3", "w1_bus_master1"):
        (devices / name).mkdir(parents=True)
    (devices / "28-000005e2fdc3/w1_slave").write_text(AT_21_5)
    return devices


@pytest.fixture
def backlight(tmp_path: Path) -> Path:
    """A panel's backlight of 255 steps."""
    folder = tmp_path / "backlight/10-0045"
    folder.mkdir(parents=True)
    (folder / "max_brightness").write_text("255\n")
    (folder / "brightness").write_text("200\n")
    return folder


@pytest.fixture
def cabinet(pins: MockFactory, one_wire: Path, backlight: Path) -> Iterator[GpioCabinet]:
    """A real cabinet with the pins that it has where nothing is set."""
    variables = {"FRIDGE_SIMULATE": "0", "FRIDGE_W1_ROOT": str(one_wire), "FRIDGE_BACKLIGHT": str(backlight)}
    opened = open_hardware(variables)
    assert isinstance(opened, GpioCabinet)
    yield opened
    opened.close()


# ---- what is opened ----------------------------------------------------------------------------------------------


def test_with_nothing_set_it_is_a_simulated_cabinet_that_touches_no_disk() -> None:
    cabinet = open_hardware({})
    assert isinstance(cabinet, SimulatedCabinet)
    assert isinstance(cabinet.beeper, RecordedBeeper)
    assert cabinet.speed == 1.0
    cabinet.close()


def test_the_simulator_takes_its_speed_sound_and_folder_from_the_environment(tmp_path: Path) -> None:
    cabinet = open_hardware({"FRIDGE_SPEED": "60", "FRIDGE_SOUND": "bell", "FRIDGE_RUN_DIR": str(tmp_path)})
    assert isinstance(cabinet, SimulatedCabinet)
    assert isinstance(cabinet.beeper, TerminalBell)
    assert cabinet.speed == 60.0
    cabinet.drive(OFF, 1.0)
    assert (tmp_path / "cabinet.json").exists()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FRIDGE_SPEED", "fast", "'fast' is no speed"),
        ("FRIDGE_SPEED", "0", "above 0"),
        ("FRIDGE_SPEED", "nan", "is no speed"),
        ("FRIDGE_SOUND", "loud", "bell or none"),
    ],
)
def test_a_setting_of_the_simulator_that_makes_no_sense_is_named(variable: str, value: str, told: str) -> None:
    with pytest.raises(HardwareError, match=told) as caught:
        open_hardware({variable: value})
    assert str(caught.value).startswith(variable)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FRIDGE_PINS", "relay=seven", "'seven' is no pin number"),
        ("FRIDGE_PINS", "relay=28", "'28' is no pin number"),
        ("FRIDGE_PINS", "relay=" + "9" * 5000, "no pin number"),
        ("FRIDGE_PINS", "relay=\N{SUPERSCRIPT TWO}", "no pin number"),
        ("FRIDGE_PINS", "relay", "'' is no pin number"),
        ("FRIDGE_PINS", "freezer=5", "'freezer' is no part"),
        ("FRIDGE_PINS", "relay=5,relay=6", "named twice"),
        ("FRIDGE_PINS", "relay=27", "two parts at one pin"),
        ("FRIDGE_RELAY_ACTIVE", "middle", "high or low"),
        ("FRIDGE_PROBE", "../../etc", "is no DS18B20"),
    ],
)
def test_a_setting_of_the_real_one_that_makes_no_sense_is_named(variable: str, value: str, told: str) -> None:
    with pytest.raises(HardwareError, match=re.escape(told)) as caught:
        open_hardware({"FRIDGE_SIMULATE": "0", variable: value})
    assert str(caught.value).startswith(variable)


def test_pins_that_are_not_named_stay() -> None:
    assert Pins.parse("relay=5, lamp = 6") == Pins(relay=5, door=27, buzzer=22, lamp=6)
    assert Pins.parse("") == Pins(relay=17, door=27, buzzer=22, lamp=23)


def test_without_gpiozero_it_says_what_to_install(one_wire: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with pytest.raises(HardwareError, match="install it"):
        open_hardware({"FRIDGE_SIMULATE": "0", "FRIDGE_W1_ROOT": str(one_wire)})


def test_without_pins_it_says_so_and_lets_go_of_what_it_had(pins: MockFactory, one_wire: Path) -> None:
    taken = gpiozero.LED(22)
    variables = {"FRIDGE_SIMULATE": "0", "FRIDGE_W1_ROOT": str(one_wire)}
    with pytest.raises(HardwareError, match="GPIOPinInUse") as caught:
        open_hardware(variables)
    assert soon(lambda: "ds18b20" not in {thread.name for thread in threading.enumerate()})
    assert gpiozero.LED(17).close() is None, "though the error, and the half cabinet with it, is still held"
    assert caught.value.on.startswith("GPIO")
    taken.close()
    open_hardware(variables).close()


def test_the_seam_loads_neither_qt_nor_gpiozero() -> None:
    loaded = "import sys, fridge.hardware.simulator; print([m for m in sys.modules if m in ('PySide6', 'gpiozero')])"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_run_of_the_power_has_the_kernels_name(cabinet: GpioCabinet, tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("c0ffee\n")
    assert kernel_boot_id(boot) == "c0ffee"
    assert cabinet.boot_id() == kernel_boot_id()


def test_a_run_of_the_power_that_nobody_can_name_is_a_new_one(tmp_path: Path) -> None:
    assert kernel_boot_id(tmp_path / "none") != kernel_boot_id(tmp_path / "none")


# ---- pins --------------------------------------------------------------------------------------------------------


def test_relay_and_lamp_follow_what_is_driven(cabinet: GpioCabinet, pins: MockFactory) -> None:
    assert not pins.pin(17).state
    cabinet.drive(Outputs(compressor=True, light=False, buzzer=False), 0.25)
    assert (pins.pin(17).state, pins.pin(23).state) == (True, False)
    cabinet.drive(Outputs(compressor=False, light=True, buzzer=False), 0.25)
    assert (pins.pin(17).state, pins.pin(23).state) == (False, True)


def test_a_relay_board_may_be_active_low_and_never_blinks_at_the_start(pins: MockFactory, one_wire: Path) -> None:
    relay = pins.pin(5)
    relay.clear_states()
    variables = {"FRIDGE_PINS": "relay=5", "FRIDGE_RELAY_ACTIVE": "low", "FRIDGE_W1_ROOT": str(one_wire)}
    cabinet = open_hardware(variables | {"FRIDGE_SIMULATE": "0"})
    assert relay.function == "output"
    assert relay.state
    cabinet.drive(ALL_ON, 0.25)
    assert not relay.state
    cabinet.close()
    assert relay.states[-1].state, "off is high"


def test_the_door_is_open_while_its_switch_is_released(cabinet: GpioCabinet, pins: MockFactory) -> None:
    assert pins.pin(27).pull == "up"
    assert cabinet.door_open()
    pins.pin(27).drive_low()
    assert not cabinet.door_open()
    pins.pin(27).drive_high()
    assert cabinet.door_open()


def test_closing_switches_the_compressor_off_first_and_may_be_said_twice(
    cabinet: GpioCabinet, pins: MockFactory
) -> None:
    cabinet.drive(ALL_ON, 0.25)
    relay = pins.pin(17)
    assert relay.state
    cabinet.close()
    assert [state.state for state in relay.states] == [False, True, False]
    assert not pins.pin(23).state
    assert not pins.pin(22).state
    cabinet.close()


def test_the_compressor_stops_though_another_part_cannot_be_closed(
    pins: MockFactory, one_wire: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zombie(self: Any) -> None:
        # by now the relay is off: ending a sound may take ten seconds before it fails
        assert not pins.pin(17).state
        raise gpiozero.ZombieThread("the sound does not end")

    monkeypatch.setattr(gpiozero.Buzzer, "off", zombie)
    cabinet = open_hardware({"FRIDGE_SIMULATE": "0", "FRIDGE_W1_ROOT": str(one_wire)})
    cabinet.drive(ALL_ON, 0.25)
    assert pins.pin(17).state
    with pytest.raises(gpiozero.ZombieThread):
        cabinet.close()
    assert not pins.pin(17).state
    assert not pins.pin(23).state


# ---- sound -------------------------------------------------------------------------------------------------------


def sounds(pin: Any) -> int:
    """How often the buzzer began to sound."""
    return sum(state.state for state in pin.states)


def test_the_alarm_beeps_by_itself_until_it_is_silenced(
    cabinet: GpioCabinet, pins: MockFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpio, "ALARM_SECONDS", 0.005)
    cabinet.drive(ALL_ON, 0.25)
    assert soon(lambda: sounds(pins.pin(22)) >= 3)
    cabinet.drive(OFF, 0.25)
    assert not pins.pin(22).state
    heard = sounds(pins.pin(22))
    time.sleep(0.03)
    assert sounds(pins.pin(22)) == heard


@pytest.mark.parametrize(
    ("chirp", "times", "shortest", "longest"),
    [(Chirp.CLICK, 1, 0.03, 0.14), (Chirp.LONG, 1, 0.15, 1.0), (Chirp.REFUSED, 2, 0.03, 0.14)],
)
def test_a_chirp_sounds_once(
    cabinet: GpioCabinet, pins: MockFactory, chirp: Chirp, times: int, shortest: float, longest: float
) -> None:
    buzzer = pins.pin(22)
    cabinet.drive(Outputs(compressor=False, light=False, buzzer=False, chirps=(chirp,)), 0.25)
    assert soon(lambda: sounds(buzzer) == times and not buzzer.state)
    cabinet.drive(OFF, 0.25)
    assert sounds(buzzer) == times
    lasted = [state.timestamp for state in buzzer.states if not state.state][1:]
    # a busy machine makes sounds longer, never shorter
    assert len(lasted) == times
    assert min(lasted) >= shortest
    if chirp is not Chirp.LONG:
        assert gpio.CHIRPS[chirp][0] < gpio.CHIRPS[Chirp.LONG][0]


class BuzzerBook:
    """A buzzer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def beep(self, on: float, off: float, times: int | None = None) -> None:
        self.told.append(("forever", on, off) if times is None else (on, times))

    def off(self) -> None:
        self.told.append("off")


def test_the_alarm_goes_on_after_a_chirp_and_every_chirp_is_heard() -> None:
    clock, book = Clock(), BuzzerBook()
    beeper = BuzzerBeeper(book, clock)
    alarm, click, long = ("forever", 0.5, 0.5), (0.03, 1), (0.15, 1)
    beeper.alarm(True)
    beeper.alarm(True)
    beeper.chirp(Chirp.CLICK)
    beeper.chirp(Chirp.LONG)
    assert book.told == [alarm, click]
    clock.now += 0.05
    beeper.alarm(True)
    assert book.told == [alarm, click], "a chirp is not cut short"
    for _ in range(3):
        clock.now += 0.25
        beeper.alarm(True)
    assert book.told == [alarm, click, long, alarm]
    beeper.alarm(False)
    beeper.alarm(False)
    assert book.told == [alarm, click, long, alarm, "off"]


def test_the_terminals_bell_rings_once_for_a_chirp_and_every_second_for_an_alarm() -> None:
    clock, stream = Clock(), io.StringIO()
    bell = TerminalBell(stream, clock)
    bell.alarm(False)
    bell.chirp(Chirp.CLICK)
    assert stream.getvalue() == "\a"
    for _ in range(9):
        bell.alarm(True)
        clock.now += 0.25
    assert stream.getvalue() == "\a" * 4
    stream.close()
    bell.chirp(Chirp.LONG)


# ---- backlight ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "written"), [(100, "255"), (25, "64"), (0, "1"), (-5, "1"), (140, "255")])
def test_brightness_is_a_part_of_what_the_panel_can(backlight: Path, percent: int, written: str) -> None:
    Backlight(backlight).set(percent)
    assert (backlight / "brightness").read_text().strip() == written


def test_brightness_is_written_when_it_changes_only(cabinet: GpioCabinet, backlight: Path) -> None:
    cabinet.drive(OFF, 0.25)
    assert (backlight / "brightness").read_text() == "255\n"
    (backlight / "brightness").write_text("untouched")
    cabinet.drive(OFF, 0.25)
    assert (backlight / "brightness").read_text() == "untouched"
    cabinet.drive(Outputs(compressor=False, light=False, buzzer=False, brightness=5), 0.25)
    assert (backlight / "brightness").read_text() == "13\n"


def test_the_first_backlight_is_taken_and_none_is_fine(backlight: Path, tmp_path: Path) -> None:
    assert open_backlight({}, backlight.parent) is not None
    assert open_backlight({}, tmp_path / "none") is None


def test_a_broken_display_keeps_no_fridge_from_cooling(
    backlight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_backlight({"FRIDGE_BACKLIGHT": str(tmp_path / "none")}) is None
    light = Backlight(backlight)
    (backlight / "brightness").unlink()
    (backlight / "brightness").mkdir()
    light.set(50)
    assert "FRIDGE_BACKLIGHT" in caplog.text
    assert "stays as it is" in caplog.text


# ---- the probe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        (AT_21_5, 21.5),
        ("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n", 23.125),
        ("a3 01 4b 46 7f ff 0d 10 ce : crc=ce YES\na3 01 4b 46 7f ff 0d 10 ce t=26187\n", 26.187),
        ("f8 ff 4b 46 7f ff 08 10 9e : crc=9e YES\nf8 ff 4b 46 7f ff 08 10 9e t=-500\n", -0.5),
        ("00 00 4b 46 7f ff 10 10 1c : crc=1c YES\n00 00 4b 46 7f ff 10 10 1c t=0", 0.0),
        # its checksum is wrong, and the second line repeats an older reading
        ("ff ff ff ff ff ff ff ff ff : crc=c9 NO\n58 01 4b 46 7f ff 08 10 b9 t=21500\n", None),
        # the power-on value: the chip was reset, and did not convert
        ("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n", None),
        # the data line lies at ground, and nothing is not 0 degrees
        ("00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n", None),
        ("c0 03 4b 46 7f ff 08 10 00 : crc=00 YES\nc0 03 4b 46 7f ff 08 10 00 t=60000\n", 60.0),
        ("c0 03 4b 46 7f ff 08 10 00 : crc=00 YES\nc0 03 4b 46 7f ff 08 10 00 t=60062\n", None),
        ("80 fd 4b 46 7f ff 08 10 00 : crc=00 YES\n80 fd 4b 46 7f ff 08 10 00 t=-40000\n", -40.0),
        ("90 fc 4b 46 7f ff 08 10 00 : crc=00 YES\n90 fc 4b 46 7f ff 08 10 00 t=-55000\n", None),
        ("58 01 4b 46 7f ff 08 10 b9 : crc=b9 YES\n", None),
        ("58 01 4b 46 7f ff 08 10 b9 : crc=b9 YES\n58 01 4b 46 7f ff 08 10 b9 t=\n", None),
        ("t=21500", None),
        ("", None),
    ],
)
def test_a_reading_is_taken_only_where_it_can_be_trusted(text: str, degrees: float | None) -> None:
    assert parse_w1_slave(text) == degrees


@given(st.one_of(st.text(), st.from_regex(r"([0-9a-f]{2} ){9}: crc=.. (YES|NO)\n([0-9a-f]{2} ){9}t=-?\d*")))
def test_whatever_stands_there_the_parser_gives_a_plausible_temperature_or_none(text: str) -> None:
    degrees = parse_w1_slave(text)
    assert degrees is None or -40.0 <= degrees <= 60.0


@given(st.data())
def test_one_wrong_character_never_makes_another_temperature_of_the_first_line(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, AT_21_5.index("\n")))
    spoilt = AT_21_5[:place] + data.draw(st.characters()) + AT_21_5[place + 1 :]
    assert parse_w1_slave(spoilt) in (None, 21.5)


def test_a_reading_serves_for_ten_seconds() -> None:
    clock = Clock()
    probe = Probe(lambda: AT_21_5, clock)
    assert probe.value() is None
    probe.take()
    clock.now += STALE_SECONDS
    assert probe.value() == 21.5
    clock.now += 0.1
    assert probe.value() is None
    probe.take()
    assert probe.value() == 21.5


def test_a_reading_is_as_old_as_the_beginning_of_its_conversion() -> None:
    clock = Clock()

    def slow() -> str:
        clock.now += STALE_SECONDS + 1
        return AT_21_5

    probe = Probe(slow, clock)
    probe.take()
    assert probe.value() is None


def test_a_bad_read_leaves_the_last_good_one_until_it_is_old() -> None:
    clock, texts = Clock(), [AT_21_5, "nonsense", AT_21_5.replace("YES", "NO")]
    probe = Probe(lambda: texts.pop(0), clock)
    for _ in range(4):  # the last one finds no text, and raises
        probe.take()
        clock.now += 2
    assert probe.value() == 21.5
    clock.now += STALE_SECONDS
    assert probe.value() is None


def test_a_read_that_fails_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fridge.hardware.ds18b20.READ_SECONDS", 0.001)
    answers: list[Exception | str] = [OSError("no such device"), ValueError("not ASCII"), RuntimeError("?"), AT_21_5]

    def read() -> str:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    probe = Probe(read)
    probe.start()
    assert soon(lambda: probe.value() == 21.5)
    probe.close()


def test_a_read_that_hangs_holds_nobody_up_and_ends_as_none() -> None:
    clock, hang, texts, hanging = Clock(), threading.Event(), [AT_21_5], threading.Event()

    def read() -> str:
        if texts:
            return texts.pop()
        hanging.set()
        hang.wait(10)
        return AT_21_5

    probe = Probe(read, clock)
    probe.take()
    probe.start()
    assert hanging.wait(5)
    assert probe.value() == 21.5
    clock.now += STALE_SECONDS + 1
    assert probe.value() is None
    probe.close()
    hang.set()


def test_the_only_probe_on_the_bus_is_found(cabinet: GpioCabinet) -> None:
    assert soon(lambda: cabinet.air() == 21.5)


def test_a_probe_is_named_where_there_are_two(one_wire: Path) -> None:
    (one_wire / "28-00000abcdef0").mkdir()
    (one_wire / "28-00000abcdef0/w1_slave").write_text(AT_21_5.replace("t=21500", "t=4000"))
    with pytest.raises(HardwareError, match="28-000005e2fdc3, 28-00000abcdef0; name one in FRIDGE_PROBE"):
        open_probe({"FRIDGE_W1_ROOT": str(one_wire)})
    probe = open_probe({"FRIDGE_W1_ROOT": str(one_wire), "FRIDGE_PROBE": "28-00000abcdef0"})
    assert soon(lambda: probe.value() == 4.0)
    probe.close()


@pytest.mark.parametrize("folder", ["w1/28-000005e2fdc3", "nowhere"])
def test_without_a_probe_it_says_how_to_get_one(one_wire: Path, folder: str) -> None:
    with pytest.raises(HardwareError, match=r"no DS18B20 there.*dtoverlay=w1-gpio"):
        open_probe({"FRIDGE_W1_ROOT": str(one_wire.parent / folder)})


def test_a_dead_probe_that_is_named_keeps_no_fridge_from_starting(pins: MockFactory, tmp_path: Path) -> None:
    variables = {"FRIDGE_SIMULATE": "0", "FRIDGE_W1_ROOT": str(tmp_path), "FRIDGE_PROBE": "28-000005e2fdc3"}
    cabinet = open_hardware(variables)
    assert cabinet.air() is None
    cabinet.drive(ALL_ON, 0.25)
    assert pins.pin(17).state
    cabinet.close()
