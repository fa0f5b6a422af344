# SPDX-License-Identifier: Apache-2.0
"""What may be believed: the TUF client workflow (specification 1.0, section 5) over any transport.

The device trusts the root metadata in its image and nothing else: no message, no server, no line.
python-tuf's ngclient does the checking; here are its fetcher, durable storage, the time that expiry is judged by, and
the wording of its refusals.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from .clock import Clock, Reading, parse_utc
from .durable import write_bytes
from .errors import AgentError, BadRelease, ClockDoubtful, FileMissing, NotForThisDevice, NotTrusted, StaleMetadata
from .transport import Transport

DOCUMENT_LIMIT = 4_000_000


class Fetcher(FetcherInterface):
    """ngclient's one seam, over our transports. ngclient itself enforces the lengths."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return self._transport.read(url)
        except FileMissing as exc:
            # the client workflow ends its search for a newer root on a 404
            raise DownloadHTTPError(exc.text, 404) from exc


class DurableUpdater(Updater):
    """ngclient's client, with metadata that is flushed before it counts, and expiry judged by a time of ours."""

    def judge_by(self, reference: float) -> None:
        """Judge expiry by `reference` (UTC seconds). ngclient keeps the time in its trusted set, without a knob."""
        self._trusted_set.reference_time = datetime.fromtimestamp(reference, UTC)

    def signed_at(self) -> float | None:
        """When the timestamp that was accepted was signed, as far as its signer says so; UTC seconds."""
        text = self._trusted_set.timestamp.unrecognized_fields.get("signed_at")
        try:
            return parse_utc(text) if isinstance(text, str) else None
        except ValueError:
            return None

    def target_path(self, info: TargetFile) -> str:
        """Where `info` lies below the target folder: named by its hash where the repository is consistent."""
        if not self._trusted_set.root.consistent_snapshot:
            return info.path
        folder, slash, name = info.path.rpartition("/")
        return f"{folder}{slash}{next(iter(info.hashes.values()))}.{name}"

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_bytes(Path(filename), data)


@dataclass(frozen=True)
class SignedRelease:
    """A release as its ring's people signed it.

    `document` fetches another document of the release (`patches.json`) and verifies it; None where none is offered.
    """

    manifest: bytes
    custom: dict[str, Any]
    document: Callable[[str], bytes | None]


class TrustedRepository:
    """The file server's TUF repository as one device may believe it."""

    def __init__(self, transport: Transport, root: Path, folder: Path, clock: Clock | None = None) -> None:
        """`root`: trusted root metadata from the image. `folder`: durable place for the metadata seen."""
        self._transport = transport
        self._root = root
        self._metadata = folder / "metadata"
        self._clock = clock or Clock(folder / "time.json")

    def manifest(self, target: str, ring: str) -> bytes:
        """The verified bytes of the manifest at TUF target path `target`; raises as `release` does."""
        return self.release(target, ring).manifest

    def release(self, target: str, ring: str) -> SignedRelease:
        """The release whose manifest lies at TUF target path `target`.

        Raises:
            NotForThisDevice: the path is not of this device's ring, so its ring's signers never saw it.
            NotTrusted: a signature, hash, length or version does not hold.
            StaleMetadata: signed metadata has expired, by a time that was proved.
            ClockDoubtful: signed metadata has expired by a clock that nobody vouches for.
            FileMissing, ServerUnreachable: another try later may do.
        """
        if target.split("/")[0] != ring:
            raise NotForThisDevice(f"{target} is not signed by ring {ring}'s people, and this device is of {ring}")
        updater = self.refresh()

        def document(name: str) -> bytes | None:
            info, data = self._document(updater, f"{target.rpartition('/')[0]}/{name}")
            return data if info else None

        info, data = self._document(updater, target)
        if info is None:
            raise FileMissing(f"no trusted signer offers {target} (yet)")
        custom = info.unrecognized_fields.get("custom")
        return SignedRelease(data, custom if isinstance(custom, dict) else {}, document)

    def refresh(self) -> DurableUpdater:
        """Bring the metadata up to date; two small requests where nothing is new. Raises as `release` does."""
        reading = self._clock.read(time.time())
        try:
            updater = self._refreshed(reading.reference)
        except ExpiredMetadataError as exc:
            raise self._expired(reading, exc) from exc
        if signed_at := updater.signed_at():
            self._clock.prove(reading, signed_at)
        return updater

    def _refreshed(self, reference: float) -> DurableUpdater:
        self._metadata.mkdir(parents=True, exist_ok=True)
        with _worded():
            updater = DurableUpdater(
                metadata_dir=str(self._metadata),
                metadata_base_url="metadata/",
                fetcher=Fetcher(self._transport),
                bootstrap=self._root.read_bytes(),
            )
            updater.judge_by(reference)
            updater.refresh()
        return updater

    def _expired(self, reading: Reading, exc: ExpiredMetadataError) -> AgentError:
        """Tell withheld news from a clock that runs ahead: by the floor, the same metadata may well be fresh."""
        if reading.doubtful and reading.wall > reading.floor > 0:
            try:
                self._refreshed(reading.floor)
            except ExpiredMetadataError:
                pass
            else:
                wall, floor = (datetime.fromtimestamp(t, UTC).date() for t in (reading.wall, reading.floor))
                return ClockDoubtful(
                    f"the signed metadata looks expired, but nobody has set this device's clock since it started: it "
                    f"says {wall}, and the last time that was proved is {floor}. Trying again when the clock is set"
                )
        return StaleMetadata(
            f"the file server's signed metadata has expired: {exc}. Either it was not refreshed (refresh.yml), or "
            "someone withholds newer metadata from this device"
        )

    def _document(self, updater: DurableUpdater, path: str) -> tuple[TargetFile | None, bytes]:
        with _worded():
            info = updater.get_targetinfo(path)
            if info is None:
                return None, b""
            if info.length > DOCUMENT_LIMIT:
                raise BadRelease(
                    f"{path} has {info.length} bytes, a document of a release has at most {DOCUMENT_LIMIT}"
                )
            fetcher = Fetcher(self._transport)
            data = fetcher.download_bytes(f"targets/{updater.target_path(info)}", info.length)
            info.verify_length_and_hashes(data)
            return info, data

    def seen(self) -> dict[str, int]:
        """Versions of the metadata accepted so far, by role: what a makers' person asks for first."""
        versions: dict[str, int] = {}
        for path in sorted(self._metadata.glob("*.json")):
            signed: dict[str, Any] = json.loads(path.read_bytes())["signed"]
            versions[urllib.parse.unquote(path.stem)] = int(signed["version"])
        return versions


@contextmanager
def _worded() -> Iterator[None]:
    """python-tuf's errors in the agent's words; expiry passes, since only the caller knows the clock."""
    try:
        yield
    except ExpiredMetadataError:
        raise
    except DownloadLengthMismatchError as exc:
        raise NotTrusted(f"the file server sent more than was signed: {exc}") from exc
    except DownloadHTTPError as exc:
        raise FileMissing(str(exc)) from exc
    except DownloadError as exc:
        if isinstance(exc.__cause__, AgentError):
            raise exc.__cause__ from exc
        raise FileMissing(f"the file server's metadata could not be fetched: {exc}") from exc
    except RepositoryError as exc:
        raise NotTrusted(f"what the file server offers is not signed as it must be: {exc}") from exc
