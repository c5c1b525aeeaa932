from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.session import (
    Action,
    Disabled,
    Down,
    Negotiated,
    Refresh,
    Routes,
    Send,
    Session,
    Settings,
    describe,
    escape,
)
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.message import Notification
from tests.fakes.messages import message, read, write

OURS = Settings(
    local_as=64512,
    remote_as=64513,
    router_id=bytes((192, 0, 2, 1)),
    families=(Family.VPNV4, Family.EVPN),
    hold_time_s=90,
)
IBGP = attrs.evolve(OURS, remote_as=64512)
GRACEFUL = attrs.evolve(OURS, restart_time_s=120)
OPEN = "OPEN as=64513 hold=90 id=192.0.2.2 families=vpnv4,evpn refresh as4=64513"


def told(actions: list[Action]) -> list[str]:
    """Actions in words."""
    words: list[str] = []
    for action in actions:
        match action:
            case Send(octets):
                words += read(octets)
            case Routes(update):
                words.append(f"routes end_of_rib={update.end_of_rib} errors={len(update.errors)}")
            case Refresh(family) | Disabled(family):
                words.append(f"{type(action).__name__.lower()} {family.text}")
            case _:
                words.append(type(action).__name__.lower())
    return words


def session_in(state: str, settings: Settings = OURS, opening: str = OPEN) -> Session:
    """A session that came to this state at time 0."""
    session = Session(settings, Interner())
    session.connected(0.0)
    if state != "open-sent":
        session.received(write(opening), 0.0)
    if state == "established":
        session.received(write("KEEPALIVE"), 0.0)
    assert session.state == state, opening
    return session


def agreed(settings: Settings, opening: str) -> Negotiated:
    """What a session with these two OPENs agrees on."""
    negotiated = session_in("established", settings, opening).negotiated
    assert negotiated is not None
    return negotiated


def down(actions: list[Action]) -> Down:
    """The end among actions."""
    (action,) = [action for action in actions if isinstance(action, Down)]
    return action


def test_a_session_comes_up_by_OPEN_and_KEEPALIVE_of_both_ends() -> None:
    session = Session(OURS, Interner())
    assert session.state == "connect"
    assert told(session.connected(0.0)) == [
        "OPEN as=64512 hold=90 id=192.0.2.1 families=vpnv4,evpn refresh enhanced long as4=64512 hop6=vpnv4"
    ]
    assert session.state == "open-sent"
    assert told(session.received(write(OPEN), 0.1)) == ["opened", "KEEPALIVE"]
    assert session.state == "open-confirm"
    assert told(session.received(write("KEEPALIVE"), 0.2)) == ["up"]
    assert session.state == "established"
    assert told(session.received(write("END-OF-RIB vpnv4"), 0.3)) == [f"routes end_of_rib={Family.VPNV4} errors=0"]


def test_our_OPEN_says_what_is_configured() -> None:
    forwarding = frozenset({Family.VPNV4})
    always = "refresh enhanced long"
    for changes, restarting, expected in [
        ({"local_as": 4200000000}, False, "as=23456 hold=90 families=vpnv4,evpn as4=4200000000 hop6=vpnv4"),
        (
            {"host_name": "node1", "hold_time_s": 0},
            False,
            "as=64512 hold=0 families=vpnv4,evpn as4=64512 hop6=vpnv4 name=node1",
        ),
        ({"families": (Family.EVPN,)}, False, "as=64512 hold=90 families=evpn as4=64512"),
        (
            {"restart_time_s": 9},
            False,
            "as=64512 hold=90 families=vpnv4,evpn as4=64512 hop6=vpnv4 restart=9N:vpnv4+,evpn",
        ),
        (
            {"restart_time_s": 9},
            True,
            "as=64512 hold=90 families=vpnv4,evpn as4=64512 hop6=vpnv4 restart=9!N:vpnv4+,evpn",
        ),
        (
            {"restart_time_s": 9, "long_lived_s": 70000, "families": (Family.VPNV4,)},
            False,
            "as=64512 hold=90 families=vpnv4 as4=64512 hop6=vpnv4 restart=9N:vpnv4+ stale=vpnv4+:70000",
        ),
        (
            {"add_path_receive": frozenset(OURS.families), "add_path_send": frozenset({Family.EVPN})},
            False,
            "as=64512 hold=90 families=vpnv4,evpn as4=64512 hop6=vpnv4 paths=vpnv4:1,evpn:3",
        ),
        ({"role": "customer", "families": (Family.EVPN,)}, False, "as=64512 hold=90 families=evpn as4=64512 role=3"),
    ]:
        session = Session(attrs.evolve(OURS, **changes), Interner(), restarting=restarting, forwarding=forwarding)  # type: ignore[arg-type]
        (opened,) = told(session.connected(0.0))
        # The order of capabilities says nothing.
        assert sorted(opened.split()) == sorted(f"OPEN id=192.0.2.1 {always} {expected}".split())


