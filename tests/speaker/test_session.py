from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.notification import describe, escape
from speaker.session import (
    ROLES,
    Action,
    Disabled,
    Down,
    Malformed,
    Negotiated,
    Refresh,
    Refreshing,
    Role,
    Routes,
    Send,
    Session,
    Settings,
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
LONG_LIVED = attrs.evolve(GRACEFUL, long_lived_s=3600)
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
            case Refreshing(family, begins):
                words.append(f"refreshing {family.text} {'begins' if begins else 'ends'}")
            case Malformed():
                pass  # has tests of its own
            case _:
                words.append(type(action).__name__.lower())
    return words


def session_in(state: str, settings: Settings = OURS, opening: str = OPEN) -> Session:
    """A session that came to this state at time 0."""
    session = Session(settings, Interner())
    if state != "connect":
        session.connected(0.0)
    if state not in ("connect", "open-sent"):
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
        (GRACEFUL, OPEN + " restart=60:vpnv4+", {"graceful_notification": False, "long_lived": {}}),
        (GRACEFUL, OPEN + " restart=60N:vpnv4+", {"graceful_notification": True}),
        (OURS, OPEN + " restart=60N:vpnv4+", {"graceful_notification": False}),
        (GRACEFUL, OPEN + " restart=60:vpnv4+ stale=vpnv4:9", {"long_lived": {}}),  # we do not speak it
        (LONG_LIVED, OPEN + " restart=60:vpnv4+ stale=vpnv4+:9", {"long_lived": {Family.VPNV4: (True, 9)}}),
        (LONG_LIVED, OPEN + " stale=vpnv4+:9", {"long_lived": {}}),  # RFC 9494 section 3.1: not without the other
        (OURS, OPEN, {"enhanced_refresh": False, "extended_next_hop": set(), "message_limit": 4096}),
        (OURS, OPEN + " enhanced", {"enhanced_refresh": True}),
        (OURS, OPEN + " hop6=vpnv4,ipv4", {"extended_next_hop": {Family.VPNV4}}),
        (OURS, OPEN + " hop6=ipv4 hop6=vpnv4", {"extended_next_hop": {Family.VPNV4}}),
        (OURS, OPEN + " 5=000100800001", {"extended_next_hop": set()}),  # an IPv4 next hop is nothing new
        (OURS, OPEN + " 70=00 6=00 2=00", {"enhanced_refresh": True, "message_limit": 65535, "route_refresh": True}),
        (OURS, OPEN + " 3=000100800001 130=00 255=", {"families": {Family.VPNV4, Family.EVPN}}),  # ORF, unknown ones
        (OURS, "OPEN as=64513 families=evpn families=vpnv4,evpn", {"families": {Family.VPNV4, Family.EVPN}}),
        (OURS, OPEN + " name=pe\\x1b[2J", {"remote_host_name": "pe\\x1b[2J"}),
    ]:
        negotiated = agreed(settings, opening)
        for name, value in expected.items():
            assert getattr(negotiated, name) == value, (opening, name)


def test_several_paths_are_agreed_on_family_by_family_and_direction_by_direction() -> None:  # RFC 7911 section 4
    vpnv4, evpn = Family.VPNV4, Family.EVPN
    for receive, send, words, received, sent in [
        ({vpnv4, evpn}, {vpnv4, evpn}, "", set(), set()),
        ({vpnv4, evpn}, {vpnv4, evpn}, " paths=vpnv4:3,evpn:3", {vpnv4, evpn}, {vpnv4, evpn}),
        ({vpnv4, evpn}, {vpnv4, evpn}, " paths=vpnv4:2,evpn:1", {vpnv4}, {evpn}),
        ({vpnv4, evpn}, {vpnv4, evpn}, " paths=vpnv4:2 paths=evpn:3", {vpnv4, evpn}, {evpn}),
        ({vpnv4}, set(), " paths=vpnv4:3,evpn:3", {vpnv4}, set()),
        (set(), {evpn}, " paths=vpnv4:3,evpn:3", set(), {evpn}),
        (set(), set(), " paths=vpnv4:3,evpn:3", set(), set()),
        ({vpnv4}, {vpnv4}, " paths=ipv6:3", set(), set()),
        ({vpnv4}, {vpnv4}, " paths=vpnv4:3,ipv6:4", set(), set()),  # not understood, as a whole
        ({vpnv4}, {vpnv4}, " paths=vpnv4:0", set(), set()),
        ({vpnv4}, {vpnv4}, " 69=000180", set(), set()),
    ]:
        settings = attrs.evolve(OURS, add_path_receive=frozenset(receive), add_path_send=frozenset(send))
        negotiated = agreed(settings, OPEN + words)
        assert (negotiated.add_path_receive, negotiated.add_path_send) == (received, sent), (receive, send, words)
    settings = attrs.evolve(OURS, families=(evpn,), add_path_receive=frozenset(Family))
    assert agreed(settings, OPEN + " paths=vpnv4:3,evpn:3").add_path_receive == {evpn}


