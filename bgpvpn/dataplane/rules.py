"""The routing rules that keep tenants' packets from the node itself.

The kernel's first routing rule looks into the table of the node's own addresses, for packets of VRFs too: a tenant
would reach the node, and no other host that happens to have such an address.  So a rule for VRFs is put in front of
it, and nothing changes for other packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bgpvpn.dataplane.encode import FAMILY, ROUTE
from bgpvpn.dataplane.linux import AFIS
from bgpvpn.dataplane.rows import PROTOCOL, Afi
from bgpvpn.dataplane.sockets import Requests
from bgpvpn.dataplane.wire import CREATE, Failure, Message, Request, attributes, integer, number, octet

# linux/fib_rules.h; a rule begins as a route does, with the action in the place of the type
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_PRIORITY, _TABLE, _SUPPRESS_PREFIX, _L3MDEV, _PROTOCOL = 6, 15, 14, 19, 21
_TO_TABLE, _LOCAL, _KERNEL = 1, 255, 2
_PLAIN = {_PRIORITY, _TABLE, _SUPPRESS_PREFIX, _PROTOCOL}
"""What a rule has that is for all packets."""


def vrfs_first(requests: Requests) -> Failure | None:
    """Put the rule for VRFs before the one for the node's own addresses; return why it cannot be done.

    Both have priority 0 then, and so stand before every rule of an administrator's, as the latter always did.
    """
    for afi in AFIS:
        order = requests.dump(_GETRULE, ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, 0, 0, 0, 0), _order)
        if order[:1] == ["vrfs"] or "local" not in order:
            continue
        todo: list[Request] = []
        if "vrfs" not in order:
            todo.append((_NEWRULE, CREATE, _rule(afi, 0) + octet(_L3MDEV, 1) + octet(_PROTOCOL, PROTOCOL)))
        # The newest of a priority is the last of it.
        todo.append((_NEWRULE, CREATE, _rule(afi, _LOCAL) + octet(_PROTOCOL, _KERNEL)))
        todo.append((_DELRULE, 0, _rule(afi, _LOCAL)))  # the first that is found
        for failure in requests.do(todo).values():
            return failure
    return None


def as_before(requests: Requests) -> Failure | None:
    """Take the rule for VRFs away again, when there are none any more; return why it cannot be done."""
    todo: list[Request] = []
    for afi in AFIS:
        body = ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, 0, 0, 0, 0)
        if "vrfs" in requests.dump(_GETRULE, body, partial(_order, protocol=PROTOCOL)):
            todo.append((_DELRULE, 0, _rule(afi, 0) + octet(_L3MDEV, 1) + octet(_PROTOCOL, PROTOCOL)))
    return next(iter(requests.do(todo).values()), None)


def _rule(afi: Afi, table: int) -> bytes:
    return ROUTE.pack(FAMILY[afi], 0, 0, 0, table, 0, 0, _TO_TABLE, 0) + number(_PRIORITY, 0)


def _order(messages: Iterable[Message], protocol: int | None = None) -> list[str]:
    """Return what the rules of priority 0 are for, as far as it concerns us; if given, those of a protocol only."""
    order = []
    for message in messages:
        found = attributes(message.body, ROUTE.size)
        if integer(found.get(_PRIORITY, b"")) == 0 and protocol in (None, *found.get(_PROTOCOL, b"")):
            if found.get(_L3MDEV) == b"\1":
                order.append("vrfs")
            elif integer(found.get(_TABLE, b"")) == _LOCAL and found.keys() <= _PLAIN and message.body[1:3] == b"\0\0":
                order.append("local")
    return order
