"""The reconciler over random histories: whatever happened, the end is what the desired tables say, and nothing else.

The domain is small, so that histories meet themselves.  Nothing is read again at the end but what an event, a refusal
or an error asks for: the minute's audit, which would hide faults, is off.
"""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bgpvpn
from bgpvpn.dataplane.linux import dependency, leaf_of, rows_of
from bgpvpn.dataplane.rows import KINDS, Afi, Attached, BridgeLink, Group, Kind, Leaf, RouteTable
from bgpvpn.desired import (
    Attachment,
    Bridge,
    Desired,
    Gateway,
    InVrf,
    Labelled,
    LabelRoute,
    Object,
    ObjectKey,
    OnBridge,
    Tunnel,
    Via,
    Vrf,
    Vxlan,
)
from bgpvpn.reconcile import Reconciler
from speaker.table import Table
from tests.fakes.kernel import Driver, FakeKernel

NEVER = 1e9
PE1, PE2 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
HERE, THERE = bytes((10, 9, 9, 9)), bytes((10, 9, 9, 8))
V4, V6 = bytes((192, 168, 0, 1)), bytes(15) + b"\1"
MAC1, MAC2 = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))

OBJECTS: tuple[tuple[Object, ...], ...] = (
    (Vrf("red", 1, 100), Vrf("red", 1), Vrf("red", 1, 101)),
    (Vrf("blue", 2, 200), Vrf("blue", 2)),
    (
        Bridge("a", 1, "red", (Gateway(V4, 24), Gateway(V6, 64)), MAC1),
        Bridge("a", 3, "blue", (Gateway(V4, 25),), MAC1),
        Bridge("a", 1),
    ),
    (Bridge("b", 2, "blue", (), MAC1), Bridge("b", 2, "red"), Bridge("b", 4)),
    (Vxlan(10, "a", HERE), Vxlan(10, "b", HERE), Vxlan(10, "a", THERE)),
    (Attachment("p1", "tap1", "", "a"), Attachment("p1", "tap1", "", "b"), Attachment("p1", "tap1", "ns", "a")),
    (Attachment("p2", "tap2", "ns", "b"),),
    (Tunnel(HERE, PE1), Tunnel(THERE, PE1)),
    (Tunnel(HERE, PE2),),
    (Tunnel(HERE, bytes(4)),),
    (LabelRoute(500, "a", V4), LabelRoute(500, "b", V6)),
)
ONE, TWO, THREE = Labelled(PE1, 30), Labelled(PE2, 40), Labelled(PE2, 50)
VIAS = tuple(
    Via(tiers)
    for tiers in (
        ((ONE,),),
        ((TWO,),),
        ((ONE, TWO),),
        ((ONE,), (TWO,)),
        ((ONE,), (THREE,)),
        ((InVrf("blue"),), (ONE,)),
        ((OnBridge("a", V4),), (ONE,), (TWO, THREE)),
    )
)
TABLES: tuple[RouteTable, ...] = ((1, 4), (2, 4), (1, 6))
PREFIXES = tuple(bytes((10, number, 16)) for number in range(4))
TAKEN: tuple[RouteTable, bytes] = ((1, 4), bytes((10, 9, 16)))  # by somebody else
ROUTES = (*((at, prefix) for at in TABLES for prefix in PREFIXES), TAKEN)
MACS = ((10, MAC1), (10, MAC2), (11, MAC1))
NEIGHBOURS = (("a", V4), ("a", V6), ("b", V4))
INTERFACES = (("tap1", ""), ("tap1", "ns"), ("tap2", "ns"))
REFUSED = (*KINDS, "route")
CALLS = ("observe", "apply", "write_routes", "reachable")


History = list[tuple[str, int, int]]


