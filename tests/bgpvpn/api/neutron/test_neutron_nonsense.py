"""Whatever is said, Neutron's API answers it or refuses it; it has no faults, and half of a request is never done."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpvpn.objects import Bgpvpn, FloatingIp, Network, Object, Peer, Port, Router, Speaker, Subnet
from tests.bgpvpn.api.neutron.asking import OWNER, asked, one
from tests.fakes.node import FakeNode, contents

THERE: list[Object] = [
    Network(id="n"),
    Subnet(id="s", network_id="n", cidr="10.0.0.0/29", gateway_ip="10.0.0.1"),
    Network(id="out", external=True),
    Subnet(id="so", network_id="out", cidr="192.0.2.0/29", gateway_ip="192.0.2.1"),
    Router(id="r", subnet_ids=("s",), gateway_network_id="out", gateway_ips=("192.0.2.2",)),
    Port(id="p", network_id="n", mac_address="02:00:00:00:00:01", ip_addresses=("10.0.0.2",)),
    FloatingIp(id="f", network_id="out", address="192.0.2.3"),
    Bgpvpn(id="v"),
    Bgpvpn(id="w", type="l2"),
    Peer(id="b", address="192.0.2.9", remote_as=1),
    Speaker(id="k", local_as=1),
]
COLLECTIONS = (
    "networks",
    "subnets",
    "ports",
    "routers",
    "floatingips",
    "bgpvpn/bgpvpns",
    "bgpvpn/bgpvpns/v/network_associations",
    "bgpvpn/bgpvpns/v/router_associations",
    "bgpvpn/bgpvpns/v/port_associations",
    "bgp-speakers",
    "bgp-peers",
)
ACTIONS = (
    "routers/r/add_router_interface",
    "routers/r/remove_router_interface",
    "bgp-speakers/k/add_bgp_peer",
    "bgp-speakers/k/remove_bgp_peer",
    "bgp-speakers/k/add_gateway_network",
    "bgp-speakers/k/remove_gateway_network",
)
FIELDS = [
    "name",
    "network_id",
    "subnet_id",
    "port_id",
    "router_id",
    "bgpvpn_id",
    "bgp_peer_id",
    "cidr",
    "ip_version",
    "gateway_ip",
    "address_scope",
    "mtu",
    "allocation_pools",
    "start",
    "end",
    "fixed_ips",
    "ip_address",
    "mac_address",
    "binding:profile",
    "interface",
    "netns",
    "ovs",
    "bridge",
    "port",
    "vlan",
    "binding:host_id",
    "device_owner",
    "external_gateway_info",
    "external_fixed_ips",
    "routes",
    "destination",
    "nexthop",
    "type",
    "prefix",
    "vni",
    "floating_network_id",
    "floating_ip_address",
    "fixed_ip_address",
    "route_targets",
    "technique",
    "aggregate",
    "allowed_prefixes",
    "max_prefixes",
    "local_pref_range",
    "local_pref",
    "direction",
    "advertise_fixed_ips",
    "local_as",
    "peer_ip",
    "remote_as",
    "auth_type",
    "password",
    "project_id",
    "tenant_id",
    "router:external",
    "admin_state_up",
    "description",
    "tags",
]
TEXTS = [
    "n",
    "s",
    "out",
    "so",
    "r",
    "p",
    "f",
    "v",
    "w",
    "b",
    "k",
    "nowhere",
    "10.0.0.0/24",
    "10.0.0.3",
    "10.0.0.1",
    "192.0.2.4",
    "2001:db8::/64",
    "2001:db8::1",
    "64512:1",
    "l2",
    "l3",
    "prefix",
    "bgpvpn",
    "evpn",
    "ipvpn",
    "evpn-prefix",
    "both",
    "to-port",
    "none",
    "md5",
    "subnet",
    "02:00:00:00:00:02",
    "7",
    "-1",
    "../..",
    "224.0.0.1",
    "0.0.0.0/0",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 70000), st.integers(), st.sampled_from(TEXTS), st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6)
USUAL: dict[str, dict[str, Any]] = {
    "subnets": {"network_id": "n", "ip_version": 4, "cidr": "10.1.0.0/24"},
    "ports": {"network_id": "n"},
    "floatingips": {"floating_network_id": "out"},
    "bgpvpn/bgpvpns/v/network_associations": {"network_id": "n"},
    "bgpvpn/bgpvpns/v/router_associations": {"router_id": "r"},
    "bgpvpn/bgpvpns/v/port_associations": {"port_id": "p"},
    "bgp-speakers": {"local_as": 1, "ip_version": 4},
    "bgp-peers": {"peer_ip": "192.0.2.8", "remote_as": 1, "auth_type": "none"},
}
"""What is needed to make something at all."""

IDS = {"networks": "n", "subnets": "s", "ports": "p", "routers": "r", "floatingips": "f", "bgpvpn/bgpvpns": "v"}
QUIET = [HealthCheck.too_slow]


async def said(method: str, path: str, body: object, caller: Any) -> None:
    """Ask; a fault of ours would come out as it is."""
    node = FakeNode()
    node.write(THERE)
    before = contents(node)
    options = {} if caller is None else {"caller": caller}
    async with asked(node, **options) as api:
        answer = await api.ask(method, path, body)
        assert answer.status_code in (200, 201, 204, 400, 403, 404, 405, 409, 415), answer.text
        if answer.status_code >= 400:
            assert list(answer.json()) == ["NeutronError"]
            assert contents(node) == before
        for each in COLLECTIONS[:9]:
            await api.ask("GET", each)


@settings(max_examples=400, suppress_health_check=QUIET)
@given(st.sampled_from(COLLECTIONS), BODIES, st.sampled_from((None, OWNER)), st.booleans())
def test_nothing_that_is_made_or_changed_is_a_fault(path: str, body: Any, caller: Any, make: bool) -> None:
    if make:
        fields = {**USUAL.get(path, {}), **body}
        asyncio.run(said("POST", path, {one(path): fields}, caller))
    else:
        asyncio.run(
            said("PUT", f"{path}/{IDS.get(path, 'k' if 'speakers' in path else 'b')}", {one(path): body}, caller)
        )


@settings(max_examples=150, suppress_health_check=QUIET)
@given(st.sampled_from(sorted(USUAL)), st.sampled_from(FIELDS), VALUES)
def test_no_single_field_is_a_fault(path: str, field: str, value: Any) -> None:
    asyncio.run(said("POST", path, {one(path): {**USUAL[path], field: value}}, None))


@settings(max_examples=150, suppress_health_check=QUIET)
@given(st.sampled_from(ACTIONS), VALUES)
def test_no_action_is_a_fault(path: str, body: Any) -> None:
    asyncio.run(said("PUT", path, body, None))


@settings(max_examples=150, suppress_health_check=QUIET)
@given(
    st.sampled_from(COLLECTIONS),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields", "fixed_ips", *FIELDS]
            ),
            st.sampled_from(["asc", "desc", "True", "ip_address_substr=1", *TEXTS]) | st.text(max_size=4),
        ),
        max_size=4,
    ),
)
def test_no_query_is_a_fault(path: str, query: Any) -> None:
    async def ask() -> None:
        node = FakeNode()
        node.write(THERE)
        async with asked(node) as api:
            answer = await api.client.get(f"/v2.0/{path}", params=query)
            assert answer.status_code in (200, 400), answer.text

    asyncio.run(ask())
