# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long we try: one deadline for the whole operation, and pauses between attempts that fit into it."""

from __future__ import annotations

import random
import time
import typing as t

_FIRST = 0.5  # seconds; S1 refills its slowest bucket (queries, 20 a minute) every 3 s
_LONGEST = 20.0
_ATTEMPTS = 10


class Patience:
    """A deadline that hands out jittered pauses.

    ``now`` and ``sleep`` are parameters so that tests take no time.
    """

    def __init__(
        self,
        seconds: float,
        now: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self.seconds = seconds
        self._end = now() + seconds

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - self._now())

    def pause(self, attempt: int, asked: float | None = None) -> bool:
        """Wait before attempt ``attempt`` + 1 and return True; return False at once if that cannot help any more.

        :param attempt: attempts already made, from 1
        :param asked: seconds that the hub asked for (Retry-After); never shortened
        """
        seconds = self._wait(attempt) if asked is None else asked + random.uniform(0.0, 0.5)  # noqa: S311
        if attempt >= _ATTEMPTS or seconds >= self.left():
            return False
        self._sleep(seconds)
        return True

    @staticmethod
    def _wait(attempt: int) -> float:
        # half fixed, half random: many controllers throttled together must not come back together
        return float(min(_LONGEST, _FIRST * 2.0 ** (attempt - 1))) * random.uniform(0.5, 1.0)  # noqa: S311
