"""Neutron's API of a node in memory, asked without a socket.

@in_loop
async def test_a_fact():
    async with asked(FakeNode()) as api:
        network = await api.made("networks", name="blue")
        error = await api.refused("POST", "bgpvpn/bgpvpns", 400, {"bgpvpn": {}})
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from bgpvpn.access import OPERATOR, Caller
from bgpvpn.api.boundary import Node
from bgpvpn.api.neutron.paths import neutron_routes

OWNER = Caller("token of blue", "owner", "blue")

ONE = {"bgp-speakers": "bgp_speaker", "bgp-peers": "bgp_peer"}
"""What one is called where that is not the path without its s."""


@attrs.frozen
class Asked:
    """A client of it."""

    client: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask for something below /v2.0."""
        given = {} if body is None else {"json": body}
        return await self.client.request(method, f"/v2.0/{path}", **given)  # type: ignore[arg-type]

    async def ok(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        """Ask for what must succeed."""
        answer = await self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def made(self, path: str, **fields: Any) -> Any:
        """Make something; a field of binding or router is written with two underlines for its colon."""
        name = one(path)
        body = {name: {field.replace("__", ":"): value for field, value in fields.items()}}
        return (await self.ok("POST", path, body, 201))[name]

    async def changed(self, path: str, id_: str, **fields: Any) -> Any:
        """Change something."""
        return (await self.ok("PUT", f"{path}/{id_}", {one(path): fields}))[one(path)]

    async def shown(self, path: str, id_: str) -> Any:
        """Show something."""
        return (await self.ok("GET", f"{path}/{id_}"))[one(path)]

    async def listed(self, path: str, **query: Any) -> list[Any]:
        """List things."""
        answer = await self.client.get(f"/v2.0/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()[f"{one(path)}s"])

    async def refused(self, method: str, path: str, status: int, body: object = None) -> tuple[str, str]:
        """Ask for what must be refused; return the type and the message of the error."""
        answer = await self.ask(method, path, body)
        assert answer.status_code == status, answer.text
        error = answer.json()
        assert list(error) == ["NeutronError"]
        assert list(error["NeutronError"]) == ["type", "message", "detail"]
        return error["NeutronError"]["type"], error["NeutronError"]["message"]


def one(path: str) -> str:
    """Return what bodies call one of a collection."""
    last = path.rpartition("/")[2]
    return ONE.get(last, last.removesuffix("s"))


@contextlib.asynccontextmanager
async def asked(node: Node, caller: Caller = OPERATOR) -> AsyncIterator[Asked]:
    """Give a client of a node's while the block runs."""
    inner = Starlette(routes=neutron_routes(node))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = caller
        await inner(scope, receive, send)

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield Asked(client)
