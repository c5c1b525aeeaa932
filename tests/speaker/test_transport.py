from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable

import attrs
import pytest

from speaker.peer import Peer
from speaker.signatures import AoKey, EndpointError
from speaker.sockets import Endpoint
from speaker.transport import BUFFER_OCTETS, CONNECTIONS_MOST, DRAIN_S, NO_PEER
from speaker.wire.attribute import Interner
from tests.fakes.descriptors import no_descriptor_left
from tests.fakes.loop import advance, run
from tests.fakes.messages import message, write
from tests.fakes.scripted_peer import ScriptedListener, ScriptedPeer
from tests.speaker.standing import (
    ACTIVE,
    LIMIT_S,
    OPEN,
    OTHER,
    OURS,
    SETTINGS,
    SHORTLY_S,
    THEIRS,
    Ledger,
    Stand,
    quiet,
    standing,
)


@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), ("::1", "::1")])
def test_a_peer_that_connects_is_served_and_both_say_their_routes(ours: str, theirs: str) -> None:
    async def story() -> None:
        async with standing(ours) as stand:
            peer = stand.add(theirs)
            stand.routes[theirs].say = iter([write("END-OF-RIB vpnv4"), b"", b"", b"", b"", b"", b""]).__next__
            async with stand.dialled(theirs) as remote:
                await remote.expect("END-OF-RIB vpnv4")
                await remote.say("END-OF-RIB vpnv4", "END-OF-RIB vpnv4")
                await stand.until(lambda: stand.routes[theirs].lines == ["up", "update", "update"])
                assert peer.state == "established"
                stand.routes[theirs].say = iter([write("ROUTE-REFRESH vpnv4"), b"", b"", b""]).__next__
                stand.transport.flush()
                await remote.expect("ROUTE-REFRESH vpnv4")
            await stand.until(lambda: stand.routes[theirs].lines[-1] == "down")

    run(story)


@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), ("::1", "::1")])
def test_a_peer_is_connected_to_from_the_configured_address(ours: str, theirs: str) -> None:
    async def story() -> None:
        async with standing(ours) as stand:
            listener = ScriptedListener(theirs)
            with contextlib.closing(listener):
                stand.add(theirs, ACTIVE, port=listener.port, source=ours)
                async with await listener.accept() as remote:
                    assert remote.socket.getpeername()[0] == ours
                    await remote.establish(OPEN)
                    await stand.until(lambda: stand.routes[theirs].lines == ["up"])

    run(story)


def test_a_lost_peer_is_connected_to_again_after_the_back_off() -> None:
    async def story() -> None:
        async with standing() as stand:
            listener = ScriptedListener(THEIRS)
            with contextlib.closing(listener):
                peer = stand.add(THEIRS, ACTIVE, port=listener.port)
                async with await listener.accept() as remote:
                    await remote.establish(OPEN)
                    await stand.until(lambda: peer.state == "established")
                    remote.reset()
                await stand.until(lambda: peer.state == "active")
                assert "reset" in peer.counters.last_down
                await advance(1.0)
                async with await listener.accept() as remote:
                    await remote.establish(OPEN)

    run(story)


def test_a_peer_that_is_switched_off_is_not_started_with_the_others() -> None:
    async def story() -> None:
        stand = Stand()
        with contextlib.closing(ScriptedListener(THEIRS)) as listener:
            endpoint = Endpoint(address=THEIRS, port=listener.port)
            peer = Peer(THEIRS, ACTIVE, Ledger(lambda: None), Interner(), lambda: 0.0)
            stand.transport.add_peer(peer, endpoint, enabled=False)
            stand.transport.start()
            assert (peer.state, peer.counters.connects) == ("idle", 0)
            stand.transport.enable_peer(THEIRS)
            (await listener.accept()).close()
            await stand.transport.stop(graceful=False)

    run(story)


