"""Ports as Neutron has them: those of stations, and those that routers have by being there (rim).

A port of a router is not stored: it follows from the router, with an id made of both its ids. So it can be seen, and
the router can be asked to give it up, but it cannot be changed.

    Neutron                     ours
    fixed_ips                   ip_addresses; free ones are taken when none are named
    binding:host_id             host
    binding:profile             interface, netns and ovs
    device_id                   none, but of a router's port the router
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import attrs

from bgpvpn.access import ROUTER_INTERFACE
from bgpvpn.api.boundary import Plain
from bgpvpn.api.neutron import addresses
from bgpvpn.api.neutron.attributes import (
    LEFT_OUT,
    REQUIRED,
    Attribute,
    address,
    anything,
    choice,
    constant,
    flag,
    optional,
    table,
    tables,
    text,
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
from bgpvpn.intent import Removal
from bgpvpn.objects import ConflictError, IntentError, Port, Router, Subnet

GATEWAY = "network:router_gateway"
_NAMESPACE = uuid.UUID("3ab69e70-6e1f-4bb8-9a34-2f0a3d5b8c11")

PROFILE = ("interface", "netns", "ovs")


@attrs.frozen
class RouterPort:
    """Where a router is in a network."""

    router: Router
    network_id: str
    owner: str
    subnets: tuple[Subnet, ...]
    addresses: tuple[str, ...]

    @property
    def id(self) -> str:
        place = self.subnets[0].id if self.owner == ROUTER_INTERFACE else self.network_id
        return str(uuid.uuid5(_NAMESPACE, f"{self.router.id} {self.owner} {place}"))


def router_ports(view: View, router: Router) -> Iterator[RouterPort]:
    """Yield the ports that a router has by being there."""
    for id_ in router.subnet_ids:
        subnet = view.intent.subnets[id_]
        if interface_of(view, subnet) is None and subnet.gateway_ip is not None:
            yield RouterPort(router, subnet.network_id, ROUTER_INTERFACE, (subnet,), (subnet.gateway_ip,))
    if router.gateway_network_id is not None:
        subnets = addresses.subnets_of(view, router.gateway_network_id)
        yield RouterPort(router, router.gateway_network_id, GATEWAY, tuple(subnets), router.gateway_ips)


def interface_of(view: View, subnet: Subnet) -> Port | None:
    """Return the stored port by which a router is in a subnet."""
    for port in view.intent.referring("network", subnet.network_id, "port"):
        if port.device_owner == ROUTER_INTERFACE and any(
            addresses.subnet_of([subnet], each) for each in port.ip_addresses
        ):
            return port  # type: ignore[no-any-return]
    return None


def router_of(view: View, port: Port) -> Router | None:
    """Return the router whose interface a stored port is."""
    if port.device_owner != ROUTER_INTERFACE or port.network_id is None:
        return None
    for subnet in addresses.subnets_of(view, port.network_id):
        if any(addresses.subnet_of([subnet], each) for each in port.ip_addresses):
            for router in view.intent.referring("subnet", subnet.id, "router"):
                if view.sees("router", router.id):
                    return router  # type: ignore[no-any-return]
    return None


class Ports(Resource):
    """Stations, and routers' places."""

    kind = "port"
    name, plural = "port", "ports"
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "network_id": Attribute(text, REQUIRED, put=False),
        "mac_address": Attribute(text),
        "fixed_ips": Attribute(optional(tables)),
        "admin_state_up": Attribute(flag),
        "device_owner": Attribute(text),
        "device_id": Attribute(constant("", None)),
        "binding:host_id": Attribute(optional(text)),
        "binding:profile": Attribute(optional(table)),
        "binding:vnic_type": Attribute(choice("normal")),
        "security_groups": Attribute(constant([], None)),
        "allowed_address_pairs": Attribute(constant([], None)),
        "extra_dhcp_opts": Attribute(constant([], None)),
        "port_security_enabled": Attribute(constant(False)),
        "propagate_uplink_status": Attribute(anything),
        "description": DESCRIPTION,
        "tags": TAGS,
    }
    shown = (
        *COMMON,
        *(name for name in attributes if name not in (*COMMON, "propagate_uplink_status")),
        "status",
        "binding:vif_type",
        "binding:vif_details",
        "ip_allocation",
    )

    def all(self, view: View) -> Iterator[Port | RouterPort]:
        yield from view.all("port")
        for router in view.all("router"):
            yield from router_ports(view, router)

    def found(self, view: View, id_: str) -> Port | RouterPort:
        port = view.sees("port", id_)
        if port is not None:
            return port  # type: ignore[no-any-return]
        derived = (each for router in view.all("router") for each in router_ports(view, router) if each.id == id_)
        return next(derived, None) or view.found("port", id_)

    def show(self, view: View, thing: Port | RouterPort) -> Plain:
        return self._of_router(view, thing) if isinstance(thing, RouterPort) else self._of_station(view, thing)

    def _of_station(self, view: View, thing: Port) -> Plain:
        subnets = [] if thing.network_id is None else addresses.subnets_of(view, thing.network_id)
        router = router_of(view, thing)
        profile: Plain = {
            "interface": thing.interface,
            "netns": thing.netns,
            "ovs": None if thing.ovs is None else attrs.asdict(thing.ovs),
        }
        operator = view.caller.role == "operator"
        return _row(
            {
                "id": thing.id,
                "name": thing.name,
                "tenant_id": thing.project_id,
                "project_id": thing.project_id,
                "network_id": thing.network_id,
                "mac_address": thing.mac_address,
                "fixed_ips": addresses.fixed_ips(subnets, thing.ip_addresses),
                "admin_state_up": thing.admin_state_up,
                "status": view.status("port", thing.id),
                "device_owner": thing.device_owner,
                "device_id": "" if router is None else router.id,
                "binding:host_id": thing.host if operator else "",
                "binding:profile": profile if operator else {},
                "binding:vif_type": "tap" if thing.ovs is None else "ovs",
                **view.stamps("port", thing.id),
            }
        )

    def _of_router(self, view: View, thing: RouterPort) -> Plain:
        router = thing.router
        return _row(
            {
                "id": thing.id,
                "name": "",
                "tenant_id": router.project_id,
                "project_id": router.project_id,
                "network_id": thing.network_id,
                "mac_address": view.node.itself()["gateway_mac"],
                "fixed_ips": addresses.fixed_ips(list(thing.subnets), thing.addresses),
                "admin_state_up": router.admin_state_up,
                "status": "ACTIVE" if router.admin_state_up else "DOWN",
                "device_owner": thing.owner,
                "device_id": router.id,
                "binding:host_id": "",
                "binding:profile": {},
                "binding:vif_type": "distributed",
                **view.stamps("router", router.id),
            }
        )

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        network = view.found("network", fields["network_id"])
        own = self._own(view, network.id, fields, ())
        if "ip_addresses" not in own:
            own["ip_addresses"] = addresses.first_of_each_family(view, network.id)
        own.setdefault("mac_address", view.taken(network.id).new_mac())
        project = view.project(fields, network.project_id)
        return [made("port", id=new_id(), project_id=project, network_id=network.id, **own)]

    def change(self, view: View, thing: Port | RouterPort, fields: dict[str, Any]) -> list[Wish]:
        if isinstance(thing, RouterPort):
            if fields:
                raise BadRequest(
                    f"Port {thing.id} follows from router {thing.router.id}, and changes with it", "BadRequest"
                )
            return []
        own = self._own(view, thing.network_id, fields, thing.ip_addresses)
        if fields.get("binding:profile", LEFT_OUT) is not LEFT_OUT:
            own.setdefault("interface", "")  # as it is when nobody says it
            own.setdefault("netns", "")
            own.setdefault("ovs", None)
        return [attrs.evolve(thing, **own)]

    def remove(self, view: View, thing: Port | RouterPort) -> list[Wish]:
        router = thing.router if isinstance(thing, RouterPort) else router_of(view, thing)
        if router is not None:
            raise Conflict(
                "ServicePortInUse",
                f"Port {thing.id} cannot be deleted directly via the port API: it is of router {router.id}",
            )
        return [Removal("port", thing.id)]

    def _own(self, view: View, network_id: str | None, fields: dict[str, Any], now: tuple[str, ...]) -> dict[str, Any]:
        names = {"name": "name", "mac_address": "mac_address", "admin_state_up": "admin_state_up"}
        own = pick(fields, **names, device_owner="device_owner")
        if "binding:host_id" in fields:
            own["host"] = fields["binding:host_id"] or ""
        for name, value in (fields.get("binding:profile") or {}).items():
            if name not in PROFILE:
                raise invalid("binding:profile", f"{name!r} is not known; there are {', '.join(PROFILE)}")
            own[name] = value
        if fields.get("fixed_ips") is not None:
            own["ip_addresses"] = self._addresses(view, network_id, fields["fixed_ips"], now)
        return own

    def _addresses(
        self, view: View, network_id: str | None, wanted: list[dict[str, Any]], now: tuple[str, ...]
    ) -> list[str]:
        """Return the addresses that are asked for; `now`: which the port has."""
        subnets = [] if network_id is None else addresses.subnets_of(view, network_id)
        used = view.taken(network_id or "")
        named = []
        for each in wanted:
            if each.keys() - {"subnet_id", "ip_address"} or not each:
                raise invalid("fixed_ips", f"'{each}' takes subnet_id and ip_address")
            named.append(_named(subnets, each))
        used.add(host for host, _ in named if host)
        kept = [host for host in now if host not in [each for each, _ in named]]
        found = []
        for host, subnet in named:
            chosen = host
            if host is None and subnet is not None:
                chosen = next((each for each in kept if addresses.subnet_of([subnet], each)), None)
                if chosen is None:
                    chosen = used.free(subnet)
                else:
                    kept.remove(chosen)
            found.append(chosen)
        return [host for host in found if host]

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        conflict = isinstance(error, ConflictError)
        match error.field:
            case "ip_addresses" if conflict:
                return Conflict("IpAddressAlreadyAllocated", error.reason)
            case "ip_addresses":
                return BadRequest(error.reason, "InvalidIpForNetwork")
            case "mac_address" if conflict:
                return Conflict("MacAddressInUse", f"Unable to complete operation: {error.reason}.")
        return None


