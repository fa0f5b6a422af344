# SPDX-License-Identifier: Apache-2.0
"""Every failure the agent knows, each with the stable code that it reports to the fleet's makers."""

from __future__ import annotations


class AgentError(Exception):
    """A failure with a stable `code` (see docs/contracts.md), a sentence for people and a retry hint."""

    code = "internal"
    transient = False

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


class NotTrusted(AgentError):
    """A signature, hash, length, version or expiry did not hold: the release is refused."""

    code = "not_trusted"


class StaleMetadata(AgentError):
    """The server's signed metadata has expired: either it was not refreshed or someone withholds news."""

    code = "metadata_expired"
    transient = True


class NotForThisDevice(AgentError):
    """The release is signed, but for another ring, platform, hardware or agent."""

    code = "not_for_this_device"


class BadRelease(AgentError):
    """The signed manifest or a layer is not of the form that this agent understands."""

    code = "bad_release"