def test_a_connection_that_cannot_be_made_is_tried_again() -> None:
    async def story() -> None:
        async with standing() as stand:
            listener = ScriptedListener(THEIRS)
            port = listener.port
            listener.close()
            refused = stand.add(THEIRS, ACTIVE, port=port)
            elsewhere = stand.add(OTHER, ACTIVE, port=port, source="192.0.2.77")
            await asyncio.sleep(0)
            await advance(0.0)
            for peer, reason in [(refused, errno.ECONNREFUSED), (elsewhere, errno.EADDRNOTAVAIL)]:
                assert peer.counters.last_error == f"connect: {os.strerror(reason)}"
                assert (peer.counters.connects, peer.state) == (1, "active")
            await advance(1.0)
            assert (refused.counters.connects, elsewhere.counters.connects) == (2, 2)

    run(story)


def test_an_unknown_address_is_closed_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            for _ in range(20):
                async with await ScriptedPeer.dial(*stand.address, source=OTHER) as stranger:
                    assert await stranger.expect_end() == []
            assert stand.transport.refusals.count[NO_PEER] == 20
            assert len([record for record in caplog.records if OTHER in record.getMessage()]) == 1

    run(story)


def test_the_NOTIFICATION_arrives_although_input_is_left_unread() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            async with stand.dialled() as remote:
                await remote.send(message(77) + write("KEEPALIVE") * 10_000)
                assert await remote.expect_end() == ["NOTIFICATION 1/3 4d"]

    run(story)


def test_a_peer_that_never_closes_is_closed_after_a_second() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            async with stand.dialled() as remote:
                await remote.send(message(77))
                assert await remote.expect_end() == ["NOTIFICATION 1/3 4d"]
                await remote.send(bytes(1000))  # we are still listening
                await advance(1.1 * DRAIN_S)
                await remote.send(bytes(1000))  # answered with RST
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    await remote.send(bytes(1000))

    run(story)


def test_a_slow_reader_costs_bounded_memory_and_is_given_up_after_twice_the_hold_time() -> None:
    async def story() -> None:
        async with standing() as stand:
            peer = stand.add(THEIRS)
            routes = stand.routes[THEIRS]
            routes.say = lambda: message(2, bytes(4077)) * 15
            async with stand.dialled() as remote:
                waited_s = 0.0
                while peer.state == "established" and waited_s < 600.0:
                    heard = peer.counters.messages_in
                    await remote.say("KEEPALIVE")
                    await stand.until(lambda heard=heard: peer.counters.messages_in > heard)  # type: ignore[misc]
                    await advance(30.0)
                    waited_s += 30.0
                assert BUFFER_OCTETS < routes.said < 8 * BUFFER_OCTETS  # some of it in the kernel, at both ends
                assert 180.0 <= waited_s <= 360.0  # the kernel may take a little more at first
                assert routes.lines == ["up", "down"]
                assert peer.counters.last_down == "send hold timer expired"

    run(story)


def test_a_silent_peer_is_reset_at_its_hold_time() -> None:
    async def story() -> None:
        async with standing() as stand:
            peer = stand.add(THEIRS)
            async with stand.dialled(opening=OPEN + " hold=9") as remote:
                for _ in range(2):
                    await advance(3.1)
                    await remote.expect("KEEPALIVE")
                pumped = stand.pumped
                await advance(3.1)
                assert stand.pumped > pumped, "the node is told that routes went"
                assert await remote.expect_end() == ["NOTIFICATION 4/0"]
                assert peer.counters.last_down == "hold timer expired"

    run(story)


def test_nothing_is_read_while_the_node_is_busy_and_that_is_not_taken_for_silence() -> None:
    async def story() -> None:
        async with standing() as stand:
            peer = stand.add(THEIRS)
            routes = stand.routes[THEIRS]
            async with stand.dialled(opening=OPEN + " hold=9") as remote:
                stand.busy = True
                await remote.say("END-OF-RIB vpnv4")
                await stand.until(lambda: routes.lines == ["up", "update"])
                pumped = stand.pumped
                await remote.say("END-OF-RIB vpnv4", "KEEPALIVE")
                await stand.until(lambda: stand.pumped > pumped + 10)
                assert routes.lines == ["up", "update"]
                await advance(9.5)
                assert peer.state == "established"
                stand.busy = False
                await remote.say("END-OF-RIB vpnv4")
                await stand.until(lambda: routes.lines == ["up", "update", "update", "update"])

    run(story)