def test_roles_fit_or_there_is_no_session() -> None:  # RFC 9234 section 4.2
    fit: dict[Role, int] = {
        "provider": 3,
        "customer": 0,
        "route-server": 2,
        "route-server-client": 1,
        "peer": 4,
    }
    for ours in ROLES:
        for strict in (False, True):
            settings = attrs.evolve(OURS, role=ours, strict_role=strict)
            for theirs in range(7):
                words = told(session_in("open-sent", settings).received(write(f"{OPEN} role={theirs}"), 0.0))
                assert (words[0] == "opened") == (theirs == fit[ours]), (ours, theirs)
                assert words[0] in ("opened", "NOTIFICATION 2/11")
            assert agreed(settings, f"{OPEN} role={fit[ours]} role={fit[ours]}").role == ours
            for words_told in (f"role={fit[ours]} role=5", "role=5 role=" + str(fit[ours])):
                words = told(session_in("open-sent", settings).received(write(f"{OPEN} {words_told}"), 0.0))
                assert words == ["NOTIFICATION 2/11", "close", "down"], (ours, words_told)
            for nothing in ("", " 9=", " 9=0000"):
                words = told(session_in("open-sent", settings).received(write(OPEN + nothing), 0.0))
                assert words[0] == ("NOTIFICATION 2/11" if strict else "opened"), (ours, strict, nothing)
        assert agreed(attrs.evolve(OURS, role=ours), OPEN).role == ours, "to a peer that tells none we are what we are"
    for settings, opening in [(OURS, OPEN), (IBGP, "OPEN as=64512 families=evpn")]:
        for theirs in range(7):
            assert agreed(settings, f"{opening} role={theirs}").role is None, "what is not configured is not looked at"


def test_of_several_graceful_restart_capabilities_the_last_counts() -> None:  # RFC 4724 section 3
    negotiated = agreed(LONG_LIVED, OPEN + " restart=60N:vpnv4+ stale=vpnv4:9 restart=30:evpn stale=evpn:8")
    assert negotiated.graceful is not None
    assert (negotiated.graceful.time_s, dict(negotiated.graceful.forwarding)) == (30, {Family.EVPN: False})
    assert not negotiated.graceful_notification
    assert negotiated.long_lived == {Family.EVPN: (False, 8)}


def test_what_the_peer_says_of_its_restart_is_kept() -> None:
    graceful = agreed(GRACEFUL, OPEN + " restart=60!:vpnv4+,evpn").graceful
    assert graceful is not None
    assert (graceful.restarting, graceful.time_s) == (True, 60)
    assert dict(graceful.forwarding) == {Family.VPNV4: True, Family.EVPN: False}


def test_an_unacceptable_OPEN_is_answered_with_its_own_error_and_no_data_but_where_the_RFC_names_some() -> None:
    families = "0104000100800104001900" + "46"
    for changes, opening, expected in [
        ({}, "as=64514 families=evpn", "2/2"),
        ({}, "as=64513 as4=64514 families=evpn", "2/2"),
        ({"remote_as": 4200000000}, "as=23456 families=evpn", "2/2"),
        ({}, "as=0 families=evpn", "2/2"),
        ({}, "as=64513 as4=0 families=evpn", "2/2"),  # RFC 7607
        ({"remote_as": 64512}, "as=64512 id=192.0.2.1 families=evpn", "2/3"),  # RFC 6286 section 2.2
        ({}, "as=64513 id=0.0.0.0 families=evpn", "2/3"),
        ({}, "as=64513 hold=1 families=evpn", "2/6"),
        ({}, "as=64513 hold=2 families=evpn", "2/6"),
        ({}, "as=64513 families=ipv4,ipv6", f"2/7 {families}"),
        ({}, "as=64513", f"2/7 {families}"),  # IPv4 only
        ({}, "as=64513 1=00010080ff", f"2/7 {families}"),  # Multiprotocol of a wrong length says nothing
        ({"role": "customer"}, "as=64513 families=evpn role=1", "2/11"),
    ]:
        session = session_in("open-sent", attrs.evolve(OURS, **changes))  # type: ignore[arg-type]
        words = told(session.received(write(f"OPEN {opening}"), 0.0))
        assert words == [f"NOTIFICATION {expected}", "close", "down"], opening
        assert session.state == "closed"
        assert session.deadline() is None


