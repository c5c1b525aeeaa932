"""Lists, errors, versions and extensions, as every resource of Neutron's API has them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bgpvpn.objects import Network, Peer, Port, Router, Speaker, Subnet
from tests.bgpvpn.api.neutron.asking import OWNER, Asked, asked, one
from tests.bgpvpn.api.serving import in_loop, ok, served
from tests.fakes.node import FakeNode

MAC = "02:00:00:00:00:{:02x}"


async def of_each(api: Asked) -> dict[str, Any]:
    """Make one of each resource; return them by their path."""
    made: dict[str, Any] = {}
    outside = await api.made("networks", name="outside", router__external=True)
    await api.made("subnets", network_id=outside["id"], ip_version=4, cidr="192.0.2.0/24")
    made["networks"] = network = await api.made("networks", name="n")
    made["subnets"] = await api.made("subnets", network_id=network["id"], ip_version=4, cidr="10.0.0.0/24")
    made["ports"] = port = await api.made("ports", network_id=network["id"])
    gateway = {"network_id": outside["id"]}
    made["routers"] = router = await api.made("routers", external_gateway_info=gateway)
    await api.ok("PUT", f"routers/{router['id']}/add_router_interface", {"subnet_id": made["subnets"]["id"]})
    made["floatingips"] = await api.made("floatingips", floating_network_id=outside["id"], port_id=port["id"])
    made["bgpvpn/bgpvpns"] = vpn = await api.made("bgpvpn/bgpvpns")
    below = f"bgpvpn/bgpvpns/{vpn['id']}"
    made[f"{below}/router_associations"] = await api.made(f"{below}/router_associations", router_id=router["id"])
    made[f"{below}/port_associations"] = await api.made(f"{below}/port_associations", port_id=port["id"])
    made["bgp-speakers"] = await api.made("bgp-speakers", local_as=64512, ip_version=4)
    made["bgp-peers"] = await api.made("bgp-peers", peer_ip="192.0.2.9", remote_as=64500, auth_type="none")
    return made


@in_loop
async def test_every_field_that_is_shown_can_be_filtered_and_sorted_by_and_chosen() -> None:
    async with asked(FakeNode()) as api:
        for path in (*(await of_each(api)), "agents"):
            row = (await api.listed(path))[0]
            for field, value in row.items():
                if not isinstance(value, list | dict):
                    text = "" if value is None else str(value)
                    found = await api.listed(path, **{field: text})
                    assert row["id"] in [each["id"] for each in found], (path, field)
                await api.listed(path, sort_key=field, sort_dir="desc")
                (chosen, *_) = await api.listed(path, id=row["id"], fields=field)
                both = {"tenant_id", "project_id"} if field in ("tenant_id", "project_id") else {field}
                assert chosen == {name: row[name] for name in row if name in both}, (path, field)


@in_loop
async def test_every_resource_shows_the_same_in_a_list_as_by_itself_and_after_it_was_made() -> None:
    async with asked(FakeNode()) as api:
        made = await of_each(api)
        for path, thing in made.items():
            alone = await api.shown(path, thing["id"])
            assert alone in await api.listed(path)
            assert alone.keys() == thing.keys()
            assert (await api.ok("PUT", f"{path}/{thing['id']}", {one(path): {}}))[one(path)] == alone
            assert (await api.ok("GET", f"{path}/{thing['id']}?fields=id"))[one(path)] == {"id": thing["id"]}


@in_loop
async def test_what_is_shown_can_be_given_back_but_for_what_is_fixed() -> None:
    """As clients do that read, change and write the whole."""
    async with asked(FakeNode()) as api:
        for path, thing in (await of_each(api)).items():
            for field, value in thing.items():
                answer = await api.ask("PUT", f"{path}/{thing['id']}", {one(path): {field: value}})
                if answer.status_code == 400:
                    assert "read-only" in answer.text, (path, field, answer.text)
                else:
                    assert answer.status_code == 200, (path, field, answer.text)
                    assert answer.json()[one(path)][field] == value or field.endswith(("_at", "_number"))


@pytest.mark.parametrize(
    "query",
    [
        {"color": "red"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "1", "marker": "nowhere"},
        {"sort_key": "name"},
        {"sort_key": "color", "sort_dir": "asc"},
        {"sort_key": "name", "sort_dir": "up"},
    ],
)
@in_loop
async def test_a_list_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    async with asked(FakeNode()) as api:
        await api.made("networks")
        answer = await api.client.get("/v2.0/networks", params=query)
        assert answer.status_code == 400
        assert list(answer.json()) == ["NeutronError"]


@in_loop
async def test_a_list_is_sorted_by_its_keys_in_their_order() -> None:
    node = FakeNode()
    node.write([Network(id=f"n{number}", project_id="ab"[number % 2], mtu=1000 + number // 2) for number in range(6)])
    async with asked(node) as api:
        rows = await api.listed("networks", sort_key=["project_id", "mtu"], sort_dir=["desc", "asc"])
        assert [each["id"] for each in rows] == ["n1", "n3", "n5", "n0", "n2", "n4"]


@in_loop
async def test_the_pages_of_a_list_are_the_list_forwards_and_backwards() -> None:
    node = FakeNode()
    node.write([Network(id=f"n{number}", name=f"{9 - number}") for number in range(7)])
    async with asked(node) as api:
        everything = [each["id"] for each in await api.listed("networks", sort_key="name", sort_dir="asc")]
        for limit in (1, 2, 3, 7, 8):
            pages, backwards = [], []
            url = f"/v2.0/networks?sort_key=name&sort_dir=asc&limit={limit}&fields=id&fields=name"
            while url:
                body = (await api.client.get(url)).json()
                pages.append([each["id"] for each in body["networks"]])
                links = {each["rel"]: each["href"] for each in body.get("networks_links", [])}
                last, url = url, links.get("next", "")
            assert [id_ for page in pages for id_ in page] == everything, limit
            assert all(len(page) == limit for page in pages[:-1])
            url = last
            while url:
                body = (await api.client.get(url)).json()
                backwards.append([each["id"] for each in body["networks"]])
                links = {each["rel"]: each["href"] for each in body.get("networks_links", [])}
                url = links.get("previous", "")
            assert sorted(id_ for page in backwards for id_ in page) == sorted(everything), limit
            assert all(later[0] > earlier[-1] for later, earlier in pairwise(reversed(backwards))) or limit > 6


@in_loop
async def test_tags_are_never_there() -> None:
    async with asked(FakeNode()) as api:
        await api.made("networks")
        assert await api.listed("networks", tags="red") == []
        assert len(await api.listed("networks", **{"not-tags": "red"})) == 1
        kind, message = await api.refused("POST", "networks", 400, {"network": {"tags": ["red"]}})
        assert (kind, "tags" in message) == ("HTTPBadRequest", True)


@in_loop
async def test_only_operators_see_speakers_peers_and_agents() -> None:
    node = FakeNode()
    node.write([Peer(id="p", address="192.0.2.1", remote_as=1), Speaker(id="s", project_id="blue", local_as=1)])
    async with asked(node, OWNER) as api:
        for path in ("bgp-speakers", "bgp-speakers/s", "bgp-peers", "bgp-peers/p", "agents"):
            assert (await api.refused("GET", path, 403))[0] == "PolicyNotAuthorized"
        for path in ("bgp-speakers/s/get_advertised_routes", "bgp-speakers/s/bgp-dragents"):
            assert (await api.refused("GET", path, 403))[0] == "PolicyNotAuthorized"
        body = {"bgp_peer_id": "p"}
        assert (await api.refused("PUT", "bgp-speakers/s/add_bgp_peer", 403, body))[0] == "PolicyNotAuthorized"


@in_loop
async def test_an_owner_sees_and_makes_what_is_of_its_project() -> None:
    node = FakeNode()
    node.write(
        [
            Network(id="mine", project_id="blue"),
            Network(id="theirs"),
            Network(id="out", external=True),
            Subnet(id="s", network_id="theirs", cidr="10.0.0.0/24"),
            Port(id="p", network_id="theirs", mac_address=MAC.format(1)),
            Router(id="r", subnet_ids=["s"]),  # type: ignore[arg-type]
        ]
    )
    async with asked(node, OWNER) as api:
        assert {each["id"] for each in await api.listed("networks")} == {"mine", "out"}
        assert await api.listed("subnets") == await api.listed("ports") == await api.listed("routers") == []
        assert (await api.refused("GET", "ports/p", 404))[0] == "PortNotFound"
        assert (await api.refused("DELETE", "networks/theirs", 404))[0] == "NetworkNotFound"
        assert (await api.refused("DELETE", "networks/out", 403))[0] == "PolicyNotAuthorized"
        made = await api.made("networks", name="new")
        assert made["project_id"] == "blue"
        body: dict[str, Any] = {"network": {"project_id": "red"}}
        assert (await api.refused("POST", "networks", 403, body))[0] == "PolicyNotAuthorized"
        body = {"subnet": {"network_id": "theirs", "ip_version": 4, "cidr": "10.1.0.0/24"}}
        assert (await api.refused("POST", "subnets", 404, body))[0] == "NetworkNotFound"
        port = await api.made("ports", network_id=made["id"])
        assert (port["project_id"], port["binding:profile"]) == ("blue", {})
        body = {"port": {"network_id": made["id"], "binding:profile": {"interface": "eth0"}}}
        assert (await api.refused("POST", "ports", 403, body))[0] == "PolicyNotAuthorized"


@in_loop
async def test_clients_find_the_version_and_the_extensions(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        (version,) = (await ok(api.get("/")))["versions"]
        assert (version["id"], version["status"]) == ("v2.0", "CURRENT")
        assert version["links"] == [{"rel": "self", "href": "http://node/v2.0/"}]
        names = {each["collection"] for each in (await ok(api.get("/v2.0/")))["resources"]}
        assert {"networks", "bgpvpns", "bgp_speakers", "agents"} <= names
        aliases = {each["alias"] for each in (await ok(api.get("/v2.0/extensions")))["extensions"]}
        assert aliases >= {"bgpvpn", "bgpvpn-routes-control", "bgpvpn-vni", "bgp", "bgp_dragent_scheduler", "bgpvpnd"}
        assert (await ok(api.get("/v2.0/extensions/bgpvpn")))["extension"]["name"] == "BGPVPN Extension"
        answer = await ok(api.get("/v2.0/extensions/nonsense"), 404)
        assert answer["NeutronError"]["type"] == "ExtensionNotFound"
        await ok(api.get("/v1/networks"))


@in_loop
async def test_a_body_that_is_too_large_or_no_json_is_refused_as_neutron_would() -> None:
    async with asked(FakeNode()) as api:
        answer = await api.client.post("/v2.0/networks", content=b"name=blue")
        assert (answer.status_code, list(answer.json())) == (415, ["NeutronError"])
        headers = {"content-type": "application/json"}
        answer = await api.client.post("/v2.0/networks", content=b" " * (1 << 21), headers=headers)
        assert (answer.status_code, list(answer.json())) == (413, ["NeutronError"])
