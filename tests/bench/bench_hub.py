# SPDX-License-Identifier: GPL-3.0-or-later
"""What local_hub costs, as ratios measured side by side in one run: `make bench-hub [ARGS=PART...]`.

Mosquitto, a broker in C, is the measure for memory and for messages: both get the same TLS devices from the same load
generator (mqtt_load.py), in turns. Mosquitto keeps what devices send for a subscriber that is away, with persistence
on, as the hub keeps events; it writes its file now and then, though, and acknowledges before, where the hub waits for
the disk. azure-iot-hub is the measure for cloud-to-device messages, and bare SQLite for configurations.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_connection import parse
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_courier import Courier, Message
from ansible_collections.iotops.fleet.plugins.module_utils.iothub_patience import Patience
from azure.iot.hub import IoTHubRegistryManager
from local_hub.core.sas import key_bytes, new_key, sign

HOST, FAR_HOST = "127.0.0.78", "127.0.0.79"
FAR_AWAY = 0.01
HTTPS, AMQP, MQTT, BROKER = 8443, 5671, 8883, 8884
DEVICES = 5000
SENDERS, EACH, ROUNDS = 500, 100, 5
PAYLOAD, WINDOW = 200, 1
TWINS = 100_000
ONE_BY_ONE, PIPELINED = 100, 4000
API = {"api-version": "2021-04-12"}

failures: list[str] = []


def say(text: str, value: float, bound: str, unit: str = "") -> None:
    """One line, and whether it keeps its bound: "<=2" or ">=20"."""
    limit = float(bound[2:])
    kept = value <= limit if bound.startswith("<=") else value >= limit
    word = "at most" if bound.startswith("<=") else "at least"
    print(f"{'ok  ' if kept else 'MISS'} {text}: {value:.2f}{unit} ({word} {limit:g}{unit})", flush=True)
    if not kept:
        failures.append(text)


def tell(text: str) -> None:
    print(f"     {text}", flush=True)


# ---- processes ------------------------------------------------------------


class Server:
    """A process that is measured."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]

    def seconds(self) -> float:
        """CPU time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Hub(Server):
    """local_hub, and REST to fill it."""

    def __init__(self, process: subprocess.Popen[bytes], data: Path, environment: dict[str, str]) -> None:
        super().__init__(process)
        self.data = data
        self.environment = environment
        self._session = requests.Session()
        self._session.trust_env = False  # or REQUESTS_CA_BUNDLE would win over what comes next
        self._session.verify = environment["IOTHUB_CA_FILE"]
        self._key = environment["IOTHUB_CONNECTION_STRING"].partition("SharedAccessKey=")[2]

    def request(self, method: str, path: str, body: Any = None) -> Any:
        token = sign(HOST, key_bytes(self._key) or b"", int(time.time()) + 60, "iothubowner")
        url = f"https://{HOST}:{HTTPS}{path}"
        answer = self._session.request(
            method, url, json=body, params=API, headers={"Authorization": token}, timeout=300
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fill(self, count: int, key: str) -> None:
        """Devices d0, d1, ... with one key for all, tags and reported properties as a fridge has them."""
        authentication = {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}
        for first in range(0, count, 100):
            devices = [
                {
                    "id": f"d{number}",
                    "importMode": "create",
                    "status": "enabled",
                    "authentication": authentication,
                    "tags": {"ring": "customer", "site": number % 100},
                    "properties": {"desired": {"interval": 60}},
                }
                for number in range(first, min(first + 100, count))
            ]
            self.request("POST", "/devices", devices)


@contextmanager
def running(command: list[str], log: Path, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on a port soon."""
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not listen on {host}:{port}:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def hub_in(folder: Path) -> Iterator[Hub]:
    options = ["--data", str(folder / "hub"), "--host", HOST, "--hostname", HOST, "--https-port", str(HTTPS)]
    options += ["--alias", FAR_HOST]
    hub = [sys.executable, "-m", "local_hub"]
    told = subprocess.run([*hub, "env", *options, "--format", "json"], capture_output=True, check=True)
    with running([*hub, "serve", *options], folder / "hub.log", HOST, HTTPS) as process:
        yield Hub(process, folder / "hub", json.loads(told.stdout))


