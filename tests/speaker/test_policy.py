from __future__ import annotations

import gc
import ipaddress
import weakref
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from speaker import policy
from speaker.path import AS_SEQUENCE, AS_SET, Attributes
from speaker.policy import (
    ACCEPT,
    REJECT,
    REMEMBERED_AT_MOST,
    Among,
    AsPathMatch,
    Changes,
    Edit,
    Facts,
    Match,
    Policy,
    PrefixRange,
    Statement,
    compiled,
    explain,
    specialised,
)
from speaker.terms import accept, reject
from speaker.values import Family, Mac, RouteDistinguisher, RouteTarget, prefix_bytes
from speaker.wire.attribute import Interner, make
from speaker.wire.community import encapsulation


def facts_of(address: str, remote_as: int, local_as: int = 64512) -> Facts:
    return Facts(address=address, remote_as=remote_as, local_as=local_as)


FACTS = facts_of("192.0.2.9", 64500)
FAMILIES = (Family.IPV4, Family.IPV6, Family.VPNV4, Family.VPNV6, Family.EVPN, Family.RTC, Family.VPNV4_FLOWSPEC)
RD = RouteDistinguisher.parse("64512:1").wire
RTS = [RouteTarget.parse(text).wire for text in ("64512:1", "64512:2", "65000:1", "192.0.2.1:1", "4200000000:1")]
OTHER = encapsulation(8)
PREFIXES = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/23", "10.1.2.128/25", "10.1.2.130/32", "192.0.2.0/24"]
PREFIXES_6 = ["::/0", "2001:db8::/32", "2001:db8:0:8000::/49", "2001:db8::1/128"]
NETWORKS = [ipaddress.ip_network(text) for text in (*PREFIXES, *PREFIXES_6)]


def prefix_key(family: Family, text: str) -> bytes:
    return (RD if family.safi == 128 else b"") + prefix_bytes(text)


