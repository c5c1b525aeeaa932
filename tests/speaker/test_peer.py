"""The stories of a neighbour, in tests/golden/peer-*.txt: what happened, and under it all that the peer did.

    # a comment
    settings name=value ...
    limit <family> <most> <restart_s>     the next UPDATE tells too many routes
    <time> <what happened>
        <what the peer did>
        wake <time>

GOLDEN=write in the environment writes what happens into the files instead of comparing it; read the difference then.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.errors import PrefixLimitReached
from speaker.peer import Action, Cancel, Close, Connect, Ends, Peer, Report, Send
from speaker.session import Down, Negotiated, Settings
from speaker.values import Family
from speaker.wire.attribute import Blocks, Context, Interner
from speaker.wire.message import Notification
from speaker.wire.update import Update
from tests.fakes.messages import message, read, write

GOLDEN = Path(__file__).parent.parent / "golden"

SETTINGS = Settings(
    local_as=64512,
    remote_as=64513,
    router_id=bytes((192, 0, 2, 1)),
    families=(Family.VPNV4,),
)
OPEN = "OPEN as=64513 id=192.0.2.2 families=vpnv4 as4=64513"


class Ledger:
    """Routes that write down what they are told, and say what they are given to say."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.to_say: list[bytes] = []
        self.limit: PrefixLimitReached | None = None

    def up(self, negotiated: Negotiated, now: float) -> None:
        self.lines.append(f"routes up {','.join(family.text for family in sorted(negotiated.families))}")

    def update(self, update: Update, now: float) -> None:
        if self.limit is not None:
            limit, self.limit = self.limit, None
            raise limit
        end = update.end_of_rib
        self.lines.append(f"routes update{'' if end is None else ' end-of-rib ' + Family(end).text}")

    def refresh(self, family: Family, now: float) -> None:
        self.lines.append(f"routes refresh {family.text}")

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        self.lines.append(f"routes refreshing {family.text} {'begins' if begins else 'ends'}")

    def disable(self, family: Family, now: float) -> None:
        self.lines.append(f"routes disable {family.text}")

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        self.lines.append(f"routes down{' graceful' if graceful else ''}")

    def output(self, budget: int) -> bytes:
        return self.to_say.pop(0) if self.to_say else b""


def peer_with(settings: Settings = SETTINGS, chance: Callable[[], float] = lambda: 0.0) -> tuple[Peer, Ledger]:
    routes = Ledger()
    return Peer("p", settings, routes, Interner(), chance), routes


def words(action: Action) -> list[str]:
    """What a peer asks for, in words."""
    match action:
        case Send(connection, octets):
            return [f"send {connection} {text}" for text in read(octets)]
        case Close(connection):
            return [f"close {connection}"]
        case Report(text, warning):
            return [f"{'warn' if warning else 'log'} {text}"]
        case Connect():
            return ["connect"]
        case Cancel():
            return ["cancel"]


def told(actions: list[Action]) -> list[str]:
    return [word for action in actions for word in words(action)]


def happen(peer: Peer, now: float, text: str) -> list[Action]:
    """Let an event of a transcript happen."""
    event, *rest = shlex.split(text)
    match event:
        case "start":
            return peer.start(now)
        case "stop":
            return peer.stop(now, text=" ".join(rest))
        case "stop-gracefully":
            return peer.stop(now, graceful=True)
        case "connected":
            return peer.connected(int(rest[0]), "192.0.2.2", now)
        case "accept":
            return peer.accept(int(rest[0]), "192.0.2.2", now)
        case "refused":
            return peer.refused(" ".join(rest), now)
        case "receive":
            octets = b"".join(write(each) for each in " ".join(rest[1:]).split(" + "))
            return peer.received(int(rest[0]), octets, now)
        case "lost":
            return peer.lost(int(rest[0]), " ".join(rest[1:]), now)
        case "tick":
            return peer.tick(now)
        case "change":
            return peer.change(settings_of(peer.settings, rest), now)
    raise ValueError(f"no such event: {text!r}")


def settings_of(settings: Settings, fields: list[str]) -> Settings:
    changes: dict[str, object] = {}
    for field in fields:
        name, _, value = field.partition("=")
        match name:
            case "router_id":
                changes[name] = IPv4Address(value).packed
            case "families":
                changes[name] = tuple(Family.parse(each) for each in value.split(","))
            case "passive":
                changes[name] = value == "yes"
            case "host_name":
                changes[name] = value
            case _:
                changes[name] = int(value)
    return attrs.evolve(settings, **changes)


