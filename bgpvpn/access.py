"""Who may see and change what: operators everything, owners what is theirs.

    operator   the one who runs the node and its VPNs: everything
    owner      a tenant: networks, subnets, routers, ports, floating addresses and associations of one project; of its
               VPNs the name and LOCAL_PREF, and it does not see their route targets, distinguishers and VNI

What an owner may put into a VPN is bounded by the VPN itself (`allowed_prefixes`, `max_prefixes`, `local_pref_range`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import attrs

from bgpvpn.intent import Change, Intent
from bgpvpn.objects import Association, Bgpvpn, IntentError, Kind, Network, Object, Port, title


class ForbiddenError(IntentError):
    """The wish is not for whom it comes from."""


@attrs.frozen
class Caller:
    """Whom a request comes from."""

    name: str  # for people: "uid 0", "token of automation"
    role: Literal["operator", "owner"]
    project_id: str = ""  # of an owner


OPERATOR = Caller("the daemon", "operator")

OWNED: frozenset[Kind] = frozenset({"network", "subnet", "router", "port", "association", "floating_ip"})
"""Kinds that owners make and remove."""

FOR_OPERATORS: dict[Kind, tuple[str, ...]] = {
    "network": ("external", "fallback_mac"),
    "port": ("interface", "netns", "ovs", "host", "device_owner"),
}
"""Fields that reach beyond a project; an owner leaves them as they are when nothing is said."""

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
    if caller.role == "operator" or (isinstance(thing, Network) and thing.external):
        return True
    return project_of(thing, intent) == caller.project_id


def shown(caller: Caller, thing: Object) -> Object:
    """Return an object as a caller may see it."""
    if caller.role == "owner" and isinstance(thing, Bgpvpn):
        return attrs.evolve(thing, **HIDDEN)
    return thing


def check(caller: Caller, changes: Iterable[Change], intent: Intent) -> None:
    """Refuse planned changes that are not for this caller, with ForbiddenError; `intent` is as it was before."""
    if caller.role == "operator":
        return
    for change in changes:
        before: Object | None = intent.tables[change.kind].get(change.id)
        for thing in (before, change.thing):
            if thing is not None and project_of(thing, intent) != caller.project_id:
                raise ForbiddenError("id", change.id, f"{change.kind} {change.id!r} is not of your project")
        if change.kind == "bgpvpn" and before is not None and change.thing is not None:
            _check_fields(change.kind, before, change.thing, _but(change.thing, OF_OWN_VPN))
        elif change.kind not in OWNED:
            raise ForbiddenError("id", change.id, f"a {change.kind} is for operators to make, change and remove")
        elif change.thing is not None:
            _check_fields(change.kind, before, change.thing, FOR_OPERATORS.get(change.kind, ()))


def _but(thing: Object, fields: Iterable[str]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(type(thing)) if field.name not in fields)


def _check_fields(kind: Kind, before: Object | None, after: Object, fields: Iterable[str]) -> None:
    for field in fields:
        value = getattr(after, field)
        if before is not None:
            usual = getattr(before, field)
        elif isinstance(after, Port) and field == "interface":
            usual = f"tap{after.id[:11]}"
        else:
            usual = attrs.fields_dict(type(after))[field].default
        if value != usual:
            raise ForbiddenError(field, value, f"{field} of {kind} {title(after)!r} is for operators to set")
