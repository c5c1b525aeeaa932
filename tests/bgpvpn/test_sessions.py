from __future__ import annotations

import attrs
import pytest

from bgpvpn import sessions
from bgpvpn.objects import Peer as Wish
from speaker.engine import Engine
from speaker.peer import Peer
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Settings
from speaker.values import Family
from speaker.wire.attribute import Interner
from tests.fakes.messages import write

ADDRESS = "192.0.2.100"
WISH = Wish(id="rr", name="rr1", address=ADDRESS, remote_as=64512)
SETTINGS = Settings(
    local_as=64512, remote_as=64512, router_id=b"\xc0\0\2\1", families=(Family.VPNV4, Family.EVPN), restart_time_s=120
)
OPEN = "OPEN as=64512 as4=64512 hold=30 id=192.0.2.100 families=vpnv4,evpn,ipv4 restart=60:vpnv4+"


class Line:
    """A peer and what its neighbour says, without a socket."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.rib = Rib()
        interner = Interner()
        self.engine = Engine(self.rib, Interest(), Own(b"\xc0\0\2\1", frozenset({64512}), frozenset()), interner)
        self.peer = Peer("rr1", settings, self.engine.add(ADDRESS), interner, lambda: 0.0)
        self.peer.start(0.0)
        self.now = 10.0

    def hear(self, *texts: str) -> None:
        """Connect if that is not so yet, and let the neighbour say something."""
        if self.peer.state in ("connect", "active"):
            self.peer.connected(1, ADDRESS, self.now)
        for text in texts:
            self.peer.received(1, write(text), self.now)

    def plain(self) -> sessions.Plain:
        return sessions.session(WISH, ADDRESS, self.peer, self.engine.neighbours[ADDRESS], self.rib, self.now + 5)


def test_a_session_is_told_with_what_was_agreed() -> None:
    line = Line()
    before = line.plain()
    line.hear(OPEN, "KEEPALIVE", "END-OF-RIB vpnv4")
    after = line.plain()
    assert set(after) - set(before) == {
        "remote_router_id",
        "remote_host_name",
        "hold_time_s",
        "graceful_restart_s",
        "end_of_rib_in",
        "end_of_rib_out",
        "agreed",
    }
    for field, values in {
        "peer": ("rr1", "rr1"),
        "address": (ADDRESS, ADDRESS),
        "state": ("connect", "established"),
        "since_s": (15.0, 5.0),
        "families": ([], ["evpn", "vpnv4"]),
        "synced": (False, False),
        "established": (0, 1),
        "messages_in": (0, 3),
        "updates_in": (0, 1),
        "hold_time_s": (None, 30),
        "remote_router_id": (None, ADDRESS),
        "graceful_restart_s": (None, 60),
        "end_of_rib_in": (None, ["vpnv4"]),
    }.items():
        assert (before.get(field), after.get(field)) == values, field
    line.hear("END-OF-RIB evpn")
    assert line.plain()["synced"]


def test_what_both_ends_can_is_told() -> None:
    line = Line(
        attrs.evolve(
            SETTINGS,
            remote_as=64513,
            long_lived_s=60,
            role="customer",
            add_path_receive=frozenset({Family.VPNV4, Family.EVPN}),
            add_path_send=frozenset({Family.EVPN}),
        )
    )
    line.hear(
        "OPEN as=64513 as4=64513 hold=30 id=192.0.2.100 families=vpnv4,evpn restart=60N:vpnv4+ refresh enhanced long "
        "hop6=vpnv4 paths=vpnv4:2,evpn:1 role=0 stale=vpnv4+:3600",
        "KEEPALIVE",
    )
    assert line.plain()["agreed"] == {
        "as4": True,
        "route_refresh": True,
        "enhanced_refresh": True,
        "message_octets": 65535,
        "graceful_notification": True,
        "long_lived_s": {"vpnv4": 3600},
        "add_path_receive": ["vpnv4"],
        "add_path_send": ["evpn"],
        "extended_next_hop": ["vpnv4"],
        "role": "customer",
    }


def test_what_an_external_peer_lacks_is_said_for_each_direction_and_family() -> None:
    external = attrs.evolve(WISH, remote_as=64513)
    for wish, said in (
        (WISH, ""),
        (attrs.evolve(external, import_policy="accept", export_policy="p"), ""),
        (
            attrs.evolve(external, export_policy="accept"),
            "no import policy: all routes of this external peer are rejected (RFC 8212)",
        ),
        (
            attrs.evolve(external, import_policy={"vpnv4": "p"}, export_policy="accept"),
            "no import policy for vpnv6, evpn: its routes are rejected (RFC 8212)",
        ),
        (
            attrs.evolve(external, import_policy="accept", export_policy={"vpnv4": "p", "vpnv6": "p"}),
            "no export policy for evpn: it is told none (RFC 8212)",
        ),
    ):
        assert sessions.without_policy(wish, 64512) == said


@pytest.mark.parametrize(
    ("text", "field", "shown"),
    [
        (OPEN + r" name=pe\x1b[2J\x07", "remote_host_name", r"pe\x1b[2J\x07"),
        (OPEN + r" name=" + "a" * 200, "remote_host_name", "a" * 200),
    ],
)
def test_what_a_peer_calls_itself_is_escaped(text: str, field: str, shown: str) -> None:
    line = Line()
    line.hear(text, "KEEPALIVE")
    assert line.plain()[field] == shown


@pytest.mark.parametrize("established", [True, False])
@pytest.mark.parametrize(
    "text", [b"\x1b]0;owned\a\n", "\u202egnp.exe".encode(), b"\xff\xfe", b"two\r\nlines", b"\0", b"a" * 128]
)
def test_what_a_peer_says_at_the_end_is_one_printable_line(text: bytes, established: bool) -> None:
    line = Line()
    line.hear(OPEN, *(["KEEPALIVE"] if established else []))
    line.hear(f"NOTIFICATION 6/2 {len(text):02x} {text.hex()}")
    plain = line.plain()
    told = plain["last_down" if established else "last_error"]
    assert told.startswith("the peer sent Cease, administrative shutdown (6/2)")
    assert told.isprintable()
    assert len(told) < 600
    assert sessions.verdict(WISH, line.peer) == ("PENDING", f"active; {told}")


@pytest.mark.parametrize(
    ("wish", "texts", "expected"),
    [
        (WISH, None, ("PENDING", "not started")),
        (WISH, [], ("PENDING", "open-sent")),
        (WISH, [OPEN], ("PENDING", "open-confirm")),
        (WISH, [OPEN, "KEEPALIVE"], ("ACTIVE", "")),
        (attrs.evolve(WISH, admin_state_up=False), [OPEN, "KEEPALIVE"], ("DOWN", "administratively down")),
        (WISH, [OPEN.replace("as4=64512", "as4=1")], ("PENDING", "active; the peer's AS is 1, not 64512; sent")),
    ],
)
def test_the_session_decides_the_status_of_a_peer(
    wish: Wish, texts: list[str] | None, expected: tuple[str, str]
) -> None:
    line = Line()
    if texts is not None:
        line.hear(*texts)
    state, reason = sessions.verdict(wish, None if texts is None else line.peer)
    assert (state, reason[: len(expected[1])]) == expected
