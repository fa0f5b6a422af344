# SPDX-License-Identifier: Apache-2.0
"""In which partition the events of a device lie, as IoT Hub chooses it.

By the hash of Event Hubs, Bob Jenkins' lookup3 (http://burtleburtle.net/bob/c/lookup3.c, hashlittle2, public domain),
of the device's id in capitals: ResolvePartitionIndex in testtools/iothub_test/src/iothubtest.c of azure-iot-sdk-c,
whose tests read the partition that it names and no other.
"""

from __future__ import annotations

import math
import struct

_WORD = 0xFFFFFFFF
_SLOTS = 32767
_MIX = (4, 6, 8, 16, 19, 4)
_FINAL = (14, 11, 25, 16, 4, 14, 24)


def partition_of(device_id: str, count: int) -> int:
    """The partition, of `count` ones."""
    low, high = lookup3(device_id.upper().encode())
    (signed,) = struct.unpack("<h", struct.pack("<H", (low ^ high) & 0xFFFF))
    slot = abs(int(math.fmod(signed, _SLOTS)))
    # the slots are dealt in runs; the first partitions have one more where they do not come out even
    run, longer = divmod(_SLOTS, count)
    edge = longer * (run + 1)
    return slot // (run + 1) if slot < edge else longer + (slot - edge) // run


def lookup3(data: bytes) -> tuple[int, int]:
    """hashlittle2 with both seeds 0: the primary and the secondary hash, 32 bits each."""
    state = [(0xDEADBEEF + len(data)) & _WORD] * 3
    if not data:
        return state[2], state[1]
    words = struct.unpack(f"<{math.ceil(len(data) / 12) * 3}I", data + bytes(-len(data) % 12))
    for start in range(0, len(words), 3):
        state = [(value + word) & _WORD for value, word in zip(state, words[start : start + 3], strict=True)]
        if start + 3 < len(words):
            _mix(state)
    for turn, bits in enumerate(_FINAL):
        target, source = (turn + 2) % 3, (turn + 1) % 3
        state[target] = ((state[target] ^ state[source]) - _rotated(state[source], bits)) & _WORD
    return state[2], state[1]


def _mix(state: list[int]) -> None:
    for turn, bits in enumerate(_MIX):
        first, second, third = turn % 3, (turn + 1) % 3, (turn + 2) % 3
        state[first] = ((state[first] - state[third]) & _WORD) ^ _rotated(state[third], bits)
        state[third] = (state[third] + state[second]) & _WORD


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _WORD
