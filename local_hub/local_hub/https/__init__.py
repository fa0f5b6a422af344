# SPDX-License-Identifier: Apache-2.0
"""The service REST API, https://{HostName}/..., api-version 2021-04-12."""