def test_an_OPEN_that_is_not_framed_as_its_RFCs_say_is_answered_with_its_own_error() -> None:
    head = "fc01 005a c0000202"
    for body, expected in [
        ("03" + head + "00", "2/1 0004"),
        ("05" + head + "00", "2/1 0004"),
        ("04" + head + "02 0100", "2/4"),  # the authentication of RFC 1771
        ("04" + head + "0a 0206 010400190046 fe00", "2/4"),  # an unknown one behind a known one
        ("04" + head + "05 0203 010400", "2/0"),  # RFC 5492: a capability beyond its parameter
        ("04" + head + "03 0201 01", "2/0"),  # a capability without a length
        ("04" + head + "01 02", "2/0"),
        ("04" + head + "09 0206 0104001900", "2/0"),
        ("04" + head + "00 00", "2/0"),  # octets behind the parameters
        ("04" + head + "01 ff", "2/0"),  # RFC 9072: cut off in the length
        ("04" + head + "02 ff00", "2/0"),
        ("04" + head + "ff ff 000a 02 0006 010400190046", "2/0"),  # longer than they are
        ("04" + head + "ff ff 0008 02 0006 010400190046", "2/0"),
        ("04" + head + "ff ff 0009 ff 0006 010400190046", "2/4"),  # type 255 within
        ("04" + head + "ff ff 0009 02 0007 010400190046", "2/0"),
        ("04" + head + "ff ff 0002 0200", "2/0"),
    ]:
        words = told(session_in("open-sent").received(message(1, bytes.fromhex(body)), 0.0))
        assert words == [f"NOTIFICATION {expected}", "close", "down"], body


def test_an_OPEN_may_have_extended_parameters_as_long_as_it_likes() -> None:  # RFC 9072
    multiprotocol, unknown = bytes.fromhex("0104 0019 0046"), bytes((200, 255)) + bytes(255)
    head = bytes.fromhex("04 fc01 005a c0000202")
    for capabilities in (multiprotocol, multiprotocol + 5 * unknown, 15 * unknown + multiprotocol):
        parameter = b"\2" + len(capabilities).to_bytes(2, "big") + capabilities
        for length in (0xFF, 0x01):  # whatever it is, as long as it is not 0
            extended = bytes((length, 255)) + len(parameter).to_bytes(2, "big") + parameter
            session = session_in("open-sent")
            assert told(session.received(message(1, head + extended), 0.0)) == ["opened", "KEEPALIVE"]
            assert session.negotiated is not None
            assert session.negotiated.families == {Family.EVPN}


def test_our_OPEN_grows_extended_parameters_when_it_must() -> None:
    families = tuple(Family)
    settings = attrs.evolve(
        OURS,
        families=families,
        restart_time_s=120,
        long_lived_s=3600,
        host_name="n" * 64,
        add_path_receive=frozenset(families),
    )
    octets = session_in("connect", settings).connected(0.0)[0]
    assert isinstance(octets, Send)
    assert octets.octets[28:30] == b"\xff\xff"
    theirs = session_in("open-sent", attrs.evolve(settings, local_as=64513, remote_as=64512, router_id=b"\xc0\0\2\2"))
    theirs.received(octets.octets, 0.0)
    assert theirs.negotiated is not None
    assert theirs.negotiated.families == set(families)
    assert theirs.negotiated.remote_host_name == "n" * 64


def test_the_same_router_id_in_another_AS_is_no_fault() -> None:
    assert agreed(OURS, OPEN.replace("192.0.2.2", "192.0.2.1")).remote_router_id == OURS.router_id