def _named(subnets: list[Subnet], wanted: dict[str, Any]) -> tuple[str | None, Subnet | None]:
    """Return the address and the subnet that an entry of fixed_ips names."""
    text, subnet_id = wanted.get("ip_address"), wanted.get("subnet_id")
    try:
        text = None if text is None else address(text)
    except ValueError as error:
        raise invalid("fixed_ips", error) from None
    if subnet_id is None:
        if text is not None and subnets and addresses.subnet_of(subnets, text) is None:
            message = f"IP address {text} is not a valid IP for any of the subnets on the specified network."
            raise BadRequest(message, "InvalidIpForNetwork")
        return text, None
    subnet = next((each for each in subnets if each.id == subnet_id), None)
    if subnet is None:
        raise BadRequest(f"Invalid input for operation: subnet {subnet_id} is not of this network.", "InvalidInput")
    if text is not None and addresses.subnet_of([subnet], text) is None:
        raise BadRequest(f"IP address {text} is not a valid IP for the specified subnet.", "InvalidIpForSubnet")
    return text, subnet


def _row(plain: Plain) -> Plain:
    """Return a row with what is the same for all ports."""
    return {
        **plain,
        "binding:vif_details": {},
        "binding:vnic_type": "normal",
        "security_groups": [],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "port_security_enabled": False,
        "ip_allocation": "immediate" if plain["fixed_ips"] else "none",
        "description": "",
        "tags": [],
    }