@contextmanager
def mosquitto_in(folder: Path) -> Iterator[Server]:
    """Mosquitto with the hub's own certificate, so that handshakes and records cost the same."""
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    (folder / "mosquitto").mkdir()
    keys = folder / "hub"
    text = f"""
listener {BROKER} {HOST}
certfile {next(keys.rglob("server.pem"))}
keyfile {next(keys.rglob("server.key"))}
allow_anonymous true
persistence true
persistence_location {folder}/mosquitto/
max_queued_messages 0
max_inflight_messages 0
log_type error
user root
"""
    (folder / "mosquitto.conf").write_text(text)
    command = [program, "-c", str(folder / "mosquitto.conf")]
    with running(command, folder / "mosquitto.log", HOST, BROKER) as process:
        yield Server(process)


class Load:
    """mqtt_load.py, told what to do."""

    def __init__(self, plan: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "bench.mqtt_load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._write(json.dumps(plan))

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def tell(self, *words: object) -> float:
        """Seconds that it took."""
        self._write(" ".join(map(str, words)))
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the load generator died")
        return float(json.loads(line)["seconds"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


# ---- devices ------------------------------------------------------------


def settled(measure: Callable[[], int]) -> int:
    """A figure once it rests."""
    last = measure()
    for _ in range(20):
        time.sleep(0.5)
        now = measure()
        if abs(now - last) < 256 * 1024:
            return now
        last = now
    return last


def keep_for_a_subscriber_that_is_away(folder: Path, authority: str) -> None:
    """A session that lasts, for all events; then gone."""
    import ssl

    from paho.mqtt import client as mqtt

    client = mqtt.Client("reader", clean_session=False)
    client.tls_set(authority, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    granted: list[int] = []
    client.on_subscribe = lambda _client, _data, _mid, codes: granted.extend(codes)
    client.on_connect = lambda client, *_: client.subscribe("devices/+/messages/events/#", 1)
    client.connect(HOST, BROKER)
    deadline = time.monotonic() + 20
    while not granted and time.monotonic() < deadline:
        client.loop(0.1)
    if granted != [1]:
        raise SystemExit(f"Mosquitto did not take the subscription: {granted}")
    client.disconnect()


def devices(folder: Path) -> None:
    with ExitStack() as stack:
        hub = stack.enter_context(hub_in(folder))
        broker = stack.enter_context(mosquitto_in(folder))
        authority, key = hub.environment["IOTHUB_CA_FILE"], new_key()
        hub.fill(DEVICES, key)
        expiry = int(time.time()) + 3600
        tokens = [sign(f"{HOST}/devices/d{number}", key_bytes(key) or b"", expiry) for number in range(DEVICES)]
        plan = {"host": HOST, "authority": authority, "device": "d{}", "payload": PAYLOAD, "window": WINDOW}
        username = f"{HOST}/{{}}/?api-version=2021-04-12"
        loads = {
            "local_hub": Load({**plan, "port": MQTT, "username": username, "passwords": tokens}),
            "mosquitto": Load({**plan, "port": BROKER, "username": "", "passwords": None}),
        }
        for load in loads.values():
            stack.callback(load.close)
        servers: dict[str, Server] = {"local_hub": hub, "mosquitto": broker}
        memory(servers, loads)
        keep_for_a_subscriber_that_is_away(folder, authority)
        throughput(servers, loads)


def memory(servers: dict[str, Server], loads: dict[str, Load]) -> None:
    each = {}
    for name, server in servers.items():
        before = settled(server.memory)
        seconds = loads[name].tell("connect", 0, DEVICES)
        after = settled(server.memory)
        each[name] = (after - before) / DEVICES
        tell(
            f"{name}: {DEVICES} TLS devices connected and subscribed in {seconds:.1f} s, "
            f"{before / 2**20:.0f} -> {after / 2**20:.0f} MiB, {each[name] / 1024:.1f} KiB a device"
        )
    say("memory of a connected device to Mosquitto's", each["local_hub"] / each["mosquitto"], "<=2")


def throughput(servers: dict[str, Server], loads: dict[str, Load]) -> None:
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    messages = SENDERS * EACH
    for _ in range(ROUNDS):
        for name, server in servers.items():
            cpu = server.seconds()
            rates[name].append(messages / loads[name].tell("publish", 0, SENDERS, EACH))
            costs[name].append((server.seconds() - cpu) / messages)
    for name in servers:
        all_rates = ", ".join(f"{rate:.0f}" for rate in rates[name])
        cost = 1e6 * statistics.median(costs[name])
        tell(f"{name}: {statistics.median(rates[name]):.0f} messages a second ({all_rates}), {cost:.0f} us of CPU each")
    ratios = [ours / theirs for ours, theirs in zip(rates["local_hub"], rates["mosquitto"], strict=True)]
    say("device-to-cloud messages at QoS 1 to Mosquitto's", statistics.median(ratios), ">=0.5")


# ---- cloud to device ------------------------------------------------------------


def messages(folder: Path) -> None:
    with hub_in(folder) as hub:
        os.environ.update({name: hub.environment[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")})
        text = hub.environment["IOTHUB_CONNECTION_STRING"]
        hub.fill(PIPELINED, new_key())
        near = compared(text, "on this machine")
        tell(f"pipelined to one at a time, nothing in between: {near:.1f}")
        relay = [sys.executable, "-m", "bench.far_away", FAR_HOST, HOST, str(FAR_AWAY), str(HTTPS), str(AMQP)]
        with running(relay, folder / "relay.log", FAR_HOST, HTTPS):
            far = compared(text.replace(f"HostName={HOST}", f"HostName={FAR_HOST}"), f"{2000 * FAR_AWAY:.0f} ms away")
        say(f"pipelined cloud-to-device messages to azure-iot-hub's, {2000 * FAR_AWAY:.0f} ms away", far, ">=20")


def compared(connection_string: str, where: str) -> float:
    """How many messages the pipelined link sends while azure-iot-hub sends one."""
    registry = IoTHubRegistryManager.from_connection_string(connection_string)
    registry.send_c2d_message("d0", "warm")
    begin = time.perf_counter()
    for number in range(ONE_BY_ONE):
        registry.send_c2d_message(f"d{number}", "to you")
    slow = ONE_BY_ONE / (time.perf_counter() - begin)
    fast = pipelined(connection_string)
    tell(f"{where}: azure-iot-hub, one at a time, {slow:.0f} a second; one pipelined link {fast:.0f} a second")
    return fast / slow


def pipelined(connection_string: str) -> float:
    """Messages a second as module iothub_message sends them, connecting included."""
    courier = Courier(parse(connection_string), Patience(120), os.environ["REQUESTS_CA_BUNDLE"], lambda *_: None)
    letters = [Message(f"d{number}", b"to you") for number in range(PIPELINED)]
    begin = time.perf_counter()
    refused = {device: error for device, error in courier.send(letters).items() if error}
    seconds = time.perf_counter() - begin
    if refused:
        raise SystemExit(f"{len(refused)} messages were not taken: {next(iter(refused.items()))}")
    return PIPELINED / seconds


# ---- configurations ------------------------------------------------------------


def configurations(folder: Path) -> None:
    with hub_in(folder) as hub:
        hub.fill(TWINS, new_key())
        body = {
            "id": "release",
            "content": {"deviceContent": {"properties.desired.release": {"version": 42, "channel": "stable"}}},
            "targetCondition": "tags.ring = 'customer'",
            "priority": 10,
        }
        database, before = sqlite3.connect(hub.data / "hub.sqlite"), sqlite3.connect(folder / "before.sqlite")
        database.backup(before)
        before.close()
        begin = time.perf_counter()
        hub.request("PUT", "/configurations/release", body)
        while not applied(database, f"device_id = 'd{TWINS - 1}'"):
            time.sleep(0.02)
        ours = time.perf_counter() - begin
        if applied(database, "true") != TWINS:
            raise SystemExit("not all twins have the configuration")
        rows = database.execute("SELECT twin, device_id FROM devices").fetchall()
        database.close()
    theirs = bare(folder / "before.sqlite", rows)
    tell(f"{TWINS} twins: {ours:.1f} s until the last is on disk; bare SQLite update of the same rows {theirs:.2f} s")
    say("a configuration on all twins to a bare SQLite update", ours / theirs, "<=5")


def applied(database: sqlite3.Connection, where: str) -> int:
    """How many twins on disk have the release."""
    sql = f"""SELECT COUNT(*) FROM devices WHERE {where} AND twin LIKE '%"release":{{"status":"Applied"}}%'"""  # noqa: S608
    return int(database.execute(sql).fetchone()[0])


def bare(path: Path, rows: list[tuple[str, str]]) -> float:
    """Seconds to bring the same rows to the disk, as safely, in one transaction."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    begin = time.perf_counter()
    database.execute("BEGIN IMMEDIATE")
    database.executemany("UPDATE devices SET twin = ? WHERE device_id = ?", rows)
    database.execute("COMMIT")
    seconds = time.perf_counter() - begin
    database.close()
    return seconds


PARTS = {"devices": devices, "messages": messages, "configurations": configurations}


def main() -> int:
    unknown = set(sys.argv[1:]) - PARTS.keys()
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory(prefix="bench-hub-") as folder:
            PARTS[name](Path(folder))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
