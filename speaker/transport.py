"""TCP under the peers: listening, connecting, reading, writing, closing (rim).

    socket --octets--> Peer.received --actions--> out buffer --octets--> socket
                           |                          ^
                           v                          | while it holds less than 256 KiB
                      pump(), soon                Peer.output

All of it are callbacks of one asyncio loop on non-blocking sockets; there are no tasks and no queues.

- Reads take up to 256 KiB, hand them to the peer and ask for `pump`, once a turn of the loop.  While `busy` says that
  the node has a backlog, nothing is read (TCP slows the peers down) and `pump` runs every turn.
- A peer's routes are pulled only while its out buffer is below 256 KiB and 64 KiB at a time, so a peer that does not
  read costs bounded memory, and a KEEPALIVE waits behind no more than that.
- When a peer seems silent, what the kernel holds of it is read first: a node that was stopped or busy does not take
  its own deafness for the peer's silence.
- A peer that takes nothing for twice the hold time is given up (8/0).  RFC 9687 recommends at least 8 minutes; for a
  PE, whose routes must follow the ports, that is too long.

A connection ends by writing what is left, shutting down the sending side, and reading and dropping for at most a
second: a close with unread input makes the kernel send RST, and the peer may never see the NOTIFICATION.

A source has a handful of connections at most: one more than it may is closed without a word (`CONNECTIONS_MOST`).
An address that is no peer's is closed without a word too, unless it is in a range: then it gets a neighbour of its own,
which is forgotten when it has no connection any more.  Refusals are counted, and told at a bounded rate.

Listening: `speaker.accepting`; TTL and the like: `speaker.sockets`; keys: `speaker.signatures`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_network

import attrs

from speaker.accepting import Accepting, Refusals
from speaker.connecting import Attempt
from speaker.peer import (
    CEASE,
    PEER_DECONFIGURED,
    Action,
    Cancel,
    Close,
    Connect,
    Connection,
    Ends,
    Peer,
    Report,
    Send,
)
from speaker.ranges import Range, covering
from speaker.session import Settings
from speaker.signatures import AoKey, EndpointError, ask_for, can_follow, set_ao, set_md5
from speaker.sockets import Endpoint, canonical, protect, readable

log = logging.getLogger(__name__)

READ_OCTETS = 256 * 1024
BUFFER_OCTETS = 256 * 1024
PULL_OCTETS = 64 * 1024
DRAIN_S = 1.0
SEND_HOLD_TIMER_EXPIRED = 8  # the NOTIFICATION code of RFC 9687
CONNECTIONS_MOST = 8
"""Of one source: two that collide and one established are in order; the others are about to be closed."""

UNOPENED_LINGER_S = 10.0
"""How long a neighbour of a range that never had a session is kept: who fails again and again is told of once."""

NO_PEER = "no peer has this address"
RANGE_FULL = "the range has as many neighbours as it may"
TOO_MANY = "too many connections from one address"


@attrs.define(eq=False)
class _Channel:
    """A connected socket."""

    socket: socket.socket
    neighbour: _Neighbour
    number: Connection
    out: bytearray = attrs.field(factory=bytearray)
    writing: bool = False  # a writer is registered
    reading: bool = False
    closing: asyncio.TimerHandle | None = None
    progress_at: float = 0.0  # when the kernel last took octets, or the buffer was last empty


@attrs.define(eq=False)
class _Neighbour:
    """A peer, its endpoint, and its sockets."""

    peer: Peer
    endpoint: Endpoint
    enabled: bool  # wanted so, whether or not the transport runs
    channels: dict[Connection, _Channel] = attrs.field(factory=dict)
    connecting: Attempt | None = None
    timer: asyncio.TimerHandle | None = None
    range: Range | None = None  # where it came from, if it was not configured
    forgetting: asyncio.TimerHandle | None = None


class Transport:
    """All TCP of a speaker; made and used inside a running asyncio loop.

    `pump` moves what was received on through the node, a share of work at a time; `busy` tells whether so much is
    waiting that nothing more should be read.
    """

    def __init__(
        self, listen: Iterable[tuple[str, int]], *, pump: Callable[[], None], busy: Callable[[], bool]
    ) -> None:
        self.refusals = Refusals()
        self._accepting = Accepting(listen, self._accepted)
        self._pump_node = pump
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._neighbours: dict[str, _Neighbour] = {}
        self._ranges: dict[str, Range] = {}
        self._closing: set[_Channel] = set()
        self._numbers = itertools.count(1)
        self._started = False
        self._pump_wanted = False
        self._reads_paused = False
        self._drained = asyncio.Event()

    # Running

    def start(self) -> None:
        """Listen and start all peers; OSError if an address or port cannot be had, and then nothing is started."""
        try:
            self._accepting.open()
            for neighbour in self._neighbours.values():
                if neighbour.range is None:
                    self._sign(neighbour.endpoint)
            for each in self._ranges.values():
                self._accepting.sign(str(each.prefix), each.password, each.ao_keys)
        except OSError:
            self._accepting.close()
            raise
        self._accepting.begin()
        self._started = True
        for neighbour in list(self._neighbours.values()):
            if neighbour.enabled:
                self._drive(neighbour, neighbour.peer.start)

    async def stop(self, *, graceful: bool) -> None:
        """End all sessions and close everything, in little more than a second however the peers behave.

        With `graceful` the connections close without a NOTIFICATION, so that peers which agreed on graceful
        restart keep our routes; otherwise Cease, administrative shutdown (6/2).
        """
        self._started = False
        self._accepting.close()
        for neighbour in list(self._neighbours.values()):
            self._drive(neighbour, partial(neighbour.peer.stop, graceful=graceful))
            self._disarm(neighbour)
        if self._closing:
            self._drained.clear()
            await self._drained.wait()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        return self._accepting.addresses

    @property
    def accept_paused(self) -> bool:
        """Whether no descriptor is free for another connection."""
        return self._accepting.paused

    # Peers

    @property
    def peers(self) -> dict[str, Peer]:
        """The peers by address."""
        return {address: neighbour.peer for address, neighbour in self._neighbours.items()}

    def add_peer(self, peer: Peer, endpoint: Endpoint, *, enabled: bool = True) -> None:
        """Take a peer in, and start it when the transport runs, if enabled; EndpointError if its address is taken.

        A neighbour of a range with this address makes way for it.
        """
        address = canonical(endpoint.address)
        known = self._neighbours.get(address)
        if known is not None and known.range is None:
            raise EndpointError(f"there is a peer at {address} already")
        self._sign(endpoint)
        if known is not None:
            self._forget(known)
        neighbour = self._neighbours[address] = _Neighbour(peer, endpoint, enabled)
        if self._started and enabled:
            self._drive(neighbour, peer.start)

    def remove_peer(self, address: str) -> None:
        """End a peer's session (Cease 6/3) and forget it; KeyError if there is none."""
        self._forget(self._neighbours[canonical(address)])

    def _forget(self, neighbour: _Neighbour) -> None:
        address, origin = canonical(neighbour.endpoint.address), neighbour.range
        del self._neighbours[address]
        neighbour.range = None
        self._drive(neighbour, partial(neighbour.peer.stop, subcode=PEER_DECONFIGURED))
        self._disarm(neighbour)
        if origin is None:
            self._accepting.sign(address, None, held=neighbour.endpoint.ao_keys)
        else:
            origin.neighbours.discard(address)
            origin.ended(address)

    def change_peer(self, endpoint: Endpoint, settings: Settings) -> None:
        """Take new settings of the peer at this address; KeyError if there is none.

        A new password is used at once on the living connection, which goes on if the neighbour changes its own
        before the hold time is over; so are new TCP-AO keys, as far as RFC 5925 lets them follow the old ones.  Any
        other difference ends the session (Cease 6/6) and begins a new one.
        """
        neighbour = self._neighbours[canonical(endpoint.address)]
        peer, old = neighbour.peer, neighbour.endpoint
        follows = old.ao_keys == endpoint.ao_keys or can_follow(old.ao_keys, endpoint.ao_keys)
        if neighbour.range is None:
            self._sign(endpoint, old.ao_keys)
        neighbour.endpoint = endpoint
        if not follows or attrs.evolve(old, password=endpoint.password, ao_keys=endpoint.ao_keys) != endpoint:
            self._drive(neighbour, partial(peer.change, settings, anew=True))
        elif settings != peer.settings:
            self._drive(neighbour, partial(peer.change, settings))
        else:
            for channel in neighbour.channels.values():
                if endpoint.password != old.password:
                    set_md5(channel.socket, endpoint.address, endpoint.password)
                if endpoint.ao_keys != old.ao_keys:
                    set_ao(channel.socket, endpoint.address, endpoint.ao_keys, old.ao_keys)

    def enable_peer(self, address: str) -> None:
        """Switch a peer on again; KeyError if there is none."""
        neighbour = self._neighbours[canonical(address)]
        neighbour.enabled = True
        if self._started and not neighbour.peer.enabled:
            self._drive(neighbour, neighbour.peer.start)

    def disable_peer(self, address: str, text: str = "") -> None:
        """End a peer's session (Cease 6/2 with the text) and keep it off; KeyError if there is none."""
        neighbour = self._neighbours[canonical(address)]
        neighbour.enabled = False
        self._drive(neighbour, partial(neighbour.peer.stop, text=text))

    def add_range(
        self,
        prefix: str,
        make: Callable[[str], tuple[Peer, Endpoint]],
        *,
        limit: int,
        ended: Callable[[str], None],
        linger_s: float = 0.0,
        password: bytes | None = None,
        ao_keys: tuple[AoKey, ...] = (),
    ) -> None:
        """Let anybody in a prefix connect who is no peer, `limit` at a time: `make` gives the neighbour of an address.

        Such a neighbour never connects.  It is forgotten, and `ended` told its address, when it has had no connection
        for `linger_s` seconds after its last session (the time for which its routes are kept), or for ten seconds if
        there never was one.  EndpointError if it cannot be.  In a prefix with keys, a peer without any cannot connect.
        """
        network = ip_network(prefix)
        if str(network) in self._ranges:
            raise EndpointError(f"there is a range {network} already")
        added = Range(
            prefix=network,
            make=make,
            ended=ended,
            limit=limit,
            linger_s=linger_s,
            password=password,
            ao_keys=ao_keys,
        )
        self._accepting.sign(str(network), password, ao_keys)
        self._ranges[str(network)] = added

    def remove_range(self, prefix: str) -> None:
        """End the sessions of a range's neighbours (Cease 6/3), and forget them and it; KeyError if there is none."""
        gone = self._ranges.pop(str(ip_network(prefix)))
        for address in list(gone.neighbours):
            self._forget(self._neighbours[address])
        self._accepting.sign(str(gone.prefix), None, held=gone.ao_keys)

    @property
    def ranges(self) -> dict[str, Range]:
        """The ranges by prefix."""
        return dict(self._ranges)

    # The node's side

    def flush(self) -> None:
        """Send what the node has to say now; to be called after it changed its routes."""
        for neighbour in list(self._neighbours.values()):
            for channel in list(neighbour.channels.values()):
                if not channel.writing:
                    self._write(channel)

    def pump_soon(self) -> None:
        """Ask for `pump` in this turn of the loop."""
        if not self._pump_wanted:
            self._pump_wanted = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_wanted = False
        try:
            self._pump_node()
        finally:
            busy = self._busy()
            if busy != self._reads_paused:
                self._reads_paused = busy
                for channel in self._channels():
                    self._watch_reads(channel)
            if busy:
                self.pump_soon()
            self.flush()

    # From events to peers and back

    def _drive(
        self, neighbour: _Neighbour, step: Callable[[float], list[Action]], connection: Connection | None = None
    ) -> None:
        """Let a peer act and do what it says (hot); an exception ends its session and nothing else."""
        now = self._loop.time()
        try:
            actions = step(now)
        except Exception:
            log.exception("peer=%s session=reset reason=exception", neighbour.peer.name)
            guilty = neighbour.peer.established if connection is None else connection
            actions = self._blame(neighbour.peer, guilty, now)
        touched: dict[_Channel, None] = {}
        for action in actions:
            match action:
                case Send(number, octets):
                    channel = neighbour.channels.get(number)
                    if channel is None:
                        continue
                    if not channel.out:
                        channel.progress_at = now
                    channel.out += octets
                    touched[channel] = None
                case Close(number):
                    channel = neighbour.channels.pop(number, None)
                    if channel is not None:  # else it is lost already
                        self._begin_close(channel)
                        touched[channel] = None
                case Connect():
                    self._connect(neighbour)
                case Cancel():
                    self._cancel(neighbour)
                case Report(text, warning):
                    log.log(logging.WARNING if warning else logging.INFO, "%s", text)
        for channel in touched:
            self._write(channel)
        if actions:
            self.pump_soon()  # routes went, perhaps, as with a session whose hold time is over
        self._arm(neighbour)
        if neighbour.range is not None:
            self._linger(neighbour, neighbour.range)

    def _blame(self, peer: Peer, connection: Connection | None, now: float) -> list[Action]:
        if connection is None:
            return []
        try:
            return peer.reset(connection, CEASE, 0, "internal error", now)
        except Exception:
            log.exception("peer=%s session=reset reason=exception", peer.name)
            return peer.lost(connection, "internal error", now)  # what was decided before the exception

    def _arm(self, neighbour: _Neighbour) -> None:
        """Have the peer ticked when it wants it (hot); a timer that is early only looks again."""
        times = [self._give_up_at(channel) for channel in neighbour.channels.values() if channel.out]
        times.append(neighbour.peer.deadline())
        wanted = min((at for at in times if at is not None), default=None)
        if wanted is None:
            return
        timer = neighbour.timer
        if timer is not None:
            if timer.when() <= wanted:
                return
            timer.cancel()
        neighbour.timer = self._loop.call_at(wanted, self._tick, neighbour)

    def _disarm(self, neighbour: _Neighbour) -> None:
        for timer in (neighbour.timer, neighbour.forgetting):
            if timer is not None:
                timer.cancel()
        neighbour.timer = neighbour.forgetting = None

    def _linger(self, neighbour: _Neighbour, origin: Range) -> None:
        """Forget a neighbour of a range some time after its last connection, unless it comes back."""
        if neighbour.channels:
            if neighbour.forgetting is not None:
                neighbour.forgetting.cancel()
                neighbour.forgetting = None
        elif neighbour.forgetting is None and self._started:
            peer = neighbour.peer
            delay_s = origin.linger_s if peer.counters.established else UNOPENED_LINGER_S
            if peer.held is not None:  # forgotten sooner, it would not be held off
                delay_s = max(delay_s, peer.held.until - self._loop.time())
            neighbour.forgetting = self._loop.call_later(delay_s, self._forget, neighbour)

    def _tick(self, neighbour: _Neighbour) -> None:
        neighbour.timer = None
        for channel in list(neighbour.channels.values()):
            if readable(channel.socket):  # reading is paused, or we were not running
                self._read(channel)
        self._drive(neighbour, neighbour.peer.tick)
        now = self._loop.time()
        for channel in list(neighbour.channels.values()):
            at = self._give_up_at(channel)
            if at is not None and now >= at:
                self._give_up(channel)

    def _give_up_at(self, channel: _Channel) -> float | None:
        """When the send hold timer of a channel expires (RFC 9687), if it runs."""
        negotiated = channel.neighbour.peer.negotiated
        if not channel.out or negotiated is None or channel.number != channel.neighbour.peer.established:
            return None
        return channel.progress_at + 2 * negotiated.hold_s if negotiated.hold_s else None

    def _give_up(self, channel: _Channel) -> None:
        peer, number = channel.neighbour.peer, channel.number
        self._drive(
            channel.neighbour,
            lambda now: peer.reset(number, SEND_HOLD_TIMER_EXPIRED, 0, "send hold timer expired", now),
            number,
        )

    # Reading and writing

    def _channels(self) -> list[_Channel]:
        return [channel for each in self._neighbours.values() for channel in each.channels.values()]

    def _open(self, neighbour: _Neighbour, connected: socket.socket) -> _Channel:
        number = next(self._numbers)
        channel = _Channel(connected, neighbour, number, progress_at=self._loop.time())
        neighbour.channels[number] = channel
        self._watch_reads(channel)
        return channel

    def _watch_reads(self, channel: _Channel) -> None:
        wanted = channel.closing is not None or not self._reads_paused
        if wanted and not channel.reading:
            self._loop.add_reader(channel.socket, self._read, channel)
        elif channel.reading and not wanted:
            self._loop.remove_reader(channel.socket)
        channel.reading = wanted

    def _read(self, channel: _Channel) -> None:
        """Take what the kernel holds, up to 256 KiB, to the peer (hot)."""
        try:
            data = channel.socket.recv(READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(channel, os.strerror(error.errno or 0))
            return
        if not data:
            self._lose(channel, "closed by the peer")
        elif channel.closing is None:
            peer, number = channel.neighbour.peer, channel.number
            self._drive(channel.neighbour, lambda now: peer.received(number, data, now), number)
            self.pump_soon()

    def _write(self, channel: _Channel) -> None:
        """Send what waits, and pull more of the peer's routes while there is room (hot)."""
        if channel.socket.fileno() < 0:
            return
        neighbour, out = channel.neighbour, channel.out
        pulled = False
        if channel.closing is None and channel.number == neighbour.peer.established and len(out) < BUFFER_OCTETS:
            try:
                octets = neighbour.peer.output(channel.number, PULL_OCTETS)
            except Exception:
                log.exception("peer=%s session=reset reason=exception", neighbour.peer.name)
                self._drive(
                    neighbour,
                    lambda now: neighbour.peer.reset(channel.number, CEASE, 0, "internal error", now),
                    channel.number,
                )
                return
            if octets:
                pulled = True
                if not out:
                    channel.progress_at = self._loop.time()
                out += octets
        if out:
            try:
                sent = channel.socket.send(out)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._broken(channel, os.strerror(error.errno or 0))
                return
            if sent:
                del out[:sent]
                channel.progress_at = self._loop.time()
        wanted = bool(out) or pulled
        if wanted and not channel.writing:
            self._loop.add_writer(channel.socket, self._write, channel)
        elif channel.writing and not wanted:
            self._loop.remove_writer(channel.socket)
        channel.writing = wanted
        if out and channel.closing is None:
            self._arm(neighbour)
        if channel.closing is not None and not out:
            self._shut(channel)

    def _broken(self, channel: _Channel, reason: str) -> None:
        """Sending failed; the reason may be waiting in what the peer sent before."""
        if channel.closing is None and readable(channel.socket):
            self._read(channel)
        if channel.closing is None:
            self._lose(channel, reason)
        else:
            self._drop(channel)

    def _lose(self, channel: _Channel, reason: str) -> None:
        neighbour, closing = channel.neighbour, channel.closing
        self._drop(channel)
        if closing is None:
            peer, number = neighbour.peer, channel.number
            self._drive(neighbour, lambda now: peer.lost(number, reason, now), number)
            self.pump_soon()

    def _begin_close(self, channel: _Channel) -> None:
        channel.closing = self._loop.call_later(DRAIN_S, self._drop, channel)
        self._closing.add(channel)
        self._watch_reads(channel)

    def _shut(self, channel: _Channel) -> None:
        try:
            channel.socket.shutdown(socket.SHUT_WR)
        except OSError:  # reset by the peer meanwhile
            self._drop(channel)

    def _drop(self, channel: _Channel) -> None:
        """Close a socket at last."""
        if channel.closing is not None:
            channel.closing.cancel()
        if channel.reading:
            self._loop.remove_reader(channel.socket)
        if channel.writing:
            self._loop.remove_writer(channel.socket)
        channel.reading = channel.writing = False
        channel.socket.close()
        channel.neighbour.channels.pop(channel.number, None)
        self._closing.discard(channel)
        if not self._closing:
            self._drained.set()

    # Accepting and connecting

    def _accepted(self, accepted: socket.socket, address: str) -> None:
        address = canonical(address)
        neighbour = self._neighbours.get(address) or self._admit(address)
        if neighbour is None or self._crowded(neighbour, address):
            accepted.close()
            return
        peer, endpoint = neighbour.peer, neighbour.endpoint
        try:
            protect(accepted, endpoint, ibgp=peer.settings.ibgp)
            if len(endpoint.ao_keys) > 1:
                ask_for(accepted, endpoint.ao_keys[0])
        except OSError as error:  # reset by the peer already
            accepted.close()
            log.info("peer=%s accept=failed reason=%r", peer.name, error.strerror)
            return
        channel, ends = self._open(neighbour, accepted), _ends(accepted)
        self._drive(neighbour, lambda now: peer.accept(channel.number, address, now, ends), channel.number)

    def _admit(self, address: str) -> _Neighbour | None:
        """Make the neighbour of an address in a range, if there is room for one."""
        origin = covering(self._ranges.values(), address)
        if origin is None:
            self.refusals.add(address, NO_PEER, self._loop.time())
            return None
        if origin.full:
            origin.refused += 1
            self.refusals.add(address, RANGE_FULL, self._loop.time())
            return None
        try:
            peer, endpoint = origin.neighbour(address)
        except Exception:
            log.exception("range=%s address=%s connection=refused reason=exception", origin.prefix, address)
            return None
        neighbour = self._neighbours[address] = _Neighbour(peer, endpoint, enabled=True, range=origin)
        origin.neighbours.add(address)
        log.info(
            "peer=%s range=%s neighbours=%d limit=%d", peer.name, origin.prefix, len(origin.neighbours), origin.limit
        )
        self._drive(neighbour, peer.start)
        return neighbour

    def _crowded(self, neighbour: _Neighbour, address: str) -> bool:
        """Whether a source has as many connections as it may, those included that are being closed."""
        closing = sum(channel.neighbour is neighbour for channel in self._closing)
        if len(neighbour.channels) + closing < CONNECTIONS_MOST:
            return False
        self.refusals.add(address, TOO_MANY, self._loop.time())
        return True

    def _connect(self, neighbour: _Neighbour) -> None:
        neighbour.connecting = Attempt(
            neighbour.endpoint,
            ibgp=neighbour.peer.settings.ibgp,
            connected=partial(self._connected, neighbour),
            refused=partial(self._refused, neighbour),
        )

    def _connected(self, neighbour: _Neighbour, connected: socket.socket) -> None:
        neighbour.connecting = None
        channel, ends = self._open(neighbour, connected), _ends(connected)
        peer, address = neighbour.peer, neighbour.endpoint.address
        self._drive(neighbour, lambda now: peer.connected(channel.number, address, now, ends), channel.number)

    def _refused(self, neighbour: _Neighbour, reason: str) -> None:
        neighbour.connecting = None
        self._drive(neighbour, lambda now: neighbour.peer.refused(reason, now))

    def _cancel(self, neighbour: _Neighbour) -> None:
        if neighbour.connecting is not None:
            neighbour.connecting.cancel()
            neighbour.connecting = None

    def _sign(self, endpoint: Endpoint, held: tuple[AoKey, ...] = ()) -> None:
        """Have the listeners demand the signatures of an address, or no more demand them."""
        self._accepting.sign(endpoint.address, endpoint.password, endpoint.ao_keys, held)


def _ends(connection: socket.socket) -> Ends | None:
    try:
        return Ends(connection.getsockname()[:2], connection.getpeername()[:2])
    except OSError:  # reset by the peer already
        return None
