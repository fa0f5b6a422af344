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

    def __init__(self, text: str = "", retry_after: float | None = None) -> None:
        """`retry_after` is how many seconds a client had better wait."""
        super().__init__(text)
        self.retry_after = retry_after


class ArgumentInvalid(HubError):
    code, number, status, condition = "ArgumentInvalid", 400004, 400, "amqp:invalid-field"


class InvalidConfigurationContent(HubError):
    code, number, status, condition = "InvalidConfigurationContent", 400031, 400, "amqp:invalid-field"


class InvalidConfigurationTargetCondition(ArgumentInvalid):
    code, number = "InvalidConfigurationTargetCondition", 400030


class CannotModifyImmutableConfigurationContent(ArgumentInvalid):
    code, number = "CannotModifyImmutableConfigurationContent", 400032


class InvalidConfigurationCustomMetricsQuery(ArgumentInvalid):
    code, number = "InvalidConfigurationCustomMetricsQuery", 400033


class InvalidDigitalTwinJsonPatch(ArgumentInvalid):
    code, number = "InvalidDigitalTwinJsonPatch", 400505


class InvalidDigitalTwinPayload(ArgumentInvalid):
    code, number = "InvalidDigitalTwinPayload", 400506


class InvalidDigitalTwinPatch(ArgumentInvalid):
    code, number = "InvalidDigitalTwinPatch", 400507


class InvalidDigitalTwinPatchPath(ArgumentInvalid):
    code, number = "InvalidDigitalTwinPatchPath", 400508


class Unauthorized(HubError):
    code, number, status, condition = "IotHubUnauthorizedAccess", 401002, 401, "amqp:unauthorized-access"


class IotHubQuotaExceeded(HubError):
    # the condition: AmqpIotErrorAdapter.cs of the C# SDK, which says that the service tells 403002 so
    code, number, status, condition = "IotHubQuotaExceeded", 403002, 403, "amqp:resource-limit-exceeded"


class JobQuotaExceeded(HubError):
    code, number, status, condition = "JobQuotaExceeded", 403003, 403, "amqp:resource-limit-exceeded"


class QueueFull(HubError):
    code, number, status = "DeviceMaximumQueueDepthExceeded", 403004, 403
    condition = "amqp:resource-limit-exceeded"


class TooManyUploads(HubError):
    code, number, status = "DeviceMaximumActiveFileUploadLimitExceeded", 403006, 403
    condition = "amqp:resource-limit-exceeded"


class DeviceNotFound(HubError):
    code, number, status, condition = "DeviceNotFound", 404001, 404, "amqp:not-found"

    def __init__(self, device_id: str) -> None:
        super().__init__(f"device {device_id} is not registered")


class BlobContainerValidationError(ArgumentInvalid):
    code, number = "BlobContainerValidationError", 400008


class DeviceDefinedMultipleTimes(HubError):
    code, number, status, condition = "DeviceDefinedMultipleTimes", 400011, 400, "amqp:invalid-field"


class JobNotFound(HubError):
    code, number, status, condition = "JobNotFound", 404002, 404, "amqp:not-found"


class ModuleNotFound(HubError):
    code, number, status, condition = "ModuleNotFound", 404010, 404, "amqp:not-found"

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(f"module {module_id} is not registered on device {device_id}")


class DeviceNotOnline(HubError):
    code, number, status, condition = "DeviceNotOnline", 404103, 404, "amqp:not-found"


class ConfigurationNotFound(HubError):
    code, number, status, condition = "ConfigurationNotFound", 404051, 404, "amqp:not-found"


class EnrollmentNotFound(HubError):
    code, number, status, condition = "EnrollmentNotFound", 404201, 404, "amqp:not-found"


class RegistrationNotFound(HubError):
    code, number, status, condition = "RegistrationNotFound", 404202, 404, "amqp:not-found"


class EnrollmentExists(HubError):
    code, number, status, condition = "EnrollmentConflict", 409201, 409, "amqp:not-allowed"


class TooManyEnrollments(HubError):
    code, number, status, condition = "QuotaExceeded", 403201, 403, "amqp:resource-limit-exceeded"


class DeviceAlreadyExists(HubError):
    code, number, status, condition = "DeviceAlreadyExists", 409001, 409, "amqp:not-allowed"


class JobAlreadyExists(HubError):
    code, number, status, condition = "JobAlreadyExists", 409104, 409, "amqp:not-allowed"


class ModuleAlreadyExists(HubError):
    code, number, status, condition = "ModuleAlreadyExistsOnDevice", 409301, 409, "amqp:not-allowed"


class ConfigurationAlreadyExists(HubError):
    code, number, status, condition = "ConfigurationAlreadyExists", 409051, 409, "amqp:not-allowed"


class PreconditionFailed(HubError):
    code, number, status, condition = "PreconditionFailed", 412001, 412, "amqp:precondition-failed"


class BlockCountExceedsLimit(HubError):
    # Azure Storage's: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
    code, number, status, condition = "BlockCountExceedsLimit", 409901, 409, "amqp:resource-limit-exceeded"


class LockLost(HubError):
    code, number, status, condition = "DeviceMessageLockLost", 412002, 412, "amqp:precondition-failed"


class MessageTooLarge(HubError):
    code, number, status, condition = "MessageTooLarge", 413001, 413, "amqp:link:message-size-exceeded"


class ConfigurationCountLimitExceeded(HubError):
    code, number, status, condition = ("ConfigurationCountLimitExceeded", 413101, 413, "amqp:resource-limit-exceeded")


class TooManyDevices(HubError):
    code, number, status, condition = "TooManyDevices", 413002, 413, "amqp:resource-limit-exceeded"


class TooManyModulesOnDevice(HubError):
    code, number, status, condition = "TooManyModulesOnDevice", 413003, 413, "amqp:resource-limit-exceeded"


class ThrottlingException(HubError):
    # the condition: AmqpErrorMapper of the C# SDK, amqp_service_errors.ts of the Node one
    code, number, status, condition = "ThrottlingException", 429001, 429, "com.microsoft:device-container-throttled"


class GatewayTimeout(HubError):
    code, number, status, condition = "GatewayTimeout", 504101, 504, "com.microsoft:timeout"