def evpn_prefix_key(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    return b"\x05" + RD + bytes(4) + bytes((network.prefixlen,)) + network.network_address.packed


def mac_key(address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed if address else b""
    return b"\x02" + RD + bytes(4) + b"\x30" + Mac.parse("fa:16:3e:00:00:01").wire + bytes((8 * len(packed),)) + packed


KEYS: dict[Family, list[bytes]] = {
    **{family: [prefix_key(family, text) for text in PREFIXES] for family in (Family.IPV4, Family.VPNV4)},
    **{family: [prefix_key(family, text) for text in PREFIXES_6] for family in (Family.IPV6, Family.VPNV6)},
    Family.EVPN: [
        *map(evpn_prefix_key, [*PREFIXES, *PREFIXES_6]),
        *map(mac_key, ["", "10.1.2.130", "2001:db8::1"]),
        b"\x03" + RD + bytes(4) + b"\x20" + bytes((192, 0, 2, 1)),
    ],
    Family.RTC: [b"\0"],
    Family.VPNV4_FLOWSPEC: [RD + b"\x01\x18\x0a\x01\x02"],
}


# A twin that is slow and obvious


def leads_to(family: Family, key: bytes) -> Any:
    """Return the network that a route leads to, or None."""
    if family in (Family.IPV4, Family.VPNV4, Family.IPV6, Family.VPNV6):
        part = key[8:] if family.safi == 128 else key
        return ipaddress.ip_network((part[:-1].ljust(4 if family.afi == 1 else 16, b"\0"), part[-1]))
    if family is Family.EVPN and key[0] == 5:
        return ipaddress.ip_network((key[14:], key[13]))
    if family is Family.EVPN and key[0] == 2 and key[20]:
        return ipaddress.ip_network(key[21:])
    return None


def in_one(network: Any, ranges: tuple[PrefixRange, ...]) -> bool:
    return network is not None and any(
        network.version == each.network.version
        and network.subnet_of(each.network)
        and each.least <= network.prefixlen <= each.most
        for each in ranges
    )


def has_one(communities: list[bytes], among: Among) -> bool:
    return any(
        each in among.exact or any(each[: len(start)] == start for start in among.leading) for each in communities
    )


def obvious(wanted: Policy, facts: Facts, family: Family, key: bytes, attributes: Attributes) -> dict[str, Any] | None:
    """Return what the route says in the end, None if it is rejected."""
    told: dict[str, Any] = {
        "next_hop": attributes.next_hop,
        "as_path": attributes.as_path,
        "med": attributes.med,
        "local_pref": attributes.local_pref,
        "communities": [each.to_bytes(4, "big") for each in attributes.communities],
        "targets": [each for each in attributes.ext_communities if each in RTS],
        "others": [each for each in attributes.ext_communities if each not in RTS],
        "large": [b"".join(number.to_bytes(4, "big") for number in each) for each in attributes.large_communities],
    }
    for statement in wanted.statements:
        if not holds(statement.match, facts, family, key, told):
            continue
        if statement.then == "reject":
            return None
        change(told, statement.changes, facts)
        if statement.then == "accept":
            return told
    return told if wanted.default == "accept" else None


def holds(match: Match, facts: Facts, family: Family, key: bytes, told: dict[str, Any]) -> bool:
    numbers = [number for _, part in told["as_path"] for number in part]
    length = sum(1 if kind == AS_SET else len(part) for kind, part in told["as_path"])
    last = told["as_path"][-1] if told["as_path"] else (AS_SEQUENCE, ())
    end = last[1] if last[0] == AS_SET else last[1][-1:]
    first = numbers[0] if numbers and told["as_path"][0][0] == AS_SEQUENCE else 0
    path = match.as_path or AsPathMatch()
    address = ipaddress.ip_address(facts.address)
    hop = ipaddress.ip_address(told["next_hop"])
    return all(
        (
            match.families is None or family in match.families,
            match.neighbours is None
            or any(facts.remote_as == each if isinstance(each, int) else address in each for each in match.neighbours),
            match.prefixes is None or in_one(leads_to(family, key), match.prefixes),
            match.route_types is None or (family is Family.EVPN and key[0] in match.route_types),
            match.communities is None or has_one(told["communities"], match.communities),
            match.ext_communities is None or has_one(told["targets"] + told["others"], match.ext_communities),
            match.large_communities is None or has_one(told["large"], match.large_communities),
            match.route_targets is None or has_one(told["targets"], match.route_targets),
            path.contains is None or set(numbers) & path.contains,
            path.originated_in is None or set(end) & path.originated_in,
            path.neighbour_as is None or first in path.neighbour_as,
            path.max_length is None or length <= path.max_length,
            match.next_hops is None or any(hop in each for each in match.next_hops),
        )
    )


def change(told: dict[str, Any], changes: Changes, facts: Facts) -> None:
    for name in ("local_pref", "med", "next_hop"):
        if getattr(changes, name) is not None:
            told[name] = getattr(changes, name)
    for name, edit in (
        ("communities", changes.communities),
        ("large", changes.large_communities),
        ("targets", changes.route_targets),
    ):
        if edit is not None:
            there = told[name] if edit.replace is None else edit.replace
            there = [dict(edit.rewrite).get(each, each) if edit.replace is None else each for each in there]
            there = [each for each in there if not has_one([each], edit.remove)]
            told[name] = []
            for each in [*there, *edit.add]:
                if each not in told[name]:
                    told[name].append(each)
    if changes.prepend is not None:
        asn = facts.local_as if changes.prepend[0] is None else changes.prepend[0]
        numbers = (asn,) * changes.prepend[1]
        if told["as_path"] and told["as_path"][0][0] == AS_SEQUENCE:
            told["as_path"] = ((AS_SEQUENCE, numbers + told["as_path"][0][1]), *told["as_path"][1:])
        else:
            told["as_path"] = ((AS_SEQUENCE, numbers), *told["as_path"])


# Anything that can be written, from a small world, so that conditions hold now and then


def some(values: list[Any], least: int = 1) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique=True)


def among(values: list[bytes], sizes: tuple[int, ...]) -> st.SearchStrategy[Among]:
    leading = st.builds(lambda each, size: each[:size], st.sampled_from(values), st.sampled_from(sizes))
    return st.builds(Among, some(values, 0).map(frozenset), st.lists(leading, max_size=2).map(tuple))


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), st.none(), values)


