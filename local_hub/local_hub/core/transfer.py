# SPDX-License-Identifier: Apache-2.0
"""Import and export of identities and configurations: a job, and the lines of its blobs.

A blob has one `ExportImportDevice` a line, devices and modules alike; another one has a `Configuration` a line, with
the `importMode` of the C# SDK's ImportConfiguration. Fields and modes: service.json of azure-iot-hub-python;
https://learn.microsoft.com/azure/iot-hub/iot-hub-bulk-identity-mgmt
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .errors import ArgumentInvalid, BlobContainerValidationError
from .timestamps import iso

JsonObject = dict[str, Any]

IMPORT, EXPORT = "import", "export"
RUNNING, COMPLETED, FAILED, CANCELLED = "running", "completed", "failed", "cancelled"
ERRORS_BLOB = "importErrors.log"
_DEVICES_BLOB = "devices.txt"
_CONFIGURATIONS_BLOB = "configurations.txt"
_DEFAULT_MODE = "createOrUpdate"
_CONFIGURATION_MODE = "createorupdateifmatchetag"


@dataclass(frozen=True)
class Transfer:
    """A job, as REST's `JobProperties` has it."""

    id: str
    type: str
    start: float
    input_uri: str | None
    input_name: str
    output_uri: str
    output_name: str
    exclude_keys: bool
    status: str = RUNNING
    progress: int = 0
    end: float | None = None
    failure: str | None = None
    include_configurations: bool = False
    configurations_name: str = _CONFIGURATIONS_BLOB

    def ended(self, status: str, now: float, failure: str | None = None) -> Transfer:
        """It is over."""
        return replace(
            self, status=status, end=now, failure=failure, progress=100 if status == COMPLETED else self.progress
        )

    def to_json(self) -> JsonObject:
        """REST's `JobProperties`. Addresses of containers hold a right to them, and are told without it."""
        return {
            "jobId": self.id,
            "type": self.type,
            "status": self.status,
            "progress": self.progress,
            "startTimeUtc": iso(self.start),
            "endTimeUtc": None if self.end is None else iso(self.end),
            "inputBlobContainerUri": None if self.input_uri is None else self.input_uri.partition("?")[0],
            "inputBlobName": self.input_name if self.type == IMPORT else None,
            "outputBlobContainerUri": self.output_uri.partition("?")[0],
            "outputBlobName": self.output_name,
            "excludeKeysInExport": self.exclude_keys,
            "storageAuthenticationType": "keyBased",
            "includeConfigurations": self.include_configurations,
            "configurationsBlobName": self.configurations_name if self.include_configurations else None,
            "failureReason": self.failure,
        }

    def to_record(self) -> str:
        """For the store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_record(cls, record: str) -> Transfer:
        """From the store."""
        return cls(**json.loads(record))


def new_transfer(body: JsonObject, now: float) -> Transfer:
    """Read a `JobProperties`.

    Raises:
        ArgumentInvalid: it asks for something that is not offered.
        BlobContainerValidationError: a container's address is none.
    """
    kind = body.get("type")
    if kind not in (IMPORT, EXPORT):
        raise ArgumentInvalid("type is import or export")
    if body.get("storageAuthenticationType") not in (None, "keyBased"):
        raise ArgumentInvalid("identity-based storage is not offered")
    job = Transfer(
        id=secrets.token_hex(16),
        type=kind,
        start=now,
        input_uri=body.get("inputBlobContainerUri") if kind == IMPORT else None,
        input_name=_name(body, "inputBlobName"),
        output_uri=str(body.get("outputBlobContainerUri") or ""),
        output_name=_name(body, "outputBlobName"),
        exclude_keys=bool(body.get("excludeKeysInExport")),
        include_configurations=bool(body.get("includeConfigurations")),
        configurations_name=_name(body, "configurationsBlobName", _CONFIGURATIONS_BLOB),
    )
    taken = (ERRORS_BLOB, job.input_name) if kind == IMPORT else (job.output_name,)
    if job.include_configurations and job.configurations_name in taken:
        raise ArgumentInvalid("configurationsBlobName is the name of another blob of the job")
    blob_address(job.output_uri, job.output_name)
    if kind == IMPORT:
        blob_address(job.input_uri, job.input_name)
    return job


def blob_address(container: Any, name: str) -> str:
    """Where a blob of a container is: a path for file://, else a URL with the container's right in it.

    Raises:
        BlobContainerValidationError: the container's address is none.
    """
    try:
        parts = urlsplit(container) if isinstance(container, str) else None
    except ValueError:
        parts = None
    if parts is not None and parts.scheme == "file" and parts.netloc in ("", "localhost") and len(parts.path) > 1:
        return f"{unquote(parts.path).rstrip('/')}/{name}"
    if parts is not None and parts.scheme in ("http", "https") and parts.hostname:
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{quote(name)}{query}"
    raise BlobContainerValidationError("a blob container is a file://, http:// or https:// address")


def read_lines(blob: bytes) -> list[JsonObject]:
    """The devices and modules, or the configurations, of an import.

    Raises:
        ArgumentInvalid: a line is none.
    """
    found = []
    for number, line in enumerate(blob.decode("utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise ArgumentInvalid(f"line {number} has no id")
        found.append(value)
    return found


def write_lines(values: Iterable[JsonObject]) -> bytes:
    """What an export or a list of errors looks like."""
    return "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values).encode()


def bulk_item(line: JsonObject, exists: bool) -> JsonObject:
    """A line of an import as an item of a bulk operation, which has no "create or update"."""
    mode = str(line.get("importMode") or _DEFAULT_MODE).lower()
    if mode in ("createorupdate", "createorupdateifmatchetag"):
        matching = exists and mode.endswith("ifmatchetag")
        return {**line, "importMode": "updateIfMatchETag" if matching else "update" if exists else "create"}
    return line


def configuration_match(line: JsonObject, exists: bool) -> str | None:
    """The If-Match with which a configuration of an import is written, None for a new one.

    Raises:
        ArgumentInvalid: its importMode is none of configurations.
    """
    if str(line.get("importMode") or _CONFIGURATION_MODE).lower() != _CONFIGURATION_MODE:
        raise ArgumentInvalid("the importMode of a configuration is createOrUpdateIfMatchETag")
    if not exists:
        return None
    return f'"{line["etag"]}"' if line.get("etag") else "*"


def without_keys(authentication: JsonObject) -> JsonObject:
    """`authentication` for an export that must not tell secrets."""
    return {**authentication, "symmetricKey": {"primaryKey": None, "secondaryKey": None}}


def _name(body: JsonObject, field: str, default: str = _DEVICES_BLOB) -> str:
    name = body.get(field) or default
    if not isinstance(name, str) or "/" in name or "\\" in name or name in (".", "..") or "\0" in name:
        raise ArgumentInvalid(f"{field} is the name of a blob, without slashes")
    return name
