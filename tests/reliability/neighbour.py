"""A BGP neighbour that lives by itself beside a test: it keeps its session, counts what it hears, says what it is told.

    with Neighbour(daemon.port, "127.0.1.1", hold_s=3) as good:
        good.tell(octets)
        until(lambda: good.routes == 1000, "all routes arrive")

It never looks at a hold timer of its own: when the other end says nothing, that is for the test to say.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from speaker.errors import BgpError
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import Capability, ExtendedMessage, FourOctetAs, Multiprotocol, RouteRefreshCapability
from speaker.wire.message import (
    EXTENDED_LIMIT,
    KEEPALIVE,
    KEEPALIVE_TYPE,
    NOTIFICATION,
    UPDATE,
    Notification,
    Open,
    split,
)
from speaker.wire.update import UpdateDecoder
from tests.reliability.daemon import ADDRESS, AS

LIMIT_S = 20.0


def opening(
    address: str,
    *,
    hold_s: int = 90,
    asn: int = AS,
    families: Sequence[Family] = (Family.VPNV4,),
    more: Sequence[Capability] = (),
) -> bytes:
    """The OPEN of a neighbour, whose identifier is its address."""
    told = [*map(Multiprotocol, families), RouteRefreshCapability(), ExtendedMessage(), FourOctetAs(asn), *more]
    return Open(min(asn, 23456), hold_s, socket.inet_aton(address), tuple(told)).encode()


def dial(port: int, address: str, *, receive_octets: int | None = None) -> socket.socket:
    """A connection to the daemon from an address."""
    connection = socket.socket()
    try:
        if receive_octets is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        connection.settimeout(LIMIT_S)
        connection.bind((address, 0))
        connection.connect((ADDRESS, port))
    except BaseException:
        connection.close()
        raise
    return connection


class Neighbour:
    """One session, established when it is made."""

    def __init__(
        self,
        port: int,
        address: str,
        *,
        hold_s: int = 90,
        families: Sequence[Family] = (Family.VPNV4,),
        more: Sequence[Capability] = (),
        receive_octets: int | None = None,
        reads: bool = True,
    ) -> None:
        """With `reads` false it reads nothing once the session is established, and goes on to send KEEPALIVEs."""
        self.heard: dict[bytes, bytes] = {}  # NLRI key: extra part
        self.keepalives = 0
        self.updates = 0
        self.errors: list[BgpError] = []  # what was wrong with what came
        self.notification: Notification | None = None
        self.ended = False  # the other end has closed
        self._reads = reads
        self._every_s = hold_s / 3 if hold_s else 3600.0
        self._decoder = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset(families))
        self._buffer = b""
        self._out = bytearray()
        self._room = threading.Condition()
        self._stopping = False
        self._socket = dial(port, address, receive_octets=receive_octets)
        try:
            self._socket.sendall(opening(address, hold_s=hold_s, families=families, more=more) + KEEPALIVE)
            while not self.keepalives:
                octets = self._socket.recv(65536)
                assert octets, f"closed before the session was established: {self.notification}"
                self._take(octets)
                assert self.notification is None, self.notification
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def routes(self) -> int:
        """How many routes the other end has announced and not withdrawn."""
        return len(self.heard)

    def tell(self, octets: bytes) -> None:
        """Send, as soon as the other end takes it."""
        with self._room:
            self._out += octets
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def told(self, within_s: float = 120.0) -> None:
        """Wait until all is sent."""
        with self._room:
            assert self._room.wait_for(lambda: not self._out or self.ended, within_s), f"{len(self._out)} octets wait"
        assert not self.ended, f"the session has ended: {self.notification}"

    def close(self) -> None:
        """End the connection without a word."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._thread.join(LIMIT_S)
        for each in (self._socket, self._wake, self._woken):
            each.close()

    def _live(self) -> None:
        keepalive_at = time.monotonic() + self._every_s
        with contextlib.suppress(OSError):
            while not self._stopping and not self.ended:
                now = time.monotonic()
                if now >= keepalive_at:
                    keepalive_at = now + self._every_s
                    with self._room:
                        if not self._out:  # else what is being sent keeps the session, and a message is not cut in two
                            self._out += KEEPALIVE
                reads = [self._woken, *([self._socket] if self._reads else [])]
                writes = [self._socket] if self._out else []
                ready, writable, _ = select.select(reads, writes, [], max(keepalive_at - now, 0.0))
                if self._woken in ready:
                    self._woken.recv(4096)
                if writable:
                    with self._room:
                        del self._out[: self._socket.send(memoryview(self._out)[: 1 << 18].tobytes())]
                        self._room.notify_all()
                if self._socket in ready:
                    octets = self._socket.recv(1 << 18)
                    if octets:
                        self._take(octets)
                    else:
                        self.ended = True
        if not self._stopping:
            self.ended = True
        with self._room:
            self._room.notify_all()

    def _take(self, octets: bytes) -> None:
        self._buffer += octets
        messages, used = split(self._buffer, EXTENDED_LIMIT)
        self._buffer = self._buffer[used:]
        for kind, body in messages:
            if kind == KEEPALIVE_TYPE:
                self.keepalives += 1
            elif kind == NOTIFICATION:
                self.notification = Notification.decode(body)
            elif kind == UPDATE:
                self.updates += 1
                try:
                    update = self._decoder.decode(body)
                except BgpError as error:
                    self.errors.append(error)
                    continue
                self.errors += update.errors
                for _, keys in update.withdrawn:
                    for key in keys:
                        self.heard.pop(key, None)
                for _, routes in update.announced:
                    self.heard |= {key: path.extra for key, path in routes.items()}
