"""What a route reflector tells, to whom, in which words and at what cost: facts one by one (RFC 4456 and others)."""

from __future__ import annotations

import attrs
import pytest

from speaker.decision import LOCAL
from speaker.member import Turns
from speaker.path import Attributes, Path
from speaker.session import Negotiated
from speaker.terms import Terms, reject
from speaker.update_group import LOG_OCTETS
from speaker.values import Family
from speaker.wire.message import KEEPALIVE
from tests.speaker.reflector import (
    BUDGET,
    IPV4,
    LLGR_STALE,
    LONG_LIVED,
    NO_ADVERTISE,
    NO_EXPORT,
    OF_SPEAKERS,
    OWN_ID,
    RTC,
    SEQUENCE,
    SPEAKERS,
    V6,
    VPNV4,
    World,
    agreed,
    with_,
    without_sevens,
)
from tests.speaker.routes import block, member_key, vpn_key

A, B, C = (vpn_key(f"10.0.{n}.0/24") for n in range(3))
CLIENT = Terms(client=True)


def world(**peers: Negotiated | tuple[Negotiated, Terms]) -> World:
    """A released node with these peers; one with a "c" in front of its name is a client by default."""
    made = World(strict=False)
    made.engine.release()
    made.engine.select()
    for name, given in peers.items():
        negotiated, terms = given if isinstance(given, tuple) else (given, Terms(client=name.startswith("c")))
        made.engine.add(name)
        made.engine.change(name, terms, 0.0)
        made.up(name, negotiated)
    return made


def keys(made: World, name: str, family: Family = VPNV4) -> set[bytes]:
    """What a peer holds when all is said."""
    made.settle()
    return {key for its_family, key in made.heard(name) if its_family is family}


def attributes(made: World, name: str, key: bytes = A, family: Family = VPNV4) -> Attributes:
    made.settle()
    return made.listeners[name].held[(family, key)].attributes


def test_who_hears_what_by_RFC_4456_section_6() -> None:
    peers = {
        "c1": agreed(1, VPNV4),
        "c2": agreed(2, VPNV4),
        "n1": agreed(3, VPNV4),
        "n2": agreed(4, VPNV4),
        "x1": agreed(5, VPNV4, ibgp=False),
        "x2": agreed(6, VPNV4, ibgp=False),
    }
    for source, expected in [
        (LOCAL, {"c1", "c2", "n1", "n2", "x1", "x2"}),
        ("c1", {"c2", "n1", "n2", "x1", "x2"}),
        ("n1", {"c1", "c2", "x1", "x2"}),
        ("x1", {"c1", "c2", "n1", "n2", "x2"}),
        ("c1#1", {"c2", "n1", "n2", "x1", "x2"}),  # a further path of that peer (RFC 7911)
    ]:
        made = world(**peers)
        made.put(VPNV4, source, A, block(1))
        assert {name for name in peers if keys(made, name)} == expected, source


def test_without_a_client_nothing_is_passed_on_and_received_routes_are_not_even_read() -> None:
    made = world(n1=agreed(1, VPNV4), n2=agreed(2, VPNV4), x1=agreed(3, VPNV4, ibgp=False))
    made.put(VPNV4, "x1", A, block(1))
    made.put(VPNV4, LOCAL, B, block(1))
    assert [keys(made, name) for name in ("n1", "n2", "x1")] == [{B}, {B}, {B}]
    assert made.rib.table(VPNV4, "x1").readers == []
    out = made.engine.neighbours["n1"].adj_rib_out
    assert out.reason_untold(VPNV4, A) == "it is not our own, and the node is no route reflector"


def test_reflected_attributes() -> None:  # RFC 4456 section 8
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4), n1=agreed(3, VPNV4), x1=agreed(4, VPNV4, ibgp=False))
    rich = with_(
        block(1, local_pref=33, as_path=((SEQUENCE, (65001,)),)),
        med=5,
        communities=(7,),
        large_communities=((1, 2, 3),),
        aggregator=(65001, b"\1\2\3\4"),
        atomic_aggregate=True,
        unknown=((0xC0, 99, b"unknown"),),
    )
    made.put(VPNV4, "c1", A, rich)
    made.put(VPNV4, "c1", B, with_(rich, originator_id=b"\7\7\7\7", cluster_list=(b"\6\6\6\6",)))
    made.put(VPNV4, "x1", C, rich)
    own_cluster = b"\x09\x09\x09\x09"
    for name in ("c2", "n1"):
        for key, originator_id, cluster_list in [
            (A, bytes((10, 0, 0, 1)), (own_cluster,)),
            (B, b"\7\7\7\7", (own_cluster, b"\6\6\6\6")),
            (C, None, ()),
        ]:
            told = attributes(made, name, key)
            assert (told.originator_id, told.cluster_list) == (originator_id, cluster_list), (name, key)
            assert (told.local_pref, told.med, told.next_hop, told.as_path) == (33, 5, rich.next_hop, rich.as_path)
            assert (told.communities, told.ext_communities) == (rich.communities, rich.ext_communities)
            assert (told.large_communities, told.aggregator, told.atomic_aggregate) == (
                rich.large_communities,
                rich.aggregator,
                True,
            )
            assert told.unknown == ((0xE0, 99, b"unknown"),), "partial: somebody on the way did not know it"
    assert made.listeners["c2"].held[(VPNV4, A)].extra.hex() == "000641", "the label is not ours to change"
    told = attributes(made, "x1")
    assert told.as_path == ((SEQUENCE, (64512, 65001)),)
    assert (told.local_pref, told.med, told.originator_id, told.cluster_list) == (None, None, None, ())
    assert told.next_hop == rich.next_hop


