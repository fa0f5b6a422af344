# SPDX-License-Identifier: Apache-2.0
"""`python -m fridge.panel`: the panel's process, a child of the control process (`fridge.panel_keeper`)."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    import faulthandler

    faulthandler.enable()  # a panel that hangs is ended with SIGABRT, and says where
    from .process import run

    sys.exit(run())


if __name__ == "__main__":
    main()
