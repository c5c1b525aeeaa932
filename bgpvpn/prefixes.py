"""The EVPN half of a VRF: IP prefixes over VXLAN, from one IP VRF to another (RFC 9136 section 4.4.1).

    received type 5 routes -> candidates of the VRF, beside those of VPNv4 and VPNv6
    used ones --their router's MAC and VTEP--> [desired.macs], [desired.neighbours] of the VRF's overlay segment
    own ones: see `bgpvpn.announcer`

The overlay segment is a bridge in the VRF with a VXLAN device and no port: its VNI stands for the VRF.  A packet leaves
by it in a frame to the MAC of the other router, which the kernel knows as the neighbour at the address of that VTEP.
A router has one MAC and one VNI; what it said last holds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container, Iterable

from bgpvpn.desired import Desired, OnBridge, Via
from bgpvpn.instance import Instance, Vias
from speaker.decision import Candidate
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.values import Family
from speaker.wire.community import ENCAPSULATION_VXLAN, encapsulation_types, router_mac

IP_PREFIX = 5
"""The route type (RFC 9136 section 3.1)."""

NO_ESI = bytes(10)

Destination = tuple[Family, bytes]
"""A prefix, with the family that it has as a route of an L3VPN."""


def overlay(vrf: str) -> str:
    """Return the name of the bridge by which a VRF sends to others over VXLAN."""
    return f"l3/{vrf}"


def prefix_key(rd: bytes, prefix: bytes, size: int) -> bytes:
    """Return the NLRI key of a prefix; `size` is 4 or 16, the octets of an address."""
    return b"\x05" + rd + bytes(4) + prefix[-1:] + prefix[:-1].ljust(size, b"\0")


def prefix_extra(vni: int, size: int) -> bytes:
    """Return what a route has beside its key: no segment, no gateway, and the VNI as its label."""
    return NO_ESI + bytes(size) + vni.to_bytes(3, "big")


def is_overlaid(path: Path) -> bool:
    """Tell whether the path of a candidate of a VRF is one of EVPN: those of VPNv4 and VPNv6 have a label only."""
    return len(path.extra) > 3


def destination(key: bytes) -> Destination | None:
    """Return what a route is about; None for the other types of EVPN."""
    if key[0] != IP_PREFIX:
        return None
    length, address = key[13], key[14:]
    return (Family.VPNV4 if len(address) == 4 else Family.VPNV6), address[: (length + 7) // 8] + bytes([length])


class Prefixes(Instance):
    """Type 5 routes that a VRF imports; the VRF chooses."""

    families = frozenset({Family.EVPN})

    def __init__(
        self,
        name: str,
        vni: int,
        tunnel: bytes,
        rib: Rib,
        interest: Interest,
        desired: Desired,
        vias: Vias,
        usable: Callable[[bytes], str],
        dirty: Callable[[Family, bytes], None],
    ) -> None:
        """`name` is the VRF's; `dirty` tells it that a prefix is to be worked out again."""
        super().__init__(name, rib, interest, vias)
        self.vni = vni
        self.tunnel = tunnel
        self.desired = desired
        self.usable = usable
        self.dirty = dirty
        self.keys: dict[Destination, dict[bytes, None]] = {}
        self.meaning: dict[Path, Via] = {}
        self._routers: dict[bytes, tuple[bytes, int]] = {}  # VTEP -> MAC, VNI to send with

    def __len__(self) -> int:
        return 0

    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that the route under this NLRI key changed."""
        at = destination(key)
        if at is None:
            return
        if path is not None:
            self.keys.setdefault(at, {})[key] = None
        self.dirty(*at)

    def touch_all(self) -> None:
        """Note that every prefix is to be worked out again."""
        for at in self.keys:
            self.dirty(*at)

    def step(self, most: int) -> int:
        """Do nothing: the VRF works its prefixes out itself."""
        return 0

    def of(self, family: Family, prefix: bytes) -> list[Candidate]:
        """Return the candidates of a prefix."""
        at = (family, prefix)
        found = self.candidates(Family.EVPN, self.keys.get(at, ()))
        if found:
            self.keys[at] = dict.fromkeys([candidate.key for candidate in found])
        else:
            self.keys.pop(at, None)
        return found

    def refusal(self, path: Path) -> str:
        """Tell why a path cannot be used, "" if it can; what a usable one means is then known to `meaning`."""
        if path in self.vias.own or path in self.meaning:
            return ""
        attributes, extra = path.attributes, path.extra
        kinds, mac = encapsulation_types(attributes.ext_communities), router_mac(attributes.ext_communities)
        vtep, vni = attributes.next_hop, int.from_bytes(extra[-3:], "big")
        if kinds and ENCAPSULATION_VXLAN not in kinds:
            return f"encapsulation {sorted(kinds)} is not VXLAN"
        if any(extra[:-3]):
            return "it leads by way of another route (an Ethernet segment or a gateway address), which is not followed"
        if mac is None:
            return "it tells no MAC of its router (RFC 9136 section 4.4.1)"
        if not vni:
            return "VNI 0 is nobody's (RFC 8365 section 5.1.3)"
        if len(vtep) != len(self.tunnel):
            return "its VTEP is of another address family than this node's"
        if reason := self.usable(vtep):
            return reason
        self._hear(vtep, mac, vni)
        self.meaning[path] = self.vias.to([OnBridge(overlay(self.name), _gateway(vtep, len(extra) - 13))])
        return ""

    def keep(self, paths: Container[Path], used: Iterable[Via]) -> None:
        """Forget what paths that are gone meant, and routers that none of the Vias in use leads to."""
        self.meaning = {path: via for path, via in self.meaning.items() if path in paths}
        here = overlay(self.name)
        gateways = {
            hop.address
            for via in (*used, *self.meaning.values())
            for tier in via.tiers
            for hop in tier
            if isinstance(hop, OnBridge) and hop.bridge == here
        }
        for vtep in [vtep for vtep in self._routers if not gateways & {*_gateways(vtep)}]:
            self._forget(vtep)

    def close(self) -> None:
        """Take everything back that was wanted for the routers of others."""
        for vtep in list(self._routers):
            self._forget(vtep)

    def _hear(self, vtep: bytes, mac: bytes, vni: int) -> None:
        if self._routers.get(vtep) == (mac, vni):
            return
        if vtep in self._routers:
            self._forget(vtep)
        self._routers[vtep] = (mac, vni)
        self.desired.macs.put((self.vni, mac), (vtep, vni))
        for gateway in _gateways(vtep):
            self.desired.neighbours.put((overlay(self.name), gateway), mac)

    def _forget(self, vtep: bytes) -> None:
        mac, _ = self._routers.pop(vtep)
        if mac not in [other for other, _ in self._routers.values()]:
            self.desired.macs.discard((self.vni, mac))
        for gateway in _gateways(vtep):
            self.desired.neighbours.discard((overlay(self.name), gateway))


def _gateway(vtep: bytes, size: int) -> bytes:
    """Return the address by which a router is a neighbour for prefixes whose addresses have so many octets.

    The kernel takes a gateway of the prefix's own family only; for IPv6 behind an IPv4 VTEP it is the mapped address.
    """
    if size == len(vtep) or size == 4:
        return vtep
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + vtep).packed


def _gateways(vtep: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys((_gateway(vtep, 4), _gateway(vtep, 16))))
