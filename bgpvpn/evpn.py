"""An EVI: one segment as a layer-2 VPN over VXLAN (RFC 7432, RFC 8365): MAC/IP and inclusive multicast routes.

    type 2  MAC             -> [desired.macs]        where frames to it are sent
            MAC and IP      -> [desired.neighbours]  so that ARP and ND are answered on this node
    type 3  VTEP            -> [desired.floods]      who gets broadcast and unknown frames (ingress replication)
    endpoints of the segment -> types 2 and 3 -> [originated]

A MAC that moves (RFC 7432 section 15): the node where it appears announces it with a sequence number above those that
it has seen; of two announcements the higher number wins, at a tie the lower VTEP address.  A node whose own
announcement lost takes it back, although the port is still there: the MAC lives elsewhere now.  It never answers
with a higher number, so two nodes that have one MAC do not take turns, and there is no need to count moves and freeze
(RFC 7432 section 15.1).  The numbers of our own MACs are the only thing here that depends on history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from bgpvpn.desired import Desired, ObjectKey
from bgpvpn.instance import Instance, NodeIdentity, Originated, OriginatedTable, Vias
from bgpvpn.segment import Endpoint
from speaker.decision import LOCAL, Candidate, best
from speaker.path import Attributes, Path
from speaker.rib import Interest, Rib
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner, make
from speaker.wire.community import ENCAPSULATION_VXLAN, encapsulation, encapsulation_types, mac_mobility, mobility

V = TypeVar("V")

INGRESS_REPLICATION = 6
"""P-Multicast tunnel type (RFC 6514 section 5)."""

HIGHEST_SEQUENCE = 0xFFFFFFFF

NO_ESI = bytes(10)
NO_TAG = bytes(4)

Destination = tuple[str, bytes]
"""("mac", 6 octets), ("ip", 4 or 16 octets) or ("vtep", NLRI key)."""


def mac_key(rd: bytes, mac: bytes, address: bytes = b"") -> bytes:
    """Return the NLRI key of a MAC/IP advertisement (RFC 7432 section 7.2)."""
    return b"\x02" + rd + NO_TAG + b"\x30" + mac + bytes([len(address) * 8]) + address


def multicast_key(rd: bytes, vtep: bytes) -> bytes:
    """Return the NLRI key of an inclusive multicast route (RFC 7432 section 7.3)."""
    return b"\x03" + rd + NO_TAG + bytes([len(vtep) * 8]) + vtep


def destinations(key: bytes) -> tuple[Destination, ...]:
    """Return what a route is about; empty for types that a layer-2 segment has no use for."""
    if key[0] == 2:
        mac, address = key[14:20], key[21:]
        return (("mac", mac), ("ip", address)) if address else (("mac", mac),)
    if key[0] == 3:
        return (("vtep", key),)
    return ()


class Evi(Instance):
    """The layer-2 VPN of one segment."""

    families = frozenset({Family.EVPN})

    def __init__(
        self,
        name: str,
        vni: int,
        rd: RouteDistinguisher,
        rib: Rib,
        interest: Interest,
        desired: Desired,
        originated: OriginatedTable,
        identity: NodeIdentity,
        interner: Interner,
        vias: Vias,
        usable: Callable[[bytes], str],
    ) -> None:
        """`usable` says why a VTEP address may not be sent to, "" if it may."""
        super().__init__(name, rib, interest, vias)
        self.vni = vni
        self.rd = rd
        self.desired = desired
        self.originated = originated
        self.identity = identity
        self.interner = interner
        self.usable = usable
        self.exports: frozenset[bytes] = frozenset()
        self.endpoints: dict[str, Endpoint] = {}
        self.sequence: dict[bytes, int] = {}  # our own MACs
        self.keys: dict[Destination, dict[bytes, None]] = {}
        self.dirty: dict[Destination, None] = {}
        self.rest: list[Destination] = []  # becomes dirty in shares
        self._local: dict[bytes, dict[str, Endpoint]] = {}  # MAC -> endpoints that have it
        self._at: dict[bytes, dict[str, bytes]] = {}  # address -> ports that have it -> their MACs
        self._said: dict[bytes, list[bytes]] = {}  # MAC -> NLRI keys that we originate
        self._floods: dict[bytes, bytes] = {}  # NLRI key of a multicast route -> the VTEP that it asks for
        self._asking: dict[bytes, dict[bytes, int]] = {}  # VTEP -> NLRI key -> VNI to send with

    def __len__(self) -> int:
        return len(self.dirty) + len(self.rest)

    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that the route under this NLRI key changed."""
        for destination in destinations(key):
            if path is not None:
                self.keys.setdefault(destination, {})[key] = None
            self.dirty[destination] = None

    def touch_all(self) -> None:
        """Note that every destination is to be worked out again."""
        self.rest = list(self.keys)
        self.dirty.update((("mac", mac), None) for mac in self._local)
        self.dirty.update((("ip", address), None) for address in self._at)

    def announce_with(self, exports: frozenset[bytes]) -> None:
        """Say with which route targets the endpoints of the segment are announced."""
        if exports != self.exports:
            self.exports = exports
            self.touch_all()
            self._announce_floods()

    def set_local(self, port: str, endpoint: Endpoint | None) -> None:
        """Say what a port of the segment is while it forwards on this node; None: it does not, or is no more."""
        seen = self.endpoints.pop(port, None)
        if endpoint is not None:
            self.endpoints[port] = endpoint
        if seen == endpoint:
            return
        if seen is not None:
            _leave(self._local, seen.mac, port)
            if seen.mac not in self._local and (endpoint is None or endpoint.mac != seen.mac):
                self.sequence.pop(seen.mac, None)
            for address in seen.addresses:
                _leave(self._at, address, port)
        if endpoint is not None:
            self._local.setdefault(endpoint.mac, {})[port] = endpoint
            for address in endpoint.addresses:
                self._at.setdefault(address, {})[port] = endpoint.mac
        for each in (seen, endpoint):
            if each is not None:
                self.dirty[("mac", each.mac)] = None
                self.dirty.update((("ip", address), None) for address in each.addresses)
        if len(self.endpoints) < 2:
            self._announce_floods()

    def _announce_floods(self) -> None:
        """Ask for broadcast frames while there is an endpoint."""
        key = (Family.EVPN, multicast_key(self.rd.wire, self.identity.tunnel))
        if self.exports and self.endpoints:
            path = self._attributes((), self._pmsi()).path(b"")
            self.vias.own[path] = self.name
            self.originated.put(key, Originated(path, (("vxlan", str(self.vni)),)))
        else:
            self.originated.discard(key)

    def close(self) -> None:
        """Take everything back that this EVI said and wanted."""
        for mac in list(self._said):
            self._say(mac, {})
        self.originated.discard((Family.EVPN, multicast_key(self.rd.wire, self.identity.tunnel)))
        for table in (self.desired.macs, self.desired.floods):
            table.discard_all([key for key in table.rows if key[0] == self.vni])
        self.desired.neighbours.discard_all([key for key in self.desired.neighbours.rows if key[0] == self.name])

    def step(self, most: int) -> int:
        """Work out up to `most` destinations."""
        if self.rest:
            self.dirty.update(dict.fromkeys(self.rest[-most:]))
            del self.rest[-most:]
        dirty = dict(islice(self.dirty.items(), most))
        for destination in dirty:
            del self.dirty[destination]
        refused: dict[Path, bool] = {}  # many routes have the same path
        for destination in dirty:
            kind, octets = destination
            keys = self.keys.get(destination, {})
            candidates = self.candidates(Family.EVPN, keys)
            present = dict.fromkeys([candidate.key for candidate in candidates])
            if present:
                self.keys[destination] = present
            else:
                self.keys.pop(destination, None)
            remote = []
            for candidate in candidates:
                path = candidate.path
                if path not in refused:
                    refused[path] = bool(self.refusal(path))
                if candidate.source != LOCAL and not refused[path]:
                    remote.append(candidate)
            if kind == "mac":
                self._choose_mac(octets, remote)
            elif kind == "ip":
                self._choose_neighbour(octets, remote)
            else:
                self._choose_flood(octets, remote)
        return len(dirty)

    def refusal(self, path: Path) -> str:
        """Tell why a route cannot be used, "" if it can (RFC 8365 section 5.1.3: VXLAN only; absent means VXLAN)."""
        attributes = path.attributes
        segment = self.vias.own.get(path, self.name)
        if segment != self.name:
            return f"it is of segment {segment} on this node: two segments of one l2 VPN are not joined here"
        if path in self.vias.own:
            return ""
        kinds = encapsulation_types(attributes.ext_communities)
        if kinds and ENCAPSULATION_VXLAN not in kinds:
            return f"encapsulation {sorted(kinds)} is not VXLAN"
        if not path.extra:  # a multicast route
            if attributes.pmsi is None:
                return "it has no PMSI tunnel attribute (RFC 7432 section 11.2)"
            if attributes.pmsi[1] != INGRESS_REPLICATION:
                return f"PMSI tunnel type {attributes.pmsi[1]} is not ingress replication"
        if vni_of(path) == 0:
            return "VNI 0 is nobody's (RFC 8365 section 5.1.3)"
        vtep = vtep_of(path)
        if len(vtep) != len(self.identity.tunnel):
            return "its VTEP is of another address family than this node's"
        return self.usable(vtep)

    def _choose_mac(self, mac: bytes, remote: list[Candidate]) -> None:
        winner = newest(remote)
        local = self._local.get(mac)
        if local:
            there, sticky = (-1, False) if winner is None else mobility_of(winner.path)
            here = self.sequence.setdefault(mac, min(there + 1, HIGHEST_SEQUENCE))
            ours = (-here, self.identity.tunnel)
            if winner is None or (not sticky and ours < (-there, vtep_of(winner.path))):
                self._announce_mac(mac, local.values())
                self.desired.macs.discard((self.vni, mac))
                return
        self._say(mac, {})
        if winner is None:
            self.desired.macs.discard((self.vni, mac))
        else:
            self.desired.macs.put((self.vni, mac), (vtep_of(winner.path), vni_of(winner.path)))

    def _choose_neighbour(self, address: bytes, remote: list[Candidate]) -> None:
        winner = newest(remote)
        here = self._at.get(address)
        if here:
            self.desired.neighbours.put((self.name, address), min(here.values()))
        elif winner is not None:
            self.desired.neighbours.put((self.name, address), winner.key[14:20])
        else:
            self.desired.neighbours.discard((self.name, address))

    def _choose_flood(self, key: bytes, remote: list[Candidate]) -> None:
        seen = self._floods.pop(key, None)
        if seen is not None:
            del self._asking[seen][key]
            self._write_flood(seen)
        for candidate in best(remote)[:1]:
            vtep = self._floods[key] = vtep_of(candidate.path)
            self._asking.setdefault(vtep, {})[key] = vni_of(candidate.path)
            self._write_flood(vtep)

    def _write_flood(self, vtep: bytes) -> None:
        """Write what the routes of a VTEP ask for; it may have several, with route distinguishers of their own."""
        asking = self._asking[vtep]
        if asking:
            self.desired.floods.put((self.vni, vtep), asking[min(asking)])
        else:
            del self._asking[vtep]
            self.desired.floods.discard((self.vni, vtep))

    def _announce_mac(self, mac: bytes, endpoints: Iterable[Endpoint]) -> None:
        number = self.sequence[mac]
        path = self._attributes((mac_mobility(number),) if number else ()).path(NO_ESI + self.vni.to_bytes(3, "big"))
        self.vias.own[path] = self.name
        wanted: dict[bytes, Originated] = {}
        for endpoint in endpoints:
            needs: tuple[ObjectKey, ...] = (("vxlan", str(self.vni)), ("attachment", endpoint.attachment))
            for address in (b"", *endpoint.addresses) if self.exports else ():
                wanted.setdefault(mac_key(self.rd.wire, mac, address), Originated(path, needs))
        self._say(mac, wanted)

    def _say(self, mac: bytes, wanted: dict[bytes, Originated]) -> None:
        """Originate these routes of a MAC, by NLRI key, and no others."""
        for key in self._said.pop(mac, ()):
            if key not in wanted:
                self.originated.discard((Family.EVPN, key))
        for key, originated in wanted.items():
            self.originated.put((Family.EVPN, key), originated)
        if wanted:
            self._said[mac] = list(wanted)

    def _attributes(self, further: tuple[bytes, ...], pmsi: tuple[int, int, bytes, bytes] | None = None) -> Attributes:
        return make(
            self.interner,
            next_hop=self.identity.tunnel,
            ext_communities=(*sorted(self.exports), encapsulation(ENCAPSULATION_VXLAN), *further),
            pmsi=pmsi,
        )

    def _pmsi(self) -> tuple[int, int, bytes, bytes]:
        return 0, INGRESS_REPLICATION, self.vni.to_bytes(3, "big"), self.identity.tunnel


