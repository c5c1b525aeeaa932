"""Neighbours that are not configured one by one: a prefix from which anybody may connect, up to a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs

from speaker.peer import Peer
from speaker.signatures import AoKey, EndpointError, check_keys
from speaker.sockets import Endpoint, canonical


@attrs.define(eq=False, kw_only=True)
class Range:
    """A prefix, and what is made of an address in it that connects; EndpointError if it cannot be."""

    prefix: IPv4Network | IPv6Network
    make: Callable[[str], tuple[Peer, Endpoint]]  # the neighbour of an address: passive, with this very address
    ended: Callable[[str], None]  # the neighbour of an address is forgotten
    limit: int  # neighbours at a time
    linger_s: float  # how long one that had a session is kept without any connection
    password: bytes | None = attrs.field(default=None, repr=False)
    ao_keys: tuple[AoKey, ...] = ()
    neighbours: set[str] = attrs.field(factory=set)  # their addresses
    refused: int = 0  # connections beyond the limit

    def __attrs_post_init__(self) -> None:
        check_keys(self.ao_keys)
        if self.limit < 1:
            raise EndpointError(f"limit {self.limit} of range {self.prefix} is below 1")
        if self.password is not None and self.ao_keys:
            raise EndpointError(f"password and TCP-AO keys of {self.prefix} exclude each other")

    def neighbour(self, address: str) -> tuple[Peer, Endpoint]:
        """Make the neighbour of an address; EndpointError if what is made is not for it."""
        peer, endpoint = self.make(address)
        if canonical(endpoint.address) != address or not peer.settings.passive:
            raise EndpointError(f"the neighbour made for {address} is for {endpoint.address}, or not passive")
        return peer, endpoint

    @property
    def full(self) -> bool:
        """Whether it has as many neighbours as it may."""
        return len(self.neighbours) >= self.limit


def covering(ranges: Iterable[Range], address: str) -> Range | None:
    """Return the most exact range that an address is in."""
    wanted = ip_address(address)
    found = [each for each in ranges if each.prefix.version == wanted.version and wanted in each.prefix]
    return max(found, key=lambda each: each.prefix.prefixlen, default=None)
