# SPDX-License-Identifier: Apache-2.0
"""Devices that register themselves, through azure-iot-device's provisioning client."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.iot.device import X509, ProvisioningDeviceClient
from azure.iot.device.exceptions import CredentialError
from local_hub.core.enrollment import derived_key
from local_hub.core.sas import key_bytes, new_key, sign
from local_hub.core.timestamps import parse_iso
from local_hub.hub.provisioning import ID_SCOPE

from local_hub.tests.certificates import issue

VERSION = {"api-version": "2021-06-01"}


def put(hub: Any, path: str, body: dict[str, Any], **options: Any) -> Any:
    answer = hub.request("PUT", path, json=body, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def register(hub: Any, name: str, key: str) -> Any:
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=hub.host,
        registration_id=name,
        id_scope=ID_SCOPE,
        symmetric_key=key,
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
    )
    return client.register()


def test_a_device_with_its_own_enrolment_becomes_what_it_says(hub: Any) -> None:
    body = {
        "registrationId": "dps-1",
        "deviceId": "dps-device-1",
        "attestation": {"type": "symmetricKey"},
        "initialTwin": {"tags": {"ring": "beta"}, "properties": {"desired": {"goal": 1}}},
    }
    key = put(hub, "/enrollments/dps-1", body)["attestation"]["symmetricKey"]["primaryKey"]
    result = register(hub, "dps-1", key)
    assert (result.status, result.registration_state.device_id) == ("assigned", "dps-device-1")
    assert result.registration_state.assigned_hub == hub.host
    twin = hub.registry().get_twin("dps-device-1")
    assert (twin.tags, twin.properties.desired["goal"]) == ({"ring": "beta"}, 1)
    device = hub.device("dps-device-1", key)
    device.connect()
    assert register(hub, "dps-1", key).registration_state.device_id == "dps-device-1"
    state = hub.request("GET", "/registrations/dps-1").json()
    assert (state["status"], state["deviceId"]) == ("assigned", "dps-device-1")


def test_devices_of_a_group_have_keys_of_their_own(hub: Any) -> None:
    keys = {"primaryKey": new_key(), "secondaryKey": new_key()}
    group = {"enrollmentGroupId": "fridges", "attestation": {"type": "symmetricKey", "symmetricKey": keys}}
    etag = put(hub, "/enrollmentGroups/fridges", group)["etag"]
    for name, key in (("dps-2", keys["primaryKey"]), ("Dps-3", keys["secondaryKey"])):
        assert register(hub, name, derived_key(key, name)).status == "assigned"
    hub.device("dps-2", derived_key(keys["primaryKey"], "dps-2")).connect()
    with pytest.raises(CredentialError):
        register(hub, "dps-4", derived_key(keys["primaryKey"], "dps-2"))
    with pytest.raises(CredentialError):
        register(hub, "dps-4", keys["primaryKey"])
    names = [each["registrationId"] for each in hub.request("POST", "/registrations/fridges/query").json()]
    assert names == ["dps-2", "dps-3"]
    disabled = {**group, "provisioningStatus": "disabled"}
    assert hub.request("PUT", "/enrollmentGroups/fridges", json=disabled).status_code == 409
    put(hub, "/enrollmentGroups/fridges", disabled, headers={"If-Match": etag})
    with pytest.raises(CredentialError):
        register(hub, "dps-2", derived_key(keys["primaryKey"], "dps-2"))
    assert hub.request("DELETE", "/enrollmentGroups/fridges").status_code == 204
    assert hub.request("GET", "/enrollmentGroups/fridges").status_code == 404


def test_a_device_with_a_certificate_registers_and_connects(hub: Any, tmp_path: Path) -> None:
    certificate = issue("dps-5")
    files = certificate.files(tmp_path, "dps-5")
    x509 = {"clientCertificates": {"primary": {"certificate": files[0].read_text()}}}
    put(hub, "/enrollments/dps-5", {"attestation": {"type": "x509", "x509": x509}})
    client = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=hub.host,
        registration_id="dps-5",
        id_scope=ID_SCOPE,
        x509=X509(*map(str, files)),
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
    )
    assert client.register().status == "assigned"
    assert hub.registry().get_device("dps-5").authentication.type == "selfSigned"
    with pytest.raises(CredentialError):
        register(hub, "dps-5", new_key())


def test_registration_over_https(hub: Any) -> None:
    key = put(hub, "/enrollments/dps-6", {"attestation": {"type": "symmetricKey"}})["attestation"]["symmetricKey"]
    scope = f"/{ID_SCOPE}/registrations/dps-6"
    raw = key_bytes(key["secondaryKey"]) or b""
    token = sign(f"{ID_SCOPE}/registrations/dps-6", raw, int(time.time()) + 60, "registration")

    def call(method: str, path: str, credential: str = token) -> requests.Response:
        headers = {"Authorization": credential}
        return requests.request(
            method, hub.url + path, params=VERSION, headers=headers, json={"registrationId": "dps-6"}, timeout=10
        )

    assert refusal(call("PUT", scope + "/register", "")) == (401, 401002, "Unauthorized")
    assert call("PUT", scope + "/register", hub.authorization()["Authorization"]).status_code == 401
    begun = call("PUT", scope + "/register")
    assert (begun.status_code, begun.headers["Retry-After"], begun.json()["status"]) == (202, "1", "assigning")
    done = call("GET", f"{scope}/operations/{begun.json()['operationId']}").json()
    assert (done["status"], done["registrationState"]["deviceId"]) == ("assigned", "dps-6")
    assert call("GET", f"{scope}/operations/other").status_code == 404
    assert call("POST", scope).json()["assignedHub"] == hub.host
    # The device's token is no service's.
    assert refusal(call("GET", "/enrollments/dps-6")) == (401, 401002, "Unauthorized")


def test_refusals_have_the_form_of_the_provisioning_service(hub: Any) -> None:
    """Not IoT Hub's: {"errorCode", "trackingId", "message", "timestampUtc"}, as its clients look for them."""
    assert refusal(hub.request("GET", "/enrollments/nobody"))[:2] == (404, 404201)
    assert refusal(hub.request("GET", "/registrations/nobody"))[:2] == (404, 404202)
    assert refusal(hub.request("PUT", "/enrollmentGroups/g", json=[]))[:2] == (400, 400004)
    assert refusal(hub.request("PUT", "/enrollments/x", data="{"))[0] == 400
    assert refusal(hub.request("POST", "/enrollments/query", json={"query": "DELETE"}))[:2] == (400, 400004)
    assert refusal(hub.request("POST", "/enrollments/query", json={"query": "SELECT * WHERE a = 1"}))[0] == 400
    # as the Azure CLI says it
    said = {"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}
    assert hub.request("POST", "/enrollments/query", json=said).status_code == 200
    # where no operation is
    assert refusal(hub.request("PATCH", "/enrollments/nobody"))[:2] == (405, 405000)
    # IoT Hub's own stay as they are
    assert hub.request("GET", "/devices/nobody").json()["Message"].startswith("ErrorCode:DeviceNotFound;")


def test_an_enrolment_keeps_what_it_says_of_allocation(hub: Any) -> None:
    """ProvisioningServiceClient_..._WithReprovisioningFields of the C# SDK's end-to-end tests."""
    said = {
        "allocationPolicy": "geoLatency",
        "customAllocationDefinition": {"webhookUrl": "https://www.example.test", "apiVersion": "2019-03-31"},
        "reprovisionPolicy": {"migrateDeviceData": False, "updateHubAssignment": True},
    }
    kept = put(hub, "/enrollments/dps-8", {"attestation": {"type": "symmetricKey"}, **said})
    assert {name: kept[name] for name in said} == said


def refusal(answer: requests.Response) -> tuple[int, int, str]:
    """Status, error code and message, when the other two are what they have to be."""
    told = answer.json()
    assert set(told) == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert uuid.UUID(told["trackingId"])
    assert abs(parse_iso(told["timestampUtc"]) - time.time()) < 60
    return answer.status_code, told["errorCode"], told["message"]


def test_enrolments_survive_a_restart(own_hub: Any) -> None:
    key = put(own_hub, "/enrollments/dps-7", {"attestation": {"type": "symmetricKey"}})["attestation"]["symmetricKey"]
    assert register(own_hub, "dps-7", key["primaryKey"]).status == "assigned"
    own_hub.stop()
    own_hub.start()
    assert own_hub.request("GET", "/registrations/dps-7").json()["status"] == "assigned"
    assert register(own_hub, "dps-7", key["primaryKey"]).status == "assigned"


def bulk(hub: Any, mode: str, *enrollments: dict[str, Any]) -> Any:
    answer = hub.request("POST", "/enrollments", json={"mode": mode, "enrollments": list(enrollments)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_enrolments_are_made_changed_and_deleted_in_bulk(hub: Any) -> None:
    by_key = {"attestation": {"type": "symmetricKey"}}
    one, two = {"registrationId": "bulk-1", **by_key}, {"registrationId": "bulk-2", **by_key}
    assert bulk(hub, "create", one, two) == {"isSuccessful": True, "errors": []}
    again = bulk(hub, "create", one, {"registrationId": "bulk-3", **by_key}, {"registrationId": "-"})
    assert (again["isSuccessful"], [(each["registrationId"], each["errorCode"]) for each in again["errors"]]) == (
        False,
        [("bulk-1", 409201), ("-", 400004)],
    )
    etag = hub.request("GET", "/enrollments/bulk-1").json()["etag"]
    off = {**one, "provisioningStatus": "disabled"}
    assert bulk(hub, "update", off)["isSuccessful"]
    stale = bulk(hub, "updateIfMatchETag", {**off, "etag": etag})
    assert [each["errorCode"] for each in stale["errors"]] == [412001]
    etag = hub.request("GET", "/enrollments/bulk-1").json()["etag"]
    assert bulk(hub, "updateIfMatchETag", {**one, "etag": etag})["isSuccessful"]
    assert hub.request("GET", "/enrollments/bulk-1").json()["provisioningStatus"] == "enabled"
    # what is not there cannot be updated, in no mode
    for mode in ("update", "updateIfMatchETag"):
        missing = bulk(hub, mode, {"registrationId": "bulk-9", **by_key})
        assert [each["errorCode"] for each in missing["errors"]] == [404201]
    assert hub.request("GET", "/enrollments/bulk-9").status_code == 404
    names = [{"registrationId": f"bulk-{number}"} for number in (1, 2, 3, 9)]
    assert [each["registrationId"] for each in bulk(hub, "delete", *names)["errors"]] == ["bulk-9"]
    for wrong in (
        {"mode": "create", "enrollments": [one] * 11},
        {"mode": "x", "enrollments": [one]},
        {"mode": "create"},
    ):
        assert hub.request("POST", "/enrollments", json=wrong).status_code == 400


def pages(hub: Any, path: str, size: int, query: str | None) -> list[list[dict[str, Any]]]:
    found, headers = [], {"x-ms-max-item-count": str(size)}
    while True:
        answer = hub.request("POST", path, json=None if query is None else {"query": query}, headers=headers)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        if "x-ms-continuation" not in answer.headers:
            return found
        headers["x-ms-continuation"] = answer.headers["x-ms-continuation"]


def test_queries_come_in_pages(own_hub: Any) -> None:
    names = ["A-1", "a-2", "B-3", "b-4", "c-5"]
    for name in names:
        put(own_hub, f"/enrollments/{name}", {"attestation": {"type": "symmetricKey"}})
    key = new_key()
    shared = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": new_key()}}
    for name in ("first", "second", "third"):
        put(
            own_hub,
            f"/enrollmentGroups/{name}",
            {"attestation": shared if name == "first" else {"type": "symmetricKey"}},
        )
    found = pages(own_hub, "/enrollments/query", 2, "SELECT * FROM enrollments")
    assert [[each["registrationId"] for each in page] for page in found] == [names[:2], names[2:4], names[4:]]
    found = pages(own_hub, "/enrollmentGroups/query", 3, "select * from enrollmentGroups")
    assert [each["enrollmentGroupId"] for each in found[0]] == ["first", "second", "third"]
    assert len(found) == 1
    for name in ("dps-a", "dps-b", "dps-c"):
        assert register(own_hub, name, derived_key(key, name)).status == "assigned"
    found = pages(own_hub, "/registrations/first/query", 2, None)
    assert [[each["registrationId"] for each in page] for page in found] == [["dps-a", "dps-b"], ["dps-c"]]
    # a deletion between two pages leaves out nothing that stayed
    head = {"x-ms-max-item-count": "2"}
    first = own_hub.request("POST", "/enrollments/query", json={"query": "SELECT *"}, headers=head)
    assert first.headers["x-ms-item-type"] == "enrollment"
    assert own_hub.request("DELETE", "/enrollments/A-1").status_code == 204
    head["x-ms-continuation"] = first.headers["x-ms-continuation"]
    rest = own_hub.request("POST", "/enrollments/query", json={"query": "SELECT *"}, headers=head).json()
    assert [each["registrationId"] for each in rest] == ["B-3", "b-4"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"x-ms-continuation": "9" * 5000}, {"query": "SELECT *"}),
        ({"x-ms-continuation": "/w=="}, {"query": "SELECT *"}),
        ({"x-ms-max-item-count": "many"}, {"query": "SELECT *"}),
        ({}, {"query": "SELECT * FROM enrollments WHERE a = 1"}),
        ({}, {"query": 5}),
        ({}, []),
    ],
)
def test_queries_that_are_none_are_refused(hub: Any, headers: dict[str, str], body: Any) -> None:
    assert hub.request("POST", "/enrollments/query", json=body, headers=headers).status_code == 400