class World:
    """What there is, and what can happen; every happening takes two small numbers."""

    def __init__(self, reconciler: type[Reconciler]) -> None:
        self._class = reconciler
        self.desired = Desired()
        self.kernel = FakeKernel()
        self.kernel.foreign_routes = {TAKEN[0]: {TAKEN[1]}}
        self.kernel.interfaces.update(INTERFACES)
        self.driver = self._started(0.0)
        self.open_gate(0, 0)
        self.put_all(0, 0)
        for number in range(len(ROUTES) - 1):
            self.route(number, number)
        self.meddled = False
        self.replaced_early = 0  # rows and routes that were changed or removed before the gate was open

    def _started(self, now: float) -> Driver:
        return Driver(self.desired, self.kernel, reconciler=self._class, audit_s=NEVER, synced=False, now=now)

    def play(self, history: History) -> None:
        for name, a, b in history:
            closed, replaced, log = not self.driver.reconciler.synced, self.kernel.replaced, len(self.kernel.log)
            getattr(self, name)(a, b)
            if closed:
                self.replaced_early += self.kernel.replaced - replaced
                self.replaced_early += sum(have is not None for _, _, _, have in self.kernel.log[log:])

    def put(self, a: int, b: int) -> None:
        variants = OBJECTS[a % len(OBJECTS)]
        thing = variants[b % len(variants)]
        self.desired.objects.put(thing.key, thing)

    def put_all(self, _a: int, b: int) -> None:
        for a in range(len(OBJECTS)):
            self.put(a, b)

    def drop(self, a: int, _b: int) -> None:
        self.desired.objects.discard(OBJECTS[a % len(OBJECTS)][0].key)

    def route(self, a: int, b: int) -> None:
        at, prefix = ROUTES[a % len(ROUTES)]
        self.desired.routes_of(*at).put(prefix, VIAS[b % len(VIAS)])

    def no_route(self, a: int, _b: int) -> None:
        at, prefix = ROUTES[a % len(ROUTES)]
        self.desired.routes_of(*at).discard(prefix)

    def all_routes(self, a: int, b: int) -> None:
        table = self.desired.routes_of(*TABLES[a % len(TABLES)])
        table.put_all(dict.fromkeys(PREFIXES, VIAS[b % len(VIAS)]))

    def no_routes(self, a: int, _b: int) -> None:
        self.desired.routes_of(*TABLES[a % len(TABLES)]).discard_all([*PREFIXES, TAKEN[1]])

    def entries(self, a: int, b: int) -> None:
        desired, vtep, vni = self.desired, (PE1, PE2)[b % 2], 10 + b % 2
        tables: tuple[tuple[Table[Any, Any], tuple[Any, ...], Any], ...] = (
            (desired.macs, MACS, (vtep, vni)),
            (desired.floods, ((10, PE1), (10, PE2)), vni),
            (desired.neighbours, NEIGHBOURS, (MAC1, MAC2)[b % 2]),
        )
        for table, keys, value in tables:
            key = keys[a % len(keys)]
            if b < 6:
                table.put(key, value)
            else:
                table.discard(key)

    def meddle(self, a: int, b: int) -> None:
        kind = KINDS[a % len(KINDS)]
        keys = sorted(self.kernel.rows[kind], key=repr)
        if keys:
            key = keys[b % len(keys)]
            value = self.kernel.rows[kind][key]
            changed = _changed(kind, value) if b % 2 else None
            self.meddled = True
            self.kernel.meddle(kind, key, changed)

    def meddle_route(self, a: int, b: int) -> None:
        at, prefix = ROUTES[a % len(ROUTES)]
        ids = sorted(self.kernel.rows["nexthop"])
        if (at, prefix) != TAKEN:
            self.meddled = True
            self.kernel.meddle_route(at, prefix, ids[b % len(ids)] if ids and b % 3 else None)

    def refuse(self, a: int, b: int) -> None:
        self.kernel.refuse(REFUSED[a % len(REFUSED)], None, errno.EPERM, times=1 + b % 3, waits=b % 2 == 0)

    def fail(self, a: int, b: int) -> None:
        self.kernel.fail(CALLS[a % len(CALLS)], after=b % 4, times=1 + b % 2)

    def lose(self, a: int, _b: int) -> None:
        self.kernel.lose((PE1, PE2)[a % 2])

    def find(self, a: int, _b: int) -> None:
        self.kernel.find((PE1, PE2)[a % 2])

    def plug(self, a: int, _b: int) -> None:
        self.kernel.plug(*INTERFACES[a % 3])

    def unplug(self, a: int, _b: int) -> None:
        self.kernel.unplug(*INTERFACES[a % 3])

    def restart(self, _a: int, _b: int) -> None:
        self.driver = self._started(self.driver.now)

    def open_gate(self, _a: int, _b: int) -> None:
        self.driver.reconciler.open_gate()

    def step(self, a: int, b: int) -> None:
        self.driver.step(1 + a % 5, settled=b % 2 == 0)

    def run(self, a: int, b: int) -> None:
        self.driver.run((0.05, 0.3, 2.0)[a % 3], 1 + b, settled=b % 2 == 0)

    def end(self) -> None:
        """Let the faults end."""
        self.kernel.relent()
        for interface in INTERFACES:
            self.kernel.plug(*interface)
        self.driver.reconciler.open_gate()
        self.driver.run(61.0)


