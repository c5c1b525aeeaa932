"""A VRF, the importing half: L3VPN over MPLS over GRE (RFC 4364, RFC 4659, RFC 4023).

    received VPNv4, VPNv6 routes -> best per prefix -> [desired.routes of the VRF's table]

Routes of EVPN type 5 compete with them, where the VRF has such a half (`bgpvpn.prefixes`).  What a VRF announces is
worked out in `bgpvpn.announcer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from bgpvpn.desired import Desired, InVrf, Labelled, NextHop, Via
from bgpvpn.instance import AFI_OF, Instance, Vias, weighed
from bgpvpn.prefixes import Prefixes, is_overlaid
from speaker.decision import Candidate, tiers
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.values import Family
from speaker.wire.community import encapsulation_types, link_bandwidth

USABLE_ENCAPSULATIONS = frozenset({2, 10, 11})
"""GRE, MPLS and MPLS-in-GRE (RFC 9012 section 3): all mean MPLS over the tunnel that the nodes have; absent counts."""

Keys = bytes | tuple[bytes, ...]
"""One NLRI key, as usual, or several, sorted."""

Choice = tuple[Via | None, tuple[int, ...]]
"""Where a prefix leads, and which of its NLRI keys, by position, have a route that this VRF imports."""


class Ipvpn(Instance):
    """A VRF of this node."""

    families = frozenset({Family.VPNV4, Family.VPNV6})

    def __init__(
        self,
        name: str,
        table: int,
        rib: Rib,
        interest: Interest,
        desired: Desired,
        vias: Vias,
        usable: Callable[[bytes], str],
    ) -> None:
        """`usable` says why a PE address may not be tunnelled to, "" if it may."""
        super().__init__(name, rib, interest, vias)
        self.table = table
        self.usable = usable
        self.routes = {family: desired.routes_of(table, AFI_OF[family]) for family in AFI_OF}
        self.statics: dict[tuple[Family, bytes], Via] = {}  # to our own endpoints, where no connected route leads
        self.keys: dict[Family, dict[bytes, Keys]] = {family: {} for family in AFI_OF}
        self.dirty: dict[Family, dict[bytes, None]] = {family: {} for family in AFI_OF}
        self.rest: dict[Family, list[bytes]] = {family: [] for family in AFI_OF}  # becomes dirty in shares
        self.prefixes: Prefixes | None = None  # the EVPN half, if it has one

    def __len__(self) -> int:
        return sum(map(len, self.dirty.values())) + sum(map(len, self.rest.values()))

    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that the route under this NLRI key changed (hot)."""
        prefix = key[8:]
        self.dirty[family][prefix] = None
        if path is None:
            return
        keys = self.keys[family]
        held = keys.get(prefix)
        if held is None:
            keys[prefix] = key
        elif held != key and (type(held) is bytes or key not in held):
            keys[prefix] = tuple(sorted((*_several(held), key)))

    def touch_all(self) -> None:
        """Note that every prefix is to be worked out again."""
        for family, keys in self.keys.items():
            self.rest[family] = list(keys)
        if self.prefixes is not None:
            self.prefixes.touch_all()

    def touch_prefix(self, family: Family, prefix: bytes) -> None:
        """Note that a prefix is to be worked out again."""
        self.dirty[family][prefix] = None

    def set_static(self, family: Family, prefix: bytes, via: Via | None) -> None:
        """Say where a prefix leads that lies behind an endpoint of the VRF, or that no VPN has; None: it does not."""
        if via is None:
            self.statics.pop((family, prefix), None)
        else:
            self.statics[(family, prefix)] = via
        self.dirty[family][prefix] = None

    def step(self, most: int) -> int:
        """Choose the best paths of up to `most` prefixes (hot)."""
        for family, rest in self.rest.items():
            if rest:
                self.dirty[family].update(dict.fromkeys(rest[-most:]))
                del rest[-most:]
        done = 0
        for family, dirty in self.dirty.items():
            if not dirty or done >= most:
                continue
            if len(dirty) <= most - done:
                self.dirty[family] = {}
            else:
                dirty = dict(islice(dirty.items(), most - done))
                for prefix in dirty:
                    del self.dirty[family][prefix]
            done += len(dirty)
            self._choose(family, dirty)
        return done

    def _choose(self, family: Family, dirty: Iterable[bytes]) -> None:
        keys, routes, statics = self.keys[family], self.routes[family], self.statics
        gets = [table.rows.get for _, table in self.rib.sources(family)]
        chosen: dict[tuple[Path | None, ...], Choice] = {}
        new: dict[bytes, Via] = {}
        overlaid = self.prefixes.keys if self.prefixes is not None else None
        for prefix in dirty:
            held = keys.get(prefix)
            if isinstance(held, bytes):
                paths = tuple([get(held) for get in gets])
            else:
                paths = tuple([get(key) for key in held or () for get in gets])
            static = statics.get((family, prefix)) if statics else None
            # The same paths from the same sources, under keys in the same order, lead the same way.
            choice: Choice | None = None
            if overlaid and (family, prefix) in overlaid:
                choice = self._best(family, _several(held), static, prefix)
            elif static is None:
                choice = chosen.get(paths)
            if choice is None:
                choice = self._best(family, _several(held), static)
                if static is None:
                    chosen[paths] = choice
            via, present = choice
            if held is not None and len(present) < (1 if isinstance(held, bytes) else len(held)):
                left = tuple(_several(held)[at] for at in present)
                if left:
                    keys[prefix] = left[0] if len(left) == 1 else left
                else:
                    del keys[prefix]
            if via is not None:
                new[prefix] = via
            else:
                routes.discard(prefix)
        routes.put_all(new)

    def all_candidates(self, family: Family, keys: Iterable[bytes], prefix: bytes | None) -> list[Candidate]:
        """Return the candidates under these keys, and those of EVPN for a prefix."""
        overlaid = self.prefixes.of(family, prefix) if self.prefixes is not None and prefix is not None else []
        return self.candidates(family, keys) + overlaid

    def _best(self, family: Family, keys: tuple[bytes, ...], static: Via | None, prefix: bytes | None = None) -> Choice:
        """Choose among all candidates, the VRF's own endpoints included; `prefix`: those of EVPN for it as well."""
        candidates = self.all_candidates(family, keys, prefix)
        having = {candidate.key for candidate in candidates}
        present = tuple(at for at, key in enumerate(keys) if key in having)
        usable = [candidate for candidate in candidates if not self.refusal(candidate.path)]
        if leaked := self.vias.leaked:
            # What a port of ours says of another VPN is for others: who can, goes there without it.
            usable = [each for each in usable if leaked.get(each.path) != self.name] or usable
        if len(usable) == 1 and (only := self._meaning(usable[0].path)) is not None:
            return only, present
        found = tiers(usable)
        if not found:
            return static, present
        hops: list[list[NextHop]] = []
        own = self.vias.own
        for tier in found:
            if any(own.get(candidate.path) == self.name for candidate in tier):
                # Our own endpoints share with no other VRF: two that did so could send a packet round and round.
                if static is None:  # directly connected: needs no route, and nothing stands behind it
                    break
                hops.append(list(static.tiers[0]))
            else:
                shares = weights(tier)
                hops.append([weighed(self._hop(each.path), share) for each, share in zip(tier, shares, strict=True)])
        return self.vias.of(hops), present

    def _hop(self, path: Path) -> NextHop:
        vrf = self.vias.own.get(path)
        if vrf is not None:
            return InVrf(vrf)
        via = self._meaning(path)
        assert via is not None, "a usable path means something"
        return via.tiers[0][0]

    def _meaning(self, path: Path) -> Via | None:
        via = self.vias.meaning.get(path)
        return via if via is not None or self.prefixes is None else self.prefixes.meaning.get(path)

    def refusal(self, path: Path) -> str:
        """Tell why a path cannot be used, "" if it can; what a usable one means is then known to `vias`."""
        if path in self.vias.own or path in self.vias.meaning:
            return ""
        if self.prefixes is not None and is_overlaid(path):
            return self.prefixes.refusal(path)
        attributes = path.attributes
        refusal = self.vias.refusals.get(attributes)
        if refusal is None:
            kinds = encapsulation_types(attributes.ext_communities)
            if kinds and kinds.isdisjoint(USABLE_ENCAPSULATIONS):
                refusal = f"encapsulation {sorted(kinds)} is not MPLS over GRE"
            else:
                refusal = self.usable(attributes.next_hop)
            self.vias.refusals[attributes] = refusal
        label = int.from_bytes(path.extra, "big") >> 4
        if not refusal and label < 16:
            refusal = f"label {label} is reserved (RFC 3032 section 2.1)"
        if not refusal:
            self.vias.meaning[path] = self.vias.to([Labelled(attributes.next_hop, label)])
        return refusal


def weights(tier: Sequence[Candidate]) -> list[int]:
    """Return how equal paths share the traffic: by their link bandwidth where all tell one, else equally.

    The largest gets 255, the most that the kernel takes beside others (draft-ietf-idr-link-bandwidth section 3).
    """
    told = [link_bandwidth(candidate.path.attributes.ext_communities) for candidate in tier]
    bandwidths = [each for each in told if each]
    if len(bandwidths) < len(tier) or len(set(bandwidths)) == 1:
        return [1] * len(tier)
    largest = max(bandwidths)
    return [max(1, round(each / largest * 255)) for each in bandwidths]


def _several(held: Keys | None) -> tuple[bytes, ...]:
    return () if held is None else (held,) if isinstance(held, bytes) else held
