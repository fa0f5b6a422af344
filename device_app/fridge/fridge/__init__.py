# SPDX-License-Identifier: Apache-2.0
"""The refrigerator's app: a pure control core, a panel in QML, and hardware behind one seam."""
