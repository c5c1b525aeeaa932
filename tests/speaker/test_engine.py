"""The embedded speaker: neighbours between real sessions and the tables, and when all of them have said all."""

from __future__ import annotations

import inspect

import attrs

from speaker.adj_rib_out import MEMBERSHIP_WAIT_S
from speaker.decision import LOCAL
from speaker.engine import Engine, Neighbour
from speaker.peer import Close, Peer, Routes, Send
from speaker.refusal import Own
from speaker.rib import Interest, Rib, peer_of, slot
from speaker.session import Settings
from speaker.terms import PrefixLimit, Terms, reject
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import GracefulRestart
from speaker.wire.update import Update
from tests.fakes.messages import message, write
from tests.speaker.routes import (
    Listener,
    announced,
    block,
    extra,
    member_key,
    on_the_wire,
    session,
    target,
    vpn_key,
    withdrawn,
)

VPNV4, EVPN, RTC = Family.VPNV4, Family.EVPN, Family.RTC
A, B = (vpn_key(f"10.0.{n}.0/24") for n in range(2))
TAG = bytes.fromhex("03 0000fc0000000001 00000000 20 c0000209")
OWN_ID = bytes((192, 0, 2, 1))
GRACEFUL = GracefulRestart(False, 90, {VPNV4: True, EVPN: True})


class Vpn:
    families = frozenset({VPNV4, EVPN})


class Speaker:
    """An engine whose node imports target 1."""

    def __init__(self) -> None:
        self.rib = Rib()
        self.interest = Interest()
        self.interner = Interner()
        self.vpn = Vpn()
        self.interest.set(self.vpn, frozenset({target(1)}))
        own = Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID}))
        self.engine = Engine(self.rib, self.interest, own, self.interner)

    def held(self, name: str, family: Family = VPNV4) -> set[bytes]:
        """The keys of a peer in the RIB, when all is settled."""
        while self.engine.step(1):
            pass
        return set(self.rib.table(family, name).rows)

    def say(self, family: Family, key: bytes, *targets: int) -> None:
        self.rib.table(family, LOCAL).put(key, block(*targets).path(extra(family)))


def test_a_neighbour_is_what_a_peer_takes_for_its_routes() -> None:
    speaker = Speaker()
    routes: Routes = speaker.engine.add("p")  # for the type checker
    for name, wanted in inspect.getmembers(Routes, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(Neighbour, name)) == inspect.signature(wanted), name
    assert routes.output(100) == b""


def test_routes_go_both_ways_through_a_real_session_and_a_family_that_cannot_be_read_goes_alone() -> None:
    speaker = Speaker()
    neighbour = speaker.engine.add("p")
    speaker.engine.release()
    settings = Settings(
        local_as=64512, remote_as=64512, router_id=OWN_ID, families=(VPNV4, EVPN), hold_time_s=90, passive=True
    )
    peer = Peer("p", settings, neighbour, speaker.interner, lambda: 0.0)
    peer.start(0.0)
    peer.accept(1, "192.0.2.9", 0.0)
    peer.received(1, write("OPEN as=64512 hold=90 id=192.0.2.9 families=vpnv4,evpn refresh as4=64512"), 0.0)
    peer.received(1, write("KEEPALIVE"), 0.0)
    assert neighbour.negotiated is not None
    far = Listener(session(VPNV4, EVPN))
    speaker.say(VPNV4, A, 7)
    far.hear(peer.output(1, 1 << 16))
    assert far.held.keys() == {(VPNV4, A)}
    assert far.ended == [VPNV4, EVPN]

    for family, key in ((VPNV4, A), (VPNV4, B), (EVPN, TAG)):
        peer.received(1, message(2, on_the_wire(family, block(1), key)), 1.0)
    peer.received(1, write("END-OF-RIB evpn"), 1.0)
    assert (speaker.held("p"), speaker.held("p", EVPN)) == ({A, B}, {TAG})
    assert not neighbour.synced
    broken = on_the_wire(VPNV4, block(1), A).replace(bytes.fromhex("70000641"), bytes.fromhex("ff000641"))
    actions = peer.received(1, message(2, broken), 2.0)
    assert not [action for action in actions if isinstance(action, (Send, Close))]
    assert (speaker.held("p"), speaker.held("p", EVPN)) == (set(), {TAG})
    assert neighbour.synced, "no more End-of-RIB will come of the disabled family"
    peer.received(1, message(2, on_the_wire(VPNV4, block(1), A)), 3.0)
    assert speaker.held("p") == set()

    peer.received(1, write("ROUTE-REFRESH vpnv4"), 4.0)
    far.held.clear()
    far.hear(peer.output(1, 1 << 16))
    assert far.held.keys() == {(VPNV4, A)}
    peer.lost(1, "reset by peer", 5.0)
    assert (speaker.held("p", EVPN), neighbour.negotiated) == (set(), None)


