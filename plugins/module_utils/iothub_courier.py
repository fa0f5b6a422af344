# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud-to-device messages over AMQP: one connection for a whole list, an answer for each device.

The SDK's ``send_c2d_message`` sends one message at a time and throws the hub's reason away. Here a link like the SDK's
carries the messages of the list together, and each one's disposition is read. azure-iot-hub itself is not imported:
that takes longer than a thousand messages do.

A message whose fate is unknown because the connection broke is sent again: at least once, as AMQP promises no more.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from .iothub_connection import HubAddress, no_token
from .iothub_errors import HubError, without_signatures, worded
from .iothub_patience import Patience
from .iothub_trust import diagnose

_PORT = 5671  # AMQPS; the SDK drops any port of HostName
_DOING = "send cloud-to-device messages"
_STALLED = 15.0  # seconds without any answer after which a new connection is tried; uamqp's own login takes up to 10
_QUEUE = 50  # messages that a hub keeps for a device


@dataclass(frozen=True)
class Message:
    """A message to one device.

    :param system: AMQP properties by uamqp's names: message_id, content_type, content_encoding, absolute_expiry_time
    :param properties: application properties, ``iothub-ack`` among them
    """

    device: str
    body: bytes
    system: dict[str, t.Any] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a message: ``error`` None is accepted; ``passing`` says that sending again may help."""

    error: str | None = None
    passing: bool = False


class Courier:
    """Sends messages until each is answered for good or the time is over."""

    def __init__(
        self, address: HubAddress, patience: Patience, ca_file: str | None, check_key: t.Callable[[str, str], object]
    ) -> None:
        """Prepare; ``check_key(doing, device)`` asks the hub over REST and raises HubError if it refuses the key."""
        self._check_key = check_key
        self._address = address
        self._patience = patience
        self._ca_file = ca_file

    def send(self, messages: list[Message]) -> dict[str, str | None]:
        """Return ``{device: None or what went wrong}``; raise HubError if the hub itself is out of reach."""
        outcome: dict[str, str | None] = {}
        waiting = {message.device: message for message in messages}
        if waiting:
            self._check_reachable()
        attempt = 1
        while waiting:
            answers = self._round(list(waiting.values()))
            outcome.update({device: answer.error for device, answer in answers.items()})
            waiting = {device: waiting[device] for device, answer in answers.items() if answer.passing}
            if waiting and not self._patience.pause(attempt):
                break
            attempt += 1
        return outcome

    def _check_reachable(self) -> None:
        """Tell a distrusted certificate from a dead hub before uamqp calls both "Authorization timeout"."""
        trouble = diagnose(self._address.host, _PORT, self._ca_file, min(10.0, self._patience.left()))
        if trouble:
            raise HubError(worded(_DOING, trouble))

    def _round(self, messages: list[Message]) -> dict[str, Answer]:
        """Send every message once over one connection."""
        from uamqp import errors

        answers: dict[str, Answer | None] = {}
        client = self._client()
        broken = f"the hub {self._address.host} gave no answer about it; raise timeout, or run again"
        try:
            for message in messages:
                client.queue_message(_amqp(message, answers))
            client.open()
            self._work(client, answers, len(messages))
        except errors.AuthenticationException as error:
            if getattr(error, "status_code", None) in (401, 403):
                raise self._refused() from None
            # The token never left, or its answer was overtaken by the link's end: REST knows. uamqp's text is not
            # shown, since it reads the description from memory that it has given back already.
            self._check_key(_DOING, messages[0].device)
            broken = f"the login at the hub {self._address.host} broke off; run again"
        except (errors.AMQPError, TimeoutError, RuntimeError, ValueError) as error:
            broken = self._lost(error)
        finally:
            client.close()
        return {message.device: answers.get(message.device) or Answer(broken, True) for message in messages}

    def _work(self, client: t.Any, answers: dict[str, Answer | None], expected: int) -> None:
        """Drive the connection until all is answered, the deadline is over, or nothing moves any more."""
        answered, since = 0, time.monotonic()
        while len(answers) < expected and self._patience.left() > 0 and client.do_work():
            if len(answers) > answered:
                answered, since = len(answers), time.monotonic()
            if time.monotonic() - since > _STALLED:
                return
            time.sleep(0.001)  # uamqp does not wait by itself and would eat a core

    def _client(self) -> t.Any:
        if self._address.credential is None:
            return self._address.send_client()
        from azure.core.exceptions import AzureError

        try:
            return self._address.send_client()
        except AzureError as error:
            raise no_token(_DOING, error) from None

    def _refused(self) -> HubError:
        caller = self._address.caller()
        happened = f"the hub {self._address.host} refused {caller.proof}"
        needs = "" if self._address.credential else "; the policy needs ServiceConnect"
        return HubError(worded(_DOING, happened, f"{caller.check}{needs}"))

    def _lost(self, error: Exception) -> str:
        """Word a broken connection; refused rights end the whole operation."""
        condition = _text(getattr(error, "condition", ""))
        if "unauthorized" in condition.lower():
            raise self._refused() from None
        said = _text(getattr(error, "description", ""))
        parts = [condition, said] if condition else [type(error).__name__, *str(error).splitlines()[:1]]
        reason = without_signatures(": ".join(filter(None, parts)))
        return f"the connection to the hub {self._address.host} broke ({reason}); run again"


def _amqp(message: Message, answers: dict[str, Answer | None]) -> t.Any:
    """Make uamqp's message; its fate will be put into ``answers``, None if the hub will not tell it any more."""
    import uamqp

    def done(result: t.Any, error: Exception | None) -> None:
        accepted = result == uamqp.constants.MessageSendResult.Ok
        # a link's end, ours too, is told for each message without an answer as an error that nobody gave
        lost = _text(getattr(error, "condition", "")) == uamqp.constants.ErrorCodes.UnknownError.value.decode()
        answers[message.device] = Answer() if accepted else None if lost else _refusal(message.device, error)

    properties = uamqp.message.MessageProperties(to=f"/devices/{message.device}/messages/devicebound", **message.system)
    amqp = uamqp.Message(message.body, properties=properties, application_properties=dict(message.properties))
    amqp.on_send_complete = done
    return amqp


def _refusal(device: str, error: Exception | None) -> Answer:
    """Word the hub's refusal of one message.

    Conditions: https://learn.microsoft.com/azure/iot-hub/iot-hub-amqp-support and AmqpErrorMapper of the C# SDK.
    """
    condition = _text(getattr(error, "condition", ""))
    said = _text(getattr(error, "description", ""))
    signs = f"{condition} {said}".lower()
    if "quota" in signs:  # with the condition of a full queue
        return Answer("the hub has used up its messages of the day; wait until 00:00 UTC or add units")
    if "queuedepth" in signs.replace(" ", "") or "resource-limit" in signs:
        return Answer(f"the queue of device '{device}' is full ({_QUEUE} messages); it was offline for long: purge the "
                      "queue or let the desired properties carry the news")  # fmt: skip
    if "not-found" in signs or "notfound" in signs:
        return Answer(f"device '{device}' is not registered; create it with iotops.fleet.iothub_device")
    if "throttl" in signs or "server-busy" in signs:
        return Answer(f"the hub is throttling messages, '{device}' among them; raise timeout, or add units", True)
    return Answer(f"the hub did not take the message for '{device}': {without_signatures(said or condition)}")


def _text(value: t.Any) -> str:
    """uamqp hands out bytes, str, enumerations and None."""
    value = getattr(value, "value", value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