def test_without_a_cluster_id_the_router_id_is_in_the_CLUSTER_LIST() -> None:  # RFC 4456 section 7
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4))
    made.engine.own.cluster_id = b""
    made.put(VPNV4, "c1", A, block(1))
    assert attributes(made, "c2").cluster_list == (OWN_ID,)


def test_the_AS_PATH_to_another_AS() -> None:  # RFC 4271 section 5.1.2, RFC 5065 section 4.1
    full = tuple(range(1, 256))
    for as_path, expected in [
        ((), ((SEQUENCE, (64512,)),)),
        (((SEQUENCE, (1, 2)),), ((SEQUENCE, (64512, 1, 2)),)),
        (((1, (1, 2)),), ((SEQUENCE, (64512,)), (1, (1, 2)))),
        (((SEQUENCE, full),), ((SEQUENCE, (64512,)), (SEQUENCE, full))),
        (((3, (65101,)), (SEQUENCE, (1,))), ((SEQUENCE, (64512, 1)),)),
        (((4, (65101, 65102)),), ((SEQUENCE, (64512,)),)),
    ]:
        made = world(c1=agreed(1, VPNV4), x1=agreed(2, VPNV4, ibgp=False))
        made.put(VPNV4, "c1", A, block(1, as_path=as_path))
        assert attributes(made, "x1").as_path == expected, as_path


def test_a_non_client_hears_the_best_of_what_is_for_it_even_if_another_path_is_better() -> None:
    made = world(c1=agreed(1, VPNV4), n1=agreed(2, VPNV4), n2=agreed(3, VPNV4))
    made.put(VPNV4, "n1", A, block(1, local_pref=300))
    made.put(VPNV4, "c1", A, block(1, local_pref=200))
    assert attributes(made, "n2").local_pref == 200
    assert attributes(made, "c1").local_pref == 300


def test_when_the_best_path_moves_to_a_peer_it_loses_the_other_and_the_rest_hears_one_message() -> None:
    made = world(**{f"c{n}": agreed(n, VPNV4) for n in range(1, 5)})
    made.put(VPNV4, "c1", A, block(1, local_pref=100))
    assert [keys(made, f"c{n}") for n in range(1, 5)] == [set(), {A}, {A}, {A}]
    before = {name: listener.messages for name, listener in made.listeners.items()}
    made.put(VPNV4, "c2", A, block(1, local_pref=200))
    assert [keys(made, f"c{n}") for n in range(1, 5)] == [{A}, set(), {A}, {A}]
    assert [listener.messages - before[name] for name, listener in made.listeners.items()] == [1, 1, 1, 1]
    assert attributes(made, "c3").local_pref == 200
    made.rib.table(VPNV4, "c2").discard(A)
    assert [keys(made, f"c{n}") for n in range(1, 5)] == [set(), {A}, {A}, {A}]
    assert [listener.idle_withdrawals for listener in made.listeners.values()] == [0, 0, 0, 0]


def test_a_change_of_a_path_is_no_withdrawal_for_who_goes_on_hearing_it() -> None:
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4), c3=agreed(3, VPNV4, RTC), c4=agreed(4, VPNV4, RTC))
    made.put(RTC, "c3", member_key(1), block())
    made.put(RTC, "c4", member_key(2), block())
    made.put(VPNV4, "c1", A, block(1))
    made.settle()
    before = {name: listener.messages for name, listener in made.listeners.items()}
    made.put(VPNV4, "c1", A, block(2))  # other targets: for c4 now, no more for c3
    assert [keys(made, name) for name in ("c2", "c3", "c4")] == [{A}, set(), {A}]
    assert {name: listener.messages - before[name] for name, listener in made.listeners.items()} == {
        "c1": 0,
        "c2": 1,
        "c3": 1,
        "c4": 1,
    }