def mobility_of(path: Path) -> tuple[int, bool]:
    """Return a MAC route's sequence number and whether it is sticky (RFC 7432 section 7.7); 0 where it says nothing."""
    found = mobility(path.attributes.ext_communities)
    return (0, False) if found is None else found


def newest(candidates: list[Candidate]) -> Candidate | None:
    """Return the announcement that holds for a MAC: sticky, highest number, lowest VTEP address, best path.

    All nodes must agree where a MAC is, so the number and the address count before LOCAL_PREF (RFC 7432 section 15).
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None

    def rank(candidate: Candidate) -> tuple[bool, int, bytes]:
        number, sticky = mobility_of(candidate.path)
        return not sticky, -number, vtep_of(candidate.path)

    first = min(map(rank, candidates))
    return best([candidate for candidate in candidates if rank(candidate) == first])[0]


def vtep_of(path: Path) -> bytes:
    """Return where frames go: the next hop, or the address in the PMSI tunnel attribute of a multicast route."""
    pmsi = path.attributes.pmsi
    return path.attributes.next_hop if path.extra or pmsi is None else pmsi[3]


def vni_of(path: Path) -> int:
    """Return the VNI to send with: the receiver's, in the route's label field (RFC 8365 section 5.1.3)."""
    if path.extra:
        return int.from_bytes(path.extra[10:13], "big")
    pmsi = path.attributes.pmsi
    return 0 if pmsi is None else int.from_bytes(pmsi[2], "big")


def _leave(groups: dict[bytes, dict[str, V]], name: bytes, member: str) -> None:
    """Take a member out of a group; a group without members is none."""
    groups[name].pop(member, None)
    if not groups[name]:
        del groups[name]
