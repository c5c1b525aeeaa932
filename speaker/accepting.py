"""Listening: the sockets that neighbours connect to, and the keys that the kernel demands of them (rim).

Who is let in is the business of `speaker.transport`; here it is seen to that accepting takes no more than its share of
a turn of the loop, and pauses when no descriptor is free instead of spinning.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable

from speaker.signatures import AoKey, set_ao, set_md5
from speaker.sockets import family_of, listening

log = logging.getLogger(__name__)

PAUSE_S = 1.0
REPORT_EVERY_S = 10.0
ACCEPTS_A_TURN = 16


class Refusals:
    """Connections that were closed without a word: counted by reason, and told at a bounded rate."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self._report_at: dict[str, float] = {}

    def add(self, address: str, reason: str, now: float) -> None:
        """Note one."""
        self.count[reason] += 1
        if now >= self._report_at.get(reason, now):
            self._report_at[reason] = now + REPORT_EVERY_S
            log.warning("connection=refused address=%s reason=%r total=%d", address, reason, self.count[reason])


class Accepting:
    """The listening sockets; `accepted` takes each connection, non-blocking, and the address it came from."""

    def __init__(self, listen: Iterable[tuple[str, int]], accepted: Callable[[socket.socket, str], None]) -> None:
        self.paused = False  # no descriptor is free
        self._listen = tuple(listen)
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []

    def open(self) -> None:
        """Listen, and leave who connects waiting; OSError names the address and port that cannot be had."""
        for address, port in self._listen:
            self._listeners.append(listening(address, port))

    def begin(self) -> None:
        """Accept from now on."""
        self.paused = False
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Listen no more."""
        self._end()
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        return [listener.getsockname()[:2] for listener in self._listeners]

    def sign(
        self, peers: str, password: bytes | None, keys: tuple[AoKey, ...] = (), held: tuple[AoKey, ...] = ()
    ) -> None:
        """Demand, or no more demand, signatures of an address or prefix; `held`: the TCP-AO keys so far."""
        family = family_of(peers.partition("/")[0])
        for listener in self._listeners:
            if listener.family == family:
                if keys:
                    set_md5(listener, peers, None)
                set_ao(listener, peers, keys, held)
                if not keys:
                    set_md5(listener, peers, password)

    def _end(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                accepted, (address, *_) = listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    return  # nobody waits, or who waited is gone
                # What waits stays in the kernel's queue; trying again at once would spin.
                self.paused = True
                self._end()
                self._loop.call_later(PAUSE_S, self.begin)
                log.warning("accept=paused reason=%r", os.strerror(error.errno))
                return
            accepted.setblocking(False)
            self._accepted(accepted, address)