def test_a_message_out_of_place_is_answered_with_the_state_and_its_type() -> None:  # RFC 6608
    for state, sent, expected in [
        ("open-sent", "KEEPALIVE", "5/1 04"),
        ("open-sent", "END-OF-RIB vpnv4", "5/1 02"),
        ("open-sent", "ROUTE-REFRESH vpnv4", "5/1 05"),
        ("open-confirm", OPEN, "5/2 01"),
        ("open-confirm", "END-OF-RIB vpnv4", "5/2 02"),
        ("open-confirm", "ROUTE-REFRESH vpnv4", "5/2 05"),
        ("established", OPEN, "5/3 01"),
        # The state comes before what is in the message.
        ("open-sent", f"RAW {message(5, b'x').hex()}", "5/1 05"),
        ("open-confirm", f"RAW {message(2, bytes(200)).hex()}", "5/2 02"),
        ("established", f"RAW {message(1, bytes(10)).hex()}", "5/3 01"),
    ]:
        words = told(session_in(state).received(write(sent), 1.0))
        assert words == [f"NOTIFICATION {expected}", "close", "down"], (state, sent)


def test_a_ROUTE_REFRESH_of_a_wrong_length_is_answered_with_itself() -> None:  # RFC 7313 section 5
    for body in (b"", bytes(3), bytes(5), bytes(200)):
        octets = message(5, body)
        words = told(session_in("established").received(octets, 1.0))
        assert words == [f"NOTIFICATION 7/1 {octets.hex()}", "close", "down"]
    giant = message(5, bytes(60000))
    for opening, most in [(OPEN, 4096), (OPEN + " long", 65535)]:
        (sent,) = [
            each for each in session_in("established", OURS, opening).received(giant, 1.0) if isinstance(each, Send)
        ]
        assert sent.octets == message(3, b"\7\1" + giant[: most - 21])


def test_a_broken_header_is_answered_in_every_state() -> None:  # RFC 4271 section 6.1
    marker = message(4)[:16]
    for octets, expected in [
        (b"\xfe" + message(4)[1:], "1/1"),
        (message(4)[:15] + b"\x00" + message(4)[16:], "1/1"),
        (b"\xfe" + message(77)[1:], "1/1"),  # the marker comes first
        (marker + b"\x00\x12\x04", "1/2 0012"),
        (marker + b"\x00\x00\x04", "1/2 0000"),
        (marker + b"\x10\x01\x01", "1/2 1001"),
        (marker + b"\x00\x1c\x01", "1/2 001c"),
        (marker + b"\x00\x16\x02", "1/2 0016"),
        (marker + b"\x00\x14\x03", "1/2 0014"),
        (message(4, b"\0"), "1/2 0014"),
        (marker + b"\xff\xff\x04", "1/2 ffff"),  # RFC 8654 section 4: a KEEPALIVE is never an extended message
        (message(0), "1/3 00"),
        (message(6), "1/3 06"),
        (message(255), "1/3 ff"),
    ]:
        for state in ("open-sent", "open-confirm", "established"):
            words = told(session_in(state).received(octets, 1.0))
            assert words == [f"NOTIFICATION {expected}", "close", "down"], (state, expected)


def test_extended_messages_are_read_from_open_confirm_on_and_sent_to_who_takes_them() -> None:  # RFC 8654
    whole = message(2, (60000).to_bytes(2, "big") + bytes.fromhex("08 0a") * 30000 + bytes(2))
    assert len(whole) > 60000
    header = whole[:19]
    assert told(session_in("open-sent").received(header, 0.0))[0] == f"NOTIFICATION 1/2 {header[16:18].hex()}"
    for opening, limit in [(OPEN, 4096), (OPEN + " long", 65535)]:
        session = session_in("established", OURS, opening)
        assert session.negotiated is not None
        assert session.negotiated.message_limit == limit
        # We said that we take them, so we do, whether or not the peer takes ours.
        assert told(session.received(whole, 1.0)) == ["routes end_of_rib=None errors=0"]
    for state in ("open-confirm", "established"):
        actions = session_in(state).received(message(3, b"\x06\x04" + bytes(65514)), 1.0)
        assert down(actions).received == Notification(6, 4, bytes(65514))


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


def test_a_hard_reset_is_for_peers_that_would_keep_the_routes_otherwise() -> None:  # RFC 8538 section 3.1
    for settings, restart, expected in [
        (GRACEFUL, " restart=60N:vpnv4", "6/9 06020462796521"),
        (GRACEFUL, " restart=60:vpnv4", "6/2 0462796521"),
        (GRACEFUL, "", "6/2 0462796521"),
        (OURS, " restart=60N:vpnv4", "6/2 0462796521"),
    ]:
        for state in ("open-confirm", "established"):
            actions = session_in(state, settings, OPEN + restart).close(6, 2, "bye!", hard=True)
            assert told(actions) == [f"NOTIFICATION {expected}", "close", "down"], (state, restart)
    actions = session_in("established", GRACEFUL, OPEN + " restart=60N:vpnv4").close(6, 1, "1", data=b"\0\1", hard=True)
    assert told(actions)[0] == "NOTIFICATION 6/9 06010001"


