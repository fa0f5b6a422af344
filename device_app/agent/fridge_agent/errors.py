# SPDX-License-Identifier: Apache-2.0
"""Every failure the agent knows, each with the stable code that it reports to the fleet's makers."""

from __future__ import annotations


class AgentError(Exception):
    """A failure with a stable `code` (see docs/contracts.md), a sentence for people and a retry hint.

    `transient`: another try may do. `tries` bounds those tries further than the device's policy does.
    """

    code = "internal"
    transient = False
    tries: int | None = None

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ConfigError(AgentError):
    """The agent's configuration file is missing, unreadable or wrong."""

    code = "config"


class ServerUnreachable(AgentError):
    """The file server could not be reached or dropped the line: worth another try later."""

    code = "server_unreachable"
    transient = True


class FileMissing(AgentError):
    """The file server answers, and does not have the file. It may be in the midst of an upload."""

    code = "file_missing"
    transient = True


class StorageFull(AgentError):
    """There is not room enough on the device for this release."""

    code = "storage_full"
    transient = True


class StagingLost(AgentError):
    """What was fetched is not there, or not whole, any more: it is fetched again."""

    code = "staging_lost"
    transient = True


class NotTrusted(AgentError):
    """A signature, hash, length or version did not hold.

    A line without protection can garble any answer, so it is tried again a few times before the release is refused.
    """

    code = "not_trusted"
    transient = True
    tries = 3


class StaleMetadata(AgentError):
    """The server's signed metadata has expired: either it was not refreshed or someone withholds news."""

    code = "metadata_expired"
    transient = True


class ClockDoubtful(AgentError):
    """Signed metadata looks expired by a clock that nobody vouches for."""

    code = "clock_doubtful"
    transient = True


class NotForThisDevice(AgentError):
    """The release is signed, but for another ring, platform, hardware or agent."""

    code = "not_for_this_device"


class Downgrade(AgentError):
    """The release is signed, and older than what runs; its signers did not say that this is meant."""

    code = "downgrade"


class BadRelease(AgentError):
    """The signed manifest or a layer is not of the form that this agent understands."""

    code = "bad_release"


class Cancelled(AgentError):
    """Something newer takes the place of what was under way; nobody is told."""

    code = "cancelled"
    transient = True