HAPPENINGS = (
    *("step", "step", "step", "run", "run", "restart", "open_gate", "open_gate", "lose", "lose", "find", "find"),
    *("put", "put", "put_all", "drop", "route", "route", "all_routes", "no_route", "no_routes", "entries", "entries"),
    *("meddle", "meddle", "meddle_route", "refuse", "fail", "plug", "unplug"),
)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 12), st.integers(0, 7)), min_size=16, max_size=60
)


def _changed(kind: Kind, value: Any) -> Any:
    """Return what somebody makes of a row; None: nothing of it is left."""
    match value:
        case Leaf():
            return Leaf(value.afi, None) if value.device is not None else None
        case Group(members=(_, *others)):
            return Group(tuple(others)) if others else Leaf(4, None)
        case Attached():
            return attrs.evolve(value, bridge="")
        case int() if kind in ("address", "flood"):
            return value + 1
        case BridgeLink(mac=bytes()):
            return attrs.evolve(value, mac=MAC2)
        case bytes():
            return MAC2 if value == MAC1 else MAC1
        case (vtep, vni):
            return (vtep, vni + 1)
    return None


LEVELS = ("vrf", "bridge", "tunnel", "vxlan", "attachment", "label")
"""Kinds of objects, each after those that it stands on."""


def expected(desired: Desired, kernel: FakeKernel) -> dict[str, Any]:
    """Return what the kernel shall hold, worked out the slow way."""
    rows: dict[str, Any] = {kind: {} for kind in KINDS if kind != "nexthop"}
    objects = desired.objects.rows
    made: dict[ObjectKey, Object] = {}
    for thing in sorted(objects.values(), key=lambda thing: LEVELS.index(thing.key[0])):
        if dependency(thing) in (None, *made):
            made[thing.key] = thing
            for kind, key, value in rows_of(thing, objects):
                rows[kind][key] = value
    for (vni, mac), entry in desired.macs.rows.items():
        if f"bv-vx{vni}" in rows["link"]:
            rows["fdb"][(f"bv-vx{vni}", mac)] = entry
    for (vni, vtep), send in desired.floods.rows.items():
        if f"bv-vx{vni}" in rows["link"]:
            rows["flood"][(f"bv-vx{vni}", vtep)] = send
    for (bridge, address), mac in desired.neighbours.rows.items():
        segment = made.get(("bridge", bridge))
        if isinstance(segment, Bridge):
            rows["neighbour"][(f"bv-br{segment.number}", address)] = mac
    routes = {
        at: {
            prefix: _leads(via, at[1], objects, made, kernel.unreachable)
            for prefix, via in table.rows.items()
            if (at, prefix) != TAKEN
        }
        for at, table in desired.routes.items()
    }
    leaves = {leaf for table in routes.values() for content in table.values() for leaf in content}
    return {
        **rows,
        "leaves": Counter(leaves),
        "unused": set(),
        "routes": {at: table for at, table in routes.items() if table},
    }


def _leads(
    via: Via, afi: Afi, objects: dict[ObjectKey, Object], made: dict[ObjectKey, Object], unreachable: set[bytes]
) -> frozenset[Leaf]:
    for tier in via.tiers:
        usable = [hop for hop in tier if not isinstance(hop, Labelled) or hop.pe not in unreachable]
        leaves = {leaf for hop in usable if (leaf := leaf_of(hop, afi, made)) is not None}
        if leaves:
            return frozenset(leaves)
    return frozenset({Leaf(afi, None)})


def check(history: History, reconciler: type[Reconciler] = Reconciler) -> None:
    """Play a history and compare its end with what shall be."""
    world = World(reconciler)
    world.play(history)
    world.end()
    kernel, reconciled = world.kernel, world.driver.reconciler
    assert kernel.content() == expected(world.desired, kernel)
    assert kernel.foreign_routes == {TAKEN[0]: {TAKEN[1]}}
    if not world.meddled:  # else it is not ours alone what an operation does
        assert (kernel.opened, kernel.torn, world.replaced_early) == ([], [], 0)

    fresh = FakeKernel()
    fresh.unreachable, fresh.interfaces = kernel.unreachable, kernel.interfaces
    fresh.foreign_routes = kernel.foreign_routes
    anew = Driver(world.desired, fresh, audit_s=NEVER)
    anew.run(2.0)
    assert kernel.content() == fresh.content()
    assert reconciled.status.rows == anew.reconciler.status.rows
    pending = {key for key, status in reconciled.status.rows.items() if status.state != "active"}
    assert pending == {key for key in world.desired.objects.rows if not _stands(key, world.desired.objects.rows)}
    assert set(reconciled.refused.trials) == set(anew.reconciler.refused.trials)

    # And again, by a reconciler that knows nothing: it finds everything in order.
    again = Driver(world.desired, kernel, audit_s=NEVER, synced=False, now=world.driver.now)
    log = len(kernel.log)
    again.run(2.0)
    again.reconciler.open_gate()
    again.run(2.0)
    written = kernel.log[log:]
    if again.reconciler.refused.trials:  # a refused route brings a group with it for each trial
        written = [operation for operation in written if operation[0] != "nexthop"]
    assert written == []


