"""The daemon with peers that load it, stop reading, flap, or leave it no descriptor: counts and states, not times."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import pytest

from lab.generator import Plan, route_target
from speaker.values import Family, RouteTarget
from speaker.wire.attribute import Interner, make
from speaker.wire.message import KEEPALIVE
from speaker.wire.update import encode_updates, end_of_rib
from tests.reliability.daemon import Daemon, Peer, busy_processors, until
from tests.reliability.neighbour import Neighbour, dial, opening

GOOD, OTHER, THIRD, STRANGER = "127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.9.9"
VPNV4 = 'families = ["vpnv4"]'
SHORT = VPNV4 + "\nhold_time_s = 3"
END = end_of_rib(Family.VPNV4)
TARGETS = [*map(route_target, range(10))]
BASE_MB = 60.0
"""What a daemon without routes may take."""

ROUTE_MB = 1e-3
"""What one more route of a peer may take, imported and with its row, or passed on."""


def announcement(routes: int, vpns: int = 10) -> bytes:
    return b"".join(Plan(routes, vpns).announcement(0)) + END


@pytest.mark.parametrize(
    ("routes", "times", "hold_s"),
    [(100_000, 1, 3), pytest.param(500_000, 2, 9, marks=pytest.mark.long)],
    ids=["100000", "500000"],
)
def test_no_session_is_lost_while_routes_arrive_and_the_processors_are_busy(
    tmp_path: Path, routes: int, times: int, hold_s: int
) -> None:
    """All routes are told, and so many times withdrawn and told again, which takes longer than the hold time."""
    plan = Plan(routes, len(TARGETS))
    told, untold = list(plan.announcement(0)), list(plan.withdrawal(0))
    messages = told + (untold + told) * times + [END]
    hold = f"{VPNV4}\nhold_time_s = {hold_s}"
    with Daemon.running(tmp_path, Peer(GOOD, hold), Peer(OTHER, hold), level="warning") as daemon:
        daemon.wish_for_vpns(*TARGETS)
        with Neighbour(daemon.port, GOOD, hold_s=hold_s) as good, Neighbour(daemon.port, OTHER, hold_s=hold_s) as loads:
            good.tell(END)
            before = good.keepalives
            begin = time.monotonic()
            with busy_processors(120):
                loads.tell(b"".join(messages))
                daemon.becomes(OTHER, "updates_in", len(messages), 120)
            seconds = time.monotonic() - begin
            used = daemon.usage()
            print(f"{routes} routes told {times + 1} times in {seconds:.1f} s, peak {used.peak_mb:.0f} MB")
            until(lambda: good.keepalives - before >= int(seconds / hold_s), "a KEEPALIVE came in every hold time", 1)
            assert not good.ended
            assert not loads.ended
            for address in (GOOD, OTHER):
                assert (daemon.session(address)["flaps"], daemon.session(address)["established"]) == (0, 1)
            assert daemon.routes_in(OTHER) == routes
            assert used.peak_mb < BASE_MB + routes * ROUTE_MB


def test_peer_that_reads_nothing_costs_bounded_memory_and_holds_up_nobody(tmp_path: Path) -> None:
    """It is sent all routes of a reflector, goes on with its KEEPALIVEs, and is given up after twice the hold time."""
    routes = 30_000
    client = SHORT + "\nroute_reflector_client = true"
    peers = [Peer(address, client) for address in (GOOD, OTHER, THIRD)]
    with (
        Daemon.running(tmp_path, *peers, level="warning") as daemon,
        Neighbour(daemon.port, GOOD, hold_s=3) as reads,
        Neighbour(daemon.port, OTHER, hold_s=3) as says,
        Neighbour(daemon.port, THIRD, hold_s=3, receive_octets=4096, reads=False) as stuck,
    ):
        for each in (reads, says, stuck):
            each.tell(END)
        says.tell(announcement(routes))
        until(lambda: reads.routes == routes, "the routes arrive at who reads")
        assert daemon.session(THIRD)["state"] == "established", "while the other one is stuck"
        before = daemon.usage()
        until(lambda: daemon.session(THIRD)["flaps"] == 1, "the stuck session is ended", 15)
        assert "8/0" in daemon.session(THIRD)["last_down"] or "send hold" in daemon.session(THIRD)["last_down"]
        print(f"{routes} routes reflected, peak {before.peak_mb:.0f} MB while one peer was stuck")
        assert daemon.usage().peak_mb < before.peak_mb + 10
        assert before.peak_mb < BASE_MB + routes * ROUTE_MB
        assert reads.routes == routes
        assert [daemon.session(address)["flaps"] for address in (GOOD, OTHER)] == [0, 0]


@pytest.mark.parametrize("times", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_kernel_is_told_settled_states_and_not_each_change(tmp_path: Path, times: int) -> None:
    """One route, announced again and again with another label and another next hop."""
    interner = Interner()
    key = bytes.fromhex("0000fc00000003e8") + bytes((16, 0, 0, 24))
    ways = [
        make(
            interner,
            next_hop=bytes((192, 0, 2, 10 + number)),
            local_pref=100 + number,
            ext_communities=(RouteTarget.parse(route_target(0)).wire,),
        )
        for number in range(100)
    ]
    turn = b"".join(
        b"".join(encode_updates(Family.VPNV4, way, [(key, ((16 + n) << 4 | 1).to_bytes(3, "big"))], as4=True))
        for n, way in enumerate(ways)
    )
    with Daemon.running(tmp_path, Peer(GOOD, VPNV4), level="warning") as daemon:
        daemon.wish_for_vpns(route_target(0))
        with Neighbour(daemon.port, GOOD) as peer:
            peer.tell(END)
            until(lambda: daemon.api.get("status")["synced"], "all is known")
            written, used = daemon.kernel_messages(), daemon.usage()
            peer.tell(turn * (times // len(ways)))
            daemon.becomes(GOOD, "updates_in", times + 1, 120)
            messages = daemon.kernel_messages() - written
            print(f"{messages} messages to the kernel for {times} changes of a route")
            assert 0 < messages < times / 50
            assert daemon.usage().peak_mb < used.peak_mb + 20
            assert daemon.routes_in(GOOD) == 1


def test_a_flap_leaves_nothing_behind_and_the_first_good_OPEN_is_served(tmp_path: Path) -> None:
    octets = announcement(100)
    with (
        Daemon.running(tmp_path, Peer(GOOD, VPNV4), Peer(OTHER, VPNV4)) as daemon,
        Neighbour(daemon.port, GOOD) as good,
    ):
        daemon.wish_for_vpns(*TARGETS)
        good.tell(END)

        def flap(times: int) -> None:
            for _ in range(times):
                flaps = daemon.session(OTHER)["flaps"]
                with Neighbour(daemon.port, OTHER) as peer:
                    peer.tell(octets)
                    peer.told()
                daemon.becomes(OTHER, "flaps", flaps + 1)  # or its next connection would collide with this one

        flap(20)
        before, open_files = daemon.usage(), daemon.descriptors()
        flap(180)
        until(lambda: daemon.descriptors() <= open_files, "no descriptor is left open")
        print(f"{daemon.usage().rss_mb - before.rss_mb:.1f} MB more after 180 flaps")
        assert daemon.usage().rss_mb < before.rss_mb + 5
        assert daemon.routes_in(OTHER) == 0
        begin = time.monotonic()
        with Neighbour(daemon.port, OTHER) as peer:
            peer.tell(octets)
            until(lambda: daemon.routes_in(OTHER) == 100, "the good session is served", 5)
        assert time.monotonic() - begin < 5
        assert (good.ended, daemon.session(GOOD)["flaps"]) == (False, 0)


def test_without_descriptors_sessions_live_on_and_who_waits_is_served_later(tmp_path: Path) -> None:
    with (
        Daemon.running(tmp_path, Peer(GOOD, SHORT), Peer(OTHER, SHORT), Peer(THIRD, SHORT)) as daemon,
        Neighbour(daemon.port, GOOD, hold_s=3) as good,
        Neighbour(daemon.port, OTHER, hold_s=3) as other,
    ):
        daemon.wish_for_vpns(*TARGETS)
        daemon.may_open(0)
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(dial(daemon.port, STRANGER))
            waiting = stack.enter_context(dial(daemon.port, THIRD))
            heard = good.keepalives
            until(lambda: good.keepalives >= heard + 5, "KEEPALIVEs come for longer than a hold time")
            assert 1 <= daemon.log().count("accept=paused") < 20, "it pauses, and does not spin"
            good.tell(announcement(50))
            daemon.may_open(None)
            until(lambda: daemon.routes_in(GOOD) == 50, "routes are taken")
            waiting.sendall(opening(THIRD, hold_s=3) + KEEPALIVE)
            daemon.becomes(THIRD, "established", 1)
        assert not good.ended
        assert not other.ended
        assert [daemon.session(address)["flaps"] for address in (GOOD, OTHER)] == [0, 0]


def test_a_stop_longer_than_the_hold_time_costs_only_sessions_that_are_lost(tmp_path: Path) -> None:
    """What the peers said meanwhile is read first; who said nothing is given up, once."""
    with (
        Daemon.running(tmp_path, Peer(GOOD, SHORT), Peer(OTHER, SHORT)) as daemon,
        Neighbour(daemon.port, GOOD, hold_s=3) as good,
    ):
        daemon.wish_for_vpns(*TARGETS)
        good.tell(announcement(50))
        silent = dial(daemon.port, OTHER)
        with silent:
            silent.sendall(opening(OTHER, hold_s=3) + KEEPALIVE)
            daemon.becomes(OTHER, "state", "established")
            daemon.becomes(GOOD, "routes_in", {"vpnv4": 50})
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(5)  # it is the fault that lasts so long, not a wait for something
            daemon.process.send_signal(signal.SIGCONT)
            daemon.becomes(OTHER, "flaps", 1)
        assert "hold timer" in daemon.session(OTHER)["last_down"]
        heard = good.keepalives
        until(lambda: good.keepalives > heard + 1, "the session goes on")
        assert (daemon.session(GOOD)["flaps"], daemon.routes_in(GOOD)) == (0, 50)
        assert daemon.log().count(f"peer={OTHER} session=down") == 1


def test_connections_that_say_nothing_take_no_state_and_keep_nobody_out(tmp_path: Path) -> None:
    with (
        Daemon.running(tmp_path, Peer(GOOD, VPNV4), Peer(OTHER, VPNV4)) as daemon,
        Neighbour(daemon.port, GOOD) as good,
        contextlib.ExitStack() as stack,
    ):
        daemon.wish_for_vpns(*TARGETS)
        good.tell(announcement(50))
        before = daemon.descriptors()
        for _ in range(100):
            stack.enter_context(dial(daemon.port, OTHER))
            stranger = stack.enter_context(dial(daemon.port, STRANGER))
            assert stranger.recv(100) == b"", "a stranger is closed without a word"
        until(lambda: daemon.descriptors() <= before + 2, "one connection of the peer is left")
        late = stack.enter_context(dial(daemon.port, OTHER))
        late.sendall(opening(OTHER) + KEEPALIVE)
        daemon.becomes(OTHER, "state", "established")
        assert (good.ended, daemon.session(GOOD)["flaps"], daemon.routes_in(GOOD)) == (False, 0, 50)
        lines = [line for line in daemon.log().splitlines() if "no peer has this address" in line]
        assert 1 <= len(lines) < 5, "a hundred strangers are told in few lines"
        lines = [line for line in daemon.log().splitlines() if f"peer={OTHER}" in line]
        assert len(lines) < 10, "a hundred connections are told in few lines"
