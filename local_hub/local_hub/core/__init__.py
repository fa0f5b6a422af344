# SPDX-License-Identifier: Apache-2.0
"""The rules of an IoT hub without any I/O: bytes and values in, values out, the time passed in."""
