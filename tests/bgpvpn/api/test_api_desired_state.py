from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from bgpvpn.objects import KINDS, Network, Peer, plural
from tests.bgpvpn.api.serving import in_loop, ok, refused, served
from tests.fakes.node import FakeNode, FakeStore

NETWORK = {"id": "o.n", "name": "blue"}
SUBNET = {"id": "o.s", "network_id": "o.n", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"}
PORT = {"id": "o.p", "network_id": "o.n", "mac_address": "02:00:00:00:00:01", "ip_addresses": ["10.0.0.5"]}
VPN = {"id": "o.v", "route_targets": ["64512:1"]}
BOUND = {"id": "o.a", "bgpvpn_id": "o.v", "network_id": "o.n"}
ALL: dict[str, Any] = {
    "networks": [NETWORK],
    "subnets": [SUBNET],
    "ports": [PORT],
    "bgpvpns": [VPN],
    "associations": [BOUND],
}


def ids(node: FakeNode) -> set[str]:
    return {id_ for kind in KINDS for id_ in node.intent.tables[kind].rows}


async def put(api: httpx.AsyncClient, **fields: Any) -> Any:
    return await ok(api.put("/v1/intent", json={"owner": "o", **fields}))


@in_loop
async def test_everything_is_made_changed_and_removed_in_one_write(tmp_path: Path) -> None:
    store = FakeStore()
    node = FakeNode(store)
    async with served(node, tmp_path) as api:
        made = await put(api, **ALL)
        assert made["changed"] == {
            "made": [
                {"kind": kind, "id": f"o.{kind[0] if kind != 'bgpvpn' else 'v'}"}
                for kind in ("network", "subnet", "port", "bgpvpn", "association")
            ],
            "changed": [],
            "removed": [],
        }
        assert made["refused"] == []
        again = await put(api, **ALL)
        assert again["changed"] == {"made": [], "changed": [], "removed": []}
        written = len(store.changes)
        left = await put(
            api, networks=[{"id": "o.n", "name": "red"}], subnets=[], ports=[], bgpvpns=[], associations=[]
        )
        assert left["changed"]["changed"] == [{"kind": "network", "id": "o.n"}]
        assert {each["id"] for each in left["changed"]["removed"]} == {"o.s", "o.p", "o.v", "o.a"}
        assert len(store.changes) == written + 5
        assert (await ok(api.get("/v1/networks")))[0]["name"] == "red"


@in_loop
async def test_ports_that_exchange_addresses_are_changed_and_others_are_not(tmp_path: Path) -> None:
    node = FakeNode()
    ports = [
        {**PORT, "id": f"o.p{number}", "mac_address": f"02:00:00:00:00:0{number}", "ip_addresses": [f"10.0.0.{number}"]}
        for number in (5, 6, 7)
    ]
    async with served(node, tmp_path) as api:
        await put(api, **{**ALL, "ports": ports})
        ports[0]["ip_addresses"], ports[1]["ip_addresses"] = ports[1]["ip_addresses"], ports[0]["ip_addresses"]
        done = await put(api, **{**ALL, "ports": ports})
    assert done["refused"] == []
    assert {each["id"] for each in done["changed"]["changed"]} == {"o.p5", "o.p6"}
    assert done["changed"]["made"] == done["changed"]["removed"] == []
    assert node.intent.ports["o.p5"].ip_addresses == ("10.0.0.6",)


@in_loop
async def test_kinds_that_are_not_listed_and_what_is_not_the_owners_stay(tmp_path: Path) -> None:
    node = FakeNode(configured=[Network(id="mine"), Network(id="of")])
    async with served(node, tmp_path) as api:
        await put(api, **ALL)
        await ok(api.put("/v1/intent", json={"owner": "other", "networks": [{"id": "other.n"}]}))
        await put(api, associations=[])
        assert ids(node) == {"mine", "of", "o.n", "o.s", "o.p", "o.v", "other.n"}
        await put(api, **{plural(kind): [] for kind in KINDS})
        assert ids(node) == {"mine", "of", "other.n"}


@in_loop
async def test_what_cannot_be_fails_the_whole_or_is_left_out_as_it_was_asked(tmp_path: Path) -> None:
    node = FakeNode()
    bad = {**PORT, "ip_addresses": ["192.0.2.1"]}
    worse = {**PORT, "id": "o.q", "mac_address": "nonsense"}
    async with served(node, tmp_path) as api:
        error = await refused(api.put("/v1/intent", json={"owner": "o", **ALL, "ports": [bad]}), 400)
        assert error["where"] == "ports[0].ip_addresses"
        assert error["message"] == "ports[0].ip_addresses: 192.0.2.1 is in no subnet of network 'blue'"
        error = await refused(api.put("/v1/intent", json={"owner": "o", **ALL, "ports": [PORT, worse]}), 400)
        assert error["where"] == "ports[1].mac_address"
        assert ids(node) == set()
        done = await put(api, **{**ALL, "ports": [bad, worse]}, refused="skip")
        assert [(each["id"], each["where"]) for each in done["refused"]] == [
            ("o.q", "mac_address"),
            ("o.p", "ip_addresses"),
        ]
        assert ids(node) == {"o.n", "o.s", "o.v", "o.a"}
        await put(api, **ALL)
        done = await put(api, **{**ALL, "ports": [{**worse, "id": "o.p"}]}, refused="skip")
        assert [each["id"] for each in done["refused"]] == ["o.p"]
        assert node.intent.ports["o.p"].ip_addresses == ("10.0.0.5",), "it stays as it was"


@in_loop
async def test_nothing_is_removed_when_what_others_have_is_in_the_way(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        await put(api, **ALL)
        theirs = {**PORT, "id": "theirs", "mac_address": "02:00:00:00:00:02", "ip_addresses": ["10.0.0.6"]}
        await ok(api.post("/v1/ports", json=theirs), 201)
        nothing: dict[str, list[Any]] = {name: [] for name in ALL}
        error = await refused(api.put("/v1/intent", json={"owner": "o", **nothing}), 409)
        assert error["where"] == "subnets"
        assert "subnets: 'o.s' cannot be removed: id: ports have addresses in subnet 10.0.0.0/24" in error["message"]
        assert "networks: 'o.n' cannot be removed: id: network 'blue' has ports: theirs" in error["message"]
        assert len(ids(node)) == 6


@in_loop
async def test_who_has_not_seen_the_last_write_does_not_undo_it(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        before = await ok(api.get("/v1/intent?owner=o"))
        assert before == {
            "owner": "o",
            "serial": before["serial"],
            "age_s": None,
            "objects": {plural(kind): 0 for kind in KINDS},
        }
        first = await put(api, **ALL, serial=before["serial"])
        assert first["serial"] != before["serial"]
        late = api.put("/v1/intent", json={"owner": "o", "networks": [], "serial": before["serial"]})
        assert (await refused(late, 409))["where"] == "serial"
        after = await ok(api.get("/v1/intent?owner=o"))
        assert after["serial"] == first["serial"]
        assert 0 <= after["age_s"] < 10
        assert after["objects"]["ports"] == 1
        assert (await ok(api.get("/v1/intent?owner=other")))["age_s"] is None
        await put(api, **ALL, serial=after["serial"])
        await put(api, **ALL)
    async with served(node, tmp_path) as api:
        stale = api.put("/v1/intent", json={"owner": "o", **ALL, "serial": first["serial"]})
        assert (await refused(stale, 409))["where"] == "serial", "the daemon was started anew"


@in_loop
async def test_what_is_kept_stays_with_its_secrets(tmp_path: Path) -> None:
    node = FakeNode()
    peer = {"id": "o.r", "address": "192.0.2.1", "remote_as": 64512, "password": "s3cret"}
    async with served(node, tmp_path) as api:
        await put(api, peers=[peer, {**peer, "id": "o.t", "address": "192.0.2.2"}])
        shown = {**peer, "password": "***"}
        error = await refused(api.put("/v1/intent", json={"owner": "o", "peers": [shown]}), 400)
        assert error["where"] == "peers[0].password"
        await put(api, peers=[], keep=["o.r", "o.nowhere"])
        kept = node.intent.peers["o.r"]
        assert isinstance(kept, Peer)
        assert kept.password == "s3cret"
        assert ids(node) == {"o.r"}


@in_loop
async def test_nonsense_is_refused_with_its_place_and_nothing_is_done(tmp_path: Path) -> None:
    node = FakeNode()
    async with served(node, tmp_path) as api:
        cases: list[tuple[dict[str, Any], str]] = [
            ({}, "owner"),
            ({"owner": ""}, "owner"),
            ({"owner": "a.b"}, "owner"),
            ({"owner": "o", "refused": "perhaps"}, "refused"),
            ({"owner": "o", "nets": []}, "nets"),
            ({"owner": "o", "networks": [{"name": "blue"}]}, "networks[0].id"),
            ({"owner": "o", "networks": [{"id": "n"}]}, "networks[0].id"),
            ({"owner": "o", "networks": [NETWORK, NETWORK]}, "networks[1].id"),
            ({"owner": "o", "networks": [{**NETWORK, "subnets": [{"cidr": "10.0.0.0/8"}]}]}, "networks[0].subnets"),
            ({"owner": "o", "networks": [{**NETWORK, "mtu": "big"}]}, "networks[0].mtu"),
            ({"owner": "o", "networks": [{**NETWORK, "mtu": 1}]}, "networks[0].mtu"),
            ({"owner": "o", "policies": [{"name": "p"}]}, "policies[0].name"),
            ({"owner": "o", "networks": {}}, "networks"),
        ]
        for body, where in cases:
            error = await refused(api.put("/v1/intent", json=body), 400)
            assert error["where"] == where, body
        await refused(api.get("/v1/intent"), 400)
        await refused(api.get("/v1/intent?owner=a.b"), 400)
        assert ids(node) == set()


@in_loop
async def test_a_store_that_takes_nothing_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = FakeStore()
    node = FakeNode(store)
    async with served(node, tmp_path) as api:
        before = await ok(api.get("/v1/intent?owner=o"))
        store.refuses = "the disk is full"
        await refused(api.put("/v1/intent", json={"owner": "o", **ALL}), 503)
        assert ids(node) == set()
        assert (await ok(api.get("/v1/intent?owner=o"))) == before