def _stands(key: ObjectKey, objects: dict[ObjectKey, Object]) -> bool:
    thing = objects.get(key)
    if thing is None:
        return False
    needed = dependency(thing)
    return needed is None or _stands(needed, objects)


@settings(max_examples=600)
@given(HISTORIES)
def test_whatever_happens_the_kernel_becomes_what_is_desired(history: History) -> None:
    check(history)


MUTANTS = (
    ("reconcile", "elif have is None or self.synced:", "else:"),
    ("reconcile", "if not self.synced:\n                        continue", "pass"),
    ("reconcile", "self.wanted.dirty.update(dict.fromkeys(self.waiting))", "pass"),
    ("reconcile", "            self._look_at_everything()\n        elif", "            pass\n        elif"),
    ("reconcile", "for prefix in differing:", "for prefix in ():"),
    ("reconcile", "readers.writing.again(differing)", "pass"),
    ("reconcile", "self._observed = False\n        if", "if"),
    ("reconcile", "self.refused.add(row, refusal, now)", "pass"),
    ("reconcile", 'self._look_again |= refused and row[0] == "link"', "pass"),
    ("reconcile", "self._move_all(self.nexthops.look_again())", "self.nexthops.look_again()"),
    ("reconcile", "self.disturbed(self._standing_on(gone), now)", "pass"),
    ("reconcile", "self._scopes |= scopes", "self._scopes = scopes"),
    ("nexthops", "self._set(id_, None)", "pass"),
    ("nexthops", "self._set(id_, content)\n        self._touched", "self._touched"),
    ("nexthops", "self.rows.pop(leaf, None)", "pass"),
    ("nexthops", "content = present if self._frozen or len(asked) > 1 else", "content ="),
    ("plan", "case Group(members=members):", "case Group(members=members) if False:"),
    ("plan", "case Leaf(device=str(device)):\n                found", "case 0:\n                found"),
    ("plan", "if any((link.table, afi) not in ends", "if any(False"),
    ("plan", "case Leaf():\n            return LEAF", "case Leaf():\n            return GROUP + 1"),
    ("wanted", "self._dependents.setdefault(needed, {})[key] = None", "pass"),
    ("wanted", 'if key[0] == "bridge":', "if False:"),
    ("refused", "heappush(self._heap, (trial.due, next(self._order), row))", "pass"),
)
"""Module, what stands in it, and the fault that somebody could make of it."""


def mutant(name: str, right: str, wrong: str) -> type[Reconciler]:
    """Return the reconciler with the fault built in."""
    modules = {each: ModuleType(f"bgpvpn.{each}") for each in dict.fromkeys((name, "reconcile"))}
    for each, module in modules.items():
        source = Path(bgpvpn.__path__[0], f"{each}.py").read_text()
        if each == name:
            assert source.count(right) == 1, f"{each}.py has this line {source.count(right)} times: {right}"
            source = source.replace(right, wrong)
        exec(compile(source, f"{each}.py", "exec"), vars(module))
    reconcile = vars(modules["reconcile"])
    reconcile.update((key, value) for key, value in vars(modules[name]).items() if key in reconcile)
    found: type[Reconciler] = reconcile["Reconciler"]
    return found


@pytest.mark.parametrize(("name", "right", "wrong"), MUTANTS)
def test_a_fault_that_is_built_in_is_found(name: str, right: str, wrong: str) -> None:
    reconciler = mutant(name, right, wrong)

    def survives(seed: int) -> bool:
        random = Random(seed)
        length = random.randrange(3, 60)
        history = [(random.choice(HAPPENINGS), random.randrange(13), random.randrange(8)) for _ in range(length)]
        try:
            check(history, reconciler)
        except Exception:
            return False
        return True

    assert not all(survives(seed) for seed in range(2000))
