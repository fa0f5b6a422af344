# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged is still there after kill -9."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from azure.iot.hub.models import Configuration, ConfigurationContent, Twin, TwinProperties
from local_hub.core.sas import key_bytes, sign
from local_hub.mqtt import packets

Eventually = Callable[..., Any]
EVENTS = "devices/flow/messages/events/"


def connected(hub: Any, device_id: str, key: str) -> ssl.SSLSocket:
    """A device without an SDK, for what no SDK does on purpose."""
    context = ssl.create_default_context(cafile=hub.environment["IOTHUB_CA_FILE"])
    client = context.wrap_socket(socket.create_connection((hub.host, 8883), timeout=10), server_hostname=hub.host)
    token = sign(f"{hub.host}/devices/{device_id}", key_bytes(key) or b"", int(time.time()) + 60)
    texts = (device_id, f"{hub.host}/{device_id}/?api-version=2019-10-01", token)
    fields = b"".join(struct.pack(">H", len(text)) + text.encode() for text in texts)
    body = b"\x00\x04MQTT\x04\xc0\x00\x3c" + fields
    client.sendall(bytes((0x10, 0x80 | len(body) & 0x7F, len(body) >> 7)) + body)
    assert client.recv(4) == packets.encode_connack(packets.ACCEPTED)
    return client


def test_everything_acknowledged_survives_kill_9(own_hub: Any, eventually: Eventually) -> None:
    registry = own_hub.registry()
    registry.create_device_with_sas("last", None, None, "enabled")
    device = own_hub.device("last")
    received: list[Any] = []
    patches: list[Any] = []
    device.on_message_received = received.append
    device.on_twin_desired_properties_patch_received = patches.append
    device.connect()
    device.patch_twin_reported_properties({"state": "installing"})
    device.send_message("the last words")
    device.disconnect()
    registry.update_twin("last", Twin(tags={"ring": "fleet"}, properties=TwinProperties(desired={"a": 1})))
    content = ConfigurationContent(device_content={"properties.desired.b": 2})
    kept = Configuration(id="kept", content=content, target_condition="tags.ring='fleet'", priority=1)
    own_hub.configurations().create_configuration(kept)
    registry.send_c2d_message("last", "wake up", {"messageId": "m-1"})

    assert own_hub.stop(signal.SIGKILL) == -signal.SIGKILL
    own_hub.start()

    registry = own_hub.registry()
    twin = registry.get_twin("last")
    assert twin.tags == {"ring": "fleet"}
    assert twin.properties.reported["state"] == "installing"
    eventually(lambda: registry.get_twin("last").properties.desired.get("b") == 2)
    assert registry.get_device("last").cloud_to_device_message_count == 1
    # The SDK does not subscribe again: the hub must remember what a session that is not clean has subscribed to.
    device.connect()
    assert eventually(lambda: received)[0].message_id == "m-1"
    registry.update_twin("last", Twin(properties=TwinProperties(desired={"a": 3})))
    eventually(lambda: any(patch.get("a") == 3 for patch in patches))
    with own_hub.consumer() as client:
        states = [client.get_partition_properties(number) for number in ("0", "1")]
    assert sorted(state["last_enqueued_sequence_number"] for state in states) == [-1, 0]


def test_no_acknowledged_event_is_lost_in_full_flow(own_hub: Any) -> None:
    key = (
        own_hub.registry()
        .create_device_with_sas("flow", None, None, "enabled")
        .authentication.symmetric_key.primary_key
    )
    with connected(own_hub, "flow", key) as client:
        client.sendall(b"".join(packets.Publish(EVENTS, b"x" * 200, 1, number).encode() for number in range(1, 3001)))
        acknowledged = len(client.recv(400))
        own_hub.stop(signal.SIGKILL)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := client.recv(65536):
                acknowledged += len(part)
    own_hub.start()
    with own_hub.consumer() as client:
        states = [client.get_partition_properties(number) for number in ("0", "1")]
    # a PUBACK has four bytes
    assert sum(state["last_enqueued_sequence_number"] + 1 for state in states) >= acknowledged // 4 > 0


def test_a_device_comes_back_by_itself_when_the_hub_was_gone(own_hub: Any, eventually: Eventually) -> None:
    registry = own_hub.registry()
    registry.create_device_with_sas("back", None, None, "enabled")
    device = own_hub.device("back")
    device.connect()
    assert own_hub.stop() == 0
    own_hub.start()
    eventually(lambda: own_hub.registry().get_device("back").connection_state == "Connected", seconds=30)
