# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch's worth: 1,000 cloud-to-device messages by one task, by Microsoft's SDK, by a loop (make bench-ansible).

One task of iothub_message sends them all. azure-iot-hub sends one after the other, in one process that is connected
already, and waits for the hub's answer each time: what the network takes decides, so that the bounds are for a hub with
a network in front of it (far_away.py). An Ansible loop starts a process for each; fifty are run, a thousand reckoned.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from azure.iot.hub import IoTHubRegistryManager
from bench.bench_hub import AMQP, FAR_AWAY, FAR_HOST, HOST, HTTPS, failures, hub_in, running, say, tell
from local_hub.core.sas import new_key

ROOT = Path(__file__).parents[2]
MESSAGES, LOOPED, ROUNDS = 1000, 50, 3
SDK_SECONDS = 30  # of sending one at a time; how long all would take is reckoned from what was sent by then

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - name: Begin
      ansible.builtin.debug: {msg: "began={{ now().timestamp() }}"}
    - name: Send
      iotops.fleet.iothub_message:
        connection_string: "{{ lookup('env', 'BENCH_HUB') }}"
        body: to you
        devices: "{{ DEVICES | map('regex_replace', '^', 'd') | list }}"
      register: sent
      LOOP
    - name: End
      ansible.builtin.debug: {msg: "ended={{ now().timestamp() }}"}
"""
ONE_TASK = PLAY.replace("DEVICES", f"range({MESSAGES})").replace("LOOP", "")
A_LOOP = PLAY.replace("DEVICES", "[item]").replace("LOOP", f'loop: "{{{{ range({LOOPED}) | list }}}}"')


def played(folder: Path, text: str, connection_string: str) -> float:
    """Seconds of the task that sends; the rest of ansible-playbook is left out."""
    (folder / "play.yml").write_text(text)
    environment = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "BENCH_HUB": connection_string,
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", folder / "play.yml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    stamps = re.findall(r"(?:began|ended)=([0-9.]+)", done.stdout)
    if done.returncode or len(stamps) != 2:
        raise SystemExit(f"{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return float(stamps[1]) - float(stamps[0])


def one_by_one(connection_string: str) -> float:
    """Seconds that azure-iot-hub takes for all messages, once it is connected."""
    registry = IoTHubRegistryManager.from_connection_string(connection_string)
    registry.send_c2d_message("d0", "warm")
    sent, begin = 0, time.perf_counter()
    while sent < MESSAGES and time.perf_counter() - begin < SDK_SECONDS:
        registry.send_c2d_message(f"d{sent}", "to you")
        sent += 1
    seconds = time.perf_counter() - begin
    if sent < MESSAGES:
        tell(f"azure-iot-hub sent {sent} in {seconds:.0f} s; what {MESSAGES} take is reckoned from them")
    return seconds * MESSAGES / sent


def compared(folder: Path, connection_string: str, where: str) -> tuple[float, float]:
    """How many times as long azure-iot-hub and the loop take."""
    rounds = [(played(folder, ONE_TASK, connection_string), one_by_one(connection_string)) for _ in range(ROUNDS)]
    task, sdk = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    loop = played(folder, A_LOOP, connection_string)
    tell(f"{where}: {MESSAGES} messages by one task {task:.2f} s ({', '.join(f'{one:.2f}' for one, _ in rounds)})")
    tell(f"{where}: azure-iot-hub in one process {sdk:.2f} s ({', '.join(f'{other:.2f}' for _, other in rounds)})")
    tell(f"{where}: a loop of {LOOPED} tasks {loop:.1f} s, of {MESSAGES} {loop * MESSAGES / LOOPED:.0f} s")
    return sdk / task, loop * MESSAGES / LOOPED / task


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-ansible-") as name:
        folder = Path(name)
        with hub_in(folder) as hub:
            os.environ.update(hub.environment)
            hub.fill(MESSAGES, new_key())
            text = hub.environment["IOTHUB_CONNECTION_STRING"]
            near = compared(folder, text, "on this machine")
            tell(f"on this machine: {near[0]:.1f} times faster than azure-iot-hub, {near[1]:.0f} than an Ansible loop")
            relay = [sys.executable, "-m", "bench.far_away", FAR_HOST, HOST, str(FAR_AWAY), str(HTTPS), str(AMQP)]
            with running(relay, folder / "relay.log", FAR_HOST, HTTPS):
                where = f"{2000 * FAR_AWAY:.0f} ms away"
                sdk, loop = compared(folder, text.replace(f"HostName={HOST}", f"HostName={FAR_HOST}"), where)
            say(f"{MESSAGES} messages by one task, times faster than azure-iot-hub's, {where}", sdk, ">=10")
            say(f"{MESSAGES} messages by one task, times faster than an Ansible loop, {where}", loop, ">=100")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