def test_what_is_kept_back_and_why() -> None:
    ipv6 = agreed(2, VPNV4, IPV4)
    customer, provider = (agreed(3, IPV4, ibgp=False, role=role) for role in ("provider", "customer"))
    for towards, family, given, terms, expected in [
        (ipv6, VPNV4, with_(block(1), communities=(NO_ADVERTISE,)), CLIENT, "NO_ADVERTISE (RFC 1997)"),
        (agreed(2, VPNV4, ibgp=False), VPNV4, with_(block(1), communities=(NO_EXPORT,)), Terms(), "NO_EXPORT"),
        (agreed(2, VPNV4, ibgp=False), VPNV4, with_(block(1), communities=(0xFFFFFF03,)), Terms(), "SUBCONFED"),
        (ipv6, VPNV4, with_(block(1), communities=(NO_EXPORT, 0xFFFFFF03)), CLIENT, ""),
        (ipv6, VPNV4, with_(block(1), communities=(LLGR_STALE,)), CLIENT, "RFC 9494 section 4.3"),
        (agreed(2, VPNV4, **LONG_LIVED), VPNV4, with_(block(1), communities=(LLGR_STALE,)), CLIENT, ""),
        (ipv6, VPNV4, block(1, next_hop=V6), CLIENT, "IPv6 address, which the peer does not take (RFC 8950)"),
        (attrs.evolve(ipv6, extended_next_hop=frozenset({VPNV4})), VPNV4, block(1, next_hop=V6), CLIENT, ""),
        (provider, IPV4, with_(block(), only_to_customer=1), Terms(), "only for customers (RFC 9234)"),
        (customer, IPV4, with_(block(), only_to_customer=1), Terms(), ""),
        (ipv6, VPNV4, block(1), Terms(client=True, exporting=reject), "the export policy rejects it"),
        (ipv6, VPNV4, block(*range(600)), CLIENT, "limit of 4096"),
        (attrs.evolve(ipv6, message_limit=65535), VPNV4, block(*range(600)), CLIENT, ""),
        (agreed(2, VPNV4, RTC), VPNV4, block(1), CLIENT, "did not ask for any of its route targets (RFC 4684)"),
        (agreed(2, VPNV4, RTC), IPV4, block(1), CLIENT, "does not carry ipv4"),
    ]:
        made = world(c1=agreed(1, VPNV4, IPV4), p=(towards, terms))
        key = A if family is VPNV4 else b"\x0a\x08"
        out = made.engine.neighbours["p"].adj_rib_out
        assert out.reason_untold(family, key) in (
            "the route is not announced yet",
            f"the session does not carry {family.text}",
        )
        made.put(family, "c1", key, given)
        made.settle()
        told = (family, key) in made.listeners["p"].held
        assert told == (not expected), expected
        if expected:
            assert expected in out.reason_untold(family, key)


def test_other_reasons_why_a_route_is_not_told() -> None:
    made = world(c1=agreed(1, VPNV4), n1=agreed(2, VPNV4), n2=agreed(3, VPNV4))
    made.put(VPNV4, "n1", A, block(1))
    reasons = {name: each.adj_rib_out.reason_untold(VPNV4, A) for name, each in made.engine.neighbours.items()}
    assert reasons == {
        "c1": "it is about to be sent",
        "n1": "it came from this peer",
        "n2": "it came from a peer that is no client, and neither is this one (RFC 4456 section 6)",
    }
    made.put(VPNV4, "c1", B, block(1))
    assert made.engine.neighbours["c1"].adj_rib_out.reason_untold(VPNV4, B) == "it came from this peer"


def test_what_the_export_policy_adds_is_for_the_peer_to_follow() -> None:
    def staying(family: Family, key: bytes, path: Path) -> Path:
        return with_(path.attributes, communities=(NO_EXPORT,)).path(path.extra)

    made = world(c1=agreed(1, VPNV4), x1=(agreed(2, VPNV4, ibgp=False), Terms(exporting=staying)))
    made.put(VPNV4, "c1", A, block(1))
    assert attributes(made, "x1").communities == (NO_EXPORT,)


def test_OTC_is_added_downwards_in_unicast_families_alone() -> None:  # RFC 9234 section 5
    for role, expected in [("provider", 64512), ("peer", 64512), ("route-server", 64512), ("customer", None)]:
        made = world(x1=agreed(2, VPNV4, IPV4, ibgp=False, role=role))
        made.put(IPV4, LOCAL, b"\x0a\x08", block())
        made.put(VPNV4, LOCAL, A, block(1))
        assert attributes(made, "x1", b"\x0a\x08", IPV4).only_to_customer == expected, role
        assert attributes(made, "x1").only_to_customer is None
    made = world(x1=agreed(2, IPV4, ibgp=False, role="provider"))
    made.put(IPV4, LOCAL, b"\x0a\x08", with_(block(), only_to_customer=65001))
    assert attributes(made, "x1", b"\x0a\x08", IPV4).only_to_customer == 65001


