# SPDX-License-Identifier: Apache-2.0
"""The service side over AMQP 1.0: cloud-to-device sends, feedback, and the Event Hubs-compatible endpoint."""
