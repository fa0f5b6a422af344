# SPDX-License-Identifier: Apache-2.0
"""What devices do over HTTPS: events, cloud-to-device messages, files."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import uamqp
from azure.core.credentials import AccessToken
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.common.http_transport import HTTPTransport
from azure.storage.blob import BlobClient
from local_hub.core.sas import key_bytes, sign

from local_hub.tests.certificates import issue

Eventually = Callable[..., Any]
Call = Callable[..., requests.Response]
VERSION = {"api-version": "2020-09-30"}


def caller(hub: Any, device_id: str) -> Call:
    """A device that speaks plain HTTPS."""
    created = hub.registry().create_device_with_sas(device_id, None, None, "enabled")
    key = key_bytes(created.authentication.symmetric_key.primary_key) or b""
    token = sign(f"{hub.host}/devices/{device_id}", key, int(time.time()) + 60)

    def call(method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": token, **options.pop("headers", {})}
        query = VERSION | options.pop("query", {})
        url = f"{hub.url}/devices/{device_id}{path}"
        return requests.request(method, url, params=query, headers=headers, timeout=10, **options)

    return call


def test_events_over_https_are_read_like_others(hub: Any, eventually: Eventually) -> None:
    call = caller(hub, "http-1")
    headers = {"iothub-app-colour": "green", "iothub-messageid": "m-1", "iothub-contenttype": "text/plain"}
    assert call("POST", "/messages/events", data=b"warm", headers=headers).status_code == 204
    batch = [
        {"body": base64.b64encode(b"two").decode(), "properties": {"iothub-app-n": "2", "plain": 3}},
        {"body": "three", "base64Encoded": False},
    ]
    kind = {"Content-Type": "application/vnd.microsoft.iothub.json"}
    assert call("POST", "/messages/events", data=json.dumps(batch), headers=kind).status_code == 204
    events: list[Any] = []
    consumer = hub.consumer()

    def take(partition: Any, event: Any) -> None:
        if event and event.system_properties[b"iothub-connection-device-id"] == b"http-1":
            events.append(event)
        if len(events) == 3:
            consumer.close()

    consumer.receive(take, starting_position="-1", max_wait_time=5)
    assert [event.body_as_str() for event in events] == ["warm", "two", "three"]
    assert [event.properties for event in events] == [{b"colour": b"green"}, {b"n": b"2", b"plain": b"3"}, {}]
    assert events[0].message_id == "m-1"
    assert events[0].content_type == "text/plain"


def test_messages_are_locked_then_completed_rejected_or_abandoned(hub: Any) -> None:
    call = caller(hub, "http-2")
    assert call("GET", "/messages/deviceBound").status_code == 204
    registry = hub.registry()
    for body in ("first", "second"):
        registry.send_c2d_message("http-2", body, {"ack": "full", "a": "b"})
    first = call("GET", "/messages/devicebound")
    assert (first.status_code, first.content, first.headers["iothub-app-a"]) == (200, b"first", "b")
    token = first.headers["ETag"].strip('"')
    second = call("GET", "/messages/devicebound").headers["ETag"].strip('"')
    assert call("GET", "/messages/devicebound").status_code == 204
    assert call("POST", f"/messages/devicebound/{token}/abandon").status_code == 204
    again = call("GET", "/messages/devicebound")
    assert (again.content, again.headers["iothub-deliverycount"]) == (b"first", "1")
    assert call("DELETE", f"/messages/devicebound/{token}").status_code == 412
    assert call("DELETE", "/messages/devicebound/" + again.headers["ETag"].strip('"')).status_code == 204
    assert call("DELETE", f"/messages/devicebound/{second}", query={"reject": "true"}).status_code == 204
    assert registry.get_device("http-2").cloud_to_device_message_count == 0


def test_only_the_device_itself_is_admitted(hub: Any, tmp_path: Path) -> None:
    call = caller(hub, "http-3")
    hub.registry().create_device_with_sas("http-4", None, None, "enabled")
    key = hub.registry().get_device("http-4").authentication.symmetric_key.primary_key
    others = sign(f"{hub.host}/devices/http-4", key_bytes(key) or b"", int(time.time()) + 60)
    wrong = [{"Authorization": text} for text in ("", "SharedAccessSignature sr=x", others)]
    for headers in wrong:
        assert call("POST", "/messages/events", data=b"x", headers=headers).status_code == 401
        assert call("GET", "/messages/devicebound", headers=headers).status_code == 401
        assert call("POST", "/files", json={"blobName": "x"}, headers=headers).status_code == 401
    certificate = issue("http-5")
    hub.registry().create_device_with_x509("http-5", certificate.sha256, None, "enabled")
    files = tuple(map(str, certificate.files(tmp_path, "http-5")))
    url = f"{hub.url}/devices/http-5/messages/events"
    assert requests.post(url, params=VERSION, data=b"x", cert=files, timeout=10).status_code == 204
    assert requests.post(url, params=VERSION, data=b"x", timeout=10).status_code == 401


def test_what_is_too_large_or_nonsense_is_refused(hub: Any) -> None:
    call = caller(hub, "http-6")
    assert call("POST", "/messages/events", data=b"x" * 300_000).status_code == 413
    assert call("POST", "/messages/events", data=b"x" * 3_000_000).status_code == 413
    assert call("POST", "/files", json={"blobName": "x"}, headers={"Host": "elsewhere"}).status_code == 400
    for name in ("", "../x", "a/../b", "a/./b", "x\0", "x" * 2000, 7):
        assert call("POST", "/files", json={"blobName": name}).status_code == 400, name
    assert call("POST", "/files/notifications", json={"correlationId": "no", "isSuccess": True}).status_code == 400


def test_the_paths_of_files_may_end_with_a_slash(hub: Any) -> None:
    """As the C SDK writes them (iothub_client_ll_uploadtoblob.c)."""
    call = caller(hub, "files-slash")
    answer = call("POST", "/files/", json={"blobName": "x"})
    assert answer.status_code == 200
    done = {"correlationId": answer.json()["correlationId"], "isSuccess": False}
    assert call("POST", "/files/notifications/", json=done).status_code == 204


@pytest.mark.parametrize(
    ("kind", "status"), [("InvokeAuthError", 401), ("InvokeMaxMessageQuota", 403), ("InvokeThrottling", 429)]
)
def test_an_event_may_ask_to_be_refused(hub: Any, kind: str, status: int) -> None:
    call = caller(hub, f"fault-{kind.lower()}")
    headers = {
        "iothub-app-AzIoTHub_FaultOperationType": kind,
        "iothub-app-AzIoTHub_FaultOperationDelayInSecs": "1",
        "iothub-app-AzIoTHub_FaultOperationDurationInSecs": "5",
    }
    begun = time.monotonic()
    assert call("POST", "/messages/events", data=b"x", headers=headers).status_code == status
    assert time.monotonic() - begun >= 1
    assert call("POST", "/messages/events", data=b"x").status_code == 204


def test_a_blob_may_be_named_by_the_path_of_its_file(hub: Any) -> None:
    """As the C# SDK does, by default: FileUploadE2ETests.cs on Linux."""
    call = caller(hub, "files-path")
    for name in ("/tmp/x/monday.txt", "a//b"):
        told = call("POST", "/files", json={"blobName": name}).json()
        assert told["blobName"] == f"files-path/{name}"
        url = f"{hub.url}/{told['containerName']}/{told['blobName']}{told['sasToken']}"
        assert requests.put(url, data=b"x", headers={"x-ms-blob-type": "BlockBlob"}, timeout=10).status_code == 201
        assert (hub.data / "blobs" / quote(told["blobName"], safe="")).read_bytes() == b"x"


