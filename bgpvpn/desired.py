"""What the node wants of its dataplane, in neutral words: no BGP here, no Linux either.

    low volume    objects     Vrf, Bridge, Tunnel, Vxlan, Attachment, LabelRoute   one table, keyed by object
    high volume   routes      prefix -> Via            one table per (VRF table number, address family)
                  macs        (VNI, MAC) -> VTEP
                  floods      (VNI, VTEP) -> True
                  neighbours  (bridge key, IP) -> MAC

A route does not name a next hop but a Via: tiers of next hops, the best first, interned.  The dataplane
makes one shared next-hop object for it and fills it with the first tier that has a usable member, so the
loss of a PE rewrites that object and none of the routes behind it (prefix independent convergence).

Addresses and MACs are octets (4, 16 and 6), VNIs, labels and table numbers integers, prefixes as in
`speaker.path`.  Objects name those that they stand on by name or number.
"""

from __future__ import annotations

from typing import Literal

import attrs

from speaker.table import Table

Afi = Literal[4, 6]
ObjectKey = tuple[str, str]
"""(kind, name), for example ("vrf", "blue"); the name is unique within its kind on the node."""


@attrs.frozen
class Vrf:
    """A routing table of its own, with nowhere to escape to: an unknown destination is unreachable."""

    name: str  # the instance key, stable over restarts
    table: int  # the kernel's table number, leased
    label: int | None = None  # the MPLS label that leads into this VRF, leased

    @property
    def key(self) -> ObjectKey:
        return ("vrf", self.name)


@attrs.frozen
class Gateway:
    """An address of the node inside a segment: octets and the prefix length of the subnet."""

    address: bytes
    prefix_length: int


@attrs.frozen
class Bridge:
    """The broadcast domain of the ports of one segment on this node."""

    name: str  # the segment key, stable over restarts
    number: int  # small and leased; device names are built from it
    vrf: str | None = None  # name of the Vrf that routes for it
    gateways: tuple[Gateway, ...] = ()  # sorted
    gateway_mac: bytes | None = None  # the same on every node (anycast gateway)
    mtu: int | None = None

    @property
    def key(self) -> ObjectKey:
        return ("bridge", self.name)


@attrs.frozen
class Vxlan:
    """The VXLAN device of one segment: ingress replication, nothing learned from the wire."""

    vni: int
    bridge: str  # name of the Bridge that it is a port of
    local: bytes  # the node's tunnel address
    port: int = 4789

    @property
    def key(self) -> ObjectKey:
        return ("vxlan", str(self.vni))


@attrs.frozen
class Tunnel:
    """MPLS over GRE (RFC 4023) between two addresses; `remote` all zero octets: receives from anywhere."""

    local: bytes
    remote: bytes

    @property
    def key(self) -> ObjectKey:
        return ("tunnel", self.remote.hex())


@attrs.frozen
class Attachment:
    """An interface, which is the user's and not ours, put into a bridge; one port or several are behind it.

    `netns` names the network namespace (as `ip netns` does) that holds the interface; "" is the daemon's own.
    """

    port: str  # the id of its one port, or what the interface is called: "NETNS/INTERFACE"
    interface: str
    netns: str
    bridge: str

    @property
    def key(self) -> ObjectKey:
        return ("attachment", self.port)


@attrs.frozen
class LabelRoute:
    """Packets with this label lose it and go to one neighbour in a segment, with no look-up (RFC 4364 4.3.2).

    The label of a whole VRF is `Vrf.label`.
    """

    label: int
    bridge: str
    address: bytes  # of the neighbour

    @property
    def key(self) -> ObjectKey:
        return ("label", str(self.label))


Object = Vrf | Bridge | Vxlan | Tunnel | Attachment | LabelRoute


@attrs.frozen
class Labelled:
    """A next hop behind an MPLS-over-GRE tunnel: push `label`, send to the PE at `pe`."""

    pe: bytes
    label: int
    weight: int = 1  # its share of the traffic beside the others of its tier, 1 to 255


@attrs.frozen
class InVrf:
    """A next hop in another VRF of this node: look up again there."""

    vrf: str


@attrs.frozen
class OnBridge:
    """A next hop on a segment of this node: a port's own address, for the prefix routes behind it."""

    bridge: str
    address: bytes


NextHop = Labelled | InVrf | OnBridge


@attrs.frozen(cache_hash=True)
class Via:
    """Where packets of a route go: tiers of equal next hops, best first; interned by whoever makes it.

    The dataplane uses the first tier with a usable member, and of it the usable members, each by its weight.
    """

    tiers: tuple[tuple[NextHop, ...], ...]


@attrs.frozen
class Status:
    """What became of an object or a row: state active, pending (reason says what for) or failed."""

    state: Literal["active", "pending", "failed"]
    reason: str = ""


class Desired:
    """Everything the dataplane shall hold; written by the instance stages, read by the reconciler."""

    def __init__(self) -> None:
        self.objects: Table[ObjectKey, Object] = Table()
        self.routes: dict[tuple[int, Afi], Table[bytes, Via]] = {}
        self.macs: Table[tuple[int, bytes], tuple[bytes, int]] = Table()  # (VNI, MAC) -> (VTEP, VNI to send with)
        self.floods: Table[tuple[int, bytes], int] = Table()  # (VNI, VTEP) -> VNI to send with
        self.neighbours: Table[tuple[str, bytes], bytes] = Table()  # (bridge name, IP) -> MAC

    def routes_of(self, table: int, afi: Afi) -> Table[bytes, Via]:
        """Return the route table of a VRF and family, made empty at the first asking."""
        routes = self.routes.get((table, afi))
        if routes is None:
            routes = self.routes[(table, afi)] = Table()
        return routes
