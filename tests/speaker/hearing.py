"""An adj-rib-in with its surroundings, for tests of what it keeps."""

from __future__ import annotations

from typing import Any

import attrs

from speaker.adj_rib_in import AdjRibIn
from speaker.path import Attributes, Path
from speaker.refusal import Own
from speaker.rib import Interest, Rib, peer_of
from speaker.session import Negotiated
from speaker.values import Family
from speaker.wire.capability import GracefulRestart
from tests.speaker.routes import announced, session, target, vpn_key, withdrawn

VPNV4, EVPN, RTC, IPV4 = Family.VPNV4, Family.EVPN, Family.RTC, Family.IPV4
A, B, C = (vpn_key(f"10.0.{n}.0/24") for n in range(3))
TAG = bytes.fromhex("03 0000fc0000000001 00000000 20 c0000209")
OURS = bytes((192, 0, 2, 1))


class Vpn:
    families = frozenset({VPNV4, EVPN})


class Peer:
    """An adj-rib-in of a peer, and what of it is in the RIB; one VPN imports target 1."""

    def __init__(self) -> None:
        self.rib = Rib()
        self.interest = Interest()
        self.vpn = Vpn()
        self.own = Own(OURS, frozenset({64512}), frozenset({OURS}))
        self.import_targets(1)
        self.adj_rib_in = AdjRibIn("p", self.rib, self.interest, self.own)

    def import_targets(self, *numbers: int) -> None:
        self.interest.set(self.vpn, frozenset(map(target, numbers)))

    def up(self, *families: Family, now: float = 0.0, **fields: Any) -> Negotiated:
        """Establish a session; return what was agreed on."""
        negotiated = agreed(*families, **fields)
        self.adj_rib_in.up(negotiated, now)
        return negotiated

    def hear(self, family: Family, attributes: Attributes, *keys: bytes, now: float = 0.0) -> None:
        self.adj_rib_in.update(announced(family, attributes, *keys), now)

    def lose(self, family: Family, *keys: bytes) -> None:
        self.adj_rib_in.update(withdrawn(family, *keys), 0.0)

    def settle(self) -> None:
        """Have done all that is done in shares."""
        while self.adj_rib_in.step(1):
            pass

    def held(self, family: Family = VPNV4) -> set[bytes]:
        """The NLRI keys at the peer's own name, when all is settled."""
        self.settle()
        return set(self.rib.table(family, "p").rows)

    def paths(self, family: Family = VPNV4) -> dict[tuple[str, bytes], Path]:
        """All that is in the RIB of the peer when all is settled: source and NLRI key."""
        self.settle()
        return {
            (source, key): path
            for source, table in self.rib.sources(family)
            if peer_of(source) == "p"
            for key, path in table.rows.items()
        }

    def says(self, family: Family, key: bytes) -> Attributes:
        """The attributes of a route in the RIB, when all is settled."""
        self.settle()
        return self.rib.table(family, "p")[key].attributes


def agreed(*families: Family, ibgp: bool = True, **fields: Any) -> Negotiated:
    """What was agreed on with a neighbour, these fields in place of the usual ones."""
    return attrs.evolve(session(*families, ibgp=ibgp), **fields)


def saying(attributes: Attributes, **fields: Any) -> Attributes:
    """Attributes that say something else in these fields."""
    return attrs.evolve(attributes, **fields, paths={}, importers=(), imports_version=-1)


def graceful(
    *forwarding: Family, lost: Family | None = None, time_s: int = 90, notification: bool = False
) -> GracefulRestart:
    """The capability of a peer that keeps forwarding for these families, and lost its state of one more."""
    kept = dict.fromkeys(map(int, forwarding), True)
    return GracefulRestart(False, time_s, kept if lost is None else {**kept, lost: False}, notification)
