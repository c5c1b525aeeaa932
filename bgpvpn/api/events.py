"""Events as a stream that never ends, with a bounded buffer for each watcher (rim).

    node --event--> Feed (a deque of 1000) --text/event-stream--> client

A client that does not read loses events, not the node its memory: when its buffer is full all of it is dropped, and the
next event that the client sees is `lost`, with how many; it should then list again what it shows.

Owners are told of the objects that are there for them, and of nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bgpvpn import access
from bgpvpn.access import Caller
from bgpvpn.api.answers import ApiError
from bgpvpn.api.boundary import Node, Plain, Watcher
from bgpvpn.api.requests import caller_of
from bgpvpn.intent import Intent

WATCHERS = 64
BUFFERED = 1000
KEEPALIVE_S = 15.0
MEDIA_TYPE = "text/event-stream"


class Feed:
    """The events that one watcher has yet to be sent; used within one event loop."""

    def __init__(self, most: int = BUFFERED, quiet_s: float = KEEPALIVE_S) -> None:
        self.most = most
        self.quiet_s = quiet_s
        self.lost = 0
        self.ended = False
        self._events: deque[dict[str, Any]] = deque()
        self._there = asyncio.Event()

    def put(self, event: dict[str, Any]) -> None:
        """Take one event, or note that it is lost."""
        if len(self._events) >= self.most:
            self.lost += len(self._events)
            self._events.clear()
        self._events.append(event)
        self._there.set()

    def end(self) -> None:
        """Let the watcher go; what it was not sent yet is dropped."""
        self.ended = True
        self._there.set()

    async def next(self) -> dict[str, Any] | None:
        """Return the next event, None when there was none for some seconds or will be none."""
        try:
            async with asyncio.timeout(self.quiet_s):
                await self._there.wait()
        except TimeoutError:
            return None
        if self.ended:
            return None
        if self.lost:
            event, self.lost = {"type": "lost", "count": self.lost}, 0
            return event
        event = self._events.popleft()
        if not self._events:
            self._there.clear()
        return event


async def stream(feed: Feed) -> AsyncIterator[bytes]:
    """Yield a feed as server-sent events, until it is ended."""
    yield b": events of this node\n\n"
    while not feed.ended:
        event = await feed.next()
        if event is not None:
            yield b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))
        elif not feed.ended:
            yield b": nothing new\n\n"


class Watchers:
    """Those who watch a node, not more than 64."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._feeds: set[Feed] = set()
        self._ended = False

    async def watch(self, request: Request) -> Response:
        """Answer with a stream of everything that happens from now on."""
        if self._ended:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "", None, "the daemon is about to end")
        if len(self._feeds) >= WATCHERS:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "", None, f"{WATCHERS} watchers are there already")
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)
        feed, caller = Feed(), caller_of(request)
        take = feed.put if caller.role == "operator" else _Owned(caller, self._node.intent, feed.put)
        unsubscribe = self._node.subscribe(take)
        self._feeds.add(feed)

        def leave() -> None:
            self._feeds.discard(feed)
            unsubscribe()

        return _Watching(feed, leave)

    def end(self) -> None:
        """End all streams, and begin no other."""
        self._ended = True
        for feed in self._feeds:
            feed.end()


class _Owned:
    """Takes events, and passes on those about what is there for an owner.

    Of what is removed nothing is left to look at, so it is remembered what was there.
    """

    def __init__(self, caller: Caller, intent: Intent, put: Watcher) -> None:
        self._caller = caller
        self._intent = intent
        self._put = put
        self._there = {
            (kind, id_)
            for kind, table in intent.tables.items()
            for id_, thing in table.rows.items()
            if access.sees(caller, thing, intent)
        }

    def __call__(self, event: Plain) -> None:
        if event["type"] not in ("changed", "removed"):
            return
        key = (event["kind"], event["id"])
        thing = self._intent.tables[event["kind"]].get(event["id"])
        if thing is not None and access.sees(self._caller, thing, self._intent):
            self._there.add(key)
            self._put(event)
        elif key in self._there:
            self._there.remove(key)
            self._put({"type": "removed", "kind": event["kind"], "id": event["id"]})


class _Watching(StreamingResponse):
    """The answer to one watcher; `leave` is called when it is over, however it ends."""

    def __init__(self, feed: Feed, leave: Callable[[], None]) -> None:
        super().__init__(stream(feed), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