def test_an_exception_ends_the_session_in_which_it_happened_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        for fail_at in ("up", "update", "down"):
            async with standing() as stand:
                stand.add(THEIRS)
                stand.add(OTHER)
                stand.routes[THEIRS].fail_at = fail_at
                async with stand.dialled(OTHER) as other:
                    async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                        await remote.expect("OPEN")
                        await remote.say(OPEN, "KEEPALIVE", "END-OF-RIB vpnv4", "NOTIFICATION 6/4")
                        await remote.expect("KEEPALIVE")
                        await remote.expect_end()
                    await stand.until(lambda: stand.routes[THEIRS].lines[-1] == "down")
                    await other.say("END-OF-RIB vpnv4")
                    await stand.until(lambda: stand.routes[OTHER].lines == ["up", "update"])
                    stand.routes[THEIRS].fail_at = ""
                    async with stand.dialled():
                        pass
        assert any(record.exc_info for record in caplog.records)

    run(story)


def test_an_exception_while_routes_are_said_ends_the_session() -> None:
    async def story() -> None:
        def fail() -> bytes:
            raise RuntimeError("output")

        async with standing() as stand:
            stand.add(THEIRS)
            stand.routes[THEIRS].say = fail
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                await remote.establish(OPEN)
                assert await remote.expect_end() == ["NOTIFICATION 6/0"]
            assert stand.routes[THEIRS].lines == ["up", "down"]

    run(story)


def test_a_stop_says_so_and_a_graceful_one_says_nothing() -> None:
    async def story() -> None:
        for graceful, expected in [(False, ["NOTIFICATION 6/2"]), (True, [])]:
            async with standing() as stand:
                stand.add(THEIRS)
                async with stand.dialled() as remote:
                    stop = asyncio.ensure_future(stand.transport.stop(graceful=graceful))
                    assert await remote.expect_end() == expected
                    remote.close()
                    await asyncio.wait_for(stop, LIMIT_S)
                    with pytest.raises(IndexError):
                        _ = stand.address  # nobody listens any more

    run(story)


def test_a_stop_does_not_wait_for_a_hung_peer() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            stand.routes[THEIRS].say = lambda: message(2, bytes(4077)) * 15
            async with stand.dialled():
                stop = asyncio.ensure_future(stand.transport.stop(graceful=False))
                await asyncio.sleep(0)
                assert not stop.done()
                await advance(1.1 * DRAIN_S)
                await asyncio.wait_for(stop, SHORTLY_S)

    run(story)


def test_peers_come_change_and_go_while_others_stay() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(OTHER)
            async with stand.dialled(OTHER) as other:
                peer = stand.add(THEIRS)
                with pytest.raises(EndpointError, match="already"):
                    stand.add(THEIRS)
                transport, endpoint = stand.transport, Endpoint(address=THEIRS)
                stand.routes[THEIRS] = peer.routes  # type: ignore[assignment]
                for change, expected, state in [
                    (lambda: transport.disable_peer(THEIRS, "noon"), "NOTIFICATION 6/2 046e6f6f6e", "idle"),
                    (lambda: transport.change_peer(endpoint, SETTINGS), None, "established"),
                    (
                        lambda: transport.change_peer(endpoint, attrs.evolve(SETTINGS, hold_time_s=30)),
                        "NOTIFICATION 6/6",
                        "active",
                    ),
                    (
                        lambda: transport.change_peer(attrs.evolve(endpoint, ttl=7), peer.settings),
                        "NOTIFICATION 6/6",
                        "active",
                    ),
                    (lambda: transport.remove_peer(THEIRS), "NOTIFICATION 6/3", "idle"),
                ]:
                    if THEIRS in transport.peers:
                        transport.enable_peer(THEIRS)
                    stand.routes[THEIRS].lines.clear()
                    async with stand.dialled() as remote:
                        change()
                        assert peer.state == state, expected
                        if expected is not None:
                            assert await remote.expect_end() == [expected]
                    await stand.until(lambda: stand.routes[THEIRS].lines[-1] == "down")
                async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                    assert await remote.expect_end() == []
                await other.say("END-OF-RIB vpnv4")
                await stand.until(lambda: stand.routes[OTHER].lines == ["up", "update"])

    run(story)


