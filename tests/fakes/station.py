"""A BMP monitoring station: a decoder of its own, written from RFC 7854 and RFC 9069, and what it makes of messages.

    heard = Heard()
    heard.take(octets)
    heard.log     ["INITIATION pe1: bgpvpnd", "PEER UP 192.0.2.9", "ROUTES 192.0.2.9 pre", "END 192.0.2.9 pre vpnv4"]
    heard.routes  {("192.0.2.9", "pre"): {(Family.VPNV4, key): Path}, ("loc-rib", ""): {...}}

Of the project it uses the decoder of UPDATE messages, with a table of its own for attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct

import attrs

from speaker.path import Path
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.message import EXTENDED_LIMIT, split
from speaker.wire.update import UpdateDecoder
from tests.fakes.messages import read

LIMIT_S = 10.0

View = tuple[str, str]
"""A peer's address and "pre" or "post", or "loc-rib" and nothing."""


def cut(octets: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Cut whole messages off: type and body of each; what is left."""
    messages = []
    while len(octets) >= 6:
        version, length, kind = struct.unpack("!BIB", octets[:6])
        assert version == 3, f"version {version} at {octets[:48].hex()}"
        assert length >= 6, length
        if len(octets) < length:
            break
        messages.append((kind, octets[6:length]))
        octets = octets[length:]
    return messages, octets


def information(octets: bytes) -> list[tuple[int, bytes]]:
    """Read type, length and value until the end."""
    found = []
    while octets:
        kind, length = struct.unpack("!HH", octets[:4])
        assert len(octets) >= 4 + length, octets.hex()
        found.append((kind, octets[4 : 4 + length]))
        octets = octets[4 + length :]
    return found


@attrs.define
class Heard:
    """What one connection told: a log of it, and the routes that it left."""

    log: list[str] = attrs.field(factory=list)
    routes: dict[View, dict[tuple[Family, bytes], Path]] = attrs.field(factory=dict)
    ended: set[tuple[View, Family]] = attrs.field(factory=set)  # End-of-RIBs
    up: dict[str, tuple[str, str]] = attrs.field(factory=dict)  # sessions: OPEN sent, OPEN received
    addresses: dict[str, tuple[str, int, int]] = attrs.field(factory=dict)  # local address, local port, remote port
    times: dict[View, set[int]] = attrs.field(factory=dict)  # seconds that Route Monitoring had
    statistics: dict[str, dict[int | tuple[int, Family], int]] = attrs.field(factory=dict)
    idle_withdrawals: int = 0  # of what was not told
    repeated: int = 0  # told although it was told so already
    _decoders: dict[str, UpdateDecoder] = attrs.field(factory=dict)
    _rest: bytes = b""

    def take(self, octets: bytes) -> None:
        """Take in octets as they come."""
        messages, self._rest = cut(self._rest + octets)
        for kind, body in messages:
            self._message(kind, body)

    def _message(self, kind: int, body: bytes) -> None:
        if kind == 4:
            (descr, name) = information(body)
            assert (descr[0], name[0]) == (1, 2)
            self.log.append(f"INITIATION {name[1].decode()}: {descr[1].decode()}")
            return
        if kind == 5:
            ((code, reason),) = information(body)
            assert code == 1
            self.log.append(f"TERMINATION {int.from_bytes(reason, 'big')}")
            return
        instance, flags, rd, address, _, _, seconds, _ = struct.unpack("!BB8s16sI4sII", body[:42])
        assert rd == bytes(8)
        who = "loc-rib"
        if instance == 0:
            who = str(ipaddress.ip_address(address if flags & 0x80 else address[12:]))
            assert flags & 0x80 or not any(address[:12])
        else:
            assert (instance, flags, address) == (3, 0, bytes(16))
        rest = body[42:]
        match kind:
            case 0:
                view = (who, "" if instance == 3 else "post" if flags & 0x40 else "pre")
                self._routes(view, rest, seconds)
            case 1:
                self._statistics(who, rest)
            case 2:
                self._down(who, rest)
            case 3:
                self._up(who, rest)
            case _:
                raise AssertionError(f"message type {kind}")

    def _up(self, who: str, rest: bytes) -> None:
        local, port, remote_port = struct.unpack("!16sHH", rest[:20])
        packed = local if any(local[:12]) else local[12:]
        self.addresses[who] = (str(ipaddress.ip_address(packed)), port, remote_port)
        opens = []
        rest = rest[20:]
        for _ in range(2):
            length = int.from_bytes(rest[16:18], "big")
            opens.append(rest[:length])
            rest = rest[length:]
        if who == "loc-rib":
            assert information(rest) == [(3, b"global")]
        else:
            assert rest == b""
        assert who not in self.up, f"{who} is up already"
        sent, received = ("".join(read(each)) for each in opens)
        self.up[who] = (sent, received)
        # Both ways must have agreed on path identifiers; the tests say so with "paths=".
        add_path = frozenset(family for family in Family if _paths(sent, family) & 1 and _paths(received, family) & 2)
        self._decoders[who] = UpdateDecoder(
            Interner(), ibgp=True, as4=True, families=frozenset(Family), add_path=add_path
        )
        self.log.append(f"PEER UP {who}")

    def _down(self, who: str, rest: bytes) -> None:
        reason, after = rest[0], rest[1:]
        words = ""
        match reason:
            case 1 | 3:
                words = "".join(read(after))
            case 2:
                words = f"event {int.from_bytes(after, 'big')}"
            case 6:
                assert information(after) == [(3, b"global")]
            case _:
                assert after == b""
        del self.up[who]
        for view in [view for view in self.routes if view[0] == who]:
            del self.routes[view]
        self.ended = {each for each in self.ended if each[0][0] != who}
        self.log.append(f"PEER DOWN {who} {reason} {words}".rstrip())

    def _routes(self, view: View, message: bytes, seconds: int) -> None:
        ((_, body),), used = split(message, EXTENDED_LIMIT)
        assert used == len(message)
        assert view[0] in self.up, f"routes of {view} before its Peer Up"
        self.times.setdefault(view, set()).add(seconds)
        held = self.routes.setdefault(view, {})
        update = self._decoders[view[0]].decode(body)
        assert update.errors == []
        for family, keys in update.withdrawn:
            for key in keys:
                self.idle_withdrawals += held.pop((family, key), None) is None
        for family, routes in update.announced:
            for key, path in routes.items():
                self.repeated += held.get((family, key)) is path
                held[(family, key)] = path
        if update.end_of_rib is not None:
            self.ended.add((view, update.end_of_rib))
            self.log.append(f"END {' '.join(filter(None, view))} {update.end_of_rib.text}")
        elif (line := f"ROUTES {' '.join(filter(None, view))}") not in self.log[-1:]:
            self.log.append(line)

    def _statistics(self, who: str, rest: bytes) -> None:
        values: dict[int | tuple[int, Family], int] = {}
        found = information(rest[4:])
        assert len(found) == int.from_bytes(rest[:4], "big")
        for kind, value in found:
            if kind in (9, 10):
                afi, safi, count = struct.unpack("!HBQ", value)
                values[(kind, Family(afi << 8 | safi))] = count
            else:
                assert len(value) == (8 if kind in (7, 8) else 4), kind
                values[kind] = int.from_bytes(value, "big")
        self.statistics[who] = values


def _paths(opened: str, family: Family) -> int:
    """Return what an OPEN, in words, says of path identifiers of a family: 1 to receive, 2 to send, 3 both."""
    for word in opened.split():
        name, _, value = word.partition("=")
        for each in value.split(",") if name == "paths" else ():
            of, _, mode = each.partition(":")
            if of == family.text:
                return int(mode)
    return 0


class ListeningStation:
    """A station on a port of the kernel's choice, that reads when it is told to."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.socket.bind((address, port))
        self.socket.listen()
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    async def accept(self) -> ConnectedStation:
        """Wait for the node to connect."""
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.socket), LIMIT_S)
        return ConnectedStation(connection)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()


class ConnectedStation:
    """One connection to a station."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.setblocking(False)
        self.heard = Heard()

    async def until(self, line: str) -> None:
        """Read until the log has this line."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while line not in self.heard.log[seen:]:
                    seen = len(self.heard.log)
                    if not await self.receive():
                        break
        assert line in self.heard.log[seen:], f"{line!r} did not come; heard {self.heard.log}"

    async def receive(self) -> bool:
        """Read what is there; False at the end."""
        octets = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 65536), LIMIT_S)
        self.heard.take(octets)
        return bool(octets)

    async def rest(self) -> None:
        """Read until the end."""
        while await self.receive():
            pass

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
