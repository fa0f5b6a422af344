# SPDX-License-Identifier: Apache-2.0
"""The refrigerator's app: a pure control core, a panel in QML, and hardware behind one seam."""

FD_VARIABLE = "FRIDGE_PANEL_FD"
"""Environment variable that tells the panel's process which descriptor is its end of the seam (`fridge.seam`)."""
