"""The extensions of Neutron's API that there are (rim).

A client looks here whether it may use a field. `bgpvpnd` is an extension of our own: the fields that no other has.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.neutron.errors import NotFound

UPDATED = "2026-01-01T00:00:00-00:00"

OWN = (
    "Fields of this node's own: state and reason of every object; technique, aggregate, allowed_prefixes, max_prefixes "
    "and local_pref_range of a BGPVPN, and whether it is up; direction of a port association; interface, netns and ovs "
    "in a port's binding:profile; address_scope of a subnet; advertise_fixed_ip_host_routes of a BGP speaker; families "
    "and admin_state_up of a BGP peer."
)

EXTENSIONS: dict[str, tuple[str, str]] = {
    "agent": ("agent", "Shows this node as an agent."),
    "binding": ("Port Binding", "Says on which node and interface a port is."),
    "bgp": ("Neutron BGP Dynamic Routing Extension", "Tells addresses of tenants to BGP peers."),
    "bgp_4byte_asn": ("BGP 4-byte AS numbers", "An AS may have 32 bits."),
    "bgp_dragent_scheduler": ("BGP Dynamic Routing Agent Scheduler", "Which agent speaks for a speaker: this node."),
    "bgpvpn": ("BGPVPN Extension", "Provides support for BGP VPN interconnections."),
    "bgpvpn-routes-control": ("BGPVPN Routes Control Extension", "Says which routes are advertised into a BGPVPN."),
    "bgpvpn-vni": ("BGPVPN VXLAN VNI extension", "A BGPVPN may have a VNI."),
    "external-net": ("Neutron external network", "Networks that routers lead to."),
    "extraroute": ("Neutron Extra Route", "Routers may have extra routes."),
    "extraroute-atomic": ("Atomically add/remove extra routes", "Extra routes can be added and removed one by one."),
    "net-mtu": ("Network MTU", "Shows the MTU of a network."),
    "net-mtu-writable": ("Network MTU (writable)", "The MTU of a network can be set."),
    "pagination": ("Pagination support", "Lists come in pages."),
    "port-security": ("Port Security", "Shows that ports have none."),
    "project-id": ("project_id field enabled", "project_id stands beside tenant_id."),
    "router": ("Neutron L3 Router", "Routers between subnets, and floating addresses."),
    "sorting": ("Sorting support", "Lists can be sorted."),
    "standard-attr-description": ("standard-attr-description", "Descriptions, which are always empty."),
    "standard-attr-revisions": ("Resource revision numbers", "How often an object was written."),
    "standard-attr-timestamp": ("Resource timestamps", "When an object was made, and last written."),
    "bgpvpnd": ("bgpvpnd", OWN),
}


def _extension(alias: str) -> Plain:
    name, description = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": UPDATED, "links": []}


async def show_extensions(node: Node, request: Request) -> Response:
    """List the extensions."""
    return answer({"extensions": [_extension(alias) for alias in EXTENSIONS]})


async def show_extension(node: Node, request: Request) -> Response:
    """Show one extension."""
    alias = request.path_params["id"]
    if alias not in EXTENSIONS:
        raise NotFound("ExtensionNotFound", f"Extension with alias {alias} does not exist")
    return answer({"extension": _extension(alias)})