def test_without_descriptors_accepting_pauses_and_sessions_live_on() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            stand.add(OTHER)
            async with stand.dialled(OTHER) as other:
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.bind((THEIRS, 0))
                with no_descriptor_left():
                    await asyncio.get_running_loop().sock_connect(waiting, stand.address)
                    await other.say("END-OF-RIB vpnv4")
                    await stand.until(lambda: stand.routes[OTHER].lines == ["up", "update"])
                    assert stand.transport.accept_paused
                await advance(1.1)
                async with ScriptedPeer(waiting) as remote:
                    await remote.expect("OPEN")
                assert not stand.transport.accept_paused

    run(story)


def ttl(number: int) -> Callable[[socket.socket], None]:
    """Have a test's own socket send with this TTL."""

    def prepare(connection: socket.socket) -> None:
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, number)
        else:
            connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, number)

    return prepare


@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), ("::1", "::1")])
def test_ttl_security_hears_only_near_neighbours(ours: str, theirs: str) -> None:
    async def story() -> None:
        for hops, sent, heard in [(1, 255, True), (1, 254, False), (3, 253, True), (3, 252, False)]:
            async with standing(ours) as stand:
                stand.add(theirs, ttl_security_hops=hops)
                async with await ScriptedPeer.dial(*stand.address, source=theirs, prepare=ttl(sent)) as remote:
                    await remote.expect("OPEN")
                    await remote.say(OPEN)
                    if heard:
                        await remote.expect("KEEPALIVE")
                    else:
                        await quiet(remote.expect("KEEPALIVE"))

    run(story)


def test_two_speakers_that_connect_to_each_other_at_once_keep_one_connection() -> None:
    async def story() -> None:
        for _ in range(20):
            async with standing(OURS) as one, standing(THEIRS) as two:
                theirs = attrs.evolve(ACTIVE, local_as=64513, remote_as=64512, router_id=bytes((192, 0, 2, 2)))
                first = one.add(THEIRS, ACTIVE, port=two.address[1], source=OURS)
                second = two.add(OURS, theirs, port=one.address[1], source=THEIRS)
                await one.until(lambda first=first: first.state == "established")  # type: ignore[misc]
                await two.until(lambda second=second: second.state == "established")  # type: ignore[misc]
                await advance(5.0)
                assert (first.state, second.state) == ("established", "established")
                assert (first.counters.flaps, second.counters.flaps) == (0, 0)

    run(story)


def test_the_addresses_and_ports_of_a_session_are_those_of_its_connection() -> None:
    async def story() -> None:
        async with standing() as stand:
            accepting = stand.add(THEIRS)
            async with stand.dialled() as remote:
                assert accepting.ends is not None
                assert accepting.ends.local == remote.socket.getpeername() == stand.address
                assert accepting.ends.remote == remote.socket.getsockname()
            with contextlib.closing(ScriptedListener(OTHER)) as listener:
                connecting = stand.add(OTHER, ACTIVE, port=listener.port, source=OURS)
                async with await listener.accept() as remote:
                    await remote.establish(OPEN)
                    await stand.until(lambda: "up" in stand.routes[OTHER].lines)
                    assert connecting.ends is not None
                    assert connecting.ends.local == remote.socket.getpeername()
                    assert connecting.ends.remote == (OTHER, listener.port)

    run(story)