def test_several_paths_go_out_with_identifiers_that_stay() -> None:  # RFC 7911
    several = agreed(9, VPNV4, add_path_send=frozenset({VPNV4}))
    made = world(**{f"c{n}": agreed(n, VPNV4) for n in range(1, 5)}, p=(several, Terms(client=True, paths_out=3)))
    for n, local_pref in ((1, 100), (2, 400), (3, 300), (4, 200)):
        made.put(VPNV4, f"c{n}", A, block(1, local_pref=local_pref))

    def told() -> dict[bytes, int | None]:
        made.settle()
        held = made.listeners["p"].held
        return {key[:4]: path.attributes.local_pref for (_, key), path in held.items()}

    first = told()
    assert sorted(first.values(), key=str) == [200, 300, 400]
    assert bytes(4) not in first
    made.rib.table(VPNV4, "c2").discard(A)
    second = told()
    assert sorted(second.values(), key=str) == [100, 200, 300]
    assert {each: first[each] for each in first if first[each] != 400}.items() <= second.items()
    made.put(VPNV4, "c2", A, block(1, local_pref=400))
    assert told() == first
    made.engine.change("p", CLIENT, 1.0)
    assert list(told().values()) == [400]
    assert made.listeners["p"].idle_withdrawals == 0


def test_a_client_hears_of_memberships_as_if_they_were_the_reflectors() -> None:  # RFC 4684 section 3.2
    made = world(c1=agreed(1, RTC), c2=agreed(2, RTC), n1=agreed(3, RTC), n2=agreed(4, RTC))
    made.put(RTC, "c1", member_key(1), block())
    for name in ("c1", "c2"):  # its own as well: so that it sends what others want
        told = attributes(made, name, member_key(1), RTC)
        assert (told.originator_id, told.next_hop) == (OWN_ID, OWN_ID), name
    told = attributes(made, "n1", member_key(1), RTC)
    assert (told.originator_id, told.next_hop) == (bytes((10, 0, 0, 1)), block().next_hop)
    made.put(RTC, "n1", member_key(1), block(local_pref=500))
    told = attributes(made, "n2", member_key(1), RTC)
    assert told.local_pref == 100, "a client's path is told to a non-client though a better one came from a non-client"
    made.put(RTC, "n2", member_key(2), block())
    assert (keys(made, "n1", RTC), keys(made, "c1", RTC)) == ({member_key(1)}, {member_key(1), member_key(2)})


def test_a_refresh_is_put_between_its_begin_and_its_end() -> None:  # RFC 7313
    for enhanced in (True, False):
        made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4, enhanced_refresh=enhanced))
        for n in range(300):
            made.put(VPNV4, "c1", vpn_key(f"10.1.{n & 255}.{n >> 8 << 7}/25"), block(1, local_pref=n))
        made.settle()
        listener, neighbour = made.listeners["c2"], made.engine.neighbours["c2"]
        listener.unanswered = set(listener.held)
        neighbour.refresh(VPNV4, 0.0)
        while made.listen("c2", 1000):  # the listener checks that nothing is missing at the end
            assert len(listener.refreshed) <= 1 or not listener.unanswered
        assert listener.unanswered == set()
        assert listener.refreshed == ([(VPNV4, 1), (VPNV4, 2)] if enhanced else [])
        assert listener.ended == [VPNV4]


def test_who_asks_again_and_again_during_a_refresh_is_answered_once_more_after_it() -> None:
    for enhanced in (True, False):
        made = world(c1=agreed(1, VPNV4, enhanced_refresh=enhanced))
        for n in range(300):
            made.put(VPNV4, LOCAL, vpn_key(f"10.1.{n & 255}.{n >> 8 << 7}/25"), block(1, local_pref=n))
        made.settle()
        listener, neighbour = made.listeners["c1"], made.engine.neighbours["c1"]
        messages = listener.messages
        listener.unanswered = set(listener.held)
        neighbour.refresh(VPNV4, 0.0)
        while listener.unanswered:
            made.listen("c1", 1000)
            for _ in range(100):
                neighbour.refresh(VPNV4, 0.0)
        listener.unanswered = set(listener.held)
        made.settle()
        assert listener.unanswered == set()
        assert listener.refreshed == ([(VPNV4, 1), (VPNV4, 2)] * 2 if enhanced else [])
        assert listener.messages - messages < 700


def test_a_refresh_before_End_of_RIB_is_answered_without_begin_and_end() -> None:  # RFC 7313 section 4
    made = World()
    made.engine.add("c1")
    made.up("c1", agreed(1, VPNV4, enhanced_refresh=True))
    made.put(VPNV4, LOCAL, A, block(1))
    made.settle()
    made.listeners["c1"].unanswered = {(VPNV4, A)}
    made.engine.neighbours["c1"].refresh(VPNV4, 0.0)
    made.settle()
    assert (made.listeners["c1"].unanswered, made.listeners["c1"].refreshed) == (set(), [])


