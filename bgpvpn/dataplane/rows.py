"""Rows of the Linux kernel: what `linux.py` compiles to, the reconciler compares, and `netlink.py` reads and writes.

    kind         key                         value
    link         device name                 VrfLink | TunnelLink | BridgeLink | VxlanLink
    unreachable  (table, afi)                UNREACHABLE_METRIC: the default that ends a VRF
    address      (device name, address)      prefix length
    attachment   port id                     Attached
    nexthop      id                          Leaf | Group
    mpls         label                       MplsRoute
    fdb          (VXLAN device name, MAC)    (VTEP, VNI to send with)
    flood        (VXLAN device name, VTEP)   VNI to send with
    neighbour    (bridge device name, IP)    MAC
    routes       (table, afi)                prefix -> nexthop id; many, so apart from the others

A value that the kernel gives back is equal to the value that was written, so that "in order" is `==`.
Addresses are packed octets (4 or 16), MACs 6, prefixes as in `speaker.path`.

What is ours in the kernel is marked: routes, next hops, label routes and neighbours by `PROTOCOL`, links by an alias
that starts with `ALIAS`; FDB entries are ours when their device is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import attrs

PROTOCOL = 179  # rtm_protocol, nh_protocol and NDA_PROTOCOL of all that is ours; FRR has 186 to 198, and sweeps them
ALIAS = "bgpvpn:"  # links: "bgpvpn:" kind ":" name of the neutral object
NEXTHOP_BASE = PROTOCOL << 24  # our nexthop ids are above it, far from those that zebra counts from 1
ROUTE_METRIC = 20
UNREACHABLE_METRIC = 4278198272  # that the kernel's VRF documentation gives; behind every route

Afi = Literal[4, 6]
Kind = Literal["link", "unreachable", "address", "attachment", "nexthop", "mpls", "fdb", "flood", "neighbour"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Key = Any
Value = Any
RouteTable = tuple[int, Afi]
"""(table number, address family)."""


@attrs.frozen
class VrfLink:
    """A VRF device."""

    alias: str
    table: int


@attrs.frozen
class TunnelLink:
    """A GRE device (IPv6 addresses: ip6gre) that may carry MPLS; `remote` all zero: receives from anywhere."""

    alias: str
    local: bytes
    remote: bytes


@attrs.frozen
class BridgeLink:
    """A bridge; `master` is the VRF device that routes for it; `gateway`: answers ARP for what it can route."""

    alias: str
    mac: bytes | None = None
    mtu: int | None = None
    master: str | None = None
    gateway: bool = False


@attrs.frozen
class VxlanLink:
    """A VXLAN device in a bridge: learns nothing, answers ARP and ND from the bridge's neighbours."""

    alias: str
    vni: int
    local: bytes
    port: int
    master: str


Link = VrfLink | TunnelLink | BridgeLink | VxlanLink


@attrs.frozen
class Attached:
    """A user's interface in a bridge device; `netns` "" is the daemon's own namespace."""

    interface: str
    netns: str
    bridge: str


@attrs.frozen(cache_hash=True)
class Leaf:
    """A nexthop object with one way out.

    `device` None: a blackhole, which stands for "no usable next hop" so that nothing escapes.
    """

    afi: Afi
    device: str | None
    label: int | None = None  # pushed
    gateway: bytes | None = None  # on the device's link, without a look-up


@attrs.frozen(cache_hash=True)
class Group:
    """A nexthop object that shares the traffic between leaves; routes point at groups, also of one member."""

    members: tuple[int, ...]  # ids of leaves, sorted
    weights: tuple[int, ...] = ()  # of each member, 1 to 255; empty: equal shares, and then never written out


@attrs.frozen
class MplsRoute:
    """What becomes of a labelled packet: the label is popped, and out of the device; `gateway`: to that neighbour."""

    device: str
    gateway: bytes | None = None


Operation = tuple[Kind, Key, Value, Value]
"""(kind, key, value wanted or None to remove, value believed to be there or None)."""


@attrs.frozen
class Refusal:
    """Why the kernel (or the rim) did not do an operation."""

    reason: str  # plain words, with the names in it
    errno: int | None = None
    waits: bool = False  # for what others will do, as an interface that is not there yet: tried again when it comes


@attrs.define
class Actual:
    """What is ours in the kernel."""

    rows: dict[Kind, dict[Key, Value]] = attrs.field(factory=dict)
    routes: dict[RouteTable, dict[bytes, int]] = attrs.field(factory=dict)


Scope = Kind | RouteTable | Literal["all", "links", "underlay"]
"""What others may have changed: rows of a kind, routes of a table; "all": anything, and it must be read again;
"links": an interface that is not ours came, went or changed; "underlay": the way to other PEs may be another."""

EVERYTHING: tuple[Scope, ...] = ("all",)


class Dataplane(Protocol):
    """The door to a kernel; synchronous. `apply` and `write_routes` are the only writers."""

    def observe(self, scopes: Collection[Scope] = EVERYTHING) -> Actual:
        """Read what of ours is there: all, or only these kinds and route tables, and no others are in the answer.

        An asked kind or table that has nothing is in the answer, empty.  OSError when it cannot be known now.
        """

    def apply(self, operations: Sequence[Operation]) -> dict[int, Refusal]:
        """Do the operations in their order, in batches; return those refused by index. One refusal stops no other.

        Done means acknowledged by the kernel. A removal of what is not there is done.
        A `link` operation makes the device equal to the value: made, changed, or, for a fixed property, replaced; a
        replacement takes with it what stood on the device, and `disturbed` then says so.
        OSError when it is not known what was done.
        """

    def write_routes(self, at: RouteTable, changes: Mapping[int | None, Sequence[bytes]]) -> dict[bytes, Refusal]:
        """Point prefixes of a table at nexthop ids (None: remove), added or replaced (hot); return those refused.

        OSError when it is not known what was done.
        """

    def reachable(self, addresses: Iterable[bytes]) -> set[bytes]:
        """Return those addresses to which the main table has a way."""

    def disturbed(self) -> set[Scope]:
        """Return (once) what others may have changed since the last asking."""

    def foreign(self) -> list[str]:
        """Describe what others have put into our tables and devices, for an audit."""

    def messages(self) -> dict[str, int]:
        """Count the netlink messages sent since the start, by kind of row ("routes" for routes)."""
