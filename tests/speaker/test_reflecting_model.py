"""What several peers are told: a model of any order of events, and deliberate faults that it must catch.

What each peer ends with is compared with what the RFCs give it (`tests.speaker.reflector`).
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File

import attrs
import pytest

import speaker
from speaker.decision import LOCAL, is_own
from speaker.engine import Engine
from speaker.terms import Terms
from speaker.values import Family
from tests.speaker.reflector import (
    ALL,
    BLOCKS,
    BUDGET,
    IPV4,
    KEYS,
    OF_SPEAKERS,
    PEERS,
    POLICIES,
    RTC,
    SPEAKERS,
    World,
)


def story(seed: int, kind: type[Engine]) -> None:
    """Live through some eighty events; AssertionError when a peer holds or hears what it should not."""
    chance = random.Random(seed)
    world = World(kind)
    engine = world.engine
    engine.groups.log_octets = chance.choice((200, 1000, 1 << 20))
    names = sorted(chance.sample(sorted(PEERS), 4))
    for name in names:
        engine.add(name)
    with_clients = chance.random() < 0.8
    stuck = chance.choice(names)  # it reads seldom

    def terms(name: str) -> Terms:
        client = with_clients and PEERS[name].ibgp and chance.random() < 0.6
        return Terms(
            exporting=chance.choice(POLICIES),
            client=client,
            paths_out=chance.choice((1, 2, 3)),
            hears=frozenset(source for source in SPEAKERS if chance.random() < 0.5),
            own_only=frozenset({IPV4} if chance.random() < 0.3 else ()),
        )

    def some_route() -> tuple[Family, str, bytes]:
        family = chance.choice(ALL)
        sources = [name for name in world.listeners if family in PEERS[name].families]
        source = chance.choice([LOCAL, *sources, *sources, *(SPEAKERS if family is IPV4 else ())])
        if not is_own(source) and family is not RTC and chance.random() < 0.2:
            source += "#1"
        return family, source, chance.choice(KEYS[family])

    for _ in range(80):
        name = chance.choice(names)
        is_up = name in world.listeners
        match chance.randrange(24):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                family, source, key = some_route()
                blocks = BLOCKS[:6] if family is RTC else OF_SPEAKERS.get(source, BLOCKS)
                world.put(family, source, key, chance.choice(blocks))
            case 7 | 8 | 9:
                family, source, key = some_route()
                world.rib.table(family, source).discard(key)
            case 10 | 11 | 12 if not is_up:
                router_id = bytes((10, 0, chance.choice((0, 1)), PEERS[name].remote_router_id[3]))
                world.up(name, attrs.evolve(PEERS[name], remote_router_id=router_id))
            case 10 if chance.random() < 0.3:
                world.down(name)
            case 13 | 17 if is_up:
                family = chance.choice(sorted(PEERS[name].families))
                listener = world.listeners[name]
                engine.neighbours[name].refresh(family, 0.0)
                listener.unanswered |= {at for at in listener.held if at[0] is family}
            case 14:
                engine.change(name, terms(name), 0.0)
            case 15 if chance.random() < 0.3:
                chance.choice((engine.release, engine.select))()
            case 16 if is_up:
                engine.neighbours[name].adj_rib_out.members_synced()
            case _ if is_up and (name != stuck or chance.random() < 0.1):
                world.listen(name, chance.choice((1, 100, 400, BUDGET)))
                accounted(world, name)
    engine.release()
    engine.select()
    for name in names:
        if name not in world.listeners:
            world.up(name, PEERS[name])
        engine.neighbours[name].adj_rib_out.members_synced()
    world.settle()
    for name, listener in world.listeners.items():
        assert world.heard(name) == world.deserved(name), name
        assert listener.idle_withdrawals == 0, f"{name}: what was never told was withdrawn"
        assert listener.unanswered == set(), f"{name}: a refresh was not answered"
        assert sorted(listener.ended) == sorted(PEERS[name].families), f"{name}: one End-of-RIB of each family"
        begun = {family for family, subtype in listener.refreshed if subtype == 1}
        last = dict(listener.refreshed)
        assert last == dict.fromkeys(begun, 2), f"{name}: BoRR without EoRR"
        accounted(world, name)
    assert sum(len(group.log) for group in engine.groups.groups.values()) == 0, "what all have read is kept"


def accounted(world: World, name: str) -> None:
    """What is counted as sent is what the peer holds, also while it goes through its past."""
    for family, sent in world.engine.neighbours[name].adj_rib_out.sent.items():
        held = {at: paths for at, paths in world.heard(name).items() if at[0] is family}
        assert {(family, key) for key in sent} == held.keys(), f"{name}: what was sent"
        assert len(sent) == sum(map(len, held.values())), f"{name}: how many paths were sent"


STORIES = 500


def live(kind: type[Engine], stories: int = STORIES) -> None:
    for seed in range(stories):
        try:
            story(seed, kind)
        except AssertionError as error:
            raise AssertionError(f"in the story {seed}: {error}") from error


def test_whatever_happens_all_peers_end_with_what_they_should_hold() -> None:
    live(Engine)


# Deliberate faults, each in one file, that the model must find


MUTANTS: dict[str, tuple[str, str, str]] = {
    "a peer hears its own routes": (
        "member",
        "if peer == self.peer and not",
        "if peer == 0 and not",
    ),
    "a client does not hear of its own memberships": (
        "member",
        "not (self.client and family is Family.RTC)",
        "True",
    ),
    "memberships filter all families": ("member", "or family not in WITH_TARGETS or", "or"),
    "memberships do not filter": (
        "member",
        "return self.membership is None or family not in WITH_TARGETS or self.membership.wants(targets)",
        "return True",
    ),
    "non-clients hear of each other": ("update_group", "or peer in self.groups.clients", "or True"),
    "non-clients do not hear of clients": ("update_group", "or peer in self.groups.clients", ""),
    "external paths are not for non-clients": ("update_group", "self._rib.origin(peer).external or", ""),
    "what is not eligible competes": (
        "update_group",
        "if table.rows and self.eligible(family, source)",
        "if table.rows",
    ),
    "all hear what the speakers say": ("update_group", "source == LOCAL or source in towards.hears", "True"),
    "all hear what the speakers say without a client": (
        "update_group",
        "for source in self._own)",
        "for _, source in self._rib.tables if is_own(source))",
    ),
    "nobody hears what the speakers say": ("update_group", "source == LOCAL or source in", "source == LOCAL in"),
    "changes of what the speakers say are missed": ("update_group", "else self._own\n", "else (LOCAL,)\n"),
    "own routes alone are not alone": (
        "update_group",
        "if family in towards.own_only:\n            return",
        "if 0: return",
    ),
    "who leaves a speaker waits for ever": ("adj_rib_out", "for family in waiting - shut)", "for family in waiting)"),
    "a change of eligibility is missed": (
        "update_group",
        "not group.towards.client:\n                group.reconsider(name)",
        "not group.towards.client:\n                pass",
    ),
    "a new router id is missed": (
        "update_group",
        "if group.towards.reflecting:\n                group.reconsider(name)",
        "if group.towards.reflecting:\n                pass",
    ),
    "a path is told with its former router id": (
        "update_group",
        "        self._entries.clear()\n        for",
        "        for",
    ),
    "a path with another router id is the same": (
        "update_group",
        "else ((path, source, origin),)",
        "else ((path, source, Origin(origin.external)),)",
    ),
    "a new group is empty": ("update_group", "self._again[family].append(list(reversed(rows)))", "pass"),
    "a share of what is looked at again is lost": ("update_group", "reversed(again[0][-most:])", "again[0][1:]"),
    "a change is taken for no change": ("update_group", "if now != before:", "if now and not before:"),
    "a withdrawal goes only to who never heard": ("update_group", "if but != to:", "if but == to:"),
    "a key with a new audience stays with the old": ("update_group", "if but != to:", "if but is None:"),
    "all paths go out": ("update_group", "while left and len(chosen) < most:", "while left:"),
    "the second path goes out": ("update_group", "first = best(left)[0]", "first = best(left)[-1]"),
    "a path that does not fit counts as told": (
        "update_group",
        "chosen[key] = tuple(entry for entry in chosen[key] if entry[1] != source)",
        "pass",
    ),
    "what does not fit stops the rest": ("update_group", "if len(routes) == 1:", "if True:"),
    "who is behind misses changes": (
        "update_group",
        "member.behind(family, changes)\n        weight",
        "pass\n        weight",
    ),
    "who falls behind the log misses it": (
        "update_group",
        "member.behind(batch.family, batch.changes)\n        member.position",
        "pass\n        member.position",
    ),
    "a snapshot is kept for too long": (
        "update_group",
        "        self._snapshots.clear()\n        self._shorten()",
        "        self._shorten()",
    ),
    "an identifier serves two sources": ("update_group", "len(self._identifiers) + 1)", "1)"),
    "the identifier is 0": ("update_group", "len(self._identifiers) + 1)", "len(self._identifiers))"),
    "the policy is not asked": ("update_group", "if towards.exporting is not accept:", "if False:"),
    "communities are not looked at": ("outward", "    if not communities:", "    if True:"),
    "NO_ADVERTISE goes out": ("outward", "if NO_ADVERTISE in communities:", "if False:"),
    "NO_EXPORT is exported": ("outward", "not towards.ibgp and NO_EXPORT in", "towards.ibgp and NO_EXPORT in"),
    "LLGR_STALE goes to everybody": ("outward", "not towards.long_lived and", "False and"),
    "an IPv6 next hop goes to everybody": ("outward", "and family not in towards.extended_next_hop", "and False"),
    "OTC goes upwards": ("outward", "towards.role in _UPWARDS", "False"),
    "OTC is not added": ("outward", "towards.role in _DOWNWARDS", "False"),
    "OTC is added to VPN routes": ("outward", "if family in UNICAST and towards.role in _D", "if towards.role in _D"),
    "the ORIGINATOR_ID is replaced": ("outward", "attributes.originator_id or origin", "origin"),
    "our cluster is at the end": (
        "outward",
        "(own.cluster_id or own.router_id, *attributes.cluster_list)",
        "(*attributes.cluster_list, own.cluster_id or own.router_id)",
    ),
    "an external path has an ORIGINATOR_ID": (
        "outward",
        "if is_own(source) or origin.external:",
        "if is_own(source):",
    ),
    "our own route has an ORIGINATOR_ID": ("outward", "if is_own(source) or origin.external:", "if origin.external:"),
    "a membership names its originator": ("outward", "if family is Family.RTC and towards.client:", "if False:"),
    "non-clients get memberships as clients do": ("outward", "is Family.RTC and towards.client:", "is Family.RTC:"),
    "an external peer is told LOCAL_PREF": ("outward", '"local_pref": None,', ""),
    "an external peer is told a received MED": ("outward", "if not is_own(source):", "if False:"),
    "an external peer is told no MED of ours": ("outward", "if not is_own(source):", "if True:"),
    "our AS is missing": ("outward", "_led_by(towards.local_as, attributes),", "attributes.as_path,"),
    "what is not transitive leaves the AS": ("outward", "if not each[0] & NON_TRANSITIVE)", "if True)"),
    "a refresh forgets what was told": ("adj_rib_out", "dict(now), pending, {}, again=anew)", "{}, {}, dict(now))"),
    "a refresh repeats nothing": ("adj_rib_out", "pending, {}, again=anew)", "pending, {})"),
    "a refresh repeats only what is pending": (
        "adj_rib_out",
        "dict(now), pending, {}, again",
        "{}, pending, {}, again",
    ),
    "a refresh is not ended": ("adj_rib_out", "yield RouteRefresh(family, END).encode()", "yield b''"),
    "a refresh is ended at once": (
        "adj_rib_out",
        "if family not in member.past and not member.pending[family]:",
        "if True:",
    ),
    "a refresh is ended when its past begins": ("adj_rib_out", "if family not in member.past and not m", "if not m"),
    "a refresh begins before End-of-RIB": ("adj_rib_out", "and family in self.told_all\n", "and True\n"),
    "memberships are looked at once": (
        "adj_rib_out",
        "elif anew or member.hearing.differs(before, family, group.audiences[family]):",
        "elif anew:",
    ),
    "memberships that are withdrawn all are forgotten": (
        "member",
        "is not None and family in WITH_TARGETS and not",
        "is not None and not",
    ),
    "a change of memberships forgets the log": (
        "adj_rib_out",
        "        old.set_back(member)\n",
        "        member.position = None\n",
    ),
    "what was pending is lost": (
        "adj_rib_out",
        "else:\n                past = Past(family, before, {}, pending, {})",
        "else:\n                past = Past(family, before, {}, {}, {})",
    ),
    "what was pending stays": ("adj_rib_out", "            member.pending[family] = {}\n", ""),
    "the past is by the new memberships": (
        "adj_rib_out",
        "past = Past(family, before, dict(now), pending",
        "past = Past(family, member.hearing, dict(now), pending",
    ),
    "a new session forgets what is there": (
        "adj_rib_out",
        "past[family] = Past(family, hearing, {}, {}, dict(told))",
        "past.clear()",
    ),
    "a change does not wait for the past": ("member", "return family not in self.past or", "return True or"),
    "another group is told all": (
        "adj_rib_out",
        "past = Past(family, before, told, pending, dict(now), again=anew)",
        "past = Past(family, before, {}, {}, dict(now))",
    ),
    "another group is told nothing": (
        "adj_rib_out",
        "past = Past(family, before, told, pending, dict(now), again=anew)",
        "continue",
    ),
    "another group forgets what goes": (
        "adj_rib_out",
        "dict(old.told[family]) if old.members else old.told[family]",
        "{key: old.told[family].get(key, NOTHING) for key in now}",
    ),
    "another group forgets what comes": ("adj_rib_out", "told, pending, dict(now), again", "told, pending, {}, again"),
    "another group forgets what was pending": (
        "adj_rib_out",
        "told, pending, dict(now), again",
        "told, {}, dict(now), again",
    ),
    "who leaves a group takes from it": ("adj_rib_out", "dict(old.told[family]) if old.members else", ""),
    "other terms are not followed": (
        "adj_rib_out",
        "self._moving = towards != before",
        "self._moving = towards != towards",
    ),
    "the past is overwritten": ("member", "if past is None or key not in past:", "if True:"),
    "changes are missed as long as there is a past": (
        "member",
        "if past is None or key not in past:",
        "if past is None:",
    ),
    "the past has not what was told": ("member", "return key in self._told or key", "return key"),
    "the past has not what was pending": ("member", " or key in self._changed", ""),
    "the past has not what was new": ("member", " or key in self._now", ""),
    "the past ends with what is new": ("member", "bool(self._now or self.holding)", "bool(self._now)"),
    "what was pending is not gone through": (
        "member",
        "            elif changed:\n",
        "            elif changed.clear():\n",
    ),
    "what was pending is taken as told": (
        "member",
        "before = changed.pop(key, before)",
        "changed.pop(key, None)",
    ),
    "a new client gets memberships as before": (
        "adj_rib_out",
        "(family is Family.RTC and before.client != member.hearing.client)",
        "False",
    ),
    "End-of-RIB does not wait for the node": ("adj_rib_out", "if self.released and len(", "if len("),
    "End-of-RIB does not wait for the routes": ("adj_rib_out", "and not self._behind(family):", "and True:"),
    "End-of-RIB does not wait for the past": (
        "adj_rib_out",
        "or family in member.past or member.pending[family] or group",
        "or member.pending[family] or group",
    ),
    "End-of-RIB is said again": ("adj_rib_out", "self.told_all.add(family)", "pass"),
    "a reflector does not wait for its peers": ("engine", "(self.selected or not self.groups.reflecting)", "True"),
    "the first client changes nothing": ("engine", "neighbour.adj_rib_out.regroup()", "pass"),
}

FILES = ("outward", "member", "update_group", "adj_rib_out", "engine")


@contextmanager
def mutant(file: str, old: str, new: str) -> Iterator[type[Engine]]:
    """An engine with one fault written into its source, and into no other's."""
    try:
        for name in FILES:
            source = (File(speaker.__file__).parent / f"{name}.py").read_text()
            if name == file:
                assert source.count(old) == 1, f"{name}.py has {source.count(old)} times {old!r}"
                source = source.replace(old, new)
            for each in FILES:
                source = source.replace(f"from speaker.{each} import", f"from mutant_{each} import")
            module = sys.modules[f"mutant_{name}"] = types.ModuleType(f"mutant_{name}")
            exec(source, module.__dict__)
        yield sys.modules["mutant_engine"].__dict__["Engine"]
    finally:
        for name in FILES:
            sys.modules.pop(f"mutant_{name}", None)


@pytest.mark.parametrize("fault", MUTANTS)
def test_the_model_catches_a_fault(fault: str) -> None:
    with mutant(*MUTANTS[fault]) as kind, pytest.raises((AssertionError, ValueError, LookupError)):
        live(kind)
