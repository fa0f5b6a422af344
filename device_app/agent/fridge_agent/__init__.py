# SPDX-License-Identifier: Apache-2.0
"""Update and telemetry agent for a device: brings releases in, sends usage and crashes home."""

from __future__ import annotations

VERSION = "0.2.0"
