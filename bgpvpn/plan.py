"""The order of operations: what must be there before what.

A row is made after the rows that it stands on, and goes before them.  The order is also what keeps a VRF closed: its
unreachable default comes right after its device and goes right before it, so no interface and no label ever leads into
a VRF whose unknown destinations would escape to the main table.

    VRF, its end, bridges and tunnels, VXLAN, addresses, interfaces, leaves, groups | routes | labels, MACs, neighbours
"""

from __future__ import annotations

from collections.abc import Iterable

from bgpvpn.dataplane.rows import Group, Kind, Leaf, Operation, Value, VrfLink, VxlanLink

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


def rank(kind: Kind, value: Value) -> int:
    """Return the place of a row in the order of making; removal goes by the reverse."""
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
