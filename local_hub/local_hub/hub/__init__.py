# SPDX-License-Identifier: Apache-2.0
"""The hub itself: state in memory, durable in SQLite, shared by the three protocol servers."""
