# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release consists of and who built it from what: told in standard formats, and checked before it goes on."""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.iotops.fleet.plugins.module_utils import layer_archive, release_sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if TYPE_CHECKING:
    from conftest import Run

RINGS = [{"name": "beta", "keys": ["beta-1"], "threshold": 1}]
COMMIT = "1234567890123456789012345678901234567890"
DOCUMENTS = ("manifest.json", "sbom.cdx.json", "provenance.dsse.json")


def wheel(folder: Path, name: str = "Some_Qt", license: str = "LGPL-3.0-only OR GPL-2.0-only") -> dict[str, str]:
    path = folder / f"{name.lower()}-6.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            # which has a time of its own: the current one would make two wheels of one text differ now and then
            zipfile.ZipInfo(f"{name.lower()}-6.1.dist-info/METADATA"),
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 6.1\nLicense: {license}\n\nText\n",
        )
    return layer_archive.describe_wheel(path)


class Build:
    """A build folder with a release in it, and the repository that it is signed into."""

    def __init__(self, run: Run, folder: Path, version: str = "1.0.5", text: str = "x = 1\n") -> None:
        self.run = run
        self.folder = folder / version
        self.repository = folder / "repository"
        self.version = version
        source = self.folder / "src"
        source.mkdir(parents=True)
        (source / "a.py").write_text(text)
        app = run("app_layer", name="app", src=str(source), dest=str(self.folder))
        runtime = {
            "layer": {**app["layer"], "name": "runtime", "platform": "linux-aarch64", "path": "layers/r.tar.zst"},
            "wheels": [wheel(self.folder)],
        }
        self.layers = [app, runtime]
        self.manifest = {
            "schema": 2, "product": "fridge", "id": f"{version}-g1234567", "version": version, "commit": COMMIT,
            "committed_at": "2026-11-23T10:00:00Z", "compatible": ["fridge-panel"],
            "layers": [result["layer"] for result in self.layers],
        }  # fmt: skip
        self.write("manifest.json", json.dumps(self.manifest))
        self.write("agent.lock", "paramiko==5.0.0 \\\n    --hash=sha256:00\nsix==1.17.0 ; python_version < '4' \\\n")
        self.signing = {
            "repository": str(self.repository), "keys": [str(folder / "keys")], "passphrase": "secret", "rings": RINGS,
        }  # fmt: skip
        self.must("update_repository", create_keys=True, **self.signing)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def must(self, module: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        result = self.run(module, check=check, **options)
        assert not result.get("failed"), result
        return result

    def bill(self, **other: Any) -> dict[str, Any]:
        options = {"image_requirements": self.path("agent.lock"), **other}
        return self.run("release_sbom", **self._common("sbom.cdx.json", **options))

    def provenance(self, **other: Any) -> dict[str, Any]:
        signing = {key: self.signing[key] for key in ("keys", "passphrase")}
        options = {"sbom": self.path("sbom.cdx.json"), "builder": "https://ci.example.com/1", **signing, **other}
        return self.run("release_provenance", **self._common("provenance.dsse.json", **options))

    def offer(self) -> None:
        targets = [{"path": f"beta/{self.version}/{name}", "src": self.path(name)} for name in DOCUMENTS]
        self.must("update_repository", targets=targets, **self.signing)

    def check(self, **other: Any) -> dict[str, Any]:
        options = {"repository": str(self.repository), "ring": "beta", "version": self.version, **other}
        return self.run("release_provenance_info", **options)

    def _common(self, dest: str, **more: Any) -> dict[str, Any]:
        return {
            "manifest": self.path("manifest.json"), "layers": self.layers, "repository": str(self.repository),
            "ring": "beta", "dest": self.path(dest), **more,
        }  # fmt: skip


@pytest.fixture
def build(run: Run, tmp_path: Path) -> Build:
    return Build(run, tmp_path)


@pytest.fixture
def offered(build: Build) -> Build:
    """A release with its documents, signed into beta."""
    assert build.bill()["changed"]
    assert build.provenance()["changed"]
    build.offer()
    return build


def bill_of(build: Build) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(build.path("sbom.cdx.json")).read_text())
    return document


# ---- the bill of materials ---------------------------------------------------


def test_the_bill_keeps_the_schema_and_names_layers_wheels_and_the_image(build: Build) -> None:
    assert build.bill()["components"] == 5
    text = Path(build.path("sbom.cdx.json")).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["version"] == "1.0.5"
    named = {component["name"]: component for component in bill["components"]}
    assert named["app-any"]["hashes"][0]["content"] == build.layers[0]["layer"]["sha256"]
    assert named["Some_Qt"]["purl"].startswith("pkg:pypi/some-qt@6.1")
    assert named["Some_Qt"]["licenses"] == [{"expression": "LGPL-3.0-only OR GPL-2.0-only"}]
    assert named["Some_Qt"]["hashes"][0]["content"] == build.layers[1]["wheels"][0]["sha256"]
    assert named["paramiko"]["version"] == "5.0.0"
    inside = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert inside["release"] == ["layer:app:any", "layer:runtime:linux-aarch64"]
    assert inside["layer:runtime:linux-aarch64"] == [named["Some_Qt"]["bom-ref"]]


