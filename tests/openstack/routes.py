"""What a node announces, as tests name it."""

from __future__ import annotations

import attrs

from tests.openstack.daemon import Daemon


@attrs.frozen
class Announced:
    """A route of the node's own."""

    prefix: str  # or a route of EVPN in its own form, without the route distinguisher
    targets: frozenset[str]
    local_pref: int | None = None


def announced(daemon: Daemon, family: str = "vpnv4") -> set[Announced]:
    """Return the node's own routes of a family."""
    return {
        Announced(
            route["nlri"].partition(" ")[2] or route["nlri"], frozenset(route["route_targets"]), route["local_pref"]
        )
        for route in daemon.get(f"/v1/routes?source=local&family={family}")
    }


Preference = int | None | tuple[int | None, ...]


def to(target: str, daemon: Daemon, family: str = "vpnv4") -> dict[str, Preference]:
    """Return what is announced to a route target: LOCAL_PREF by prefix, in ascending order where there are several."""
    found: dict[str, list[int | None]] = {}
    for each in announced(daemon, family):
        if target in each.targets:
            found.setdefault(each.prefix, []).append(each.local_pref)
    several = {prefix: tuple(sorted(values, key=lambda value: value or -1)) for prefix, values in found.items()}
    return {prefix: values[0] if len(values) == 1 else values for prefix, values in several.items()}
