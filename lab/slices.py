"""How long the event loop stands still for what concerns all routes of a peer: a line of JSON for each such happening.

A reflector has told the node so many routes with path attributes for every hundred; one VPN imports all of them, and a
client hears them.  Then things happen, without sockets and without the kernel, each as the loop would do it: the
happening itself, and turns until nothing is left to do.  A KEEPALIVE waits for as long as the longest of these takes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import attrs

from bgpvpn.desired import Desired
from bgpvpn.instance import Importing, Vias
from bgpvpn.ipvpn import Ipvpn
from bgpvpn.running import ROUTES_A_TURN
from speaker.engine import Engine
from speaker.path import Attributes, Path
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Negotiated
from speaker.terms import Terms, reject
from speaker.values import Family, RouteTarget
from speaker.wire.attribute import Interner
from speaker.wire.capability import GracefulRestart
from speaker.wire.update import Update

VPNV4 = Family.VPNV4
ALIKE = 100
OCTETS_A_TURN = 64 * 1024
TARGET, OTHER = (RouteTarget.parse(text).wire for text in ("64512:1", "64512:2"))


@attrs.frozen
class Slices:
    """Milliseconds of processor time."""

    first_ms: float  # of the happening itself
    longest_ms: float  # of all, the happening included
    all_ms: float
    slices: int


class World:
    """A node with a reflector, a client and a VPN."""

    def __init__(self, routes: int) -> None:
        self.routes = routes
        rib = Rib()
        self.interest = Interest()
        own = Own(bytes((192, 0, 2, 1)), frozenset({64512}), frozenset({bytes((192, 0, 2, 1))}))
        self.engine = Engine(rib, self.interest, own, Interner())
        self.importing = Importing(rib, self.interest, lambda family, path: None)
        self.vpn = Ipvpn("vpn", 1, rib, self.interest, Desired(), Vias(), lambda pe: "")
        self.interest.set(self.vpn, frozenset({TARGET}))
        self.peer, self.client = self.engine.add("192.0.2.9"), self.engine.add("192.0.2.10")
        self.engine.change("192.0.2.10", Terms(client=True), 0.0)
        self.now = 0.0
        self.client.up(negotiated(10), self.now)

    def establish(self) -> None:
        """Bring the reflector up, and let it tell all."""
        if self.peer.negotiated is None:
            self.peer.up(negotiated(9), self.now)
        for first in range(0, self.routes, ALIKE):
            attributes = Attributes(
                next_hop=bytes((192, 0, 2, 9)),
                local_pref=100,
                med=first,
                ext_communities=(TARGET,),
                route_targets=frozenset({TARGET}),
            )
            keys = [key(number) for number in range(first, min(first + ALIKE, self.routes))]
            self.peer.update(Update([], [(VPNV4, dict.fromkeys(keys, attributes.path(b"\0\x06\x41")))]), self.now)
        self.peer.update(Update(end_of_rib=VPNV4), self.now)

    def turn(self) -> Iterator[Callable[[], object]]:
        """Yield what a turn of the loop does, a slice each; what it returns says whether there was anything to do."""
        yield (
            lambda: self.engine.step(ROUTES_A_TURN) + self.importing.step(ROUTES_A_TURN) + self.vpn.step(ROUTES_A_TURN)
        )
        yield lambda: self.peer.output(OCTETS_A_TURN)
        yield lambda: self.client.output(OCTETS_A_TURN)

    def settle(self) -> list[float]:
        """Do all that is left to do; return what each slice took, in milliseconds."""
        took: list[float] = []
        busy = True
        while busy:
            busy = False
            for each in self.turn():
                began = time.thread_time()
                if each():
                    took.append((time.thread_time() - began) * 1000)
                    busy = True
        return took

    def happenings(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield what happens, one after the other, with its name."""
        engine, peer, now = self.engine, self.peer, self.now
        name = peer.name
        yield "another import policy", lambda: engine.change(name, Terms(importing=preferring()), now)
        yield "an import policy that rejects", lambda: engine.change(name, Terms(importing=reject), now)
        yield "no import policy", lambda: engine.change(name, Terms(), now)
        yield "a refresh begins", lambda: peer.refreshing(VPNV4, True, now)
        yield "a refresh ends, nothing repeated", lambda: peer.refreshing(VPNV4, False, now)
        self.again()
        yield "a VPN imports anew", lambda: self.importing.rebuild([self.vpn])
        yield "imports shrink, nothing goes", peer.adj_rib_in.prune
        yield "the session is lost, its routes stay", lambda: peer.down(negotiated(9), True, now)
        yield "the restart time is over, long-lived", lambda: engine.tick(now + 90)
        yield "the peer is back", lambda: peer.up(negotiated(9), now + 91)
        yield "End-of-RIB, nothing repeated", lambda: peer.update(Update(end_of_rib=VPNV4), now + 92)
        self.again()
        yield "the session is lost, its routes go", lambda: peer.down(negotiated(9), False, now)
        self.again()
        yield "a client comes up", self.reconnect
        yield "a client asks for a refresh", lambda: self.client.refresh(VPNV4, now)
        yield "another export policy", lambda: engine.change("192.0.2.10", Terms(client=True, exporting=same), now)
        yield "the peer becomes a client", lambda: engine.change(name, Terms(client=True), now)
        yield "it is none any more", lambda: engine.change(name, Terms(), now)
        yield "nobody is a client any more", lambda: engine.change("192.0.2.10", Terms(), now)
        yield "the peer is removed", lambda: engine.remove(name)

    def again(self) -> None:
        """Have the reflector tell all."""
        self.establish()
        self.settle()

    def reconnect(self) -> None:
        """Lose the client and have it back."""
        self.client.down(negotiated(10), False, self.now)
        self.client.up(negotiated(10), self.now)


