"""Keys of the kernel: MD5 for real, TCP-AO by its octets and, on a kernel that has it, for real."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from ipaddress import ip_address

import pytest

from speaker.peer import Peer
from speaker.signatures import AoKey, EndpointError, ao_add, ao_delete, can_follow, md5_key, set_ao, set_md5
from speaker.sockets import Endpoint
from speaker.wire.attribute import Interner
from tests.fakes.loop import advance, run
from tests.fakes.scripted_peer import ScriptedListener, ScriptedPeer
from tests.speaker.standing import ACTIVE, OPEN, OTHER, OURS, SETTINGS, THEIRS, Ledger, quiet, standing

OLD, NEW = AoKey(1, 2, b"old"), AoKey(3, 4, b"new", "aes-128-cmac-96")


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


class Flags(ctypes.Structure):
    """The bit field of the three structures."""

    _fields_ = (
        ("set_current", ctypes.c_uint32, 1),
        ("set_rnext", ctypes.c_uint32, 1),
        ("reserved", ctypes.c_uint32, 30),
    )


class AoAdd(ctypes.Structure):
    """The struct tcp_ao_add of linux/tcp.h, laid out by the C rules."""

    _fields_ = (
        ("addr", ctypes.c_uint8 * 128),
        ("alg_name", ctypes.c_char * 64),
        ("ifindex", ctypes.c_int32),
        ("flags", Flags),
        ("reserved2", ctypes.c_uint16),
        ("prefix", ctypes.c_uint8),
        ("sndid", ctypes.c_uint8),
        ("rcvid", ctypes.c_uint8),
        ("maclen", ctypes.c_uint8),
        ("keyflags", ctypes.c_uint8),
        ("keylen", ctypes.c_uint8),
        ("key", ctypes.c_uint8 * 80),
    )


class AoDelete(ctypes.Structure):
    """The struct tcp_ao_del."""

    _fields_ = (
        ("addr", ctypes.c_uint8 * 128),
        ("ifindex", ctypes.c_int32),
        ("flags", Flags),
        ("reserved2", ctypes.c_uint16),
        ("prefix", ctypes.c_uint8),
        ("sndid", ctypes.c_uint8),
        ("rcvid", ctypes.c_uint8),
        ("current_key", ctypes.c_uint8),
        ("rnext", ctypes.c_uint8),
        ("keyflags", ctypes.c_uint8),
    )


def test_a_key_of_TCP_AO_has_the_octets_of_the_kernel() -> None:
    for peers, family, address_at, length in [
        ("192.0.2.1", socket.AF_INET, 4, 32),
        ("192.0.2.0/24", socket.AF_INET, 4, 24),
        ("2001:db8::1", socket.AF_INET6, 8, 128),
        ("2001:db8::/32", socket.AF_INET6, 8, 32),
    ]:
        packed = ip_address(peers.partition("/")[0]).packed
        for key, name in [(OLD, b"hmac(sha1)"), (NEW, b"cmac(aes128)")]:
            for chosen in (False, True):
                octets = ao_add(peers, key, chosen=chosen)
                assert len(octets) == ctypes.sizeof(AoAdd) == 288
                told = AoAdd.from_buffer_copy(octets)
                sockaddr = bytes(told.addr)
                assert sockaddr[:2] == struct.pack("=H", family)
                assert sockaddr[address_at : address_at + len(packed)] == packed
                assert sockaddr.count(0) >= 128 - 2 - len(packed), "no port, no flow, no scope"
                assert told.alg_name == name
                assert (told.flags.set_current, told.flags.set_rnext) == (chosen, chosen)
                assert (told.prefix, told.sndid, told.rcvid) == (length, key.send_id, key.receive_id)
                assert (told.maclen, told.keylen, bytes(told.key[: told.keylen])) == (12, 3, key.secret)
                assert (told.ifindex, told.reserved2, told.keyflags, told.flags.reserved) == (0, 0, 0, 0)
        for instead in (None, NEW):
            octets = ao_delete(peers, OLD, instead)
            assert len(octets) == ctypes.sizeof(AoDelete) == 144
            gone = AoDelete.from_buffer_copy(octets)
            assert (gone.prefix, gone.sndid, gone.rcvid) == (length, 1, 2)
            assert (gone.flags.set_current, gone.flags.set_rnext) == (instead is NEW, instead is NEW)
            assert (gone.current_key, gone.rnext) == ((3, 4) if instead else (0, 0))


def test_an_MD5_key_for_a_prefix_takes_the_extended_option() -> None:
    for peers, option, flags, length in [
        ("192.0.2.1", 14, 0, 0),
        ("192.0.2.1/32", 14, 0, 0),
        ("192.0.2.0/24", 32, 1, 24),
        ("2001:db8::/32", 32, 1, 32),
        ("0.0.0.0/0", 32, 1, 0),
    ]:
        got, octets = md5_key(peers, b"secret")
        assert (got, len(octets)) == (option, 216)
        assert struct.unpack_from("=BBHI6s", octets, 128) == (flags, length, 6, 0, b"secret")


def test_keys_that_cannot_be_are_refused() -> None:
    for fields, value in [
        ((256, 1, b"x"), "send_id 256"),
        ((1, -1, b"x"), "receive_id -1"),
        ((1, 1, b""), "0 octets"),
        ((1, 1, b"x" * 81), "81 octets"),
        ((1, 1, b"x", "md5"), "algorithm md5"),
    ]:
        with pytest.raises(EndpointError, match=value):
            AoKey(*fields)  # type: ignore[arg-type]


def test_a_living_connection_follows_keys_that_keep_their_numbers() -> None:
    for old, new, follows in [
        ((OLD,), (NEW, OLD), True),
        ((NEW, OLD), (NEW,), True),
        ((OLD,), (NEW,), True),
        ((OLD,), (OLD,), True),
        ((), (), True),
        ((), (OLD,), False),
        ((OLD,), (), False),
        ((OLD,), (AoKey(1, 2, b"another"),), False),
        ((OLD,), (AoKey(1, 5, b"another"), OLD), False),
        ((OLD,), (AoKey(5, 2, b"another"), OLD), False),
        ((OLD,), (AoKey(2, 1, b"another"), OLD), True),  # the two directions number for themselves
    ]:
        assert can_follow(old, new) == follows, (old, new)


def kernel_has_ao() -> bool:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, 38, ao_add("192.0.2.1", OLD, chosen=False))
        except OSError as error:
            return error.errno != errno.ENOPROTOOPT
        return True


@pytest.mark.skipif(kernel_has_ao(), reason="this kernel has TCP-AO")
def test_a_kernel_without_TCP_AO_is_named_as_the_reason() -> None:
    with socket.socket() as unconnected, pytest.raises(OSError, match=r"192\.0\.2\.1.*no TCP-AO.*6\.7.*CONFIG_TCP_AO"):
        set_ao(unconnected, "192.0.2.1", (OLD,))
    with socket.socket() as unconnected:
        set_ao(unconnected, "192.0.2.1", (), (OLD,))  # what is not there need not be removed

    async def story() -> None:
        async with standing() as stand:
            with pytest.raises(OSError, match="CONFIG_TCP_AO"):
                stand.add(THEIRS, ao_keys=(OLD,))
            assert stand.transport.peers == {}
        async with standing("::1") as stand:  # no listener of the family: the connection fails
            peer = stand.add(THEIRS, ACTIVE, ao_keys=(OLD,))
            await advance(0.0)
            assert "CONFIG_TCP_AO" in peer.counters.last_error

    run(story)


needs_ao = pytest.mark.skipif(not kernel_has_ao(), reason="this kernel has no TCP-AO")


def mirrored(*keys: AoKey) -> tuple[AoKey, ...]:
    """The keys as the other end has them."""
    return tuple(AoKey(key.receive_id, key.send_id, key.secret, key.algorithm) for key in keys)


def signs_with(connection: socket.socket) -> int:
    """The KeyID of what a connection sends (a struct tcp_ao_info_opt)."""
    octets, size = ctypes.create_string_buffer(48), ctypes.c_uint32(48)  # the kernel wants the octets zero beforehand
    libc = ctypes.CDLL(None)
    assert libc.getsockopt(connection.fileno(), socket.IPPROTO_TCP, 40, octets, ctypes.byref(size)) == 0
    (current,) = struct.unpack_from("=6xB", octets.raw)
    return int(current)


@needs_ao
@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), ("::1", "::1")])
def test_a_session_goes_from_one_key_of_TCP_AO_to_the_next(ours: str, theirs: str) -> None:
    async def story() -> None:
        async with standing(ours) as stand:
            peer = stand.add(theirs, ao_keys=(OLD,))
            await quiet(ScriptedPeer.dial(*stand.address, source=theirs))
            for wrong in (AoKey(2, 1, b"wrong"), AoKey(9, 9, b"old")):
                prepare = lambda made, wrong=wrong: set_ao(made, ours, (wrong,))  # noqa: E731
                await quiet(ScriptedPeer.dial(*stand.address, source=theirs, prepare=prepare))
            dialling = ScriptedPeer.dial(
                *stand.address, source=theirs, prepare=lambda made: set_ao(made, ours, mirrored(OLD))
            )
            async with await dialling as remote:
                await remote.establish(OPEN)
                held: tuple[AoKey, ...] = (OLD,)
                for keys in ((NEW, OLD), (NEW,)):
                    set_ao(remote.socket, ours, mirrored(*keys), mirrored(*held))
                    stand.transport.change_peer(Endpoint(address=theirs, ao_keys=keys), SETTINGS)
                    held = keys
                    updates = peer.counters.updates_in
                    await remote.say("END-OF-RIB vpnv4", "END-OF-RIB vpnv4")
                    await stand.until(lambda seen=updates + 2: peer.counters.updates_in == seen)  # type: ignore[misc]
                    for _ in range(20):  # the key that we ask for is in our next acknowledgement
                        if signs_with(remote.socket) == NEW.receive_id:
                            break
                        heard = peer.counters.messages_in
                        await remote.say("KEEPALIVE")
                        await stand.until(lambda seen=heard: peer.counters.messages_in > seen)  # type: ignore[misc]
                    assert signs_with(remote.socket) == NEW.receive_id
                assert peer.counters.flaps == 0
            # The next connection has to begin with the new one.
            dialling = ScriptedPeer.dial(
                *stand.address, source=theirs, prepare=lambda made: set_ao(made, ours, mirrored(NEW))
            )
            async with await dialling as remote:
                await remote.establish(OPEN)
                # A number that gets another key: no living session can follow, the next one can.
                another = AoKey(3, 4, b"another")
                stand.transport.change_peer(Endpoint(address=theirs, ao_keys=(another,)), SETTINGS)
                assert peer.state == "active"
            dialling = ScriptedPeer.dial(
                *stand.address, source=theirs, prepare=lambda made: set_ao(made, ours, mirrored(another))
            )
            async with await dialling as remote:
                await remote.establish(OPEN)
            stand.transport.change_peer(Endpoint(address=theirs), SETTINGS)
            async with await ScriptedPeer.dial(*stand.address, source=theirs) as remote:
                await remote.expect("OPEN")

    run(story)


@needs_ao
def test_TCP_AO_signs_the_connections_that_we_make_and_a_range() -> None:
    async def story() -> None:
        async with standing() as stand:
            listener = ScriptedListener(THEIRS)
            set_ao(listener.socket, OURS, mirrored(OLD, NEW))
            with contextlib.closing(listener):
                stand.add(THEIRS, ACTIVE, port=listener.port, ao_keys=(NEW, OLD), source=OURS)
                async with await listener.accept() as remote:
                    await remote.establish(OPEN)

            def make(address: str) -> tuple[Peer, Endpoint]:
                routes = stand.routes[address] = Ledger(stand.changed)
                return Peer(address, SETTINGS, routes, Interner(), lambda: 0.0), Endpoint(address=address)

            stand.transport.add_range("127.0.1.0/24", make, limit=9, ended=lambda address: None, ao_keys=(OLD,))
            await quiet(ScriptedPeer.dial(*stand.address, source="127.0.1.7"))
            dialling = ScriptedPeer.dial(
                *stand.address, source="127.0.1.7", prepare=lambda made: set_ao(made, OURS, mirrored(OLD))
            )
            async with await dialling as remote:
                await remote.establish(OPEN)
                stand.transport.remove_range("127.0.1.0/24")
                assert await remote.expect_end() == ["NOTIFICATION 6/3"]

    run(story)


def test_a_prefix_can_be_signed_and_an_address_in_it_otherwise() -> None:
    with socket.socket() as listener:
        listener.bind((OURS, 0))
        listener.listen()
        address = listener.getsockname()

        async def dialled(source: str, key: bytes | None) -> None:
            prepare = (lambda made: md5(made, OURS, key)) if key is not None else lambda made: None
            async with await ScriptedPeer.dial(*address, source=source, prepare=prepare):
                pass

        async def story() -> None:
            set_md5(listener, "127.0.0.0/29", b"shared")
            set_md5(listener, OTHER, b"own")
            for source, key, heard in [
                (THEIRS, b"shared", True),
                (THEIRS, None, False),
                (THEIRS, b"own", False),
                (OTHER, b"own", True),
                (OTHER, b"shared", False),
                ("127.0.0.8", None, True),
            ]:
                if heard:
                    await dialled(source, key)
                else:
                    await quiet(dialled(source, key))
            set_md5(listener, "127.0.0.0/29", None)
            set_md5(listener, "127.0.0.0/29", None)  # there is none any more
            await dialled(THEIRS, None)

        run(story)
