from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from bgpvpn.api.answers import ApiError
from bgpvpn.api.requests import body_of
from bgpvpn.objects import KINDS, Network, Peer, plural
from bgpvpn.store.sqlite import SqliteStore
from tests.bgpvpn.api.serving import in_loop, ok, refused, served
from tests.fakes.node import FakeNode, FakeStore, contents

SECRET = "s3cret-of-rr"
MAC = "02:00:00:00:00:01"


ROUTED: list[tuple[str, dict[str, Any]]] = [
    ("networks", {"id": "x-1", "name": "outside", "external": True, "subnets": [{"cidr": "198.51.100.0/24"}]}),
    (
        "routers",
        {
            "id": "o-1",
            "name": "router",
            "subnet_ids": ["subnet"],
            "gateway_network_id": "outside",
            "gateway_ips": ["198.51.100.9"],
        },
    ),
    ("floating_ips", {"id": "f-1", "network_id": "outside", "address": "198.51.100.7", "port_id": "port"}),
    ("peers", {"id": "r-2", "name": "told", "address": "198.51.100.1", "remote_as": 1, "families": ["ipv4"]}),
    ("speakers", {"id": "k-1", "name": "speaker", "local_as": 64512, "networks": ["outside"], "peers": ["told"]}),
    (
        "advertisements",
        {"id": "d-1", "speaker_id": "speaker", "destination": "203.0.113.0/24", "next_hop": "198.51.100.9"},
    ),
]
"""What there is beside VPNs, each with names where ids will be."""


async def routed(api: httpx.AsyncClient) -> None:
    """Make what there is beside VPNs, after `filled`."""
    for path, body in ROUTED:
        await ok(api.post(f"/v1/{path}", json=body), 201)


async def filled(api: httpx.AsyncClient) -> None:
    """Make one object of each kind about VPNs; their names are those of the kinds."""
    await ok(
        api.post(
            "/v1/networks",
            json={"id": "n-1", "name": "network", "subnets": [{"cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"}]},
        ),
        201,
    )
    subnet = {"id": "s-1", "name": "subnet", "network_id": "n-1", "cidr": "2001:db8::/64"}
    await ok(api.post("/v1/subnets", json=subnet), 201)
    port = {"id": "p-1", "name": "port", "network_id": "n-1", "interface": "tap0", "mac_address": MAC}
    await ok(api.post("/v1/ports", json={**port, "ip_addresses": ["10.0.0.5"]}), 201)
    await ok(api.post("/v1/bgpvpns", json={"id": "v-1", "name": "bgpvpn", "route_targets": ["64512:1"]}), 201)
    association = {"id": "a-1", "bgpvpn_id": "v-1", "network_id": "n-1"}
    await ok(api.post("/v1/associations", json=association), 201)
    peer = {"id": "r-1", "name": "peer", "address": "192.0.2.1", "remote_as": 64512, "password": SECRET}
    await ok(api.post("/v1/peers", json=peer), 201)


