# SPDX-License-Identifier: Apache-2.0
"""`python -m fridge`: the control process, which starts the panel's as its child."""

from __future__ import annotations

import sys

from .panel_process import PanelProcess


def main() -> None:
    """Entry point."""
    # first of all, since the panel's start is the slow one; the core runs long before its first frame
    child = PanelProcess.fork()
    import asyncio
    import faulthandler
    import os

    from .app import Environment
    from .hardware import HardwareError, open_hardware
    from .service import serve

    faulthandler.enable()  # the launcher ends a control process that hangs with SIGABRT
    try:
        environment = Environment.read(os.environ)
        cabinet = open_hardware(os.environ | {"FRIDGE_RUN_DIR": str(environment.run)})
    except HardwareError as exc:
        child.end(0)
        sys.exit(f"fridge: {exc}")
    sys.exit(asyncio.run(serve(environment, cabinet, child)))


if __name__ == "__main__":
    main()
