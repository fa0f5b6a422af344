# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bucket of a device: which wave of a rollout it belongs to."""

from __future__ import annotations

import hashlib

BUCKETS = 10_000


def bucket(device_id: str) -> int:
    """Return the bucket of a device, 0..9999: the same on every machine and in every release.

    The first 8 bytes of the SHA-256 of the id (UTF-8), big-endian, modulo 10000. A wave of 25 % is then
    ``tags.bucket < 2500`` in a target condition: one bound to raise, no list of devices to keep.
    """
    return int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:8], "big") % BUCKETS