def play(script: str) -> str:
    """The transcript of what a script makes happen; what stands under the events in it is not looked at."""
    peer: Peer | None = None
    routes = Ledger()
    settings, start = SETTINGS, {"restarting": False, "forwarding": frozenset[Family]()}
    lines: list[str] = []
    for line in script.splitlines():
        if line.startswith(" "):
            continue
        lines.append(line)
        if not line or line.startswith("#"):
            continue
        first, _, rest = line.partition(" ")
        if first == "settings":
            settings = settings_of(settings, rest.split())
        elif first == "limit":
            family, most, restart_s = rest.split()
            routes.limit = PrefixLimitReached(Family.parse(family), int(most), float(restart_s))
        elif first == "restarted":
            start = {"restarting": True, "forwarding": frozenset(Family.parse(each) for each in rest.split(","))}
        else:
            peer = peer or Peer("192.0.2.2", settings, routes, Interner(), lambda: 0.0, **start)  # type: ignore[arg-type]
            actions = happen(peer, float(first), rest)
            done = told(actions) + routes.lines
            routes.lines.clear()
            wake = peer.deadline()
            done.append(f"[{peer.state}]" + ("" if wake is None else f" wake {wake:g}"))
            lines += [f"    {each}" for each in done]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("peer-*.txt")), ids=lambda path: path.stem)
def test_the_story_is_told_as_written(path: Path) -> None:
    script = path.read_text()
    played = play(script)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(played)
    assert played == script


def test_there_are_stories() -> None:
    assert len(list(GOLDEN.glob("peer-*.txt"))) >= 8


def test_the_back_off_doubles_to_its_limit_with_jitter() -> None:
    for failure, limit in [("unanswered", 5.0), ("flap", 60.0)]:
        for chance, factor in [(0.0, 1.0), (0.999999, 0.75)]:
            peer, _ = peer_with(chance=lambda chance=chance: chance)  # type: ignore[misc]
            now, delays = 0.0, []
            peer.start(now)
            for connection in range(1, 10):
                if failure == "unanswered":
                    peer.refused("Connection refused", now)
                else:
                    peer.connected(connection, "192.0.2.2", now)
                    peer.received(connection, write("NOTIFICATION 6/5"), now)
                wake = peer.deadline()
                assert wake is not None
                delays.append(wake - now)
                now = wake
                assert told(peer.tick(now)) == ["connect"]
            expected = [min(2.0**n, limit) * factor for n in range(9)]
            assert delays == pytest.approx(expected, abs=1e-3), (failure, chance)


def test_a_session_that_lived_clears_the_back_off() -> None:
    peer, _ = peer_with()
    now = 0.0
    peer.start(now)
    waits = []
    for connection, lived_s in enumerate([1.0, 1.0, 1.0, 20.0, 1.0], 1):
        peer.connected(connection, "192.0.2.2", now)
        peer.received(connection, write(OPEN) + write("KEEPALIVE"), now)
        assert peer.state == "established"
        now += lived_s
        peer.lost(connection, "Connection reset by peer", now)
        wake = peer.deadline()
        assert wake is not None
        waits.append(wake - now)
        now = wake
        peer.tick(now)
    assert waits == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_a_peer_that_is_off_refuses_connections() -> None:
    peer, _ = peer_with()
    assert told(peer.accept(1, "192.0.2.2", 0.0)) == ["send 1 NOTIFICATION 6/5", "close 1"]
    peer.start(0.0)
    peer.stop(1.0)
    assert told(peer.connected(2, "192.0.2.2", 1.0)) == ["close 2"]
    assert peer.state == "idle"
    assert peer.deadline() is None


def test_routes_are_said_on_the_established_connection_only() -> None:
    peer, routes = peer_with()
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    routes.to_say = [write("END-OF-RIB vpnv4") + write("ROUTE-REFRESH vpnv4")]
    assert peer.output(1, 1000) == b""
    peer.received(1, write(OPEN) + write("KEEPALIVE"), 0.0)
    peer.accept(2, "192.0.2.2", 0.0)
    assert peer.output(2, 1000) == b""
    before = peer.counters.messages_out
    assert read(peer.output(1, 1000)) == ["END-OF-RIB vpnv4", "ROUTE-REFRESH vpnv4"]
    assert peer.output(1, 1000) == b""
    assert peer.counters.messages_out == before + 2


def test_counters_tell_what_happened() -> None:
    peer, _ = peer_with()
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    peer.received(1, write(OPEN) + write("KEEPALIVE") + write("END-OF-RIB vpnv4"), 0.0)
    peer.received(1, write("NOTIFICATION 6/2 041b5b324a"), 3.0)
    counters = peer.counters
    assert (counters.messages_in, counters.messages_out, counters.updates_in) == (4, 2, 1)
    assert (counters.connects, counters.established, counters.flaps) == (1, 1, 1)
    assert counters.last_down == "the peer sent Cease, administrative shutdown (6/2): '\\\\x1b[2J'"
    assert counters.last_down_at == 3.0


