from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from bgpvpn.api.events import BUFFERED, WATCHERS, Feed, stream
from tests.bgpvpn.api.serving import eventually, in_loop, listening, ok, refused, served
from tests.fakes.node import FakeNode


@contextlib.asynccontextmanager
async def watching(api: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with api.stream("GET", "/v1/events") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events_of(response.aiter_lines())


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """Read server-sent events as a browser does: blocks of lines, of which those with a colon first are comments."""
    name, data = "", ""
    async for line in lines:
        field, _, value = line.partition(": ")
        if not line and data:
            event = json.loads(data)
            assert event["type"] == name
            yield event
            name, data = "", ""
        elif field == "event":
            name = value
        elif field == "data":
            data += value
        else:
            assert not field, line


@in_loop
async def test_a_change_is_told_to_every_watcher(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api, watching(api) as one, watching(api) as other:
        await ok(api.post("/v1/networks", json={"id": "n-1", "name": "x"}), 201)
        await ok(api.patch("/v1/networks/n-1", json={"name": "a\nb"}), 400)
        await ok(api.patch("/v1/networks/n-1", json={"name": "a: b"}))
        await ok(api.delete("/v1/networks/n-1"), 204)
        for watcher in (one, other):
            for what in ("changed", "changed", "removed"):
                assert await anext(watcher) == {"type": what, "kind": "network", "id": "n-1"}


@in_loop
async def test_a_watcher_sees_what_happens_after_its_answer_began_whatever_the_text(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api, watching(api) as watcher:
        event = {"type": "peer", "text": "line\r\nline\n\nevent: x\x00"}
        node.tell(event)
        assert await anext(watcher) == event


@in_loop
async def test_a_burst_beyond_the_buffer_is_told_as_lost(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api, watching(api) as watcher:
        for number in range(3 * BUFFERED + 5):
            node.tell({"type": "tick", "number": number})
        assert await anext(watcher) == {"type": "lost", "count": 3 * BUFFERED}
        assert [(await anext(watcher))["number"] for _ in range(5)] == list(range(3 * BUFFERED, 3 * BUFFERED + 5))


@in_loop
async def test_a_watcher_that_does_not_read_loses_events_and_knows_how_many(tmp_path: Path) -> None:
    node = FakeNode()
    async with listening(node, tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(b"GET /v1/events HTTP/1.0\r\n\r\n")
        await reader.readuntil(b": events of this node\n\n")
        total = 10 * BUFFERED  # of 10 KB: far more than sockets, transports and readers hold
        for number in range(total):
            node.tell({"type": "tick", "number": number, "text": "x" * 10_000})
            await asyncio.sleep(0)
        node.tell({"type": "tick", "number": total, "text": ""})
        seen, lost = 0, 0
        async for event in events_of(_lines(reader)):
            if event["type"] == "lost":
                lost += event["count"]
                continue
            assert event["number"] == seen + lost
            seen += 1
            if event["number"] == total:
                break
        assert seen + lost == total + 1
        assert lost > 0
        writer.close()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    left = b""
    while octets := await reader.read(1 << 16):
        *lines, left = (left + octets).split(b"\n")
        for line in lines:
            yield line.decode()


@in_loop
async def test_a_quiet_stream_says_now_and_then_that_it_is_alive(tmp_path: Path) -> None:
    feed = Feed(quiet_s=0)
    spoken = stream(feed)
    assert [await anext(spoken) for _ in range(3)] == [b": events of this node\n\n", *[b": nothing new\n\n"] * 2]
    feed.put({"type": "tick"})
    assert await anext(spoken) == b'event: tick\ndata: {"type":"tick"}\n\n'


@in_loop
async def test_watchers_are_bounded_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api, contextlib.AsyncExitStack() as others:
        async with watching(api):
            for _ in range(WATCHERS - 1):
                await others.enter_async_context(watching(api))
            error = await refused(api.get("/v1/events"), 503)
            assert error["message"] == "64 watchers are there already"
            assert len(node.watchers) == WATCHERS
            await ok(api.get("/v1/status"))

        async def there_is_room() -> bool:
            async with api.stream("GET", "/v1/events") as response:
                return response.status_code == 200

        await eventually(there_is_room)


@in_loop
async def test_a_watcher_that_leaves_is_told_nothing_more(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        async with watching(api):
            assert len(node.watchers) == 1

        async def it_left() -> bool:
            await ok(api.get("/v1/status"))
            return node.watchers == []

        await eventually(it_left)