def test_the_same_commit_has_the_same_bill_and_it_is_written_once(run: Run, tmp_path: Path) -> None:
    one, other = Build(run, tmp_path / "a"), Build(run, tmp_path / "b")
    assert one.bill()["changed"]
    assert not one.bill()["changed"]
    other.bill()
    assert Path(one.path("sbom.cdx.json")).read_bytes() == Path(other.path("sbom.cdx.json")).read_bytes()


def test_check_mode_shows_the_bill_and_writes_none(build: Build) -> None:
    result = build.bill(check=True)
    assert result["changed"]
    assert "CycloneDX" in result["diff"]["after"]
    assert not Path(build.path("sbom.cdx.json")).exists()


def test_a_licence_that_is_no_spdx_expression_is_kept_as_it_is_told(build: Build) -> None:
    build.layers[1]["wheels"] = [wheel(build.folder, "Odd", "Our own licence, see the web")]
    build.bill()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill_of(build))) is None
    odd = next(component for component in bill_of(build)["components"] if component["name"] == "Odd")
    assert odd["licenses"] == [{"license": {"name": "Our own licence, see the web"}}]


@pytest.mark.parametrize("text", ["{}", "[1]", '{"version": "1"}', "no json"])
def test_what_is_no_manifest_is_one_sentence(build: Build, text: str) -> None:
    build.write("manifest.json", text)
    result = build.bill()
    assert result["failed"]
    assert result["msg"].startswith(f"bill of materials of {build.path('manifest.json')}: ")
    assert not Path(build.path("sbom.cdx.json")).exists()


def test_pinned_versions_are_read_with_markers_and_without_hashes() -> None:
    text = "# six==0\nsix==1.17.0 ; python_version < '4' \\\n    --hash=sha256:ab\nAzure-Thing==2.14.0 \\\n"
    assert release_sbom.pinned(text) == [("Azure-Thing", "2.14.0"), ("six", "1.17.0")]


# ---- the provenance ----------------------------------------------------------


def test_a_signed_release_tells_who_built_it_from_what(offered: Build) -> None:
    found = offered.check()
    assert (found["builder"], found["commit"]) == ("https://ci.example.com/1", COMMIT)
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in found["statement"]["subject"]}
    assert subjects[offered.layers[0]["layer"]["path"]] == offered.layers[0]["layer"]["sha256"]
    materials = found["statement"]["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [entry["name"] for entry in materials] == ["source", "some_qt-6.1-py3-none-any.whl"]
    assert set(found["files"]) == set(DOCUMENTS)


def test_the_envelope_is_signed_over_the_standard_encoding(offered: Build) -> None:
    envelope = json.loads(Path(offered.path("provenance.dsse.json")).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(base64.b64decode(envelope["payload"]))["_type"] == "https://in-toto.io/Statement/v1"


def test_the_same_build_again_changes_nothing_and_a_published_one_stays_as_it_is(offered: Build) -> None:
    assert not offered.provenance()["changed"]
    assert not offered.provenance(builder="https://ci.example.com/another")["changed"]
    assert not offered.bill(image_requirements=offered.path("manifest.json"))["changed"]


@pytest.mark.parametrize("name", ["manifest.json", "sbom.cdx.json"])
def test_a_document_that_the_builder_did_not_sign_for_is_refused(build: Build, name: str) -> None:
    build.bill()
    build.provenance()
    build.write(name, Path(build.path(name)).read_text().replace("fridge", "stove"))
    build.offer()
    result = build.check()
    assert result["failed"]
    assert result["msg"] == f"provenance of beta/1.0.5: it does not vouch for {name} as it is here"


def test_a_signature_of_a_key_that_is_no_builders_is_refused(build: Build) -> None:
    build.bill()
    build.provenance(key="beta-1")
    build.offer()
    assert "not signed by a builder" in build.check()["msg"]


def test_a_changed_statement_under_an_old_signature_is_refused(build: Build) -> None:
    build.bill()
    build.provenance()
    path = Path(build.path("provenance.dsse.json"))
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(COMMIT.encode(), COMMIT[::-1].encode())
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))
    build.offer()
    assert "not signed by a builder" in build.check()["msg"]


def test_a_builder_whose_key_is_lost_proves_nothing_any_more(offered: Build) -> None:
    offered.must("update_repository", create_keys=True, build_keys=["build-2"], **offered.signing)
    assert "not signed by a builder" in offered.check()["msg"]
    offered.must("update_repository", build_keys=["build-2", "build"], **offered.signing)
    assert offered.check()["commit"] == COMMIT


@pytest.mark.parametrize("text", ["", "{}", '{"payload": 1, "payloadType": "x", "signatures": []}', "[]"])
def test_what_is_no_envelope_is_one_sentence(build: Build, text: str) -> None:
    build.bill()
    build.write("provenance.dsse.json", text)
    build.offer()
    assert build.check()["msg"].startswith("provenance of beta/1.0.5: it is ")


def test_a_release_that_is_not_offered_or_has_no_provenance_is_told(offered: Build) -> None:
    assert "offers no manifest.json" in offered.check(version="9.9.9")["msg"]
    assert "no metadata of ring gamma" in offered.check(ring="gamma")["msg"]
