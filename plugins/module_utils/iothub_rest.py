# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One REST call, made until it is answered for good: retries, throttling and errors, for hub and provisioning alike.

The SDK's own retries are switched off: they know no deadline and would sleep for as long as a Retry-After says.
"""

from __future__ import annotations

import logging
import threading
import typing as t
import urllib.parse

from .iothub_connection import HubAddress, no_token
from .iothub_errors import Broken, HubError, Refusal, Unreachable, read_refusal, worded
from .iothub_patch import Document
from .iothub_patience import Patience
from .iothub_trust import diagnose

_CONNECT = 10.0  # seconds to wait for a TCP connection
_THROTTLED = 429

Answer = t.TypeVar("Answer", dict[str, t.Any], list[Document])


class Rest:
    """A service of Azure's by REST. Every method raises HubError, worded, and nothing else of the service's."""

    api_version = "2021-04-12"

    def __init__(self, address: HubAddress, patience: Patience, ca_file: str | None = None) -> None:
        """Prepare; nothing is sent yet."""
        _silence()
        self.address = address
        self._patience = patience
        self._ca_file = ca_file
        self._loading = threading.Lock()
        self._client: t.Any = None

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()

    @property
    def _rest(self) -> t.Any:
        """The SDK's client, with the first call that is made: messages need none, and to import it takes a second.

        Raises ImportError if azure-iot-hub is missing.
        """
        with self._loading:  # several threads may make the first call
            if self._client is None:
                self._client = self._made()
        return self._client

    def _made(self) -> t.Any:
        from azure.core.exceptions import AzureError
        from azure.iot.hub.protocol.iot_hub_gateway_service_ap_is import IotHubGatewayServiceAPIs
        from msrest import exceptions

        self._foreign: t.Any = exceptions
        self._no_token: type[Exception] = AzureError
        made = IotHubGatewayServiceAPIs(self.address.authentication(), f"https://{self.address.netloc}")
        made.config.keep_alive = True  # one TLS connection for all calls of a thread
        made.config.retry_policy.retries = 0
        made.config.retry_policy.policy.status_forcelist = ()
        return made

    def left(self) -> float:
        """Seconds until the whole operation must be over."""
        return self._patience.left()

    def pause(self, seconds: float) -> bool:
        """Wait ``seconds``, a little more or less; return False at once if the time would be over then."""
        return self._patience.pause(1, seconds)

    def request(
        self, method: str, path: str, body: t.Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> t.Any:
        """Return an operation for what the SDK does not offer: to be run by the methods below, as the SDK's are."""

        def operation(raw: bool) -> t.Any:
            from msrest.pipeline import ClientRawResponse

            client = self._rest._client
            parameters = {**query, "api-version": self.api_version}
            content = {"Content-Type": "application/json; charset=utf-8"} if body is not None else {}
            build = getattr(client, method.lower())
            sent = build(path, parameters, {"Accept": "application/json", **content, **(headers or {})}, body)
            response = client.send(sent, stream=False)
            if response.status_code not in (200, 201, 204):
                raise self._foreign.HttpOperationError(self._rest._deserialize, response)
            return ClientRawResponse(None, response)

        return operation

    def pages(self, doing: str, method: str, path: str, body: t.Any = None, **query: str) -> t.Iterator[Document]:
        """Yield the documents of an answer that comes page by page, with a continuation among the headers."""
        headers: dict[str, str] = {}
        while True:
            raw = self._answer(doing, self.request(method, path, body, headers, **query))
            document = self._body(doing, raw)
            # the swagger has an object with items, the service gives a list
            yield from document.get("items") or [] if isinstance(document, dict) else document
            token = raw.response.headers.get("x-ms-continuation")
            if not token:
                return
            headers = {"x-ms-continuation": token}

    # ---- one call ----

    def _call(self, doing: str, operation: t.Any, *arguments: t.Any, once: bool = False) -> Document:
        """Run an operation and return its document."""
        return self._json(doing, self._answer(doing, operation, *arguments, once=once), dict)

    def _find(self, doing: str, operation: t.Any, *arguments: t.Any) -> Document | None:
        """Run an operation and return its document, or None if the service answers 404."""
        raw = self._answer(doing, operation, *arguments, missing=True)
        return None if raw is None else self._json(doing, raw, dict)

    def _list(self, doing: str, operation: t.Any, *arguments: t.Any) -> list[Document]:
        """Run an operation and return its list of documents."""
        return self._json(doing, self._answer(doing, operation, *arguments), list)

    def _answer(
        self, doing: str, operation: t.Any, *arguments: t.Any, missing: bool = False, once: bool = False
    ) -> t.Any:
        """Run an operation until it is answered for good; return the SDK's raw answer.

        :param missing: a 404 is an answer, None
        :param once: never do it twice: only what was throttled, and so not begun, is asked for again
        """
        attempt = 1
        while True:
            left = self._patience.left()
            self._rest.config.connection.timeout = (min(_CONNECT, max(1.0, left)), max(1.0, left))
            try:
                return operation(*arguments, raw=True)
            except self._foreign.HttpOperationError as error:
                refusal = read_refusal(error.response.status_code, error.response.text, error.response.headers)
                if missing and refusal.status == 404:
                    return None
                passing = refusal.status == _THROTTLED if once else refusal.passing
                problem, asked = self._refused(doing, refusal), refusal.retry_after
            except self._foreign.ClientRequestError as error:
                problem, passing = self._unreachable(doing, error)
                passing, asked = passing and not once, None
            except self._no_token as error:
                raise no_token(doing, error) from None
            except (self._foreign.DeserializationError, ValueError):
                raise self._gibberish(doing) from None
            if not (passing and self._patience.pause(attempt, asked)):
                raise problem from None
            attempt += 1

    def _json(self, doing: str, raw: t.Any, kind: type[Answer]) -> Answer:
        """Return the body of an answer, which must be of ``kind``; no body is an empty one."""
        if not raw.response.content:
            return kind()
        body = self._body(doing, raw)
        if not isinstance(body, kind):
            raise self._gibberish(doing)
        return body

    def _body(self, doing: str, raw: t.Any) -> t.Any:
        try:
            body = raw.response.json()
        except ValueError:
            body = None
        if not isinstance(body, (dict, list)):
            raise self._gibberish(doing)
        return body

    # ---- what went wrong ----

    def _refused(self, doing: str, refusal: Refusal) -> HubError:
        return refusal.error(doing, self.address.caller())

    def _gibberish(self, doing: str) -> HubError:
        # "a hub", "a provisioning service": "an IoT hub" is what users call it
        kind = "an IoT hub" if self.address.service.noun == "hub" else f"a {self.address.service.noun}"
        return HubError(worded(doing, f"{self.address.netloc} answers, but not as {kind} does", "check HostName"))

    def _unreachable(self, doing: str, error: Exception) -> tuple[HubError, bool]:
        """Word a connection failure; the second value says whether it may pass by itself."""
        seconds = min(_CONNECT, max(1.0, self._patience.left()))
        trouble = diagnose(self.address.host, self.address.port, self._ca_file, seconds)
        if trouble:
            return Unreachable(worded(doing, trouble)), False
        inner = getattr(error, "inner_exception", None)
        happened = f"the connection to {self.address.caller().service} broke ({type(inner or error).__name__})"
        return Broken(worded(doing, happened, "run again; raise timeout if the hub is slow")), True


def quoted_path(text: str) -> str:
    """Return ``text`` as one part of a path."""
    return urllib.parse.quote(text, safe="")


def _silence() -> None:
    """Keep the libraries' chatter off stderr, where Ansible would show it; uamqp logs each reconnect as an error."""
    for name in ("uamqp", "azure", "msrest", "msal", "urllib3"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
