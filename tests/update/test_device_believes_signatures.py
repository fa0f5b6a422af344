# SPDX-License-Identifier: GPL-3.0-or-later
"""From a maker's release to files on a device, over real servers, with servers that lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fridge_agent import download, errors, install, manifest
from fridge_agent.config import Config
from fridge_agent.layers import Stager
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import Maker

Device = Callable[..., Config]


def fetch(config: Config, target: str) -> manifest.Manifest:
    transport = for_server(config.server)
    trusted = TrustedRepository(transport, config.server.root, config.paths.state / "tuf")
    return manifest.parse(trusted.manifest(target, config.ring), config.platform, config.hardware)


def bring(config: Config, target: str) -> Path:
    """What the agent's worker does with a goal."""
    release = fetch(config, target)
    Stager(config.paths, for_server(config.server), lambda: None).stage(release)
    return install.switch(config.paths, release.id)


@pytest.mark.parametrize("kind", ["file", "ftp", "ftps"])
def test_a_signed_release_arrives_whole(
    kind: str, maker: Maker, device: Device, ftp_server: Callable[..., str], certificate: tuple[Path, Path]
) -> None:
    url = "" if kind == "file" else ftp_server(maker.repository, tls=kind == "ftps")
    config = device(url, ca_file=certificate[1])
    folder = bring(config, maker.release("1"))
    assert (folder / "app/fridge/app.txt").read_text() == "app 1"
    assert install.describe(install.current(config.paths)) == {"id": "1-g0", "version": "1"}


def test_a_second_release_keeps_the_first_as_previous_and_shares_what_is_equal(maker: Maker, device: Device) -> None:
    config = device()
    first = bring(config, maker.release("1", text="same"))
    release = fetch(config, maker.release("2", text="same"))
    assert install.missing_layers(config.paths, release) == ()
    second = bring(config, "beta/2/manifest.json")
    assert install.current(config.paths) == second
    assert install.roll_back(config.paths, second.name) == first
    assert install.current(config.paths) == first


def test_a_third_release_removes_the_first(maker: Maker, device: Device) -> None:
    config = device()
    for version in ("1", "2", "3", "4"):
        bring(config, maker.release(version))
    assert sorted(path.name for path in config.paths.releases.iterdir()) == ["2-g0", "3-g0", "4-g0"]
    bring(config, maker.release("5"))
    assert sorted(path.name for path in config.paths.releases.iterdir()) == ["3-g0", "4-g0", "5-g0"]


def test_a_fleet_device_refuses_what_only_beta_signed(maker: Maker, device: Device) -> None:
    with pytest.raises(errors.NotForThisDevice, match="ring fleet"):
        fetch(device(ring="fleet"), maker.release("1"))


def test_one_of_two_fleet_signatures_is_not_enough(maker: Maker, device: Device) -> None:
    config = device(ring="fleet")
    target = maker.release("1", ring="fleet")
    fetch(config, target)
    path = max((maker.repository / "metadata").glob("*.fleet.json"))
    role = json.loads(path.read_bytes())
    assert len(role["signatures"]) == 2
    role["signatures"] = role["signatures"][:1]
    path.write_text(json.dumps(role))
    other = Config(**{**config.__dict__, "paths": type(config.paths)(*(p / "x" for p in
                   (config.paths.base, config.paths.state, config.paths.run, config.paths.app)))})  # fmt: skip
    with pytest.raises(errors.NotTrusted):
        fetch(other, target)


