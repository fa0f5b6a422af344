# SPDX-License-Identifier: Apache-2.0
"""Which agent runs: the image's, or the release's as long as it proves itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from fridge_agent import bootstrap, install
from fridge_agent.config import Paths
from fridge_agent.durable import point


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A device with release 1 (agent a) before and release 2 (agent b) now."""
    found = Paths(tmp_path / "opt", tmp_path / "state", tmp_path / "run", tmp_path / "app")
    found.state.mkdir()
    for release, layer in (("1", "a"), ("2", "b")):
        (found.layers / layer / "fridge_agent").mkdir(parents=True)
        (found.releases / release).mkdir(parents=True)
        (found.releases / release / "manifest.json").write_text(f'{{"id": "{release}", "version": "{release}"}}')
        (found.releases / release / "agent").symlink_to(f"../../layers/{layer}")
    point(found.previous, found.releases / "1")
    point(found.current, found.releases / "2")
    return found


def current(paths: Paths) -> str:
    release = install.current(paths)
    assert release is not None
    return release.name


def test_the_releases_agent_takes_over_and_stays_once_it_is_proved(paths: Paths) -> None:
    assert bootstrap.choose(paths) == "b"
    bootstrap.prove(paths, "b")
    for _ in range(3 * bootstrap.STARTS_ALLOWED):
        assert bootstrap.choose(paths) == "b"


def test_an_agent_that_never_proves_itself_takes_its_release_back_with_it(paths: Paths) -> None:
    bootstrap.prove(paths, "a")
    for _ in range(bootstrap.STARTS_ALLOWED):
        assert bootstrap.choose(paths) == "b"
    assert bootstrap.choose(paths) == "a"
    assert current(paths) == "1"
    note = bootstrap.take_note(paths)
    assert note is not None
    assert note["code"] == "agent_failed"
    assert bootstrap.take_note(paths) is None


def test_an_agent_that_condemns_itself_goes_at_its_next_start(paths: Paths) -> None:
    bootstrap.choose(paths)
    bootstrap.condemn(paths, "b", "it did not reach the hub")
    assert bootstrap.choose(paths) == "a"
    assert "did not reach the hub" in (bootstrap.take_note(paths) or {})["text"]


def test_stops_on_purpose_say_nothing_against_it(paths: Paths) -> None:
    for _ in range(3 * bootstrap.STARTS_ALLOWED):
        assert bootstrap.choose(paths) == "b"
        bootstrap.ended_well(paths)


def test_where_the_release_before_has_the_same_broken_agent_the_image_takes_over(paths: Paths) -> None:
    link = paths.releases / "1" / "agent"
    link.unlink()
    link.symlink_to("../../layers/b")
    for _ in range(bootstrap.STARTS_ALLOWED):
        bootstrap.choose(paths)
    assert bootstrap.choose(paths) is None


def test_a_release_without_an_agent_is_served_by_the_images(paths: Paths) -> None:
    (paths.releases / "2" / "agent").unlink()
    assert bootstrap.choose(paths) is None
    assert bootstrap.layer_of(paths) is None
