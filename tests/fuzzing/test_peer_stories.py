"""A neighbour with any connections, octets, changes and times, in any order: it never falls over, and never dies.

What may come in between does not matter: in the end the first good OPEN is served.
"""

from __future__ import annotations

import itertools
import random

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from speaker.peer import Action as PeerAction
from speaker.peer import Cancel, Close, Connect, Peer, Report, Send
from speaker.session import Negotiated, Settings
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import FourOctetAs, GracefulRestart, Multiprotocol
from speaker.wire.message import EXTENDED_LIMIT, KEEPALIVE, Notification, Open, split
from speaker.wire.update import Update, end_of_rib
from tests.fuzzing.mutation import Mutator
from tests.fuzzing.oracle import line
from tests.fuzzing.seeds import Form

OURS, THEIRS = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
ADDRESS = "192.0.2.2"
SETTINGS = Settings(local_as=64512, remote_as=64512, router_id=OURS, families=(Family.IPV4, Family.VPNV4, Family.EVPN))
MUTATOR = Mutator()
FORM = Form(as4=True, add_path=False)

_TOLD = (*map(Multiprotocol, SETTINGS.families), FourOctetAs(64512))
_GRACEFUL = GracefulRestart(False, 120, dict.fromkeys(SETTINGS.families, True), notification=True)
GOOD = {
    "OPEN": Open(64512, 90, THEIRS, _TOLD).encode(),
    "OPEN, graceful": Open(64512, 9, THEIRS, (*_TOLD, _GRACEFUL)).encode(),
    "OPEN without a hold time": Open(64512, 0, THEIRS, _TOLD).encode(),
    "KEEPALIVE": KEEPALIVE,
    "End-of-RIB": end_of_rib(Family.VPNV4),
    "Cease": Notification(6, 4).encode(),
    "half a message": KEEPALIVE[:10],
}


class Ledger:
    """The routes of the neighbour: only whether a session is up, and whether its routes outlive it."""

    def __init__(self) -> None:
        self.up_now: Negotiated | None = None
        self.outlived: Negotiated | None = None  # its routes stay

    def up(self, negotiated: Negotiated, now: float) -> None:
        assert self.up_now is None, "two sessions are established"
        self.up_now, self.outlived = negotiated, None

    def update(self, update: Update, now: float) -> None:
        assert self.up_now is not None, "an UPDATE without a session"

    def refresh(self, family: Family, now: float) -> None:
        assert self.up_now is not None

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        assert self.up_now is not None

    def disable(self, family: Family, now: float) -> None:
        assert self.up_now is not None

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        if self.up_now is None:
            assert (self.outlived, graceful) == (negotiated, False), "the end of a session that is not there"
        else:
            assert self.up_now is negotiated
            self.up_now = None
        self.outlived = negotiated if graceful else None

    def output(self, budget: int) -> bytes:
        return end_of_rib(Family.VPNV4)