def test_both_ends_agree_on_the_lesser() -> None:
    for settings, opening, expected in [
        (OURS, OPEN, {"families": {Family.VPNV4, Family.EVPN}, "as4": True, "ibgp": False, "route_refresh": True}),
        (OURS, "OPEN as=64513 families=evpn,ipv6", {"families": {Family.EVPN}, "as4": False, "route_refresh": False}),
        (IBGP, "OPEN as=64512 families=vpnv4", {"ibgp": True, "remote_as": 64512}),
        (OURS, OPEN.replace("hold=90", "hold=30"), {"hold_s": 30, "keepalive_s": 10.0}),
        (OURS, OPEN.replace("hold=90", "hold=300"), {"hold_s": 90}),
        (OURS, OPEN.replace("hold=90", "hold=0"), {"hold_s": 0}),
        (attrs.evolve(OURS, hold_time_s=0), OPEN, {"hold_s": 0}),
        (attrs.evolve(OURS, families=(Family.IPV4, Family.EVPN)), "OPEN as=64513", {"families": {Family.IPV4}}),
        (
            attrs.evolve(OURS, remote_as=4200000000),
            "OPEN as=23456 as4=4200000000 families=evpn",
            {"remote_as": 4200000000, "as4": True},
        ),
        (OURS, OPEN + " restart=60:vpnv4+", {"graceful": None}),
        (GRACEFUL, OPEN, {"graceful": None}),
        (OURS, OPEN + " name=pe\\x1b[2J", {"remote_host_name": "pe\\x1b[2J"}),
    ]:
        negotiated = agreed(settings, opening)
        for name, value in expected.items():
            assert getattr(negotiated, name) == value, (opening, name)


def test_what_the_peer_says_of_its_restart_is_kept() -> None:
    graceful = agreed(GRACEFUL, OPEN + " restart=60!:vpnv4+,evpn").graceful
    assert graceful is not None
    assert (graceful.restarting, graceful.time_s) == (True, 60)
    assert dict(graceful.forwarding) == {Family.VPNV4: True, Family.EVPN: False}


def test_an_unacceptable_OPEN_is_answered_with_its_own_error() -> None:
    for settings, opening, expected in [
        (OURS, "OPEN as=64514 families=evpn", "NOTIFICATION 2/2"),
        (OURS, "OPEN as=64513 as4=64514 families=evpn", "NOTIFICATION 2/2"),
        (attrs.evolve(OURS, remote_as=4200000000), "OPEN as=23456 families=evpn", "NOTIFICATION 2/2"),
        (IBGP, "OPEN as=64512 id=192.0.2.1 families=evpn", "NOTIFICATION 2/3"),
        (OURS, "OPEN as=64513 id=0.0.0.0 families=evpn", "NOTIFICATION 2/3"),
        (OURS, "OPEN as=64513 hold=2 families=evpn", "NOTIFICATION 2/6"),
        (OURS, "OPEN as=64513 families=ipv4,ipv6", "NOTIFICATION 2/7 0104000100800104001900" + "46"),
        (OURS, "OPEN as=64513", "NOTIFICATION 2/7 0104000100800104001900" + "46"),
    ]:
        session = session_in("open-sent", settings)
        words = told(session.received(write(opening), 0.0))
        assert words[0].startswith(expected), opening
        assert words[1:] == ["close", "down"], opening
        assert session.state == "closed"
        assert session.deadline() is None


