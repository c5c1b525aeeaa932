"""A BGP neighbour for benchmarks: all that it will say is encoded before the clock starts; it counts what it hears.

    python -m lab.generator ADDRESS SOURCE ROUTES VPNS PES [--single]

It connects from SOURCE to ADDRESS and speaks for PES provider edges: each of them announces the same prefixes, under
route distinguishers and with labels of its own, the first one preferred. Words on standard input:

    announce PE   all routes of a PE, numbered from 0
    withdraw PE   the same withdrawn
    end           End-of-RIB

Each answer is a line of JSON with the time of CLOCK_MONOTONIC, which all processes of a machine share: {"ready": octets
prepared}, {"sent": word} when the kernel took the last octet, {"heard": routes that the other end has announced and
not withdrawn}. It ends with its input. The hold time is 0: no KEEPALIVE follows the first (RFC 4271 section 4.2).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator

import attrs

from speaker.path import Attributes
from speaker.values import Family, RouteDistinguisher, RouteTarget
from speaker.wire.attribute import Interner, make
from speaker.wire.capability import FourOctetAs, Multiprotocol, RouteRefreshCapability
from speaker.wire.message import KEEPALIVE, NOTIFICATION, UPDATE, Notification, Open, split
from speaker.wire.update import UpdateDecoder, encode_updates, encode_withdrawals, end_of_rib

AS = 64512
PORT = 179
CONNECT_S = 30.0
FIRST_PREFIX = 16 << 24  # 16.0.0.0/24, 16.0.1.0/24 and so on


class GeneratorError(Exception):
    """The other end does not play its part."""


@attrs.frozen
class Plan:
    """What is announced: `routes` prefixes, dealt to `vpns` VPNs in turn, by each of `pes` provider edges."""

    routes: int
    vpns: int
    pes: int = 1
    single: bool = False  # one NLRI in each UPDATE, as after many small changes; else packed, as after a start

    def announcement(self, pe: int) -> Iterator[bytes]:
        """Yield the UPDATEs of a PE."""
        interner = Interner()
        of = [self._attributes(interner, pe, vpn) for vpn in range(self.vpns)]
        for vpn, keys in self._turns(pe):
            label = (((pe + 1) * 1000 + vpn) << 4 | 1).to_bytes(3, "big")
            yield from encode_updates(Family.VPNV4, of[vpn], ((key, label) for key in keys), as4=True)

    def withdrawal(self, pe: int) -> Iterator[bytes]:
        """Yield the UPDATEs that take all of it back."""
        for _, keys in self._turns(pe):
            yield from encode_withdrawals(Family.VPNV4, keys)

    def _turns(self, pe: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (VPN, keys) that go out together: a whole VPN, or one route."""
        if self.single:
            for number in range(self.routes):
                yield number % self.vpns, [self._key(pe, number)]
            return
        for vpn in range(self.vpns):
            yield vpn, [self._key(pe, number) for number in range(vpn, self.routes, self.vpns)]

    def _key(self, pe: int, number: int) -> bytes:
        distinguisher = RouteDistinguisher.parse(f"{AS}:{(pe + 1) * 1000 + number % self.vpns}")
        return distinguisher.wire + (FIRST_PREFIX + (number << 8)).to_bytes(4, "big")[:3] + b"\x18"

    def _attributes(self, interner: Interner, pe: int, vpn: int) -> Attributes:
        return make(
            interner,
            next_hop=ipaddress.ip_address(pe_address(pe)).packed,
            local_pref=200 - pe,
            ext_communities=(RouteTarget.parse(route_target(vpn)).wire,),
        )


def route_target(vpn: int) -> str:
    """The route target of a VPN."""
    return f"{AS}:{1000 + vpn}"


def pe_address(pe: int) -> str:
    """The next hop of a PE's routes."""
    return f"192.0.2.{pe + 1}"


class Speaking:
    """An established session, and the routes that were heard on it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._decoder = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset({Family.VPNV4}))
        self._heard: set[bytes] = set()
        self._buffer = b""
        self._out: list[tuple[str, memoryview]] = []

    def tell(self, word: str, octets: bytes) -> None:
        """Send octets as fast as they are taken; `word` is what is printed when all are."""
        self._out.append((word, memoryview(octets)))

    def turn(self, commands: int) -> bool:
        """Wait until something can be done, and do it; whether a command came."""
        endpoint = self.connection.fileno()
        ready, writable, _ = select.select([commands, endpoint], [endpoint] if self._out else [], [])
        if writable:
            word, left = self._out[0]
            left = left[self.connection.send(left) :]
            if left:
                self._out[0] = (word, left)
            else:
                del self._out[0]
                say(sent=word)
        if endpoint in ready:
            self._receive()
        return commands in ready

    def _receive(self) -> None:
        octets = self.connection.recv(1 << 18)
        if not octets:
            raise GeneratorError("the other end closed the session")
        messages, taken = split(self._buffer + octets)
        self._buffer = (self._buffer + octets)[taken:]
        before = len(self._heard)
        for kind, body in messages:
            if kind == NOTIFICATION:
                raise GeneratorError(f"the other end says {Notification.decode(body)}")
            if kind == UPDATE:
                update = self._decoder.decode(body)
                for _, routes in update.announced:
                    self._heard.update(routes)
                for _, keys in update.withdrawn:
                    self._heard.difference_update(keys)
        if len(self._heard) != before:
            say(heard=len(self._heard))


def say(**fact: object) -> None:
    """Print one fact, with the time."""
    print(json.dumps({**fact, "at": time.monotonic()}), flush=True)


def connected(address: str, source: str) -> socket.socket:
    """A connection on which both ends have said OPEN; GeneratorError or OSError."""
    until = time.monotonic() + CONNECT_S
    while True:
        try:
            connection = socket.create_connection((address, PORT), CONNECT_S, (source, 0))
            break
        except ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    capabilities = (Multiprotocol(Family.VPNV4), RouteRefreshCapability(), FourOctetAs(AS))
    connection.sendall(Open(AS, 0, socket.inet_aton(source), capabilities).encode() + KEEPALIVE)
    connection.setblocking(False)
    return connection


def run(plan: Plan, address: str, source: str, commands: int) -> None:
    """Speak until the commands end."""
    prepared = {"end": end_of_rib(Family.VPNV4)}
    for pe in range(plan.pes):
        prepared[f"announce {pe}"] = b"".join(plan.announcement(pe))
        prepared[f"withdraw {pe}"] = b"".join(plan.withdrawal(pe))
    with connected(address, source) as connection:
        speaking = Speaking(connection)
        say(ready=sum(map(len, prepared.values())))
        while True:
            if speaking.turn(commands):
                words = os.read(commands, 4096).decode()
                if not words:
                    return
                for word in words.splitlines():
                    speaking.tell(word, prepared[word])


def main(words: Iterable[str] | None = None) -> int:
    """Exit status 1 when the other end did not play its part."""
    parser = argparse.ArgumentParser(prog="lab.generator", description="A BGP neighbour for benchmarks.")
    parser.add_argument("address")
    parser.add_argument("source")
    parser.add_argument("routes", type=int)
    parser.add_argument("vpns", type=int)
    parser.add_argument("pes", type=int)
    parser.add_argument("--single", action="store_true")
    told = parser.parse_args(None if words is None else list(words))
    try:
        run(Plan(told.routes, told.vpns, told.pes, told.single), told.address, told.source, sys.stdin.fileno())
    except (GeneratorError, OSError) as error:
        print(f"lab.generator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
