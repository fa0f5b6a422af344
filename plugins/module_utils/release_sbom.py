# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release consists of, as a CycloneDX 1.6 bill of materials, the same bytes for the same commit.

The release is made of layers, a runtime layer of wheels; what the agent needs from the device's image stands beside
them, so that a weakness in either is found by one query.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


class BadInput(Exception):
    """What the bill should be made of is not what it should be; the text names it."""


def pinned(requirements: str) -> list[tuple[str, str]]:
    """Name and version of each package that a requirements file pins (``name==version``)."""
    return sorted(set(_PINNED.findall(requirements)))


def bill_of_materials(manifest: bytes, wheels: Iterable[dict[str, str]], image: Iterable[tuple[str, str]]) -> bytes:
    """The bill of the release that `manifest` describes.

    `wheels`: as app_layer returns them, with the ``platform`` of the layer that each is in. `image`: name and version
    of the packages that the agent finds on the device.

    Raises:
        BadInput: the manifest is none, or a wheel's platform has no layer.
    """
    try:
        release = json.loads(manifest)
        layers = [(_layer(entry), entry) for entry in release["layers"]]
        app = Component(
            name=release["product"],
            version=release["version"],
            type=ComponentType.APPLICATION,
            bom_ref="release",
            purl=PackageURL("generic", None, release["product"], release["version"]),
            properties=[Property(name="iotops:commit", value=release["commit"])],
        )
        committed = datetime.fromisoformat(release["committed_at"])
    except (ValueError, KeyError, TypeError) as exc:
        raise BadInput(f"no manifest of a release: {exc!r}") from exc
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{hashlib.sha256(manifest).hexdigest()}")
    # a bill tells when the release was made: that is the commit's time, or the same commit would give other bytes
    bom = Bom(serial_number=serial, metadata=BomMetaData(component=app, timestamp=committed))
    for component, _source in layers:
        bom.components.add(component)
    bom.register_dependency(app, [component for component, _source in layers])
    inside: dict[str, list[Component]] = {}
    for wheel in wheels:
        component = _wheel(wheel)
        bom.components.add(component)
        inside.setdefault(wheel["platform"], []).append(component)
    beside = [_package(name, version) for name, version in image]
    for component in beside:
        bom.components.add(component)
    for component, entry in layers:
        held = inside.pop(entry["platform"], []) if entry["name"] == "runtime" else []
        bom.register_dependency(component, held + (beside if entry["name"] == "agent" else []))
    if inside:
        raise BadInput(f"no runtime layer for {', '.join(sorted(inside))}, whose wheels were named")
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return f"{text}\n".encode()


def components(bill: bytes) -> Iterator[dict[str, Any]]:
    """The components of a bill that was made here."""
    yield from json.loads(bill).get("components", [])


def _layer(entry: dict[str, Any]) -> Component:
    return Component(
        name=f"{entry['name']}-{entry['platform']}",
        type=ComponentType.APPLICATION if entry["name"] in ("app", "agent") else ComponentType.FRAMEWORK,
        bom_ref=f"layer:{entry['name']}:{entry['platform']}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"])],
        properties=[
            Property(name="iotops:path", value=entry["path"]),
            Property(name="iotops:content_sha256", value=entry["content_sha256"]),
            Property(name="iotops:platform", value=entry["platform"]),
        ],
    )


def _wheel(wheel: dict[str, str]) -> Component:
    purl = _purl(wheel["name"], wheel["version"], {"file_name": wheel["file"]})
    return Component(
        name=wheel["name"],
        version=wheel["version"],
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel["sha256"])],
        licenses=[LicenseFactory().make_from_string(wheel["license"])] if wheel["license"] else [],
        properties=[Property(name="iotops:platform", value=wheel["platform"])],
    )


def _package(name: str, version: str) -> Component:
    purl = _purl(name, version)
    return Component(
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        properties=[Property(name="iotops:provided_by", value="device image")],
    )


def _purl(name: str, version: str, qualifiers: dict[str, str] | None = None) -> PackageURL:
    """A package URL of PyPI: its names are lower case with hyphens (purl specification, type pypi)."""
    return PackageURL("pypi", None, re.sub(r"[-_.]+", "-", name).lower(), version, qualifiers)
