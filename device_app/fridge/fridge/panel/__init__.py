# SPDX-License-Identifier: Apache-2.0
"""What the owner sees and touches."""