@st.composite
def ranges(draw: Any) -> PrefixRange:
    network = draw(st.sampled_from(NETWORKS))
    least = draw(st.integers(network.prefixlen, network.max_prefixlen))
    return PrefixRange(network, least, draw(st.sampled_from([least, network.max_prefixlen])))


COMMUNITIES = [bytes((0xFC, 0, 0, number)) for number in range(3)] + [b"\xff\xff\xff\x01"]
LARGE = [bytes(4) + bytes((0, 0, 0, a, 0, 0, 0, b)) for a in range(2) for b in range(2)]
AS_NUMBERS = st.sampled_from([64500, 64501, 64512]).map(lambda number: frozenset({number}))

MATCHES = st.builds(
    Match,
    families=maybe(some(list(FAMILIES)).map(frozenset)),
    neighbours=maybe(some([64500, 64501, ipaddress.ip_network("192.0.2.0/24"), NETWORKS[-1]]).map(tuple)),
    prefixes=st.one_of(st.none(), st.lists(ranges(), min_size=1, max_size=4).map(tuple)),
    route_types=maybe(some([2, 3, 5]).map(frozenset)),
    communities=maybe(among(COMMUNITIES, (2,))),
    ext_communities=maybe(among([*RTS, OTHER], (4, 6))),
    large_communities=maybe(among(LARGE, (4, 8))),
    route_targets=maybe(among(RTS, (4, 6))),
    as_path=maybe(
        st.builds(
            AsPathMatch,
            contains=maybe(AS_NUMBERS),
            originated_in=maybe(AS_NUMBERS),
            neighbour_as=maybe(AS_NUMBERS),
            max_length=maybe(st.integers(0, 3)),
        )
    ),
    next_hops=maybe(some(NETWORKS).map(tuple)),
)


def edits(values: list[bytes], rewrite: bool = False) -> st.SearchStrategy[Edit]:
    pairs = st.lists(st.tuples(st.sampled_from(values), st.sampled_from(values)), max_size=2, unique_by=lambda p: p[0])
    return st.builds(
        Edit,
        rewrite=pairs.map(tuple) if rewrite else st.just(()),
        replace=maybe(some(values, 0).map(tuple)),
        remove=among(values, (2, 4)),
        add=some(values, 0).map(tuple),
    )


POLICIES = st.builds(
    Policy,
    name=st.just("any"),
    default=st.sampled_from(["accept", "reject"]),
    statements=st.lists(
        st.builds(
            Statement,
            name=st.just("some"),
            match=MATCHES,
            changes=st.builds(
                Changes,
                local_pref=maybe(st.sampled_from([100, 200])),
                med=maybe(st.just(5)),
                next_hop=maybe(st.just(bytes((10, 1, 2, 130)))),
                communities=maybe(edits(COMMUNITIES)),
                large_communities=maybe(edits(LARGE)),
                route_targets=maybe(edits(RTS, rewrite=True)),
                prepend=maybe(st.tuples(st.sampled_from([None, 64501]), st.integers(1, 3))),
            ),
            then=st.sampled_from(["accept", "reject", "next", "next"]),
        ),
        max_size=5,
    ).map(tuple),
)

ROUTES = st.tuples(
    st.sampled_from([bytes((192, 0, 2, 1)), bytes((10, 1, 2, 3))]),
    st.lists(
        st.tuples(st.sampled_from([AS_SEQUENCE, AS_SEQUENCE, AS_SET]), some([64500, 64501, 64512, 64999]).map(tuple)),
        max_size=2,
    ).map(tuple),
    some([0xFC000000, 0xFC000001, 0xFFFFFF01], 0).map(tuple),
    some([*RTS, OTHER], 0).map(tuple),
    some([(0, 0, 0), (0, 1, 0), (0, 1, 1)], 0).map(tuple),
)


