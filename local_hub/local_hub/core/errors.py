# SPDX-License-Identifier: Apache-2.0
"""What the hub refuses, in Azure's words.

Each error carries its name in the REST body ("ErrorCode:DeviceNotFound;..."), its HTTP status and its AMQP condition,
so that a protocol server never decides what an error means.
Codes: https://learn.microsoft.com/azure/iot-hub/troubleshoot-error-codes
"""

from __future__ import annotations


class HubError(Exception):
    """Base of every refusal that a client sees."""

    code = "ServerError"
    number = 500001
    status = 500
    condition = "amqp:internal-error"


class ArgumentInvalid(HubError):
    code, number, status, condition = "ArgumentInvalid", 400004, 400, "amqp:invalid-field"


class InvalidConfigurationContent(HubError):
    code, number, status, condition = "InvalidConfigurationContent", 400031, 400, "amqp:invalid-field"


class Unauthorized(HubError):
    code, number, status, condition = "IotHubUnauthorizedAccess", 401002, 401, "amqp:unauthorized-access"


class QueueFull(HubError):
    code, number, status = "DeviceMaximumQueueDepthExceeded", 403004, 403
    condition = "amqp:resource-limit-exceeded"


class DeviceNotFound(HubError):
    code, number, status, condition = "DeviceNotFound", 404001, 404, "amqp:not-found"

    def __init__(self, device_id: str) -> None:
        super().__init__(f"device {device_id} is not registered")


class DeviceNotOnline(HubError):
    code, number, status, condition = "DeviceNotOnline", 404103, 404, "amqp:not-found"


class ConfigurationNotFound(HubError):
    code, number, status, condition = "ConfigurationNotFound", 404051, 404, "amqp:not-found"


class DeviceAlreadyExists(HubError):
    code, number, status, condition = "DeviceAlreadyExists", 409001, 409, "amqp:not-allowed"


class ConfigurationAlreadyExists(HubError):
    code, number, status, condition = "ConfigurationAlreadyExists", 409051, 409, "amqp:not-allowed"


class PreconditionFailed(HubError):
    code, number, status, condition = "PreconditionFailed", 412001, 412, "amqp:precondition-failed"


class LockLost(HubError):
    code, number, status, condition = "DeviceMessageLockLost", 412002, 412, "amqp:precondition-failed"


class MessageTooLarge(HubError):
    code, number, status, condition = "MessageTooLarge", 413001, 413, "amqp:link:message-size-exceeded"


class ThrottlingException(HubError):
    code, number, status, condition = "ThrottlingException", 429001, 429, "com.microsoft:server-busy"


class GatewayTimeout(HubError):
    code, number, status, condition = "GatewayTimeout", 504101, 504, "com.microsoft:timeout"
