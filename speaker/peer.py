"""One configured neighbour: which connection to it lives, when to try again, what became of its routes.

A Peer owns a Session for each connection, made by us or by the neighbour, and sees to it that one survives
(RFC 4271 section 6.8).  It has no socket: the calls say what happened, the returned actions say what to do.

    [idle] --start--> [active] --back-off over--> [connect] --connected()--> a Session
      ^                  ^                            | refused()                |
      |                  +----------------------------+                          |
     stop                +-- back-off: 1, 2, 4 .. 60 s after a flap, <---- Down -+
                             1, 2, 4, 5 s while nobody answers

    accept() makes a Session at any time but in [idle]: the neighbour does not wait for our back-off.
    A neighbour that told too many prefixes is [idle] too while it is `held` off (Cease 6/1, then 6/5 to its attempts).

Which connection survives when an OPEN arrives on one while the other is there:

    other is open-confirm,            the one made by the speaker with the higher BGP identifier; Cease 6/7 to the other
    or open-sent for 10 s at most
    other is established              the established one
    other is established, and its     the new one: the neighbour restarted before its end of the old connection was
    end speaks graceful restart       seen (RFC 4724 section 5); the old one counts as lost, and no NOTIFICATION is sent

That open-sent counts, and that a connection of ours which comes to exist beside one in open-confirm is closed before
its OPEN, closes the gap that RFC 4271 leaves: one end established on the one connection while the other end chooses the
other, and both are lost.  The neighbour's identifier is known from its OPEN on the other connection.

Deviation: RFC 4724 section 5 drops the old connection when the new one is accepted.  Here it must first send a valid
OPEN, so that a connection that is a late loser of a collision, or not BGP at all, does not end a session.
Likewise a second connection made by the neighbour replaces its first, unless that is established.

What becomes of the routes when an established session ends, if graceful restart was agreed on (RFC 4724, RFC 8538):

    the connection is lost, the hold timer expires            they stay for the restart time
    a NOTIFICATION is sent or received                        they stay if both ends told the N bit, else they go
    a hard reset (Cease 6/9)                                  they go

We send a hard reset where our routes must not outlive the session: administrative shutdown, peer de-configured, too
many prefixes, another AS number.  Without the N bit these are the plain NOTIFICATIONs.  A restart of this speaker
closes without a word.

Deviation: without the N bit, a hold timer of ours that expires would count as a NOTIFICATION sent.  Here the routes
stay, since a peer that is cut off did not get it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import attrs

from speaker import session
from speaker.errors import PrefixLimitReached, TreatAsWithdraw
from speaker.notification import escape, hard_reset, is_hard
from speaker.session import Down, Malformed, Negotiated, Session, Settings
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.message import Notification
from speaker.wire.update import Update

Connection = int
"""What the owner of the sockets calls a connection: any number, never used twice for a peer."""

BACK_OFF_MOST_S = 60.0
UNANSWERED_MOST_S = 5.0
CONNECT_S = 10.0
"""How long a connection attempt may take."""

COLLISION_S = 10.0
"""How long the OPEN of a connection is waited for before another one is preferred."""

STABLE_S = 10.0
"""A session that lived this long clears the back-off."""

MALFORMED_REPORT_EVERY_S = 10.0
"""At most one line about malformed UPDATEs in this time."""

FAILURE_REPORT_EVERY_S = 60.0
"""At most one line in this time about connections that fail again and again for one reason."""

MALFORMED_KEPT = 16
"""How many malformed messages of a neighbour are kept."""

HOLD_TIMER_EXPIRED, CEASE = 4, 6
ADMINISTRATIVE_SHUTDOWN, PEER_DECONFIGURED, REJECTED, CONFIGURATION_CHANGE, COLLISION = 2, 3, 5, 6, 7  # RFC 4486


class Routes(Protocol):
    """Where the routes of a neighbour come from and go to: its adj-rib-in and adj-rib-out."""

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established; everything is to be told."""

    def update(self, update: Update, now: float) -> None:
        """An UPDATE was received (hot)."""

    def refresh(self, family: Family, now: float) -> None:
        """The neighbour asks to be told all routes of a family again (RFC 2918)."""

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        """The neighbour begins to tell all routes of a family again, or has done so (RFC 7313 section 4)."""

    def disable(self, family: Family, now: float) -> None:
        """Forget what was heard of a family: its NLRI cannot be read (RFC 4760 section 7)."""

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        """The session is lost; if `graceful`, its routes may stay for the restart time (RFC 4724 section 4.2)."""

    def output(self, budget: int) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to say."""


@attrs.frozen
class Connect:
    """Make a connection to the neighbour; the answer is `connected` or `refused`."""


@attrs.frozen
class Cancel:
    """Give up the connection attempt; there is no answer any more."""


@attrs.frozen
class Send:
    """Send octets on a connection, after what was sent before."""

    connection: Connection
    octets: bytes


@attrs.frozen
class Close:
    """Flush, shut down the sending side, drain for at most a second, close; the connection is not heard of again."""

    connection: Connection


@attrs.frozen
class Report:
    """One line for the operator's log."""

    text: str
    warning: bool = False


