# SPDX-License-Identifier: Apache-2.0
"""The seam between the two processes: what the control process shows, what the panel process tells.

One JSON object a line over a socket pair that the panel inherits (`FD_VARIABLE`). The panel decides nothing: it draws
the last `Shown` and tells of fingers. Both sides import this at their start, so it imports little.

| control -> panel | |
|---|---|
| `{"shown": Shown}` | whenever it changed |
| `{"offer": Offer}` | what the agent says about an update |
| `{"preferences": Preferences}` | how the owner wants the panel |
| `{"menu": true}` | open the panel's settings |
| `{"play": {"id", ...}}` | only in a simulated kitchen: a finger, a picture, a crash |

| panel -> control | |
|---|---|
| `{"touch": [button, finger]}` | a finger at one of the four buttons |
| `{"painted": true}` | the first frame is on the screen |
| `{"alive": true}` | every second: the event loop turns |
| `{"consent": {"release", "yes"}}` | the owner's answer to an offer |
| `{"preferences": Preferences}` | the owner chose |
| `{"played": {"id", "ok", ...}}` | the answer to `play` |
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

LINE_LIMIT = 65536
ALIVE_SECONDS = 1.0
LANGUAGES = ("en", "de")
THEMES = ("auto", "day", "night")


class SeamError(Exception):
    """The other side sent what is no message; the text says what."""


@dataclass(frozen=True)
class Shown:
    """What stands on the panel. Temperatures in degrees Celsius; `air` and `recall` are None where there is none.

    `alarms`: names in order of importance. `recall`: the warmest temperature while the owner looks at it.
    `setting`: the set temperature was just changed and blinks. `refused`: a press was just refused by the lock.
    """

    power: bool = True
    air: float | None = None
    setpoint: int = 4
    target: float = 4.0
    mode: str = "normal"
    locked: bool = False
    cooling: bool = False
    door: bool = False
    alarms: tuple[str, ...] = ()
    silenced: bool = False
    sounding: bool = False
    setting: bool = False
    recall: float | None = None
    refused: bool = False
    brightness: int = 100

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        return cls(**values | {"alarms": tuple(values.get("alarms", ()))})


@dataclass(frozen=True)
class Preferences:
    """How the owner wants the panel. `theme` auto: night from 21 to 7 o'clock."""

    language: str = "en"
    theme: str = "auto"
    large_text: bool = False

    @classmethod
    def from_json(cls, data: object) -> Self:
        """What makes sense of `data`; the rest stays as the factory set it."""
        given = data if isinstance(data, dict) else {}
        factory = cls()
        language, theme = given.get("language"), given.get("theme")
        return cls(
            language=language if language in LANGUAGES else factory.language,
            theme=theme if theme in THEMES else factory.theme,
            large_text=given.get("large_text") is True,
        )


def encode(kind: str, value: object) -> bytes:
    """One message as a line."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)  # type: ignore[call-overload]
    return json.dumps({kind: value}).encode() + b"\n"


class Lines:
    """Bytes in, messages out; keeps what is not a whole line yet."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, Any]]:
        """The messages that `data` completes, as (kind, value).

        Raises:
            SeamError: a line that is no message, or has no end within `LINE_LIMIT` bytes.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT:
            raise SeamError(f"a line of more than {LINE_LIMIT} bytes")
        return [_message(line) for line in lines]


def _message(line: bytes) -> tuple[str, Any]:
    try:
        ((kind, value),) = json.loads(line).items()
    except (ValueError, AttributeError, RecursionError) as exc:
        raise SeamError(f"no message: {line[:80]!r}") from exc
    return kind, value