def test_only_the_configured_addresses_are_listened_on() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            with pytest.raises(ConnectionRefusedError):
                await ScriptedPeer.dial("127.0.0.9", stand.address[1], source=THEIRS)

    run(story)


def test_a_peer_that_is_switched_off_is_told_that_it_is_not_wanted() -> None:  # RFC 4486 section 4
    async def story() -> None:
        async with standing() as stand:
            peer = stand.add(THEIRS)
            stand.transport.disable_peer(THEIRS)
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                assert await remote.expect_end() == ["NOTIFICATION 6/5"]
            assert peer.counters.rejected == 1

    run(story)


def test_a_connection_that_says_nothing_ends_after_four_minutes() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                await remote.expect("OPEN")
                for octet in write(OPEN)[:20]:  # an octet now and then is not a message
                    await remote.send(bytes((octet,)))
                    await advance(11.9)
                await quiet(remote.expect(""))
                await advance(2.1)
                assert await remote.expect_end() == ["NOTIFICATION 4/0"]

    run(story)


def test_one_source_cannot_have_many_connections_and_others_are_served() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(THEIRS)
            stand.add(OTHER)
            async with contextlib.AsyncExitStack() as open_ones:
                for _ in range(5 * CONNECTIONS_MOST):
                    dialling = ScriptedPeer.dial(*stand.address, source=THEIRS)
                    await open_ones.enter_async_context(await dialling)
                async with stand.dialled(OTHER):
                    refused = sum(stand.transport.refusals.count.values())
                    assert refused == 4 * CONNECTIONS_MOST
                await advance(1.1 * DRAIN_S)
                async with stand.dialled():
                    pass

    run(story)


def test_without_a_hold_time_there_is_no_send_hold_timer_either() -> None:  # RFC 9687 section 3.2
    async def story() -> None:
        async with standing() as stand:
            peer = stand.add(THEIRS)
            stand.routes[THEIRS].say = lambda: message(2, bytes(4077)) * 5000  # more than the kernel takes
            async with stand.dialled(opening=OPEN + " hold=0"):
                for _ in range(5):
                    await advance(100_000.0)
                assert peer.state == "established"

    run(story)


def test_endpoints_that_cannot_be_are_refused() -> None:
    for fields, value in [
        ({"address": "192.0.2.300"}, "192.0.2.300"),
        ({"address": "192.0.2.1", "source": "::1"}, "::1"),
        ({"address": "192.0.2.1", "password": b""}, "0 octets"),
        ({"address": "192.0.2.1", "password": b"x" * 81}, "81 octets"),
        ({"address": "192.0.2.1", "password": b"x", "ao_keys": (AoKey(1, 1, b"x"),)}, "exclude"),
        ({"address": "192.0.2.1", "ao_keys": (AoKey(1, 1, b"x"), AoKey(1, 2, b"y"))}, "one send_id"),
        ({"address": "192.0.2.1", "ao_keys": (AoKey(1, 1, b"x"), AoKey(2, 1, b"y"))}, "one receive_id"),
        ({"address": "192.0.2.1", "ttl": 256}, "256"),
        ({"address": "192.0.2.1", "ttl_security_hops": 0}, "ttl_security_hops 0"),
        ({"address": "192.0.2.1", "ttl": 2, "ttl_security_hops": 2}, "exclude"),
    ]:
        with pytest.raises(ValueError, match=value):
            Endpoint(**fields)  # type: ignore[arg-type]
    for secret in ({"password": b"secret"}, {"ao_keys": (AoKey(1, 1, b"secret"),)}):
        assert "secret" not in repr(Endpoint(address="192.0.2.1", **secret))  # type: ignore[arg-type]


def test_an_address_that_cannot_be_listened_on_is_named() -> None:
    async def story() -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1 port 0"):
            Stand("192.0.2.1").transport.start()

    run(story)
