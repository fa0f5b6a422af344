# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: one TOML file, secrets in files of their own beside it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .manners import Rules, parse_window


@dataclass(frozen=True)
class Paths:
    """Where things lie. `run` may be a tmpfs, the others are durable.

    `base` is written by the agent and read by the app, `app` the other way round, `state` is the agent's alone.
    """

    base: Path
    state: Path
    run: Path
    app: Path

    @property
    def releases(self) -> Path:
        return self.base / "releases"

    @property
    def layers(self) -> Path:
        return self.base / "layers"

    @property
    def current(self) -> Path:
        return self.base / "current"

    @property
    def previous(self) -> Path:
        return self.base / "previous"

    @property
    def downloads(self) -> Path:
        return self.state / "downloads"

    @property
    def crashes(self) -> Path:
        return self.app / "crashes"

    @property
    def app_state(self) -> Path:
        return self.app / "settings"

    @property
    def socket(self) -> Path:
        return self.run / "agent.sock"


@dataclass(frozen=True)
class Server:
    """The file server this device was provisioned with; nothing in a message can change it.

    `proxy`: URL of an HTTP proxy that all of it goes through. `bandwidth`: bytes per second at most, 0 for no bound.
    `host_key`: the sftp server's public key line. `key_file`: sftp log-in by key, which `password` then opens.
    """

    url: str
    username: str = "anonymous"
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    root: Path = Path("/etc/fridge-agent/root.json")
    proxy: str = field(default="", repr=False)
    bandwidth: int = 0
    host_key: str = ""
    key_file: Path | None = None


@dataclass(frozen=True)
class Hub:
    """The IoT Hub identity of this device."""

    connection_string: str = field(repr=False)
    ca_file: Path | None = None


@dataclass(frozen=True)
class App:
    """How to start the app of a release: `python -m module`, with the layers on PYTHONPATH."""

    python: str
    module: str = "fridge"
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds. `probation` is how long a new release must stay alive after its first frame.

    `start_spread`: a fleet's downloads begin spread over so long. `agent_trial`: how long a new agent may go without
    reaching the hub before the one before takes over again.
    """

    ready_timeout: float = 90.0
    probation: float = 20.0
    silence: float = 15.0
    download_attempts: int = 30
    retry_base: float = 2.0
    retry_cap: float = 3600.0
    start_spread: float = 0.0
    agent_trial: float = 86400.0
    usage_period: float = 3600.0


@dataclass(frozen=True)
class Config:
    """All that one device's agent needs to know."""

    device_id: str
    ring: str
    platform: str
    hardware: str
    paths: Paths
    server: Server
    hub: Hub | None
    app: App
    timing: Timing
    consent: bool
    manners: Rules = field(default_factory=Rules)
    synchronised: bool | None = None
    """Whether the clock may be believed; None: ask the system."""


def load(path: Path, *, secrets: bool = True) -> Config:
    """Read the TOML file at `path`; without `secrets` the hub and the password are left out, for the app's launcher.

    Raises:
        ConfigError: the file or a secret beside it cannot be read, or a setting is missing or of a wrong type.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read the agent's configuration {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}") from exc
    try:
        return _from_tables(raw, path.parent, secrets)
    except KeyError as exc:
        raise ConfigError(f"{path}: the setting {exc.args[0]} is missing") from exc
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def _from_tables(raw: dict[str, Any], here: Path, secrets: bool) -> Config:
    device, paths, updates = (_table(raw, name) for name in ("device", "paths", "updates"))
    app = _table(raw, "app")
    return Config(
        device_id=str(device["id"]),
        ring=str(device["ring"]),
        platform=str(device["platform"]),
        hardware=str(device.get("hardware", "fridge-panel")),
        paths=Paths(*(here / paths[key] for key in ("base", "state", "run", "app"))),
        server=Server(
            url=str(updates["url"]).rstrip("/"),
            username=str(updates.get("username", "anonymous")),
            password=_secret(here, updates.get("password_file")) if secrets else "",
            ca_file=_optional_path(here, updates.get("ca_file")),
            root=here / updates["root"],
            proxy=str(updates.get("proxy", "")) or (_secret(here, updates.get("proxy_file")) if secrets else ""),
            bandwidth=int(updates.get("bandwidth", 0)),
            host_key=str(updates.get("host_key", "")),
            key_file=_optional_path(here, updates.get("key_file")),
        ),
        hub=_hub(raw.get("hub"), here) if secrets else None,
        app=App(
            python=str(app["python"]),
            module=str(app.get("module", "fridge")),
            env={key: str(value) for key, value in app.get("env", {}).items()},
        ),
        timing=Timing(**raw.get("timing", {})),
        consent=bool(raw.get("telemetry", {}).get("consent", False)),
        manners=_manners(raw.get("manners", {})),
        synchronised=raw.get("clock", {}).get("synchronised"),
    )


def _manners(table: dict[str, Any]) -> Rules:
    rules = Rules(idle=float(table.get("idle", 0.0)), consent=bool(table.get("consent", False)))
    window = parse_window(str(table["window"])) if table.get("window") else None
    return replace(rules, window=window, patience=float(table.get("patience", rules.patience)))


def _table(raw: dict[str, Any], name: str) -> dict[str, Any]:
    table = raw[name]
    if not isinstance(table, dict):
        raise TypeError(f"[{name}] must be a table")
    return table


def _hub(table: dict[str, Any] | None, here: Path) -> Hub | None:
    if table is None:
        return None
    return Hub(_secret(here, table["connection_string_file"]), _optional_path(here, table.get("ca_file")))


def _optional_path(here: Path, value: str | None) -> Path | None:
    return here / value if value else None


def _secret(here: Path, name: str | None) -> str:
    if not name:
        return ""
    try:
        return (here / name).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ConfigError(f"cannot read the secret file {here / name}: {exc.strerror}") from exc