def test_End_of_RIB_waits_for_what_others_of_the_group_have_read_already() -> None:
    made = World()
    for name in ("p", "q"):
        made.engine.add(name)
        made.up(name, agreed(1, VPNV4))
    made.settle()
    for n in range(500):
        made.put(VPNV4, LOCAL, vpn_key(f"10.1.{n & 255}.{n >> 8 << 7}/25"), block(1, local_pref=n))
    while made.listen("p", 1000):
        pass
    made.engine.release()
    while made.listen("q", 1000):  # End-of-RIB is checked where it is heard
        pass
    assert made.listeners["q"].ended == [VPNV4]


# Terms


def test_other_terms_tell_the_difference_and_nothing_else() -> None:
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4), n1=agreed(3, VPNV4), n2=agreed(4, VPNV4))
    for n, (key, source) in enumerate([(A, "c1"), (B, "n2"), (C, "c1")]):
        made.put(VPNV4, source, key, block(1, local_pref=7 if key == C else 100 + n))
    listener = made.listeners["n1"]
    heard: list[int] = []
    for terms, expected in [
        (Terms(), {A, C}),
        (Terms(exporting=without_sevens), {A}),
        (Terms(exporting=without_sevens), {A}),
        (Terms(exporting=without_sevens, client=True), {A, B}),
        (Terms(client=True), {A, B, C}),
        (Terms(exporting=reject, client=True), set()),
        (Terms(), {A, C}),
    ]:
        made.settle()
        before = listener.messages
        made.engine.change("n1", terms, 0.0)
        assert keys(made, "n1") == expected
        heard.append(listener.messages - before)
    assert heard == [0, 1, 0, 1, 1, 1, 2], "the two routes of the last have different attributes"
    assert listener.idle_withdrawals == 0
    assert listener.ended == [VPNV4]


def test_other_terms_of_a_large_table_are_followed_in_turns_and_what_is_the_same_is_not_said() -> None:
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4))
    for n in range(10_000):
        made.put(VPNV4, LOCAL, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(1))
    made.settle()
    said = []
    made.engine.change("c2", Terms(client=True, exporting=without_sevens), 0.0)
    while octets := made.engine.neighbours["c2"].adj_rib_out.output(BUDGET):
        said.append(octets)
    assert len(said) >= 4
    assert set(said) == {KEEPALIVE}
    sent = made.engine.neighbours["c2"].adj_rib_out.sent[VPNV4]
    assert (len(sent), sent.wanted) == (10_000, 10_000)


def test_what_is_pending_when_memberships_change_was_told_by_the_old_ones() -> None:
    made = world(c1=agreed(1, VPNV4, RTC), c2=agreed(2, VPNV4), c3=agreed(3, VPNV4, RTC))
    made.put(RTC, "c1", member_key(1), block())
    made.put(VPNV4, "c2", A, block(1))
    assert keys(made, "c1") == {A}
    made.put(VPNV4, "c2", A, block(2))
    made.listen("c3")  # the group has looked at it, and c1 has not heard of it
    made.rib.table(RTC, "c1").discard(member_key(1))
    made.put(RTC, "c1", member_key(3), block())
    assert keys(made, "c1") == set()


def test_memberships_that_come_back_wait_until_what_was_held_without_them_is_withdrawn() -> None:
    made = world(c1=agreed(1, VPNV4, RTC), c2=agreed(2, VPNV4), c3=agreed(3, VPNV4, RTC))
    made.put(RTC, "c1", member_key(1), block())
    for key in (A, B, C):
        made.put(VPNV4, "c2", key, block(1))
    assert keys(made, "c1") == {A, B, C}
    made.rib.table(RTC, "c1").discard(member_key(1))
    while len(made.listeners["c1"].held) > 3:  # with the membership itself
        made.listen("c1", 1)
    made.put(RTC, "c1", member_key(1), block())
    for key in (A, B, C):
        made.rib.table(VPNV4, "c2").discard(key)
    made.listen("c3")
    assert keys(made, "c1") == set()


def test_a_path_that_comes_back_with_another_router_id_is_told_to_who_was_behind() -> None:
    made = world(c1=agreed(1, VPNV4), c2=agreed(2, VPNV4), c3=agreed(3, VPNV4))
    made.put(VPNV4, "c1", A, block(1))
    made.settle()
    neighbour = made.engine.neighbours["c2"]
    made.engine.groups.log_octets = 1
    for attributes_ in (block(2), block(1)):
        made.put(VPNV4, "c1", A, attributes_)
        made.listen("c3")
    made.down("c1")
    made.up("c1", agreed(9, VPNV4))
    while made.listen("c3"):
        pass
    assert attributes(made, "c2").originator_id == bytes((10, 0, 0, 9)), neighbour.name