def test_a_manifest_with_other_bytes_is_refused(maker: Maker, device: Device) -> None:
    target = maker.release("1")
    path = next((maker.repository / "targets/beta/1").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"version": "1"', b'"version": "7"'))
    with pytest.raises(errors.NotTrusted):
        fetch(device(), target)


def test_old_metadata_served_again_is_refused(maker: Maker, device: Device, tmp_path: Path) -> None:
    config = device()
    maker.release("1")
    old = (maker.repository / "metadata/timestamp.json").read_bytes()
    fetch(config, maker.release("2"))
    (maker.repository / "metadata/timestamp.json").write_bytes(old)
    with pytest.raises(errors.NotTrusted):
        fetch(config, "beta/1/manifest.json")


def test_expired_metadata_is_told_apart(maker: Maker, device: Device) -> None:
    device()
    maker.open()
    for path in (maker.repository / "metadata").iterdir():
        path.unlink()
    days = {"root": 1, "targets": 1, "ring": 1, "snapshot": 1, "timestamp": -1}
    maker.open(expiry=days).write()
    with pytest.raises(errors.StaleMetadata, match="expired"):
        fetch(device(), "beta/1/manifest.json")


@pytest.mark.parametrize("damage", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data + b"x"])
def test_a_layer_with_other_bytes_is_refused_and_thrown_away(
    damage: Callable[[bytes], bytes], maker: Maker, device: Device
) -> None:
    config = device()
    release = fetch(config, maker.release("1"))
    served = maker.repository / "targets" / release.layers[0].path
    served.write_bytes(damage(served.read_bytes()))
    with pytest.raises(errors.NotTrusted):
        download.fetch(for_server(config.server), release.layers[0], config.paths.downloads)
    assert list(config.paths.downloads.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "ftp"])
def test_a_broken_download_goes_on_where_it_stopped(
    kind: str, maker: Maker, device: Device, ftp_server: Callable[..., str]
) -> None:
    config = device("" if kind == "file" else ftp_server(maker.repository, tls=False))
    layer = fetch(config, maker.release("1")).layers[0]
    served = maker.repository / "targets" / layer.path
    whole = served.read_bytes()
    served.write_bytes(whole[:20])
    with pytest.raises(errors.ServerUnreachable, match="20 of"):
        download.fetch(for_server(config.server), layer, config.paths.downloads)
    served.write_bytes(b"?" * 20 + whole[20:])  # were it read from the start, the hash would not hold
    assert download.fetch(for_server(config.server), layer, config.paths.downloads).read_bytes() == whole


def test_a_file_that_is_not_there_is_another_try_later(maker: Maker, device: Device) -> None:
    with pytest.raises(errors.FileMissing) as found:
        fetch(device(), "beta/9/manifest.json")
    assert found.value.transient


def test_no_server_is_another_try_later(device: Device) -> None:
    with pytest.raises(errors.ServerUnreachable) as found:
        fetch(device("ftp://localhost:1"), "beta/1/manifest.json")
    assert found.value.transient
    assert "localhost:1" in found.value.text


def test_a_server_with_another_certificate_is_not_spoken_to(
    maker: Maker, device: Device, ftp_server: Callable[..., str]
) -> None:
    with pytest.raises(errors.ServerUnreachable, match="not trusted"):
        fetch(device(ftp_server(maker.repository)), "beta/1/manifest.json")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"compatible": ["oven-panel"]}, errors.NotForThisDevice),
        ({"minimum_agent": "9.0.0"}, errors.NotForThisDevice),
        ({"schema": 3}, errors.BadRelease),
        ({"id": "../../etc"}, errors.BadRelease),
        ({"layers": [{}]}, errors.BadRelease),
    ],
)
def test_a_signed_manifest_for_others_is_refused(
    change: dict[str, object], error: type[Exception], maker: Maker, device: Device
) -> None:
    with pytest.raises(error):
        fetch(device(), maker.release("1", **change))


def test_an_interrupted_install_is_cleaned_up(maker: Maker, device: Device) -> None:
    config = device()
    bring(config, maker.release("1"))
    left = config.paths.layers / f"{install.UNFINISHED}abc"
    left.mkdir()
    bring(config, maker.release("2"))
    assert not left.exists()


def test_a_second_agent_is_kept_out(device: Device) -> None:
    paths = device().paths
    with install.exclusive(paths), pytest.raises(install.Busy), install.exclusive(paths):
        pass


def test_too_little_room_is_told_before_anything_is_written(device: Device, tmp_path: Path) -> None:
    with pytest.raises(errors.StorageFull, match="MiB"):
        download.check_space(tmp_path, 1 << 60)
