# SPDX-License-Identifier: Apache-2.0
"""What goes home: kept until it is gone, and nothing more than what was meant."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fridge_agent import telemetry
from fridge_agent.config import load
from fridge_agent.durable import point, read_json, write_json
from fridge_agent.errors import ConfigError
from fridge_agent.spool import Item, Spool


def item(number: int, kind: str = "usage") -> Item:
    return Item(str(number), kind, "text/plain", b"x")


def test_items_go_in_order_and_only_when_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    for number in (1, 2):
        spool.put(item(number))
    assert spool.oldest() == spool.oldest() == item(1)
    spool.done("1")
    assert spool.oldest() == item(2)


def test_the_same_id_is_stored_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.put(item(1))
    spool.put(item(1))
    assert len(spool) == 1


def test_a_full_spool_lets_old_usage_go_and_keeps_crashes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", limit=3)
    spool.put(item(0, "crash"))
    for number in (1, 2, 3, 4):
        spool.put(item(number))
    assert len(spool) == 3
    assert spool.oldest() == item(0, "crash")


def test_what_was_put_survives_a_kill(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from fridge_agent.spool import Item, Spool\n"
        "s = Spool(Path(sys.argv[1]), 100000); n = 0\n"
        "while True: s.put(Item(str(n), 'usage', 't', b'x')); print(n, flush=True); n += 1"
    )
    process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path / "spool.db")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.kill()
    told = process.stdout.read().split()
    process.wait()
    assert len(Spool(tmp_path / "spool.db", 100000)) >= int(told[-1]) + 1


def crash(stderr: str, signal: str | None = None) -> dict[str, object]:
    record = {"at": 1.0, "release": "1-g1", "version": "1", "signal": signal, "stderr": stderr}
    event: dict[str, object] = json.loads(telemetry.crash_item("f", "beta", record).body.split(b"\n")[2])
    values = event["exception"]["values"]  # type: ignore[index]
    found: dict[str, object] = values[0]
    return found


def test_a_chained_exception_is_told_by_its_last_part() -> None:
    found = crash(
        'Traceback (most recent call last):\n  File "/a/app/fridge/a.py", line 1, in one\nKeyError: 1\n\n'
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "/a/app/fridge/b.py", line 2, in two\nfridge.Bad: two\n'
    )
    assert (found["type"], found["value"]) == ("fridge.Bad", "two")
    assert [frame["function"] for frame in found["stacktrace"]["frames"]] == ["two"]  # type: ignore[index]


def test_a_signal_without_words_is_told_by_its_name() -> None:
    assert crash("", "SIGSEGV")["type"] == "SIGSEGV"
    assert crash("last words")["type"] == "Crash"


def test_button_names_from_a_mad_app_are_left_out() -> None:
    usage = telemetry.Usage(0.0)
    for name in ("temp", "TEMP", "a" * 99, "../../x", *(f"b_{chr(97 + n % 26)}{'x' * (n // 26)}" for n in range(99))):
        usage.press(name)
    assert "temp" in usage.presses
    assert "TEMP" not in usage.presses
    assert len(usage.presses) <= 32


def test_a_damaged_state_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    path.write_text('{"a":')
    assert read_json(path) is None
    assert (tmp_path / "state.json.bad").exists()


def test_a_link_moves_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point(tmp_path / "current", tmp_path / name)
    assert (tmp_path / "current").resolve() == tmp_path / "two"


CONFIG = """
[device]
id = "f"
ring = "beta"
platform = "linux-x86_64"
[hub]
connection_string_file = "key"
[updates]
url = "ftps://h/x"
root = "root.json"
[paths]
base = "opt"
state = "state"
run = "run"
app = "app"
[app]
python = "python3"
"""


def test_a_whole_configuration_hides_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(CONFIG)
    (tmp_path / "key").write_text("SECRET")
    config = load(tmp_path / "agent.toml")
    assert config.hub is not None
    assert config.hub.connection_string == "SECRET"
    assert "SECRET" not in repr(config)
    assert load(tmp_path / "agent.toml", secrets=False).hub is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('ring = "beta"', "", "ring"),
        ('base = "opt"', "", "base"),
        ("[device]", "[device", "not valid TOML"),
        ('connection_string_file = "key"', 'connection_string_file = "none"', "secret file"),
        ("[app]", "[timing]\nprobtion = 1\n[app]", "probtion"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_the_file(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "agent.toml").write_text(CONFIG.replace(old, new))
    (tmp_path / "key").write_text("SECRET")
    with pytest.raises(ConfigError, match=words) as told:
        load(tmp_path / "agent.toml")
    assert str(tmp_path) in told.value.text
