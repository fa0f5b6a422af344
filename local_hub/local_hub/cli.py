# SPDX-License-Identifier: Apache-2.0
"""local-hub serve | env | wait | trust."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import shlex
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .certificates import describe
from .core.notification import SOURCES
from .core.policy import OWNER, POLICIES
from .core.quota import SKUS
from .core.sas import key_bytes, sign
from .settings import Addresses, DataDirectory, Settings, SettingsError

_POLL = 0.1
_NO_ROUTES = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 done, 1 a person must put something right."""
    options = _parser().parse_args(arguments)
    try:
        directory = DataDirectory(options.data)
        settings = directory.prepare(_addresses(options))
        return int(options.run(directory, settings, options))
    except SettingsError as error:
        print(f"local-hub: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(directory: DataDirectory, settings: Settings, options: argparse.Namespace) -> int:
    from .server import serve  # here, so that env and wait need not load three protocols

    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("local_hub").setLevel(logging.INFO)
    with directory.serving():
        asyncio.run(serve(directory, settings))
    return 0


def _env(directory: DataDirectory, settings: Settings, options: argparse.Namespace) -> int:
    environment = directory.environment(settings, options.policy)
    if options.format == "json":
        print(json.dumps(environment, indent=2))
    else:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}")
    return 0


def _wait(directory: DataDirectory, settings: Settings, options: argparse.Namespace) -> int:
    deadline = time.monotonic() + options.timeout
    while not (answered := _answers(directory, settings)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    if not answered:
        raise SettingsError(f"no answer from {settings.hostname}:{settings.https_port} within {options.timeout:g} s")
    return 0


def _trust(directory: DataDirectory, settings: Settings, options: argparse.Namespace) -> int:
    certificates = directory.certificates
    act, name = (certificates.distrust, "remove") if options.remove else (certificates.trust, "trust")
    if not options.files and (options.remove or not options.list):
        raise SettingsError("trust needs a FILE, or --list")
    for path in options.files:
        try:
            act(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot {name} {path}: {error}") from error
    for der in certificates.device_authorities() if options.list else ():
        print(describe(der))
    return 0


def _answers(directory: DataDirectory, settings: Settings) -> bool:
    context = ssl.create_default_context(cafile=directory.certificates.ca)
    token = sign(settings.hostname, key_bytes(settings.policy_keys[OWNER]) or b"", int(time.time()) + 60, OWNER)
    connection = http.client.HTTPSConnection(settings.hostname, settings.https_port, timeout=2, context=context)
    try:
        connection.request("GET", "/statistics/devices?api-version=2021-04-12", headers={"Authorization": token})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _addresses(options: argparse.Namespace) -> Addresses:
    aliases = tuple(options.alias) if options.alias else None
    routes = getattr(options, "route", None)
    if routes is not None:
        routes = tuple(sorted(set(routes) - {_NO_ROUTES}))
    return Addresses(
        options.host,
        options.hostname,
        options.https_port,
        options.amqp_port,
        options.mqtt_port,
        aliases,
        routes,
        getattr(options, "sku", None),
        getattr(options, "units", None),
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, required=True, metavar="DIR", help="where the hub keeps everything")
    common.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    common.add_argument("--hostname", help="name by which clients know the hub (default localhost)")
    common.add_argument(
        "--alias", action="append", metavar="NAME", help="another name or address of the hub; repeatable"
    )
    common.add_argument("--https-port", type=_port, help="REST (default 8443)")
    common.add_argument("--amqp-port", type=_port, help="AMQP; the service SDKs insist on 5671, the default")
    common.add_argument("--mqtt-port", type=_port, help="MQTT; the device SDKs insist on 8883, the default")
    parser = argparse.ArgumentParser(prog="local-hub", description="A server that speaks Azure IoT Hub's protocols")
    commands = parser.add_subparsers(required=True, metavar="serve|env|wait|trust")
    serving = commands.add_parser("serve", parents=[common], help="run the hub")
    serving.add_argument("--verbose", action="store_true", help="log libraries' messages too")
    serving.add_argument(
        "--route",
        action="append",
        choices=(*SOURCES, _NO_ROUTES),
        help="tell event readers of this too, besides telemetry; repeatable (default none, or what was given last)",
    )
    serving.add_argument(
        "--sku", choices=("none", *SKUS), help="keep the limits of this SKU (default none, or the last)"
    )
    serving.add_argument("--units", type=int, help="units of the SKU (default 1, or the last)")
    serving.set_defaults(run=_serve)
    environment = commands.add_parser("env", parents=[common], help="print the variables that clients need")
    environment.add_argument("--format", choices=("shell", "json"), default="shell")
    environment.add_argument("--policy", choices=tuple(POLICIES), default=OWNER, help=f"whose key (default {OWNER})")
    environment.set_defaults(run=_env)
    waiting = commands.add_parser("wait", parents=[common], help="wait until the hub answers")
    waiting.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    waiting.set_defaults(run=_wait)
    trusting = commands.add_parser("trust", parents=[common], help="let certificate authorities vouch for devices")
    trusting.add_argument("files", nargs="*", type=Path, metavar="FILE", help="certificates of authorities, PEM")
    trusting.add_argument("--remove", action="store_true", help="trust them no more")
    trusting.add_argument("--list", action="store_true", help="print those that are trusted now, one a line")
    trusting.set_defaults(run=_trust)
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return number


if __name__ == "__main__":
    sys.exit(main())
