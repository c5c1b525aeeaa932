from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bgpvpn.api.serving import in_loop, ok, served
from tests.fakes.node import FakeNode


@in_loop
async def test_a_dump_is_a_stream_of_octets(tmp_path: Path) -> None:
    node = FakeNode()
    node.mrt_pieces = [b"x" * 100_000] * 50
    async with served(node, tmp_path) as api:
        response = await api.get("/v1/mrt?families=vpnv4,evpn&view=pre-policy")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    assert response.content == b"vpnv4 evpn pre" + b"x" * 5_000_000


@in_loop
async def test_others_are_served_while_nobody_reads_a_dump(tmp_path: Path) -> None:
    node, made = FakeNode(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield b"x" * 65536

    node.mrt_pieces = pieces()
    async with served(node, tmp_path) as api, api.stream("GET", "/v1/mrt") as response:
        assert response.status_code == 200
        for _ in range(20):
            await ok(api.get("/v1/status"))
        before = made
        for _ in range(20):
            await ok(api.get("/v1/status"))
        assert made - before <= 1, "what is not read is not made"
        assert made < 100


@in_loop
async def test_a_view_or_a_family_that_is_none_is_refused(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        for query, where in [("view=loc-rib", "view"), ("families=vpnv4,vpnv5", "families"), ("x=1", "x")]:
            response = await api.get(f"/v1/mrt?{query}")
            assert (response.status_code, response.json()["error"]["where"]) == (400, where)
