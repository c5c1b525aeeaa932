"""All neighbours of a node together: whatever happened in whatever order, a peer ends with what a new one is told.

Neighbours are added and removed, their sessions come, are lost and come back as another kind, in the midst of
refreshes, restarts and changes of terms, and work is done in shares of any size.  What each peer holds in the end is
compared with what groups that are made anew over the same RIB tell, and of who is gone nothing may be left.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from speaker.adj_rib_out import AdjRibOut
from speaker.decision import LOCAL
from speaker.engine import Engine
from speaker.path import Attributes, Path
from speaker.refusal import Own
from speaker.rib import Interest, Rib, peer_of
from speaker.session import Negotiated
from speaker.terms import Decide, Terms, accept
from speaker.update_group import UpdateGroups
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import GracefulRestart
from speaker.wire.update import Update
from tests.speaker.reflector import ALL, BLOCKS, KEYS, LONG_LIVED, OWN_ID, RTC, VPNV4, agreed, with_, without_sevens
from tests.speaker.routes import Listener, announced, withdrawn

NAMES = [f"n{number}" for number in range(1, 6)]
EVENTS = 120
BUDGET = 1 << 16
MARKED: dict[Attributes, Attributes] = {}


def marking(family: Family, key: bytes, path: Path) -> Path | None:
    """A policy that adds a community to all but memberships."""
    if family is RTC:
        return path
    if path.attributes not in MARKED:
        MARKED[path.attributes] = with_(path.attributes, communities=(*path.attributes.communities, 77))
    return MARKED[path.attributes].path(path.extra)


POLICIES: tuple[Decide, ...] = (accept, without_sevens, marking)


class Story:
    """Some events in the life of an engine."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rib = Rib()
        self.own = Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID}), cluster_id=b"\x09\x09\x09\x09")
        self.engine = Engine(self.rib, Interest(), self.own, Interner())
        self.engine.groups.log_octets = self.chance.choice((200, 1000, 1 << 20))
        self.listeners: dict[str, Listener] = {}
        self.now = 0.0
        for name in NAMES[1:]:
            self.add(name)
        for _ in range(EVENTS):
            self.now += self.chance.choice((0.0, 0.0, 1.0, 30.0))
            self.event(self.chance.choice(NAMES))
        self.settle()

    def event(self, name: str) -> None:
        """Let something happen to a neighbour, or to all."""
        chance, engine, neighbour = self.chance, self.engine, self.engine.neighbours.get(name)
        what = chance.randrange(20)
        if what in (0, 1):
            engine.step(chance.choice((1, 2, 7)))
        elif what == 2:
            engine.tick(self.now)
        elif neighbour is None:
            self.add(name)
        elif what == 3:
            self.treat(name)
        elif what == 4 and chance.random() < 0.4:
            self.lose(name, graceful=False)
            engine.remove(name)
        elif name not in self.listeners:
            negotiated = self.kind(NAMES.index(name))
            neighbour.up(negotiated, self.now)
            self.listeners[name] = Listener(negotiated)
        elif what == 5:
            self.lose(name, graceful=chance.random() < 0.6)
        elif what == 6:
            neighbour.refresh(chance.choice(ALL), self.now)
        elif what == 7:
            neighbour.refreshing(chance.choice(ALL), chance.random() < 0.5, self.now)
        elif what == 8:
            neighbour.update(Update(end_of_rib=chance.choice(self.families(name))), self.now)
        elif what in (9, 10, 11):
            self.listeners[name].hear(neighbour.output(chance.choice((1, 200, BUDGET))))
        else:
            neighbour.update(self.said(name), self.now)

    def add(self, name: str) -> None:
        self.engine.add(name)
        self.treat(name)

    def treat(self, name: str) -> None:
        """Give a neighbour some terms."""
        chance = self.chance
        terms = Terms(
            importing=chance.choice(POLICIES),
            exporting=chance.choice(POLICIES),
            client=chance.random() < 0.6,
            paths_out=chance.choice((1, 2, 3)),
        )
        self.engine.change(name, terms, self.now)

    def kind(self, number: int) -> Negotiated:
        """Return what a session could agree on."""
        chance = self.chance
        families = chance.choice((ALL, ALL, (VPNV4, Family.IPV4)))
        fields: dict[str, Any] = {
            "graceful": GracefulRestart(False, 90, {int(family): True for family in ALL}),
            "long_lived": chance.choice(({}, {int(family): (True, 500) for family in ALL})),
            "enhanced_refresh": chance.random() < 0.7,
            "add_path_receive": chance.choice((frozenset(), frozenset({VPNV4, RTC} & set(families)))),
            "add_path_send": chance.choice((frozenset(), frozenset({VPNV4}))),
            **chance.choice(({}, LONG_LIVED)),
        }
        return agreed(number, *families, **fields)

    def families(self, name: str) -> list[Family]:
        return sorted(self.listeners[name].negotiated.families)

    def said(self, name: str) -> Update:
        """Return what a peer could say of a route."""
        chance, family = self.chance, self.chance.choice(self.families(name))
        key = chance.choice(KEYS[family])
        if family in self.listeners[name].negotiated.add_path_receive:
            key = bytes((0, 0, 0, chance.randrange(1, 5))) + key
        if chance.random() < 0.35:
            return withdrawn(family, key)
        return announced(family, chance.choice(BLOCKS[:6] if family is RTC else BLOCKS), key)

    def lose(self, name: str, *, graceful: bool) -> None:
        if name in self.listeners:
            self.engine.neighbours[name].down(self.listeners.pop(name).negotiated, graceful, self.now)

    def settle(self) -> None:
        """Let all work be done and all peers hear all."""
        self.engine.release()
        self.engine.select()
        something = True
        while something:
            something = bool(self.engine.step(3))
            for name, listener in self.listeners.items():
                octets = self.engine.neighbours[name].output(BUDGET)
                listener.hear(octets)
                something |= bool(octets)


def held(listener: Listener) -> dict[tuple[Family, bytes], list[str]]:
    """Return what a peer holds of each destination, whatever the path identifiers."""
    found: dict[tuple[Family, bytes], list[str]] = {}
    for (family, key), path in listener.held.items():
        nlri = key[4:] if family in listener.negotiated.add_path_send else key
        found.setdefault((family, nlri), []).append(said(path))
    return {at: sorted(paths) for at, paths in found.items()}


def said(path: Path) -> str:
    each = path.attributes
    targets = sorted(each.route_targets)
    return repr((each.local_pref, each.med, each.originator_id, each.cluster_list, each.communities, targets))


@pytest.mark.parametrize("seed", range(300))
def test_a_peer_ends_with_what_a_new_one_is_told_and_who_is_gone_leaves_nothing(seed: int) -> None:
    story = Story(seed)
    engine, groups = story.engine, UpdateGroups(story.rib, story.own)
    assert {peer_of(source) for _, source in story.rib.tables} <= {LOCAL, *engine.neighbours}
    groups.clients |= engine.groups.clients
    for name, listener in story.listeners.items():
        told, new = AdjRibOut(name, groups), Listener(listener.negotiated)
        told.terms = engine.neighbours[name].terms
        told.up(listener.negotiated, story.now)
        while octets := told.output(BUDGET):
            new.hear(octets)
        assert held(listener) == held(new), name
        assert listener.idle_withdrawals == 0, name
