"""A real Neutron whose BGPVPN service driver is ours, beside nodes that it pushes to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest

from tests.openstack.clients import ROOT
from tests.openstack.daemon import Daemon, until
from tests.openstack.neutron.harness import HOST, Neutron
from tests.openstack.routes import to

PROVIDER = "BGPVPN:bgpvpn:bgpvpn.openstack.bgpvpn_driver.NodeBGPVPNDriver:default"
OTHER_HOST = "node2"
KINDS = ("networks", "subnets", "routers", "ports", "bgpvpns", "associations")
INTERVAL_S = 3

numbers = itertools.count(1)


@attrs.frozen
class Cloud:
    """Neutron and the nodes of its two hosts."""

    neutron: Neutron
    one: Daemon
    other: Daemon


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, openstack: object) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    for name in ("one", "other", "neutron"):
        (folder / name).mkdir()
    with (
        Daemon.running(folder / "one") as one,
        Daemon.running(folder / "other") as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PYTHONPATH", str(ROOT))
        options = f"""\
nodes = {HOST}={one.url},{OTHER_HOST}=unix:{other.socket}
sync_interval = {INTERVAL_S}
timeout = 2
"""
        with Neutron.running(folder / "neutron", 1, PROVIDER, settings={"bgpvpn": options}) as neutron:
            yield Cloud(neutron, one, other)


@attrs.frozen
class Tenant:
    """A network with a port on the first host, and a VPN with a route target of its own, bound to nothing."""

    cloud: Cloud
    number: int
    network: Any
    port: Any
    vpn: Any

    @property
    def target(self) -> str:
        return f"64512:{self.number}"

    @property
    def own(self) -> str:
        return f"10.{self.number}.0.5/32"

    def bind(self, kind: str, id_: str, vpn: Any = None, **fields: Any) -> Any:
        path = "bgpvpns", (vpn or self.vpn)["id"], f"{kind}_associations"
        return self.cloud.neutron.post(*path, **{f"{kind}_id": id_}, **fields)

    def plugged(self, host: str, *addresses: str, network: Any = None, **fields: Any) -> Any:
        return self.cloud.neutron.post(
            "ports",
            network_id=(network or self.network)["id"],
            device_owner="compute:nova",
            fixed_ips=[{"ip_address": each} for each in addresses],
            **{"binding:host_id": host},
            **fields,
        )

    def announces(self, *prefixes: str, target: str = "", node: Daemon | None = None, family: str = "vpnv4") -> None:
        """Wait until exactly these prefixes are announced to a route target."""
        target, daemon = target or self.target, node or self.cloud.one
        until(lambda: set(to(target, daemon, family)) == set(prefixes), f"announced to {target}: {prefixes}")


@pytest.fixture
def tenant(cloud: Cloud) -> Iterator[Tenant]:
    """When its ports and its VPN are gone, nodes have nothing of it."""
    number = next(numbers)
    neutron = cloud.neutron
    network = neutron.network("net", f"10.{number}.0.0/24")
    vpn = neutron.post("bgpvpns", name="vpn", route_targets=[f"64512:{number}"])
    tenant = Tenant(cloud, number, network, None, vpn)
    yield attrs.evolve(tenant, port=tenant.plugged(HOST, f"10.{number}.0.5", name="vm"))
    for left in neutron.get("bgpvpns"):
        neutron.delete("bgpvpns", left["id"])
    for port in neutron.get("ports"):
        if port["device_owner"].startswith("compute:"):
            neutron.delete("ports", port["id"])
    for node in (cloud.one, cloud.other):
        until(partial(nothing_on, node), "nothing of Neutron's is left")


def neutrons(node: Daemon) -> list[str]:
    """What a node has of Neutron's."""
    return [each["id"] for kind in KINDS for each in node.get(f"/v1/{kind}") if each["id"].startswith("neutron.")]


def nothing_on(node: Daemon) -> bool:
    return not neutrons(node)