def attributes_of(route: tuple[Any, ...], interner: Interner) -> Attributes:
    next_hop, as_path, communities, ext_communities, large = route
    return make(
        interner,
        next_hop=next_hop,
        as_path=as_path,
        communities=communities,
        ext_communities=ext_communities,
        large_communities=large,
    )


@settings(max_examples=400, deadline=None)
@given(POLICIES, st.lists(ROUTES, min_size=1, max_size=4), st.sampled_from([FACTS, facts_of("10.1.2.3", 64501)]))
def test_a_compiled_policy_decides_as_its_obvious_twin(
    wanted: Policy, routes: list[tuple[Any, ...]], facts: Facts
) -> None:
    interner = Interner()
    decide = compiled(dict.fromkeys(FAMILIES, specialised(wanted, facts)), interner)
    for family in FAMILIES:
        for key in KEYS[family]:
            for path in (attributes_of(route, interner).path(b"\0\0\1") for route in routes):
                found = decide(family, key, path)
                expected = obvious(wanted, facts, family, key, path.attributes)
                told = explain(wanted, facts, family, key, path, interner)
                assert found is decide(family, key, path)
                assert found is told.path
                assert (found is None) == (expected is None)
                if found is None or expected is None:
                    continue
                attributes = found.attributes
                assert found.extra == path.extra
                assert obvious(ACCEPT, facts, family, key, attributes) == expected
                assert attributes.route_targets == {each for each in attributes.ext_communities if each in RTS}


# Single facts


def test_a_route_that_is_not_changed_is_the_same_object() -> None:
    interner = Interner()
    path = make(interner, next_hop=bytes(4), med=5, ext_communities=(OTHER, RTS[0]), communities=(1,)).path(b"")
    for changes in (
        Changes(),
        Changes(med=5),
        Changes(communities=Edit(add=((1).to_bytes(4, "big"),))),
        Changes(route_targets=Edit(remove=Among(frozenset(RTS[1:])), rewrite=((RTS[1], RTS[2]),))),
    ):
        wanted = Policy(name="p", statements=(Statement(name="s", changes=changes, then="accept"),))
        assert compiled({Family.IPV4: wanted}, interner)(Family.IPV4, b"\0", path) is path, changes


def test_equal_results_are_one_object_also_of_different_policies() -> None:
    interner = Interner()
    paths = [make(interner, next_hop=bytes(4), med=med).path(b"\0\0\1") for med in (1, 2)]
    results = set()
    for name in ("a", "b"):
        statement = Statement(name=name, changes=Changes(med=7), then="accept")
        decide = compiled({Family.IPV4: Policy(name=name, statements=(statement,))}, interner)
        results |= {decide(Family.IPV4, b"\0", path) for path in paths}
    assert len(results) == 1


def test_what_decides_nothing_is_not_asked() -> None:
    everything = tuple(
        PrefixRange(ipaddress.ip_network(text), 0, bits) for text, bits in (("0.0.0.0/0", 32), ("::/0", 128))
    )
    assert compiled({Family.IPV4: ACCEPT, Family.EVPN: ACCEPT}, Interner()) is accept
    assert compiled({Family.IPV4: REJECT, Family.EVPN: REJECT}, Interner()) is reject
    assert compiled({}, Interner()) is reject
    wanted = Policy(name="p", statements=(Statement(name="s", match=Match(prefixes=everything), then="accept"),))
    decide = compiled({Family.VPNV4: wanted}, Interner())
    path = make(Interner(), next_hop=bytes(4)).path(b"")
    assert decide(Family.VPNV4, b"no key at all", path) is path, "the key is not looked at"
    assert decide(Family.VPNV6, b"", path) is None, "a family without a policy"


