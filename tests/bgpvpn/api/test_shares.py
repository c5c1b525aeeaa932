"""Long lists are as all was at one moment, and do not keep the loop from its work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import httpx

from bgpvpn.api import shares
from bgpvpn.api.app import application
from bgpvpn.api.shares import SHARE, TRIES
from bgpvpn.intent import Removal
from bgpvpn.objects import Network
from tests.bgpvpn.api.neutron.asking import asked
from tests.bgpvpn.api.serving import in_loop, ok, served
from tests.fakes.node import FakeNode

MANY = 4 * SHARE


def node_with_many() -> FakeNode:
    node = FakeNode()
    node.write([Network(id=f"n{number}", name=f"n{number}") for number in range(MANY)])
    return node


async def listed(node: FakeNode) -> list[tuple[str, int]]:
    """Return the names of networks with their revisions."""

    def show(network: Network) -> tuple[str, int]:
        return network.name, node.intent.stamps["network", network.id].revision

    return await shares.shown(node.intent, node.intent.networks.rows.values, show)


@in_loop
async def test_others_have_their_turn_while_a_list_is_made() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert len(await listed(node_with_many())) == MANY
    beside.cancel()
    assert turns >= MANY // SHARE


@in_loop
async def test_what_is_written_meanwhile_is_in_a_list_as_a_whole_or_not_at_all() -> None:
    node = node_with_many()
    first, last = node.intent.networks["n0"], node.intent.networks[f"n{MANY - 1}"]

    async def other() -> None:
        node.write([attrs.evolve(first, name="new"), attrs.evolve(last, name="newer"), Removal("network", "n500")])

    beside = asyncio.create_task(other())
    found = dict(await listed(node))
    await beside
    assert (len(found), found["new"], found["newer"]) == (MANY - 1, 2, 2)


@in_loop
async def test_a_list_ends_though_something_is_written_all_the_time() -> None:
    node, written = node_with_many(), 0

    async def other() -> None:
        nonlocal written
        while True:
            written += 1
            node.write([Network(id="busy", name=f"busy{written}")])
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert len(await listed(node)) == MANY + 1
    beside.cancel()
    assert written == TRIES


@in_loop
async def test_lists_of_both_APIs_are_whole_while_objects_come_and_go(tmp_path: Path) -> None:
    node = node_with_many()

    async def other() -> None:
        for number in range(MANY // 5):
            node.write([Removal("network", f"n{number}")])
            node.write([Network(id=f"m{number}", name=f"m{number}")])
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    async with served(node, tmp_path) as api, asked(node) as neutron:
        while not beside.done():
            assert len(await ok(api.get("/v1/networks"))) == MANY
            assert len(await neutron.listed("networks")) == MANY
    await beside


@in_loop
async def test_others_have_their_turn_while_all_that_an_owner_wants_is_read() -> None:
    node, turns = FakeNode(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def turns_before_the_write(many: int) -> int:
        at: list[int] = []
        end = node.subscribe(lambda _: at.append(turns))
        before = turns
        networks = [{"id": f"x.{number}", "name": f"{many} {number}"} for number in range(many)]
        transport = httpx.ASGITransport(app=application(node))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as api:
            await ok(api.put("/v1/intent", json={"owner": "x", "networks": networks}))
        end()
        return at[0] - before

    beside = asyncio.create_task(other())
    few, many = await turns_before_the_write(1), await turns_before_the_write(MANY)
    beside.cancel()
    assert many - few >= MANY // SHARE - 1
