# SPDX-License-Identifier: Apache-2.0
"""The device side: MQTT 3.1.1 over TLS."""
