# SPDX-License-Identifier: Apache-2.0
"""Collects the fleet's usage and crashes from an Event Hubs-compatible endpoint into SQLite."""