Action = Connect | Cancel | Send | Close | Report

PeerState = Literal["idle", "active", "connect", "open-sent", "open-confirm", "established"]


@attrs.frozen
class Ends:
    """The addresses and ports of a connection."""

    local: tuple[str, int]
    remote: tuple[str, int]


@attrs.frozen
class Held:
    """Why there is no session with a neighbour, and until when: nothing is connected, nothing accepted."""

    until: float
    reason: str


@attrs.define
class Counters:
    """What happened to a neighbour since it was configured."""

    messages_in: int = 0
    messages_out: int = 0
    updates_in: int = 0
    malformed: int = 0  # errors in UPDATEs, each treated as RFC 7606 says
    treated_as_withdraw: int = 0  # UPDATEs of which routes were
    connects: int = 0  # connection attempts
    accepted: int = 0  # connections of the neighbour
    established: int = 0
    flaps: int = 0  # sessions lost after they were established
    limits: int = 0  # sessions ended for too many prefixes
    rejected: int = 0  # connections of the neighbour that were refused at once
    last_error: str = ""
    last_down: str = ""
    last_down_at: float | None = None


@attrs.define
class _Line:
    """A connection, its session, and who made it."""

    session: Session
    outbound: bool
    address: str
    since: float
    ends: Ends | None
    replaces: bool = False  # accepted while a session with graceful restart was established


