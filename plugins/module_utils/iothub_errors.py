# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one wording of everything that can go wrong with a hub.

A message has three parts: what could not be done and on which object, what happened, what to do about it.
Foreign errors (msrest, uamqp, ssl) are turned into :class:`HubError` by the engine and the courier only, with the words
of this file; modules and playbooks never see another exception of the hub's.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

# A SAS token in a foreign error text; the key itself is removed by HubAddress.redact
_SIGNATURE = re.compile(r"(sig=|SharedAccessKey=)[^&;\s\"']+", re.IGNORECASE)

# Statuses that pass by themselves: waiting and asking again is right
_PASSING = frozenset({408, 429, 500, 502, 503, 504})

# error code of the hub, or status -> (what happened, what to do); what stands in braces is a field of Caller
# Codes: https://learn.microsoft.com/azure/iot-hub/iot-hub-troubleshoot-error-403002-iothubquotaexceeded and siblings
_REFUSALS: dict[str | int, tuple[str, str]] = {
    "IotHubQuotaExceeded": ("{service} has used up its messages of the day", "wait until 00:00 UTC or add units"),
    "ConfigurationCountLimitExceeded": (
        "{service} holds as many configurations as its tier allows",
        "remove old ones with iotops.fleet.iothub_configuration and state=absent",
    ),
    "JobQuotaExceeded": (
        "{service} has as many jobs under way as its tier allows",
        "wait for one of them, or cancel one with iotops.fleet.iothub_job and state=cancelled",
    ),
    "TooManyDevices": ("{service} holds as many devices as its tier allows", "remove devices or add units"),
    401: ("{service} refused {proof}", "{check}"),
    403: ("{service} forbids it to {name}", "{rights}"),
    404: ("{service} does not know it", "check the id"),
    409: ("it exists already on {service}", "run again to compare with what is there"),
    412: ("somebody else changed it on {service} in the meantime", "run again"),
    413: ("it is larger than {service} takes", "make it smaller"),
    429: ("{service} is throttling", "raise timeout, ask for less, or add units"),
}


@dataclass(frozen=True)
class Caller:
    """Who asks whom, in the words of an error.

    :param service: for example ``the hub NAME.azure-devices.net``
    :param name: for example ``policy iothubowner``
    :param proof: what the service refuses with 401, for example ``the key of policy iothubowner``
    :param check: what to look at then, for example ``check connection_string``
    :param rights: what to do about a right that is missing (403)
    """

    service: str
    name: str
    proof: str
    check: str
    rights: str


class HubError(Exception):
    """Something could not be done on the hub; the text says what happened, to what, and what to do.

    ``result`` is what had been done nevertheless, in the shape of the module's return values; ``refusal`` is the hub's
    own answer, if it gave one.
    """

    def __init__(self, message: str, result: dict[str, t.Any] | None = None, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.result = result or {}
        self.refusal = refusal


class Unreachable(HubError):
    """There is no way to the hub at all: no network, no trust, no token."""


class Broken(HubError):
    """The connection broke in the middle of it: what was asked may have been done, or not."""


class Changed(HubError):
    """The object changed between reading and writing (HTTP 412): read again and decide again."""


def worded(doing: str, happened: str, advice: str = "") -> str:
    """Join the three parts: ``cannot <doing>: <happened>; <advice>``."""
    return f"cannot {doing}: {happened}" + (f"; {advice}" if advice else "")


def without_signatures(text: str) -> str:
    """Return ``text`` with every SAS signature and shared key blanked."""
    return _SIGNATURE.sub(r"\1***", text)


@dataclass(frozen=True)
class Refusal:
    """An answer of the hub that is not success.

    :param status: HTTP status
    :param code: the hub's own name for the error, e.g. ``DeviceNotFound``; empty if it gave none
    :param text: the hub's sentence, without its code and tracking id
    :param retry_after: seconds the hub asks to wait, if it asks
    """

    status: int
    code: str = ""
    text: str = ""
    retry_after: float | None = None

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in _PASSING

    def error(self, doing: str, caller: Caller) -> HubError:
        """Word the refusal of what ``caller`` asked for."""
        known = _REFUSALS.get(self.code) or _REFUSALS.get(self.status)
        said = self.text.rstrip(". ")
        if known is None:
            happened = f"{{service}} answered {self.status} {self.code}".rstrip()
            known = (f"{happened}: {said}" if said else happened, "try again later" if self.passing else "")
        elif said and self.status != 401:  # a 401's sentence only repeats the token's audience
            known = (f"{known[0]} ({said})", known[1])
        happened, advice = (_filled(part, caller) for part in known)
        kind = Changed if self.status == 412 else HubError
        return kind(without_signatures(worded(doing, happened, advice)), refusal=self)


def _filled(text: str, caller: Caller) -> str:
    for name, value in vars(caller).items():
        text = text.replace(f"{{{name}}}", value)
    return text


def read_refusal(status: int, body: str, headers: t.Mapping[str, str]) -> Refusal:
    """Read an error answer.

    The body has three known forms: ``{"Message": "ErrorCode:Name;sentence", "ExceptionMessage": "Tracking ID:..."}``,
    the same with a JSON document as ``Message`` (``{"errorCode": 404001, "message": ...}``), and nothing.
    """
    code, text = _code_and_text(body)
    return Refusal(status, code, text, _seconds(headers.get("Retry-After")))


def _code_and_text(body: str) -> tuple[str, str]:
    document = _json_object(body)
    message = document.get("Message") or document.get("message") or document.get("errorMessage") or ""
    inner = _json_object(message) if isinstance(message, str) else {}
    code = str(inner.get("errorCode") or document.get("errorCode") or document.get("code") or "")
    text = str(inner.get("message") or message)
    found = re.match(r"ErrorCode:(\w+);?\s*(.*)", text, re.DOTALL)
    if found:
        code, text = found.groups()
    return code, text.strip()[:500]


def _json_object(text: str) -> dict[str, t.Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:  # an HTTP date: IoT Hub never sends one; the usual backoff serves
        return None
