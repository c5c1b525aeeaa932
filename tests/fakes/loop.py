"""An event loop whose clock a test puts forward, so that nobody waits for timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


async def advance(seconds: float) -> None:
    """Let time pass at once: what falls due in it has happened at the return."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    loop.ahead_s += seconds
    for _ in range(3):
        await asyncio.sleep(0)


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test's coroutine; every wait in it has its own limit."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(story())
