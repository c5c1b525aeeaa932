"""Events as a stream that never ends, with a bounded buffer for each watcher (rim).

    node --event--> Feed (a deque of 1000) --text/event-stream--> client

A client that does not read loses events, not the node its memory: when its buffer is full all of it is dropped, and the
next event that the client sees is `lost`, with how many; it should then list again what it shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec

BUFFERED = 1000
KEEPALIVE_S = 15.0


class Feed:
    """The events that one watcher has yet to be sent; used within one event loop."""

    def __init__(self, most: int = BUFFERED) -> None:
        self.most = most
        self.lost = 0
        self._events: deque[dict[str, Any]] = deque()
        self._there = asyncio.Event()

    def put(self, event: dict[str, Any]) -> None:
        """Take one event, or note that it is lost."""
        if len(self._events) >= self.most:
            self.lost += len(self._events)
            self._events.clear()
        self._events.append(event)
        self._there.set()

    async def next(self) -> dict[str, Any] | None:
        """Return the next event, None when there was none for some seconds."""
        try:
            async with asyncio.timeout(KEEPALIVE_S):
                await self._there.wait()
        except TimeoutError:
            return None
        if self.lost:
            event, self.lost = {"type": "lost", "count": self.lost}, 0
            return event
        event = self._events.popleft()
        if not self._events:
            self._there.clear()
        return event


async def stream(feed: Feed) -> AsyncIterator[bytes]:
    """Yield a feed as server-sent events, for ever."""
    yield b": events of this node\n\n"
    while True:
        event = await feed.next()
        if event is None:
            yield b": nothing new\n\n"
        else:
            yield b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))