def test_how_the_last_session_ended_is_there_when_its_routes_go_down() -> None:
    class Watching(Ledger):
        seen: Down | None = None

        def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
            self.seen = peer.last_end

    for event, local, sent, received in [
        ("lost 1 reset", False, None, None),
        ("stop-gracefully", True, None, None),
        ("stop noon", True, Notification(6, 2, b"\4noon"), None),
        ("receive 1 NOTIFICATION 6/4", False, None, Notification(6, 4)),
        ("receive 1 RAW 00000000000000000000000000000000001304", True, Notification(1, 1), None),
    ]:
        routes = Watching()
        peer = Peer("p", SETTINGS, routes, Interner(), lambda: 0.0)
        peer.start(0.0)
        peer.connected(1, "192.0.2.2", 0.0)
        assert peer.last_end is None
        peer.received(1, write(OPEN) + write("KEEPALIVE"), 0.0)
        happen(peer, 1.0, event)
        assert routes.seen is not None, event
        assert (routes.seen.local, routes.seen.sent, routes.seen.received) == (local, sent, received), event


def test_an_attempt_that_fails_is_not_the_end_of_a_session() -> None:
    peer, _ = peer_with()
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    peer.received(1, write("NOTIFICATION 6/5"), 0.0)
    assert peer.last_end is None


def test_the_ends_of_the_established_connection_are_known() -> None:
    peer, _ = peer_with()
    peer.start(0.0)
    ends = [Ends(("192.0.2.1", port), ("192.0.2.2", 179)) for port in (40000, 40001)]
    peer.connected(1, "192.0.2.2", 0.0, ends[0])
    peer.accept(2, "192.0.2.2", 0.0, ends[1])
    assert peer.ends is None
    peer.received(2, write(OPEN) + write("KEEPALIVE"), 0.0)
    assert peer.ends == ends[1]
    peer.lost(2, "reset", 0.0)
    assert peer.ends is None


def test_the_last_malformed_messages_are_kept_whole_up_to_a_bound() -> None:
    peer, _ = peer_with()
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    peer.received(1, write(OPEN) + write("KEEPALIVE"), 0.0)
    family_unknown = message(2, bytes.fromhex("0000 0006 800f03 0002 01"))  # withdraws IPv6 routes: End-of-RIB of it
    for second in range(20):
        peer.received(1, family_unknown, float(second))
    assert [at for at, _ in peer.malformed] == [float(second) for second in range(4, 20)]
    assert {each.octets for _, each in peer.malformed} == {family_unknown}
    assert "AFI 2 SAFI 1" in peer.malformed[-1][1].reason
    assert peer.state == "established"
    giant = message(2, b"\xff\xff" + bytes(5000))
    peer.received(1, giant, 20.0)
    at, malformed = peer.malformed[-1]
    assert (at, malformed.octets, malformed.length) == (20.0, giant[:4096], len(giant))
    assert peer.state == "active"
    peer.tick(23.0)
    peer.connected(2, "192.0.2.2", 23.0)
    peer.received(2, b"GET / HTTP/1.1\r\n\r\n\r\n", 23.0)
    assert peer.malformed[-1][1].octets == b"GET / HTTP/1.1\r\n\r\n\r\n"
    assert "marker" in peer.malformed[-1][1].reason


def test_all_malformed_routes_of_an_UPDATE_are_counted_also_those_that_are_not_told() -> None:
    peer, _ = peer_with()
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    peer.received(1, write(OPEN) + write("KEEPALIVE"), 0.0)
    stacks = b"".join(bytes.fromhex("70000640000641 0000fc00000000") + bytes((n,)) for n in range(100))
    reach = bytes.fromhex("000180 0c 0000000000000000c0000201 00") + stacks
    attributes = bytes.fromhex("40010100 400206 02010000fc01 900e") + len(reach).to_bytes(2, "big") + reach
    peer.received(1, message(2, b"\0\0" + len(attributes).to_bytes(2, "big") + attributes), 1.0)
    assert peer.counters.malformed == 100


class Unreadable(Interner):
    """An interner that breaks every attribute block: a fault of ours that no octets should be able to cause."""

    def received(self, context: Context) -> Blocks:
        raise ZeroDivisionError(context)


