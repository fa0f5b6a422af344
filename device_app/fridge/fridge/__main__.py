# SPDX-License-Identifier: Apache-2.0
"""`python -m fridge`: the app."""

from __future__ import annotations

import sys

from .app import run


def main() -> None:
    """Entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