def test_how_an_enrolment_is_proved(hub: Any, tmp_path: Path) -> None:
    made = put(hub, "/enrollments/proof-1", {"attestation": {"type": "symmetricKey"}})
    assert hub.request("POST", "/enrollments/proof-1/attestationmechanism").json() == made["attestation"]
    signer = issue("signer", ca=True)
    x509 = {"signingCertificates": {"primary": {"certificate": signer.files(tmp_path, "signer")[0].read_text()}}}
    put(hub, "/enrollmentGroups/proofs", {"attestation": {"type": "x509", "x509": x509}})
    found = hub.request("POST", "/enrollmentGroups/proofs/attestationmechanism").json()
    info = found["x509"]["signingCertificates"]["primary"]["info"]
    assert (found["type"], info["sha256Thumbprint"]) == ("x509", signer.sha256.upper())
    # as azure-iot-provisioning-service for Node spells it
    assert hub.request("POST", "/enrollmentgroups/proofs/attestationmechanism").json() == found
    assert hub.request("POST", "/enrollments/nothing/attestationmechanism").status_code == 404
    assert hub.request("DELETE", "/enrollmentGroups/proofs").status_code == 204


def test_registrations_outlive_their_group_until_they_are_deleted(hub: Any) -> None:
    key = put(hub, "/enrollmentGroups/passing", {"attestation": {"type": "symmetricKey"}})["attestation"][
        "symmetricKey"
    ]
    assert register(hub, "pass-1", derived_key(key["primaryKey"], "pass-1")).status == "assigned"
    assert hub.request("DELETE", "/enrollmentGroups/passing").status_code == 204
    (state,) = hub.request("POST", "/registrations/passing/query").json()
    stale, right = {"If-Match": '"other"'}, {"If-Match": state["etag"]}
    assert hub.request("DELETE", "/registrations/pass-1", headers=stale).status_code == 412
    assert hub.request("DELETE", "/registrations/pass-1", headers=right).status_code == 204
    assert hub.request("POST", "/registrations/passing/query").json() == []
    assert hub.request("DELETE", "/registrations/pass-1").status_code == 404
    assert hub.registry().get_device("pass-1").status == "enabled"
