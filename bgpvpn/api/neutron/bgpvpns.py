"""BGP VPNs and what is bound to them as networking-bgpvpn has them (rim).

Beside its fields there are ours, which its clients do not know: technique, aggregate, allowed_prefixes, max_prefixes,
local_pref_range, admin_state_up, and the direction of a port association.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import attrs

from bgpvpn import access
from bgpvpn.api.boundary import Plain
from bgpvpn.api.neutron.attributes import (
    REQUIRED,
    Attribute,
    anything,
    choice,
    cidr,
    community,
    flag,
    is_uuid,
    listed,
    optional,
    tables,
    text,
    whole,
)
from bgpvpn.api.neutron.errors import BadRequest, NeutronError, NotFound, invalid
from bgpvpn.api.neutron.resource import NAME, PROJECT, STAMPS, Resource, View, Wish, made, missing, new_id, pick
from bgpvpn.objects import Association, Bgpvpn, ConflictError, IntentError, Kind

LOCAL_PREF = whole(0, (1 << 32) - 1)
_COMMUNITIES = Attribute(listed(community))


class Bgpvpns(Resource):
    """BGP VPNs."""

    kind = "bgpvpn"
    name, plural = "bgpvpn", "bgpvpns"
    path = "bgpvpn/bgpvpns"
    bulk = False
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "type": Attribute(choice("l3", "l2"), put=False),
        "route_targets": _COMMUNITIES,
        "import_targets": _COMMUNITIES,
        "export_targets": _COMMUNITIES,
        "route_distinguishers": _COMMUNITIES,
        "vni": Attribute(optional(whole(1, (1 << 24) - 1)), put=False),
        "local_pref": Attribute(optional(LOCAL_PREF)),
        "technique": Attribute(listed(text)),
        "aggregate": Attribute(text),
        "allowed_prefixes": Attribute(listed(cidr)),
        "max_prefixes": Attribute(optional(whole(0, 1_000_000))),
        "local_pref_range": Attribute(anything),
        "admin_state_up": Attribute(flag),
    }
    shown = ("id", "tenant_id", *attributes, "networks", "routers", "ports", *STAMPS)

    def show(self, view: View, thing: Bgpvpn) -> Plain:
        plain = attrs.asdict(access.shown(view.caller, thing))
        bound: dict[str, list[str]] = {"network": [], "router": [], "port": []}
        for association in view.intent.referring("bgpvpn", thing.id, "association"):
            if association.bgpvpn_id == thing.id:  # and not only its routes name it
                kind, id_ = association.bound
                bound[kind].append(id_)
        return {
            **{name: plain[name] for name in ("id", *self.attributes)},
            "tenant_id": thing.project_id,
            "networks": bound["network"],
            "routers": bound["router"],
            "ports": bound["port"],
            **view.stamps("bgpvpn", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        own = {**fields, "project_id": view.project(fields)}
        if own.get("vni") is not None and own.get("type", "l3") == "l3":
            own.setdefault("technique", ["evpn-prefix"])  # a VNI asks for VXLAN, and so for EVPN
        return [made("bgpvpn", id=new_id(), **own)]

    def change(self, view: View, thing: Bgpvpn, fields: dict[str, Any]) -> list[Wish]:
        return [attrs.evolve(thing, **fields)]


class _Associations(Resource):
    """What is bound to the VPN in the path: things of one kind."""

    kind = "association"
    bulk = True
    of: Kind
    exists: str  # the errors of networking-bgpvpn
    absent: str

    @property
    def field(self) -> str:
        return f"{self.of}_id"

    def _vpn(self, view: View) -> Bgpvpn:
        return view.found("bgpvpn", view.parent)  # type: ignore[no-any-return]

    def all(self, view: View) -> list[Association]:
        vpn = self._vpn(view)
        found = view.intent.referring("bgpvpn", vpn.id, "association")
        return [each for each in found if each.bgpvpn_id == vpn.id and each.bound[0] == self.of]

    def found(self, view: View, id_: str) -> Association:
        vpn = self._vpn(view)
        thing = view.sees("association", id_)
        if thing is None or thing.bgpvpn_id != vpn.id or thing.bound[0] != self.of:
            message = f"BGPVPN {self.of} association {id_} could not be found for BGPVPN {vpn.id}"
            raise NotFound(self.absent, message)
        return thing  # type: ignore[no-any-return]

    def show(self, view: View, thing: Association) -> Plain:
        project = access.project_of(thing, view.intent)
        return {
            "id": thing.id,
            "tenant_id": project,
            "project_id": project,
            self.field: getattr(thing, self.field),
            **self._more(thing),
            **view.stamps("association", thing.id),
        }

    def _more(self, thing: Association) -> Plain:
        return {}

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        vpn = self._vpn(view)
        id_ = fields[self.field]
        bound = view.sees(self.of, id_)
        if bound is None:
            raise missing(self.of, id_) if is_uuid(id_) else invalid(self.field, f"'{id_}' is not a valid UUID")
        for project, what in ((bound.project_id, self.of), (fields.get("project_id", vpn.project_id), "association")):
            if project != vpn.project_id and not getattr(bound, "external", False):
                message = f"Not authorized: {what} doesn't belong to the bgpvpn owner."
                raise NeutronError(HTTPStatus.FORBIDDEN, "NotAuthorized", message)
        if any(each.bgpvpn_id == vpn.id for each in view.intent.referring(self.of, id_, "association")):
            raise BadRequest(f"{self.of} {id_} is already associated to BGPVPN {vpn.id}", self.exists)
        if getattr(bound, "external", False):
            message = f"Network {id_} is external, and cannot be associated to BGPVPN {vpn.id}"
            raise BadRequest(message, "BGPVPNExternalNetAssociation")
        fields = {name: value for name, value in fields.items() if name != "project_id"}
        self._check(view, vpn, fields)
        return [made("association", id=new_id(), bgpvpn_id=vpn.id, **fields)]

    def change(self, view: View, thing: Association, fields: dict[str, Any]) -> list[Wish]:
        self._check(view, self._vpn(view), fields)
        return [attrs.evolve(thing, **fields)]

    def _check(self, view: View, vpn: Bgpvpn, fields: dict[str, Any]) -> None:
        """Refuse what networking-bgpvpn has errors of its own for."""

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        if error.field == "vni":
            return None
        if isinstance(error, ConflictError) or error.field == self.field:
            return BadRequest(f"Bad bgpvpn request: {error.reason}.", "BadRequest")
        return BadRequest(f"Invalid input for operation: {error}.", "InvalidInput")


class NetworkAssociations(_Associations):
    """Networks in a VPN."""

    of = "network"
    name, plural = "network_association", "network_associations"
    exists, absent = "BGPVPNNetAssocAlreadyExists", "BGPVPNNetAssocNotFound"
    attributes = {"project_id": PROJECT, "network_id": Attribute(text, REQUIRED, put=False)}
    shown = ("id", "tenant_id", *attributes, *STAMPS)


class RouterAssociations(_Associations):
    """Routers in a VPN."""

    of = "router"
    name, plural = "router_association", "router_associations"
    exists, absent = "BGPVPNRouterAssocAlreadyExists", "BGPVPNRouterAssocNotFound"
    attributes = {
        "project_id": PROJECT,
        "router_id": Attribute(text, REQUIRED, put=False),
        "advertise_extra_routes": Attribute(flag),
    }
    shown = ("id", "tenant_id", *attributes, *STAMPS)

    def _more(self, thing: Association) -> Plain:
        return pick(attrs.asdict(thing), advertise_extra_routes="advertise_extra_routes")


class PortAssociations(_Associations):
    """Ports in a VPN, with routes that lie behind them."""

    of = "port"
    name, plural = "port_association", "port_associations"
    exists, absent = "BGPVPNPortAssocAlreadyExists", "BGPVPNPortAssocNotFound"
    attributes = {
        "project_id": PROJECT,
        "port_id": Attribute(text, REQUIRED, put=False),
        "advertise_fixed_ips": Attribute(flag),
        "routes": Attribute(tables),
        "direction": Attribute(text),
    }
    shown = ("id", "tenant_id", *attributes, *STAMPS)

    def _more(self, thing: Association) -> Plain:
        routes = [attrs.asdict(route) for route in thing.routes]
        return {
            "advertise_fixed_ips": thing.advertise_fixed_ips,
            "routes": [{name: value for name, value in route.items() if value is not None} for route in routes],
            "direction": thing.direction,
        }

    def _check(self, view: View, vpn: Bgpvpn, fields: dict[str, Any]) -> None:
        for route in fields.get("routes", ()):
            if route.get("local_pref") is not None:
                try:
                    route["local_pref"] = LOCAL_PREF(route["local_pref"])
                except ValueError as error:
                    raise invalid("routes", error) from None
            if route.get("type") == "bgpvpn" and isinstance(route.get("bgpvpn_id"), str):
                self._check_leak(view, vpn, route["bgpvpn_id"])

    def _check_leak(self, view: View, vpn: Bgpvpn, id_: str) -> None:
        leaked = view.sees("bgpvpn", id_)
        if leaked is None:
            message = f"bgpvpn specified in route does not exist ({id_})"
            raise BadRequest(message, "BGPVPNPortAssocRouteNoSuchBGPVPN")
        if leaked.type != vpn.type:
            message = (
                f"bgpvpn specified in route is of type {leaked.type}, differing from {vpn.type} of the association"
            )
            raise BadRequest(message, "BGPVPNPortAssocRouteBGPVPNTypeDiffer")
        if leaked.project_id != vpn.project_id:
            message = f"bgpvpn specified in route does not belong to the project ({id_})"
            raise BadRequest(message, "BGPVPNPortAssocRouteWrongBGPVPNProject")
