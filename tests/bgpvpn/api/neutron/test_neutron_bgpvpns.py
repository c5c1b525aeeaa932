"""BGP VPNs and associations as networking-bgpvpn has them; U1 to U13 are the defects that it has."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from bgpvpn.objects import Bgpvpn
from tests.bgpvpn.api.neutron.asking import OWNER, Asked, asked
from tests.bgpvpn.api.serving import in_loop
from tests.fakes.node import FakeNode, contents

VPNS = "bgpvpn/bgpvpns"
NOWHERE = "11111111-2222-4333-8444-555555555555"


async def placed(api: Asked, **fields: Any) -> tuple[Any, Any, Any]:
    """Make a network with a subnet, a port there, and a VPN."""
    network = await api.made("networks", name="n")
    await api.made("subnets", network_id=network["id"], ip_version=4, cidr="10.0.0.0/24")
    return network, await api.made("ports", network_id=network["id"]), await api.made(VPNS, **fields)


@in_loop
async def test_a_bgpvpn_is_shown_with_the_defaults_of_networking_bgpvpn_and_the_fields_of_our_own() -> None:
    async with asked(FakeNode()) as api:
        made = await api.made(VPNS)
        assert made == await api.shown(VPNS, made["id"])
        theirs: dict[str, Any] = {
            "name": "",
            "type": "l3",
            "tenant_id": "default",
            "project_id": "default",
            "route_targets": [],
            "import_targets": [],
            "export_targets": [],
            "route_distinguishers": [],
            "networks": [],
            "routers": [],
            "ports": [],
            "vni": None,
            "local_pref": None,
        }
        ours = {
            "technique": ["ipvpn"],
            "aggregate": "none",
            "allowed_prefixes": [],
            "max_prefixes": None,
            "local_pref_range": None,
            "admin_state_up": True,
            "state": "ACTIVE",
            "reason": "",
            "revision_number": 1,
            "created_at": "2023-11-14T22:13:20Z",
            "updated_at": "2023-11-14T22:13:20Z",
        }
        assert made == {"id": made["id"], **theirs, **ours}


@pytest.mark.parametrize(
    "target",
    ["64512:1", "65535:4294967295", "65536:65535", "4294967295:65535", "1.2.3.4:65535", "0:0"],
)
@in_loop
async def test_a_route_target_of_networking_bgpvpn_is_taken(target: str) -> None:
    async with asked(FakeNode()) as api:
        lists = ("route_targets", "import_targets", "export_targets", "route_distinguishers")
        made = await api.made(VPNS, **{name: [target] for name in lists})
        assert [made[name] for name in lists] == [[target]] * 4


@pytest.mark.parametrize(
    "target",
    [
        "65536:65536",
        "4294967296:1",
        "1.2.3.4:65536",
        "1.2.3.256:1",
        "64512:4294967296",
        "64512",
        "a:b:c",
        "01:1",
        "1:01",
        "",
        "100L:5",
        "1.10:5",
        "target:64512:1",
        "64512:1\n",
        7,
        None,
        ["64512:1"],
    ],
)
@in_loop
async def test_what_is_no_route_target_there_is_refused_and_what_our_own_form_adds_as_well(target: Any) -> None:
    node = FakeNode()
    async with asked(node) as api:
        for name in ("route_targets", "route_distinguishers"):
            kind, message = await api.refused("POST", VPNS, 400, {"bgpvpn": {name: [target]}})
            assert kind == "HTTPBadRequest"
            assert message.startswith(f"Invalid input for {name}. Reason:")
    assert contents(node) == {}


@in_loop
async def test_a_target_that_only_our_own_api_can_say_is_shown_as_it_is() -> None:
    node = FakeNode()
    node.write([Bgpvpn(id="v", route_targets=("100L:5",))])
    async with asked(node) as api:
        assert (await api.shown(VPNS, "v"))["route_targets"] == ["100L:5"]
        assert (await api.changed(VPNS, "v", name="blue"))["route_targets"] == ["100L:5"]


@in_loop
async def test_a_list_of_targets_may_be_one_text_or_null_and_has_nothing_twice() -> None:
    async with asked(FakeNode()) as api:
        made = await api.made(VPNS, route_targets="64512:1", import_targets=None)
        assert (made["route_targets"], made["import_targets"]) == (["64512:1"], [])
        await api.refused("PUT", f"{VPNS}/{made['id']}", 400, {"bgpvpn": {"route_targets": ["64512:2", "64512:2"]}})
        many = [f"64512:{number}" for number in range(200)]
        assert (await api.changed(VPNS, made["id"], route_targets=many))["route_targets"] == many


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"color": "red"}, "Unrecognized attribute(s) 'color'"),
        ({"id": NOWHERE}, "Attribute 'id' not allowed in POST"),
        ({"networks": [NOWHERE]}, "Attribute 'networks' not allowed in POST"),
        ({"type": "l4"}, "Invalid input for type."),
        ({"name": None}, "Invalid input for name."),
        ({"name": "x" * 256}, "Invalid input for name."),
        ({"vni": 0}, "Invalid input for vni."),
        ({"vni": 1 << 24}, "Invalid input for vni."),
        ({"vni": "seven"}, "Invalid input for vni."),
        ({"local_pref": -1}, "Invalid input for local_pref."),
        ({"local_pref": 1 << 32}, "Invalid input for local_pref."),
        ({"local_pref": 10**30}, "Invalid input for local_pref."),
        ({"local_pref": True}, "Invalid input for local_pref."),
        ({"technique": ["evpn"]}, "Invalid input for technique."),
        ({"local_pref_range": [2, 1]}, "Invalid input for local_pref_range."),
        ({"local_pref_range": {"low": 1}}, "Invalid input for local_pref_range."),
        ({"tenant_id": "a", "project_id": "b"}, "'project_id' and 'tenant_id' do not match"),
    ],
)
@in_loop
async def test_a_bgpvpn_that_cannot_be_is_refused_and_nothing_is_made(given: dict[str, Any], message: str) -> None:
    node = FakeNode()
    async with asked(node) as api:
        kind, said = await api.refused("POST", VPNS, 400, {"bgpvpn": given})
        assert kind == "HTTPBadRequest"
        assert said.startswith(message)
    assert contents(node) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"bgpvpn": []}',
        b'{"network": {}}',
        b'{"bgpvpn": null}',
        b"[" * 5000,
        b'"\xff"',
        b"{}",
    ],
)
@in_loop
async def test_a_body_that_is_not_understood_is_refused(body: bytes) -> None:
    async with asked(FakeNode()) as api:
        for method, path in (("POST", VPNS), ("PUT", VPNS + "/v"), ("PUT", "bgp-speakers/s/add_bgp_peer")):
            headers = {"content-type": "application/json"}
            answer = await api.client.request(method, f"/v2.0/{path}", content=body, headers=headers)
            assert answer.status_code in (400, 404), answer.text
            assert list(answer.json()) == ["NeutronError"]


@in_loop
async def test_several_bgpvpns_are_not_made_at_once() -> None:
    async with asked(FakeNode()) as api:
        kind, message = await api.refused("POST", VPNS, 400, {"bgpvpns": [{"name": "a"}, {"name": "b"}]})
        assert (kind, message) == ("HTTPBadRequest", "Bulk operation not supported")


@in_loop
async def test_a_number_that_is_given_as_text_is_shown_as_a_number() -> None:
    """networking-bgpvpn echoes the LOCAL_PREF "100" as a text."""
    async with asked(FakeNode()) as api:
        made = await api.made(VPNS, type="l2", vni="100", local_pref="100")
        assert (made["vni"], made["local_pref"]) == (100, 100)
        assert (await api.changed(VPNS, made["id"], local_pref="0"))["local_pref"] == 0
        assert (await api.changed(VPNS, made["id"], local_pref=None))["local_pref"] is None


@in_loop
async def test_a_vni_of_an_l3_vpn_asks_for_evpn_prefixes_because_labels_have_none() -> None:
    async with asked(FakeNode()) as api:
        assert (await api.made(VPNS, vni=7))["technique"] == ["evpn-prefix"]
        await api.refused("POST", VPNS, 400, {"bgpvpn": {"vni": 7, "technique": ["ipvpn"]}})


@in_loop
async def test_what_is_fixed_stays() -> None:
    async with asked(FakeNode()) as api:
        made = await api.made(VPNS, vni=7, type="l2")
        for field, value in (("vni", 8), ("type", "l3"), ("tenant_id", "x"), ("id", NOWHERE), ("ports", [])):
            kind, message = await api.refused("PUT", f"{VPNS}/{made['id']}", 400, {"bgpvpn": {field: value}})
            assert kind == "HTTPBadRequest"
            assert message.startswith("Cannot update read-only attribute")
        assert await api.shown(VPNS, made["id"]) == made


@in_loop
async def test_our_own_fields_of_a_bgpvpn_can_be_set() -> None:
    own = {
        "technique": ["ipvpn", "evpn-prefix"],
        "aggregate": "subnet",
        "allowed_prefixes": ["10.0.0.0/8"],
        "max_prefixes": 3,
        "local_pref_range": [50, 150],
        "admin_state_up": False,
    }
    async with asked(FakeNode()) as api:
        made = await api.made(VPNS)
        changed = await api.changed(VPNS, made["id"], **own)
        assert {name: changed[name] for name in own} == own
        await api.refused("PUT", f"{VPNS}/{made['id']}", 400, {"bgpvpn": {"local_pref": 200}})


@in_loop
async def test_what_is_not_there_is_not_found() -> None:
    async with asked(FakeNode()) as api:
        network, _, vpn = await placed(api)
        for method in ("GET", "PUT", "DELETE"):
            given = {"bgpvpn": dict[str, Any]()} if method == "PUT" else None
            assert (await api.refused(method, f"{VPNS}/{NOWHERE}", 404, given))[0] == "BGPVPNNotFound"
        for kind, name in (("Net", "network"), ("Router", "router"), ("Port", "port")):
            below = f"{VPNS}/{vpn['id']}/{name}_associations"
            assert (await api.refused("GET", f"{below}/{NOWHERE}", 404))[0] == f"BGPVPN{kind}AssocNotFound"
            above = f"{VPNS}/{NOWHERE}/{name}_associations"
            assert (await api.refused("GET", above, 404))[0] == "BGPVPNNotFound"
            body: Any = {f"{name}_association": {f"{name}_id": NOWHERE}}
            assert (await api.refused("POST", below, 404, body))[0] == f"{name.capitalize()}NotFound"
            body = {f"{name}_association": {f"{name}_id": "nonsense"}}
            assert (await api.refused("POST", below, 400, body))[0] == "HTTPBadRequest"
        assert (await api.refused("GET", f"{VPNS}/{network['id']}", 404))[0] == "BGPVPNNotFound"
        assert (await api.refused("GET", "nonsense", 404))[0] == "HTTPNotFound"
        assert (await api.refused("PATCH", VPNS, 405))[0] == "HTTPMethodNotAllowed"


@in_loop
async def test_associations_are_seen_below_their_own_vpn_only_and_are_listed_in_it() -> None:
    async with asked(FakeNode()) as api:
        network, port, vpn = await placed(api)
        other = await api.made(VPNS)
        below = f"{VPNS}/{vpn['id']}"
        of_network = await api.made(f"{below}/network_associations", network_id=network["id"])
        of_port = await api.made(f"{below}/port_associations", port_id=port["id"])
        assert of_network.items() >= {"network_id": network["id"], "project_id": "default"}.items()
        assert of_port.items() >= {"advertise_fixed_ips": True, "routes": [], "direction": "both"}.items()
        shown = await api.shown(VPNS, vpn["id"])
        assert (shown["networks"], shown["routers"], shown["ports"]) == ([network["id"]], [], [port["id"]])
        assert await api.listed(f"{below}/network_associations") == [of_network]
        assert await api.listed(f"{below}/port_associations") == [of_port]
        assert await api.listed(f"{VPNS}/{other['id']}/port_associations") == []

        for path in (f"{VPNS}/{other['id']}/network_associations", f"{below}/port_associations"):
            for method in ("GET", "DELETE"):
                kind, _ = await api.refused(method, f"{path}/{of_network['id']}", 404)
                assert kind.endswith("AssocNotFound")
        await api.ok("DELETE", f"{below}/network_associations/{of_network['id']}", status=204)
        assert (await api.shown(VPNS, vpn["id"]))["networks"] == []


@in_loop
async def test_a_second_association_of_one_thing_is_a_bad_request() -> None:
    async with asked(FakeNode()) as api:
        network, port, vpn = await placed(api)
        router = await api.made("routers")
        for kind, name, thing in (("Net", "network", network), ("Router", "router", router), ("Port", "port", port)):
            below = f"{VPNS}/{vpn['id']}/{name}_associations"
            await api.made(below, **{f"{name}_id": thing["id"]})
            again = {f"{name}_association": {f"{name}_id": thing["id"]}}
            assert (await api.refused("POST", below, 400, again))[0] == f"BGPVPN{kind}AssocAlreadyExists"
            assert len(await api.listed(below)) == 1


@in_loop
async def test_a_network_association_cannot_be_changed() -> None:
    async with asked(FakeNode()) as api:
        network, _, vpn = await placed(api)
        below = f"{VPNS}/{vpn['id']}/network_associations"
        made = await api.made(below, network_id=network["id"])
        body = {"network_association": {"network_id": network["id"]}}
        kind, message = await api.refused("PUT", f"{below}/{made['id']}", 400, body)
        assert (kind, message) == ("HTTPBadRequest", "Cannot update read-only attribute network_id")


@in_loop
async def test_u2_a_router_association_made_without_extra_routes_has_none() -> None:
    async with asked(FakeNode()) as api:
        router, vpn = await api.made("routers"), await api.made(VPNS)
        below = f"{VPNS}/{vpn['id']}/router_associations"
        made = await api.made(below, router_id=router["id"], advertise_extra_routes=False)
        assert made["advertise_extra_routes"] is False
        assert (await api.shown(below, made["id"]))["advertise_extra_routes"] is False
        assert (await api.changed(below, made["id"], advertise_extra_routes="true"))["advertise_extra_routes"] is True


@in_loop
async def test_u3_a_port_association_keeps_its_routes_when_its_addresses_are_not_announced_any_more() -> None:
    async with asked(FakeNode()) as api:
        _, port, vpn = await placed(api)
        below = f"{VPNS}/{vpn['id']}/port_associations"
        routes = [{"type": "prefix", "prefix": "10.9.0.0/16", "local_pref": 0}]
        made = await api.made(below, port_id=port["id"], routes=routes)
        assert made["routes"] == routes
        changed = await api.changed(below, made["id"], advertise_fixed_ips=False)
        assert (changed["routes"], changed["advertise_fixed_ips"]) == (routes, False)
        assert (await api.changed(below, made["id"], routes=[]))["routes"] == []


@in_loop
async def test_u4_bgpvpns_are_found_by_name_and_by_what_is_bound_to_them_and_by_their_targets() -> None:
    async with asked(FakeNode()) as api:
        network, port, blue = await placed(api, name="blue", route_targets=["64512:1", "64512:2"], local_pref=7)
        await api.made(VPNS, name="red", route_targets=["64512:3"])
        await api.made(f"{VPNS}/{blue['id']}/network_associations", network_id=network["id"])
        await api.made(f"{VPNS}/{blue['id']}/port_associations", port_id=port["id"])
        for query in (
            {"name": "blue"},
            {"networks": network["id"]},
            {"ports": port["id"]},
            {"route_targets": "64512:2"},
            {"local_pref": "7"},
            {"name": "blue", "type": "l3", "tenant_id": "default", "admin_state_up": "True"},
        ):
            assert [each["name"] for each in await api.listed(VPNS, **query)] == ["blue"], query
        for query in ({"name": "green"}, {"routers": NOWHERE}, {"ports": network["id"]}, {"route_targets": "64512:9"}):
            assert await api.listed(VPNS, **query) == [], query
        assert {each["name"] for each in await api.listed(VPNS, name=["blue", "red"])} == {"blue", "red"}


@in_loop
async def test_u5_a_router_is_in_no_vpn_beside_a_network_of_any_of_its_interfaces() -> None:
    for bound in (0, 1, 2):
        node = FakeNode()
        async with asked(node) as api:
            router, vpn, other = await api.made("routers"), await api.made(VPNS), await api.made(VPNS)
            networks = []
            for number in range(3):
                networks.append(await api.made("networks"))
                cidr = f"10.0.{number}.0/24"
                subnet = await api.made("subnets", network_id=networks[-1]["id"], ip_version=4, cidr=cidr)
                await api.ok("PUT", f"routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
            of_network = f"{VPNS}/{vpn['id']}/network_associations"
            of_router = f"{VPNS}/{other['id']}/router_associations"
            made = await api.made(of_network, network_id=networks[bound]["id"])
            wanted = {"router_association": {"router_id": router["id"]}}
            assert (await api.refused("POST", of_router, 400, wanted))[0] == "BadRequest"

            await api.ok("DELETE", f"{of_network}/{made['id']}", status=204)
            await api.made(of_router, router_id=router["id"])
            wanted = {"network_association": {"network_id": networks[bound]["id"]}}
            assert (await api.refused("POST", of_network, 400, wanted))[0] == "BadRequest"


@in_loop
async def test_u6_an_external_network_in_a_vpn_is_a_bad_request_and_no_fault() -> None:
    async with asked(FakeNode()) as api:
        network, vpn = await api.made("networks", router__external=True), await api.made(VPNS)
        body = {"network_association": {"network_id": network["id"]}}
        kind, message = await api.refused("POST", f"{VPNS}/{vpn['id']}/network_associations", 400, body)
        assert kind == "BGPVPNExternalNetAssociation"
        assert network["id"] in message


@in_loop
async def test_a_router_is_in_no_l2_vpn() -> None:
    async with asked(FakeNode()) as api:
        router, vpn = await api.made("routers"), await api.made(VPNS, type="l2")
        body = {"router_association": {"router_id": router["id"]}}
        assert (await api.refused("POST", f"{VPNS}/{vpn['id']}/router_associations", 400, body))[0] == "BadRequest"


@in_loop
async def test_u11_networks_of_two_vnis_are_a_conflict() -> None:
    async with asked(FakeNode()) as api:
        network, _, vpn = await placed(api, type="l2", vni=7)
        other = await api.made(VPNS, type="l2", vni=8)
        await api.made(f"{VPNS}/{vpn['id']}/network_associations", network_id=network["id"])
        body = {"network_association": {"network_id": network["id"]}}
        kind, message = await api.refused("POST", f"{VPNS}/{other['id']}/network_associations", 409, body)
        assert kind == "Conflict"
        assert "VNI 8" in message


@in_loop
async def test_what_is_bound_is_of_the_project_of_the_vpn() -> None:
    async with asked(FakeNode()) as api:
        network, _, vpn = await placed(api, tenant_id="other")
        below = f"{VPNS}/{vpn['id']}/network_associations"
        for body in (
            {"network_id": network["id"]},
            {"network_id": (await api.made("networks", project_id="other"))["id"], "project_id": "default"},
        ):
            assert (await api.refused("POST", below, 403, {"network_association": body}))[0] == "NotAuthorized"
        assert await api.listed(below) == []


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ({"type": "prefix"}, "InvalidInput"),
        ({"type": "prefix", "prefix": "10.0.0.0/33"}, "InvalidInput"),
        ({"type": "prefix", "prefix": "10.0.0.0/8", "bgpvpn_id": NOWHERE}, "InvalidInput"),
        ({"type": "prefix", "prefix": "10.0.0.0/8", "med": 1}, "InvalidInput"),
        ({"type": "nonsense", "prefix": "10.0.0.0/8"}, "InvalidInput"),
        ({"prefix": "10.0.0.0/8"}, "InvalidInput"),
        ({"type": "prefix", "prefix": 7}, "InvalidInput"),
        ({"type": ["prefix"], "prefix": "10.0.0.0/8"}, "InvalidInput"),
        ({"type": "prefix", "prefix": "10.0.0.0/8", "local_pref": -1}, "HTTPBadRequest"),
        ("10.0.0.0/8", "HTTPBadRequest"),
        ({"type": "bgpvpn"}, "InvalidInput"),
        ({"type": "bgpvpn", "bgpvpn_id": NOWHERE}, "BGPVPNPortAssocRouteNoSuchBGPVPN"),
        ({"type": "bgpvpn", "bgpvpn_id": "l2"}, "BGPVPNPortAssocRouteBGPVPNTypeDiffer"),
        ({"type": "bgpvpn", "bgpvpn_id": "theirs"}, "BGPVPNPortAssocRouteWrongBGPVPNProject"),
        ({"type": "bgpvpn", "bgpvpn_id": "own"}, "InvalidInput"),
    ],
)
@in_loop
async def test_a_route_that_cannot_be_is_refused_when_made_and_when_changed(route: Any, kind: str) -> None:
    node = FakeNode()
    node.write(
        [Bgpvpn(id="own"), Bgpvpn(id="l2", type="l2"), Bgpvpn(id="theirs", project_id="other"), Bgpvpn(id="leaked")]
    )
    async with asked(node) as api:
        _, port, _ = await placed(api)
        below = f"{VPNS}/own/port_associations"
        body = {"port_association": {"port_id": port["id"], "routes": [route]}}
        assert (await api.refused("POST", below, 400, body))[0] == kind
        good = {"type": "bgpvpn", "bgpvpn_id": "leaked", "local_pref": 9}
        made = await api.made(below, port_id=port["id"], routes=[good])
        body = {"port_association": {"routes": [good, route]}}
        assert (await api.refused("PUT", f"{below}/{made['id']}", 400, body))[0] == kind
        assert (await api.shown(below, made["id"]))["routes"] == [good]


@in_loop
async def test_routes_are_normalised_and_not_there_twice() -> None:
    async with asked(FakeNode()) as api:
        _, port, vpn = await placed(api)
        below = f"{VPNS}/{vpn['id']}/port_associations"
        route = {"type": "prefix", "prefix": "20.1.0.1/16"}
        same = {"type": "prefix", "prefix": "20.1.0.0/16", "local_pref": 3}
        body = {"port_association": {"port_id": port["id"], "routes": [route, same]}}
        assert (await api.refused("POST", below, 400, body))[0] == "InvalidInput"
        made = await api.made(below, port_id=port["id"], routes=[route])
        assert made["routes"] == [{"type": "prefix", "prefix": "20.1.0.0/16"}]


@in_loop
async def test_associations_go_with_what_they_bind_and_with_their_vpn() -> None:
    node = FakeNode()
    async with asked(node) as api:
        network, port, vpn = await placed(api)
        other = await api.made(VPNS)
        routes = [{"type": "bgpvpn", "bgpvpn_id": other["id"]}]
        await api.made(f"{VPNS}/{vpn['id']}/network_associations", network_id=network["id"])
        await api.made(f"{VPNS}/{vpn['id']}/port_associations", port_id=port["id"], routes=routes)
        led = await api.shown(VPNS, other["id"])
        assert (led["networks"], led["ports"]) == ([], []), "its routes are told there, and nothing is bound to it"
        assert await api.listed(f"{VPNS}/{other['id']}/port_associations") == []
        await api.ok("DELETE", f"{VPNS}/{other['id']}", status=204)
        assert (await api.listed(f"{VPNS}/{vpn['id']}/port_associations"))[0]["routes"] == []
        await api.ok("DELETE", f"ports/{port['id']}", status=204)
        assert await api.listed(f"{VPNS}/{vpn['id']}/port_associations") == []
        await api.ok("DELETE", f"{VPNS}/{vpn['id']}", status=204)
        assert not len(node.intent.associations)
        assert await api.listed("networks") != []


@in_loop
async def test_several_associations_are_made_at_once_or_none() -> None:
    async with asked(FakeNode()) as api:
        network, _, vpn = await placed(api)
        second = await api.made("networks")
        below = f"{VPNS}/{vpn['id']}/network_associations"
        wanted = [{"network_id": network["id"]}, {"network_id": NOWHERE}]
        assert (await api.refused("POST", below, 404, {"network_associations": wanted}))[0] == "NetworkNotFound"
        wanted = [{"network_id": network["id"]}, {"network_id": network["id"]}]
        await api.refused("POST", below, 400, {"network_associations": wanted})
        assert await api.listed(below) == []
        wanted[1] = {"network_id": second["id"]}
        made = await api.ok("POST", below, {"network_associations": wanted}, 201)
        assert made["network_associations"] == await api.listed(below)


@in_loop
async def test_an_owner_sees_its_own_vpns_without_their_targets_and_may_change_name_and_local_pref_only() -> None:
    node = FakeNode()
    async with asked(node) as api:
        own = await api.made(VPNS, name="own", project_id="blue", type="l2", vni=7, route_targets=["64512:1"])
        theirs = await api.made(VPNS, name="theirs")
        network = await api.made("networks", project_id="blue")
        hidden = await api.made("networks")
    async with asked(node, OWNER) as api:
        (shown,) = await api.listed(VPNS)
        assert (shown["id"], shown["route_targets"], shown["vni"]) == (own["id"], [], None)
        assert await api.listed(VPNS, route_targets="64512:1") == [], "a filter tells nothing of what is hidden"
        assert (await api.refused("GET", f"{VPNS}/{theirs['id']}", 404))[0] == "BGPVPNNotFound"
        changed = await api.changed(VPNS, own["id"], name="mine", local_pref=5)
        assert (changed["name"], changed["local_pref"]) == ("mine", 5)
        body = {"bgpvpn": {"route_targets": ["64512:1"]}}
        assert (await api.refused("PUT", f"{VPNS}/{own['id']}", 403, body))[0] == "PolicyNotAuthorized"
        assert (await api.refused("POST", VPNS, 403, {"bgpvpn": {"name": "x"}}))[0] == "PolicyNotAuthorized"
        assert (await api.refused("DELETE", f"{VPNS}/{own['id']}", 403))[0] == "PolicyNotAuthorized"

        below = f"{VPNS}/{own['id']}/network_associations"
        body = {"network_association": {"network_id": hidden["id"]}}
        assert (await api.refused("POST", below, 404, body))[0] == "NetworkNotFound"
        made = await api.made(below, network_id=network["id"])
        await api.ok("DELETE", f"{below}/{made['id']}", status=204)
        assert (await api.refused("GET", f"{VPNS}/{theirs['id']}/network_associations", 404))[0] == "BGPVPNNotFound"
    assert attrs.asdict(node.intent.bgpvpns[own["id"]])["route_targets"] == ("64512:1",)


@in_loop
async def test_the_store_that_takes_nothing_is_unavailable_and_nothing_was_made() -> None:
    node = FakeNode()
    node.store.refuses = "the disk is full"  # type: ignore[attr-defined]
    async with asked(node) as api:
        kind, message = await api.refused("POST", VPNS, 503, {"bgpvpn": {}})
        assert kind == "ServiceUnavailable"
        assert "the disk is full" in message
    assert contents(node) == {}
