# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_enrollment and iothub_enrollment_info against a provisioning service in memory."""

from __future__ import annotations

import base64
import subprocess
import typing as t

import pytest
from provisioning_simulator import CONNECTION_STRING, ProvisioningSimulator

KEYS = {"primary_key": base64.b64encode(b"p" * 32).decode(), "secondary_key": base64.b64encode(b"s" * 32).decode()}


class Enroll(t.Protocol):
    """Runs iothub_enrollment with enrolments."""

    def __call__(self, *enrollments: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]: ...


@pytest.fixture
def enroll(run: t.Any, provisioning: ProvisioningSimulator) -> Enroll:
    def runner(*enrollments: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
        options = {"connection_string": CONNECTION_STRING, **options}
        return t.cast("dict[str, t.Any]", run("iothub_enrollment", enrollments=list(enrollments), **options))

    return runner


@pytest.fixture
def info(run: t.Any, provisioning: ProvisioningSimulator) -> t.Any:
    return lambda **options: run("iothub_enrollment_info", connection_string=CONNECTION_STRING, **options)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two certificates as PEM."""
    folder, texts = tmp_path_factory.mktemp("certificates"), []
    for name in ("one", "two"):
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        files = ["-keyout", str(folder / "key"), "-out", str(folder / name), "-subj", f"/CN={name}"]
        subprocess.run(["openssl", "req", *kind, *files], check=True, capture_output=True)
        texts.append((folder / name).read_text())
    return texts


def states(result: dict[str, t.Any]) -> list[str]:
    return [one["state"] for one in result["enrollments"]]


def test_creates_and_then_changes_nothing(enroll: Enroll, provisioning: ProvisioningSimulator) -> None:
    wish = {"id": "Fridge-1", "device_id": "fridge-0001", "tags": {"ring": "beta"}, "desired": {"a": 1},
            "iot_edge": False, "reprovision": "reset", "status": "enabled", **KEYS}  # fmt: skip
    predicted = enroll(wish, check=True)
    assert provisioning.writes() == []
    done = enroll(wish)
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"]) == (True, done["diff"])
    assert states(done) == ["created"]
    document = provisioning.tables["enrollments"]["fridge-1"]
    assert document["initialTwin"] == {"tags": {"ring": "beta"}, "properties": {"desired": {"a": 1}}}
    assert document["reprovisionPolicy"] == {"updateHubAssignment": True, "migrateDeviceData": False}
    assert provisioning.keys["enrollmentsfridge-1"] == {
        "primaryKey": KEYS["primary_key"],
        "secondaryKey": KEYS["secondary_key"],
    }
    again = enroll({**wish, "id": "fridge-1"})  # upper and lower case do not differ
    assert (again["changed"], states(again)) == (False, ["unchanged"])
    assert len(provisioning.writes()) == 1
    assert provisioning.versions == {"2021-10-01"}


def test_no_key_is_in_what_it_prints(enroll: Enroll, provisioning: ProvisioningSimulator) -> None:
    enroll({"id": "f1"})
    result = enroll({"id": "f1", **KEYS}, return_keys=True)
    assert states(result) == ["changed"]
    assert not any(key in str(result) for key in KEYS.values())
    assert result["diff"] == {
        "before": {"f1": {"attestation": "symmetric_key", "keys": "others"}},
        "after": {"f1": {"attestation": "symmetric_key", "keys": "as given"}},
    }
    assert result["enrollments"][0]["primary_key"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_an_update_keeps_the_keys_and_all_that_is_not_given(
    enroll: Enroll, provisioning: ProvisioningSimulator
) -> None:
    made = enroll({"id": "f1", "tags": {"ring": "beta"}}, return_keys=True)
    keys = dict(provisioning.keys["enrollmentsf1"])
    assert made["enrollments"][0]["primary_key"] == keys["primaryKey"]
    wish = {"id": "f1", "status": "disabled", "desired": {"b": 2}}
    before = provisioning.state()
    predicted = enroll(wish, check=True)
    assert provisioning.state() == before
    done = enroll(wish)
    assert (predicted["diff"], states(done)) == (done["diff"], ["changed"])
    assert done["diff"]["before"] == {"f1": {"status": "enabled", "desired": {}}}
    assert provisioning.keys["enrollmentsf1"] == keys
    document = provisioning.tables["enrollments"]["f1"]
    assert document["initialTwin"] == {"tags": {"ring": "beta"}, "properties": {"desired": {"b": 2}}}
    assert not enroll(wish)["changed"]


def test_groups_are_signed_for_and_devices_bring_their_own(
    enroll: Enroll, provisioning: ProvisioningSimulator, certificates: list[str]
) -> None:
    one, two = certificates
    assert states(enroll({"id": "factory", "certificate": one}, kind="group")) == ["created"]
    assert states(enroll({"id": "f1", "certificate": one})) == ["created"]
    kinds = [list(provisioning.tables[table][name]["attestation"]["x509"])
             for table, name in (("enrollmentGroups", "factory"), ("enrollments", "f1"))]  # fmt: skip
    assert kinds == [["signingCertificates"], ["clientCertificates"]]
    assert not enroll({"id": "f1", "certificate": one})["changed"]
    both = {"id": "f1", "certificate": two, "secondary_certificate": one}
    predicted, done = enroll(both, check=True), enroll(both)
    assert predicted["diff"] == done["diff"]
    before, after = done["diff"]["before"]["f1"], done["diff"]["after"]["f1"]
    assert before["thumbprints"] == [after["thumbprints"][1]]
    assert not enroll(both)["changed"]
    # something else changes, and the certificates stay without being given
    assert states(enroll({"id": "f1", "status": "disabled"})) == ["changed"]
    assert not enroll(both)["changed"]


def test_deletes_what_exists(enroll: Enroll, provisioning: ProvisioningSimulator) -> None:
    enroll({"id": "f1", "tags": {"ring": "beta"}})
    wish = [{"id": "f1"}, {"id": "f2"}]
    predicted = enroll(*wish, state="absent", check=True)
    assert "f1" in provisioning.tables["enrollments"]
    done = enroll(*wish, state="absent")
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"]) == (True, done["diff"])
    assert done["diff"]["before"]["f1"]["tags"] == {"ring": "beta"}
    assert states(done) == ["absent", "absent"]
    assert not enroll(*wish, state="absent")["changed"]


def test_many_are_read_page_by_page(enroll: Enroll, provisioning: ProvisioningSimulator) -> None:
    wish = [{"id": f"f{number}"} for number in range(45)]
    assert set(states(enroll(*wish))) == {"created"}
    provisioning.requests.clear()
    assert not enroll(*wish)["changed"]
    assert provisioning.requests.count(("POST", "/enrollments/query")) == 5
    assert not [path for method, path in provisioning.requests if method == "GET"]


def test_many_new_ones_cost_a_call_for_ten(enroll: Enroll, provisioning: ProvisioningSimulator) -> None:
    provisioning.bad.add("f7")
    wish = [{"id": f"f{number}", "tags": {"n": number}} for number in range(25)]
    predicted = enroll(*wish, check=True)
    assert provisioning.writes() == []
    result = enroll(*wish)
    assert provisioning.writes() == [("POST", "/enrollments")] * 3
    assert (states(result).count("created"), states(result)[7]) == (24, "failed")
    assert result["msg"] == (
        "1 of 25 enrolments were not made so: cannot create enrolment 'f7': the provisioning service dps.example.test "
        "refused it: 400004 no; correct this and run again"
    )
    after = predicted["diff"]["after"]
    assert result["diff"]["after"] == {name: one for name, one in after.items() if name != "f7"}
    assert provisioning.tables["enrollments"]["f3"]["initialTwin"]["tags"] == {"n": 3}


def test_one_that_somebody_else_made_meanwhile_is_compared(
    enroll: Enroll, provisioning: ProvisioningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk = provisioning._bulk

    def late(body: t.Any) -> t.Any:
        other = {"registrationId": "f1", "attestation": {"type": "symmetricKey"}, "provisioningStatus": "disabled"}
        provisioning._put("enrollments", "f1", other, None)
        return bulk(body)

    monkeypatch.setattr(provisioning, "_bulk", late)
    assert states(enroll({"id": "f1", "status": "enabled"}, {"id": "f2"})) == ["changed", "created"]
    assert provisioning.tables["enrollments"]["f1"]["provisioningStatus"] == "enabled"


def test_a_write_in_between_is_read_again(
    enroll: Enroll, provisioning: ProvisioningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll({"id": "f1"})
    put, rivals = provisioning._put, [{"initialTwin": {"tags": {"rival": True}}, "etag": '"rival"'}]

    def race(kind: str, name: str, body: t.Any, match: str | None) -> t.Any:
        if rivals:  # somebody else gets there first
            provisioning.tables[kind][name] |= rivals.pop()
        return put(kind, name, body, match)

    monkeypatch.setattr(provisioning, "_put", race)
    assert states(enroll({"id": "f1", "status": "disabled"})) == ["changed"]
    document = provisioning.tables["enrollments"]["f1"]
    assert (document["initialTwin"]["tags"], document["provisioningStatus"]) == ({"rival": True}, "disabled")


def test_one_that_fails_does_not_stop_the_others(
    enroll: Enroll, provisioning: ProvisioningSimulator, certificates: list[str]
) -> None:
    enroll({"id": "f1"})
    result = enroll({"id": "f1", "certificate": certificates[0]}, {"id": "f2"})
    assert result["failed"]
    assert result["changed"]
    assert states(result) == ["failed", "created"]
    assert result["msg"] == (
        "1 of 2 enrolments were not made so: cannot update enrolment 'f1': the provisioning service dps.example.test "
        "answered 400 400004: Attestation type cannot be changed"
    )


@pytest.mark.parametrize(
    ("enrollment", "said"),
    [
        ({"id": "-f1"}, "'-f1' is no enrolment id"),
        ({"id": "f1", "primary_key": "eA=="}, "has one key only"),
        ({"id": "f1", "certificate": "x", **KEYS}, "has keys and a certificate"),
        ({"id": "f1", "certificate": "no certificate"}, "is not PEM"),
        ({"id": "f1", "secondary_certificate": "x"}, "a secondary_certificate only"),
    ],
)
def test_refuses_what_no_service_takes(
    enroll: Enroll, provisioning: ProvisioningSimulator, enrollment: dict[str, t.Any], said: str
) -> None:
    assert said in enroll(enrollment)["msg"]
    assert "listed twice" in enroll({"id": "F1"}, {"id": "f1"})["msg"]
    assert "device_id is given for group" in enroll({"id": "g", "device_id": "x"}, kind="group")["msg"]
    assert provisioning.requests == []


def test_info_shows_no_keys_unasked(enroll: Enroll, info: t.Any, provisioning: ProvisioningSimulator) -> None:
    enroll({"id": "f1", "tags": {"ring": "beta"}, "reprovision": "never"}, {"id": "f2"})
    provisioning.tables["enrollments"]["f1"]["registrationState"] = {"deviceId": "fridge-1", "status": "assigned"}
    enroll({"id": "g1", "iot_hubs": ["hub.example.test"], "allocation_policy": "static"}, kind="group")
    first, second = info()["enrollments"]
    assert first == {
        "id": "f1", "device_id": None, "status": "enabled", "attestation": "symmetric_key", "thumbprints": [],
        "tags": {"ring": "beta"}, "desired": {}, "iot_edge": False, "reprovision": "never",
        "allocation_policy": None, "iot_hubs": [], "registered_device_id": "fridge-1",
        "registration_status": "assigned",
    }  # fmt: skip
    assert second["registration_status"] is None
    (group,) = info(kind="group")["enrollments"]
    assert (group["iot_hubs"], group["allocation_policy"]) == (["hub.example.test"], "static")
    (asked,) = info(ids=["F1", "nobody"], return_keys=True)["enrollments"]
    assert asked["primary_key"] == provisioning.keys["enrollmentsf1"]["primaryKey"]


def test_the_hubs_own_variable_is_not_taken_for_the_services(
    run: t.Any, provisioning: ProvisioningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTHUB_CONNECTION_STRING", CONNECTION_STRING)
    assert "no connection is given" in run("iothub_enrollment_info", connection_string=None)["msg"]
    monkeypatch.setenv("IOTDPS_CONNECTION_STRING", CONNECTION_STRING)
    assert run("iothub_enrollment_info", connection_string=None)["enrollments"] == []
