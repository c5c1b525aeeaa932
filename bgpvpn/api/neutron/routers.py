"""Routers as Neutron has them, and floating addresses (rim).

A router of ours has the gateway address of each of its subnets on every node, so it is `distributed`, and it translates
no addresses: `enable_snat` is false.
"""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.access import ROUTER_INTERFACE
from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.neutron import addresses
from bgpvpn.api.neutron.attributes import (
    REQUIRED,
    Attribute,
    action_of,
    address,
    constant,
    fields_of,
    flag,
    optional,
    table,
    tables,
    text,
)
from bgpvpn.api.neutron.errors import BadRequest, Conflict, NeutronError, NotFound, invalid
from bgpvpn.api.neutron.ports import interface_of, router_ports
from bgpvpn.api.neutron.resource import (
    COMMON,
    DESCRIPTION,
    NAME,
    PROJECT,
    STAMPS,
    TAGS,
    Resource,
    View,
    Wish,
    body_id,
    made,
    new_id,
    pick,
)
from bgpvpn.api.requests import body_of
from bgpvpn.intent import Removal
from bgpvpn.objects import ConflictError, FloatingIp, IntentError, Port, Router, Subnet


class Routers(Resource):
    """Tenants' routers."""

    kind = "router"
    name, plural = "router", "routers"
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "admin_state_up": Attribute(flag),
        "external_gateway_info": Attribute(optional(table)),
        "routes": Attribute(tables, post=False),
        "distributed": Attribute(constant(True, None)),
        "ha": Attribute(constant(False, None)),
        "flavor_id": Attribute(constant(None), put=False),
        "availability_zone_hints": Attribute(constant([]), put=False),
        "description": DESCRIPTION,
        "tags": TAGS,
    }
    shown = (*COMMON, *(name for name in attributes if name not in COMMON), "status", "availability_zones")

    def show(self, view: View, thing: Router) -> Plain:
        return {
            "id": thing.id,
            "name": thing.name,
            "tenant_id": thing.project_id,
            "project_id": thing.project_id,
            "admin_state_up": thing.admin_state_up,
            "status": "ACTIVE",  # as Neutron has it; `state` says what became of it
            "external_gateway_info": _gateway(view, thing),
            "routes": [attrs.asdict(route) for route in thing.routes],
            "distributed": True,
            "ha": False,
            "flavor_id": None,
            "availability_zone_hints": [],
            "availability_zones": [],
            "description": "",
            "tags": [],
            **view.stamps("router", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        router = made("router", id=new_id(), project_id=view.project(fields))
        assert isinstance(router, Router)
        return [self._with(view, router, fields)]

    def change(self, view: View, thing: Router, fields: dict[str, Any]) -> list[Wish]:
        return [self._with(view, thing, fields)]

    def _with(self, view: View, router: Router, fields: dict[str, Any]) -> Router:
        own = pick(fields, name="name", admin_state_up="admin_state_up", routes="routes")
        if "external_gateway_info" in fields:
            own |= _gateway_fields(view, router, fields["external_gateway_info"] or {})
        return attrs.evolve(router, **own)

    def remove(self, view: View, thing: Router) -> list[Wish]:
        if thing.subnet_ids:
            raise Conflict(
                "RouterInUse", f"Router {thing.id} still has ports: it is in {len(thing.subnet_ids)} subnets"
            )
        _check_floating(view, thing)
        return [Removal("router", thing.id)]

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        match error.field:
            case "routes" | "nexthop" | "destination":
                return BadRequest(f"Invalid format for routes: {error.reason}.", "InvalidRoutes")
            case "gateway_network_id" | "gateway_ips":
                return BadRequest(f"Bad router request: {error.reason}.", "BadRequest")
            case "subnet_ids":
                return BadRequest(f"Bad router request: {error.reason}.", "BadRequest")
            case "network_id" | "router_id" if isinstance(error, ConflictError):
                return Conflict("RouterInterfaceAttachmentConflict", f"Error attaching the router: {error.reason}.")
        return None

    # What is done to a router beside the usual

    async def add_interface(self, node: Node, request: Request) -> Response:
        """Put a router into a subnet, by its gateway address or by a port that is there."""
        view, router, body = await self._action(node, request)
        if ("subnet_id" in body) == ("port_id" in body):
            message = "Bad router request: Either subnet_id or port_id must be specified, and not both."
            raise BadRequest(message, "BadRequest")
        port = None
        if "port_id" in body:
            port = view.found("port", body_id(body, "port_id"))
            subnet = _subnet_of(view, port)
        else:
            subnet = view.found("subnet", body_id(body, "subnet_id"))
        if subnet.id in router.subnet_ids:
            message = f"Bad router request: Router already has a port on subnet {subnet.id}."
            raise BadRequest(message, "BadRequest")
        if port is None and subnet.gateway_ip is None:
            raise BadRequest("Bad router request: Subnet for router interface must have a gateway IP.", "BadRequest")
        others = [each for each in view.intent.referring("subnet", subnet.id, "router") if each.id != router.id]
        if others:
            message = f"Unable to complete operation: subnet {subnet.id} is on another router"
            raise Conflict("IpAddressInUse", message)
        if port is not None:
            view.wishes.append(attrs.evolve(port, device_owner=ROUTER_INTERFACE))
        view.wishes.append(attrs.evolve(router, subnet_ids=(*router.subnet_ids, subnet.id)))
        self.write(view, router)
        return answer(self._interface(view, router.id, subnet))

    async def remove_interface(self, node: Node, request: Request) -> Response:
        """Take a router out of a subnet, which is named by itself or by the router's port there."""
        view, router, body = await self._action(node, request)
        if "subnet_id" not in body and "port_id" not in body:
            raise BadRequest("Either subnet_id or port_id must be specified", "BadRequest")
        subnet = self._left(view, router, body)
        answered = self._interface(view, router.id, subnet)
        for floating in view.intent.referring("router", router.id, "floating_ip"):
            if addresses.subnet_of([subnet], _fixed_address(view, floating) or "::"):
                message = f"Router interface for subnet {subnet.id} on router {router.id} cannot be deleted, "
                raise Conflict(
                    "RouterInterfaceInUseByFloatingIP", f"{message}as floating address {floating.address} needs it"
                )
        view.wishes.append(attrs.evolve(router, subnet_ids=tuple(id_ for id_ in router.subnet_ids if id_ != subnet.id)))
        stored = interface_of(view, subnet)
        if stored is not None:
            view.wishes.append(Removal("port", stored.id))
        self.write(view, router)
        return answer(answered)

    def _left(self, view: View, router: Router, body: dict[str, Any]) -> Subnet:
        """Return the subnet that a router shall leave."""
        here = [view.intent.subnets[id_] for id_ in router.subnet_ids]
        if "port_id" in body:
            port_id = body_id(body, "port_id")
            here = [each for each in here if _port_id(view, router, each) == port_id]
            if not here:
                message = f"Router {router.id} does not have an interface with id {port_id}"
                raise NotFound("RouterInterfaceNotFound", message)
        if "subnet_id" in body:
            subnet_id = body_id(body, "subnet_id")
            here = [each for each in here if each.id == subnet_id]
            if not here:
                message = f"Router {router.id} has no interface on subnet {subnet_id}"
                raise NotFound("RouterInterfaceNotFoundForSubnet", message)
        return here[0]

    def _interface(self, view: View, router_id: str, subnet: Subnet) -> Plain:
        router = view.intent.routers[router_id]
        return {
            "id": router.id,
            "tenant_id": router.project_id,
            "project_id": router.project_id,
            "port_id": _port_id(view, router, subnet),
            "network_id": subnet.network_id,
            "subnet_id": subnet.id,
            "subnet_ids": [subnet.id],
        }

    async def add_routes(self, node: Node, request: Request) -> Response:
        """Add extra routes to those that are there."""
        return await self._routes(node, request, add=True)

    async def remove_routes(self, node: Node, request: Request) -> Response:
        """Take extra routes away."""
        return await self._routes(node, request, add=False)

    async def _routes(self, node: Node, request: Request, *, add: bool) -> Response:
        octets = await body_of(request)
        view = self.view(node, request)
        router = view.found("router", request.path_params["id"])
        ((given,), _) = fields_of(octets, "router", "routers", bulk=False)
        try:
            named = attrs.evolve(router, routes=tables(given.get("routes"))).routes
        except IntentError as error:
            raise self.refusal(error, router) or error from None
        except ValueError as error:
            raise invalid("routes", error) from None
        kept = [route for route in router.routes if route not in named]
        view.wishes.append(attrs.evolve(router, routes=(*kept, *named) if add else tuple(kept)))
        self.write(view, router)
        return answer({"router": self.show(view, view.found("router", router.id))})

    async def _action(self, node: Node, request: Request) -> tuple[View, Router, dict[str, Any]]:
        body = action_of(await body_of(request))
        view = self.view(node, request)
        return view, view.found("router", request.path_params["id"]), body


def _subnet_of(view: View, port: Port) -> Subnet:
    """Return the one subnet that a port is to connect a router to."""
    if port.device_owner.startswith("network:"):
        message = f"Unable to complete operation: port {port.id} is in use already, as {port.device_owner}"
        raise Conflict("PortInUse", message)
    subnets = [] if port.network_id is None else addresses.subnets_of(view, port.network_id)
    found = {each.id: each for text in port.ip_addresses if (each := addresses.subnet_of(subnets, text)) is not None}
    if len(found) != 1:
        message = f"Bad router request: port {port.id} has addresses of {len(found)} subnets, and one is wanted."
        raise BadRequest(message, "BadRequest")
    return next(iter(found.values()))


def _port_id(view: View, router: Router, subnet: Subnet) -> str | None:
    """Return the id of the port that a router has in a subnet, stored or not."""
    stored = interface_of(view, subnet)
    if stored is not None:
        return stored.id
    interfaces = (each for each in router_ports(view, router) if each.owner == ROUTER_INTERFACE)
    return next((each.id for each in interfaces if each.subnets == (subnet,)), None)


def _gateway(view: View, router: Router) -> Plain | None:
    if router.gateway_network_id is None:
        return None
    subnets = addresses.subnets_of(view, router.gateway_network_id)
    return {
        "network_id": router.gateway_network_id,
        "enable_snat": False,
        "external_fixed_ips": addresses.fixed_ips(subnets, router.gateway_ips),
    }


def _gateway_fields(view: View, router: Router, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the way out that is wanted; addresses that are not named stay, or are free ones."""
    if unknown := wanted.keys() - {"network_id", "enable_snat", "external_fixed_ips", "qos_policy_id"}:
        raise invalid("external_gateway_info", f"'{min(unknown)}' is not known")
    for name in ("enable_snat", "qos_policy_id"):
        if wanted.get(name):
            raise invalid("external_gateway_info", f"{name} cannot be kept here, routers translate no addresses")
    network_id = wanted.get("network_id", router.gateway_network_id if wanted else None)
    if network_id != router.gateway_network_id:
        _check_floating(view, router)
    if network_id is None:
        return {"gateway_network_id": None, "gateway_ips": ()}
    if not isinstance(network_id, str):
        raise invalid("external_gateway_info", f"'{network_id}' is not a valid UUID")
    view.found("network", network_id)
    if wanted.get("external_fixed_ips"):
        found = _gateway_addresses(view, router, network_id, wanted["external_fixed_ips"])
    elif network_id == router.gateway_network_id:
        found = list(router.gateway_ips)
    else:
        found = addresses.first_of_each_family(view, network_id)
    return {"gateway_network_id": network_id, "gateway_ips": found}


def _gateway_addresses(view: View, router: Router, network_id: str, wanted: Any) -> list[str]:
    subnets, used = addresses.subnets_of(view, network_id), view.taken(network_id)
    own = router.gateway_ips if router.gateway_network_id == network_id else ()
    found: list[str] = []
    try:
        for each in tables(wanted):
            if each.keys() - {"subnet_id", "ip_address"} or not each:
                raise ValueError(f"'{each}' takes subnet_id and ip_address")
            within = [one for one in subnets if each.get("subnet_id") in (None, one.id)]
            text = each.get("ip_address")
            if not within or (text is not None and addresses.subnet_of(within, address(text)) is None):
                raise ValueError(f"'{each}' is in no subnet of the network")
            if text is not None and address(text) in used and address(text) not in own:
                raise Conflict("IpAddressAlreadyAllocated", f"IP address {text} already allocated in the network")
            if text is None:
                text = next((one for one in own if addresses.subnet_of(within, one)), None)
            found.append(used.free(within[0]) if text is None else address(text))
            used.add(found[-1:])
    except ValueError as error:
        raise invalid("external_fixed_ips", error) from None
    return found


def _check_floating(view: View, router: Router) -> None:
    bound = [each for each in view.intent.referring("router", router.id, "floating_ip") if each.port_id is not None]
    if floating := [each.address for each in bound]:
        message = (
            f"Gateway cannot be updated for router {router.id}: floating addresses need it: {', '.join(floating[:5])}"
        )
        raise Conflict("RouterExternalGatewayInUseByFloatingIp", message)


def _fixed_address(view: View, floating: FloatingIp) -> str | None:
    """Return the address that a floating one stands for."""
    if floating.port_id is None:
        return None
    if floating.fixed_ip is not None:
        return floating.fixed_ip
    own = view.intent.ports[floating.port_id].ip_addresses
    same = [text.partition("/")[0] for text in own if (":" in text) == (":" in floating.address)]
    return same[0] if same else None


class FloatingIps(Resource):
    """Addresses of external networks that stand for those of ports."""

    kind = "floating_ip"
    name, plural = "floatingip", "floatingips"
    attributes = {
        "project_id": PROJECT,
        "floating_network_id": Attribute(text, REQUIRED, put=False),
        "floating_ip_address": Attribute(optional(address), put=False),
        "subnet_id": Attribute(optional(text), put=False),
        "port_id": Attribute(optional(text)),
        "fixed_ip_address": Attribute(optional(address)),
        "description": DESCRIPTION,
        "tags": TAGS,
    }
    shown = (
        "id",
        "tenant_id",
        "project_id",
        "floating_network_id",
        "floating_ip_address",
        "fixed_ip_address",
        "port_id",
        "router_id",
        "status",
        "description",
        "tags",
        *STAMPS,
    )

    def show(self, view: View, thing: FloatingIp) -> Plain:
        return {
            "id": thing.id,
            "tenant_id": thing.project_id,
            "project_id": thing.project_id,
            "floating_network_id": thing.network_id,
            "floating_ip_address": thing.address,
            "fixed_ip_address": _fixed_address(view, thing),
            "port_id": thing.port_id,
            "router_id": None if thing.port_id is None else thing.router_id,
            "status": "DOWN" if thing.port_id is None else view.status("floating_ip", thing.id),
            "description": "",
            "tags": [],
            **view.stamps("floating_ip", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        network = view.found("network", fields["floating_network_id"])
        if not network.external:
            message = f"Bad floatingip request: Network {network.id} is not a valid external network."
            raise BadRequest(message, "BadRequest")
        used = view.taken(network.id)
        wanted = fields.get("floating_ip_address")
        subnets = addresses.subnets_of(view, network.id)
        if fields.get("subnet_id") is not None:
            view.found("subnet", fields["subnet_id"])
            subnets = [each for each in subnets if each.id == fields["subnet_id"]]
        if wanted is not None and wanted in used:
            raise Conflict("IpAddressAlreadyAllocated", f"IP address {wanted} already allocated in the network")
        if wanted is not None and addresses.subnet_of(subnets, wanted) is None:
            message = f"IP address {wanted} is not a valid IP for the specified subnet."
            raise BadRequest(message, "InvalidIpForNetwork")
        if wanted is None:
            ipv4 = [each for each in subnets if ipaddress.ip_network(each.cidr).version == 4] or subnets
            if not ipv4:
                message = f"Bad floatingip request: network {network.id} has no such subnet."
                raise BadRequest(message, "BadRequest")
            wanted = used.free(ipv4[0])
        used.add([wanted])
        floating = made(
            "floating_ip", id=new_id(), project_id=view.project(fields), network_id=network.id, address=wanted
        )
        assert isinstance(floating, FloatingIp)
        return [self._bound(view, floating, fields)]

    def change(self, view: View, thing: FloatingIp, fields: dict[str, Any]) -> list[Wish]:
        return [self._bound(view, thing, fields)]

    def _bound(self, view: View, floating: FloatingIp, fields: dict[str, Any]) -> FloatingIp:
        """Return a floating address as it stands for another address, or for none."""
        port_id = fields.get("port_id", floating.port_id)
        fixed = fields.get("fixed_ip_address")
        if port_id is None:
            if fixed is not None:
                raise BadRequest("Bad floatingip request: fixed_ip_address cannot be without a port_id.", "BadRequest")
            return attrs.evolve(floating, port_id=None, fixed_ip=None, router_id=None)
        if "port_id" not in fields and "fixed_ip_address" not in fields:
            return floating
        port = view.found("port", port_id)
        own = [text.partition("/")[0] for text in port.ip_addresses]
        fixed = fixed or next((text for text in own if (":" in text) == (":" in floating.address)), None)
        if fixed not in own:
            message = f"Bad floatingip request: Port {port.id} does not have fixed ip {fixed}."
            raise BadRequest(message, "BadRequest")
        beside = [wish for wish in view.wishes if isinstance(wish, FloatingIp) and wish.port_id == port.id]
        for other in (*view.intent.referring("port", port.id, "floating_ip"), *beside):
            if (
                other.id != floating.id
                and other.network_id == floating.network_id
                and _fixed_address(view, other) == fixed
            ):
                message = (
                    f"Cannot associate floating IP {floating.address} with port {port.id} using fixed IP {fixed}, "
                )
                raise Conflict("FloatingIPPortAlreadyAssociated", f"{message}as that has floating IP {other.address}.")
        router = self._router(view, floating, port, str(fixed))
        return attrs.evolve(floating, port_id=port.id, fixed_ip=fixed, router_id=router.id)

    def _router(self, view: View, floating: FloatingIp, port: Port, fixed: str) -> Router:
        """Return the router that leads from an address to the floating one's network."""
        subnet = addresses.subnet_of(addresses.subnets_of(view, port.network_id or ""), fixed)
        routers = [] if subnet is None else view.intent.referring("subnet", subnet.id, "router")
        for router in routers:
            if router.gateway_network_id == floating.network_id:
                return router  # type: ignore[no-any-return]
        message = f"External network {floating.network_id} is not reachable from the subnet of {fixed}. "
        kind = "ExternalGatewayForFloatingIPNotFound"
        raise NeutronError(HTTPStatus.NOT_FOUND, kind, f"{message}Therefore, cannot associate port {port.id}.")

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        if isinstance(error, ConflictError) and error.field == "address":
            return Conflict("IpAddressAlreadyAllocated", error.reason)
        return None