def test_what_escapes_a_parser_is_told_with_the_message() -> None:
    for state, octets, reason in [
        ("open-sent", write("OPEN as=64513 hold=1"), "hold time 1 s"),
        ("established", message(5, b"\1"), "a ROUTE-REFRESH of 1 octets"),
        ("established", message(2, bytes.fromhex("00090000")), "withdrawn routes of 9 octets"),
        ("established", message(2, bytes.fromhex("0000 0007 800f04 0019 46 00")), ""),  # the family is disabled
        ("established", message(2, bytes.fromhex("0000 0007 800f04 0002 01 00")), "AFI 2 SAFI 1"),
        ("established", message(9, b"what?"), "message type 9"),
    ]:
        session = session_in(state)
        actions = session.received(octets, 1.0)
        (malformed,) = [action for action in actions if isinstance(action, Malformed)]
        assert actions[0] is malformed, "it comes before what follows from it"
        assert (malformed.octets, malformed.length) == (octets, len(octets)), reason
        assert reason in malformed.reason


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


def test_the_begin_and_end_of_a_refresh_are_heard_where_that_was_agreed() -> None:  # RFC 7313
    for words, expected in [(" enhanced", ["refreshing vpnv4 begins", "refreshing vpnv4 ends"]), ("", [])]:
        session = session_in("established", OURS, "OPEN as=64513 families=vpnv4 refresh" + words)
        octets = b"".join(
            write(f"ROUTE-REFRESH {each}") for each in ("vpnv4 1", "evpn 1", "vpnv4 3", "vpnv4 255", "vpnv4 2")
        )
        assert told(session.received(octets, 1.0)) == expected
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


def test_a_NOTIFICATION_is_described_whatever_is_in_it() -> None:  # RFC 9003, RFC 8538
    shutdown = "Cease, administrative shutdown (6/2)"
    for notification, words in [
        (Notification(6, 2, b"\x05late\n"), f"{shutdown}: 'late\\\\n'"),
        (Notification(6, 4, b"\x04noon"), "Cease, administrative reset (6/4): 'noon'"),
        (Notification(6, 2, b"\xff" + b"x" * 255), f"{shutdown}: '{'x' * 255}'"),
        (Notification(6, 2, b"\x81" + b"x" * 129), f"{shutdown}: '{'x' * 129}'"),  # RFC 8203 had no more than 128
        (Notification(6, 2, b"\x04" + "ää".encode()), f"{shutdown}: 'ää'"),
        (Notification(6, 2), shutdown),
        (Notification(6, 2, b"\x00"), shutdown),
        (Notification(6, 2, b"\x05noon"), f"{shutdown}: a text of 5 octets in 4: 6e6f6f6e"),
        (Notification(6, 2, b"\x03noon"), f"{shutdown}: a text of 3 octets in 4: 6e6f6f6e"),
        (Notification(6, 2, b"\x00noon"), f"{shutdown}: a text of 0 octets in 4: 6e6f6f6e"),
        (Notification(6, 2, b"\x02a\xff"), f"{shutdown}: a text that is not UTF-8: 61ff"),
        (Notification(6, 2, b"\x01\xc3"), f"{shutdown}: a text that is not UTF-8: c3"),
        (Notification(6, 9, b"\x06\x02\x04noon"), f"Cease, hard reset (6/9): {shutdown}: 'noon'"),
        (
            Notification(6, 9, b"\x06\x01\x00\x01"),
            "Cease, hard reset (6/9): Cease, maximum number of prefixes reached (6/1) 0001",
        ),
        (Notification(6, 9, b"\x06"), "Cease, hard reset (6/9) 06"),
        (Notification(6, 9), "Cease, hard reset (6/9)"),
        (Notification(6, 9, b"\6\x09" * 2000), f"Cease, hard reset (6/9): Cease, hard reset (6/9) {'0609' * 16}"),
        (Notification(99, 7, b"\xab"), "error (99/7) ab"),
        (Notification(6, 99), "Cease (6/99)"),
        (Notification(4, 0, bytes(100)), f"hold timer expired (4/0) {'00' * 32}"),
    ]:
        assert describe(notification) == words
