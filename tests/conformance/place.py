"""Where a case happens: the configured peering, the addresses and route numbers that are the case's own, its sessions.

Every route of a case has a *token* that no other case uses: for IPv4, IPv6 and flow specifications its prefix, for
VPNs and EVPN its route distinguisher, for RT membership the route target. The looking glass of the peer under test is
asked for tokens only, so that it matters little how each program writes its routes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs

from tests.conformance import wire
from tests.conformance.session import LIMIT_S, Failed, Session

Routes = Counter[tuple[str, str]]
"""How many paths there are of (family, token)."""

PEER_AS = 64512
"""The AS of the peer under test."""

EBGP_AS = 65001
PEER_ROUTER_ID = wire.ip("192.0.2.1")
TARGET = 1
"""The route target of all VPN routes here, 64512:1."""

FENCE, GOOD, NEW, BAD = 15, 1, 2, 3
"""Routes: told last, to see that all before was read; there before; new in the UPDATE; one that must not be taken."""


@attrs.frozen
class Peering:
    """How the peer under test is configured towards a case."""

    ibgp: bool = False
    families: tuple[str, ...] = ("ipv4", "ipv6", "vpnv4", "vpnv6", "evpn")
    hold_s: int = 90
    restart_s: int = 0  # graceful restart
    role: str = ""  # of the peer under test (RFC 9234)
    strict_role: bool = False
    add_path: bool = False  # it takes several paths
    long_lived_s: int = 0  # long-lived graceful restart (RFC 9494)
    limit: int = 0  # so many IPv4 routes may be told; 0: any number
    told_all: bool = False  # it passes on what others told, although the case is no client
    client: bool = False  # the case is a client of a route reflector
    connects: bool = False  # it connects to the case's address, port CASE_PORT
    configured: bool = True  # it knows the address at all


CASE_PORT = 1791


class NotApplicable(Exception):
    """The peer under test does not do what the case is about, and says so."""


class Subject(Protocol):
    """The peer under test, as far as cases see it."""

    address: str
    port: int
    own: str
    options: frozenset[str]

    def lives(self) -> bool:
        """Tell whether its process is there."""

    async def seen(self, enough: Callable[[Routes], bool], families: frozenset[str], within_s: float) -> Routes:
        """Return what the looking glass shows of these families as soon as it is enough, or when the time is over."""


@attrs.define(eq=False)
class Place:
    """Of one run of one case."""

    subject: Subject
    peering: Peering
    number: int  # of the case: 0 to 4000
    local: str  # its address
    needs: frozenset[int] = frozenset()  # capabilities that the peer under test must tell
    without: frozenset[int] = frozenset()  # and that it must not tell
    sessions: list[Session] = attrs.field(factory=list)
    as_octets: int = 4  # of an AS number in AS_PATH (RFC 6793)
    observer: Session | None = None  # another session, of a client of the route reflector, that is told all routes
    accepted: asyncio.Queue[socket.socket] = attrs.field(factory=asyncio.Queue)
    _listener: socket.socket | None = None
    _accepting: asyncio.Task[None] | None = None

    @property
    def asn(self) -> int:
        return PEER_AS if self.peering.ibgp else EBGP_AS

    @property
    def router_id(self) -> bytes:
        return bytes((10, 255, self.number >> 8, self.number & 255))

    # Sessions

    def session(self, families: tuple[str, ...] | None = None, *, hold_s: int = 90) -> Session:
        """Return a session that is not connected yet."""
        told = self.peering.families if families is None else families
        made = Session(self.local, self.asn, self.router_id, told, hold_s)
        self.sessions.append(made)
        return made

    async def connect(self, families: tuple[str, ...] | None = None, *, hold_s: int = 90) -> Session:
        """Return a session that has heard the other end's OPEN, and said nothing; a peer in Idle is asked again."""
        deadline = asyncio.get_running_loop().time() + 2.5 * LIMIT_S
        while True:
            made = self.session(families, hold_s=hold_s)
            try:
                await made.connect(self.subject.address, self.subject.port)
                await made.message(wire.OPEN, within_s=LIMIT_S)
            except (OSError, Failed) as error:
                await made.close()
                self.sessions.remove(made)
                if asyncio.get_running_loop().time() > deadline or not self.subject.lives():
                    raise Failed(f"no connection with an OPEN: {error}") from None
                await asyncio.sleep(0.2)
                continue
            self.check(made)
            return made

    def check(self, session: Session) -> None:
        """Raise NotApplicable where the capabilities that the peer under test tells do not fit the case."""
        if self.needs or self.without:
            told = {code for code, _ in session.told()}
            for code in sorted(self.needs - told):
                raise NotApplicable(f"it does not tell capability {code}")
            for code in sorted(self.without & told):
                raise NotApplicable(f"it tells capability {code}")

    async def opened(self, said: bytes | None = None, *, hold_s: int = 90) -> Session:
        """Return a session in which both OPENs were exchanged: the other end is in OpenConfirm."""
        made = await self.connect(hold_s=hold_s)
        await made.send(made.open() if said is None else said)
        await made.message(wire.KEEPALIVE)
        return made

    async def establish(
        self,
        *,
        families: tuple[str, ...] | None = None,
        capabilities: tuple[bytes, ...] = (),
        without: tuple[int, ...] = (),
        hold_s: int = 90,
        beat_s: float = 20.0,
    ) -> Session:
        """Return an established session that sends KEEPALIVEs."""
        made = await self.connect(families, hold_s=hold_s)
        await made.send(made.open(capabilities=capabilities, without=without), wire.keepalive())
        await made.message(wire.KEEPALIVE)
        made.beat(beat_s)
        return made

    def listen(self) -> None:
        """Accept connections of the peer under test."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.local, CASE_PORT))
        listener.listen(16)
        listener.setblocking(False)
        self._listener = listener

        async def accepting() -> None:
            while True:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                accepted.setblocking(False)
                self.accepted.put_nowait(accepted)

        self._accepting = asyncio.create_task(accepting())

    async def accept(self, within_s: float = 20.0) -> Session:
        """Return a session on the next connection that the peer under test makes."""
        try:
            async with asyncio.timeout(within_s):
                accepted = await self.accepted.get()
        except TimeoutError:
            raise Failed(f"it did not connect within {within_s:g} s") from None
        made = self.session()
        made.take(accepted)
        return made

    async def close(self) -> None:
        """End all that is open."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listener is not None:
            self._listener.close()
        for each in self.sessions:
            if not each.ending and each._socket is not None:
                await each.send(wire.notification(6, 2))
            await each.close()
        while not self.accepted.empty():
            self.accepted.get_nowait().close()

    # Routes

    def token(self, family: str, route: int) -> str:
        match family:
            case "ipv4" | "ipv4-flowspec":
                return f"10.{self.number >> 8}.{self.number & 255}.{route * 16}/28"
            case "ipv6" | "ipv6-flowspec":
                return f"2001:db8:{self.number + 1:x}:{route:x}::/64"
            case _:
                return f"64512:{self.unique(route)}"

    def unique(self, route: int) -> int:
        """A number for a route that no other case uses."""
        return 100_000 + self.number * 16 + route

    def nlri(self, family: str, route: int) -> bytes:
        """A right route of a family."""
        number, token = self.unique(route), self.token(family, route)
        match family:
            case "ipv4" | "ipv6":
                return wire.prefix(token)
            case "vpnv4":
                return wire.vpn_prefix(number, self.token("ipv4", route))
            case "vpnv6":
                return wire.vpn_prefix(number, self.token("ipv6", route))
            case "evpn":
                return wire.evpn(2, self.mac_route(route))
            case "rtc":
                return wire.u8(96) + wire.u32(self.asn) + wire.route_target(number)
            case "ipv4-flowspec":
                value = b"\x01" + wire.prefix(token)
            case "ipv6-flowspec":
                plain = wire.prefix(token)
                value = b"\x01" + plain[:1] + b"\0" + plain[1:]
            case _:
                raise ValueError(family)
        return wire.u8(len(value)) + value

    def unlabelled(self, family: str, route: int) -> bytes:
        """The octets by which a route is known in an UPDATE: its NLRI, in VPNs without length and label."""
        octets = self.nlri(family, route)
        return octets[4:] if family in ("vpnv4", "vpnv6") else octets

    def mac_route(self, route: int, *, address: bytes = b"", mac_bits: int = 48, ip_bits: int | None = None) -> bytes:
        """The value of an EVPN MAC/IP route (RFC 7432 section 7.2)."""
        number = self.unique(route)
        value = wire.rd(number) + bytes(10) + wire.u32(0) + wire.u8(mac_bits) + b"\x02\0" + wire.u32(number)
        return value + wire.u8(8 * len(address) if ip_bits is None else ip_bits) + address + wire.u24(number & 0xFFFFFF)

    def next_hop(self, family: str) -> bytes:
        address = wire.ip("198.51.100.1")
        match family:
            case "vpnv4":
                return bytes(8) + address
            case "ipv6":
                return wire.ip("2001:db8:ffff::1")
            case "vpnv6":
                return bytes(8) + wire.ip("2001:db8:ffff::1")
            case "ipv4-flowspec" | "ipv6-flowspec":
                return b""
            case _:
                return address

    def attributes(self, family: str) -> dict[str, bytes]:
        """The right attributes of a route, in the order of their codes, without MP_REACH_NLRI."""
        path = wire.segment(2, [self.asn], size=self.as_octets)
        made = {
            "origin": wire.attribute(wire.WELL_KNOWN, 1, b"\0"),
            "as_path": wire.attribute(wire.WELL_KNOWN, 2, b"" if self.peering.ibgp else path),
        }
        if family == "ipv4":
            made["next_hop"] = wire.attribute(wire.WELL_KNOWN, 3, self.next_hop(family))
        if self.peering.ibgp:
            made["local_pref"] = wire.attribute(wire.WELL_KNOWN, 5, wire.u32(100))
        if family in ("vpnv4", "vpnv6", "evpn"):
            communities = wire.route_target(TARGET)
            if family == "evpn":
                communities += b"\x03\x0c" + wire.u32(0) + wire.u16(8)
            made["ext_communities"] = wire.attribute(wire.OPTIONAL_TRANSITIVE, 16, communities)
        return made

    def announce(
        self,
        family: str,
        *routes: int,
        change: dict[str, bytes | None] | None = None,
        nlri: bytes | None = None,
        next_hop: bytes | None = None,
    ) -> bytes:
        """An UPDATE; `change` replaces attributes by name, takes them out (None), or adds others."""
        told = b"".join(self.nlri(family, route) for route in routes) if nlri is None else nlri
        made: dict[str, bytes | None] = dict(self.attributes(family))
        if family != "ipv4":
            hop = self.next_hop(family) if next_hop is None else next_hop
            made = {"mp_reach": wire.mp_reach(family, hop, told), **made}
            told = b""
        elif next_hop is not None:
            made["next_hop"] = wire.attribute(wire.WELL_KNOWN, 3, next_hop)
        made |= change or {}
        return wire.update(b"".join(each for each in made.values() if each is not None), told)

    def withdraw(self, family: str, *routes: int, nlri: bytes | None = None) -> bytes:
        told = b"".join(self.nlri(family, route) for route in routes) if nlri is None else nlri
        if family == "ipv4":
            return wire.update(withdrawn=told)
        return wire.update(wire.mp_unreach(family, told))

    # What became of them

    async def taken(self, family: str, *routes: int, within_s: float = LIMIT_S) -> None:
        """Wait until the peer under test has these routes."""
        tokens = {(family, self.token(family, route)) for route in routes}
        seen = await self.subject.seen(lambda seen: tokens <= seen.keys(), frozenset({family}), within_s)
        missing = sorted(token for each, token in tokens - seen.keys())
        if missing:
            endings = [each.ending for each in self.sessions if each.ending]
            raise Failed(f"{family} {', '.join(missing)} was not taken{f' ({endings[-1]})' if endings else ''}")

    async def gone(self, family: str, *routes: int, within_s: float = LIMIT_S) -> None:
        """Wait until it has them no more."""
        tokens = {(family, self.token(family, route)) for route in routes}
        seen = await self.subject.seen(lambda seen: not tokens & seen.keys(), frozenset({family}), within_s)
        left = sorted(token for each, token in tokens & seen.keys())
        if left:
            raise Failed(f"{family} {', '.join(left)} is still there after {within_s:g} s")

    async def paths(self, family: str, route: int, count: int, within_s: float = LIMIT_S) -> None:
        """Wait until it has so many paths of a route."""
        key = (family, self.token(family, route))
        seen = await self.subject.seen(lambda seen: seen[key] == count, frozenset({family}), within_s)
        if seen[key] != count:
            raise Failed(f"{family} {key[1]} has {seen[key]} paths, not {count}")

    async def passed_on(self, family: str, route: int) -> dict[int, bytes]:
        """Return the attributes with which the observer was last told a route, by their code, flags in front."""
        assert self.observer is not None
        heard, nlri = self.observer, self.unlabelled(family, route)

        def told() -> list[bytes]:
            return [each.body for each in heard.heard(wire.UPDATE) if nlri in each.body]

        await heard.until(lambda: bool(told()), f"{family} {self.token(family, route)} passed on")
        body = told()[-1]
        withdrawn = int.from_bytes(body[:2], "big")
        size = int.from_bytes(body[2 + withdrawn : 4 + withdrawn], "big")
        return wire.attributes_of(body[4 + withdrawn :][:size])

    async def stays(self, family: str, *routes: int, for_s: float) -> None:
        """See that routes are there all that time."""
        tokens = {(family, self.token(family, route)) for route in routes}
        seen = await self.subject.seen(lambda seen: not tokens <= seen.keys(), frozenset({family}), for_s)
        if not tokens <= seen.keys():
            raise Failed(f"{family} {', '.join(sorted(token for _, token in tokens - seen.keys()))} is gone")


Story = Callable[[Place], Awaitable[None]]