def test_neighbours_that_a_policy_treats_the_same_share_it() -> None:
    wanted = Policy(
        name="p",
        statements=(
            Statement(name="theirs", match=Match(neighbours=(64500,)), then="accept"),
            Statement(name="longer", changes=Changes(prepend=(None, 2)), then="next"),
        ),
    )
    one, same = (specialised(wanted, facts_of(address, 64500)) for address in ("192.0.2.1", "192.0.2.2"))
    assert one == same
    assert one != specialised(wanted, facts_of("192.0.2.1", 64501)), "of another AS"
    assert one != specialised(wanted, facts_of("192.0.2.1", 64500, 64513)), "with another AS of ours"
    assert specialised(ACCEPT, FACTS) is ACCEPT


def test_what_is_remembered_is_bounded() -> None:
    ten = (PrefixRange(ipaddress.ip_network("10.0.0.0/8"), 8, 32),)
    wanted = Policy(
        name="p", statements=(Statement(name="s", match=Match(prefixes=ten), changes=Changes(med=7), then="accept"),)
    )
    decide = compiled({Family.IPV4: wanted}, Interner())
    key = prefix_bytes("10.1.0.0/16")
    alive: weakref.WeakSet[Attributes] = weakref.WeakSet()
    results = set()
    for number in range(2 * REMEMBERED_AT_MOST):
        attributes = Attributes(next_hop=bytes(4), med=1000 + number)
        alive.add(attributes)
        results.add(decide(Family.IPV4, key, attributes.path(b"")))
    del attributes
    gc.collect()
    assert len(results) == 1
    assert len(alive) <= REMEMBERED_AT_MOST


def test_an_explanation_names_the_first_condition_that_does_not_hold() -> None:
    interner = Interner()
    ten = (PrefixRange(ipaddress.ip_network("10.0.0.0/8"), 8, 24),)
    far = (ipaddress.ip_network("198.51.100.0/24"),)
    path = make(interner, next_hop=bytes((192, 0, 2, 1)), communities=(5,)).path(b"")
    for match, family, lacking in (
        (Match(families=frozenset({Family.EVPN}), neighbours=(1,)), Family.IPV4, "neighbours"),
        (Match(families=frozenset({Family.EVPN}), prefixes=ten), Family.IPV4, "families"),
        (Match(prefixes=ten, communities=Among()), Family.IPV4, "prefixes"),
        (Match(prefixes=ten), Family.IPV6, "prefixes"),
        (Match(prefixes=ten, route_types=frozenset({5})), Family.IPV4, "route_types"),
        (Match(communities=Among(frozenset({bytes(4)}))), Family.IPV4, "communities"),
        (Match(next_hops=far), Family.IPV4, "next_hop"),
        (Match(as_path=AsPathMatch(contains=frozenset({1}))), Family.IPV4, "as_path"),
        (Match(communities=Among(leading=(bytes(2),))), Family.IPV4, ""),
    ):
        wanted = Policy(name="p", statements=(Statement(name="s", match=match, then="accept"),))
        key = prefix_bytes("192.0.2.0/24" if family is Family.IPV4 else "2001:db8::/32")
        told = explain(wanted, FACTS, family, key, path, interner)
        assert [seen.lacking for seen in told.seen] == [lacking], match
        assert (told.decided_by, told.path) == (("", None) if lacking else ("s", path))


def test_an_AS_in_front_begins_a_new_segment_where_the_first_is_full_or_a_set() -> None:
    full = ((AS_SEQUENCE, (1,) * 254),)
    for path, expected in (
        ((), ((AS_SEQUENCE, (7, 7)),)),
        (((AS_SET, (1, 2)),), ((AS_SEQUENCE, (7, 7)), (AS_SET, (1, 2)))),
        (((AS_SEQUENCE, (1,)),), ((AS_SEQUENCE, (7, 7, 1)),)),
        (full, ((AS_SEQUENCE, (7, 7)), *full)),
    ):
        assert policy.prepended(path, 7, 2) == expected
