"""The API of a node in memory, on a real socket, with a real HTTP client.

@in_loop
async def test_a_fact(tmp_path):
    async with served(FakeNode(), tmp_path) as api:
        made = await ok(api.post("/v1/networks", json={"name": "blue"}), 201)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from bgpvpn.api.app import application
from bgpvpn.api.boundary import Node
from bgpvpn.api.callers import Callers
from bgpvpn.api.server import ApiServer

LIMIT_S = 10.0
"""How long anything may take before a test fails; what works takes milliseconds."""


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


@contextlib.asynccontextmanager
async def listening(node: Node, folder: Path, callers: Callers | None = None, **options: Any) -> AsyncIterator[Path]:
    """Serve a node at a socket in a folder while the block runs; without `callers` to everybody."""
    path = folder / "api.sock"
    server = ApiServer(application(node, callers), path=path, **options)
    await server.start()
    try:
        yield path
    finally:
        await server.stop()


def client(path: Path) -> httpx.AsyncClient:
    """Return a client of the API at a socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(path), limits=httpx.Limits(max_connections=None))
    return httpx.AsyncClient(transport=transport, base_url="http://node", timeout=LIMIT_S)


@contextlib.asynccontextmanager
async def served(node: Node, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a node and give a client of it while the block runs."""
    async with listening(node, folder) as path, client(path) as api:
        yield api


async def ok(answer: Awaitable[httpx.Response], status: int = 200) -> Any:
    """Return what an answer with this status holds."""
    response = await answer
    assert response.status_code == status, response.text
    return response.json() if response.content else None


async def refused(answer: Awaitable[httpx.Response], status: int) -> dict[str, Any]:
    """Return the error of an answer with this status, which is in the one shape that errors have."""
    response = await answer
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["what", "where", "value", "message"]
    assert error["what"]
    assert error["message"]
    return dict(error)


async def eventually(fact: Callable[[], Awaitable[bool]]) -> None:
    """Ask until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not await fact():
            pass