def test_a_fault_in_a_parser_ends_that_session_says_where_and_keeps_the_message() -> None:
    peer = Peer("p", SETTINGS, Ledger(), Unreadable(), lambda: 0.0)
    peer.start(0.0)
    peer.connected(1, "192.0.2.2", 0.0)
    words = told(peer.received(1, write(OPEN) + write("KEEPALIVE"), 0.0))
    assert words[:2] == ["send 1 NOTIFICATION 6/0", "close 1"]
    assert "ZeroDivisionError" in words[2]
    assert "Unreadable.received, line " in words[2]
    ((_, malformed),) = peer.malformed
    assert malformed.octets == write(OPEN)
    assert told(peer.tick(1.0)) == ["connect"]


class Failing(Ledger):
    """Routes that fail, once, at one call."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call = call

    def _fail(self, call: str) -> None:
        if self.call == call:
            self.call = ""
            raise RuntimeError(call)

    def up(self, negotiated: Negotiated, now: float) -> None:
        self._fail("up")
        super().up(negotiated, now)

    def update(self, update: Update, now: float) -> None:
        self._fail("update")
        super().update(update, now)

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        self._fail("down")
        super().down(negotiated, graceful, now)


def test_an_exception_in_the_routes_leaves_a_peer_that_can_be_reset_and_comes_back() -> None:
    for call in ("up", "update", "down"):
        peer = Peer("p", SETTINGS, Failing(call), Interner(), lambda: 0.0)
        peer.start(0.0)
        peer.connected(1, "192.0.2.2", 0.0)
        with pytest.raises(RuntimeError):
            peer.received(1, b"".join(map(write, (OPEN, "KEEPALIVE", "END-OF-RIB vpnv4", "NOTIFICATION 6/4"))), 0.0)
        assert "close 1" in told(peer.reset(1, 6, 0, "internal error", 0.0)), call
        assert peer.state == "active"
        assert told(peer.tick(1.0)) == ["connect"]


EVENTS = [
    "connected",
    "accept",
    "refused unreachable",
    "open",
    "keepalive",
    "eor",
    "notification",
    "open, then notification",
    "lost",
    "tick",
]


@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2), st.integers(0, 40)), max_size=60),
    st.booleans(),
    st.booleans(),
)
def test_in_any_order_of_events_at_most_one_connection_is_established_and_none_is_forgotten(
    events: list[tuple[str, int, int]], graceful: bool, higher: bool
) -> None:
    settings = attrs.evolve(
        SETTINGS, restart_time_s=120 if graceful else 0, router_id=b"\xc0\0\2\x03" if higher else b"\xc0\0\2\1"
    )
    peer, routes = peer_with(settings)
    messages = {
        "open": write(OPEN + " restart=60:vpnv4+" if graceful else OPEN),
        "keepalive": write("KEEPALIVE"),
        "eor": write("END-OF-RIB vpnv4"),
        "notification": write("NOTIFICATION 6/4"),
    }
    numbers = itertools.count(1)
    live: list[int] = []  # connections that exist, as the transport would know them
    attempt = False
    now = 0.0

    def carry_out(actions: list[Action]) -> None:
        nonlocal attempt
        for action in actions:
            match action:
                case Connect():
                    assert not attempt
                    attempt = True
                case Cancel():
                    assert attempt
                    attempt = False
                case Send(connection):
                    assert connection in live
                case Close(connection):
                    live.remove(connection)

    carry_out(peer.start(now))
    for event, which, step in events:
        now += step
        match event:
            case "connected" if attempt:
                attempt = False
                live.append(next(numbers))
                carry_out(peer.connected(live[-1], "192.0.2.2", now))
            case "accept":
                live.append(next(numbers))
                carry_out(peer.accept(live[-1], "192.0.2.2", now))
            case "refused unreachable" if attempt:
                attempt = False
                carry_out(peer.refused("unreachable", now))
            case "lost" if live:
                connection = live[which % len(live)]
                carry_out(peer.lost(connection, "reset", now))
                assert connection not in live
            case "open" | "keepalive" | "eor" | "notification" | "open, then notification" if live:
                octets = b"".join(messages[each] for each in event.split(", then "))
                carry_out(peer.received(live[which % len(live)], octets, now))
            case "tick":
                carry_out(peer.tick(now))
        ups, downs = routes.lines.count("routes up vpnv4"), sum(line.startswith("routes down") for line in routes.lines)
        assert ups - downs == (peer.established is not None)
        assert len(live) <= 3
        assert live or attempt or peer.deadline() is not None, "nothing will ever happen again"
        if peer.established is not None:
            assert peer.established in live
    carry_out(peer.stop(now))
    assert live == []
    assert not attempt
