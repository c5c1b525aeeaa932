"""Who may see and change what: operators everything, owners what is theirs.

    operator   the one who runs the node and its VPNs: everything
    owner      a tenant: networks, subnets, routers, ports, floating addresses and associations of one project; of its
               VPNs the name and LOCAL_PREF, and it does not see their route targets, distinguishers and VNI

What an owner may put into a VPN is bounded by the VPN itself (`allowed_prefixes`, `max_prefixes`, `local_pref_range`).
What is not an owner's is not there for it: no name and no id finds it, and no error tells of it. Of other projects an
owner sees external networks with their subnets, and takes addresses there that nobody has.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from bgpvpn.intent import Change, Intent, Key, Removal, references
from bgpvpn.objects import (
    KINDS,
    Association,
    Bgpvpn,
    ConflictError,
    FloatingIp,
    IntentError,
    Kind,
    Network,
    Object,
    Port,
    Router,
    Subnet,
    kind_of,
    title,
)
from bgpvpn.rules import is_host


class ForbiddenError(IntentError):
    """The wish is not for whom it comes from."""


@attrs.frozen
class Caller:
    """Whom a request comes from."""

    name: str  # for people: "user alice", "token automation"
    role: Literal["operator", "owner"]
    project_id: str = ""  # of an owner

    def __str__(self) -> str:
        return f"{self.name}, {self.role}" + (f" of project {self.project_id!r}" if self.role == "owner" else "")


OPERATOR = Caller("the daemon", "operator")

OWNED: frozenset[Kind] = frozenset({"network", "subnet", "router", "port", "association", "floating_ip"})
"""Kinds that owners make and remove."""

FOR_OPERATORS: dict[Kind, tuple[str, ...]] = {
    "network": ("external", "fallback_mac", "host_addresses"),
    "subnet": ("address_scope",),
    "port": ("interface", "netns", "ovs", "host"),
}
"""Fields that reach beyond a project; an owner leaves them as they are when nothing is said."""

ROUTER_INTERFACE = "network:router_interface"
"""The device_owner of a port by which a router is in a network, the one of the network's own that an owner may say."""

OF_OWN_VPN = ("name", "local_pref")
"""Fields of a VPN that its owner may change."""

HIDDEN: dict[str, Any] = {
    "route_targets": (),
    "import_targets": (),
    "export_targets": (),
    "route_distinguishers": (),
    "vni": None,
}
"""Fields of a VPN that its owner does not see, and what is shown instead."""


def project_of(thing: Object, intent: Intent) -> str:
    """Return the project that an object belongs to, "" if it belongs to none."""
    if isinstance(thing, Association):
        return intent.bgpvpns[thing.bgpvpn_id].project_id
    return getattr(thing, "project_id", "")


def sees(caller: Caller, thing: Object, intent: Intent) -> bool:
    """Tell whether an object is there for a caller: owners see what is theirs, and external networks."""
    if caller.role == "operator":
        return True
    if kind_of(thing) not in OWNED and not isinstance(thing, Bgpvpn):
        return False
    around = intent.networks.get(thing.network_id) if isinstance(thing, Subnet) else thing
    if isinstance(around, Network) and around.external:
        return True
    return project_of(thing, intent) == caller.project_id


def shown(caller: Caller, thing: Object) -> Object:
    """Return an object as a caller may see it."""
    if caller.role == "owner" and isinstance(thing, Bgpvpn):
        return attrs.evolve(thing, **HIDDEN)
    return thing


_OF_THE_NODE = re.compile(
    r"\b(vxlan|vnis?|vtep|vrf|bridge|nexthop|tunnel|labels?|tables?|distinguisher|speakers?|peers?)\b", re.IGNORECASE
)


def told(caller: Caller, reason: str) -> str:
    """Return why something is as it is, as a caller may know it: not by numbers and names of what the node made."""
    if caller.role == "owner" and _OF_THE_NODE.search(reason):
        return "it is with the node, whose operators see why"
    return reason


