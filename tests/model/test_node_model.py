"""Any history of wishes, routes and statuses, looked at at any point, ends where its last state alone leads.

The model of a node is a second node that is given the end of the history only. The domain is small, so that things
meet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from bgpvpn.announcing import Announcing
from bgpvpn.desired import Labelled, ObjectKey, Via
from bgpvpn.evpn import Evi
from bgpvpn.instance import Importing, Instance, Vias
from bgpvpn.instances import Shares
from bgpvpn.intent import KINDS, ConflictError, IntentError, Object, Removal
from bgpvpn.ipvpn import Ipvpn
from bgpvpn.leak import Into, Leak
from bgpvpn.node import TUNNEL_SWEEP_S
from bgpvpn.segment import Segments
from speaker.decision import LOCAL
from speaker.path import Path
from speaker.rib import Interest
from speaker.values import Family
from speaker.wire.community import mac_mobility
from tests.fakes.middle import (
    Middle,
    bind,
    bind_leak,
    bind_port,
    bind_router,
    flood_route,
    mac_route,
    network,
    port,
    retold,
    router,
    vpn,
)

TARGETS = (("1:1",), ("1:2",), ("1:1", "1:2"))
PREFIXES = ("10.1.0.5/32", "172.16.0.0/16")
MACS = ("02:00:00:00:70:31", "02:00:00:00:00:99")  # the first is p1's
HEARD = (("peer-1", "9:1"), ("peer-1", "9:2"), ("peer-2", "9:1"))
DOWN: tuple[ObjectKey, ...] = (
    ("attachment", "p1"), ("attachment", "p2"), ("attachment", "/tap-p1"), ("vrf", "n1"), ("vrf", "router/r"),
)  # fmt: skip
STATION = {"interface": "tap-p1"}
"""That of p1."""

BASE: tuple[Object, ...] = (
    *network("n1"),
    *network("n2", "10.1.0.0/16", None),
    *network("n3", "10.3.0.0/24", "10.3.0.1"),
    port("p1", "n1", "10.1.0.5"),
    port("p2", "n1", "10.1.0.6"),
    port("p3", "n2", "10.1.0.5"),
    port("p6", "n2", "10.1.0.6"),
    port("p4", None, "10.1.0.9/24", gateway_ips=("10.1.0.1",)),
    port("p7", "n3", "10.3.0.5"),
    vpn("a", "1:1"),
    vpn("b", "1:2"),
    vpn("e", "1:1", type="l2"),
)

one = st.sampled_from
targets = one(TARGETS)
more = one(((), (), ("1:1",), ("1:2",)))
vpns = st.builds(
    lambda id_, both, imported, exported, distinguished, preference, up: vpn(
        id_,
        *both,
        import_targets=imported,
        export_targets=exported,
        route_distinguishers=("7:7",) if distinguished else (),
        local_pref=preference,
        admin_state_up=up,
    ),
    one("ab"), one((*TARGETS, ())), more, more, st.booleans(), one((None, 7)), one((True, True, False)),
)  # fmt: skip
l2_vpns = st.builds(lambda both, vni: vpn("e", *both, type="l2", vni=vni), one((*TARGETS, ())), one((None, 55)))
ports = st.one_of(
    st.builds(
        lambda address, mac, up: port("p1", "n1", address, mac_address=mac, admin_state_up=up),
        one(("10.1.0.5", "10.1.0.7")), one(("02:00:00:00:70:31", "02:00:00:00:00:77")), one((True, True, False)),
    ),
    st.builds(lambda id_: port(id_, "n1", "10.1.0.6"), one(("p2", "p5"))),
    st.builds(lambda up: port("p3", "n2", "10.1.0.5", admin_state_up=up), st.booleans()),
    st.just(port("p8", "n1", "10.1.0.8", **STATION)),
)  # fmt: skip
routers = st.builds(
    lambda on, hop, up: router("r", *on, routes={PREFIXES[1]: hop} if hop else {}, admin_state_up=up),
    one((("n1", "n3"), ("n3",), ("n1",))), one(("", "10.1.0.6", "10.3.0.5")), one((True, True, True, False)),
)  # fmt: skip
leaks = st.builds(
    lambda id_, of, direction: bind_leak(id_, of, "b" if id_ == "a" else "a", direction=direction),
    one("ab"), one(("p1", "p2", "p4")), one(("both", "to-port")),
)  # fmt: skip
associations = st.one_of(
    st.builds(bind, one("abe"), one(("n1", "n2"))),
    st.builds(
        lambda id_, of, prefix, fixed: bind_port(id_, of, *prefix, advertise_fixed_ips=fixed),
        one("aabe"), one(("p1", "p1", "p3", "p4", "p8")), one(((), ("172.16.0.0/16",))), st.booleans(),
    ),
    st.builds(
        lambda id_, of, direction, preference: attrs.evolve(
            bind_port(id_, of, direction=direction),
            routes=[{"type": "prefix", "prefix": PREFIXES[1], "local_pref": preference}],
        ),
        one("ab"), one(("p1", "p2", "p7")), one(("both", "to-port", "from-port")), one((None, 200)),
    ),
    st.builds(lambda id_, extra: bind_router(id_, "r", advertise_extra_routes=extra), one("ab"), st.booleans()),
    leaks,
)  # fmt: skip
removals = st.one_of(
    st.builds(lambda each: Removal("association", each.id), associations),
    st.builds(Removal, st.just("bgpvpn"), one("abe")),
    st.builds(Removal, st.just("port"), one(("p1", "p2", "p3", "p6", "p8"))),
    st.just(Removal("router", "r")),
)
Operation = Callable[[Middle], None]


def wish(thing: Object | Removal) -> Operation:
    """Do what a user wishes, where that is possible."""

    def do(middle: Middle) -> None:
        with contextlib.suppress(IntentError):
            middle.want(thing)

    return do


def hear(
    heard: tuple[str, str], prefix: str, towards: tuple[str, ...], pe: int, label: int, preference: int
) -> Operation:
    more = {"pe": f"192.0.2.{pe}", "label": label, "local_pref": preference}
    return lambda middle: middle.hear(prefix, *towards, source=heard[0], rd=heard[1], **more)


def lose(heard: tuple[str, str], prefix: str) -> Operation:
    return lambda middle: middle.lose(prefix, source=heard[0], rd=heard[1])


def hear_mac(
    heard: tuple[str, str], mac: str, towards: tuple[str, ...], address: str, pe: int, number: int
) -> Operation:
    more = {"address": address, "vtep": f"192.0.2.{pe}", "further": [mac_mobility(number)] if number else []}
    return lambda middle: middle.hear_mac(mac, *towards, source=heard[0], rd=heard[1], **more)


def lose_mac(heard: tuple[str, str], mac: str, address: str) -> Operation:
    return lambda middle: middle.evpn(heard[0]).discard_all([mac_route(heard[1], mac, address)])


def hear_flood(heard: tuple[str, str], towards: tuple[str, ...], pe: int, tunnel: int) -> Operation:
    more = {"source": heard[0], "rd": heard[1], "tunnel": f"192.0.2.{tunnel}"}
    return lambda middle: middle.hear_flood(f"192.0.2.{pe}", *towards, **more)


def lose_flood(heard: tuple[str, str], pe: int) -> Operation:
    return lambda middle: middle.evpn(heard[0]).discard_all([flood_route(heard[1], f"192.0.2.{pe}")])


def lose_all(family: Family) -> Operation:
    def do(middle: Middle) -> None:
        table = middle.node.rib.table(family, "peer-1")
        table.discard_all(list(table))

    return do


def turn(key: ObjectKey) -> Operation:
    return lambda middle: middle.down.symmetric_difference_update({key})


def nothing(middle: Middle) -> None:
    pass


def settle(middle: Middle) -> None:
    middle.settle(1)


def sweep(middle: Middle) -> None:
    middle.now += TUNNEL_SWEEP_S
    middle.settle()


def step(most: int) -> Operation:
    return lambda middle: middle.node.step(middle.now, middle.wall, most) and None


looks = one([nothing, nothing, step(1), step(1), settle, settle, sweep])
"""What the node does between two operations: nothing, little, or all."""

layer3 = st.one_of(
    st.builds(wish, vpns),
    st.builds(hear, one(HEARD), one(PREFIXES), targets, one((1, 2)), one((100, 100, 3)), one((100, 50))),
    st.builds(lose, one(HEARD), one(PREFIXES)),
    st.just(lose_all(Family.VPNV4)),
    st.builds(turn, one(DOWN)),
)
layer2 = st.one_of(
    st.builds(wish, st.one_of(l2_vpns, st.just(Removal("association", "e-n1")), st.just(bind("e", "n1")))),
    st.builds(hear_mac, one(HEARD), one(MACS), targets, one(("", "10.1.0.99")), one((1, 2)), one((0, 2))),
    st.builds(lose_mac, one(HEARD), one(MACS), one(("", "10.1.0.99"))),
    st.builds(hear_flood, one(HEARD), targets, one((1, 2)), one((1, 2))),
    st.builds(lose_flood, one(HEARD), one((1, 2))),
    st.just(lose_all(Family.EVPN)),
    st.builds(turn, one(DOWN)),
)
wishes = st.builds(
    wish, st.one_of(vpns, l2_vpns, ports, ports, routers, associations, associations, associations, removals)
)
leaking = st.one_of(
    st.builds(wish, st.one_of(leaks, leaks, vpns, st.builds(lambda each: Removal("association", each.id), leaks))),
    layer3,
)
themes = st.sampled_from([layer3, layer2, leaking, wishes, st.one_of(wishes, layer3, layer2)])
bindings = one(
    [
        *(wish(bind(*each)) for each in (("a", "n1"), ("a", "n2"), ("e", "n1"), ("b", "n1"))),
        wish(router("r", "n1", "n3")),
        wish(bind_router("a", "r")),
        wish(bind_leak("a", "p1", "b", direction="to-port")),
    ]
)
starts = st.lists(bindings, min_size=2, max_size=5).map(lambda things: [*things, settle])
endings = themes.flatmap(lambda theme: st.lists(st.tuples(theme, looks), min_size=3, max_size=20))
histories = st.builds(lambda start, pairs: start + [each for pair in pairs for each in pair], starts, endings)


def plain(path: Path) -> tuple[Any, ...]:
    """Return what a path says, comparable between nodes."""
    told = path.attributes
    return told.next_hop, told.local_pref, sorted(told.ext_communities), told.pmsi, path.extra


def end_of(middle: Middle) -> dict[str, Any]:
    """Return all that a node wants, says and holds."""
    desired, node = middle.desired, middle.node
    return {
        "objects": desired.objects.rows,
        "routes": {at: table.rows for at, table in desired.routes.items() if len(table)},
        "macs": desired.macs.rows,
        "floods": desired.floods.rows,
        "neighbours": desired.neighbours.rows,
        "originated": {at: (plain(each.path), each.needs) for at, each in node.originated.rows.items()},
        "told": {
            (family, key): plain(path)
            for (family, source), table in node.rib.tables.items()
            if source == LOCAL
            for key, path in table.rows.items()
        },
        "targets": node.interest.targets.rows,
        "leases": middle.held(),
        "keys": {
            (name, prefix): keys if isinstance(keys, tuple) else (keys,)
            for name, vrf in node.instances.vrfs.items()
            for held in vrf.keys.values()
            for prefix, keys in held.items()
        },
    }


def model_of(first: Middle) -> Middle:
    """Return a new node that is given the wishes, routes, statuses, leases and MAC numbers of another, all at once."""
    second = Middle(leases=first.kept())
    second.now, second.wall, second.down = first.now, first.wall, set(first.down)
    for kind in KINDS[: KINDS.index("association") + 1]:
        for thing in first.intent.tables[kind].rows.values():
            try:
                second.want(thing)
            except ConflictError:  # a removal can leave one VNI in two segments, and the first to have it keeps it
                reject()
    for key, status in first.status.rows.items():
        second.status.put(key, status)
    for (family, source), table in first.node.rib.tables.items():
        if source != LOCAL:
            routes = {key: retold(path, second) for key, path in table.rows.items()}
            second.node.rib.table(family, source).sync(routes)
    second.node.segments.step()
    second.node.instances.step(second.wall)
    for name, evi in second.node.instances.evis.items():
        evi.sequence.update(first.node.instances.evis[name].sequence)
    second.settle()
    return second


def check(history: list[Operation]) -> None:
    """Play a history, and compare its end."""
    first = Middle()
    first.want(*BASE)
    for operation in history:
        operation(first)
    first.settle(3)
    second = model_of(first)
    for middle in (first, second):
        sweep(middle)
    ends = end_of(first), end_of(second)
    for part in ends[0]:
        assert ends[0][part] == ends[1][part], part


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_every_history_ends_where_its_last_state_alone_leads(history: list[Operation]):
    check(history)


# Mutants: each is a mistake that somebody could make, and that the test above must see


def forget_other_keys(self: Ipvpn, family: Family, key: bytes, path: Path | None) -> None:
    self.dirty[family][key[8:]] = None
    if path is not None:
        self.keys[family].setdefault(key[8:], key)


def hear_no_withdrawals(original: Any) -> Any:
    def touch(self: Instance, family: Family, key: bytes, path: Path | None) -> None:
        if path is not None:
            original(self, family, key, path)

    return touch


def forget_the_rest(original: Any) -> Any:
    def step(self: Ipvpn, most: int) -> int:
        done: int = original(self, most)
        for dirty in self.dirty.values():
            dirty.clear()
        return done

    return step


def keep_rows_of_what_is_gone(original: Any) -> Any:
    return lambda self, unit, rows, **more: original(self, unit, rows, **more) if rows else None


def take_rows_from_others(original: Any) -> Any:
    seen: WeakKeyDictionary[Any, dict[Any, dict[Any, Any]]] = WeakKeyDictionary()

    def set_(self: Shares[Any, Any], unit: Any, rows: dict[Any, Any], **more: Any) -> None:
        of_unit = seen.setdefault(self, {})
        original(self, unit, rows, **more)
        self.table.discard_all(of_unit.get(unit, {}).keys() - rows.keys())
        of_unit[unit] = rows

    return set_


def announce_for_ever(original: Any) -> Any:
    once: WeakKeyDictionary[Announcing, set[Any]] = WeakKeyDictionary()

    def waits_for(self: Announcing, route: Any) -> list[ObjectKey]:
        waits: list[ObjectKey] = original(self, route)
        announced = once.setdefault(self, set())
        if not waits:
            announced.add(route)
        return [] if route in announced else waits

    return waits_for


def forget_no_pe(self: Vias, vias: Iterable[Via], paths: Container[Path]) -> set[bytes]:
    return {hop.pe for via in vias for tier in via.tiers for hop in tier if isinstance(hop, Labelled)}


def tell_no_owner(original: Any) -> Any:
    return lambda self, rib, interest, owner: original(self, rib, interest, lambda family, path: None)


def import_for_ever(original: Any) -> Any:
    return lambda self, importer, targets: original(self, importer, targets) if targets else False


def announce_into_other_places_without_a_look(self: Leak, into: Into) -> None:
    self.into = into


def announce_with_other_targets_without_a_look(self: Evi, exports: frozenset[bytes]) -> None:
    self.exports = exports


def forget_routers(original: Any) -> Any:
    return lambda self, each: original(self, each) if each.router_id is None else []


MUTANTS: dict[str, tuple[type, str, Callable[[Any], Any]]] = {
    "a prefix has only its first route distinguisher": (Ipvpn, "touch", lambda original: forget_other_keys),
    "a VRF hears no withdrawals": (Ipvpn, "touch", hear_no_withdrawals),
    "an EVI hears no withdrawals": (Evi, "touch", hear_no_withdrawals),
    "routes to endpoints stay when these are gone": (
        Ipvpn, "set_static", lambda original: lambda self, *at: original(self, *at) if at[-1] is not None else None,
    ),
    "what is above the share of a step is forgotten": (Ipvpn, "step", forget_the_rest),
    "removed import targets leave routes in a VRF": (Ipvpn, "touch_all", lambda original: lambda self: None),
    "an EVI does not look again at its own when it is announced with other targets": (
        Evi, "announce_with", lambda original: announce_with_other_targets_without_a_look,
    ),
    "an instance bound late gets nothing": (Importing, "rebuild", lambda original: lambda self, instances: None),
    "own routes reach only those that import them": (Importing, "__init__", tell_no_owner),
    "a segment that goes leaves its rows": (Shares, "set", keep_rows_of_what_is_gone),
    "a segment takes rows that another has now": (Shares, "set", take_rows_from_others),
    "an instance that goes imports for ever": (Interest, "set", import_for_ever),
    "an EVI that goes leaves its rows": (Evi, "close", lambda original: lambda self: None),
    "what was announced once is announced for ever": (Announcing, "waits_for", announce_for_ever),
    "a swept PE is not new when it comes back": (Vias, "keep", lambda original: forget_no_pe),
    "a port association is its port's matter alone": (
        Segments, "owners", lambda original: lambda self, each: [each.bound[1]],
    ),
    "a router association is nobody's matter": (Segments, "owners", forget_routers),
    "a leak hears no withdrawals": (Leak, "touch", hear_no_withdrawals),
    "a leak that goes leaves its routes": (Leak, "close", lambda original: lambda self: None),
    "a leak does not look again when the VPN it is into changes": (
        Leak, "announce_into", lambda original: announce_into_other_places_without_a_look,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_seen(mutant: str, monkeypatch: pytest.MonkeyPatch):
    owner, name, mutate = MUTANTS[mutant]
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))

    @settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    @given(histories)
    def play(history: list[Operation]) -> None:
        check(history)

    with pytest.raises((AssertionError, KeyError)):
        play()