class Peer:
    """One neighbour.

    `chance` returns a random number in [0, 1) and makes the jitter of the back-off.  `restarting` and
    `forwarding` describe the start of this process, for the first OPEN (RFC 4724 section 4.1); a session lost
    later does not disturb our forwarding, and the OPENs after it say so.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        routes: Routes,
        interner: Interner,
        chance: Callable[[], float],
        *,
        restarting: bool = False,
        forwarding: frozenset[Family] = frozenset(),
    ) -> None:
        self.name = name
        self.settings = settings
        self.routes = routes
        self.counters = Counters()
        self.enabled = False
        self.restarting = restarting
        self.forwarding = forwarding
        self.established: Connection | None = None
        self.since = 0.0  # when the present state of being established, or not, began
        self.held: Held | None = None
        self.last_end: Down | None = None  # of the last established session; there already when its routes go down
        self.malformed: deque[tuple[float, Malformed]] = deque(maxlen=MALFORMED_KEPT)  # each with the time it came
        self._interner = interner
        self._chance = chance
        self._lines: dict[Connection, _Line] = {}
        self._connecting_until: float | None = None
        self._connect_at: float | None = None
        self._unanswered = 0  # attempts in a row
        self._failed = 0  # sessions in a row that did not live long
        self._outlived: Negotiated | None = None  # of the session whose routes stay until there is another one
        self._malformed_report_at = 0.0
        self._failure_report_at = 0.0
        self._out: list[Action] = []

    @property
    def state(self) -> PeerState:
        """The state of RFC 4271 section 8.2.2 that comes nearest; of two connections, the further one's."""
        if not self.enabled or self.held is not None:
            return "idle"
        states = {line.session.state for line in self._lines.values()}
        furthest: tuple[PeerState, ...] = ("established", "open-confirm", "open-sent")
        for state in furthest:
            if state in states:
                return state
        return "connect" if self._connecting_until is not None else "active"

    @property
    def negotiated(self) -> Negotiated | None:
        """What the established session agreed on; None if there is none."""
        return None if self.established is None else self._lines[self.established].session.negotiated

    @property
    def ends(self) -> Ends | None:
        """The addresses and ports of the established session; None if there is none, or nobody told."""
        return None if self.established is None else self._lines[self.established].ends

    def start(self, now: float) -> list[Action]:
        """Switch the neighbour on: connect at once, unless passive."""
        self.enabled = True
        self.since = now
        self._unanswered = self._failed = 0
        if not self.settings.passive:
            self._connect_at = now
        return self.tick(now)

    def stop(
        self,
        now: float,
        *,
        graceful: bool = False,
        subcode: int = ADMINISTRATIVE_SHUTDOWN,
        text: str = "",
        hard: bool = True,
    ) -> list[Action]:
        """Switch the neighbour off: Cease, or, if `graceful`, without a word so that it keeps our routes.

        `hard`: routes do not outlive it, whatever was agreed on.  What held the neighbour off is forgotten.
        """
        self.enabled = False
        self.held = None
        self._cancel()
        for connection, line in list(self._lines.items()):
            if graceful:
                self._carry(connection, line.session.abandon("restart of this speaker", local=True), now)
            else:
                self._end(connection, line, Notification(CEASE, subcode), text, now, hard=hard)
        if hard and not graceful and self._outlived is not None:
            lost, self._outlived = self._outlived, None
            self.routes.down(lost, False, now)
        return self._take()

    def change(self, settings: Settings, now: float, *, anew: bool = False) -> list[Action]:
        """Take new settings; sessions end (Cease 6/6) and begin anew if anything differs, or in any case if `anew`."""
        if settings == self.settings and not anew:
            return []
        enabled, old = self.enabled, self.settings
        another = (old.local_as, old.remote_as) != (settings.local_as, settings.remote_as)
        actions = self.stop(now, subcode=CONFIGURATION_CHANGE, hard=another)
        self.settings = settings
        return [*actions, *self.start(now)] if enabled else actions

    def accept(self, connection: Connection, address: str, now: float, ends: Ends | None = None) -> list[Action]:
        """The neighbour made a connection; refused (RFC 4486 section 4) while there shall be no session."""
        if not self.enabled or self.held is not None:
            self.counters.rejected += 1
            return [Send(connection, Notification(CEASE, REJECTED).encode()), Close(connection)]
        self.counters.accepted += 1
        for other, line in list(self._lines.items()):
            if not line.outbound and other != self.established:
                self._collide(other, line, now)
        replaces = self.negotiated is not None and _kept(self.negotiated)
        self._begin(connection, _Line(self._session(), False, address, now, ends, replaces), now)
        return self._take()

    def connected(self, connection: Connection, address: str, now: float, ends: Ends | None = None) -> list[Action]:
        """The connection that `Connect` asked for exists."""
        self._connecting_until = None
        self._unanswered = 0
        if not self.enabled or self.held is not None or self.state in ("open-confirm", "established"):
            return [Close(connection)]
        self._begin(connection, _Line(self._session(), True, address, now, ends), now)
        return self._take()

    def refused(self, reason: str, now: float) -> list[Action]:
        """The connection that `Connect` asked for could not be made."""
        if self._connecting_until is not None:
            self._unreached(reason, now)
        return self._take()

    def received(self, connection: Connection, data: bytes, now: float) -> list[Action]:
        """Octets came in on a connection (hot: once per read)."""
        line = self._lines.get(connection)
        if line is not None:
            session = line.session
            heard = session.messages_in
            actions = session.received(data, now)
            self.counters.messages_in += session.messages_in - heard
            self._carry(connection, actions, now)
        return self._take()

    def lost(self, connection: Connection, reason: str, now: float) -> list[Action]:
        """A connection is gone, or ended by the neighbour."""
        line = self._lines.get(connection)
        if line is not None:
            self._carry(connection, line.session.abandon(reason), now)
        return self._take()

    def reset(self, connection: Connection, code: int, subcode: int, reason: str, now: float) -> list[Action]:
        """End the session on a connection with a NOTIFICATION, for a reason found outside of it.

        Right also after an exception out of any other call: what that call did not come to is done here.
        """
        line = self._lines.get(connection)
        if line is not None:
            self._end(connection, line, Notification(code, subcode), reason, now)
        return self._take()

    def tick(self, now: float) -> list[Action]:
        """Do what the time asks for."""
        for connection, line in list(self._lines.items()):
            self._carry(connection, line.session.tick(now), now)
        if self._connecting_until is not None and now >= self._connecting_until:
            self._out.append(Cancel())
            self._unreached(f"no answer in {CONNECT_S:g} s", now)
        if self.held is not None and now >= self.held.until:
            self.held = None
            self._retry(0, BACK_OFF_MOST_S, now)
        if self._connect_at is not None and now >= self._connect_at:
            self._connect_at = None
            self._connecting_until = now + CONNECT_S
            self.counters.connects += 1
            self._out.append(Connect())
        return self._take()

    def deadline(self) -> float | None:
        """Return when `tick` is wanted next; None: never."""
        wanted = [self._connecting_until, self._connect_at, None if self.held is None else self.held.until]
        wanted += [line.session.deadline() for line in self._lines.values()]
        return min((at for at in wanted if at is not None), default=None)

    def output(self, connection: Connection, budget: int) -> bytes:
        """Return the next messages with routes for a connection, about `budget` octets; empty if there are none."""
        if connection != self.established:
            return b""
        octets = self.routes.output(budget)
        at = 0
        while at < len(octets):
            self.counters.messages_out += 1
            at += int.from_bytes(octets[at + 16 : at + 18], "big")
        return octets

    def _take(self) -> list[Action]:
        # What was decided before an exception is not lost: the next call returns it.
        out, self._out = self._out, []
        return out

    def _session(self) -> Session:
        return Session(self.settings, self._interner, restarting=self.restarting, forwarding=self.forwarding)

    def _begin(self, connection: Connection, line: _Line, now: float) -> None:
        self._lines[connection] = line
        self._carry(connection, line.session.connected(now), now)

    def _carry(self, connection: Connection, actions: list[session.Action], now: float) -> None:
        """Carry out what a session decided, in order (hot)."""
        for action in actions:
            match action:
                case session.Routes(update):
                    if not self._updated(connection, update, now):
                        return
                case session.Send(octets):
                    self.counters.messages_out += 1
                    self._out.append(Send(connection, octets))
                case session.Opened(router_id):
                    if not self._survives(connection, router_id, now):
                        return
                case session.Up(negotiated):
                    self._up(connection, negotiated, now)
                case session.Refresh(family):
                    self.routes.refresh(family, now)
                case session.Refreshing(family, begins):
                    self.routes.refreshing(family, begins, now)
                case Malformed():
                    self.malformed.append((now, action))
                case session.Disabled(family, reason):
                    self.counters.last_error = reason
                    self._report(f"family={family.text} disabled reason={reason!r}", warning=True)
                    self.routes.disable(family, now)
                case session.Close():
                    self._out.append(Close(connection))
                case Down():
                    self._down(connection, action, now)

    def _updated(self, connection: Connection, update: Update, now: float) -> bool:
        """Hand an UPDATE on (hot); False if it was one too many, and what else came with it counts no more."""
        counters = self.counters
        counters.updates_in += 1
        if update.errors:
            counters.malformed += len(update.errors) + update.errors.left_out
            counters.treated_as_withdraw += any(isinstance(error, TreatAsWithdraw) for error in update.errors)
            counters.last_error = escape(update.errors[-1].reason)
            if now >= self._malformed_report_at:
                self._malformed_report_at = now + MALFORMED_REPORT_EVERY_S
                self._report(f"malformed={counters.malformed} last={counters.last_error!r}", warning=True)
        try:
            self.routes.update(update, now)
        except PrefixLimitReached as limit:
            self._limited(connection, limit, now)
            return False
        return True

    def _limited(self, connection: Connection, limit: PrefixLimitReached, now: float) -> None:
        """End all for too many prefixes, and hold the neighbour off (RFC 4486 section 4)."""
        self.counters.limits += 1
        self.counters.last_error = limit.reason
        if limit.restart_s > 0:
            self.held = Held(now + limit.restart_s, limit.reason)
            self._cancel()
        self._report(f"session=limited held_s={limit.restart_s:g} reason={limit.reason!r}", warning=True)
        for other, line in list(self._lines.items()):
            if other != connection:
                self._end(other, line, Notification(CEASE, REJECTED), limit.reason, now)
        notification = Notification(limit.code, limit.subcode, limit.data)
        self._end(connection, self._lines[connection], notification, limit.reason, now, hard=True)

    def _survives(self, connection: Connection, router_id: bytes, now: float) -> bool:
        """Resolve a collision at the moment of an OPEN (RFC 4271 section 6.8); False if this connection lost."""
        line = self._lines[connection]
        ours, theirs = (self.settings.router_id, self.settings.local_as), (router_id, self.settings.remote_as)
        preferred = line.outbound == (ours > theirs)  # equal identifiers: RFC 6286 section 2.3
        for other, rival in list(self._lines.items()):
            if rival is line:
                continue
            match rival.session.state:
                case "established":
                    if not line.replaces:
                        self._collide(connection, line, now)
                        return False
                    self._carry(other, rival.session.abandon("replaced by a new connection of the peer"), now)
                case "open-confirm" | "open-sent" if preferred:
                    self._collide(other, rival, now)
                case "open-sent" if now - rival.since > COLLISION_S:
                    pass  # nothing may come on it any more
                case _:
                    self._collide(connection, line, now)
                    return False
        return True

    def _collide(self, connection: Connection, line: _Line, now: float) -> None:
        self._end(connection, line, Notification(CEASE, COLLISION), "collision of connections", now)

    def _end(
        self,
        connection: Connection,
        line: _Line,
        told: Notification,
        reason: str,
        now: float,
        *,
        hard: bool = False,
    ) -> None:
        actions = line.session.close(told.code, told.subcode, reason, data=told.data, hard=hard)
        if not actions:  # it ended by itself, in a batch of actions that was not carried out to the last
            actions = [session.Close(), Down(reason, sent=hard_reset(told) if hard else told, local=True)]
        self._carry(connection, actions, now)

    def _up(self, connection: Connection, negotiated: Negotiated, now: float) -> None:
        self.established = connection
        self._outlived = None
        self.since = now
        self.counters.established += 1
        self.restarting = False
        self.forwarding = frozenset(self.settings.families)
        self._cancel()
        families = ",".join(family.text for family in sorted(negotiated.families))
        self._report(f"session=up families={families} hold_s={negotiated.hold_s}")
        self.routes.up(negotiated, now)

    def _down(self, connection: Connection, down: Down, now: float) -> None:
        line = self._lines.pop(connection)
        notification = down.sent or down.received
        lost = None
        if connection == self.established:
            lost = line.session.negotiated
            self.established = None
            self.last_end = down
            self.counters.flaps += 1
            self.counters.last_down, self.counters.last_down_at = down.reason, now
            self._failed = 1 if now - self.since >= STABLE_S else self._failed + 1
            self.since = now
        elif notification is None or (notification.code, notification.subcode) != (CEASE, COLLISION):
            if down.reason != self.counters.last_error or now >= self._failure_report_at:
                self._failure_report_at = now + FAILURE_REPORT_EVERY_S
                self._report(f"session=failed address={line.address} reason={down.reason!r}", warning=True)
            self.counters.last_error = down.reason
            self._failed += self.established is None
        if not self._lines and self._connecting_until is None and self._connect_at is None:
            self._retry(max(self._failed - 1, 0), BACK_OFF_MOST_S, now)
        if lost is not None:
            graceful = _kept(lost) and (
                notification is None
                or (down.sent is not None and down.sent.code == HOLD_TIMER_EXPIRED)
                or (lost.graceful_notification and not is_hard(notification))
            )
            self._report(f"session=down graceful={graceful} reason={down.reason!r}", warning=True)
            self._outlived = lost if graceful else None
            self.routes.down(lost, graceful, now)

    def _unreached(self, reason: str, now: float) -> None:
        self._connecting_until = None
        self.counters.last_error = f"connect: {reason}"
        self._retry(self._unanswered, UNANSWERED_MOST_S, now)
        self._unanswered += 1

    def _retry(self, failures: int, most_s: float, now: float) -> None:
        """Set the time of the next attempt: twice as late after each failure, and a random quarter earlier."""
        if self.enabled and self.held is None and not self.settings.passive:
            delay_s = min(most_s, 2.0 ** min(failures, 16))
            self._connect_at = now + delay_s * (1 - self._chance() / 4)

    def _cancel(self) -> None:
        self._connect_at = None
        if self._connecting_until is not None:
            self._connecting_until = None
            self._out.append(Cancel())

    def _report(self, text: str, *, warning: bool = False) -> None:
        self._out.append(Report(f"peer={self.name} {text}", warning))


def _kept(negotiated: Negotiated) -> bool:
    # A peer that only helps others names no family of its own.
    return negotiated.graceful is not None and bool(negotiated.graceful.forwarding)