@in_loop
async def test_what_is_made_is_shown_with_its_defaults_its_stamp_and_what_became_of_it(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        made = await ok(api.post("/v1/networks", json={"name": "blue"}), 201)
        stamp = {
            "status": {"state": "ACTIVE", "reason": "", "observed_revision": 1},
            "revision": 1,
            "created_at": "2023-11-14T22:13:20.000+00:00",
            "updated_at": "2023-11-14T22:13:20.000+00:00",
        }
        fields = {"name": "blue", "project_id": "default", "mtu": None, "external": False}
        fields |= {"fallback_mac": None, "host_addresses": False}
        expected = {"id": made["id"], **fields, "subnets": [], **stamp}
        assert made == expected
        assert await ok(api.get("/v1/networks/blue")) == expected
        assert await ok(api.get(f"/v1/networks/{made['id']}")) == expected
        assert await ok(api.get("/v1/networks")) == [expected]

        error = {"state": "ERROR", "reason": "no such interface", "observed_revision": 1}
        node.statuses["network", made["id"]] = error
        assert (await ok(api.get("/v1/networks/blue")))["status"] == error

        assert await ok(api.delete("/v1/networks/blue"), 204) is None
        assert (await refused(api.get("/v1/networks/blue"), 404))["where"] == "path"
        assert await ok(api.get("/v1/networks")) == []


@pytest.mark.parametrize(
    ("kind", "patch", "wrong"),
    [
        ("network", {"mtu": 1400}, {"mtu": 1}),
        ("subnet", {"gateway_ip": "2001:db8::1"}, {"gateway_ip": "10.9.9.9"}),
        ("port", {"admin_state_up": False}, {"interface": "a/b"}),
        ("bgpvpn", {"import_targets": ["64512:2", "64512:3"]}, {"route_targets": ["64512"]}),
        ("peer", {"hold_time_s": 30}, {"hold_time_s": 1}),
        ("router", {"admin_state_up": False}, {"gateway_ips": ["x"]}),
        ("speaker", {"advertise_tenant_networks": False}, {"peers": ["nosuch"]}),
    ],
)
@in_loop
async def test_a_change_changes_what_is_given_and_nothing_else(
    tmp_path: Path, kind: str, patch: dict[str, Any], wrong: dict[str, Any]
) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        await routed(api)
        path = f"/v1/{kind}s/{kind}"
        before = await ok(api.get(path))
        after = await ok(api.patch(path, json=patch))
        assert after == {**before, **patch, **{name: after[name] for name in ("status", "revision", "updated_at")}}
        assert (after["revision"], before["revision"]) == (2, 1)
        assert after["updated_at"] > before["updated_at"]
        assert await ok(api.get(path)) == after

        assert await ok(api.patch(path, json={})) == after, "nothing given, nothing changed"
        (field,) = wrong
        assert (await refused(api.patch(path, json={"name": "other", **wrong}), 400))["where"] == field
        assert await ok(api.get(path)) == after


@in_loop
async def test_an_association_is_changed_and_made_by_both_of_its_paths(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        await filled(api)
        body = {"port_id": "port", "routes": [{"type": "prefix", "prefix": "10.1.0.0/16"}]}
        below = await ok(api.post("/v1/bgpvpns/bgpvpn/associations", json=body), 201)
        assert (below["bgpvpn_id"], below["port_id"], below["network_id"]) == ("v-1", "p-1", None)
        both = await ok(api.get("/v1/bgpvpns/bgpvpn/associations"))
        assert both == await ok(api.get("/v1/associations"))
        assert [each["id"] for each in both] == ["a-1", below["id"]]

        changed = await ok(api.patch(f"/v1/associations/{below['id']}", json={"routes": []}))
        assert changed["routes"] == []
        await ok(api.delete(f"/v1/associations/{below['id']}"), 204)
        await ok(api.post("/v1/bgpvpns", json={"name": "other"}), 201)
        assert await ok(api.get("/v1/bgpvpns/other/associations")) == []

        error = await refused(api.post("/v1/bgpvpns/nosuch/associations", json={"network_id": "n-1"}), 404)
        assert error["message"] == "there is no bgpvpn 'nosuch'"
        error = await refused(api.post("/v1/bgpvpns/bgpvpn/associations", json={"bgpvpn_id": "v-1"}), 400)
        assert error["where"] == "bgpvpn_id"


@in_loop
async def test_names_stand_for_ids_where_only_one_has_them(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        await ok(api.post("/v1/networks", json={"id": "n-1", "name": "blue net", "project_id": "a"}), 201)
        subnet = await ok(api.post("/v1/subnets", json={"network_id": "blue net", "cidr": "10.0.0.0/24"}), 201)
        assert (subnet["network_id"], subnet["project_id"]) == ("n-1", "a"), "the project is that of the network"
        port = await ok(
            api.post("/v1/ports", json={"network_id": "blue net", "interface": "tap0", "mac_address": MAC}), 201
        )
        assert (port["network_id"], port["project_id"]) == ("n-1", "a")
        assert (await ok(api.get("/v1/networks/blue%20net")))["id"] == "n-1"
        assert [each["id"] for each in await ok(api.get("/v1/ports", params={"network_id": "blue net"}))] == [
            port["id"]
        ]

        await ok(api.post("/v1/networks", json={"id": "n-2", "name": "blue net", "project_id": "b"}), 201)
        error = await refused(api.get("/v1/networks/blue%20net"), 409)
        assert "n-1 in project a, n-2 in project b" in error["message"]
        error = await refused(api.post("/v1/subnets", json={"network_id": "blue net", "cidr": "10.1.0.0/24"}), 409)
        assert (error["where"], error["value"]) == ("network_id", "blue net")
        error = await refused(api.post("/v1/subnets", json={"network_id": "nosuch", "cidr": "10.1.0.0/24"}), 400)
        assert (error["where"], error["value"]) == ("network_id", "nosuch")


@in_loop
async def test_names_stand_for_ids_in_lists_and_in_routes_too(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        await routed(api)
        await ok(api.post("/v1/bgpvpns", json={"id": "v-2", "name": "other"}), 201)
        routes = [
            {"type": "bgpvpn", "bgpvpn_id": "other"},
            {"type": "prefix", "prefix": "10.9.0.0/16", "local_pref": 7},
        ]
        body = {"bgpvpn_id": "bgpvpn", "port_id": "port", "routes": routes, "direction": "to-port"}
        made = await ok(api.post("/v1/associations", json=body), 201)
        assert made["routes"] == [
            {"type": "bgpvpn", "prefix": None, "bgpvpn_id": "v-2", "local_pref": None},
            {"type": "prefix", "prefix": "10.9.0.0/16", "bgpvpn_id": None, "local_pref": 7},
        ]
        speaker, router = await ok(api.get("/v1/speakers/speaker")), await ok(api.get("/v1/routers/router"))
        assert (speaker["networks"], speaker["peers"]) == (["x-1"], ["r-2"])
        assert (router["subnet_ids"], router["gateway_network_id"]) == (["s-1"], "x-1")
        for path, query, id_ in (
            ("speakers", "peers=told", "k-1"),
            ("routers", "subnet_ids=subnet", "o-1"),
            ("floating_ips", "port_id=port", "f-1"),
            ("advertisements", "speaker_id=speaker", "d-1"),
        ):
            assert [each["id"] for each in await ok(api.get(f"/v1/{path}?{query}"))] == [id_], query

        assert (await ok(api.patch("/v1/speakers/speaker", json={"peers": []})))["peers"] == []
        for path, patch, value in (
            ("speakers/speaker", {"peers": ["told", "nosuch"]}, "nosuch"),
            ("routers/router", {"subnet_ids": ["nosuch"]}, "nosuch"),
            (f"associations/{made['id']}", {"routes": [{"type": "bgpvpn", "bgpvpn_id": "nosuch"}]}, "nosuch"),
        ):
            error = await refused(api.patch(f"/v1/{path}", json=patch), 400)
            assert (error["where"], error["value"]) == (*patch, value)
        await ok(api.post("/v1/peers", json={"name": "r-2", "address": "192.0.2.99", "remote_as": 1}), 201)
        assert (await ok(api.patch("/v1/speakers/speaker", json={"peers": ["r-2"]})))["peers"] == ["r-2"]


@in_loop
async def test_what_a_speaker_says_and_hears_is_shown(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        await routed(api)
        node.advertised_rows["k-1"] = [{"destination": "203.0.113.0/24", "next_hop": "198.51.100.9"}]
        node.learned_rows["k-1"] = [{"destination": "0.0.0.0/0", "next_hop": "198.51.100.1"}]
        assert await ok(api.get("/v1/speakers/speaker/routes")) == {
            "advertised": node.advertised_rows["k-1"],
            "learned": node.learned_rows["k-1"],
        }
        await refused(api.get("/v1/speakers/nosuch/routes"), 404)


@pytest.mark.parametrize(
    ("path", "body", "where", "value", "message"),
    [
        ("networks", {"nmae": "x"}, "nmae", None, "nmae: is not known; did you mean name?"),
        ("networks", {"zzz": 1}, "zzz", None, "zzz: is not known"),
        ("networks", {"name": 5}, "name", 5, "name: Expected `str`, got `int`"),
        ("networks", {"mtu": "1500"}, "mtu", "1500", "mtu: Expected `int | null`, got `str`"),
        ("networks", {"mtu": 10}, "mtu", 10, "mtu: takes a number from 68 to 65535, not 10"),
        ("networks", {"mtu": 10**30}, "mtu", None, f"mtu: takes a number from 68 to 65535, not {10**30}"),
        ("networks", [], "", None, "Expected `object`, got `array`"),
        ("networks", "x", "", "x", "Expected `object`, got `str`"),
        ("networks", {"subnets": [{}]}, "subnets[0].cidr", None, "subnets[0].cidr: is wanted"),
        ("networks", {"subnets": [{"cidr": 7}]}, "subnets[0].cidr", 7, "subnets[0].cidr: Expected `str`, got `int`"),
        ("networks", {"subnets": [{"cidr": "x"}]}, "subnets[0].cidr", "x", "subnets[0].cidr: 'x' is not a prefix"),
        (
            "networks",
            {"subnets": [{"cidr": "10.0.0.0/8", "gw": ""}]},
            "subnets[0].gw",
            None,
            "subnets[0].gw: is not known",
        ),
        ("subnets", {"network_id": "n-1"}, "cidr", None, "cidr: is wanted"),
        ("bgpvpns", {"type": "l4"}, "type", "l4", "type: takes l2 or l3, not 'l4'"),
        ("policies", {"name": "p", "default": "acept"}, "default", "acept", "default: takes accept or reject, not"),
        ("peers", {"address": "192.0.2.2", "remote_as": 1, "role": "x"}, "role", "x", "role: takes customer, peer, "),
        ("bgpvpns", {"route_targets": ["a", 5]}, "route_targets[1]", 5, "route_targets[1]: Expected `str`, got `int`"),
        ("associations", {"bgpvpn_id": "v-1"}, "network_id", None, "network_id: exactly one of network_id, router_id"),
        ("peers", {"address": "192.0.2.2", "remote_as": True}, "remote_as", True, "remote_as: Expected `int`"),
        ("peers", {"address": "192.0.2.2", "remote_as": 1, "password": 5}, "password", "***", "password: Expected"),
        (
            "peers",
            {"address": "192.0.2.2", "remote_as": 1, "password": "***"},
            "password",
            "***",
            "password: *** is how a secret is shown",
        ),
    ],
)
@in_loop
async def test_what_is_wrong_is_refused_by_its_field_and_changes_nothing(
    tmp_path: Path, path: str, body: Any, where: str, value: Any, message: str
) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        before = contents(node)
        error = await refused(api.post(f"/v1/{path}", json=body), 400)
        assert (error["what"], error["where"], error["value"]) == ("validation", where, value)
        assert error["message"].startswith(message)
        assert contents(node) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"name": "\\ud800"}',
        b'{"mtu": 1e999}',
        b'{"mtu": ' + b"9" * 6000 + b"}",
        b'{"name": ' + b"[" * 200_000,
        b'{"nosuch": ' + b"[" * 200_000,
        b"[" * 200_000,
    ],
    ids=lambda body: repr(body[:20]),
)
@in_loop
async def test_what_is_no_sensible_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async with served(FakeNode(), tmp_path) as api:
        headers = {"content-type": "application/json"}
        await refused(api.post("/v1/networks", content=body, headers=headers), 400)


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("networks", {"id": "n-1"}, "id"),
        ("networks", {"name": "network"}, "name"),
        ("subnets", {"network_id": "network", "cidr": "10.0.0.128/25"}, "cidr"),
        ("ports", {"interface": "tap0", "mac_address": "02:00:00:00:00:02"}, "interface"),
        ("associations", {"bgpvpn_id": "bgpvpn", "network_id": "network"}, "network_id"),
        ("peers", {"address": "192.0.2.1", "remote_as": 1}, "address"),
    ],
)
@in_loop
async def test_what_cannot_stand_beside_the_rest_is_a_conflict(
    tmp_path: Path, path: str, body: dict[str, Any], where: str
) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        before = contents(node)
        error = await refused(api.post(f"/v1/{path}", json=body), 409)
        assert (error["what"], error["where"]) == ("conflict", where)
        assert contents(node) == before


