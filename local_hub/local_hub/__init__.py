# SPDX-License-Identifier: Apache-2.0
"""A local server that speaks Azure IoT Hub's protocols."""