def test_the_first_client_makes_a_reflector_and_the_last_takes_it_away() -> None:
    made = world(n1=agreed(1, VPNV4), n2=agreed(2, VPNV4))
    engine = made.engine
    made.put(VPNV4, "n2", A, block(1))
    assert keys(made, "n1") == set()
    assert [each.adj_rib_in.reflecting for each in engine.neighbours.values()] == [False, False]
    engine.change("n1", CLIENT, 1.0)
    assert [each.adj_rib_in.reflecting for each in engine.neighbours.values()] == [True, True]
    late = engine.add("late")
    assert late.adj_rib_in.reflecting
    assert keys(made, "n1") == {A}
    assert [listener.requested for listener in made.listeners.values()] == [[VPNV4], [VPNV4]]
    engine.change("n1", Terms(), 2.0)
    assert keys(made, "n1") == set()
    assert [each.adj_rib_in.reflecting for each in engine.neighbours.values()] == [False, False, False]
    while engine.step(1):
        pass
    assert list(made.rib.table(VPNV4, "n2").rows) == [], "nobody here imports it"
    engine.change("n1", CLIENT, 3.0)
    engine.remove("n1")
    assert not late.adj_rib_in.reflecting


def test_a_reflectors_End_of_RIB_waits_for_those_of_its_peers() -> None:  # RFC 4724 section 4.1
    made = World()
    for name in ("c1", "n1"):
        made.engine.add(name)
    made.engine.change("c1", CLIENT, 0.0)
    for name in ("c1", "n1"):
        made.up(name, agreed(1, VPNV4))
    made.engine.release()
    made.settle()
    assert [listener.ended for listener in made.listeners.values()] == [[], []]
    made.engine.select()
    made.settle()
    assert [listener.ended for listener in made.listeners.values()] == [[VPNV4], [VPNV4]]


def test_End_of_RIB_waits_for_other_terms_that_wait_for_another_family() -> None:
    made = World()
    for name in ("c1", "c2"):
        made.engine.add(name)
        made.engine.change(name, CLIENT, 0.0)
    made.put(IPV4, LOCAL, b"\x0a\x08", block(local_pref=7))
    for key in (A, B, C):
        made.put(VPNV4, LOCAL, key, block(1))
    made.up("c2", agreed(2, VPNV4, IPV4))
    made.settle()
    made.up("c1", agreed(1, VPNV4, IPV4))
    while (IPV4, b"\x0a\x08") not in made.listeners["c1"].held:
        made.listen("c1", 1)
    made.engine.change("c1", Terms(client=True, exporting=without_sevens), 0.0)
    made.engine.release()
    made.engine.select()
    made.listen("c1", 1)
    assert made.listeners["c1"].ended == []
    made.settle()  # compares at each End-of-RIB
    assert made.listeners["c1"].ended == [IPV4, VPNV4]


# Cost


def clients(number: int, *families: Family) -> World:
    return world(**{f"c{n}": agreed(n, *families) for n in range(number)})