def test_the_same_router_id_in_another_AS_is_no_fault() -> None:
    assert agreed(OURS, OPEN.replace("192.0.2.2", "192.0.2.1")).remote_router_id == OURS.router_id


def test_a_message_out_of_place_is_answered_with_the_state_and_its_type() -> None:
    for state, sent, expected in [
        ("open-sent", "KEEPALIVE", "NOTIFICATION 5/1 04"),
        ("open-sent", "END-OF-RIB vpnv4", "NOTIFICATION 5/1 02"),
        ("open-sent", "ROUTE-REFRESH vpnv4", "NOTIFICATION 5/1 05"),
        ("open-confirm", OPEN, "NOTIFICATION 5/2 01"),
        ("open-confirm", "END-OF-RIB vpnv4", "NOTIFICATION 5/2 02"),
        ("open-confirm", "ROUTE-REFRESH vpnv4", "NOTIFICATION 5/2 05"),
        ("established", OPEN, "NOTIFICATION 5/3 01"),
    ]:
        assert told(session_in(state).received(write(sent), 1.0)) == [expected, "close", "down"], (state, sent)


def test_a_broken_header_is_answered_in_every_state() -> None:
    for octets, expected in [
        (b"\xfe" + message(4)[1:], "NOTIFICATION 1/1"),
        (message(4)[:16] + b"\x00\x12\x04", "NOTIFICATION 1/2 0012"),
        (message(4)[:16] + b"\x10\x01\x01", "NOTIFICATION 1/2 1001"),
        (message(4, b"\0"), "NOTIFICATION 1/2 0014"),
        (message(77), "NOTIFICATION 1/3 4d"),
    ]:
        for state in ("open-sent", "open-confirm", "established"):
            assert told(session_in(state).received(octets, 1.0)) == [expected, "close", "down"], (state, expected)


def test_what_came_before_a_broken_header_counts() -> None:
    words = told(session_in("established").received(write("END-OF-RIB vpnv4") + message(77), 1.0))
    assert words == [f"routes end_of_rib={Family.VPNV4} errors=0", "NOTIFICATION 1/3 4d", "close", "down"]
    ended = session_in("established").received(write("NOTIFICATION 6/4") + b"\0" * 19, 1.0)
    assert told(ended) == ["close", "down"]


def test_a_silent_peer_is_reset_when_its_hold_time_ends() -> None:
    for state, hold_s in [("open-sent", 240.0), ("open-confirm", 90.0), ("established", 90.0)]:
        session = session_in(state)
        early = session.tick(hold_s - 0.1)
        assert session.state == state
        assert told(early) == ([] if state == "open-sent" else ["KEEPALIVE"])
        actions = session.tick(hold_s)
        assert told(actions) == ["NOTIFICATION 4/0", "close", "down"], state
        assert down(actions).reason == "hold timer expired"


def test_only_whole_messages_keep_a_session_alive() -> None:
    session = session_in("established")
    for second, octet in enumerate(write("KEEPALIVE")[:18]):
        assert session.received(bytes((octet,)), 72.0 + second) == []
    assert told(session.tick(90.0))[-1] == "down"


def test_any_whole_message_keeps_a_session_alive() -> None:
    for text in ("KEEPALIVE", "END-OF-RIB vpnv4", "ROUTE-REFRESH vpnv4"):
        session = session_in("established")
        session.received(write(text), 80.0)
        assert told(session.tick(169.9)) == ["KEEPALIVE"]
        assert told(session.tick(170.0))[-1] == "down"


def test_a_KEEPALIVE_goes_out_every_third_of_the_hold_time_and_is_not_made_up_for() -> None:
    session = session_in("established")
    sent = []
    for now in range(0, 86, 5):
        sent += [now for action in session.tick(float(now)) if isinstance(action, Send)]
    assert sent == [30, 60]
    late = session_in("established")
    assert told(late.tick(89.0)) == ["KEEPALIVE"]
    assert told(late.tick(89.1)) == []
    assert late.deadline() == 90.0


def test_without_a_hold_time_an_established_session_has_no_timers_but_open_confirm_ends() -> None:
    opening = OPEN.replace("hold=90", "hold=0")
    assert session_in("established", OURS, opening).deadline() is None
    assert told(session_in("open-confirm", OURS, opening).tick(240.0)) == ["NOTIFICATION 4/0", "close", "down"]


