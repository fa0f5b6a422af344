# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iothub_message against a hub in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t

import pytest
from hub_simulator import CONNECTION_STRING, QUEUE_DEPTH, HubSimulator
from uamqp import errors


def send(run: t.Any, devices: list[str], **options: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", run("iothub_message", devices=devices, **{"body": {"id": "r1"}, **options}))


def test_sends_one_message_to_each_over_one_connection(run: t.Any, hub: HubSimulator) -> None:
    for name in ("f1", "f2"):
        hub.add_device(name)
    result = send(
        run,
        ["f1", "f2", "f1"],
        body={"version": "1.4.0", "größe": 1},
        properties={"type": "release", "n": 3},
        message_id="r1",
        ack="full",
        ttl=600,
    )
    assert result["changed"]
    assert result["devices"] == [{"id": name, "sent": True, "error": None} for name in ("f1", "f2")]
    assert hub.connections == 1
    (message,) = hub.queues["f1"]
    assert json.loads(b"".join(message.get_data())) == {"version": "1.4.0", "größe": 1}
    assert message.application_properties == {"type": "release", "n": "3", "iothub-ack": "full"}
    assert message.properties.message_id == b"r1"
    assert message.properties.content_type == b"application/json"
    assert abs(message.properties.absolute_expiry_time / 1000 - time.time() - 600) < 10


def test_the_sdk_that_takes_longer_to_import_than_to_send_is_not_imported() -> None:
    where = "ansible_collections.iotops.fleet.plugins"
    code = f"""
import sys
from {where}.modules import iothub_message
from {where}.module_utils.iothub_connection import parse
from {where}.module_utils.iothub_courier import Courier
from {where}.module_utils.iothub_engine import Hub
from {where}.module_utils.iothub_patience import Patience
address = parse({CONNECTION_STRING!r})
Hub(address, Patience(5)).close()
Courier(address, Patience(5), None, None)._client()
print([name for name in sys.modules if name.startswith(("azure", "msrest", "requests"))])
"""
    ran = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)},
                         capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_each_run_sends_again(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    for _ in range(2):
        assert send(run, ["f1"])["changed"]
    assert len(hub.queues["f1"]) == 2


def test_a_string_is_sent_as_it_is(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    send(run, ["f1"], body="wake up")
    assert b"".join(hub.queues["f1"][0].get_data()) == b"wake up"
    assert hub.queues["f1"][0].properties.content_type is None


def test_nobody_to_send_to_is_fine(run: t.Any, hub: HubSimulator) -> None:
    result = send(run, [])
    assert not result["changed"]
    assert not result.get("failed")
    assert hub.connections == 0


def test_full_queue_and_unknown_device_are_told_apart(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("full")
    hub.add_device("free")
    hub.queues["full"] = [None] * QUEUE_DEPTH
    result = send(run, ["full", "nobody", "free"])
    assert result["failed"]
    assert result["changed"]
    assert [device["sent"] for device in result["devices"]] == [False, False, True]
    assert result["devices"][0]["error"].startswith("the queue of device 'full' is full (50 messages)")
    assert result["devices"][1]["error"].startswith("device 'nobody' is not registered")
    assert result["msg"].startswith("2 of 3 devices did not get the message: the queue of device 'full' is full")


@pytest.mark.parametrize(
    ("condition", "said", "told"),
    [
        (b"amqp:resource-limit-exceeded", b"DeviceMaximumQueueDepthExceeded: 50", "the queue of device 'f1' is full"),
        (b"amqp:resource-limit-exceeded", b"IotHubQuotaExceeded: 8000", "the hub has used up its messages of the day"),
        (b"amqp:link:message-size-exceeded", b"too large", "the hub did not take the message for 'f1': too large"),
    ],
)
def test_a_hubs_refusal_is_worded(
    run: t.Any, hub: HubSimulator, monkeypatch: pytest.MonkeyPatch, condition: bytes, said: bytes, told: str
) -> None:
    """IoT Hub has one condition for a full queue and a used-up day (AmqpIotErrorAdapter.cs of the C# SDK)."""
    hub.add_device("f1")
    monkeypatch.setattr(hub, "refusal", lambda _device: (condition, said))
    assert told in send(run, ["f1"])["msg"]


def test_fail_on_decides_what_is_a_failure(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    assert not send(run, ["f1", "nobody"], fail_on="all").get("failed")
    assert send(run, ["nobody"], fail_on="all")["failed"]
    assert not send(run, ["nobody"], fail_on="none").get("failed")
    assert send(run, ["f1", "nobody"])["failed"]


def test_check_mode_finds_out_who_exists_and_sends_nothing(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    result = send(run, ["f1", "nobody"], check=True, fail_on="none")
    assert result["changed"]
    assert [device["sent"] for device in result["devices"]] == [True, False]
    assert hub.queues["f1"] == []
    assert hub.connections == 0
    assert hub.requests.count(("POST", "/devices/query")) == 1


def test_throttled_messages_are_sent_again(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    for name in ("f1", "f2", "f3"):
        hub.add_device(name)
    hub.throttled_sends = 4
    assert not send(run, ["f1", "f2", "f3"]).get("failed")
    assert [len(queue) for queue in hub.queues.values()] == [1, 1, 1]
    assert len(clock.pauses) == 2


def test_throttled_for_too_long_says_so(run: t.Any, hub: HubSimulator, clock: t.Any) -> None:
    hub.add_device("f1")
    hub.throttled_sends = 100
    result = send(run, ["f1"], timeout=5)
    assert "the hub is throttling messages, 'f1' among them; raise timeout" in result["msg"]
    assert clock.time < 5


def test_a_connection_that_breaks_is_made_again_for_those_unanswered(run: t.Any, hub: HubSimulator) -> None:
    for name in ("f1", "f2", "f3"):
        hub.add_device(name)
    hub.link_errors = [None, errors.ConnectionClose(b"amqp:connection:forced", b"maintenance")]
    assert not send(run, ["f1", "f2", "f3"]).get("failed")
    assert [len(queue) for queue in hub.queues.values()] == [1, 1, 1]
    assert hub.connections == 2


def test_a_connection_that_stays_broken_is_told_for_each_device(run: t.Any, hub: HubSimulator) -> None:
    hub.link_errors = [errors.ConnectionClose(b"amqp:connection:forced", b"maintenance")] * 100
    (device,) = send(run, ["f1"], timeout=5, fail_on="none")["devices"]
    said = "the connection to the hub hub.example.test broke (amqp:connection:forced: maintenance); run again"
    assert device == {"id": "f1", "sent": False, "error": said}


def test_only_a_refused_token_is_called_a_refused_key(run: t.Any, hub: HubSimulator) -> None:
    hub.add_device("f1")
    hub.link_errors = [errors.TokenAuthFailure(0, b"CBS Session closed.")]  # never got to the hub
    assert not send(run, ["f1"]).get("failed")
    hub.link_errors = [errors.TokenAuthFailure(401, b"Unauthorized")]
    assert send(run, ["f1"], fail_on="none")["msg"] == (
        "cannot send cloud-to-device messages: the hub hub.example.test refused the key of policy iothubowner; "
        "check connection_string; the policy needs ServiceConnect"
    )
    # refused, but uamqp saw only the link's end, or stumbled over its own memory: REST tells
    hub.link_errors = [errors.AuthenticationException("Token authentication failed: 'utf-8' codec can't decode")]
    hub.refuse_next(401, "IotHubUnauthorizedAccess")
    assert send(run, ["f1"], fail_on="none")["msg"] == (
        "cannot send cloud-to-device messages: the hub hub.example.test refused the key of policy iothubowner; "
        "check connection_string"
    )


def test_refuses_what_no_hub_takes(run: t.Any, hub: HubSimulator) -> None:
    assert send(run, ["f1"], ttl=59)["msg"] == "ttl is 59 s; a message lives between 60 s and 172800 s (2 days)"
    assert send(run, ["f1"], ttl=172801)["failed"]
    assert "65537 bytes" in send(run, ["f1"], body="x" * 65537)["msg"]
