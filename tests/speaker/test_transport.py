from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import attrs
import pytest

from speaker.peer import Peer
from speaker.session import Negotiated, Settings
from speaker.sockets import Endpoint, EndpointError
from speaker.transport import BUFFER_OCTETS, DRAIN_S, Transport
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update
from tests.fakes.descriptors import no_descriptor_left
from tests.fakes.loop import advance, run
from tests.fakes.messages import message, write
from tests.fakes.scripted_peer import ScriptedListener, ScriptedPeer

OURS, THEIRS, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
LIMIT_S = 5.0
SHORTLY_S = 0.3  # how long nothing is waited for

SETTINGS = Settings(
    local_as=64512,
    remote_as=64513,
    router_id=bytes((192, 0, 2, 1)),
    families=(Family.VPNV4,),
    hold_time_s=90,
    passive=True,
)
ACTIVE = attrs.evolve(SETTINGS, passive=False)
OPEN = "OPEN as=64513 id=192.0.2.2 families=vpnv4 as4=64513"


class Ledger:
    """Routes that write down what they are told, and say what they are given to say."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.lines: list[str] = []
        self.changed = changed
        self.say: Callable[[], bytes] = bytes
        self.said = 0
        self.fail_at = ""

    def _note(self, line: str) -> None:
        self.lines.append(line)
        self.changed()
        if self.fail_at == line:
            raise RuntimeError(line)

    def up(self, negotiated: Negotiated, now: float) -> None:
        self._note("up")

    def update(self, update: Update, now: float) -> None:
        self._note("update")

    def refresh(self, family: Family, now: float) -> None:
        self._note("refresh")

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        self._note("refreshing")

    def disable(self, family: Family, now: float) -> None:
        self._note("disable")

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        self._note("down, graceful" if graceful else "down")

    def output(self, budget: int) -> bytes:
        octets = self.say()
        self.said += len(octets)
        return octets


class Stand:
    """A transport with its peers, as a test sees it."""

    def __init__(self, *listen: str) -> None:
        self.busy = False
        self.pumped = 0
        self._changed = asyncio.Event()
        self.routes: dict[str, Ledger] = {}
        self.transport = Transport([(address, 0) for address in listen], pump=self._pump, busy=lambda: self.busy)

    def _pump(self) -> None:
        self.pumped += 1
        self._changed.set()

    def add(self, address: str, settings: Settings = SETTINGS, **endpoint: object) -> Peer:
        routes = self.routes[address] = Ledger(self._changed.set)
        peer = Peer(address, settings, routes, Interner(), lambda: 0.0)
        self.transport.add_peer(peer, Endpoint(address=address, **endpoint))  # type: ignore[arg-type]
        return peer

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait for a fact about what happened."""
        async with asyncio.timeout(LIMIT_S):
            while not fact():
                self._changed.clear()
                await self._changed.wait()

    @property
    def address(self) -> tuple[str, int]:
        return self.transport.addresses[0]

    @asynccontextmanager
    async def dialled(self, source: str = THEIRS, opening: str = OPEN) -> AsyncIterator[ScriptedPeer]:
        """A peer that connected and established a session."""
        async with await ScriptedPeer.dial(*self.address, source=source) as peer:
            await peer.establish(opening)
            await self.until(lambda: "up" in self.routes[source].lines)
            yield peer


@asynccontextmanager
async def standing(*listen: str) -> AsyncIterator[Stand]:
    stand = Stand(*(listen or (OURS,)))
    stand.transport.start()
    try:
        yield stand
    finally:
        stop = asyncio.ensure_future(stand.transport.stop(graceful=False))
        await asyncio.sleep(0)
        await advance(2 * DRAIN_S)
        await stop


async def quiet(waiting: Awaitable[object]) -> None:
    """Check that what is waited for does not come."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, SHORTLY_S)


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
            assert stand.transport.strangers == 20
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


def md5(connection: socket.socket, address: str, key: bytes) -> None:
    """Sign a test's own socket (TCP_MD5SIG, linux/tcp.h)."""
    packed = ip_address(address).packed
    if len(packed) == 4:
        sockaddr = struct.pack("=HH4s120x", socket.AF_INET, 0, packed)
    else:
        sockaddr = struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, packed, 0)
    connection.setsockopt(socket.IPPROTO_TCP, 14, sockaddr + struct.pack("=BBHI80s", 0, 0, len(key), 0, key))


@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), ("::1", "::1")])
def test_a_key_is_demanded_of_those_who_connect_and_can_change(ours: str, theirs: str) -> None:
    async def story() -> None:
        async with standing(ours) as stand:
            peer = stand.add(theirs, password=b"first")
            await quiet(ScriptedPeer.dial(*stand.address, source=theirs))
            await quiet(ScriptedPeer.dial(*stand.address, source=theirs, prepare=lambda s: md5(s, ours, b"other")))
            dialling = ScriptedPeer.dial(*stand.address, source=theirs, prepare=lambda s: md5(s, ours, b"first"))
            async with await dialling as remote:
                await remote.establish(OPEN)
                stand.transport.change_peer(Endpoint(address=theirs, password=b"second"), SETTINGS)
                md5(remote.socket, ours, b"second")
                await remote.say("END-OF-RIB vpnv4")
                await stand.until(lambda: stand.routes[theirs].lines == ["up", "update"])
            stand.transport.change_peer(Endpoint(address=theirs), SETTINGS)
            async with await ScriptedPeer.dial(*stand.address, source=theirs) as remote:
                await remote.expect("OPEN")
            assert peer.counters.flaps == 1

    run(story)


def test_a_key_signs_the_connections_that_we_make() -> None:
    async def story() -> None:
        async with standing() as stand:
            listener = ScriptedListener(THEIRS)
            md5(listener.socket, OURS, b"secret")
            with contextlib.closing(listener):
                stand.add(THEIRS, ACTIVE, port=listener.port, password=b"secret", source=OURS)
                async with await listener.accept() as remote:
                    await remote.establish(OPEN)

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


def test_endpoints_that_cannot_be_are_refused() -> None:
    for fields, value in [
        ({"address": "192.0.2.300"}, "192.0.2.300"),
        ({"address": "192.0.2.1", "source": "::1"}, "::1"),
        ({"address": "192.0.2.1", "password": b""}, "0 octets"),
        ({"address": "192.0.2.1", "password": b"x" * 81}, "81 octets"),
        ({"address": "192.0.2.1", "ttl": 256}, "256"),
        ({"address": "192.0.2.1", "ttl_security_hops": 0}, "ttl_security_hops 0"),
        ({"address": "192.0.2.1", "ttl": 2, "ttl_security_hops": 2}, "exclude"),
    ]:
        with pytest.raises(ValueError, match=value):
            Endpoint(**fields)  # type: ignore[arg-type]
    assert "secret" not in repr(Endpoint(address="192.0.2.1", password=b"secret"))


def test_an_address_that_cannot_be_listened_on_is_named() -> None:
    async def story() -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1 port 0"):
            Stand("192.0.2.1").transport.start()

    run(story)