def test_a_received_NOTIFICATION_ends_the_session_without_an_answer() -> None:
    for state in ("open-sent", "open-confirm", "established"):
        actions = session_in(state).received(write("NOTIFICATION 6/4 03627965"), 1.0)
        assert told(actions) == ["close", "down"]
        assert down(actions).received == Notification(6, 4, b"\x03bye")
        assert down(actions).reason == "the peer sent Cease, administrative reset (6/4): 'bye'"


def test_a_lost_connection_and_a_silent_end_send_nothing() -> None:
    actions = session_in("established").abandon("Connection reset by peer")
    assert told(actions) == ["close", "down"]
    ended = down(actions)
    assert (ended.sent, ended.received) == (None, None)


def test_an_administrative_shutdown_carries_its_text_whole_characters_only() -> None:
    for text, octets in [("", b""), ("upgrade", b"\x07upgrade"), ("ä" * 200, b"\xfe" + "ä".encode() * 127)]:
        actions = session_in("established").close(6, 2, text)
        assert told(actions) == [f"NOTIFICATION 6/2 {octets.hex()}".rstrip(), "close", "down"]


def test_nothing_happens_on_a_closed_session() -> None:
    session = session_in("established")
    session.close(6, 2)
    assert session.received(write("KEEPALIVE"), 2.0) == []
    assert session.tick(1000.0) == []
    assert session.close(6, 2) == []
    assert session.abandon("gone") == []


def test_a_route_refresh_is_for_families_that_were_agreed() -> None:
    session = session_in("established", OURS, "OPEN as=64513 families=vpnv4 refresh")
    assert told(session.received(write("ROUTE-REFRESH vpnv4"), 1.0)) == ["refresh vpnv4"]
    assert told(session.received(write("ROUTE-REFRESH evpn"), 1.0)) == []
    assert told(session.received(message(5, bytes((0x40, 4, 0, 71))), 1.0)) == []
    assert session.state == "established"


@given(cuts=st.lists(st.integers(1, 40)))
def test_it_does_not_matter_how_the_octets_are_cut(cuts: list[int]) -> None:
    octets = b"".join(
        write(text) for text in (OPEN, "KEEPALIVE", "END-OF-RIB vpnv4", "ROUTE-REFRESH evpn", "NOTIFICATION 6/4")
    )
    whole, cut = session_in("open-sent"), session_in("open-sent")
    words, rest = [], octets
    for size in [*cuts, len(octets)]:
        words += told(cut.received(rest[:size], 0.0))
        rest = rest[size:]
    assert words == told(whole.received(octets, 0.0))
    assert cut.messages_in == whole.messages_in == 5


@given(octets=st.binary(max_size=80), state=st.sampled_from(["open-sent", "open-confirm", "established"]))
def test_no_octets_raise_an_exception(octets: bytes, state: str) -> None:
    session_in(state).received(octets, 0.0)
    for kind in range(1, 6):
        session_in(state).received(message(kind, octets), 0.0)


def test_settings_that_cannot_be_are_refused() -> None:
    for name, value in [
        ("local_as", 0),
        ("remote_as", 1 << 32),
        ("router_id", b"\1\2\3"),
        ("router_id", bytes(4)),
        ("hold_time_s", 2),
        ("hold_time_s", 65536),
        ("restart_time_s", 4096),
        ("families", ()),
        ("families", (Family.EVPN, Family.EVPN)),
    ]:
        with pytest.raises(ValueError, match=name):
            attrs.evolve(OURS, **{name: value})


def test_text_of_a_peer_cannot_do_harm() -> None:
    assert escape("pe\x1b[2J\n\u202e\ud800") == "pe\\x1b[2J\\n\\u202e\\ud800"
    assert escape("x" * 1000) == "x" * 200 + "..."
    assert describe(Notification(6, 2, b"\x05a\xff\n")) == "Cease, administrative shutdown (6/2): 'a\\\\xff\\\\n'"
    assert describe(Notification(99, 7, b"\xab")) == "error (99/7) ab"
    assert describe(Notification(6, 99)) == "Cease (6/99)"