def negotiated(number: int) -> Negotiated:
    """What is agreed on with a neighbour."""
    return Negotiated(
        families=frozenset({VPNV4}),
        as4=True,
        ibgp=True,
        hold_s=90,
        keepalive_s=30,
        local_as=64512,
        remote_as=64512,
        remote_router_id=bytes((192, 0, 2, number)),
        route_refresh=True,
        graceful=GracefulRestart(False, 90, {VPNV4: True}),
        long_lived={VPNV4: (True, 3600)},
    )


def key(number: int) -> bytes:
    """The key of a host route in a VPN."""
    return b"\0\0\xfc\0\0\0\0\x01" + (0x0A000000 + number).to_bytes(4, "big") + b"\x20"


def preferring() -> Callable[[Family, bytes, Path], Path]:
    """Make a policy that sets LOCAL_PREF."""
    made: dict[Attributes, Attributes] = {}

    def decide(family: Family, nlri: bytes, path: Path) -> Path:
        attributes = made.get(path.attributes)
        if attributes is None:
            attributes = made[path.attributes] = attrs.evolve(
                path.attributes, local_pref=50, paths={}, importers=(), imports_version=-1
            )
        return attributes.path(path.extra)

    return decide


def same(family: Family, nlri: bytes, path: Path) -> Path:
    """Let all out as it is; another policy than none."""
    return path


def measure(routes: int) -> Iterator[tuple[str, Slices]]:
    """Let things happen to so many routes; yield what happened with how long it took."""
    world = World(routes)
    world.again()
    gc.collect()
    gc.freeze()
    gc.disable()  # as the daemon does
    try:
        for name, happen in world.happenings():
            began = time.thread_time()
            happen()
            took = [(time.thread_time() - began) * 1000]
            took += world.settle()
            yield name, Slices(round(took[0], 1), round(max(took), 1), round(sum(took), 1), len(took))
    finally:
        gc.enable()
        gc.unfreeze()