def test_a_peer_has_said_all_when_it_is_up_and_every_family_of_destinations_ended() -> None:
    speaker = Speaker()
    engine = speaker.engine
    p, q = engine.add("p"), engine.add("q")
    assert not engine.synced(["p"])
    assert engine.synced([])
    assert not engine.synced(["unknown"])
    for neighbour in (p, q):
        neighbour.up(session(VPNV4, EVPN, RTC, graceful=GRACEFUL), 0.0)
        neighbour.update(Update(end_of_rib=VPNV4), 0.0)
    assert not engine.synced(["p"])
    p.update(Update(end_of_rib=EVPN), 0.0)
    assert engine.synced(["p"]), "memberships tell of no destinations"
    assert not engine.synced(["p", "q"])
    q.update(Update(end_of_rib=EVPN), 0.0)
    assert engine.synced(["p", "q"])
    p.down(session(VPNV4, EVPN, RTC, graceful=GRACEFUL), True, 1.0)
    assert not engine.synced(["p", "q"])
    p.up(session(VPNV4, EVPN, RTC, graceful=GRACEFUL), 2.0)
    assert not p.synced, "what it said in another session does not count"


def test_a_lost_peer_is_remembered_until_its_restart_time_is_over() -> None:
    speaker = Speaker()
    engine, neighbour = speaker.engine, speaker.engine.add("p")
    agreed = session(VPNV4, EVPN, graceful=GRACEFUL)
    neighbour.up(agreed, 0.0)
    neighbour.update(announced(VPNV4, block(1), A), 0.0)
    assert engine.deadline() is None
    neighbour.down(agreed, True, 10.0)
    assert (engine.deadline(), speaker.held("p")) == (100.0, {A})
    engine.tick(99.0)
    assert speaker.held("p") == {A}
    engine.tick(100.0)
    assert (engine.deadline(), speaker.held("p")) == (None, set())


def test_End_of_RIB_waits_for_the_node_and_for_the_memberships_of_each_peer() -> None:
    speaker = Speaker()
    engine = speaker.engine
    agreed = session(VPNV4, RTC)
    early, silent = engine.add("early"), engine.add("silent")
    listeners = {neighbour.name: Listener(agreed) for neighbour in (early, silent)}
    for neighbour in (early, silent):
        neighbour.up(agreed, 0.0)

    def ended() -> dict[str, list[Family]]:
        for neighbour in (early, silent):
            listeners[neighbour.name].hear(neighbour.output(1 << 16))
        return {name: listener.ended for name, listener in listeners.items()}

    assert ended() == {"early": [], "silent": []}
    engine.release()
    assert ended() == {"early": [RTC], "silent": [RTC]}
    assert engine.deadline() == MEMBERSHIP_WAIT_S
    early.update(Update(end_of_rib=RTC), 1.0)
    assert ended() == {"early": [RTC, VPNV4], "silent": [RTC]}
    engine.tick(MEMBERSHIP_WAIT_S)
    assert ended() == {"early": [RTC, VPNV4], "silent": [RTC, VPNV4]}
    assert engine.deadline() is None, "nothing is waited for twice"
    late = engine.add("late")
    late.up(session(VPNV4), 100.0)
    listeners["late"] = Listener(session(VPNV4))
    listeners["late"].hear(late.output(1 << 16))
    assert listeners["late"].ended == [VPNV4]


def test_memberships_decide_what_a_peer_gets_until_they_cannot_be_read() -> None:
    speaker = Speaker()
    agreed = session(VPNV4, RTC)
    neighbour, far = speaker.engine.add("p"), Listener(agreed)
    speaker.say(VPNV4, A, 1)
    speaker.say(VPNV4, B, 2)
    neighbour.up(agreed, 0.0)
    neighbour.update(announced(RTC, block(), member_key(2)), 0.0)
    far.hear(neighbour.output(1 << 16))
    assert far.held.keys() == {(VPNV4, B)}
    neighbour.disable(RTC, 1.0)
    far.hear(neighbour.output(1 << 16))
    assert far.held.keys() == {(VPNV4, A), (VPNV4, B)}
    assert speaker.held("p", RTC) == set()


