"""Long lists, made in shares between which the event loop goes on, and still as all was at one moment (rim).

BGP's timers run in the same loop: what takes hundreds of milliseconds at once would be felt by sessions. When something
is written meanwhile the list is begun anew; by whom is written all the time gets it in one go at last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from bgpvpn.intent import Intent

A = TypeVar("A")
B = TypeVar("B")

SHARE = 250
"""So many objects are shown in some ten milliseconds."""

TRIES = 3


async def shown(intent: Intent, things: Callable[[], Iterable[A]], show: Callable[[A], B]) -> list[B]:
    """Return what `show` makes of each of the things; both are called again when intent changes."""
    for last in (False,) * TRIES + (True,):
        writes = intent.writes
        rows: list[B] = []
        for number, thing in enumerate(list(things()), 1):
            rows.append(show(thing))
            if number % SHARE == 0 and not last:
                await asyncio.sleep(0)
                if intent.writes != writes:
                    break
        else:
            break
    return rows
