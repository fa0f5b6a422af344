# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attack of tests/update/attackers.py over every protocol, on a device with nothing but its image's root."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fridge_agent.config import Config
from update.attackers import NO_KEY, ONLINE_KEYS, TARGET, Attack, Forge
from update.maker import Maker
from update.served import Server

Device = Callable[..., Config]


class Siege:
    """A server that can turn hostile between two looks of a device."""

    def __init__(self, server: Server, maker: Maker, device: Device, thief: Path) -> None:
        self.server, self.device = server, device
        maker.release("1")
        server.publish(maker)
        self._old = self._served()
        maker.release("2")
        server.publish(maker)
        self._now = self._served()
        server.trust(device, "seen").manifest(TARGET, "beta")
        self._seen = device().paths.state / "seen"
        self._keys, self._thief = maker.folder / "keys", thief

    def _served(self) -> dict[str, bytes]:
        folder = self.server.folder
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def refused(self, attack: Attack, *, recovers: bool) -> None:
        """The device ends with the answer that is due, and (`recovers`) believes the honest server afterwards."""
        forge = Forge(self._old, self._now, self._keys, self._thief)
        attack.make(forge)
        state = self._seen.with_name("attacked")
        shutil.rmtree(state, ignore_errors=True)
        if attack.seen:
            shutil.copytree(self._seen, state)
        for name, data in forge.laid.items():
            if data is None:
                (self.server.folder / name).unlink()
            else:
                self.server.lay(name, data)
        try:
            with pytest.raises(attack.answers):
                self.server.trust(self.device, state.name).manifest(TARGET, "beta")
        finally:
            for name in forge.laid:
                if name in self._now:
                    self.server.lay(name, self._now[name])
                else:
                    (self.server.folder / name).unlink()
        if recovers:
            assert b'"version": "2"' in self.server.trust(self.device, state.name).manifest(TARGET, "beta")
        self.server.hang_up()


@pytest.mark.parametrize("server", ["folder", "ftp", "ftps", "vsftpd", "sftp"], indirect=True)
def test_every_attack_is_refused_and_an_honest_server_is_believed_afterwards(
    server: Server, maker: Maker, device: Device, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    siege = Siege(server, maker, device, tmp_path / "thief")
    for attack in NO_KEY:
        with subtests.test(attack.name):
            siege.refused(attack, recovers=True)
    for attack in ONLINE_KEYS:
        with subtests.test(attack.name):
            # what the stolen keys wound forward comes back with their rotation: test_signing
            siege.refused(attack, recovers=False)
