"""One TCP connection with the peer under test, driven by a case: octets out, messages in, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import attrs

from tests.conformance import wire

LIMIT_S = 8.0
"""How long anything may take that should happen at once; what works takes milliseconds."""


class Failed(Exception):
    """The peer under test did what it must not, or did not what it must."""


@attrs.frozen
class Message:
    """A message from the peer under test, and when it came (seconds of the loop's clock)."""

    kind: int
    body: bytes
    at: float


@attrs.define(eq=False)
class Session:
    """A connection; `ending` is "" while it lives, then "closed", "reset", or a NOTIFICATION as CODE/SUBCODE:DATA."""

    local: str
    asn: int
    router_id: bytes
    families: tuple[str, ...]
    hold_s: int = 90
    messages: list[Message] = attrs.field(factory=list)
    ending: str = ""
    ended_at: float = 0.0
    spoke_at: float = 0.0  # when something was last sent, or about to be
    junk: bytes = b""  # what came and was no message
    _socket: socket.socket | None = None
    _happened: asyncio.Event = attrs.field(factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None
    _beating: asyncio.Task[None] | None = None
    _received: bytes = b""
    _sending: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    _may_read: asyncio.Event = attrs.field(factory=asyncio.Event)

    # Connecting and closing

    async def connect(self, remote: str, port: int) -> None:
        """Make the connection."""
        connecting = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connecting.setblocking(False)
        try:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.bind((self.local, 0))
            async with asyncio.timeout(LIMIT_S):
                await asyncio.get_running_loop().sock_connect(connecting, (remote, port))
        except BaseException:
            connecting.close()
            raise
        self.take(connecting)

    def take(self, connected: socket.socket) -> None:
        """Use a connection that exists."""
        self._socket = connected
        self._may_read.set()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._socket is not None
        while True:
            await self._may_read.wait()
            try:
                data = await loop.sock_recv(self._socket, 1 << 18)
            except OSError:
                self._end("reset")
                return
            if not data:
                self._end("closed")
                return
            self._received += data
            self._cut(loop.time())
            self._happened.set()

    def _cut(self, now: float) -> None:
        buffer, at = self._received, 0
        while len(buffer) - at >= 19:
            size = int.from_bytes(buffer[at + 16 : at + 18], "big")
            if buffer[at : at + 16] != wire.MARKER or size < 19:
                self.junk = buffer[at:]
                break
            if len(buffer) - at < size:
                break
            found = Message(buffer[at + 18], buffer[at + 19 : at + size], now)
            self.messages.append(found)
            if found.kind == wire.NOTIFICATION and len(found.body) >= 2:
                self._end(f"{found.body[0]}/{found.body[1]}:{found.body[2:].hex()}")
            at += size
        self._received = buffer[at:]

    def _end(self, ending: str) -> None:
        if not self.ending:
            self.ending, self.ended_at = ending, asyncio.get_running_loop().time()
        if self._beating is not None:
            self._beating.cancel()
        self._happened.set()

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    async def finish(self) -> None:
        """Send FIN, and read on."""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def close(self, *, abort: bool = False) -> None:
        """Close the connection; with `abort` by RST."""
        for task in (self._reading, self._beating):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._socket is not None:
            if abort:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    # Speaking

    async def send(self, *octets: bytes) -> None:
        """Send octets; that the other end has closed is seen by reading."""
        assert self._socket is not None
        self.spoke_at = asyncio.get_running_loop().time()
        async with self._sending:  # a KEEPALIVE in between would tear a message in two
            try:
                async with asyncio.timeout(2 * LIMIT_S):
                    await asyncio.get_running_loop().sock_sendall(self._socket, b"".join(octets))
            except TimeoutError:
                raise Failed(f"it does not read: nothing could be sent for {2 * LIMIT_S:g} s") from None
            except OSError:
                pass

    async def trickle(self, octets: bytes, every_s: float = 0.002) -> None:
        """Send octets one by one."""
        for at in range(len(octets)):
            await self.send(octets[at : at + 1])
            await asyncio.sleep(every_s)

    def open(
        self,
        *,
        capabilities: tuple[bytes, ...] = (),
        without: tuple[int, ...] = (),
        asn: int | None = None,
        router_id: bytes | None = None,
        hold_s: int | None = None,
    ) -> bytes:
        """Return a right OPEN, with `capabilities` beside the usual ones, and some of these left out."""
        asn = self.asn if asn is None else asn
        told = [*(wire.multiprotocol(family) for family in self.families), wire.four_octet_as(asn), *capabilities]
        octets = b"".join(each for each in told if each[0] not in without or each in capabilities)
        parameters = wire.parameter(2, octets) if octets else b""
        hold_s = self.hold_s if hold_s is None else hold_s
        body = wire.open_body(asn, hold_s, self.router_id if router_id is None else router_id, parameters)
        return wire.message(wire.OPEN, body)

    def beat(self, every_s: float) -> None:
        """Send KEEPALIVEs from now on."""

        async def go() -> None:
            while True:
                await asyncio.sleep(every_s)
                await self.send(wire.keepalive())

        self._beating = asyncio.create_task(go())

    # Hearing

    async def until(self, fact: Callable[[], bool], what: str, within_s: float = LIMIT_S) -> None:
        """Wait for a fact about what was heard; Failed when it does not come, or the connection ended without it."""
        try:
            async with asyncio.timeout(within_s):
                while not fact():
                    if self.ending:
                        raise Failed(f"no {what}: the session ended with {self.ending}")
                    self._happened.clear()
                    await self._happened.wait()
        except TimeoutError:
            raise Failed(f"no {what} within {within_s:g} s") from None

    async def message(self, kind: int, count: int = 1, within_s: float = LIMIT_S) -> Message:
        """Wait for the `count`th message of a kind."""
        await self.until(lambda: len(self.heard(kind)) >= count, f"message {count} of type {kind}", within_s)
        return self.heard(kind)[count - 1]

    def heard(self, kind: int) -> list[Message]:
        return [each for each in self.messages if each.kind == kind]

    async def ended(self, within_s: float = LIMIT_S) -> str:
        """Wait for the end, and return it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.ending:
                    self._happened.clear()
                    await self._happened.wait()
        if not self.ending:
            raise Failed(f"the session goes on for {within_s:g} s")
        return self.ending

    async def lives(self, for_s: float) -> None:
        """See that the session does not end in this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while not self.ending:
                    self._happened.clear()
                    await self._happened.wait()
        if self.ending:
            raise Failed(f"the session ended with {self.ending}")

    def told(self) -> list[tuple[int, bytes]]:
        """Return the capabilities that the peer under test told in its OPEN, read strictly."""
        opens = self.heard(wire.OPEN)
        if not opens:
            raise Failed("no OPEN was heard")
        return capabilities(opens[0].body)


def capabilities(body: bytes) -> list[tuple[int, bytes]]:
    """Return the capabilities of an OPEN (RFC 5492 section 4, RFC 9072 section 2); Failed where it is malformed."""
    size, rest = 1, body[10:]
    length = body[9]
    if length and rest[:1] == b"\xff":
        size, length, rest = 2, int.from_bytes(rest[1:3], "big"), rest[3:]
    if length != len(rest):
        raise Failed(f"its OPEN says {length} octets of parameters and has {len(rest)}")
    found = []
    while rest:
        end = 1 + size + int.from_bytes(rest[1 : 1 + size], "big")
        value = rest[1 + size : end]
        if rest[0] != 2 or len(rest) < end:
            raise Failed(f"its OPEN has a wrong parameter {rest.hex()}")
        while value:
            if len(value) < 2 or len(value) < 2 + value[1]:
                raise Failed(f"its OPEN has a wrong capability {value.hex()}")
            found.append((value[0], value[2 : 2 + value[1]]))
            value = value[2 + value[1] :]
        rest = rest[end:]
    return found
