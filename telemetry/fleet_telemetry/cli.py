# SPDX-License-Identifier: Apache-2.0
"""`fleet-telemetry collect`: the collector as a service."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from pathlib import Path

from .collector import Collector
from .store import Store


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(prog="fleet-telemetry", description=__doc__)
    commands = parser.add_subparsers(required=True)
    collect = commands.add_parser("collect", help="read the endpoint and store usage and crashes, until stopped")
    collect.add_argument("--db", type=Path, required=True, metavar="FILE")
    collect.add_argument("--consumer-group", default="$Default")
    collect.add_argument("--ca-file", type=Path, help="PEM of the endpoint's authority, for a private one")
    collect.add_argument(
        "--connection-string-file", type=Path, help="default: the environment's EVENTHUB_CONNECTION_STRING"
    )
    return _collect(parser.parse_args(argv))


def _collect(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("azure").setLevel(logging.ERROR)
    try:
        path: Path | None = args.connection_string_file
        text = path.read_text(encoding="utf-8").strip() if path else os.environ.get("EVENTHUB_CONNECTION_STRING", "")
    except OSError as exc:
        print(f"fleet-telemetry: cannot read {exc.filename}: {exc.strerror}", file=sys.stderr)
        return 1
    endpoint, entity = re.search(r"Endpoint=([^;]+)", text), re.search(r"EntityPath=([^;]+)", text)
    if not endpoint or not entity:
        print(
            "fleet-telemetry: no usable connection string (Endpoint=...;EntityPath=...): "
            "set EVENTHUB_CONNECTION_STRING or --connection-string-file",
            file=sys.stderr,
        )
        return 1
    store = Store(args.db, f"{endpoint[1]}{entity[1]}/{args.consumer_group}")
    collector = Collector(text, store, args.consumer_group, args.ca_file)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.stop())
    collector.run()
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
