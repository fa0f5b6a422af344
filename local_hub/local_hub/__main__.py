# SPDX-License-Identifier: Apache-2.0
"""python -m local_hub"""

import sys

from .cli import main

sys.exit(main())
