# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0: services, devices, and the Event Hubs-compatible endpoint."""
