# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same for many devices: a few at a time, with an answer for each, and one rule of when the task fails."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

from .iothub_errors import HubError, Unreachable

_PARALLEL = 8
_NAMED = 10  # errors that are spelled out in the message of the task; the result has all of them

Work = t.TypeVar("Work")
Done = t.TypeVar("Done")


def in_parallel(work: t.Callable[[Work], Done], items: t.Iterable[Work], at_once: int = _PARALLEL) -> list[Done]:
    """Do the same for many items, a few at a time, in order; the first error ends it."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(work, items))


def attempts(
    work: t.Callable[[Work], Done], items: t.Iterable[Work], at_once: int = _PARALLEL
) -> list[Done | HubError]:
    """Do the same for many items, and give for each what came of it or the error; in order.

    After an error that all the others would meet too (no hub, no right) none is begun any more.
    """
    hopeless = threading.Event()

    def attempt(item: Work) -> Done | HubError:
        if hopeless.is_set():
            return HubError("not begun, since the others failed")
        try:
            return work(item)
        except HubError as error:
            if fatal(error):
                hopeless.set()
            return error

    return in_parallel(attempt, items, at_once)


def fatal(error: HubError) -> bool:
    """Whether every other call would fail like this one."""
    return isinstance(error, Unreachable) or (error.refusal is not None and error.refusal.status in (401, 403))


def raise_fatal(outcomes: t.Iterable[t.Any], result: dict[str, t.Any]) -> None:
    """Raise the error that ended a whole batch, with the result so far, if there was one."""
    for outcome in outcomes:
        if isinstance(outcome, HubError) and fatal(outcome):
            raise HubError(str(outcome), result)


def judge(result: dict[str, t.Any], errors: list[str], fail_on: str, meant: str) -> None:
    """Raise HubError, with the result, if too many devices failed for ``fail_on``.

    :param meant: what the devices should have done, as in ``1 of 3 devices did not get the message``
    """
    total = len(result["devices"])
    enough = {"any": bool(errors), "all": bool(errors) and len(errors) == total, "none": False}
    if enough[fail_on]:
        raise HubError(f"{len(errors)} of {total} devices did not {meant}: {named(errors)}", result)


def named(errors: list[str]) -> str:
    """Return the first of many errors, and how many more there are."""
    more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    return "; ".join(errors[:_NAMED]) + more
