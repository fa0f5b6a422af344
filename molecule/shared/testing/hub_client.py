# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a container with the local hub's own Python: hub_client.py METHOD PATH [BODY].

Asks the hub of this machine, as its service, or as the device that DEVICE_KEY is of; prints status and body.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

from local_hub.core.sas import key_bytes, sign

DATA = "/var/lib/local-hub"
HUB = "/opt/local-hub/current/venv/bin/local-hub"


def main(method: str, path: str, body: str = "") -> int:
    told = subprocess.run([HUB, "env", f"--data={DATA}", "--format=json"], check=True, capture_output=True, text=True)
    environment = json.loads(told.stdout)
    service = dict(part.split("=", 1) for part in environment["IOTHUB_CONNECTION_STRING"].split(";"))
    device_key = os.environ.get("DEVICE_KEY")
    key = device_key or service["SharedAccessKey"]
    resource = "localhost" + ("/" + "/".join(path.split("/")[1:3]) if device_key else "")
    token = sign(resource, key_bytes(key) or b"", int(time.time()) + 60, None if device_key else "iothubowner")
    request = urllib.request.Request(
        f"https://localhost:8443{path}",
        data=body.encode() if body else None,
        method=method,
        headers={"Authorization": token, "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=f"{DATA}/ca.pem")
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