def interface(neutron: Neutron, verb: str, router: Any, network: Any) -> None:
    """Add a network to a router, or remove it."""
    body = {"subnet_id": neutron.get("networks", network["id"])["subnets"][0]}
    neutron.ask("PUT", "routers", router["id"], f"{verb}_router_interface", body=body).raise_for_status()


def shown(node: Daemon, kind: str, thing: Any) -> Any:
    """An object of Neutron's on a node."""
    return node.get(f"/v1/{kind}/neutron.{thing['id']}")


def test_a_network_is_announced_from_the_hosts_of_its_ports_and_follows_its_vpn(tenant: Tenant) -> None:
    neutron, one, other = tenant.cloud.neutron, tenant.cloud.one, tenant.cloud.other
    tenant.bind("network", tenant.network["id"])
    tenant.announces(tenant.own)
    assert shown(one, "ports", tenant.port)["interface"] == f"tap{tenant.port['id'][:11]}"
    assert shown(one, "bgpvpns", tenant.vpn)["name"] == f"vpn-{tenant.vpn['id'][:8]}"
    assert neutrons(other) == []
    tenant.plugged(OTHER_HOST, f"10.{tenant.number}.0.6")
    tenant.announces(f"10.{tenant.number}.0.6/32", node=other)
    tenant.announces(tenant.own)
    neutron.put("bgpvpns", tenant.vpn["id"], route_targets=["64512:5000"], local_pref=0)
    for node, last in ((one, 5), (other, 6)):
        tenant.announces(f"10.{tenant.number}.0.{last}/32", target="64512:5000", node=node)
        assert list(to("64512:5000", node).values()) == [0], "a LOCAL_PREF of 0 is one"
    tenant.announces()
    neutron.put("ports", tenant.port["id"], admin_state_up=False)
    tenant.announces(target="64512:5000")


def test_a_port_that_changes_its_host_changes_its_node(tenant: Tenant) -> None:
    tenant.bind("network", tenant.network["id"])
    tenant.announces(tenant.own)
    tenant.cloud.neutron.put("ports", tenant.port["id"], **{"binding:host_id": OTHER_HOST})
    tenant.announces(tenant.own, node=tenant.cloud.other)
    tenant.announces()
    until(lambda: neutrons(tenant.cloud.one) == [], "the first node has nothing of it")


def test_what_is_deleted_with_its_associations_is_withdrawn(tenant: Tenant) -> None:
    neutron = tenant.cloud.neutron
    other = neutron.network("other", f"10.{tenant.number}.1.0/24")
    port = tenant.plugged(HOST, f"10.{tenant.number}.1.5", network=other)
    tenant.bind("network", tenant.network["id"])
    tenant.bind("port", port["id"])
    tenant.announces(tenant.own, f"10.{tenant.number}.1.5/32")
    neutron.delete("ports", port["id"])
    tenant.announces(tenant.own)
    neutron.delete("bgpvpns", tenant.vpn["id"])
    until(lambda: neutrons(tenant.cloud.one) == [], "nothing is left")


def test_port_associations_follow_the_targets_of_their_vpn_and_keep_their_routes(tenant: Tenant) -> None:
    neutron = tenant.cloud.neutron
    prefix, more = f"172.16.{tenant.number}.0/24", f"172.17.{tenant.number}.0/24"
    routes = [{"type": "prefix", "prefix": prefix, "local_pref": 0}]
    bound = tenant.bind("port", tenant.port["id"], routes=routes)
    until(
        lambda: to(tenant.target, tenant.cloud.one) == {tenant.own: None, prefix: 0}, "the port and what is behind it"
    )
    neutron.put("bgpvpns", tenant.vpn["id"], route_targets=["64512:5001"])
    tenant.announces(tenant.own, prefix, target="64512:5001")
    path = "bgpvpns", tenant.vpn["id"], "port_associations", bound["id"]
    changed = neutron.put(*path, advertise_fixed_ips=False)
    assert [route["prefix"] for route in changed["routes"]] == [prefix]
    tenant.announces(prefix, target="64512:5001")
    neutron.put(*path, routes=[{"type": "prefix", "prefix": more}])
    tenant.announces(more, target="64512:5001")
    refused = neutron.ask(
        "PUT", *path, body={"port_association": {"routes": [{"type": "bgpvpn", "bgpvpn_id": path[1]}]}}
    )
    assert (refused.status_code, "into itself" in refused.text) == (400, True)
    neutron.delete(*path)
    tenant.announces(target="64512:5001")


