# SPDX-License-Identifier: Apache-2.0
"""The panel's process: `python -m fridge.panel`. Nothing outside of this package imports Qt."""