def test_a_file_goes_up_and_a_service_hears_of_it(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's SDK insists on port 443 for HTTPS, as for WebSockets; only that is changed here."""
    created = hub.registry().create_device_with_sas("files-1", None, None, "enabled")
    key = created.authentication.symmetric_key.primary_key
    device = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={hub.host};DeviceId=files-1;SharedAccessKey={key}",
        server_verification_cert=Path(hub.environment["IOTHUB_CA_FILE"]).read_text(),
    )
    hub._devices.append(device)
    request = HTTPTransport.request

    def elsewhere(transport: Any, *arguments: Any, **options: Any) -> Any:
        transport._hostname = f"{hub.host}:{hub.https_port}"
        options.get("headers", arguments[3] if len(arguments) > 3 else {}).pop("Host", None)
        return request(transport, *arguments, **options)

    monkeypatch.setattr(HTTPTransport, "request", elsewhere)
    device.connect()
    info = device.get_storage_info_for_blob("logs/monday.txt")
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}"
    assert info["blobName"] == "files-1/logs/monday.txt"
    assert requests.put(url, data=b"no right", timeout=10).status_code == 403
    assert requests.put(url.replace("monday", "sunday") + info["sasToken"], data=b"x", timeout=10).status_code == 403
    assert requests.get(url + info["sasToken"], timeout=10).status_code == 404
    data = bytes(range(256)) * 4096
    put = requests.put(url + info["sasToken"], data=data, headers={"x-ms-blob-type": "BlockBlob"}, timeout=10)
    assert put.status_code == 201
    assert requests.get(url + info["sasToken"], timeout=10).content == data
    device.notify_blob_upload_status(info["correlationId"], True, 201, "done")
    assert (hub.data / "blobs/files-1%2Flogs%2Fmonday.txt").read_bytes() == data
    key_name, key = "iothubowner", hub.connection_string.partition("SharedAccessKey=")[2]
    expiry = int(time.time()) + 60
    token = AccessToken(sign(hub.host, key_bytes(key) or b"", expiry, key_name), expiry)
    auth = uamqp.authentication.JWTTokenAuth(
        audience=f"https://{hub.host}",
        uri=f"https://{hub.host}",
        get_token=lambda: token,
        token_type=b"servicebus.windows.net:sastoken",
    )
    auth.update_token()
    receiver = uamqp.ReceiveClient(
        f"amqps://{hub.host}/messages/servicebound/filenotifications", auth=auth, timeout=10_000, prefetch=1
    )
    (message,) = receiver.receive_message_batch(max_batch_size=1, timeout=10_000)
    notice = json.loads(b"".join(message.get_data()))
    message.accept()
    receiver.close()
    # the C# SDK takes no other (AmqpFileNotificationReceiver.cs)
    assert message.properties.content_type == b"application/vnd.microsoft.iothub.filenotification.json"
    assert (notice["deviceId"], notice["blobName"], notice["blobSizeInBytes"]) == (
        "files-1",
        info["blobName"],
        len(data),
    )


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("&comp=blocklist", b'<!DOCTYPE a [<!ENTITY b "b">]><BlockList><Latest>&b;</Latest></BlockList>', 400),
        ("&comp=blocklist", b"<BlockList><Latest>never put</Latest></BlockList>", 400),
        ("&comp=blocklist", b"<BlockList><Other/></BlockList>", 400),
        ("&comp=blocklist", b"not XML", 400),
        ("&comp=blocklist", b"<" + b"x" * 9_000_000, 413),
        ("&comp=page", b"", 400),
    ],
)
def test_broken_uploads_are_refused(hub: Any, query: str, body: bytes, status: int) -> None:
    call = caller(hub, f"broken-{zlib.crc32(body + query.encode())}")
    info = call("POST", "/files", json={"blobName": "x"}).json()
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}{query}"
    assert requests.put(url, data=body, timeout=10).status_code == status
    assert requests.get(url, timeout=10).status_code == 404


def test_azure_storage_blob_uploads_in_blocks(hub: Any) -> None:
    call = caller(hub, "files-2")
    info = call("POST", "/files", json={"blobName": "big file ü.bin"}).json()
    client = BlobClient.from_blob_url(
        f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}",
        max_single_put_size=100_000,
        max_block_size=100_000,
    )
    data = bytes(range(256)) * 4000
    client.upload_blob(data)
    assert client.download_blob().readall() == data
    client.upload_blob(b"small", overwrite=True)
    assert client.download_blob().readall() == b"small"
    outcome = {"correlationId": info["correlationId"], "isSuccess": True, "statusCode": 200, "statusDescription": "ok"}
    assert call("POST", "/files/notifications", json=outcome).status_code == 204
    assert call("POST", "/files/notifications", json=outcome).status_code == 400


def test_a_device_has_ten_uploads_at_a_time(hub: Any) -> None:
    call = caller(hub, "files-3")
    answers = [call("POST", "/files", json={"blobName": f"{number}"}).status_code for number in range(11)]
    assert answers == [200] * 10 + [403]