def test_a_membership_counts_as_long_as_one_path_of_it_is_there() -> None:  # RFC 4684, with RFC 7911
    speaker = Speaker()
    agreed = attrs.evolve(session(VPNV4, RTC), add_path_receive=frozenset({RTC}))
    neighbour, far = speaker.engine.add("p"), Listener(agreed)
    speaker.say(VPNV4, A, 1)
    neighbour.up(agreed, 0.0)
    first, second = (bytes((0, 0, 0, number)) + member_key(1) for number in (1, 2))
    neighbour.update(announced(RTC, block(), first, second), 0.0)
    for path, held in ((first, {(VPNV4, A)}), (second, set())):
        neighbour.update(withdrawn(RTC, path), 0.0)
        far.hear(neighbour.output(1 << 16))
        assert far.held.keys() == held


def test_a_change_of_what_is_imported_asks_for_the_new_and_drops_the_old() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4, EVPN)
    neighbour, far = engine.add("p"), Listener(agreed)
    neighbour.up(agreed, 0.0)
    neighbour.update(announced(VPNV4, block(1), A), 0.0)
    neighbour.update(announced(VPNV4, block(2), B), 0.0)
    speaker.interest.set(speaker.vpn, frozenset({target(2)}))
    engine.targets_changed(grown=True, shrunk=False)
    assert speaker.held("p") == {A}
    engine.targets_changed(grown=False, shrunk=True)
    assert speaker.held("p") == set()
    far.hear(neighbour.output(1 << 16))
    assert far.requested == [VPNV4, EVPN]
    neighbour.update(announced(VPNV4, block(2), B), 0.0)
    assert speaker.held("p") == {B}


def test_a_reflector_waits_for_no_peer_that_waits_for_it_or_ends_no_table() -> None:  # RFC 4724 section 4.1
    for graceful, expected in [
        (GRACEFUL, False),
        (GracefulRestart(True, 90, {VPNV4: True}), True),
        (None, True),
    ]:
        engine = Speaker().engine
        neighbour = engine.add("p")
        assert not engine.heard_all(["p"])
        neighbour.up(session(VPNV4, graceful=graceful), 0.0)
        assert engine.heard_all(["p"]) is expected
        assert not engine.heard_all(["p", "unknown"])
        assert not engine.synced(["p"])
        neighbour.update(Update(end_of_rib=VPNV4), 0.0)
        assert engine.heard_all(["p"])


def test_a_reflector_wants_all_targets_when_a_peer_cannot_say_which_it_wants() -> None:
    engine = Speaker().engine
    speaking, silent = engine.add("speaking"), engine.add("silent")
    speaking.up(session(VPNV4, RTC), 0.0)
    silent.up(session(VPNV4), 0.0)
    assert not engine.wants_all_targets, "nothing is passed on to it"
    engine.change("speaking", Terms(client=True), 0.0)
    assert engine.wants_all_targets
    silent.down(session(VPNV4), False, 1.0)
    assert engine.wants_all_targets, "it will be back"
    silent.up(session(VPNV4, RTC), 2.0)
    assert not engine.wants_all_targets


def test_what_the_receiving_half_wants_again_is_asked_for() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4)
    neighbour, far = engine.add("p"), Listener(agreed)
    neighbour.up(agreed, 0.0)
    one = {VPNV4: PrefixLimit(most=1, action="block")}
    engine.change("p", Terms(limits=one), 0.0)
    neighbour.update(announced(VPNV4, block(1), A, B), 0.0)
    assert len(speaker.held("p")) == 1
    assert any(report.startswith("peer=p family=vpnv4 ") for report in engine.take_reports())
    assert engine.take_reports() == [], "each is told once"
    engine.change("p", Terms(), 1.0)
    for _ in range(2):
        far.hear(neighbour.output(1 << 16))
    assert far.requested == [VPNV4]


def test_a_reflector_keeps_what_it_does_not_import_and_asks_for_what_it_let_go() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4)
    client, far = engine.add("client"), Listener(agreed)
    client.up(agreed, 0.0)
    client.update(announced(VPNV4, block(2), B), 0.0)
    assert speaker.held("client") == set()
    engine.change("client", Terms(client=True), 1.0)
    far.hear(client.output(1 << 16))
    assert far.requested == [VPNV4]
    client.update(announced(VPNV4, block(2), B), 1.0)
    assert speaker.held("client") == {B}
    engine.targets_changed(grown=False, shrunk=True)
    assert speaker.held("client") == {B}
    engine.change("client", Terms(), 2.0)
    assert speaker.held("client") == set()


