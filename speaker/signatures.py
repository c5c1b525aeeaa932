"""Signed TCP segments: MD5 (RFC 2385) and TCP-AO (RFC 5925), as the Linux kernel wants its keys (rim).

A key belongs to an address, or on a listening socket to a whole prefix; a connection that is accepted inherits those
that match.  The kernel signs and checks; a segment that fails never reaches us.  On one address it is MD5 or TCP-AO.

TCP-AO names a key by the numbers that travel in the segments, so both ends can hold several and go from one to the next
without losing a segment: give both ends the new key, in front of the old one; then take the old one away.  Which key a
peer shall sign with is asked of it (RNextKeyID), never imposed: it has to have that key first (RFC 5925 section 5.2).
Tried on Linux 6.12; a kernel before 6.7, or built without CONFIG_TCP_AO, refuses the keys, and the error says so.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Literal

import attrs

# Linux numbers that the socket module does not name (linux/tcp.h).
TCP_MD5SIG = 14
TCP_MD5SIG_EXT = 32
TCP_AO_ADD_KEY = 38
TCP_AO_DEL_KEY = 39
TCP_AO_INFO = 40

TCP_MD5SIG_FLAG_PREFIX = 1
KEY_OCTETS_MOST = 80
MAC_OCTETS = 12  # 96 bits (RFC 5926 section 3.2)

Algorithm = Literal["hmac-sha-1-96", "aes-128-cmac-96"]
_KERNEL_NAMES: dict[Algorithm, bytes] = {"hmac-sha-1-96": b"hmac(sha1)", "aes-128-cmac-96": b"cmac(aes128)"}

# The first bits of a C bit field.
_SET_CURRENT, _SET_RNEXT = (1, 2) if sys.byteorder == "little" else (1 << 31, 1 << 30)


class EndpointError(ValueError):
    """An endpoint cannot be as configured; the text names the value."""


@attrs.frozen
class AoKey:
    """A master key tuple of TCP-AO (RFC 5925 section 3.1); EndpointError if it cannot be."""

    send_id: int  # KeyID of the segments that we sign with it
    receive_id: int  # KeyID of those that the peer signs with it
    secret: bytes = attrs.field(repr=False)  # 1 to 80 octets
    algorithm: Algorithm = "hmac-sha-1-96"  # those of RFC 5926

    def __attrs_post_init__(self) -> None:
        for name, value in (("send_id", self.send_id), ("receive_id", self.receive_id)):
            if not 0 <= value <= 255:
                raise EndpointError(f"{name} {value} of a TCP-AO key is not 0 to 255")
        if not 1 <= len(self.secret) <= KEY_OCTETS_MOST:
            raise EndpointError(f"a TCP-AO key has {len(self.secret)} octets, not 1 to {KEY_OCTETS_MOST}")
        if self.algorithm not in _KERNEL_NAMES:
            raise EndpointError(f"algorithm {self.algorithm} of a TCP-AO key is none of {', '.join(_KERNEL_NAMES)}")

    @property
    def ids(self) -> tuple[int, int]:
        """What names it in segments."""
        return self.send_id, self.receive_id


def check_keys(keys: Iterable[AoKey]) -> None:
    """Refuse keys that could not be told apart in a segment (RFC 5925 section 3.1): EndpointError."""
    for name in ("send_id", "receive_id"):
        numbers = [getattr(key, name) for key in keys]
        if len(set(numbers)) != len(numbers):
            raise EndpointError(f"two TCP-AO keys have one {name}: {numbers}")


def can_follow(old: tuple[AoKey, ...], new: tuple[AoKey, ...]) -> bool:
    """Whether a living connection can go from old keys to new ones: no number gets another key, and some stay or come.

    A connection that began without TCP-AO cannot get it, nor can one lose it.
    """
    known = {number: key for key in old for number in (("send", key.send_id), ("receive", key.receive_id))}
    clash = any(
        known.get(number, key) != key for key in new for number in (("send", key.send_id), ("receive", key.receive_id))
    )
    return bool(old) == bool(new) and not clash


def set_md5(connection: socket.socket, peers: str, password: bytes | None) -> None:
    """Set, change or (None) remove the MD5 key for an address or, on a listening socket, a prefix; OSError if the
    kernel cannot.
    """
    option, octets = md5_key(peers, password or b"")
    try:
        connection.setsockopt(socket.IPPROTO_TCP, option, octets)
    except OSError as error:
        if password is not None:
            text = f"TCP MD5 for {peers}: {os.strerror(error.errno or 0)}"
            raise OSError(error.errno, text) from None
        if error.errno not in (errno.ENOENT, errno.ENOPROTOOPT):  # there was none
            raise


def set_ao(connection: socket.socket, peers: str, keys: tuple[AoKey, ...], held: tuple[AoKey, ...] = ()) -> None:
    """Have these TCP-AO keys for an address, or prefix, where those of `held` were; OSError if the kernel cannot.

    The peer is asked to sign with the first.  Keys come before others go, so that a living connection goes on.
    """
    gone = [key for key in held if key not in keys]
    first = keys[0] if keys and not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else None
    if not can_follow(held, keys):  # a listening socket; what lived by the old keys has ended
        _remove(connection, peers, gone, None)
        gone = []
    for key in keys:
        if key not in held:
            _call(connection, TCP_AO_ADD_KEY, ao_add(peers, key, chosen=key is first and not held), peers)
    if first is not None and held:
        ask_for(connection, first)
    _remove(connection, peers, gone, first)


def ask_for(connection: socket.socket, key: AoKey) -> None:
    """Ask the peer of a connection to sign with this key from now on (RNextKeyID)."""
    _call(connection, TCP_AO_INFO, struct.pack("=IHBB5Q", _SET_RNEXT, 0, 0, key.receive_id, 0, 0, 0, 0, 0), "a peer")


def _remove(connection: socket.socket, peers: str, keys: Iterable[AoKey], first: AoKey | None) -> None:
    for key in keys:
        try:
            _call(connection, TCP_AO_DEL_KEY, ao_delete(peers, key, first), peers)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOPROTOOPT):  # there was none
                raise


def _call(connection: socket.socket, option: int, octets: bytes, peers: str) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, option, octets)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if error.errno == errno.ENOPROTOOPT:
            reason = "this kernel has no TCP-AO; it needs Linux 6.7 or later, built with CONFIG_TCP_AO"
        raise OSError(error.errno, f"TCP-AO for {peers}: {reason}") from None


def md5_key(peers: str, password: bytes) -> tuple[int, bytes]:
    """Return the option and its value, a struct tcp_md5sig; an empty password removes the key."""
    address, length, whole = _peers(peers)
    option, flags, length = (TCP_MD5SIG, 0, 0) if whole else (TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_PREFIX, length)
    return option, struct.pack("=128sBBHI80s", address, flags, length, len(password), 0, password)


def ao_add(peers: str, key: AoKey, *, chosen: bool) -> bytes:
    """Return a struct tcp_ao_add; `chosen`: the connection begins with this key in both directions."""
    address, length, _ = _peers(peers)
    return struct.pack(
        "=128s64siIHBBBBBB80s",
        address,
        _KERNEL_NAMES[key.algorithm],
        0,  # any interface
        _SET_CURRENT | _SET_RNEXT if chosen else 0,
        0,
        length,
        key.send_id,
        key.receive_id,
        MAC_OCTETS,
        0,  # TCP options are signed as well (RFC 5925 section 5.1)
        len(key.secret),
        key.secret,
    )


def ao_delete(peers: str, key: AoKey, instead: AoKey | None) -> bytes:
    """Return a struct tcp_ao_del; `instead`: what a connection uses from now on, in both directions."""
    address, length, _ = _peers(peers)
    flags, current, rnext = (
        (0, 0, 0) if instead is None else (_SET_CURRENT | _SET_RNEXT, instead.send_id, instead.receive_id)
    )
    return struct.pack("=128siIHBBBBBB", address, 0, flags, 0, length, key.send_id, key.receive_id, current, rnext, 0)


def _peers(peers: str) -> tuple[bytes, int, bool]:
    """Return an address or prefix as a sockaddr without a port, its length, and whether it is a single address."""
    network = ip_network(peers.partition("%")[0])  # the kernel takes no interface here
    packed = network.network_address.packed
    if network.version == 4:
        sockaddr = struct.pack("=HH4s", socket.AF_INET, 0, packed)
    else:
        sockaddr = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)
    return sockaddr, network.prefixlen, network.prefixlen == network.max_prefixlen