def find(caller: Caller, kind: Kind, text: str, intent: Intent) -> Object | None:
    """Return the object that is there for a caller with this id, else with this name; ConflictError if several have."""
    if caller.role == "operator":
        return intent.find(kind, text)
    table = intent.tables[kind].rows
    thing: Object | None = table.get(text)
    if thing is not None and sees(caller, thing, intent):
        return thing
    named = [each for each in table.values() if text and getattr(each, "name", "") == text]
    there = [each for each in named if sees(caller, each, intent)]
    if len(there) > 1:
        ids = ", ".join(each.id for each in there)
        raise ConflictError("name", text, f"{len(there)} are called {text!r}; say which by its id: {ids}")
    return there[0] if there else None


def plan(caller: Caller, wishes: Sequence[Object | Removal], intent: Intent, wall: float) -> list[Change]:
    """Return what wishes come to, as `Intent.plan` does, if they are for this caller; ForbiddenError if not.

    To an owner no error names what is not there for it.
    """
    if caller.role == "operator":
        return intent.plan(wishes, wall)
    made: dict[Key, Object] = {}
    for wish in wishes:
        if isinstance(wish, Removal):
            _check_project(caller, _seen(caller, (wish.kind, wish.id), "id", intent, {}), intent)
        else:
            _check_wish(caller, wish, intent, made)
            made[kind_of(wish), wish.id] = wish
    try:
        changes = intent.plan(wishes, wall)
    except ConflictError as error:
        if error.field == "vni" or any(_meets_others(caller, wish, intent) for wish in wishes):
            raise ConflictError(error.field, None, "is taken or in use") from None
        raise
    check(caller, changes, intent)
    return changes


def _check_wish(caller: Caller, wish: Object, intent: Intent, made: Mapping[Key, Object]) -> None:
    """Check what a wish names that it did not name before; `made`: by wishes before it."""
    kind = kind_of(wish)
    before: Object | None = intent.tables[kind].get(wish.id)
    if before is not None and not sees(caller, before, intent):
        raise ForbiddenError("id", wish.id, f"ids are for operators to choose; {caller}")
    for thing in (before, wish):
        if thing is not None and not isinstance(thing, Association):  # which is of the project of what it names
            _check_project(caller, thing, intent)
    _check_change(caller, kind, before, wish)
    named = set() if before is None else set(references(before))
    for field, key in references(wish):
        if (field, key) not in named:
            other = _seen(caller, key, field, intent, made)
            if isinstance(wish, Subnet | Port) and isinstance(other, Network) and other.external:
                raise ForbiddenError(field, other.id, f"network {title(other)!r} is for operators to fill; {caller}")
    if isinstance(wish, Router) and wish.gateway_network_id is not None:
        _check_outside("gateway_ips", wish.gateway_network_id, wish.gateway_ips, wish, intent)
    if isinstance(wish, FloatingIp):
        _check_outside("address", wish.network_id, [wish.address], wish, intent)


def _check_project(caller: Caller, thing: Object, intent: Intent) -> None:
    if kind_of(thing) in OWNED and project_of(thing, intent) != caller.project_id:
        raise ForbiddenError("id", None, f"{kind_of(thing)} {title(thing)!r} is not of your project; {caller}")


def _seen(caller: Caller, key: Key, field: str, intent: Intent, made: Mapping[Key, Object]) -> Object:
    """Return an object that a wish names; the error is that of one that is not there."""
    thing: Object | None = made.get(key) or intent.tables[key[0]].get(key[1])
    if thing is None or not (key in made or sees(caller, thing, intent)):
        raise IntentError(field, key[1], f"there is no {key[0]} {key[1]!r}")
    return thing


