"""Monitoring stations (rim): a TCP connection to each, that BMP messages go out on (RFC 7854 section 3).

    [away] --connect, 1, 2, 4 .. 60 s after each other--> [up] --lost: everything is told anew--> [away]

RFC 7854 section 3.2 suggests 30 s to 720 s; a station that was restarted shall not be blind for so long, and a
connection that is refused costs nothing.

A station says nothing; what comes from it is read and dropped, so that its end is noticed.  What it is told is pulled
from its `speaker.monitor.Monitor` while its buffer has room, so that one that does not read costs bounded memory and
harms nobody.  A station that is away is no trouble of the node.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Mapping

from bgpvpn.config import BmpConfig
from bgpvpn.views import Plain
from speaker.engine import Engine
from speaker.monitor import Identity, Monitor
from speaker.peer import Peer
from speaker.sockets import SEND_BUFFER_OCTETS, family_of

log = logging.getLogger(__name__)

CONNECT_S = 10.0
BACK_OFF_MOST_S = 60.0
STABLE_S = 10.0
"""A connection that lived this long clears the back-off."""

BUFFER_OCTETS = 256 * 1024
PULL_OCTETS = 64 * 1024
END_S = 1.0
"""How long a station may take to read the last messages."""

_METRICS: tuple[tuple[str, str, str, Callable[[Plain], int]], ...] = (
    ("up", "1: the monitoring station is connected", "gauge", lambda each: int(each["state"] == "up")),
    ("connects", "connection attempts to the monitoring station", "counter", lambda each: int(each["connects"])),
    ("octets_out", "octets sent to the monitoring station", "counter", lambda each: int(each["octets_out"])),
)

KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_TRIES = 60, 20, 3
"""TCP keepalives: BMP has none of its own, and nothing may happen for long."""


class Monitoring:
    """All stations of a node; made and used inside a running asyncio loop."""

    def __init__(
        self, stations: Iterable[BmpConfig], engine: Engine, peers: Callable[[], Mapping[str, Peer]], identity: Identity
    ) -> None:
        """`peers` returns the peers of the engine's neighbours as they are now."""
        self._stations = [Station(station, engine, peers, identity) for station in stations]

    def start(self) -> None:
        """Connect to every station."""
        for station in self._stations:
            station.start()

    def flush(self) -> None:
        """Tell what changed; to be called after sessions or routes did (hot: once a turn of the loop)."""
        for station in self._stations:
            station.flush()

    async def stop(self) -> None:
        """Say that nothing comes any more, and close, in little more than a second however the stations behave."""
        await asyncio.gather(*(station.stop() for station in self._stations))

    def states(self) -> list[Plain]:
        """Return one entry for each station."""
        return [station.state() for station in self._stations]

    def metrics(self) -> list[Plain]:
        """Return what is counted of the stations, as `bgpvpn.metrics` has it."""
        states = self.states()
        return [
            {
                "name": f"bgpvpn_station_{name}",
                "help": words,
                "type": kind,
                "samples": [{"labels": {"station": each["station"]}, "value": count(each)} for each in states],
            }
            for name, words, kind, count in _METRICS
        ]


