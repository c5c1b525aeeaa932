"""Rows of the Linux kernel: what `linux.py` compiles to, the reconciler compares, and `netlink.py` reads and writes.

    kind        key                          value
    link        device name                  VrfLink | TunnelLink | BridgeLink | VxlanLink
    address     (device name, address)       prefix length
    attachment  port id                      Attached
    nexthop     id                           Leaf | Group
    route       (table, afi, prefix)         nexthop id; UNREACHABLE for the default that ends a VRF
    mpls        label                        MplsRoute
    fdb         (VXLAN device name, MAC)     (VTEP, VNI to send with)
    flood       (VXLAN device name, VTEP)    VNI to send with
    neighbour   (bridge device name, IP)     MAC

A value that the kernel gives back is equal to the value that was written, so that "in order" is `==`.
Addresses are packed octets (4 or 16), MACs 6, prefixes as in `speaker.path`.

What is ours in the kernel is marked: routes, next hops, label routes and neighbours by `PROTOCOL`, links by an alias
that starts with `ALIAS`; FDB entries are ours when their device is.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import attrs

PROTOCOL = 187  # rtm_protocol, nh_protocol and NDA_PROTOCOL of everything that is ours
ALIAS = "bgpvpn:"  # links: "bgpvpn:" kind ":" name of the neutral object
NEXTHOP_BASE = PROTOCOL << 24  # our nexthop ids are above it, far from those that zebra counts from 1
UNREACHABLE = 0  # in place of a nexthop id
UNREACHABLE_METRIC = 4278198272  # the metric that the kernel's VRF documentation gives for it

Kind = Literal["link", "address", "attachment", "nexthop", "route", "mpls", "fdb", "flood", "neighbour"]
Key = Any
Value = Any


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


@attrs.frozen
class Leaf:
    """A nexthop object with one way out.

    `device` None: a blackhole, which stands for "no usable next hop" so that nothing escapes.
    """

    afi: Literal[4, 6]
    device: str | None
    label: int | None = None  # pushed
    gateway: bytes | None = None  # on the device's link, without a look-up


@attrs.frozen
class Group:
    """A nexthop object that shares the traffic equally between leaves."""

    members: tuple[int, ...]  # ids, sorted


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


Actual = dict[Kind, dict[Any, Any]]
"""What is ours in the kernel, by kind and key."""


class Dataplane(Protocol):
    """The door to a kernel; synchronous. `apply` is the only writer."""

    def observe(self) -> Actual:
        """Read everything of ours that is there. Raises OSError when that cannot be known now."""

    def apply(self, operations: list[Operation]) -> dict[int, Refusal]:
        """Do the operations in their order, in batches; return those refused by index. One refusal stops no other.

        Done means acknowledged by the kernel. A removal of what is not there is done.
        A `link` operation makes the device equal to the value: made, changed, or, for a fixed property, replaced.
        """

    def disturbed(self) -> bool:
        """Tell (once) that others changed what is ours since the last asking, so that `observe` is due."""

    def foreign(self) -> list[str]:
        """Describe what others have put into our tables and devices, for an audit."""

    def messages(self) -> dict[str, int]:
        """Count the netlink messages sent since the start, by kind of row."""