def test_a_router_brings_its_networks_and_its_extra_routes_unless_it_is_told_not_to(tenant: Tenant) -> None:
    neutron, number = tenant.cloud.neutron, tenant.number
    second = neutron.network("second", f"10.{number}.1.0/24")
    router = neutron.post("routers", name="router")
    for network in (tenant.network, second):
        interface(neutron, "add", router, network)
    extra = f"172.18.{number}.0/24"
    neutron.put("routers", router["id"], routes=[{"destination": extra, "nexthop": f"10.{number}.0.5"}])
    bound = tenant.bind("router", router["id"], advertise_extra_routes=False)
    assert bound["advertise_extra_routes"] is False
    tenant.announces(tenant.own)
    neutron.put("bgpvpns", tenant.vpn["id"], "router_associations", bound["id"], advertise_extra_routes=True)
    tenant.announces(tenant.own, extra)
    tenant.plugged(HOST, f"10.{number}.1.5", network=second)
    tenant.announces(tenant.own, extra, f"10.{number}.1.5/32")
    refused = neutron.ask(
        "POST",
        "bgpvpns",
        tenant.vpn["id"],
        "network_associations",
        body={"network_association": {"network_id": second["id"]}},
    )
    assert refused.status_code == 400
    interface(neutron, "remove", router, second)
    tenant.announces(tenant.own, extra)


def test_a_router_any_of_whose_networks_is_in_a_vpn_by_itself_is_refused(tenant: Tenant) -> None:
    neutron = tenant.cloud.neutron
    second = neutron.network("second", f"10.{tenant.number}.1.0/24")
    router = neutron.post("routers", name="router")
    for network in (tenant.network, second):
        interface(neutron, "add", router, network)
    path = "bgpvpns", tenant.vpn["id"], "router_associations"
    for network in (tenant.network, second):
        bound = tenant.bind("network", network["id"])
        assert neutron.ask("POST", *path, body={"router_association": {"router_id": router["id"]}}).status_code == 400
        neutron.delete("bgpvpns", tenant.vpn["id"], "network_associations", bound["id"])
    neutron.post(*path, router_id=router["id"])
    outside = neutron.post("networks", name="outside", **{"router:external": True})
    body = {"network_association": {"network_id": outside["id"]}}
    assert neutron.ask("POST", "bgpvpns", tenant.vpn["id"], "network_associations", body=body).status_code == 400
    for network in (tenant.network, second):
        interface(neutron, "remove", router, network)


def test_ipv6_addresses_distinguishers_and_vnis_reach_the_node(tenant: Tenant) -> None:
    neutron, number, node = tenant.cloud.neutron, tenant.number, tenant.cloud.one
    network = neutron.network("both", f"10.{number}.1.0/24", f"2001:db8:{number}::/64")
    addresses = f"10.{number}.1.5", f"10.{number}.1.6", f"2001:db8:{number}::5"
    tenant.plugged(HOST, *addresses, network=network)
    neutron.put("bgpvpns", tenant.vpn["id"], route_distinguishers=[f"64512:{7000 + number}"])
    tenant.bind("network", network["id"])
    tenant.announces(f"{addresses[0]}/32", f"{addresses[1]}/32")
    tenant.announces(f"{addresses[2]}/128", family="vpnv6")
    [route] = node.get("/v1/routes?source=local&family=vpnv6")
    assert route["nlri"].startswith(f"64512:{7000 + number} ")
    l2 = neutron.post("bgpvpns", name="l2", type="l2", vni=4000 + number, route_targets=["64512:5002"])
    tenant.bind("network", network["id"], vpn=l2)
    until(lambda: to("64512:5002", node, "evpn"), "its stations are announced")
    assert shown(node, "bgpvpns", l2)["vni"] == 4000 + number