def routes(number: int, local_pref: int = 100) -> dict[bytes, Attributes]:
    """So many routes, five of which share their attributes."""
    blocks = [block(1, local_pref=local_pref + n) for n in range(number // 5)]
    return {vpn_key(f"10.{n >> 8}.{n & 255}.0/24"): blocks[n // 5] for n in range(number)}


def story(made: World) -> int:
    """Routes come, change, and go; return how many messages were built for that."""
    made.settle()
    built = made.engine.groups.encoded
    for rows in (routes(1000), routes(1000, 5000), dict[bytes, Attributes]()):
        made.rib.table(VPNV4, LOCAL).sync({key: each.path(b"\0\6\x41") for key, each in rows.items()})
        made.settle()
    return made.engine.groups.encoded - built


@pytest.mark.parametrize("families", [(VPNV4,), (VPNV4, RTC)])
def test_a_hundred_peers_are_told_with_the_work_for_one(families: tuple[Family, ...]) -> None:
    one, hundred = clients(1, *families), clients(100, *families)
    for made in (one, hundred):
        if RTC in families:
            for n, name in enumerate(made.listeners):
                made.put(RTC, name, member_key(1), block())
                made.put(RTC, name, member_key(1000 + n), block())  # no two ask for the same
    assert story(hundred) == story(one) > 400
    for listener in hundred.listeners.values():
        assert listener.messages > 400


def test_a_hundred_peers_that_come_up_together_are_told_with_the_work_for_one() -> None:
    built = []
    for number in (1, 100):
        made = clients(number, VPNV4)
        for key, each in routes(1000).items():
            made.put(VPNV4, LOCAL, key, each)
        made.settle()
        built.append(made.engine.groups.encoded)
        for name in list(made.listeners)[: number - 1]:  # one stays, for the group to live
            made.down(name)
            made.up(name, agreed(1, VPNV4))
        saying = list(made.listeners)
        while saying := [name for name in saying if made.listen(name, 4096)]:
            pass
        assert all(len(listener.held) == 1000 for listener in made.listeners.values())
        built.append(made.engine.groups.encoded - built[-1])
    assert built[:3] == [200, 0, 200], "at the first time"
    assert 200 <= built[3] <= 240, "when 99 come up again, in turns that end within a block of routes alike"


def test_a_reader_that_is_stuck_costs_no_more_than_its_keys_and_hears_the_latest_alone() -> None:
    made = clients(3, VPNV4)
    made.engine.groups.log_octets = 20_000
    made.settle()
    (group,) = made.engine.groups.groups.values()
    for turn in range(60):
        for key, each in routes(200, 1000 * turn).items():
            made.put(VPNV4, LOCAL, key, each)
        for name in ("c0", "c1"):
            while made.listen(name):
                pass
        assert sum(batch.weight for batch in group.log) < 60_000
    assert made.engine.groups.encoded < 60 * 45
    before = made.listeners["c2"].messages
    made.settle()
    assert made.listeners["c2"].messages - before < 60, "each route once"
    assert made.heard("c2") == made.heard("c0")
    assert len(made.heard("c2")) == 200
    assert len(group.log) == 0


def test_a_turn_is_about_as_long_as_asked_for_however_long_the_attributes_are() -> None:
    made = clients(2, VPNV4)
    made.down("c1")
    for n in range(1000):
        made.put(VPNV4, LOCAL, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(*range(450), local_pref=n))
    for come in ("c0", "c1"):  # as the changes come, and from the state that is there
        if come == "c1":
            made.up("c1", agreed(1, VPNV4))
        sizes = []
        while octets := made.engine.neighbours[come].output(BUDGET):
            sizes.append(len(octets))
        assert sum(sizes) > 3_000_000
        assert max(sizes) < 2 * BUDGET + 64 * 4096, come


def test_much_that_is_not_for_a_peer_is_gone_through_in_turns() -> None:
    made = clients(2, VPNV4)
    attributes = block(1)
    for n in range(10_000):
        made.put(VPNV4, "c0", vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), attributes)
    neighbour = made.engine.neighbours["c0"]
    said = []
    while octets := neighbour.output(BUDGET):
        said.append(octets)
    assert said[:2] == [KEEPALIVE, KEEPALIVE]
    assert keys(made, "c1") == set(made.rib.table(VPNV4, "c0").rows)


def test_little_among_much_that_is_not_for_a_peer_is_gone_through_in_turns() -> None:
    made = world(c1=agreed(1, VPNV4, RTC), c2=agreed(2, VPNV4, RTC))
    for n in range(10_000):
        made.put(VPNV4, LOCAL, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(2 if n % 500 else 1))
    made.settle()
    made.put(RTC, "c1", member_key(1), block())
    turns = 0
    while made.listen("c1"):
        turns += 1
    assert turns >= 3
    assert len(made.listeners["c1"].held) == 20 + 1


def test_keys_have_their_turn_by_rounds_whatever_comes_meanwhile() -> None:
    turns, keys = Turns(), {bytes((n,)): n for n in range(4)}
    assert turns.take(keys, 2) == {b"\0": 0, b"\1": 1}
    keys |= {b"\0": 10, b"\4": 4}
    del keys[b"\2"]
    assert turns.take(keys, 2) == {b"\3": 3, b"\0": 10}
    other = {b"\7": 7}
    assert turns.take(other, 5) == {b"\7": 7}
    assert (turns.take(keys, 5), keys, turns.take(keys, 5)) == ({b"\4": 4}, {}, {})


def test_the_log_is_bounded() -> None:
    assert LOG_OCTETS <= 16 << 20


def test_a_group_without_members_reads_nothing() -> None:
    made = clients(2, VPNV4)
    made.put(VPNV4, "c0", A, block(1))
    made.settle()
    for name in list(made.listeners):
        made.down(name)
    assert made.engine.groups.groups == {}
    assert all(table.readers == [] for table in made.rib.tables.values())


HEARING = Terms(hears=frozenset(SPEAKERS))


def of_speaker(made: World, source: str, *keys: bytes) -> None:
    """Have a speaker say these keys."""
    for key in keys:
        made.put(IPV4, source, key, OF_SPEAKERS[source][0])


def test_what_a_speaker_says_only_those_hear_whose_terms_name_it() -> None:
    one, two = SPEAKERS
    first, second, both = (bytes((10, n, 16)) for n in range(3))
    for clients in ((), ("c",)):
        made = world(
            a=(agreed(1, IPV4), Terms(hears=frozenset({one}))),
            b=(agreed(2, IPV4, ibgp=False), Terms(hears=frozenset({two}))),
            ab=(agreed(3, IPV4), HEARING),
            nobody=agreed(4, IPV4),
            **{name: agreed(5, IPV4) for name in clients},
        )
        of_speaker(made, one, first, both)
        of_speaker(made, two, second, both)
        heard = {name: keys(made, name, IPV4) for name in made.listeners}
        assert heard == {
            "a": {first, both},
            "b": {second, both},
            "ab": {first, second, both},
            "nobody": set(),
            **{name: set() for name in clients},
        }
        marks = [attributes(made, name, both, IPV4).large_communities for name in ("a", "b")]
        assert marks == [(SPEAKERS[one],), (SPEAKERS[two],)], "each its own speaker's"
        out = made.engine.neighbours["a"].adj_rib_out
        assert out.reason_untold(IPV4, second) == "it is told by speakers that the peer is not in"


def test_who_comes_into_a_speaker_hears_it_and_who_leaves_it_hears_no_more() -> None:
    one, two = SPEAKERS
    made = world(a=agreed(1, IPV4, VPNV4), b=(agreed(2, IPV4, VPNV4), HEARING))
    of_speaker(made, one, b"\x0a\x08")
    of_speaker(made, two, b"\x0b\x08")
    assert keys(made, "a", IPV4) == set()
    made.engine.change("a", Terms(hears=frozenset({one})), 0.0)
    assert keys(made, "a", IPV4) == {b"\x0a\x08"}
    made.engine.change("a", Terms(hears=frozenset({two})), 0.0)
    assert keys(made, "a", IPV4) == {b"\x0b\x08"}
    made.engine.change("a", Terms(), 0.0)
    assert keys(made, "a", IPV4) == set()
    assert keys(made, "b", IPV4) == {b"\x0a\x08", b"\x0b\x08"}
    assert made.listeners["a"].idle_withdrawals == 0


@pytest.mark.parametrize("refreshing", [False, True])
def test_who_leaves_a_speaker_in_the_middle_of_its_table_is_told_nothing_more_of_it(refreshing: bool) -> None:
    one, two = SPEAKERS
    agreeing = agreed(1, IPV4, VPNV4, enhanced_refresh=True)
    made = world(a=(agreeing, HEARING), b=(agreed(2, IPV4, VPNV4), HEARING))
    made.down("a")
    routes = [bytes((10, n >> 8, n & 255, 24)) for n in range(600)]
    of_speaker(made, one, *routes[:300])
    of_speaker(made, two, *routes[300:])
    for n in range(2000):
        made.put(VPNV4, LOCAL, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(1, local_pref=n))
    made.settle()
    made.up("a", agreeing)  # into a group that has told all
    listener, neighbour = made.listeners["a"], made.engine.neighbours["a"]
    if refreshing:
        made.settle()
        for family in (IPV4, VPNV4):
            neighbour.refresh(family, 0.0)
        listener.unanswered = {at for at, path in listener.held.items() if SPEAKERS[two] not in marks_of(path)}
    left = len(listener.unanswered)
    while len(listener.held) < 150 or len(listener.unanswered) > max(left - 150, 0):
        assert made.listen("a", 100)
    made.engine.change("a", Terms(hears=frozenset({one})), 0.0)
    made.put(VPNV4, LOCAL, A, block(1))  # what is new, and what is old, is told meanwhile
    of_speaker(made, two, b"\x0b\x08")
    of_speaker(made, one, b"\x0c\x08")
    made.settle()  # World.listen refuses what "two" says
    assert keys(made, "a", IPV4) == {*routes[:300], b"\x0c\x08"}
    assert len(keys(made, "a")) == 2000
    assert listener.idle_withdrawals == 0
    assert listener.unanswered == set()
    assert sorted(listener.ended) == sorted((IPV4, VPNV4))
    assert keys(made, "b", IPV4) == {*routes, b"\x0b\x08", b"\x0c\x08"}


def test_of_a_family_that_is_for_own_routes_alone_a_reflector_passes_nothing_on() -> None:
    one, _ = SPEAKERS
    terms = Terms(hears=frozenset({one}), own_only=frozenset({IPV4}))
    made = world(c=agreed(1, IPV4, VPNV4), x=(agreed(2, IPV4, VPNV4, ibgp=False), terms))
    of_speaker(made, one, b"\x0a\x08")
    made.put(IPV4, LOCAL, b"\x0b\x08", block())
    made.put(IPV4, "c", b"\x0c\x08", block())
    made.put(VPNV4, "c", A, block(1))
    assert keys(made, "x", IPV4) == {b"\x0a\x08", b"\x0b\x08"}
    assert keys(made, "x") == {A}
    why = made.engine.neighbours["x"].adj_rib_out.reason_untold(IPV4, b"\x0c\x08")
    assert why == "it came from a peer, and this one without an export policy is told what its speakers say"


def marks_of(path: Path) -> tuple[tuple[int, int, int], ...]:
    return path.attributes.large_communities