def test_routes_that_a_client_left_behind_are_told_with_its_new_router_id_when_it_is_back() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4, graceful=GRACEFUL)
    client, other = engine.add("client"), engine.add("other")
    for neighbour in (client, other):
        engine.change(neighbour.name, Terms(client=True), 0.0)
        neighbour.up(agreed, 0.0)
    far = Listener(agreed)
    client.update(announced(VPNV4, block(1), A), 0.0)
    far.hear(other.output(1 << 16))
    client.down(agreed, True, 1.0)
    far.hear(other.output(1 << 16))
    assert far.held[(VPNV4, A)].attributes.originator_id == agreed.remote_router_id
    back = GracefulRestart(True, 90, {VPNV4: True})
    client.up(attrs.evolve(agreed, remote_router_id=b"\x0a\0\0\x07", graceful=back), 2.0)
    far.hear(other.output(1 << 16))
    assert far.held[(VPNV4, A)].attributes.originator_id == b"\x0a\0\0\x07"


def test_a_peer_that_is_removed_leaves_nothing() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4, graceful=GRACEFUL)
    neighbour = engine.add("p")
    neighbour.up(agreed, 0.0)
    neighbour.update(announced(VPNV4, block(1), A), 0.0)
    speaker.say(VPNV4, B, 1)
    engine.remove("p")
    engine.remove("p")
    assert speaker.held("p") == set()
    assert speaker.rib.table(VPNV4, LOCAL).readers == []
    assert (engine.neighbours, engine.deadline()) == ({}, None)


def test_a_peer_that_is_made_anew_keeps_what_it_says_while_what_it_said_before_is_let_go() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4)
    neighbour = engine.add("p")
    neighbour.up(agreed, 0.0)
    neighbour.update(announced(VPNV4, block(1), A, B), 0.0)
    engine.remove("p")
    neighbour = engine.add("p")
    neighbour.up(agreed, 1.0)
    neighbour.update(announced(VPNV4, block(1), A), 1.0)
    assert speaker.held("p") == {A}


def test_neighbours_that_come_and_go_leave_nothing_in_the_rib_once_all_readers_know_that_they_are_gone() -> None:
    speaker = Speaker()
    engine = speaker.engine
    agreed = attrs.evolve(session(VPNV4, RTC), add_path_receive=frozenset({VPNV4}))
    engine.add("client")
    engine.change("client", Terms(client=True), 0.0)
    client, listener = engine.neighbours["client"], Listener(session(VPNV4))
    client.up(listener.negotiated, 0.0)
    station = speaker.rib.reader([VPNV4])
    for number in range(10):
        name = f"10.0.0.{number}"
        neighbour = engine.add(name)
        neighbour.up(agreed, 0.0)
        for path in range(3):
            neighbour.update(announced(VPNV4, block(1), bytes((0, 0, 0, path)) + A), 0.0)
        listener.hear(client.output(1 << 16))
        assert (VPNV4, A) in listener.held
        for part in station.parts.values():
            part.take()
        engine.remove(name)
        while engine.step(1):
            pass
        assert (VPNV4, name) in speaker.rib.tables, "nobody knows yet that its routes are gone"
        assert {at: list(part.take()) for at, part in station.parts.items() if part.dirty} == {
            (VPNV4, slot(name, path)): [A] for path in range(3)
        }
        listener.hear(client.output(1 << 16))
        assert (VPNV4, A) not in listener.held
        engine.step(1)
        assert not [at for at in speaker.rib.tables if peer_of(at[1]) == name]
        assert speaker.rib.origins.keys() == {"client"}
    assert len(station.parts) == len(speaker.rib.sources(VPNV4)) == 2, "the client's and ours"


def test_no_share_is_larger_than_asked_for_whoever_has_something_to_do() -> None:
    speaker = Speaker()
    engine, agreed = speaker.engine, session(VPNV4)
    keys = [vpn_key(f"10.0.{n}.0/24") for n in range(10)]
    for name in ("removed", "lost", "other"):
        neighbour = engine.add(name)
        neighbour.up(agreed, 0.0)
        neighbour.update(announced(VPNV4, block(1), *keys), 0.0)
    engine.remove("removed")
    engine.neighbours["lost"].down(agreed, False, 1.0)
    engine.change("other", Terms(importing=reject), 1.0)
    left = sum(map(len, speaker.rib.tables.values()))
    while done := engine.step(7):
        before, left = left, sum(map(len, speaker.rib.tables.values()))
        assert before - left == done <= 7
    assert left == 0