def test_vpns_are_found_by_ports_and_targets(tenant: Tenant) -> None:
    neutron = tenant.cloud.neutron
    other = neutron.post("bgpvpns", name="other", import_targets=["64512:1", "64512:2"])
    tenant.bind("port", tenant.port["id"])
    for query, found in [
        (f"ports={tenant.port['id']}", tenant.vpn),
        (f"route_targets={tenant.target}", tenant.vpn),
        ("import_targets=64512:2", other),
        (f"ports={tenant.port['id']}&import_targets=64512:2", None),
    ]:
        answer = neutron.client.get(f"/v2.0/bgpvpn/bgpvpns?{query}").raise_for_status().json()["bgpvpns"]
        assert [each["id"] for each in answer] == ([found["id"]] if found else []), query


def test_a_node_that_was_away_gets_all_that_it_missed_and_holds_up_nobody(tenant: Tenant) -> None:
    neutron, one, other = tenant.cloud.neutron, tenant.cloud.one, tenant.cloud.other
    tenant.bind("network", tenant.network["id"])
    tenant.announces(tenant.own)
    one.stop()
    port = tenant.plugged(HOST, f"10.{tenant.number}.0.7")
    tenant.plugged(OTHER_HOST, f"10.{tenant.number}.0.8")
    neutron.delete("ports", tenant.port["id"])
    tenant.announces(f"10.{tenant.number}.0.8/32", node=other)
    until(lambda: "node=node1 is not as it is wanted" in neutron.log(), "the log tells")
    one.start()
    tenant.announces(f"10.{tenant.number}.0.7/32")
    assert shown(one, "ports", port)["status"]["state"] == "ACTIVE"
    assert "node=node1 answers again" in neutron.log()


def test_what_is_changed_on_a_node_by_hand_is_put_right_and_what_is_its_own_stays(tenant: Tenant) -> None:
    one = tenant.cloud.one
    own = one.post("/v1/networks", {"name": "net"})
    tenant.bind("network", tenant.network["id"])
    tenant.announces(tenant.own)
    revision = shown(one, "ports", tenant.port)["revision"]
    one.ask("DELETE", f"/v1/associations/{neutrons(one)[-1]}").raise_for_status()
    tenant.announces()
    tenant.announces(tenant.own)
    assert shown(one, "ports", tenant.port)["revision"] == revision, "what is right is not written again"
    assert one.get(f"/v1/networks/{own['id']}")["name"] == "net"
    one.ask("DELETE", f"/v1/networks/{own['id']}").raise_for_status()


def test_what_a_node_refuses_stays_out_by_itself_and_the_log_tells(tenant: Tenant) -> None:
    one = tenant.cloud.one
    squatter = {"interface": f"tap{tenant.port['id'][:11]}", "mac_address": "02:00:00:00:00:01"}
    theirs = one.post("/v1/ports", squatter)
    tenant.bind("network", tenant.network["id"])
    good = tenant.plugged(HOST, f"10.{tenant.number}.0.9")
    tenant.announces(f"10.{tenant.number}.0.9/32")
    words = f"node=node1 refuses port neutron.{tenant.port['id']}: interface: "
    until(lambda: words in tenant.cloud.neutron.log(), words)
    one.ask("DELETE", f"/v1/ports/{theirs['id']}").raise_for_status()
    tenant.announces(tenant.own, f"10.{tenant.number}.0.9/32")
    assert shown(one, "ports", good)["revision"] == 1
