"""Networks and subnets as Neutron has them (rim)."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs

from bgpvpn.api.boundary import Plain
from bgpvpn.api.neutron.attributes import (
    LEFT_OUT,
    REQUIRED,
    Attribute,
    address,
    anything,
    cidr,
    constant,
    flag,
    optional,
    text,
    whole,
)
from bgpvpn.api.neutron.errors import BadRequest, Conflict, NeutronError, invalid
from bgpvpn.api.neutron.resource import (
    COMMON,
    DESCRIPTION,
    NAME,
    PROJECT,
    TAGS,
    Resource,
    View,
    Wish,
    made,
    new_id,
    pick,
)
from bgpvpn.objects import ConflictError, IntentError, Network, Subnet


class Networks(Resource):
    """Tenants' networks, and external ones."""

    kind = "network"
    name, plural = "network", "networks"
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "admin_state_up": Attribute(constant(True)),
        "mtu": Attribute(optional(whole(0, 65535))),
        "router:external": Attribute(flag),
        "shared": Attribute(constant(False)),
        "port_security_enabled": Attribute(constant(False)),
        "availability_zone_hints": Attribute(constant([]), put=False),
        "description": DESCRIPTION,
        "tags": TAGS,
    }
    shown = (
        *COMMON,
        "admin_state_up",
        "status",
        "mtu",
        "subnets",
        "shared",
        "router:external",
        "availability_zone_hints",
        "availability_zones",
        "ipv4_address_scope",
        "ipv6_address_scope",
        "port_security_enabled",
    )

    def show(self, view: View, thing: Network) -> Plain:
        subnets = [
            each for each in view.intent.referring("network", thing.id, "subnet") if view.sees("subnet", each.id)
        ]
        scopes = {ipaddress.ip_network(each.cidr).version: each.address_scope or None for each in subnets}
        return {
            "id": thing.id,
            "name": thing.name,
            "tenant_id": thing.project_id,
            "project_id": thing.project_id,
            "admin_state_up": True,
            "status": "ACTIVE",  # as Neutron has it; `state` says what became of it
            "mtu": thing.mtu,
            "subnets": [each.id for each in subnets],
            "shared": False,
            "router:external": thing.external,
            "availability_zone_hints": [],
            "availability_zones": [],
            "ipv4_address_scope": scopes.get(4),
            "ipv6_address_scope": scopes.get(6),
            "port_security_enabled": False,
            "description": "",
            "tags": [],
            **view.stamps("network", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        return [made("network", id=new_id(), project_id=view.project(fields), **self._own(fields))]

    def change(self, view: View, thing: Network, fields: dict[str, Any]) -> list[Wish]:
        return [attrs.evolve(thing, **self._own(fields))]

    def _own(self, fields: dict[str, Any]) -> dict[str, Any]:
        own = pick(fields, name="name", mtu="mtu", external="router:external")
        if own.get("mtu") == 0:  # which is Neutron's word for: as large as can be
            own["mtu"] = None
        return own

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        if isinstance(error, ConflictError) and error.field == "id" and thing is not None:
            return Conflict("NetworkInUse", f"Unable to complete operation on network {thing.id}: {error.reason}.")
        if isinstance(error, ConflictError) and error.field == "external" and thing is not None:
            return Conflict("ExternalNetworkInUse", f"External network {thing.id} cannot be updated: {error.reason}.")
        return None


class Subnets(Resource):
    """Addresses of networks. Nothing here serves DHCP: whoever asks for it is told False."""

    kind = "subnet"
    name, plural = "subnet", "subnets"
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "network_id": Attribute(text, REQUIRED, put=False),
        "ip_version": Attribute(whole(4, 6), REQUIRED, put=False),
        "cidr": Attribute(cidr, REQUIRED, put=False),
        "gateway_ip": Attribute(optional(address)),
        "address_scope": Attribute(text),
        "enable_dhcp": Attribute(flag),
        "allocation_pools": Attribute(anything),
        "dns_nameservers": Attribute(constant([], None)),
        "host_routes": Attribute(constant([], None)),
        "service_types": Attribute(constant([], None)),
        "ipv6_ra_mode": Attribute(constant(None), put=False),
        "ipv6_address_mode": Attribute(constant(None), put=False),
        "subnetpool_id": Attribute(constant(None), put=False),
        "segment_id": Attribute(constant(None)),
        "dns_publish_fixed_ip": Attribute(constant(False)),
        "description": DESCRIPTION,
        "tags": TAGS,
    }
    shown = (*COMMON, *(name for name in attributes if name not in COMMON))

    def show(self, view: View, thing: Subnet) -> Plain:
        return {
            "id": thing.id,
            "name": thing.name,
            "tenant_id": thing.project_id,
            "project_id": thing.project_id,
            "network_id": thing.network_id,
            "ip_version": ipaddress.ip_network(thing.cidr).version,
            "cidr": thing.cidr,
            "gateway_ip": thing.gateway_ip,
            "allocation_pools": _pools(thing.cidr, thing.gateway_ip),
            "address_scope": thing.address_scope,
            "enable_dhcp": False,
            "dns_nameservers": [],
            "host_routes": [],
            "service_types": [],
            "ipv6_ra_mode": None,
            "ipv6_address_mode": None,
            "subnetpool_id": None,
            "segment_id": None,
            "dns_publish_fixed_ip": False,
            "description": "",
            "tags": [],
            **view.stamps("subnet", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        network = view.found("network", fields["network_id"])
        version = ipaddress.ip_network(fields["cidr"]).version
        if version != fields["ip_version"]:
            reason = f"is of IPv{version}, and ip_version is {fields['ip_version']}"
            raise BadRequest(f"Invalid input for operation: cidr '{fields['cidr']}' {reason}.", "InvalidInput")
        gateway = fields.get("gateway_ip", LEFT_OUT)
        if gateway is LEFT_OUT:
            gateway = _first(fields["cidr"])
        self._check_pools(fields, fields["cidr"], gateway)
        own = pick(fields, name="name", cidr="cidr", network_id="network_id", address_scope="address_scope")
        project = view.project(fields, network.project_id)
        return [made("subnet", id=new_id(), project_id=project, gateway_ip=gateway, **own)]

    def change(self, view: View, thing: Subnet, fields: dict[str, Any]) -> list[Wish]:
        self._check_pools(fields, thing.cidr, fields.get("gateway_ip", thing.gateway_ip))
        own = pick(fields, name="name", gateway_ip="gateway_ip", address_scope="address_scope")
        return [attrs.evolve(thing, **own)]

    def _check_pools(self, fields: dict[str, Any], cidr: str, gateway: str | None) -> None:
        pools = fields.get("allocation_pools")
        if pools and pools != _pools(cidr, gateway):
            raise invalid("allocation_pools", f"they cannot be kept here, they are always {_pools(cidr, gateway)}")

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        match error.field:
            case "cidr" if isinstance(error, ConflictError):
                return BadRequest(f"Invalid input for operation: Requested subnet: {error.reason}.", "InvalidInput")
            case "id" if isinstance(error, ConflictError) and thing is not None:
                return Conflict("SubnetInUse", f"Unable to complete operation on subnet {thing.id}: {error.reason}.")
            case "gateway_ip" if isinstance(error, ConflictError):
                return Conflict("IpAddressInUse", error.reason)
            case "gateway_ip" | "cidr":
                return BadRequest(f"Invalid input for operation: {error.reason}.", "InvalidInput")
        return None


def _first(cidr: str) -> str | None:
    """Return the address that a gateway has when none is named."""
    network = ipaddress.ip_network(cidr)
    return str(network[1]) if network.num_addresses > 2 else None


def _pools(cidr: str, gateway: str | None) -> list[dict[str, str]]:
    """Return where addresses are taken from: all but the gateway's."""
    network = ipaddress.ip_network(cidr)
    last = network.num_addresses - 1
    start, end = (0, last) if last < 2 else (1, last - (network.version == 4))
    split = None if gateway is None else int(ipaddress.ip_address(gateway)) - int(network.network_address)
    ranges = [(start, end)] if split is None or not start <= split <= end else [(start, split - 1), (split + 1, end)]
    return [{"start": str(network[low]), "end": str(network[high])} for low, high in ranges if low <= high]