class Stories(RuleBasedStateMachine):
    """One neighbour, and the connections that exist."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = Ledger()
        self.now = 0.0
        self.live: list[int] = []
        self.attempt = False
        self.numbers = itertools.count(1)

    @initialize(graceful=st.booleans(), passive=st.booleans(), higher=st.booleans())
    def configured(self, graceful: bool, passive: bool, higher: bool) -> None:
        router_id = bytes((192, 0, 2, 3)) if higher else OURS
        wanted = attrs.evolve(SETTINGS, restart_time_s=120 * graceful, passive=passive, router_id=router_id)
        self.peer = Peer("rr", wanted, self.routes, Interner(), lambda: 0.5)
        self.carry_out(self.peer.start(self.now))

    def carry_out(self, actions: list[PeerAction]) -> None:
        for action in actions:
            match action:
                case Connect():
                    assert not self.attempt, "two attempts at once"
                    self.attempt = True
                case Cancel():
                    assert self.attempt, "no attempt to be cancelled"
                    self.attempt = False
                case Send(connection, octets):
                    assert connection in self.live, "octets for a connection that is gone"
                    assert split(octets, EXTENDED_LIMIT)[1] == len(octets), "half a message"
                case Close(connection):
                    self.live.remove(connection)
                case Report(text):
                    line(text)

    def begin(self) -> int:
        number = next(self.numbers)
        self.live.append(number)
        return number

    @rule(step=st.sampled_from([0.0, 0.5, 3.0, 11.0, 95.0, 250.0]))
    def time_passes(self, step: float) -> None:
        self.now += step
        self.carry_out(self.peer.tick(self.now))

    @rule()
    def deadline_comes(self) -> None:
        deadline = self.peer.deadline()
        if deadline is not None:
            self.now = max(self.now, deadline)
            self.carry_out(self.peer.tick(self.now))
            later = self.peer.deadline()
            assert later is None or later > self.now, "a timer that stands still"

    @precondition(lambda self: self.attempt)
    @rule(answered=st.booleans())
    def attempt_ends(self, answered: bool) -> None:
        self.attempt = False
        if answered:
            self.carry_out(self.peer.connected(self.begin(), ADDRESS, self.now))
        else:
            self.carry_out(self.peer.refused("no route", self.now))

    @rule()
    def neighbour_connects(self) -> None:
        self.carry_out(self.peer.accept(self.begin(), ADDRESS, self.now))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 9), name=st.sampled_from(sorted(GOOD)))
    def good_octets_come(self, which: int, name: str) -> None:
        self.carry_out(self.peer.received(self.live[which % len(self.live)], GOOD[name], self.now))

    @rule(opening=st.sampled_from([each for each in sorted(GOOD) if each.startswith("OPEN")]))
    def session_comes_up(self, opening: str) -> None:
        connection = self.begin()
        self.carry_out(self.peer.accept(connection, ADDRESS, self.now))
        for octets in (GOOD[opening], KEEPALIVE, GOOD["End-of-RIB"]):
            self.carry_out(self.peer.received(connection, octets, self.now))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 9), seed=st.integers(0, 1 << 32))
    def hostile_octets_come(self, which: int, seed: int) -> None:
        octets = MUTATOR.stream(random.Random(seed), FORM)
        self.carry_out(self.peer.received(self.live[which % len(self.live)], octets, self.now))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 9))
    def connection_is_lost(self, which: int) -> None:
        connection = self.live[which % len(self.live)]
        self.carry_out(self.peer.lost(connection, "reset", self.now))
        assert connection not in self.live

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 9))
    def session_is_ended_from_outside(self, which: int) -> None:
        self.carry_out(self.peer.reset(self.live[which % len(self.live)], 6, 0, "internal error", self.now))

    @rule(hold_time_s=st.sampled_from([9, 90]))
    def settings_change(self, hold_time_s: int) -> None:
        self.carry_out(self.peer.change(attrs.evolve(self.peer.settings, hold_time_s=hold_time_s), self.now))

    @rule(graceful=st.booleans())
    def switched_off_and_on(self, graceful: bool) -> None:
        self.carry_out(self.peer.stop(self.now, graceful=graceful))
        assert not self.live
        assert not self.attempt
        assert self.peer.deadline() is None
        self.carry_out(self.peer.start(self.now))

    @invariant()
    def one_session_at_most_and_always_something_to_come(self) -> None:
        if not hasattr(self, "peer"):
            return
        peer = self.peer
        assert (self.routes.up_now is not None) == (peer.established is not None)
        assert peer.established is None or peer.established in self.live
        assert len(self.live) <= 3, "connections pile up"
        waits = peer.settings.passive or self.live or self.attempt
        assert waits or peer.deadline() is not None, "nothing will ever happen again"

    def teardown(self) -> None:
        if not hasattr(self, "peer"):
            return
        for connection in list(self.live):
            self.carry_out(self.peer.lost(connection, "reset", self.now))
        connection = self.begin()
        self.carry_out(self.peer.accept(connection, ADDRESS, self.now))
        self.carry_out(self.peer.received(connection, GOOD["OPEN"] + KEEPALIVE, self.now))
        assert self.peer.established == connection, "the first good OPEN is not served"
        self.carry_out(self.peer.stop(self.now))
        assert not self.live


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