@in_loop
async def test_a_network_and_its_subnets_are_made_together_or_not_at_all(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        overlapping = [{"cidr": "10.0.0.0/8"}, {"cidr": "10.1.0.0/16"}]
        await refused(api.post("/v1/networks", json={"name": "blue", "subnets": overlapping}), 409)
        assert contents(node) == {}
        subnets = [{"cidr": "10.0.0.0/8", "gateway_ip": "10.0.0.1"}, {"cidr": "2001:db8::/64"}]
        made = await ok(api.post("/v1/networks", json={"project_id": "a", "subnets": subnets}), 201)
        assert [(each["cidr"], each["gateway_ip"]) for each in made["subnets"]] == [
            ("10.0.0.0/8", "10.0.0.1"),
            ("2001:db8::/64", None),
        ]
        shown = await ok(api.get("/v1/subnets"))
        assert [(each["id"], each["project_id"], each["network_id"]) for each in shown] == [
            (each["id"], "a", made["id"]) for each in made["subnets"]
        ]


@in_loop
async def test_a_network_with_ports_stays_and_without_takes_along_what_refers_to_it(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        before = contents(node)
        error = await refused(api.delete("/v1/networks/network"), 409)
        assert error["message"] == "id: network 'network' has ports: port"
        (subnet,) = await ok(api.get("/v1/subnets", params={"cidr": "10.0.0.0/24"}))
        error = await refused(api.delete(f"/v1/subnets/{subnet['id']}"), 409)
        assert error["message"] == "id: ports have addresses in subnet 10.0.0.0/24: port"
        assert contents(node) == before
        await ok(api.delete("/v1/ports/port"), 204)
        await ok(api.delete("/v1/networks/network"), 204)
        assert sorted(contents(node)) == [("bgpvpn", "v-1"), ("peer", "r-1")]


@in_loop
async def test_what_the_configuration_says_is_shown_and_stays(tmp_path: Path) -> None:
    node = FakeNode(configured=[Peer(id="rr", address="192.0.2.9", remote_as=64512, password=SECRET)])
    async with served(node, tmp_path) as api:
        assert [each["password"] for each in await ok(api.get("/v1/peers"))] == ["***"]
        for answer in (api.patch("/v1/peers/rr", json={"hold_time_s": 30}), api.delete("/v1/peers/rr")):
            error = await refused(answer, 409)
            assert error["message"] == "id: peer 'rr' is set in the configuration file; change it there"


@in_loop
async def test_what_the_store_does_not_take_is_not_done(tmp_path: Path) -> None:
    store = FakeStore()
    node = FakeNode(store)
    async with served(node, tmp_path) as api:
        await filled(api)
        before = contents(node)
        store.refuses = "the store /s does not take the change: the disk is full"
        for answer in (
            api.post("/v1/networks", json={"name": "other"}),
            api.post("/v1/networks", json={"subnets": [{"cidr": "10.0.0.0/8"}]}),
            api.patch("/v1/bgpvpns/bgpvpn", json={"local_pref": 5}),
            api.delete("/v1/peers/peer"),
        ):
            error = await refused(answer, 503)
            assert (error["what"], error["where"], error["message"]) == ("unavailable", "store", store.refuses)
        assert contents(node) == before
        store.refuses = ""
        await ok(api.patch("/v1/bgpvpns/bgpvpn", json={"local_pref": 5}))
        assert {(change.kind, change.id): change.thing for change in store.load()[0]} == contents(node)


@in_loop
async def test_a_password_is_in_no_answer(tmp_path: Path) -> None:
    node = FakeNode()
    peer = {"address": "192.0.2.2", "remote_as": 1}
    async with served(node, tmp_path) as api:
        await filled(api)
        answers = [
            await api.post("/v1/peers", json={**peer, "name": "other", "password": SECRET}),
            await api.get("/v1/peers"),
            await api.get("/v1/peers/peer"),
            await api.get("/v1/peers", params={"password": SECRET}),
            await api.get("/v1/peers", params={"passwd": SECRET}),
            await api.patch("/v1/peers/peer", json={"password": SECRET + "-later"}),
            await api.patch("/v1/peers/peer", json={"password": [SECRET]}),
            await api.patch("/v1/peers/peer", json={"passwd": SECRET}),
            await api.patch("/v1/peers/peer", json={"password": SECRET + "\n"}),
            await api.patch("/v1/peers/peer", json={"password": SECRET * 20}),
            await api.patch("/v1/networks/network", json={"password": SECRET}),
            await api.post("/v1/peers", json={**peer, "address": "192.0.2.1", "password": SECRET}),
            await api.post("/v1/peers", content=f'{{"password": "{SECRET}"', headers={"content-type": "text/json"}),
            await api.post(
                "/v1/peers", content=f'{{"password": "{SECRET}"', headers={"content-type": "application/json"}
            ),
            await api.patch("/v1/peers/peer", json={"hold_time_s": 30}),
        ]
        assert [answer.status_code for answer in answers if SECRET in answer.text] == []
        assert [answer.status_code for answer in answers] == [
            *(201, 200, 200, 400, 400, 200, 400, 400, 400, 400, 400, 409, 415, 400, 200)
        ]
        assert answers[0].json()["password"] == answers[-1].json()["password"] == "***"
        assert node.intent.peers["r-1"].password == SECRET + "-later"
        assert (await ok(api.patch("/v1/peers/peer", json={"password": None})))["password"] is None


@in_loop
async def test_a_change_is_made_to_what_is_there_when_its_body_is_whole(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await filled(api)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"mtu": '
            begun.set()
            await go_on.wait()
            yield b"1400}"

        def slow_patch() -> asyncio.Task[httpx.Response]:
            begun.clear()
            go_on.clear()
            headers = {"content-type": "application/json"}
            return asyncio.ensure_future(api.patch("/v1/networks/network", content=slowly(), headers=headers))

        change = slow_patch()
        await begun.wait()
        await ok(api.patch("/v1/networks/network", json={"name": "renamed"}))
        await ok(api.post("/v1/networks", json={"id": "n-2", "name": "network"}), 201)
        go_on.set()
        assert (await ok(change))["id"] == "n-2", "the name is another's now"
        assert [node.intent.networks[id_].mtu for id_ in ("n-1", "n-2")] == [None, 1400]

        change = slow_patch()
        await begun.wait()
        await ok(api.delete("/v1/networks/network"), 204)
        go_on.set()
        await refused(change, 404)
        assert list(node.intent.networks) == ["n-1"]


@in_loop
async def test_lists_are_filtered_by_any_field(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        await filled(api)
        await ok(api.post("/v1/bgpvpns", json={"id": "v-2", "type": "l2", "vni": 7, "admin_state_up": False}), 201)
        for query, ids in [
            ("", ["v-1", "v-2"]),
            ("name=bgpvpn", ["v-1"]),
            ("name=", ["v-2"]),
            ("type=l2", ["v-2"]),
            ("type=l2&name=bgpvpn", []),
            ("vni=7", ["v-2"]),
            ("vni=", ["v-1"]),
            ("route_targets=64512:1", ["v-1"]),
            ("route_targets=", ["v-2"]),
            ("admin_state_up=false", ["v-2"]),
            ("project_id=default", ["v-1", "v-2"]),
        ]:
            assert [each["id"] for each in await ok(api.get(f"/v1/bgpvpns?{query}"))] == ids, query
        error = await refused(api.get("/v1/bgpvpns?nmae=x"), 400)
        assert error["where"] == "nmae"
        assert error["message"].startswith("nmae: is not known; there are id, name, project_id, type,")
        assert (await refused(api.get("/v1/bgpvpns?name=a&name=b"), 400))["where"] == "name"
        assert (await refused(api.delete("/v1/bgpvpns/bgpvpn?force=1"), 400))["where"] == "force"
        assert (await refused(api.get("/v1/peers?password=x"), 400))["where"] == "password"


@in_loop
async def test_what_is_not_there_and_what_cannot_be_done_there_is_said(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        for method, path, status in [
            ("GET", "/nosuch", 404),
            ("GET", "/v2/networks", 404),
            ("GET", "/v1/networks/", 404),
            ("GET", "/v1/networks/nosuch", 404),
            ("PATCH", "/v1/networks/nosuch", 404),
            ("DELETE", "/v1/networks/nosuch", 404),
            ("DELETE", "/v1/networks", 405),
            ("PUT", "/v1/networks/nosuch", 405),
            ("POST", "/v1/status", 405),
            ("OPTIONS", "/v1/networks", 405),
        ]:
            body = {"json": {}} if method == "PATCH" else {}
            await refused(api.request(method, path, **body), status)
        answer = await api.put("/v1/networks", json={})
        assert {word.strip() for word in answer.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}
        error = await refused(api.post("/v1/networks", data={"name": "blue"}), 415)
        assert error["value"] == "application/x-www-form-urlencoded"
        await ok(
            api.post("/v1/networks", content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}), 201
        )


@in_loop
async def test_a_body_above_its_bound_is_refused_and_one_at_it_is_read(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        headers = {"content-type": "application/json"}
        whole = b'{"name": "blue"' + b" " * ((1 << 20) - 16) + b"}"
        await ok(api.post("/v1/networks", content=whole, headers=headers), 201)
        error = await refused(api.post("/v1/networks", content=whole + b" ", headers=headers), 413)
        assert (error["what"], error["where"]) == ("too large", "body")
        assert len(node.intent.networks) == 1


@in_loop
async def test_a_body_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    headers = [(b"content-type", b"application/json")]
    with pytest.raises(ApiError, match="the body took more than 0 s") as error:
        await body_of(Request({"type": "http", "headers": headers}, receive=asyncio.Event().wait), within_s=0)
    assert error.value.status == 408


@in_loop
async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "intent.db")
    node = FakeNode(store)
    async with served(node, tmp_path) as api:
        await filled(api)
        await ok(api.patch("/v1/peers/peer", json={"hold_time_s": 30}))
        await ok(api.delete("/v1/associations/a-1"), 204)
        shown = {kind: await ok(api.get(f"/v1/{plural(kind)}")) for kind in KINDS}
    store.close()

    store = SqliteStore(tmp_path / "intent.db")
    again = FakeNode(store)
    assert again.intent.load(store.load()[0]) == []
    store.close()
    assert contents(again) == contents(node)
    async with served(again, tmp_path) as api:
        assert {kind: await ok(api.get(f"/v1/{plural(kind)}")) for kind in KINDS} == shown


@in_loop
async def test_a_head_is_an_answer_without_its_body(tmp_path: Path) -> None:
    node = FakeNode()
    node.intent.load(node.intent.plan([Network(id="n-1")], 1.0))
    async with served(node, tmp_path) as api:
        for path in ("/v1/networks", "/v1/networks/n-1", "/v1/status", "/metrics", "/openapi.json"):
            head, get = await api.head(path), await api.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers == get.headers
        assert (await api.head("/v1/networks/nosuch")).status_code == 404
        head = await api.head("/v1/events")
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert node.watchers == []


@in_loop
async def test_a_secret_is_never_in_an_answer(tmp_path: Path) -> None:
    key = {"send_id": 1, "receive_id": 1, "secret": "s3cret"}
    peer = {"name": "rr", "address": "192.0.2.1", "remote_as": 64512}
    async with served(FakeNode(), tmp_path) as api:
        for wrong in (
            {"tcp_ao": [{**key, "secret": 53}]},
            {"tcp_ao": [{**key, "secret": "s3cret\n"}]},
            {"tcp_ao": [{**key, "algorithm": "rot13"}]},
            {"tcp_ao": [key, key]},
            {"tcp_ao": [{**key, "send_id": 256}]},
            {"tcp_ao": [{**key, "secret": "***"}]},
            {"tcp_ao": [key], "password": "s3cret"},
            {"password": "s3cret\n"},
        ):
            answer = await api.post("/v1/peers", json={**peer, **wrong})
            assert (answer.status_code, "s3cret" in answer.text, "53" in answer.text) == (400, False, False), (
                answer.text
            )
        made = await ok(api.post("/v1/peers", json={**peer, "tcp_ao": [key]}), 201)
        assert made["tcp_ao"] == [{**key, "secret": "***", "algorithm": "hmac-sha-1-96"}]
        changed = await ok(api.patch("/v1/peers/rr", json={"hold_time_s": 30}))
        assert (changed["hold_time_s"], changed["tcp_ao"]) == (30, made["tcp_ao"])
        assert "s3cret" not in (await api.get("/v1/peers")).text