def _check_outside(
    field: str, network_id: str, addresses: Iterable[str], wish: Router | FloatingIp, intent: Intent
) -> None:
    """Check addresses in an external network: there a tenant takes what is in a subnet and nobody's yet."""
    subnets = list(intent.referring("network", network_id, "subnet"))
    taken = {subnet.gateway_ip for subnet in subnets}
    for port in intent.referring("network", network_id, "port"):
        taken.update(text.partition("/")[0] for text in port.ip_addresses)
    for router in intent.referring("network", network_id, "router"):
        taken.update(router.gateway_ips if router.id != wish.id else ())
    for floating in intent.referring("network", network_id, "floating_ip"):
        taken.update([floating.address] if floating.id != wish.id else ())
    for text in addresses:
        address = ipaddress.ip_address(text)
        if not any(is_host(address, ipaddress.ip_network(subnet.cidr)) for subnet in subnets):
            raise IntentError(field, text, f"{text} is no host's address in a subnet of the external network")
        if text in taken:
            raise ConflictError(field, text, f"{text} is taken")


def _meets_others(caller: Caller, wish: Object | Removal, intent: Intent) -> bool:
    """Tell whether a conflict may be with what is not there for the caller: beside what it names, or on it."""
    kind, id_ = (wish.kind, wish.id) if isinstance(wish, Removal) else (kind_of(wish), wish.id)
    named = [intent.tables[kind].get(id_), None if isinstance(wish, Removal) else wish]
    keys = [(kind, id_), *(key for thing in named if thing is not None for _, key in references(thing))]
    outside = {id_ for id_, network in intent.networks.rows.items() if network.external}
    return any(
        not sees(caller, other, intent)
        for kind, id_ in keys
        if kind != "network" or id_ not in outside
        for of in KINDS
        for other in intent.referring(kind, id_, of)
    )


def check_given(caller: Caller, kind: Kind, fields: Iterable[str]) -> None:
    """Refuse fields that a caller gives for an object that is there.

    Of a VPN that is so whatever the value: else an owner would find out what is hidden by saying what it may be.
    """
    if caller.role == "owner" and kind == "bgpvpn":
        for field in fields:
            if field not in OF_OWN_VPN:
                raise ForbiddenError(field, None, f"{field} of a bgpvpn is for operators to set; {caller}")


def check(caller: Caller, changes: Iterable[Change], intent: Intent) -> None:
    """Refuse planned changes that are not for this caller, with ForbiddenError; `intent` is as it was before."""
    if caller.role == "operator":
        return
    for change in changes:
        before: Object | None = intent.tables[change.kind].get(change.id)
        for thing in (before, change.thing):
            if thing is not None and project_of(thing, intent) != caller.project_id:
                known = before is None or sees(caller, before, intent)
                what = f"{change.kind} {change.id!r}" if known else "what would change with it"
                raise ForbiddenError("id", None, f"{what} is not of your project; {caller}")
        _check_change(caller, change.kind, before, change.thing)


def _check_change(caller: Caller, kind: Kind, before: Object | None, after: Object | None) -> None:
    """Refuse a change of an object of the caller's project that is not for owners."""
    if kind == "bgpvpn" and before is not None and after is not None:
        _check_fields(caller, kind, before, after, _but(after, OF_OWN_VPN))
    elif kind not in OWNED:
        raise ForbiddenError("id", None, f"a {kind} is for operators to make, change and remove; {caller}")
    elif after is not None:
        _check_fields(caller, kind, before, after, FOR_OPERATORS.get(kind, ()))
        owner = after.device_owner if isinstance(after, Port) else ""
        if owner.startswith("network:") and owner != ROUTER_INTERFACE:
            _check_fields(caller, kind, before, after, ("device_owner",))


def _but(thing: Object, fields: Iterable[str]) -> Iterator[str]:
    return (field.name for field in attrs.fields(type(thing)) if field.name not in fields)


def _check_fields(caller: Caller, kind: Kind, before: Object | None, after: Object, fields: Iterable[str]) -> None:
    for field in fields:
        value = getattr(after, field)
        if before is not None:
            usual = getattr(before, field)
        elif isinstance(after, Port) and field == "interface":
            usual = f"tap{after.id[:11]}"
        else:
            usual = attrs.fields_dict(type(after))[field].default
        if value != usual:
            raise ForbiddenError(field, value, f"{field} of {kind} {title(after)!r} is for operators to set; {caller}")
