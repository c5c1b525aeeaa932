"""Networks, subnets, ports, routers and floating addresses as Neutron has them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bgpvpn.api.neutron.errors import Conflict
from bgpvpn.api.neutron.taken import Taken
from bgpvpn.objects import Network, Port, Router, Subnet
from tests.bgpvpn.api.neutron.asking import OWNER, Asked, asked
from tests.bgpvpn.api.serving import in_loop
from tests.fakes.node import FakeNode, contents

MAC = "02:00:00:00:00:01"
NOWHERE = "11111111-2222-4333-8444-555555555555"


async def subnet(api: Asked, cidr: str = "10.0.0.0/24", network: Any = None, **fields: Any) -> Any:
    """Make a subnet, in a network of its own if none is named."""
    network = network or await api.made("networks")
    return await api.made("subnets", network_id=network["id"], ip_version=6 if ":" in cidr else 4, cidr=cidr, **fields)


async def outside(api: Asked, cidr: str = "192.0.2.0/28") -> Any:
    """Make an external network with a subnet."""
    network = await api.made("networks", router__external=True)
    await subnet(api, cidr, network)
    return network


async def routed(api: Asked, cidr: str = "10.0.0.0/24", **fields: Any) -> tuple[Any, Any]:
    """Make a router in a subnet."""
    router, within = await api.made("routers", **fields), await subnet(api, cidr)
    await api.ok("PUT", f"routers/{router['id']}/add_router_interface", {"subnet_id": within["id"]})
    return router, within


def addresses(port: Any) -> list[str]:
    return [each["ip_address"] for each in port["fixed_ips"]]


@in_loop
async def test_a_network_keeps_what_it_can_and_refuses_what_it_cannot() -> None:
    async with asked(FakeNode()) as api:
        made = await api.made("networks", name="n", mtu="1400", admin_state_up=True, shared=False, description="")
        assert made.items() >= {"mtu": 1400, "status": "ACTIVE", "router:external": False, "subnets": []}.items()
        assert (await api.changed("networks", made["id"], mtu=0))["mtu"] is None
        for field, value in (
            ("description", "x"),
            ("admin_state_up", False),
            ("shared", True),
            ("port_security_enabled", True),
            ("provider:network_type", "vlan"),
            ("mtu", 10),
            ("name", "a/b"),
        ):
            kind, message = await api.refused("POST", "networks", 400, {"network": {field: value}})
            assert (kind, field in message) == ("HTTPBadRequest", True), message


@in_loop
async def test_networks_are_made_several_at_once_or_none() -> None:
    node = FakeNode()
    async with asked(node) as api:
        both = await api.ok("POST", "networks", {"networks": [{"name": "a"}, {"name": "b"}]}, 201)
        assert [each["name"] for each in both["networks"]] == ["a", "b"]
        await api.refused("POST", "networks", 409, {"networks": [{"name": "c"}, {"name": "b"}]})
        await api.refused("POST", "networks", 400, {"networks": [{"name": "c"}, {"nonsense": 1}]})
        await api.refused("POST", "networks", 400, {"networks": []})
        assert len(contents(node)) == 2


@in_loop
async def test_a_network_in_use_stays() -> None:
    async with asked(FakeNode()) as api:
        within = await subnet(api)
        port = await api.made("ports", network_id=within["network_id"])
        assert (await api.refused("DELETE", f"networks/{within['network_id']}", 409))[0] == "NetworkInUse"
        assert (await api.refused("DELETE", f"subnets/{within['id']}", 409))[0] == "SubnetInUse"
        await api.ok("DELETE", f"ports/{port['id']}", status=204)
        await api.ok("DELETE", f"networks/{within['network_id']}", status=204)
        assert (await api.refused("GET", f"subnets/{within['id']}", 404))[0] == "SubnetNotFound"


@pytest.mark.parametrize(
    ("cidr", "gateway", "pools"),
    [
        ("10.0.0.0/24", "10.0.0.1", [("10.0.0.2", "10.0.0.254")]),
        ("10.0.0.0/30", "10.0.0.1", [("10.0.0.2", "10.0.0.2")]),
        ("10.0.0.0/31", None, [("10.0.0.0", "10.0.0.1")]),
        ("10.0.0.1/32", None, [("10.0.0.1", "10.0.0.1")]),
        ("2001:db8::/64", "2001:db8::1", [("2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff")]),
    ],
)
@in_loop
async def test_a_subnet_has_the_first_address_as_its_gateway(cidr: str, gateway: str, pools: list[Any]) -> None:
    async with asked(FakeNode()) as api:
        made = await subnet(api, cidr)
        assert made["gateway_ip"] == gateway
        assert made["allocation_pools"] == [{"start": start, "end": end} for start, end in pools]
        port = await api.made("ports", network_id=made["network_id"])
        assert addresses(port) == [pools[0][0]]


@in_loop
async def test_a_subnet_may_have_another_gateway_or_none() -> None:
    async with asked(FakeNode()) as api:
        assert (await subnet(api, gateway_ip=None))["gateway_ip"] is None
        made = await subnet(api, gateway_ip="10.0.0.9", enable_dhcp=True)
        assert (made["gateway_ip"], made["enable_dhcp"]) == ("10.0.0.9", False)
        pools = [{"start": "10.0.0.1", "end": "10.0.0.8"}, {"start": "10.0.0.10", "end": "10.0.0.254"}]
        assert made["allocation_pools"] == pools
        assert (await api.changed("subnets", made["id"], gateway_ip="10.0.0.254"))["gateway_ip"] == "10.0.0.254"
        assert (await api.changed("subnets", made["id"], address_scope="s"))["address_scope"] == "s"
        assert (await api.shown("networks", made["network_id"]))["ipv4_address_scope"] == "s"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"cidr": "10.0.0.1/24"}, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/33"}, "HTTPBadRequest"),
        ({"cidr": "0.0.0.0/0"}, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "ip_version": 6}, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "ip_version": 5}, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "10.1.0.1"}, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.255"}, "InvalidInput"),
        ({"cidr": "10.0.0.128/25"}, "InvalidInput"),
        ({"cidr": "10.1.0.0/24", "dns_nameservers": ["192.0.2.1"]}, "HTTPBadRequest"),
        ({"cidr": "10.1.0.0/24", "allocation_pools": [{"start": "10.1.0.7", "end": "10.1.0.9"}]}, "HTTPBadRequest"),
        ({"cidr": "10.1.0.0/24", "subnetpool_id": NOWHERE}, "HTTPBadRequest"),
        ({"cidr": "10.1.0.0/24", "enable_dhcp": {}}, "HTTPBadRequest"),
        ({}, "HTTPBadRequest"),
    ],
)
@in_loop
async def test_a_subnet_that_cannot_be_is_refused(fields: dict[str, Any], kind: str) -> None:
    async with asked(FakeNode()) as api:
        network = await api.made("networks")
        if fields.get("cidr") == "10.0.0.128/25":
            await subnet(api, network=network)
        body = {"subnet": {"network_id": network["id"], "ip_version": 4, **fields}}
        assert (await api.refused("POST", "subnets", 400, body))[0] == kind


@in_loop
async def test_a_port_gets_an_address_of_each_family_and_a_mac_address_of_neutrons_range() -> None:
    async with asked(FakeNode()) as api:
        v4 = await subnet(api)
        network = {"id": v4["network_id"]}
        v6 = await subnet(api, "2001:db8::/64", network)
        made = await api.made("ports", network_id=network["id"])
        assert made["fixed_ips"] == [
            {"subnet_id": v4["id"], "ip_address": "10.0.0.2"},
            {"subnet_id": v6["id"], "ip_address": "2001:db8::2"},
        ]
        assert re.fullmatch("fa:16:3e(:[0-9a-f]{2}){3}", made["mac_address"])
        assert made["binding:profile"] == {"interface": f"tap{made['id'][:11]}", "netns": "", "ovs": None}
        assert addresses(await api.made("ports", network_id=network["id"])) == ["10.0.0.3", "2001:db8::3"]
        several = {"ports": [{"network_id": network["id"]}, {"network_id": network["id"]}]}
        both = (await api.ok("POST", "ports", several, 201))["ports"]
        assert [addresses(each)[0] for each in both] == ["10.0.0.4", "10.0.0.5"]
        assert addresses(await api.made("ports", network_id=network["id"], fixed_ips=[])) == []
        only_v6 = await api.made("ports", network_id=network["id"], fixed_ips=[{"subnet_id": v6["id"]}])
        assert addresses(only_v6) == ["2001:db8::6"]


@in_loop
async def test_a_subnet_that_is_full_gives_no_address() -> None:
    async with asked(FakeNode()) as api:
        within = await subnet(api, "10.0.0.0/30")
        first = await api.made("ports", network_id=within["network_id"])
        body = {"port": {"network_id": within["network_id"]}}
        assert (await api.refused("POST", "ports", 409, body))[0] == "IpAddressGenerationFailure"
        await api.ok("DELETE", f"ports/{first['id']}", status=204)
        assert addresses(await api.made("ports", network_id=within["network_id"])) == ["10.0.0.2"]
        await subnet(api, "10.0.1.0/24", {"id": within["network_id"]})
        assert addresses(await api.made("ports", network_id=within["network_id"])) == ["10.0.1.2"], "the next has some"


@pytest.mark.parametrize(
    ("fixed_ips", "status", "kind"),
    [
        ([{"ip_address": "10.9.0.1"}], 400, "InvalidIpForNetwork"),
        ([{"ip_address": "10.0.0.1"}], 409, "IpAddressAlreadyAllocated"),
        ([{"ip_address": "10.0.0.2"}], 409, "IpAddressAlreadyAllocated"),
        ([{"ip_address": "10.0.0.255"}], 400, "InvalidIpForNetwork"),
        ([{"ip_address": "nonsense"}], 400, "HTTPBadRequest"),
        ([{"ip_address": 7}], 400, "HTTPBadRequest"),
        ([{"ip_address": "10.0.0.5", "color": "red"}], 400, "HTTPBadRequest"),
        ([{}], 400, "HTTPBadRequest"),
        (["10.0.0.5"], 400, "HTTPBadRequest"),
        ({"ip_address": "10.0.0.5"}, 400, "HTTPBadRequest"),
        ([{"subnet_id": NOWHERE}], 400, "InvalidInput"),
        ([{"subnet_id": ["x"]}], 400, "InvalidInput"),
    ],
)
@in_loop
async def test_an_address_that_a_port_cannot_have_is_refused(fixed_ips: Any, status: int, kind: str) -> None:
    async with asked(FakeNode()) as api:
        within = await subnet(api)
        await api.made("ports", network_id=within["network_id"])
        body = {"port": {"network_id": within["network_id"], "fixed_ips": fixed_ips}}
        assert (await api.refused("POST", "ports", status, body))[0] == kind


@in_loop
async def test_a_port_is_where_its_binding_says_and_what_it_is_not_told_stays() -> None:
    node = FakeNode()
    async with asked(node) as api:
        within = await subnet(api)
        profile = {"interface": "veth1", "netns": "vm1"}
        made = await api.made(
            "ports",
            network_id=within["network_id"],
            mac_address=MAC.upper(),
            device_owner="compute:nova",
            binding__host_id="pe1",
            binding__profile=profile,
        )
        assert (made["mac_address"], made["device_owner"], made["binding:host_id"]) == (MAC, "compute:nova", "pe1")
        assert made["binding:profile"] == {**profile, "ovs": None}
        assert (await api.changed("ports", made["id"], name="p"))["binding:profile"] == {**profile, "ovs": None}
        plug = {"bridge": "br-int", "port": "7", "vlan": 3, "fallback_port": None, "fallback_src_mac": None}
        changed = await api.changed("ports", made["id"], **{"binding:profile": {"ovs": plug}})
        assert changed["binding:profile"] == {"interface": f"tap{made['id'][:11]}", "netns": "", "ovs": plug}
        assert changed["binding:vif_type"] == "ovs"
        for wrong in ({"color": 1}, {"interface": "a/b"}, {"ovs": {"bridge": "b"}}, {"netns": 7}):
            await api.refused("PUT", f"ports/{made['id']}", 400, {"port": {"binding:profile": wrong}})
        assert await api.shown("ports", made["id"]) == changed
        again = {"port": {"network_id": within["network_id"], "mac_address": MAC}}
        assert (await api.refused("POST", "ports", 409, again))[0] == "MacAddressInUse"
        for field, value in (("security_groups", [NOWHERE]), ("device_id", "vm"), ("network_id", NOWHERE)):
            await api.refused("PUT", f"ports/{made['id']}", 400, {"port": {field: value}})


@in_loop
async def test_a_changed_port_keeps_the_address_of_a_subnet_that_is_named_without_one() -> None:
    async with asked(FakeNode()) as api:
        within = await subnet(api)
        made = await api.made("ports", network_id=within["network_id"], fixed_ips=[{"ip_address": "10.0.0.77"}])
        wanted: list[Any] = [{"subnet_id": within["id"]}, {"subnet_id": within["id"]}]
        assert addresses(await api.changed("ports", made["id"], fixed_ips=wanted)) == ["10.0.0.77", "10.0.0.2"]
        wanted = [{"subnet_id": within["id"], "ip_address": "10.0.0.5"}]
        assert addresses(await api.changed("ports", made["id"], fixed_ips=wanted)) == ["10.0.0.5"]
        query = {"fixed_ips": "ip_address=10.0.0.5"}
        assert [each["id"] for each in await api.listed("ports", **query)] == [made["id"]]
        assert await api.listed("ports", fixed_ips="ip_address=10.0.0.6") == []
        assert len(await api.listed("ports", fixed_ips=f"subnet_id={within['id']}")) == 1


@in_loop
async def test_a_port_of_no_network_of_the_node_is_shown_as_well() -> None:
    node = FakeNode()
    node.write([Port(id="p", mac_address=MAC, ip_addresses=("10.0.0.5/24",))])
    async with asked(node) as api:
        shown = await api.shown("ports", "p")
        assert shown["network_id"] is None
        assert shown["fixed_ips"] == [{"subnet_id": None, "ip_address": "10.0.0.5"}]
        assert (await api.changed("ports", "p", name="x"))["name"] == "x"
        assert node.intent.ports["p"].ip_addresses == ("10.0.0.5/24",)


def test_addresses_that_are_made_up_are_nobodys_yet() -> None:
    node = FakeNode()
    node.write([Network(id="n"), Subnet(id="s", network_id="n", cidr="10.0.0.0/29", gateway_ip="10.0.0.1")])
    node.write([Port(id="p", network_id="n", mac_address=MAC, ip_addresses=("10.0.0.3",))])
    taken = Taken(node.intent, "n")
    macs = [taken.new_mac() for _ in range(20_000)]
    assert len({*macs, MAC}) == 20_001, "of so many random ones some are the same"
    taken.add(["10.0.0.5"])
    assert [taken.free(node.intent.subnets["s"]) for _ in range(3)] == ["10.0.0.2", "10.0.0.4", "10.0.0.6"]
    for _ in range(2):
        with pytest.raises(Conflict):
            taken.free(node.intent.subnets["s"])


@in_loop
async def test_two_floating_addresses_made_at_once_do_not_stand_for_the_same() -> None:
    async with asked(FakeNode()) as api:
        out = await outside(api)
        _, within = await routed(api, external_gateway_info={"network_id": out["id"]})
        port = await api.made("ports", network_id=within["network_id"])
        one = {"floating_network_id": out["id"], "port_id": port["id"]}
        kind, _ = await api.refused("POST", "floatingips", 409, {"floatingips": [one, one]})
        assert (kind, await api.listed("floatingips")) == ("FloatingIPPortAlreadyAssociated", [])


@in_loop
async def test_a_name_that_is_there_already_is_refused_with_the_reason() -> None:
    async with asked(FakeNode()) as api:
        for _ in range(2):
            await api.made("networks", name="")
        await api.made("networks", name="n")
        kind, message = await api.refused("POST", "networks", 409, {"network": {"name": "n"}})
        assert (kind, "a project has a name once for each kind" in message) == ("Conflict", True), message


@in_loop
async def test_ports_are_found_by_a_subnet_and_an_address_in_it_together() -> None:
    async with asked(FakeNode()) as api:
        one, other = await subnet(api), await subnet(api, "10.1.0.0/24")
        ports = [await api.made("ports", network_id=each["network_id"]) for each in (one, one, other)]
        by = [f"subnet_id={one['id']}", f"ip_address={addresses(ports[1])[0]}"]
        assert await api.listed("ports", fixed_ips=by) == [ports[1]]
        assert await api.listed("ports", fixed_ips=[by[0], f"ip_address={addresses(ports[2])[0]}"]) == []
        assert len(await api.listed("ports", fixed_ips=[by[0], f"subnet_id={other['id']}"])) == 3
        assert await api.listed("ports", fixed_ips=by[:1]) == ports[:2]


@in_loop
async def test_an_owner_puts_a_router_into_a_subnet_by_a_port_of_its_own() -> None:
    async with asked(FakeNode(), OWNER) as api:
        router, within = await api.made("routers"), await subnet(api, gateway_ip=None)
        port = await api.made("ports", network_id=within["network_id"], device_owner="compute:nova")
        await api.refused("PUT", f"ports/{port['id']}", 403, {"port": {"device_owner": "network:dhcp"}})
        path = f"routers/{router['id']}"
        answer = await api.ok("PUT", f"{path}/add_router_interface", {"port_id": port["id"]})
        assert answer["port_id"] == port["id"]
        await api.ok("PUT", f"{path}/remove_router_interface", {"port_id": port["id"]})
        assert await api.listed("ports") == []


@in_loop
async def test_a_port_has_the_status_of_what_became_of_it() -> None:
    node = FakeNode()
    async with asked(node) as api:
        made = await api.made("ports", network_id=(await subnet(api))["network_id"])
        for state, status in (("ACTIVE", "ACTIVE"), ("PENDING", "BUILD"), ("DOWN", "DOWN"), ("ERROR", "ERROR")):
            node.statuses["port", made["id"]] = {"state": state, "reason": "because", "observed_revision": 1}
            shown = await api.shown("ports", made["id"])
            assert (shown["status"], shown["state"], shown["reason"]) == (status, state, "because")


@in_loop
async def test_a_router_is_put_into_a_subnet_and_has_a_port_there_that_follows_from_it() -> None:
    node = FakeNode()
    async with asked(node) as api:
        router, within = await api.made("routers", name="r"), await subnet(api)
        path = f"routers/{router['id']}"
        answer = await api.ok("PUT", f"{path}/add_router_interface", {"subnet_id": within["id"]})
        assert answer["subnet_ids"] == [within["id"]]
        (port,) = await api.listed("ports", device_id=router["id"])
        assert port["id"] == answer["port_id"]
        assert (port["device_owner"], addresses(port)) == ("network:router_interface", ["10.0.0.1"])
        assert port == await api.shown("ports", port["id"])
        assert not len(node.intent.ports)

        assert (await api.refused("DELETE", f"ports/{port['id']}", 409))[0] == "ServicePortInUse"
        assert (await api.refused("PUT", f"ports/{port['id']}", 400, {"port": {"name": "x"}}))[0] == "BadRequest"
        assert (await api.refused("DELETE", path, 409))[0] == "RouterInUse"
        again = {"subnet_id": within["id"]}
        assert (await api.refused("PUT", f"{path}/add_router_interface", 400, again))[0] == "BadRequest"
        other = await api.made("routers")
        await api.refused("PUT", f"routers/{other['id']}/add_router_interface", 409, again)

        gone = await api.ok("PUT", f"{path}/remove_router_interface", {"port_id": port["id"]})
        assert gone == answer
        assert await api.listed("ports") == []
        left = await api.refused("PUT", f"{path}/remove_router_interface", 404, {"subnet_id": within["id"]})
        assert left[0] == "RouterInterfaceNotFoundForSubnet"
        left = await api.refused("PUT", f"{path}/remove_router_interface", 404, {"port_id": port["id"]})
        assert left[0] == "RouterInterfaceNotFound"
        for body in ({}, {"subnet_id": within["id"], "port_id": port["id"]}, {"subnet_id": 7}, {"subnet_id": None}):
            await api.refused("PUT", f"{path}/add_router_interface", 400, body)
        await api.ok("DELETE", path, status=204)


@in_loop
async def test_a_router_is_put_into_a_subnet_by_a_port_that_is_there_and_goes_with_it() -> None:
    node = FakeNode()
    async with asked(node) as api:
        router, within = await api.made("routers"), await subnet(api, gateway_ip=None)
        path = f"routers/{router['id']}"
        body = {"subnet_id": within["id"]}
        kind, message = await api.refused("PUT", f"{path}/add_router_interface", 400, body)
        assert "must have a gateway IP" in message
        port = await api.made("ports", network_id=within["network_id"])
        answer = await api.ok("PUT", f"{path}/add_router_interface", {"port_id": port["id"]})
        assert answer["port_id"] == port["id"]
        (shown,) = await api.listed("ports")
        assert (shown["device_owner"], shown["device_id"]) == ("network:router_interface", router["id"])
        kind, _ = await api.refused("PUT", f"{path}/add_router_interface", 409, {"port_id": port["id"]})
        assert kind == "PortInUse"
        assert (await api.refused("DELETE", f"ports/{port['id']}", 409))[0] == "ServicePortInUse"
        await api.ok("PUT", f"{path}/remove_router_interface", {"subnet_id": within["id"]})
        assert (await api.listed("ports"), node.intent.routers[router["id"]].subnet_ids) == ([], ())


@in_loop
async def test_a_router_interface_that_would_bring_a_network_into_vpns_in_two_ways_is_a_conflict() -> None:
    async with asked(FakeNode()) as api:
        router, within, vpn = await api.made("routers"), await subnet(api), await api.made("bgpvpn/bgpvpns")
        below = f"bgpvpn/bgpvpns/{vpn['id']}"
        await api.made(f"{below}/router_associations", router_id=router["id"])
        await api.made(f"{below}/network_associations", network_id=within["network_id"])
        path = f"routers/{router['id']}/add_router_interface"
        kind, _ = await api.refused("PUT", path, 409, {"subnet_id": within["id"]})
        assert kind == "RouterInterfaceAttachmentConflict"
        assert await api.listed("ports") == []


@in_loop
async def test_extra_routes_are_set_added_and_removed() -> None:
    async with asked(FakeNode()) as api:
        router, _ = await routed(api)
        path = f"routers/{router['id']}"
        first, second = ({"destination": f"10.{number}.0.0/16", "nexthop": "10.0.0.5"} for number in (8, 9))
        assert (await api.changed("routers", router["id"], routes=[first]))["routes"] == [first]
        both = await api.ok("PUT", f"{path}/add_extraroutes", {"router": {"routes": [first, second]}})
        assert both["router"]["routes"] == [first, second]
        left = await api.ok("PUT", f"{path}/remove_extraroutes", {"router": {"routes": [first]}})
        assert left["router"]["routes"] == [second]
        bad: tuple[Any, ...] = (
            [{"destination": "10.9.0.0/16", "nexthop": "10.7.0.5"}],
            [{"destination": "10.9.0.0/16"}],
            [{"destination": "nonsense", "nexthop": "10.0.0.5"}],
            [{"destination": 7, "nexthop": 8}],
        )
        for wrong in bad:
            assert (await api.refused("PUT", path, 400, {"router": {"routes": wrong}}))[0] == "InvalidRoutes"
            body = {"router": {"routes": wrong}}
            assert (await api.refused("PUT", f"{path}/add_extraroutes", 400, body))[0] == "InvalidRoutes"
        for nonsense in ("x", ["x"], 7):
            body = {"router": {"routes": nonsense}}
            for each in (path, f"{path}/add_extraroutes", f"{path}/remove_extraroutes"):
                assert (await api.refused("PUT", each, 400, body))[0] == "HTTPBadRequest"
        assert (await api.shown("routers", router["id"]))["routes"] == [second]


@in_loop
async def test_a_router_has_a_way_out_with_a_free_address_or_one_that_is_named() -> None:
    async with asked(FakeNode()) as api:
        network = await outside(api)
        made = await api.made("routers", external_gateway_info={"network_id": network["id"]})
        info = made["external_gateway_info"]
        assert (info["network_id"], info["enable_snat"]) == (network["id"], False)
        assert [each["ip_address"] for each in info["external_fixed_ips"]] == ["192.0.2.2"]
        (port,) = await api.listed("ports", device_owner="network:router_gateway")
        assert (port["network_id"], addresses(port)) == (network["id"], ["192.0.2.2"])

        wanted = {"network_id": network["id"], "external_fixed_ips": [{"ip_address": "192.0.2.9"}]}
        other = await api.made("routers", external_gateway_info=wanted)
        assert other["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "192.0.2.9"
        both = [{"ip_address": "192.0.2.12"}, {"ip_address": "192.0.2.12"}]
        body: Any = {"external_gateway_info": {"network_id": network["id"], "external_fixed_ips": both}}
        assert (await api.refused("POST", "routers", 409, {"router": body}))[0] == "IpAddressAlreadyAllocated"
        body = {"floating_network_id": network["id"], "floating_ip_address": "192.0.2.12"}
        twice = {"floatingips": [body, body]}
        assert (await api.refused("POST", "floatingips", 409, twice))[0] == "IpAddressAlreadyAllocated"
        third = await api.made("routers", external_gateway_info={"network_id": network["id"]})
        assert third["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "192.0.2.3"
        changed = await api.changed("routers", made["id"], external_gateway_info={"network_id": network["id"]})
        assert changed["external_gateway_info"] == info, "it keeps its address"
        assert (await api.changed("routers", made["id"], external_gateway_info={}))["external_gateway_info"] is None

        inside = await api.made("networks")
        for wrong in (
            {"network_id": inside["id"]},
            {"network_id": 7},
            {"network_id": network["id"], "enable_snat": True},
            {"network_id": network["id"], "color": "red"},
            {"network_id": network["id"], "external_fixed_ips": [{"ip_address": "10.0.0.1"}]},
            {"network_id": network["id"], "external_fixed_ips": [{"subnet_id": NOWHERE}]},
            {"network_id": network["id"], "external_fixed_ips": "192.0.2.7"},
            {"network_id": network["id"], "external_fixed_ips": [{"ip_address": 7}]},
            "x",
        ):
            await api.refused("PUT", f"routers/{made['id']}", 400, {"router": {"external_gateway_info": wrong}})
        body = {"router": {"external_gateway_info": wanted}}
        assert (await api.refused("POST", "routers", 409, body))[0] == "IpAddressAlreadyAllocated"
        body = {"router": {"external_gateway_info": {"network_id": NOWHERE}}}
        assert (await api.refused("POST", "routers", 404, body))[0] == "NetworkNotFound"


@in_loop
async def test_a_floating_address_stands_for_one_of_a_port_behind_a_router_to_its_network() -> None:
    async with asked(FakeNode()) as api:
        network = await outside(api)
        router, within = await routed(api, external_gateway_info={"network_id": network["id"]})
        port = await api.made("ports", network_id=within["network_id"])
        made = await api.made("floatingips", floating_network_id=network["id"])
        assert (made["floating_ip_address"], made["status"], made["port_id"]) == ("192.0.2.3", "DOWN", None)
        bound = await api.changed("floatingips", made["id"], port_id=port["id"])
        assert (bound["router_id"], bound["fixed_ip_address"]) == (router["id"], "10.0.0.2")
        assert bound["status"] == "ACTIVE"

        body: dict[str, Any] = {"floating_network_id": network["id"], "port_id": port["id"]}
        kind, _ = await api.refused("POST", "floatingips", 409, {"floatingip": body})
        assert kind == "FloatingIPPortAlreadyAssociated"
        body = {"floating_network_id": network["id"], "floating_ip_address": "192.0.2.3"}
        kind, _ = await api.refused("POST", "floatingips", 409, {"floatingip": body})
        assert kind == "IpAddressAlreadyAllocated"
        body = {"floating_network_id": network["id"], "floating_ip_address": "10.0.0.9"}
        assert (await api.refused("POST", "floatingips", 400, {"floatingip": body}))[0] == "InvalidIpForNetwork"
        body = {"floating_network_id": within["network_id"]}
        assert (await api.refused("POST", "floatingips", 400, {"floatingip": body}))[0] == "BadRequest"
        alone = await api.made("ports", network_id=(await subnet(api))["network_id"])
        body = {"floating_network_id": network["id"], "port_id": alone["id"]}
        kind, _ = await api.refused("POST", "floatingips", 404, {"floatingip": body})
        assert kind == "ExternalGatewayForFloatingIPNotFound"

        left = {"subnet_id": within["id"]}
        path = f"routers/{router['id']}"
        kind, _ = await api.refused("PUT", f"{path}/remove_router_interface", 409, left)
        assert kind == "RouterInterfaceInUseByFloatingIP"
        kind, _ = await api.refused("PUT", path, 409, {"router": {"external_gateway_info": None}})
        assert kind == "RouterExternalGatewayInUseByFloatingIp"
        await api.ok("DELETE", f"ports/{port['id']}", status=204)
        free = await api.shown("floatingips", made["id"])
        assert (free["port_id"], free["router_id"], free["fixed_ip_address"], free["status"]) == (
            None,
            None,
            None,
            "DOWN",
        )
        assert (await api.changed("floatingips", made["id"], port_id=None))["port_id"] is None
        await api.ok("PUT", f"{path}/remove_router_interface", left)
        await api.ok("DELETE", f"floatingips/{made['id']}", status=204)
        assert (await api.refused("GET", f"floatingips/{made['id']}", 404))[0] == "FloatingIPNotFound"


@in_loop
async def test_what_our_own_api_made_without_uuids_is_shown_and_can_be_changed() -> None:
    node = FakeNode()
    node.write([Network(id="n-1", name="n"), Router(id="r-1")])
    async with asked(node) as api:
        assert (await api.shown("networks", "n-1"))["name"] == "n"
        assert (await api.changed("routers", "r-1", admin_state_up="no"))["admin_state_up"] is False
        assert (await api.refused("GET", "networks/n", 404))[0] == "NetworkNotFound", "a name is no id here"
