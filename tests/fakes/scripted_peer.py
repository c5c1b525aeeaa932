"""A BGP peer that does what a test tells it, over real TCP: connects or listens, says and expects messages.

    async with ScriptedPeer.dial(address, port, source="127.0.0.2") as peer:
        await peer.expect("OPEN as=64512")
        await peer.say("OPEN as=64513 as4=64513 families=vpnv4 id=192.0.2.2", "KEEPALIVE")
        await peer.expect("KEEPALIVE")

Messages are words, as in `tests.fakes.messages`.  Every wait has a limit, and a wait that fails says what came instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.fakes.messages import read, write

LIMIT_S = 5.0


class ScriptedPeer:
    """One connection of a peer."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard: list[str] = []  # all messages so far
        self._buffer = b""
        self._next = 0  # how many of `heard` were expected

    @classmethod
    async def dial(
        cls,
        address: str,
        port: int,
        *,
        source: str,
        prepare: Callable[[socket.socket], None] = lambda connection: None,
    ) -> ScriptedPeer:
        """Connect; `prepare` may set socket options before."""
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        connection.setblocking(False)
        try:
            prepare(connection)
            connection.bind((source, 0))
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(connection, (address, port)), LIMIT_S)
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection (FIN, or RST if something was not read)."""
        self.socket.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    async def say(self, *texts: str) -> None:
        """Send messages, in one write."""
        await self.send(b"".join(write(text) for text in texts))

    async def send(self, octets: bytes) -> None:
        """Send octets."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, octets), LIMIT_S)

    async def expect(self, beginning: str, limit_s: float = LIMIT_S) -> str:
        """Wait for the next message and check that its words begin so; return them."""
        while len(self.heard) <= self._next:
            assert await self._receive(limit_s), f"closed where {beginning!r} was expected; heard {self.heard}"
        text = self.heard[self._next]
        self._next += 1
        assert text.startswith(beginning), f"{text!r} where {beginning!r} was expected; heard {self.heard}"
        return text

    async def expect_later(self, beginning: str, limit_s: float = LIMIT_S) -> str:
        """Wait for a message that begins so, passing over others."""
        async with asyncio.timeout(limit_s):
            while True:
                text = await self.expect("", limit_s)
                if text.startswith(beginning):
                    return text

    async def expect_end(self, limit_s: float = LIMIT_S) -> list[str]:
        """Wait for the other side to close; return the messages that came before and were not expected."""
        async with asyncio.timeout(limit_s):
            with contextlib.suppress(ConnectionResetError):
                while await self._receive(limit_s):
                    pass
        texts = self.heard[self._next :]
        self._next = len(self.heard)
        return texts

    async def establish(self, opening: str) -> str:
        """Go through OPEN and KEEPALIVE with this OPEN of ours; return the other side's."""
        theirs = await self.expect("OPEN")
        await self.say(opening, "KEEPALIVE")
        await self.expect("KEEPALIVE")
        return theirs

    async def _receive(self, limit_s: float) -> bool:
        octets = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 65536), limit_s)
        self._buffer += octets
        while len(self._buffer) >= 19 and len(self._buffer) >= (length := int.from_bytes(self._buffer[16:18], "big")):
            self.heard += read(self._buffer[:length])
            self._buffer = self._buffer[length:]
        return bool(octets)


class ScriptedListener:
    """Where a ScriptedPeer waits to be connected to; the port is the kernel's choice."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.bind((address, 0))
        self.socket.listen()
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    async def accept(self, limit_s: float = LIMIT_S) -> ScriptedPeer:
        """Wait for a connection."""
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.socket), limit_s)
        return ScriptedPeer(connection)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
