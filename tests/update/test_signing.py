# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs what: two people on two machines, keys that are rotated, lost and stolen, and what devices make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import tuf_repository as tuf
from fridge_agent import errors
from fridge_agent.clock import Clock
from fridge_agent.config import Config
from fridge_agent.transport import for_server
from fridge_agent.trust import TrustedRepository
from update.maker import PASSPHRASE, RINGS, Maker

Device = Callable[..., Config]
MANIFEST = b'{"version": "1"}'


def trust(config: Config) -> TrustedRepository:
    return TrustedRepository(for_server(config.server), config.server.root, config.paths.state / "tuf")


class People:
    """Machines with some of the keys each, and one repository that they pass around."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        maker.open().write()

    def with_keys(self, *names: str, **wanted: object) -> tuf.Repository:
        """The repository on a machine that holds these private keys only."""
        folder = self.maker.folder / "machine"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in names:
            shutil.copy(self.maker.folder / "keys" / f"{name}.pem", folder)
        return self.at(folder, **wanted)

    def at(self, *folders: Path, now: datetime | None = None, create: bool = False, **wanted: object) -> tuf.Repository:
        keys = tuf.KeyStore(folders, PASSPHRASE)
        changed = replace(tuf.Wanted(RINGS), **wanted)  # type: ignore[arg-type]
        repository = tuf.Repository(self.maker.repository, keys, changed, now)
        repository.ensure_keys(create=create, check=False)
        repository.ensure_roles()
        return repository

    @property
    def all_keys(self) -> Path:
        return self.maker.folder / "keys"


@pytest.fixture
def people(maker: Maker) -> People:
    return People(maker)


ONLINE = ("snapshot", "timestamp")


# ---- two people ------------------------------------------------------------


def test_one_persons_fleet_release_waits_where_no_device_looks_and_the_second_publishes_it(
    people: People, device: Device
) -> None:
    config = device(ring="fleet")
    first = people.with_keys("fleet-1", *ONLINE)
    first.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    first.write()
    assert [(p.role, p.signatures, p.threshold, p.missing) for p in first.pending()] == [("fleet", 1, 2, ("fleet-2",))]
    with pytest.raises(errors.FileMissing):
        trust(config).manifest("fleet/1/manifest.json", "fleet")
    second = people.with_keys("fleet-2", *ONLINE)
    second.ensure_signed(["fleet"])
    second.write()
    assert second.pending() == []
    assert not list((people.maker.repository / "pending").iterdir())
    assert trust(config).manifest("fleet/1/manifest.json", "fleet") == MANIFEST


def test_the_same_person_twice_is_one_person(people: People) -> None:
    first = people.with_keys("fleet-1", *ONLINE)
    first.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    first.write()
    with pytest.raises(tuf.RepositoryFault, match="bring one of fleet-2"):
        people.with_keys("fleet-1", *ONLINE).ensure_signed(["fleet"])


def test_offering_the_same_again_leaves_the_first_signature_and_other_content_drops_it(people: People) -> None:
    first = people.with_keys("fleet-1", *ONLINE)
    first.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    first.write()
    again = people.with_keys("fleet-1", *ONLINE)
    assert not again.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    assert not again.dirty
    other = people.with_keys("fleet-2", *ONLINE)
    other.ensure_target("fleet", "fleet/2/manifest.json", b"two")
    other.write()
    (waits,) = other.pending()
    assert (waits.signatures, waits.missing) == (1, ("fleet-1",)), "fleet-1 has not seen release 2"


def test_a_signature_for_what_was_overtaken_is_refused(people: People) -> None:
    first = people.with_keys("fleet-1", *ONLINE)
    first.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    first.write()
    kept = next((people.maker.repository / "pending").iterdir())
    data = kept.read_bytes()
    both = people.at(people.all_keys)
    both.ensure_target("fleet", "fleet/2/manifest.json", b"two")
    both.write()
    kept.write_bytes(data)
    with pytest.raises(tuf.RepositoryFault, match="nothing of role fleet waits"):
        people.with_keys("fleet-2", *ONLINE).ensure_signed(["fleet"])


def test_people_without_the_online_keys_sign_and_the_machine_that_has_them_publishes(
    people: People, device: Device
) -> None:
    before = (people.maker.repository / "metadata/timestamp.json").read_bytes()
    machine = people.with_keys(*ONLINE)
    machine.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    machine.write()
    assert [(p.signatures, p.missing) for p in machine.pending()] == [(0, ("fleet-1", "fleet-2"))]
    for person in ("fleet-1", "fleet-2"):
        signing = people.with_keys(person)
        signing.ensure_signed(["fleet"])
        assert signing.preview() == ["pending/2.fleet.json"]
        signing.write()
    assert [(p.signatures, p.missing) for p in signing.pending()] == [(2, ("snapshot", "timestamp"))]
    assert (people.maker.repository / "metadata/timestamp.json").read_bytes() == before
    machine = people.with_keys(*ONLINE)
    assert machine.dirty
    assert machine.preview() == ["metadata/2.fleet.json", "metadata/2.snapshot.json", "metadata/timestamp.json"]
    machine.write()
    assert machine.pending() == []
    assert trust(device(ring="fleet")).manifest("fleet/1/manifest.json", "fleet") == MANIFEST
    assert not people.with_keys(*ONLINE).dirty


def test_a_release_that_needs_one_signature_waits_for_the_online_keys_too(people: People) -> None:
    offline = people.with_keys("beta-1")
    offline.ensure_target("beta", "beta/1/manifest.json", MANIFEST)
    offline.write()
    assert [(p.role, p.signatures, p.missing) for p in offline.pending()] == [("beta", 1, ("snapshot", "timestamp"))]
    assert not (people.maker.repository / "metadata/2.beta.json").exists()


# ---- rotation ------------------------------------------------------------


def test_a_device_that_knows_only_the_first_root_follows_every_rotation(people: People, device: Device) -> None:
    config = device()
    for keys in (("root-1", "root-3"), ("root-3", "root-4")):
        people.at(people.all_keys, root_keys=keys, create=True).write()
    repository = people.at(people.all_keys, root_keys=("root-3", "root-4"))
    repository.ensure_target("beta", "beta/1/manifest.json", MANIFEST)
    repository.write()
    known = trust(config)
    assert known.manifest("beta/1/manifest.json", "beta") == MANIFEST
    assert known.seen()["root"] == 3


def test_a_new_root_needs_the_old_people_too(people: People) -> None:
    people.at(people.all_keys, root_keys=("root-3", "root-4"), create=True)
    new_only = people.with_keys("root-3", "root-4", *ONLINE, root_keys=("root-3", "root-4"))
    new_only.write()
    (waits,) = new_only.pending()
    assert waits.role == "root"
    assert set(waits.missing) == {"root-1", "root-2"}
    assert not (people.maker.repository / "metadata/2.root.json").exists()
    old = people.with_keys("root-1", "root-2", *ONLINE, root_keys=("root-3", "root-4"))
    old.ensure_signed(["root"])
    old.write()
    assert (people.maker.repository / "metadata/2.root.json").exists()


@pytest.mark.parametrize(
    ("wanted", "new", "lacking"),
    [
        ({"online": {"snapshot": "snapshot", "timestamp": "timestamp-2"}}, "timestamp-2", "root-2"),
        ({"online": {"snapshot": "snapshot-2", "timestamp": "timestamp"}}, "snapshot-2", "root-2"),
        ({"targets_keys": ("targets-2",)}, "targets-2", "root-2"),
        ({"rings": (tuf.Ring("beta", ("beta-2",), 1), RINGS[1])}, "beta-2", "targets"),
        ({"build_keys": ("build-2",)}, "build-2", "targets"),
    ],
    ids=["timestamp", "snapshot", "targets", "ring", "build"],
)
def test_a_rotation_that_lacks_a_signature_changes_nothing_for_devices_until_it_is_there(
    people: People, device: Device, wanted: dict[str, object], new: str, lacking: str
) -> None:
    config = device()
    people.at(people.all_keys, create=True, **wanted)  # makes the key
    others = {path.stem for path in people.all_keys.glob("*.pem")} - {lacking}
    people.with_keys(*others, **wanted).write()
    trust(config).refresh()
    # a release in between reaches devices as before, signed by the old keys
    between = people.with_keys(*others, **wanted)
    between.ensure_target("beta", "beta/1/manifest.json", MANIFEST)
    between.write()
    assert trust(config).manifest("beta/1/manifest.json", "beta") == MANIFEST
    people.with_keys(*others, **wanted).write()
    trust(config).refresh()
    last = people.with_keys(lacking, **wanted)
    last.ensure_signed(["root" if lacking == "root-2" else "targets"])
    last.write()
    people.with_keys(*others, **wanted).write()
    assert people.with_keys(*others, **wanted).pending() == []
    assert trust(config).manifest("beta/1/manifest.json", "beta") == MANIFEST
    second = people.with_keys(*others, **wanted)
    second.ensure_target("beta", "beta/2/manifest.json", b"two")
    second.write()
    assert trust(config).manifest("beta/2/manifest.json", "beta") == b"two"
    assert new in "".join(path.read_text() for path in (people.maker.repository / "metadata").glob("2.*.json"))


def test_a_stolen_timestamp_key_is_worth_nothing_after_its_revocation(people: People, device: Device) -> None:
    config = device()
    trust(config).refresh()
    online = {"snapshot": "snapshot", "timestamp": "timestamp-2"}
    people.at(people.all_keys, online=online, create=True).write()
    trust(config).refresh()
    path = people.maker.repository / "metadata/timestamp.json"
    forged = tuf.Metadata.from_file(str(path))
    forged.signed.version += 100
    forged.signatures.clear()
    forged.sign(tuf.KeyStore(people.all_keys, PASSPHRASE).signer("timestamp"))
    path.write_bytes(forged.to_bytes())
    with pytest.raises(errors.NotTrusted):
        trust(config).refresh()


def test_a_fleet_fast_forwarded_by_a_thief_comes_back_with_the_rotation(people: People, device: Device) -> None:
    config = device()
    path = people.maker.repository / "metadata/timestamp.json"
    honest = path.read_bytes()
    forged = tuf.Metadata.from_file(str(path))
    forged.signed.version = 1_000_000
    forged.signatures.clear()
    forged.sign(tuf.KeyStore(people.all_keys, PASSPHRASE).signer("timestamp"))
    path.write_bytes(forged.to_bytes())
    trust(config).refresh()
    path.write_bytes(honest)
    with pytest.raises(errors.NotTrusted):
        trust(config).refresh()
    people.at(people.all_keys, online={"snapshot": "snapshot", "timestamp": "timestamp-2"}, create=True).write()
    trust(config).refresh()


def test_a_lost_ring_key_is_replaced_and_its_later_signatures_count_for_nothing(people: People, device: Device) -> None:
    config = device(ring="fleet")
    rings = (RINGS[0], tuf.Ring("fleet", ("fleet-1", "fleet-3"), 2))
    repository = people.at(people.all_keys, rings=rings, create=True)
    repository.ensure_target("fleet", "fleet/1/manifest.json", MANIFEST)
    repository.write()
    assert trust(config).manifest("fleet/1/manifest.json", "fleet") == MANIFEST
    path = max((people.maker.repository / "metadata").glob("*.fleet.json"))
    forged = tuf.Metadata.from_file(str(path))
    forged.signatures.clear()
    for name in ("fleet-1", "fleet-2"):
        forged.sign(tuf.KeyStore(people.all_keys, PASSPHRASE).signer(name), append=True)
    path.write_bytes(forged.to_bytes())
    shutil.rmtree(config.paths.state / "tuf")
    with pytest.raises(errors.NotTrusted):
        trust(config).manifest("fleet/1/manifest.json", "fleet")


def test_a_rings_keys_are_not_changed_under_metadata_that_would_not_verify_any_more(people: People) -> None:
    rings = (tuf.Ring("beta", ("beta-2",), 1), RINGS[1])
    people.at(people.all_keys, rings=rings, create=True)  # makes beta-2
    folder = people.maker.folder / "public"
    folder.mkdir()
    for name in ("targets.pem", "snapshot.pem", "timestamp.pem", "beta-2.pub"):
        shutil.copy(people.all_keys / name, folder)
    repository = people.at(folder, rings=rings)
    with pytest.raises(tuf.RepositoryFault, match="bring 1 of beta-2 in the same run"):
        repository.write()


def test_another_key_under_a_known_name_is_told(people: People) -> None:
    folder = people.maker.folder / "stray"
    tuf.KeyStore(folder, PASSPHRASE).create("beta-1")
    with pytest.raises(tuf.RepositoryFault, match="a new key gets a new name"):
        people.at(folder)


# ---- time, custom, size ------------------------------------------------------------


def test_unattended_renewal_takes_the_online_keys_only_and_tells_what_it_cannot_renew(people: People) -> None:
    later = datetime.now(UTC) + timedelta(days=300)
    folder = people.maker.folder / "ci"
    folder.mkdir()
    for name in ONLINE:
        shutil.copy(people.all_keys / f"{name}.pem", folder)
    repository = people.at(folder, now=later)
    assert repository.changed == ["snapshot", "timestamp"]
    assert set(repository.expiring) == {"root", "targets", "beta", "fleet"}
    repository.write()


def test_the_timestamp_says_when_it_was_signed_and_a_device_takes_it_as_its_floor(
    people: People, device: Device
) -> None:
    config = device()
    clock = Clock(config.paths.state / "time.json", synchronised=False)
    known = TrustedRepository(for_server(config.server), config.server.root, config.paths.state / "tuf", clock)
    known.refresh()
    assert abs(clock.read(0.0).floor - datetime.now(UTC).timestamp()) < 60


def test_metadata_that_a_wrong_clock_calls_expired_is_told_apart_from_a_freeze(
    people: People, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = device()
    clock = Clock(config.paths.state / "time.json", synchronised=False)
    known = TrustedRepository(for_server(config.server), config.server.root, config.paths.state / "tuf", clock)
    known.refresh()
    real = datetime.now(UTC).timestamp()
    with monkeypatch.context() as patch:
        patch.setattr("fridge_agent.trust.time.time", lambda: real + 4 * 365 * 86400)
        with pytest.raises(errors.ClockDoubtful, match="nobody has set this device's clock"):
            known.refresh()
    with monkeypatch.context() as patch:
        # the same, and the clock is synchronised: then somebody withholds what is new
        patch.setattr("fridge_agent.trust.time.time", lambda: real + 28 * 86400)
        sure = Clock(config.paths.state / "time.json", synchronised=True)
        frozen = TrustedRepository(for_server(config.server), config.server.root, config.paths.state / "tuf", sure)
        with pytest.raises(errors.StaleMetadata, match="withholds"):
            frozen.refresh()
    with monkeypatch.context() as patch:
        # 28 days behind, as after weeks without power, or in 1970: the floor takes its place
        patch.setattr("fridge_agent.trust.time.time", lambda: 0.0)
        known.refresh()
        clock.prove(clock.read(0.0), real + 28 * 86400)
        with pytest.raises(errors.StaleMetadata):
            known.refresh()


def test_a_way_back_is_signed_beside_the_manifest(people: People, device: Device) -> None:
    repository = people.at(people.all_keys)
    repository.ensure_target("beta", "beta/1/manifest.json", MANIFEST, {"downgrade": True})
    repository.write()
    assert trust(device()).release("beta/1/manifest.json", "beta").custom == {"downgrade": True}
    again = people.at(people.all_keys)
    assert not again.ensure_target("beta", "beta/1/manifest.json", MANIFEST, {"downgrade": True})


def test_a_ring_offers_its_newest_releases_and_forgets_the_files_of_older_ones(people: People) -> None:
    for n in range(1, 9):
        repository = people.at(people.all_keys, releases_kept=3)
        for name in ("manifest.json", "patches.json"):
            repository.ensure_target("beta", f"beta/0.1.{n}/{name}", f"{n} {name}".encode())
        repository.write()
    held = json.loads(max((people.maker.repository / "metadata").glob("*.beta.json"), key=_number).read_bytes())
    assert {path.split("/")[1] for path in held["signed"]["targets"]} == {"0.1.6", "0.1.7", "0.1.8"}
    files = {path.parent.name for path in (people.maker.repository / "targets/beta").rglob("*.json")}
    assert files == {"0.1.6", "0.1.7", "0.1.8"}


def _number(path: Path) -> int:
    return int(path.name.split(".")[0])
