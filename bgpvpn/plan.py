"""The order of operations: what must be there before what.

A row is made after the rows that it stands on, and goes before them.  The order is also what keeps a VRF closed: its
end, an unreachable default for each family, comes right after its device and goes right after it, so no interface and
no label ever leads into a VRF whose unknown destinations would escape to the main table.

    VRF, its end | bridges and tunnels, VXLAN, addresses, interfaces, leaves, groups | routes | labels, MACs, neighbours

The order alone is not enough where a row was refused, or where routes are still to be moved; so some rows wait:

    made:     what leads into a VRF    until the VRF has its end
    removed:  a leaf                   until no group has it; the kernel would take it out of the group without a word
              a device                 until no leaf is on it; its leaves, and their routes, would go with it
              the end of a VRF         until the device has gone
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bgpvpn.dataplane.linux import AFIS
from bgpvpn.dataplane.rows import BridgeLink, Group, Key, Kind, Leaf, MplsRoute, Operation, Value, VrfLink, VxlanLink

VRF, END, DEVICE, VXLAN, ADDRESS, ATTACHMENT, LEAF, GROUP, ROUTES, MPLS, FDB, FLOOD, NEIGHBOUR = range(13)

_RANKS: dict[Kind, int] = {
    "link": DEVICE,  # bridges, and tunnels, which stand on nothing
    "unreachable": END,
    "address": ADDRESS,
    "attachment": ATTACHMENT,
    "mpls": MPLS,
    "fdb": FDB,
    "flood": FLOOD,
    "neighbour": NEIGHBOUR,
}

Row = tuple[Kind, Key]


def rank(kind: Kind, value: Value) -> int:
    """Return the place of a row in the order of making."""
    match value:
        case VrfLink():
            return VRF
        case VxlanLink():
            return VXLAN
        case Leaf():
            return LEAF
        case Group():
            return GROUP
    return _RANKS[kind]


def ordered(operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation], list[Operation]]:
    """Return the operations in order, in three parts: makes before the routes, makes after them, and removals."""
    makes: list[Operation] = []
    removals: list[Operation] = []
    for operation in operations:
        (removals if operation[2] is None else makes).append(operation)
    makes.sort(key=lambda operation: rank(operation[0], operation[2]))
    removals.sort(key=lambda operation: rank(operation[0], operation[3]), reverse=True)
    behind = next((at for at, each in enumerate(makes) if rank(each[0], each[2]) > ROUTES), len(makes))
    return makes[:behind], makes[behind:], removals


def closing(makes: list[Operation]) -> int:
    """Return how many operations at the head of the makes are VRFs and their ends."""
    return next((at for at, each in enumerate(makes) if rank(each[0], each[2]) > END), len(makes))


def ready(
    operations: Iterable[Operation], rows: Mapping[Kind, Mapping[Key, Value]]
) -> tuple[list[Operation], dict[Row, str]]:
    """Part the operations into those that may be done while the kernel has these rows, and what the others wait for."""
    now: list[Operation] = []
    waiting: dict[Row, str] = {}
    stood_on: dict[Row, str] | None = None
    for operation in operations:
        kind, key, want, _ = operation
        if want is not None:
            reason = _open(want, rows)
        elif kind in ("link", "unreachable", "nexthop"):
            if stood_on is None:
                stood_on = _stood_on(rows)
            reason = stood_on.get((kind, key), "")
        else:
            reason = ""
        if reason:
            waiting[(kind, key)] = reason
        else:
            now.append(operation)
    return now, waiting


def _open(want: Value, rows: Mapping[Kind, Mapping[Key, Value]]) -> str:
    match want:
        case BridgeLink(master=str(device)) | MplsRoute(device=device) | Leaf(device=str(device)):
            link = rows.get("link", {}).get(device)
            if isinstance(link, VrfLink):
                ends = rows.get("unreachable", {})
                if any((link.table, afi) not in ends for afi in AFIS):
                    return f"the unreachable default of {device}"
    return ""


def _stood_on(rows: Mapping[Kind, Mapping[Key, Value]]) -> dict[Row, str]:
    found: dict[Row, str] = {}
    for id_, row in rows.get("nexthop", {}).items():
        match row:
            case Group(members=members):
                found.update((("nexthop", leaf), f"nexthop group {id_}") for leaf in members)
            case Leaf(device=str(device)):
                found[("link", device)] = f"nexthop {id_}"
    for device, link in rows.get("link", {}).items():
        if isinstance(link, VrfLink):
            found.update((("unreachable", (link.table, afi)), f"device {device}") for afi in AFIS)
    return found
