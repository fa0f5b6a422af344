# SPDX-License-Identifier: Apache-2.0
"""Import and export of identities as values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_hub.core.errors import ArgumentInvalid
from local_hub.core.transfer import (
    Transfer,
    blob_address,
    bulk_item,
    configuration_match,
    new_transfer,
    read_lines,
    write_lines,
)

NOW = 1_800_000_000.0
EXPORT = {"type": "export", "outputBlobContainerUri": "https://x.example/box?sv=1&sig=s"}


def test_a_job_shows_no_right_to_a_container() -> None:
    job = new_transfer({**EXPORT, "excludeKeysInExport": True}, NOW)
    shown = job.to_json()
    assert (shown["outputBlobContainerUri"], shown["outputBlobName"], shown["progress"]) == (
        "https://x.example/box",
        "devices.txt",
        0,
    )
    ended = job.ended("completed", NOW + 1)
    assert (ended.to_json()["progress"], Transfer.from_record(ended.to_record())) == (100, ended)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "backup"},
        {"type": "import"},
        {"outputBlobContainerUri": None},
        {"outputBlobContainerUri": "ftp://x/y"},
        {"outputBlobContainerUri": "file://elsewhere/tmp"},
        {"outputBlobContainerUri": "file:///"},
        {"outputBlobContainerUri": "https://[bad"},
        {"outputBlobName": "../devices.txt"},
        {"outputBlobName": 5},
        {"includeConfigurations": True, "configurationsBlobName": "a/b"},
        {"includeConfigurations": True, "configurationsBlobName": "devices.txt"},
        {"storageAuthenticationType": "identityBased"},
    ],
)
def test_what_is_no_transfer_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArgumentInvalid):
        new_transfer({**EXPORT, **change}, NOW)


def test_blobs_are_files_or_urls() -> None:
    assert blob_address("file:///tmp/a%20b/", "devices.txt") == "/tmp/a b/devices.txt"
    assert blob_address("https://x.example/box/?sig=s", "a b") == "https://x.example/box/a%20b?sig=s"


def test_lines_are_devices() -> None:
    lines = [{"id": "a"}, {"id": "a", "moduleId": "m"}]
    assert read_lines(b"\xef\xbb\xbf" + write_lines(lines) + b"\r\n") == lines
    for bad in (b"{", b"[]", b'{"id": 5}', b"[" * 100_000):
        with pytest.raises(ArgumentInvalid, match="line 1"):
            read_lines(bad)


@given(st.binary(max_size=200))
def test_any_blob_is_read_or_refused(blob: bytes) -> None:
    try:
        assert all(isinstance(line["id"], str) for line in read_lines(blob))
    except ArgumentInvalid:
        return


@pytest.mark.parametrize(
    ("mode", "exists", "made"),
    [
        (None, False, "create"),
        (None, True, "update"),
        ("createOrUpdate", True, "update"),
        ("createOrUpdateIfMatchETag", True, "updateIfMatchETag"),
        ("createOrUpdateIfMatchETag", False, "create"),
        ("delete", True, "delete"),
    ],
)
def test_an_import_creates_or_updates(mode: str | None, exists: bool, made: str) -> None:
    assert bulk_item({"id": "a", "importMode": mode}, exists)["importMode"] == made


def test_a_job_with_configurations_names_their_blob() -> None:
    job = new_transfer({**EXPORT, "includeConfigurations": True}, NOW)
    assert (job.to_json()["includeConfigurations"], job.to_json()["configurationsBlobName"]) == (
        True,
        "configurations.txt",
    )
    without = new_transfer(EXPORT, NOW)
    assert (without.to_json()["includeConfigurations"], without.to_json()["configurationsBlobName"]) == (False, None)
    old = json.loads(without.to_record())
    del old["include_configurations"], old["configurations_name"]
    assert Transfer.from_record(json.dumps(old)) == without


def test_a_configuration_is_created_or_updated_if_its_etag_matches() -> None:
    line = {"id": "c", "etag": "x", "importMode": "CreateOrUpdateIfMatchETag"}
    assert [configuration_match(line, False), configuration_match(line, True)] == [None, '"x"']
    assert configuration_match({"id": "c"}, True) == "*"
    with pytest.raises(ArgumentInvalid):
        configuration_match({"id": "c", "importMode": "delete"}, True)
