"""TCP sockets as BGP wants them: addresses, TTL, GTSM (rim); signed segments: `speaker.signatures`.

RFC 5082 (GTSM): the kernel checks it; a segment that fails never reaches us.
"""

from __future__ import annotations

import os
import select
import socket
from ipaddress import ip_address

import attrs

from speaker.signatures import KEY_OCTETS_MOST, AoKey, EndpointError, check_keys

BGP_PORT = 179

# Linux numbers that the socket module does not name.
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73

SEND_BUFFER_OCTETS = 256 * 1024
"""What the kernel holds for a peer that does not read; left to itself it grows to megabytes, before each KEEPALIVE."""

NETWORK_CONTROL = 0xC0  # DSCP CS6 (RFC 2474, RFC 4594 section 3.2)


@attrs.frozen(kw_only=True)
class Endpoint:
    """How to reach a neighbour, and how to protect the connection."""

    address: str
    port: int = BGP_PORT
    source: str | None = None  # our address of the connection; None: the kernel's choice
    password: bytes | None = attrs.field(default=None, repr=False)  # TCP MD5 (RFC 2385), 1 to 80 octets
    ao_keys: tuple[AoKey, ...] = ()  # TCP-AO (RFC 5925); the peer is asked to use the first
    ttl: int | None = None  # None: 1 towards another AS, 64 within ours
    ttl_security_hops: int | None = None  # at most so many hops away (RFC 5082); 1: directly connected

    def __attrs_post_init__(self) -> None:
        ip_address(self.address)
        if self.source is not None and ip_address(self.source).version != ip_address(self.address).version:
            raise EndpointError(f"source {self.source} and address {self.address} are of different families")
        check_keys(self.ao_keys)
        if self.password is not None and self.ao_keys:
            raise EndpointError(f"password and TCP-AO keys of {self.address} exclude each other")
        if self.password is not None and not 1 <= len(self.password) <= KEY_OCTETS_MOST:
            raise EndpointError(f"password of {self.address} has {len(self.password)} octets, not 1 to 80")
        for name, value in (("ttl", self.ttl), ("ttl_security_hops", self.ttl_security_hops)):
            if value is not None and not 1 <= value <= 255:
                raise EndpointError(f"{name} {value} of {self.address} is not 1 to 255")
        if self.ttl is not None and self.ttl_security_hops is not None:
            raise EndpointError(f"ttl and ttl_security_hops of {self.address} exclude each other")


def canonical(address: str) -> str:
    """Return an address in the one form by which addresses are compared; ValueError if it is none."""
    return str(ip_address(address))


def family_of(address: str) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def listening(address: str, port: int) -> socket.socket:
    """A listening socket; OSError names the address and port."""
    family = family_of(address)
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_ttl(listener, 255)  # a neighbour with GTSM looks at the TTL of our SYN-ACK already
        listener.bind((address, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address} port {port}: {os.strerror(error.errno or 0)}") from None
    return listener


def protect(connection: socket.socket, endpoint: Endpoint, *, ibgp: bool) -> None:
    """Set what a BGP connection to this neighbour needs, except for its keys, which an accepted one inherits."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
    if endpoint.ttl_security_hops is None:
        _set_ttl(connection, endpoint.ttl or (64 if ibgp else 1))
        return
    _set_ttl(connection, 255)
    least = 256 - endpoint.ttl_security_hops  # RFC 5082 section 3
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_IP, IP_MINTTL, least)
    else:
        connection.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, least)


def _set_ttl(connection: socket.socket, ttl: int) -> None:
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, NETWORK_CONTROL)
    else:
        connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        connection.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, NETWORK_CONTROL)


def readable(connection: socket.socket) -> bool:
    """Whether a read would not wait."""
    if connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
