# SPDX-License-Identifier: Apache-2.0
"""What may be believed: the TUF client workflow (specification 1.0, section 5) over any transport.

The device trusts the root metadata in its image and nothing else: no message, no server, no line.
python-tuf's ngclient does the checking; here are its fetcher and the wording of its refusals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.ngclient import FetcherInterface, Updater

from .errors import AgentError, BadRelease, FileMissing, NotForThisDevice, NotTrusted, StaleMetadata
from .transport import Transport

MANIFEST_LIMIT = 1_000_000


class _Fetcher(FetcherInterface):
    """ngclient's one seam, over our transports. ngclient itself enforces the lengths."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return self._transport.read(url)
        except FileMissing as exc:
            # the client workflow ends its search for a newer root on a 404
            raise DownloadHTTPError(exc.text, 404) from exc


class TrustedRepository:
    """The file server's TUF repository as one device may believe it."""

    def __init__(self, transport: Transport, root: Path, folder: Path) -> None:
        """`root`: trusted root metadata from the image. `folder`: durable place for the metadata seen."""
        self._transport = transport
        self._root = root
        self._metadata = folder / "metadata"
        self._targets = folder / "targets"

    def manifest(self, target: str, ring: str) -> bytes:
        """The verified bytes of the manifest at TUF target path `target`.

        Raises:
            NotForThisDevice: the path is not of this device's ring, so its ring's signers never saw it.
            NotTrusted: a signature, hash, length or version does not hold.
            StaleMetadata: signed metadata has expired.
            FileMissing, ServerUnreachable: another try later may do.
        """
        if target.split("/")[0] != ring:
            raise NotForThisDevice(f"{target} is not signed by ring {ring}'s people, and this device is of {ring}")
        self._metadata.mkdir(parents=True, exist_ok=True)
        self._targets.mkdir(parents=True, exist_ok=True)
        try:
            return self._verified(target)
        except ExpiredMetadataError as exc:
            raise StaleMetadata(f"the file server's signed metadata has expired: {exc}") from exc
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

    def _verified(self, target: str) -> bytes:
        updater = Updater(
            metadata_dir=str(self._metadata),
            metadata_base_url="metadata/",
            target_dir=str(self._targets),
            target_base_url="targets/",
            fetcher=_Fetcher(self._transport),
            bootstrap=self._root.read_bytes(),
        )
        updater.refresh()
        info = updater.get_targetinfo(target)
        if info is None:
            raise FileMissing(f"no trusted signer offers {target} (yet)")
        if info.length > MANIFEST_LIMIT:
            raise BadRelease(f"{target} has {info.length} bytes, a manifest has at most {MANIFEST_LIMIT}")
        return Path(updater.download_target(info)).read_bytes()

    def seen(self) -> dict[str, int]:
        """Versions of the metadata accepted so far, by role: what a makers' person asks for first."""
        versions: dict[str, int] = {}
        for path in sorted(self._metadata.glob("*.json")):
            signed: dict[str, Any] = json.loads(path.read_bytes())["signed"]
            versions[path.stem] = int(signed["version"])
        return versions
