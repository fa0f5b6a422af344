# SPDX-License-Identifier: Apache-2.0
"""Cloud-to-device messages: azure-iot-hub sends, azure-iot-device receives, feedback comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

Eventually = Callable[..., Any]


def test_a_message_waits_for_its_device(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("c2d-1", None, None, "enabled")
    for number in range(3):
        properties = {"type": "release", "messageId": f"m{number}", "contentType": "application/json"}
        registry.send_c2d_message("c2d-1", f'{{"n":{number}}}', properties)
    assert registry.get_device("c2d-1").cloud_to_device_message_count == 3
    device = hub.device("c2d-1")
    received: list[Any] = []
    device.on_message_received = received.append
    device.connect()
    assert eventually(lambda: len(received) == 3)
    # The SDK runs handlers in a pool of threads, so that here they may overtake each other; on the wire they do not.
    by_id = {message.message_id: message for message in received}
    assert sorted(by_id) == ["m0", "m1", "m2"]
    assert by_id["m0"].data == b'{"n":0}'
    assert by_id["m0"].custom_properties == {"type": "release"}
    assert by_id["m0"].content_type == "application/json"
    eventually(lambda: registry.get_device("c2d-1").cloud_to_device_message_count == 0)
    registry.send_c2d_message("c2d-1", "live", {})
    assert eventually(lambda: received[3:])[0].data == b"live"


def test_feedback_tells_how_it_ended(hub: Any, eventually: Eventually) -> None:
    registry = hub.registry()
    registry.create_device_with_sas("c2d-2", None, None, "enabled")
    late = int((time.time() + 1.0) * 1000)
    registry.send_c2d_message("c2d-2", "x", {"messageId": "late", "iothub-ack": "full", "expiryTimeUtc": late})
    registry.send_c2d_message("c2d-2", "x", {"messageId": "good", "iothub-ack": "full"})
    registry.send_c2d_message("c2d-2", "x", {"messageId": "quiet"})
    time.sleep(2.2)
    device = hub.device("c2d-2")
    device.on_message_received = lambda message: None
    device.connect()
    eventually(lambda: registry.get_device("c2d-2").cloud_to_device_message_count == 0)
    feedback = "/messages/serviceBound/feedback"
    answer = hub.request("GET", feedback)
    outcomes = {record["originalMessageId"]: record["statusCode"] for record in answer.json()}
    assert outcomes == {"late": "Expired", "good": "Success"}
    assert {record["deviceId"] for record in answer.json()} == {"c2d-2"}
    assert hub.request("GET", feedback).status_code == 204
    token = answer.headers["ETag"].strip('"')
    assert hub.request("POST", f"{feedback}/{token}/abandon").status_code == 204
    token = hub.request("GET", feedback).headers["ETag"].strip('"')
    assert hub.request("DELETE", f"{feedback}/{token}").status_code == 204
    assert hub.request("GET", feedback).status_code == 204


def test_feedback_comes_over_amqp_too(own_hub: Any) -> None:
    import uamqp
    from azure.iot.hub.iothub_amqp_client import IoTHubAmqpClientSharedAccessKeyAuth

    registry = own_hub.registry()
    registry.create_device_with_sas("c2d-3", None, None, "enabled")
    registry.send_c2d_message("c2d-3", "x", {"messageId": "purged", "iothub-ack": "negative"})
    assert own_hub.request("DELETE", "/devices/c2d-3/commands").json()["totalMessagesPurged"] == 1
    host = own_hub.url.removeprefix("https://")
    key = own_hub.connection_string.partition("SharedAccessKey=")[2]
    sender = IoTHubAmqpClientSharedAccessKeyAuth(host, "iothubowner", key)
    source = f"amqps://{host}/messages/serviceBound/feedback"
    receiver = uamqp.ReceiveClient(source, auth=sender.amqp_client._auth, timeout=10_000)
    try:
        batch = receiver.receive_message_batch(max_batch_size=1, timeout=10_000)
        assert b'"originalMessageId": "purged"' in b"".join(batch[0].get_data())
        # who reads them with the C# SDK must have both: AmqpFeedbackReceiver.cs
        assert batch[0].properties.user_id == b"local-hub"
        assert abs(batch[0].annotations[b"iothub-enqueuedtime"] / 1000 - time.time()) < 60
        batch[0].accept()
    finally:
        receiver.close()
    assert own_hub.request("GET", "/messages/serviceBound/feedback").status_code == 204


def test_an_unknown_device_and_a_full_queue_are_refused(hub: Any) -> None:
    registry = hub.registry()
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message("nobody", "x", {})
    registry.create_device_with_sas("c2d-4", None, None, "enabled")
    for _ in range(50):
        registry.send_c2d_message("c2d-4", "x", {})
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message("c2d-4", "x", {})
    assert registry.get_device("c2d-4").cloud_to_device_message_count == 50
    answer: requests.Response = hub.request("DELETE", "/devices/c2d-4/commands")
    assert answer.json()["totalMessagesPurged"] == 50
