# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the disk that the role made: partitions, both systems, and nothing that belongs to one device only.

Looked into with tools that read file systems out of a file; nothing is mounted. That it boots is not shown here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

MIB = 1024 * 1024
BOOT, ROOT, DATA = 40, 700, 64
SLOTS = ("A", "B")


@pytest.fixture(scope="module")
def image() -> Path:
    return Path(os.environ["IOTOPS_IMAGE_DIR"]) / "molecule.img"


@pytest.fixture(scope="module")
def partitions(image: Path) -> list[dict[str, Any]]:
    said = subprocess.run(["/sbin/sfdisk", "--json", image], check=True, capture_output=True, text=True).stdout
    table = json.loads(said)["partitiontable"]
    assert (table["label"], table["id"]) == ("dos", "0xf41d6e01")
    return list(table["partitions"])


@pytest.fixture(scope="module")
def files(image: Path, partitions: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file systems by name: A, B, data."""
    folder = tmp_path_factory.mktemp("partitions")
    found = {}
    for name, part in zip(("A", "B", "data"), partitions[1:], strict=True):
        found[name] = folder / name
        subprocess.run(
            ["dd", f"if={image}", f"of={found[name]}", "bs=1M", f"skip={part['start'] * 512 // MIB}",
             f"count={part['size'] * 512 // MIB}", "conv=sparse", "status=none"], check=True,
        )  # fmt: skip
    return found


def ask(system: Path, request: str) -> str:
    """debugfs: what a file system says of itself, unmounted."""
    return subprocess.run(
        ["/sbin/debugfs", "-R", request, system], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip


def names(system: Path, folder: str) -> set[str]:
    listed = [line.split("/") for line in ask(system, f"ls -p {folder}").splitlines() if line.count("/") > 5]
    return {parts[5] for parts in listed} - {".", ".."}


def stat(system: Path, path: str) -> tuple[int, int, int]:
    """Mode, user, group."""
    said = ask(system, f"stat {path}")
    mode, user, group = (
        re.search(pattern, said) for pattern in (r"Mode:\s+(\d+)", r"User:\s+(\d+)", r"Group:\s+(\d+)")
    )
    assert mode, f"{path} is not there: {said}"
    assert user
    assert group
    return int(mode[1], 8) & 0o7777, int(user[1]), int(group[1])


def test_the_disk_has_a_boot_partition_two_slots_and_data(partitions: list[dict[str, Any]]) -> None:
    assert [part["size"] * 512 // MIB for part in partitions] == [BOOT, ROOT, ROOT, DATA]
    assert [part["type"] for part in partitions] == ["c", "83", "83", "83"]
    assert partitions[0]["bootable"]
    assert all(part["start"] * 512 % MIB == 0 for part in partitions), "not aligned"


def test_the_boot_script_knows_both_slots(image: Path, tmp_path: Path) -> None:
    subprocess.run(["mcopy", "-i", f"{image}@@1M", "::boot.scr", tmp_path / "boot.scr"], check=True)
    script = (tmp_path / "boot.scr").read_bytes()
    assert script[:4] == bytes.fromhex("27051956"), "not an image of U-Boot"
    for word in (b"setenv part 2", b"setenv part 3", b"root=PARTUUID=${partuuid} ro", b"consoleblank=0"):
        assert word in script


@pytest.mark.parametrize("name", [*SLOTS, "data"])
def test_each_file_system_is_whole(files: dict[str, Path], name: str) -> None:
    said = subprocess.run(["/sbin/e2fsck", "-fn", files[name]], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_both_slots_begin_equal(files: dict[str, Path]) -> None:
    assert files["A"].stat().st_size == ROOT * MIB
    assert subprocess.run(["cmp", files["A"], files["B"]], check=False).returncode == 0


@pytest.mark.parametrize("slot", SLOTS)
def test_nothing_in_a_system_is_one_devices_own(files: dict[str, Path], slot: str) -> None:
    system = files[slot]
    assert not [name for name in names(system, "/etc/ssh") if name.startswith("ssh_host_")]
    assert "ssh" not in names(system, "/var/lib")
    assert ask(system, "cat /etc/machine-id") == ""
    assert re.search(r"Size:\s+0\b", ask(system, "stat /etc/machine-id"))
    assert "random-seed" not in names(system, "/var/lib/systemd")
    root = next(line for line in ask(system, "cat /etc/shadow").splitlines() if line.startswith("root:"))
    assert root.split(":")[1].startswith(("!", "*"))


def test_a_device_makes_its_host_key_at_its_first_boot(files: dict[str, Path]) -> None:
    assert "ssh-host-key.service" in names(files["A"], "/etc/systemd/system/multi-user.target.wants")
    assert "HostKey /var/lib/ssh/ssh_host_ed25519_key" in ask(files["A"], "cat /etc/ssh/sshd_config.d/10-image.conf")


def test_the_root_is_read_only_and_what_is_written_goes_to_data(files: dict[str, Path]) -> None:
    mounts = {
        line.split()[1]: line.split() for line in ask(files["A"], "cat /etc/fstab").splitlines() if line[0] != "#"
    }
    assert "ro" in mounts["/"][3].split(",")
    assert mounts["/data"][0] == "PARTUUID=f41d6e01-04"
    assert mounts["/boot/firmware"][0] == "PARTUUID=f41d6e01-01"
    assert "upperdir=/data/overlay/var/upper" in mounts["/var"][3]
    assert names(files["data"], "/overlay/var") == {"upper", "work"}
    assert {"data", "boot"} <= names(files["A"], "/")
    assert "firmware" in names(files["A"], "/boot")


def test_owners_and_modes_are_debians(files: dict[str, Path]) -> None:
    system = files["A"]
    assert stat(system, "/etc/shadow")[0] == 0o640
    assert stat(system, "/etc/shadow")[2] != 0
    assert stat(system, "/usr/bin/sudo") == (0o4755, 0, 0)
    assert stat(system, "/tmp") == (0o1777, 0, 0)
    assert stat(system, "/etc/sudoers")[0] == 0o440
    assert stat(system, "/etc")[0] == 0o755


def test_files_and_commands_of_the_variables_are_in_it(files: dict[str, Path]) -> None:
    assert ask(files["A"], "cat /etc/fridge/note") == "für dich\n"
    assert stat(files["A"], "/etc/fridge/note") == (0o640, 0, 0)
    assert "\nfridge:" in ask(files["A"], "cat /etc/passwd")


def test_it_names_no_package_server(files: dict[str, Path]) -> None:
    assert "sources.list" not in names(files["A"], "/etc/apt")
    assert not names(files["A"], "/etc/apt/sources.list.d")
    assert names(files["A"], "/var/lib/apt/lists") <= {"lock", "partial"}
