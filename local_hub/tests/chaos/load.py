# SPDX-License-Identifier: Apache-2.0
"""A mixed load on a hub that dies under it, written down in a ledger.

When a completion counts as acknowledged: over HTTPS, when DELETE is answered 204. Over MQTT nothing answers a PUBACK,
and PINGRESP says nothing about the disk; but the hub handles the packets of a connection in their order and its disk
keeps that order, so that a completion is acknowledged when an event is that the device sent after its PUBACK. Feedback
that a service has read proves it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
from local_hub.mqtt import packets
from local_hub.mqtt.topics import TWIN_RESPONSES, devicebound
from proton import Message

from local_hub.tests.chaos.clients import AmqpService, MqttDevice, Rest, device_token, service_token
from local_hub.tests.chaos.hub_process import HubProcess
from local_hub.tests.chaos.ledger import Ledger

MQTT_DEVICES = [f"mqtt-{number}" for number in range(5)]
HTTPS_DEVICES = [f"https-{number}" for number in range(2)]
DEVICES = MQTT_DEVICES + HTTPS_DEVICES
IDENTITIES = [f"churn-{number}" for number in range(8)]
CONFIGURATIONS = [f"conf-{number}" for number in range(3)]
_WINDOW = 16
_BREAKS = (OSError, aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError)


class Load:
    """Clients of one hub through all its lives."""

    def __init__(self, hub: HubProcess, ledger: Ledger, chance: random.Random) -> None:
        self.hub = hub
        self.ledger = ledger
        self.chance = chance
        self.keys: dict[str, str] = {}
        self.jobs: set[str] = set()
        self._blobs: dict[str, str] = {}
        self._numbers = {"command": 0, "value": 0}
        self._positions = [-1, -1]
        self._over = False
        self._gentle = False

    async def prepare(self) -> None:
        """The devices that stay."""
        rest = self._rest()
        for device in DEVICES:
            status, identity, _ = await rest.request("PUT", f"/devices/{device}", {"deviceId": device})
            assert status == 200, status
            self.keys[device] = identity["authentication"]["symmetricKey"]["primaryKey"]
        await rest.close()

    async def under_load(self, end: Callable[[], Coroutine[Any, Any, None]], *, gentle: bool = False) -> None:
        """Run all clients until `end` is over, and then as long as there is something left to read from their sockets.

        A `gentle` load only finishes what was begun: devices complete everything, and nobody sends anything new.
        """
        self._over, self._gentle = False, gentle
        rest = self._rest()
        works = [self._mqtt_device(each) for each in MQTT_DEVICES]
        works += [self._https_device(rest, each) for each in HTTPS_DEVICES]
        works += [self._feedback_reader(rest)]
        if not gentle:
            works += [self._sender(), self._sender()]
            works += [self._twin_writer(rest, each) for each in DEVICES]
            works += [self._identity_writer(rest, each) for each in IDENTITIES]
            works += [self._configuration_writer(rest, each) for each in CONFIGURATIONS]
            works += [self._job_writer(rest)]
            works += [self._uploader(rest, each) for each in HTTPS_DEVICES]
        tasks = [asyncio.create_task(self._until_it_breaks(work)) for work in works]
        try:
            await end()
            self._over = True
            await asyncio.wait(tasks, timeout=1.0)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await rest.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def look(self) -> None:
        """After a restart, before anybody writes: is everything there?"""
        rest = self._rest()
        await asyncio.gather(
            *(self._look_at_identity(rest, each) for each in IDENTITIES),
            *(self._look_at_configuration(rest, each) for each in CONFIGURATIONS),
            *(self._look_at_device(rest, each) for each in DEVICES),
            *(self._look_at_job(rest, each) for each in sorted(self.jobs)),
            *(self._look_at_blob(rest, each) for each in HTTPS_DEVICES),
        )
        await rest.close()
        await self._read_events()

    async def finish(self) -> None:
        """Let every message come to its end."""

        async def done() -> None:
            for _ in range(600):
                if not self.ledger.commands.unfinished:
                    return
                await asyncio.sleep(0.05)

        await self.under_load(done, gentle=True)
        await self._read_events()
        rest = self._rest()
        for device in DEVICES:
            _, identity, _ = await rest.request("GET", f"/devices/{device}")
            if identity["cloudToDeviceMessageCount"]:
                self.ledger.complain(f"{identity['cloudToDeviceMessageCount']} commands never left {device}'s queue")
        for job in sorted(self.jobs):
            _, document, _ = await rest.request("GET", f"/jobs/v2/{job}")
            if document["status"] != "completed":
                self.ledger.complain(f"job {job} is {document['status']} at the end")
        await rest.close()
        self.ledger.commands.judge()

    # clients

    async def _until_it_breaks(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except _BREAKS as error:
            if not self._over:
                # the kill may be on its way: the clients notice before the one who waits for the process
                await asyncio.sleep(1.0)
            if not self._over:
                self.ledger.complain(f"a client broke while the hub lived: {error!r}")

    async def _mqtt_device(self, device: str) -> None:
        stream, commands = self.ledger.stream(device), self.ledger.commands
        on_wire: dict[int, int] = {}
        completing: list[tuple[int, str]] = []
        reported: dict[str, asyncio.Future[tuple[int, int]]] = {}
        held: set[str] = set()

        def puback(packet_id: int) -> None:
            number = on_wire.pop(packet_id, None)
            if number is None:  # of a reported twin
                return
            stream.acknowledge(number)
            while completing and completing[0][0] <= number:
                commands.complete(completing.pop(0)[1])

        def publication(packet: packets.Publish) -> None:
            if packet.topic.startswith("$iothub/twin/res/"):
                status, _, query = packet.topic.removeprefix("$iothub/twin/res/").partition("/?")
                pairs = dict(pair.split("=") for pair in query.split("&"))
                answer = reported.pop(pairs["$rid"])
                if not answer.done():
                    answer.set_result((int(status), int(pairs.get("$version", "0"))))
                return
            message_id = json.loads(packet.payload)["id"]
            commands.deliver(message_id, device)
            if message_id in held or (not self._gentle and self.chance.random() < 0.05):
                held.add(message_id)  # it comes again with the next connection
                return
            commands.completing(message_id)
            client.send(packets.PubAck(packet.packet_id).encode())
            completing.append((stream.next, message_id))

        async def report() -> None:
            register = self.ledger.register(f"reported of {device}")
            while not self._over:
                value = self._next("value")
                register.begin(value)
                answer = reported[str(value)] = asyncio.get_running_loop().create_future()
                topic = f"$iothub/twin/PATCH/properties/reported/?$rid={value}"
                client.send(packets.Publish(topic, b'{"n":%d}' % value, 1, 60000).encode())
                status, version = await answer
                if status != 204:
                    self.ledger.complain(f"a report of {device} was answered {status}")
                    return
                register.acknowledge(value)
                self.ledger.version(f"reported $version of {device}").observe(version)
                await asyncio.sleep(self.chance.random() * 0.05)

        async def publish() -> None:
            again = stream.unacknowledged
            while not self._over:
                if len(on_wire) >= _WINDOW or (self._gentle and not again and not completing):
                    await asyncio.sleep(0.005)
                    continue
                duplicate = bool(again)
                number = again.pop(0) if again else stream.next
                packet_id = number % 50000 + 1
                on_wire[packet_id] = number
                stream.send(number)
                body = json.dumps({"device": device, "n": number, "filling": "x" * self.chance.randrange(400)})
                topic = f"devices/{device}/messages/events/"
                client.send(packets.Publish(topic, body.encode(), 1, packet_id, duplicate).encode())
                if self.chance.random() < 0.2:
                    await asyncio.sleep(self.chance.random() * 0.01)

        client = MqttDevice(puback, publication)
        try:
            await client.connect(self.hub.host, device, self.keys[device], self.hub.trust)
            client.subscribe(devicebound(device), TWIN_RESPONSES)
            await _first_end(client.run(), publish(), *(() if self._gentle else (report(),)), reader_last=True)
        finally:
            if hasattr(client, "_writer"):
                client.close()

    async def _https_device(self, rest: Rest, device: str) -> None:
        commands, token = self.ledger.commands, device_token(self.hub.host, device, self.keys[device])
        path = f"/devices/{device}/messages/devicebound"
        while not self._over:
            status, command, lock = await rest.request("GET", path, token=token)
            if status == 204:
                await asyncio.sleep(0.02)
                continue
            assert status == 200, status
            message_id = json.loads(command)["id"]
            commands.deliver(message_id, device)
            if not self._gentle and self.chance.random() < 0.05:
                status, _, _ = await rest.request("POST", f"{path}/{lock}/abandon", token=token)
                assert status == 204, status
                continue
            commands.completing(message_id)
            status, _, _ = await rest.request("DELETE", f"{path}/{lock}", token=token)
            assert status == 204, status
            commands.complete(message_id)

    async def _sender(self) -> None:
        service = AmqpService()
        try:
            await service.connect(self.hub.host, self._token(), self.hub.trust)
            send = service.sender("/messages/devicebound")

            async def one() -> None:
                while not self._over:
                    device, message_id = self.chance.choice(DEVICES), f"c-{self._next('command')}"
                    self.ledger.commands.send(message_id, device)
                    message: Any = Message(body=json.dumps({"id": message_id}).encode(), inferred=True, id=message_id)
                    message.address, message.content_type = (
                        f"/devices/{device}/messages/devicebound",
                        "application/json",
                    )
                    message.properties = {"iothub-ack": "full"}
                    if await send(message):
                        self.ledger.commands.acknowledge(message_id)
                    else:
                        self.ledger.commands.refuse(message_id)
                    await asyncio.sleep(self.chance.random() * 0.05)

            await _first_end(*(one() for _ in range(6)))
        finally:
            await service.close()

    async def _feedback_reader(self, rest: Rest) -> None:
        path, commands = "/messages/serviceBound/feedback", self.ledger.commands
        while not self._over:
            status, records, token = await rest.request("GET", path)
            if status == 204:
                await asyncio.sleep(0.02)
                continue
            assert status == 200, status
            for record in records:
                commands.fed_back(record["originalMessageId"], record["statusCode"])
            if not self._gentle and self.chance.random() < 0.1:
                await rest.request("POST", f"{path}/{token}/abandon")
                continue
            status, _, _ = await rest.request("DELETE", f"{path}/{token}")
            assert status == 204, status
            for record in records:
                commands.feedback_taken(record["originalMessageId"])

    async def _twin_writer(self, rest: Rest, device: str) -> None:
        tags, desired = self.ledger.register(f"tags of {device}"), self.ledger.register(f"desired of {device}")
        while not self._over:
            value = self._next("value")
            body: dict[str, Any] = {}
            if self.chance.random() < 0.7:
                body["tags"] = {"n": value}
            if not body or self.chance.random() < 0.7:
                body["properties"] = {"desired": {"n": value}}
            written = [register for register, name in ((tags, "tags"), (desired, "properties")) if name in body]
            for register in written:
                register.begin(value)
            status, twin, _ = await rest.request("PATCH", f"/twins/{device}", body)
            assert status == 200, status
            for register in written:
                register.acknowledge(value)
            if desired in written:
                self._versions(device, twin, "desired")
            self.ledger.version(f"twin version of {device}").observe(twin["version"])
            await asyncio.sleep(self.chance.random() * 0.05)

    async def _identity_writer(self, rest: Rest, device: str) -> None:
        register = self.ledger.register(f"identity {device}")
        while not self._over:
            if register.value is not None and self.chance.random() < 0.3:
                register.begin(None)
                status, _, _ = await rest.request("DELETE", f"/devices/{device}", match="*")
                assert status == 204, status
                register.acknowledge(None)
            else:
                value = str(self._next("value"))
                match = None if register.value is None else "*"
                body = {
                    "deviceId": device,
                    "status": self.chance.choice(["enabled", "disabled"]),
                    "statusReason": value,
                }
                register.begin(value)
                status, _, _ = await rest.request("PUT", f"/devices/{device}", body, match=match)
                assert status == 200, status
                register.acknowledge(value)
            await asyncio.sleep(self.chance.random() * 0.1)

    async def _configuration_writer(self, rest: Rest, name: str) -> None:
        register = self.ledger.register(f"configuration {name}")
        while not self._over:
            if register.value is not None and self.chance.random() < 0.2:
                register.begin(None)
                status, _, _ = await rest.request("DELETE", f"/configurations/{name}", match="*")
                assert status == 204, status
                register.acknowledge(None)
            else:
                value = str(self._next("value"))
                body = {
                    "id": name,
                    "labels": {"n": value},
                    "content": {"deviceContent": {"properties.desired.release": name}},
                    "targetCondition": "tags.n > 0",
                    "priority": 1,
                }
                match = None if register.value is None else "*"
                register.begin(value)
                status, answer, _ = await rest.request("PUT", f"/configurations/{name}", body, match=match)
                assert status in (200, 201), answer
                register.acknowledge(value)
            await asyncio.sleep(self.chance.random() * 0.3)

    async def _job_writer(self, rest: Rest) -> None:
        while not self._over:
            await asyncio.sleep(self.chance.random() * 0.8)
            name = f"job-{self._next('value')}"
            body = {
                "jobId": name,
                "type": "scheduleUpdateTwin",
                "queryCondition": "startswith(deviceId, 'mqtt-')",
                "updateTwin": {"tags": {"job": name}, "etag": "*"},
                "startTime": "2020-01-01T00:00:00Z",
                "maxExecutionTimeInSeconds": 3600,
            }
            status, _, _ = await rest.request("PUT", f"/jobs/v2/{name}", body)
            assert status == 200, status
            self.jobs.add(name)
            self.ledger.counts["jobs acknowledged"] += 1

    async def _uploader(self, rest: Rest, device: str) -> None:
        """One blob, again and again."""
        register = self.ledger.register(f"blob of {device}")
        path, token = f"/devices/{device}/files", device_token(self.hub.host, device, self.keys[device])
        while not self._over:
            value = self._next("value")
            status, upload, _ = await rest.request("POST", path, {"blobName": "blob"}, token=token)
            assert status == 200, status
            self._blobs[device] = f"/{upload['containerName']}/{upload['blobName']}{upload['sasToken']}"
            register.begin(value)
            body = {"n": value, "filling": "x" * self.chance.randrange(20000)}
            status, _, _ = await rest.request("PUT", self._blobs[device], body)
            assert status == 201, status
            register.acknowledge(value)
            end = {"correlationId": upload["correlationId"], "isSuccess": True}
            status, _, _ = await rest.request("POST", f"{path}/notifications", end, token=token)
            assert status == 204, status
            await asyncio.sleep(self.chance.random() * 0.2)

    # what a restarted hub shows

    async def _look_at_identity(self, rest: Rest, device: str) -> None:
        status, identity, _ = await rest.request("GET", f"/devices/{device}")
        assert status in (200, 404), status
        self.ledger.register(f"identity {device}").observe(None if status == 404 else identity["statusReason"])

    async def _look_at_configuration(self, rest: Rest, name: str) -> None:
        status, configuration, _ = await rest.request("GET", f"/configurations/{name}")
        assert status in (200, 404), status
        found = None if status == 404 else configuration["labels"]["n"]
        self.ledger.register(f"configuration {name}").observe(found)

    async def _look_at_device(self, rest: Rest, device: str) -> None:
        status, twin, _ = await rest.request("GET", f"/twins/{device}")
        if status != 200:
            self.ledger.complain(f"{device} is gone: {status}")
            return
        self.ledger.register(f"tags of {device}").observe(twin["tags"].get("n"))
        for section in ("desired", "reported"):
            self.ledger.register(f"{section} of {device}").observe(twin["properties"][section].get("n"))
            self._versions(device, twin, section)
        self.ledger.version(f"twin version of {device}").observe(twin["version"])
        self.ledger.commands.observe_count(device, twin["cloudToDeviceMessageCount"])

    async def _look_at_job(self, rest: Rest, job: str) -> None:
        status, _, _ = await rest.request("GET", f"/jobs/v2/{job}")
        if status != 200:
            self.ledger.complain(f"{job} was acknowledged and is lost")

    async def _look_at_blob(self, rest: Rest, device: str) -> None:
        if device not in self._blobs:  # the first cut came before the first upload
            return
        status, data, _ = await rest.request("GET", self._blobs[device])
        assert status in (200, 404), status
        try:
            found = None if status == 404 else json.loads(data)["n"]
        except ValueError:
            found = f"{len(data)} bytes that are no document"
        self.ledger.register(f"blob of {device}").observe(found)

    async def _read_events(self) -> None:
        """Until every acknowledged event was read, or for five seconds nothing came."""
        streams = self.ledger.streams
        came = asyncio.Event()

        def take(partition: int) -> Callable[[Any], None]:
            def one(message: Any) -> None:
                came.set()
                self._positions[partition] = message.annotations["x-opt-sequence-number"]
                event = json.loads(bytes(message.body))
                streams[event["device"]].read(event["n"])
                self.ledger.counts["events read"] += 1

            return one

        service = AmqpService()
        await service.connect(self.hub.host, self._token(), self.hub.trust)
        for partition, position in enumerate(self._positions):
            address = f"local-hub/ConsumerGroups/$Default/Partitions/{partition}"
            selector = f"amqp.annotation.x-opt-sequence-number > '{position}'"
            service.receive(address, take(partition), selector=selector)
        with contextlib.suppress(TimeoutError):
            while any(stream.missing for stream in streams.values()):
                came.clear()
                await asyncio.wait_for(came.wait(), 5.0)
        await service.close()
        for stream in streams.values():
            stream.judge()

    def _versions(self, device: str, twin: dict[str, Any], section: str) -> None:
        self.ledger.version(f"{section} $version of {device}").observe(twin["properties"][section]["$version"])

    def _next(self, kind: str) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]

    def _rest(self) -> Rest:
        return Rest(self.hub.host, self.hub.https_port, self.hub.policy_key, self.hub.trust)

    def _token(self) -> str:
        return service_token(self.hub.host, self.hub.policy_key)


async def _first_end(*works: Coroutine[Any, Any, None], reader_last: bool = False) -> None:
    """Run side by side until one ends; what it raised is raised. A reader, the first, may read on when others end."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if reader_last and not tasks[0].done():
            # what the hub sent before it died is still in the socket: an acknowledgement there counts
            await asyncio.wait(tasks[:1], timeout=2.0)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result