class Station:
    """One station: its connection, and when to try again."""

    def __init__(
        self, wish: BmpConfig, engine: Engine, peers: Callable[[], Mapping[str, Peer]], identity: Identity
    ) -> None:
        self.wish = wish
        self.connects = 0
        self.octets_out = 0
        self.last_error = ""
        self._engine = engine
        self._peers = peers
        self._identity = identity
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._monitor: Monitor | None = None  # while connected
        self._out = bytearray()
        self._writing = False
        self._failures = 0  # in a row
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None  # to connect, to give that up, or to report statistics
        self._ending: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        address = f"[{self.wish.address}]" if ":" in self.wish.address else self.wish.address
        return f"{address}:{self.wish.port}"

    def state(self) -> Plain:
        """Return what is known of the station, as plain values."""
        state = "up" if self._monitor is not None else "away" if self._socket is None else "connecting"
        return {
            "station": str(self),
            "state": state,
            "since_s": round(self._loop.time() - self._since, 1),
            "tables": list(self.wish.tables),
            "connects": self.connects,
            "octets_out": self.octets_out,
            "octets_waiting": len(self._out),
            "last_error": self.last_error,
        }

    def start(self) -> None:
        """Connect now."""
        self._call_later(0.0, self._connect)

    def flush(self) -> None:
        """Send what there is to tell, unless the socket is full."""
        if self._monitor is not None and not self._writing:
            self._write()

    async def stop(self) -> None:
        """Send the last messages, wait for at most a second until they are out, and close."""
        if self._monitor is not None and self._ending is None:
            self._out += self._monitor.end(self._loop.time(), time.time())
            self._ending = self._loop.create_future()
            self._write()
            await asyncio.wait([self._ending], timeout=END_S)
        self._close()

    # Connecting

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, what)

    def _connect(self) -> None:
        self.connects += 1
        try:
            connecting = socket.socket(family_of(self.wish.address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._lose(_words(error))
            return
        self._socket = connecting
        try:
            _prepare(connecting)
            connecting.connect((self.wish.address, self.wish.port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(_words(error))
            return
        self._loop.add_writer(connecting, self._connected, connecting)
        self._call_later(CONNECT_S, lambda: self._lose(f"no answer in {CONNECT_S:g} s"))

    def _connected(self, connecting: socket.socket) -> None:
        self._loop.remove_writer(connecting)
        code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lose(os.strerror(code))
            return
        self._since = self._loop.time()
        self._monitor = Monitor(self._engine, self._peers, self._identity, self.wish.tables)
        self._loop.add_reader(connecting, self._read, connecting)
        log.info("station=%s state=up", self)
        self._report_later()
        self._write()

    def _lose(self, reason: str) -> None:
        """The connection is gone, or could not be made: try again later."""
        now = self._loop.time()
        if self._monitor is not None:
            log.warning("station=%s state=away reason=%r", self, reason)
            self._failures = 0 if now - self._since >= STABLE_S else self._failures
            self._since = now
        elif reason != self.last_error:
            log.warning("station=%s connect=failed reason=%r", self, reason)
        self.last_error = reason
        self._close()
        if self._ending is None:
            delay_s = min(BACK_OFF_MOST_S, 2.0 ** min(self._failures, 16))
            self._failures += 1
            self._call_later(delay_s * (1 - random.random() / 4), self._connect)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        self._out.clear()
        self._writing = False
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(None)

    # Telling

    def _read(self, connected: socket.socket) -> None:
        try:
            octets = connected.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(_words(error))
            return
        if not octets:
            self._lose("closed by the station")

    def _write(self) -> None:
        """Send what waits, and pull more while there is room; an exception ends this connection and nothing else."""
        assert self._socket is not None
        assert self._monitor is not None
        pulled = b""
        if self._ending is None and len(self._out) < BUFFER_OCTETS:
            try:
                pulled = self._monitor.output(PULL_OCTETS, self._loop.time(), time.time())
            except Exception:
                log.exception("station=%s state=reset reason=exception", self)
                self._lose("internal error")
                return
            self._out += pulled
        if self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose(_words(error))
                return
            del self._out[:sent]
            self.octets_out += sent
        wanted = bool(self._out or pulled)
        if wanted and not self._writing:
            self._loop.add_writer(self._socket, self._write)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._socket)
        self._writing = wanted
        if self._ending is not None and not self._out:
            self._close()

    def _report_later(self) -> None:
        if self.wish.statistics_s:
            self._call_later(self.wish.statistics_s, self._report)
        elif self._timer is not None:
            self._timer.cancel()

    def _report(self) -> None:
        """Tell statistics, unless the station is behind: they would be old when it reads them."""
        self._report_later()
        if self._monitor is not None and not self._out:
            self._out += self._monitor.statistics(time.time())
            self._write()


def _prepare(connecting: socket.socket) -> None:
    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_TRIES)


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0)
