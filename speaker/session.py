"""One TCP connection to a BGP neighbour: from OPEN to the end, as a state machine without a socket.

Octets and the time go in, actions come out; whoever owns the socket carries them out in order.

                  connected: send OPEN, hold timer 240 s
                                  |
                                  v
                             [open-sent] --------- anything but OPEN: 5/1 ---------+
                                  | OPEN: checked, families agreed,                |
                                  | send KEEPALIVE, hold timer as agreed           |
                                  v                                                |
                           [open-confirm] -------- anything but KEEPALIVE: 5/2 ----+
                                  | KEEPALIVE: Up                                  |
                                  v                                                v
        +----- UPDATE ---> [established] --------- OPEN: 5/3 -----------------> [closed]
        +-- Routes -------+       |                                                ^
                                  +-- hold timer (every state): 4/0 ---------------+
                                      malformed: 1/x, 2/x, 3/x; NOTIFICATION; TCP loss; close()

The machine has no Idle, Connect and Active: a Session is made for a connection that exists, and what
happens before and between connections is the business of `speaker.peer`.

RFC 4271 section 8 from OpenSent on; RFC 4760 section 8 and RFC 5492 (what is agreed), RFC 6793 (4-octet AS numbers),
RFC 2918 and RFC 7313 (route refresh), RFC 4724 section 3, RFC 8538 section 2 and RFC 9494 section 3 (what is said of
graceful restart), RFC 6286 (BGP identifiers), RFC 6608 (5/1 to 5/3), RFC 7606 (by the codec), RFC 7607 (AS 0),
RFC 7911 section 4 (several paths), RFC 8654 (extended messages), RFC 8950 section 4 (IPv6 next hops), RFC 9003 (text of
an administrative shutdown), RFC 9072 (extended optional parameters), RFC 9234 section 4 (roles).

Nothing that a peer sends ends more than its own session: what escapes from a parser, foreseen or not, is a `Malformed`
with the message, a NOTIFICATION and the end.

Deviations: KEEPALIVEs go out every third of the hold time whether or not UPDATEs were sent, and every whole
message restarts the hold timer, not only KEEPALIVE and UPDATE: both are simpler and no peer can tell.  With a hold time
of 0 agreed, open-confirm is still left after 240 s, so that a silent peer never holds a connection for ever.
After 2/4 there is no attempt without capabilities (RFC 5492 section 3): no family but IPv4 could be had that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

import attrs

from speaker.errors import BgpError, DisableFamily, SessionReset
from speaker.notification import TEXT_LIMIT, WITH_COMMUNICATION, communication, describe, escape, hard_reset
from speaker.values import Family
from speaker.wire import message
from speaker.wire.attribute import AS_TRANS, Interner
from speaker.wire.capability import (
    AddPath,
    Capability,
    EnhancedRouteRefresh,
    ExtendedMessage,
    ExtendedNextHop,
    FourOctetAs,
    Fqdn,
    GracefulRestart,
    LongLivedGracefulRestart,
    Multiprotocol,
    RoleCapability,
    RouteRefreshCapability,
)
from speaker.wire.message import (
    EXTENDED_LIMIT,
    KEEPALIVE,
    MESSAGE_LIMIT,
    Notification,
    Open,
    RouteRefresh,
    split,
)
from speaker.wire.update import Update, UpdateDecoder

C = TypeVar("C")

State = Literal["connect", "open-sent", "open-confirm", "established", "closed"]

Role = Literal["provider", "route-server", "route-server-client", "customer", "peer"]
ROLES: tuple[Role, ...] = get_args(Role)
"""What one end of an eBGP session is to the other, by number (RFC 9234 section 4.1)."""

_COUNTERPART: dict[Role, Role] = {
    "provider": "customer",
    "customer": "provider",
    "route-server": "route-server-client",
    "route-server-client": "route-server",
    "peer": "peer",
}

WITH_EXTENDED_NEXT_HOP = frozenset({Family.IPV4, Family.VPNV4})
"""Families of IPv4 whose routes may have an IPv6 next hop (RFC 8950 section 3)."""

OPEN_HOLD_S = 240.0
"""The hold time before one is agreed (RFC 4271 section 8.2.2: "a large value", 4 minutes)."""

INTERNAL_ERROR = 6, 0
"""What a peer is told when we fail: Cease, unspecific."""

KEPT_OCTETS = 4096
"""How much of a malformed message is kept for people."""


@attrs.frozen(kw_only=True)
class Settings:
    """What is configured of one neighbour, as far as its sessions need it; ValueError if it cannot be."""

    local_as: int
    remote_as: int
    router_id: bytes  # 4 octets, ours
    families: tuple[Family, ...]
    hold_time_s: int = 90  # 0, or 3 and more
    restart_time_s: int = 0  # how long the peer shall keep our routes (RFC 4724); 0: no graceful restart
    long_lived_s: int = 0  # how long it shall keep them after that, as stale ones (RFC 9494); 0: not at all
    passive: bool = False  # never connect, only accept
    host_name: str = ""  # told to the peer if not empty
    role: Role | None = None  # what we are to a peer of another AS (RFC 9234)
    strict_role: bool = False  # no session with a peer that does not tell its role
    add_path_receive: frozenset[Family] = frozenset()  # the peer may tell several paths (RFC 7911)
    add_path_send: frozenset[Family] = frozenset()  # we would tell several paths

    def __attrs_post_init__(self) -> None:
        for name, value in (("local_as", self.local_as), ("remote_as", self.remote_as)):
            if not 1 <= value < 1 << 32:
                raise ValueError(f"{name} {value} is not an AS number")
        if len(self.router_id) != 4 or self.router_id == bytes(4):
            raise ValueError(f"router_id {self.router_id.hex() or 'empty'} is not 4 octets, or zero")
        if self.hold_time_s != 0 and not 3 <= self.hold_time_s < 65536:
            raise ValueError(f"hold_time_s {self.hold_time_s} is neither 0 nor 3 to 65535")
        if not 0 <= self.restart_time_s < 4096:
            raise ValueError(f"restart_time_s {self.restart_time_s} is not 0 to 4095")
        if not 0 <= self.long_lived_s < 1 << 24 or (self.long_lived_s and not self.restart_time_s):
            raise ValueError(f"long_lived_s {self.long_lived_s} is not 0 to 16777215, or there is no restart time")
        if self.role is not None and self.ibgp:
            raise ValueError(f"role {self.role} towards a peer of our own AS (RFC 9234 section 4)")
        if self.strict_role and self.role is None:
            raise ValueError("strict_role without a role")
        if not self.families or len(set(self.families)) != len(self.families):
            raise ValueError(f"families {[family.text for family in self.families]} are none, or not distinct")

    @property
    def ibgp(self) -> bool:
        """Whether the neighbour is in our own AS."""
        return self.local_as == self.remote_as


@attrs.frozen(kw_only=True)
class Negotiated:
    """What both ends of a session agreed on, and what the peer said of itself."""

    families: frozenset[Family]
    as4: bool  # 4-octet AS numbers in UPDATEs (RFC 6793)
    ibgp: bool
    hold_s: int  # 0: no hold timer and no KEEPALIVEs
    keepalive_s: float
    local_as: int
    remote_as: int
    remote_router_id: bytes
    route_refresh: bool  # the peer takes ROUTE-REFRESH
    graceful: GracefulRestart | None  # the peer's; None unless both speak it
    graceful_notification: bool = False  # a NOTIFICATION but a hard reset leaves the routes (RFC 8538), for both
    long_lived: Mapping[int, tuple[bool, int]] = attrs.field(factory=dict)  # the peer's families (RFC 9494)
    enhanced_refresh: bool = False  # begin and end of a refresh are told (RFC 7313)
    message_limit: int = MESSAGE_LIMIT  # octets of a message of ours, but OPEN and KEEPALIVE (RFC 8654)
    add_path_receive: frozenset[Family] = frozenset()  # what the peer sends has path identifiers (RFC 7911)
    add_path_send: frozenset[Family] = frozenset()  # what we send has path identifiers
    extended_next_hop: frozenset[Family] = frozenset()  # IPv4 families whose next hop may be IPv6 (RFC 8950)
    role: Role | None = None  # ours, where the peer's fits or is not told (RFC 9234); None: as if there were no roles
    remote_host_name: str = ""  # as sent, escaped
    remote_capabilities: tuple[Capability, ...] = ()  # all that the peer told of itself
    open_sent: bytes = b""  # the whole message
    open_received: bytes = b""


@attrs.frozen
class Send:
    """Send these octets: whole messages."""

    octets: bytes


@attrs.frozen
class Opened:
    """The peer's OPEN is acceptable: the moment to resolve a collision (RFC 4271 section 6.8)."""

    router_id: bytes


@attrs.frozen
class Up:
    """The session is established; routes may flow."""

    negotiated: Negotiated


@attrs.frozen
class Routes:
    """An UPDATE came."""

    update: Update


@attrs.frozen
class Refresh:
    """The peer wants to hear all routes of a family again (RFC 2918)."""

    family: Family


@attrs.frozen
class Refreshing:
    """The peer begins to tell all routes of a family again, or has done so (RFC 7313 section 4)."""

    family: Family
    begins: bool


@attrs.frozen
class Malformed:
    """A message broke the protocol, or could not be read; what follows from it is the action after this one."""

    reason: str  # one line, escaped
    octets: bytes  # the message, at most `KEPT_OCTETS`; after a broken header, what had come of it
    length: int  # octets of the whole message, as far as it had come
    offending: bytes = b""  # what of it is wrong, if that can be told


@attrs.frozen
class Disabled:
    """A family is not used any more in this session; the routes heard of it go (RFC 4760 section 7)."""

    family: Family
    reason: str


@attrs.frozen
class Down:
    """The session has ended, in whatever state it was; at most one of `sent` and `received` is there."""

    reason: str  # for people: one line, nothing of the peer's unescaped
    sent: Notification | None = None
    received: Notification | None = None
    local: bool = False  # we ended it


@attrs.frozen
class Close:
    """Flush what is to be sent, shut down the sending side, drain for at most a second, close."""


Action = Send | Opened | Up | Routes | Refresh | Refreshing | Malformed | Disabled | Down | Close


class Session:
    """The state machine of one connection.

    `restarting` and `forwarding` are what our OPEN says of us: that we come from a restart, and for which
    families packets went on being forwarded meanwhile.
    """

    def __init__(
        self,
        settings: Settings,
        interner: Interner,
        *,
        restarting: bool = False,
        forwarding: frozenset[Family] = frozenset(),
    ) -> None:
        self.settings = settings
        self.interner = interner
        self.restarting = restarting
        self.forwarding = forwarding
        self.state: State = "connect"
        self.negotiated: Negotiated | None = None  # from open-confirm on
        self.messages_in = 0
        self.messages_out = 0
        self._buffer = b""
        self._limit = MESSAGE_LIMIT
        self._open_sent = b""
        self._decoder: UpdateDecoder | None = None  # from open-confirm on
        self._disabled: set[Family] = set()
        self._hold_s: float = OPEN_HOLD_S
        self._hold_at: float | None = None
        self._keepalive_at: float | None = None

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self.state == "closed"

    def connected(self, now: float) -> list[Action]:
        """The connection exists: introduce ourselves."""
        assert self.state == "connect", self.state
        self.state = "open-sent"
        self._hold_at = now + OPEN_HOLD_S
        self._open_sent = self._open().encode()
        return [self._send(self._open_sent)]

    def received(self, data: bytes, now: float) -> list[Action]:
        """Take octets in, however they are cut (hot: once per read)."""
        if self.closed:
            return []
        buffer = self._buffer + data if self._buffer else data
        actions: list[Action] = []
        while True:
            try:
                messages, used = split(buffer, self._limit)
            except SessionReset as error:  # what came before a broken header counts: it is raised when it is the first
                self._fail(error, buffer, actions)
                return actions
            self._buffer = buffer = buffer[used:]
            if not messages:
                return actions
            self.messages_in += len(messages)
            for kind, body in messages:
                try:
                    self._message(kind, body, actions, now)
                except Exception as error:  # whatever escapes a parser ends this session, and no other
                    self._fail(error, message.message(kind, body), actions)
                if self.closed:
                    return actions
            if self._hold_s:
                self._hold_at = now + self._hold_s

    def tick(self, now: float) -> list[Action]:
        """Do what the time asks for: a KEEPALIVE, or the end of a silent peer."""
        if self._hold_at is not None and now >= self._hold_at:
            return self.close(4, 0, "hold timer expired")
        if self._keepalive_at is not None and now >= self._keepalive_at and self.negotiated is not None:
            self._keepalive_at = now + self.negotiated.keepalive_s
            return [self._send(KEEPALIVE)]
        return []

    def deadline(self) -> float | None:
        """Return when `tick` is wanted next; None: never."""
        if self._hold_at is None or self._keepalive_at is None:
            return self._hold_at if self._keepalive_at is None else self._keepalive_at
        return min(self._hold_at, self._keepalive_at)

    def close(self, code: int, subcode: int, text: str = "", *, data: bytes = b"", hard: bool = False) -> list[Action]:
        """End the session with a NOTIFICATION; `hard`: both ends shall forget the routes, whatever they agreed on.

        `text` is told to the peer where there is room for it (RFC 9003), and is the reason otherwise.
        """
        actions: list[Action] = []
        if self.closed:
            return actions
        spoken = (code, subcode) in WITH_COMMUNICATION
        notification = Notification(code, subcode, communication(text) if spoken else data)
        if hard and self.negotiated is not None and self.negotiated.graceful_notification:
            notification = hard_reset(notification)
        reason = f"sent {describe(notification)}" if spoken or not text else text
        self._end(reason, actions, sent=notification)
        return actions

    def abandon(self, reason: str, *, local: bool = False) -> list[Action]:
        """End the session without a word: the connection is gone, or (`local`) is given up so that the peer keeps our
        routes (RFC 4724 section 4.2).
        """
        actions: list[Action] = []
        if not self.closed:
            self._end(reason, actions, local=local)
        return actions

    def _message(self, kind: int, body: bytes, actions: list[Action], now: float) -> None:
        """Act on one message (hot: UPDATE in established)."""
        if kind == message.UPDATE and self._decoder is not None and self.state == "established":
            try:
                update = self._decoder.decode(body)
            except DisableFamily as error:
                self._disable(error, body, actions)
                return
            if update.errors:
                actions.append(_malformed(update.errors, message.message(kind, body)))
            actions.append(Routes(update))
            return
        match self.state, kind:
            case _, message.NOTIFICATION:
                notification = Notification.decode(body)
                self._end(f"the peer sent {describe(notification)}", actions, received=notification)
            case "open-sent", message.OPEN:
                self._opened(Open.decode(body), body, actions, now)
            case "open-confirm", message.KEEPALIVE_TYPE:
                assert self.negotiated is not None
                self.state = "established"
                self._hold_s = self.negotiated.hold_s
                if not self._hold_s:
                    self._hold_at = None
                actions.append(Up(self.negotiated))
            case "established", message.KEEPALIVE_TYPE:
                pass
            case "established", message.ROUTE_REFRESH:
                self._refresh(RouteRefresh.decode(body), actions)
            case _:
                subcode = {"open-sent": 1, "open-confirm": 2, "established": 3}[self.state]
                raise SessionReset(5, subcode, f"message of type {kind} in {self.state}", bytes((kind,)))

    def _open(self) -> Open:
        settings = self.settings
        told: list[Capability] = [Multiprotocol(family) for family in settings.families]
        told += [RouteRefreshCapability(), EnhancedRouteRefresh(), ExtendedMessage(), FourOctetAs(settings.local_as)]
        hops = frozenset(settings.families) & WITH_EXTENDED_NEXT_HOP
        if hops:
            told.append(ExtendedNextHop(hops))
        if settings.restart_time_s:
            forwarding: dict[int, bool] = {family: family in self.forwarding for family in settings.families}
            told.append(GracefulRestart(self.restarting, settings.restart_time_s, forwarding, notification=True))
        if settings.long_lived_s:
            told.append(
                LongLivedGracefulRestart(
                    {family: (family in self.forwarding, settings.long_lived_s) for family in settings.families}
                )
            )
        modes: dict[int, int] = {}
        for family in settings.families:
            mode = AddPath.RECEIVE * (family in settings.add_path_receive)
            mode += AddPath.SEND * (family in settings.add_path_send)
            if mode:
                modes[family] = mode
        if modes:
            told.append(AddPath(modes))
        if settings.role is not None:
            told.append(RoleCapability(ROLES.index(settings.role)))
        if settings.host_name:
            told.append(Fqdn(settings.host_name, ""))
        as2 = settings.local_as if settings.local_as < 1 << 16 else AS_TRANS
        return Open(as2, settings.hold_time_s, settings.router_id, tuple(told))

    def _opened(self, opened: Open, body: bytes, actions: list[Action], now: float) -> None:
        """Check what the codec cannot know of an OPEN (RFC 4271 section 6.2), and agree."""
        settings = self.settings
        as4 = _last(opened.capabilities, FourOctetAs)
        remote_as = opened.my_as if as4 is None else as4.asn
        if remote_as != settings.remote_as:
            raise SessionReset(2, 2, f"the peer's AS is {remote_as}, not {settings.remote_as}")
        if settings.ibgp and opened.router_id == settings.router_id:
            raise SessionReset(2, 3, f"the peer has our own BGP identifier {_dotted(opened.router_id)}")
        families = self._common_families(opened)
        told = opened.capabilities
        role = self._common_role(told)
        graceful = _last(told, GracefulRestart) if settings.restart_time_s else None
        long_lived = _last(told, LongLivedGracefulRestart) if graceful is not None and settings.long_lived_s else None
        modes = {family: mode for each in told if isinstance(each, AddPath) for family, mode in each.modes.items()}
        hops = {family for each in told if isinstance(each, ExtendedNextHop) for family in each.families}
        extended = _last(told, ExtendedMessage) is not None
        host = _last(told, Fqdn)
        hold_s = min(settings.hold_time_s, opened.hold_s)
        self.negotiated = Negotiated(
            families=families,
            as4=as4 is not None,
            ibgp=settings.ibgp,
            hold_s=hold_s,
            keepalive_s=hold_s / 3,
            local_as=settings.local_as,
            remote_as=remote_as,
            remote_router_id=opened.router_id,
            route_refresh=_last(told, RouteRefreshCapability) is not None,
            graceful=graceful,
            graceful_notification=graceful is not None and graceful.notification,
            long_lived={} if long_lived is None else long_lived.families,
            enhanced_refresh=_last(told, EnhancedRouteRefresh) is not None,
            message_limit=EXTENDED_LIMIT if extended else MESSAGE_LIMIT,
            add_path_receive=frozenset(
                family for family in families & settings.add_path_receive if modes.get(family, 0) & AddPath.SEND
            ),
            add_path_send=frozenset(
                family for family in families & settings.add_path_send if modes.get(family, 0) & AddPath.RECEIVE
            ),
            extended_next_hop=frozenset(family for family in families & WITH_EXTENDED_NEXT_HOP if family in hops),
            role=role,
            remote_host_name="" if host is None else escape(host.host),
            remote_capabilities=told,
            open_sent=self._open_sent,
            open_received=message.message(message.OPEN, body),
        )
        # What we announced holds for what we receive, whatever the peer said (RFC 8654 section 4).
        self._limit = EXTENDED_LIMIT
        self._decoder = self._new_decoder(self.negotiated)
        self.state = "open-confirm"
        if hold_s:
            self._hold_s = hold_s
            self._keepalive_at = now + hold_s / 3
        actions.append(Opened(opened.router_id))
        actions.append(self._send(KEEPALIVE))

    def _common_families(self, opened: Open) -> frozenset[Family]:
        theirs = {each.family for each in opened.capabilities if isinstance(each, Multiprotocol)}
        if not theirs:
            theirs = {Family.IPV4}  # RFC 4760 section 8: without the capability, IPv4 unicast it is
        families = frozenset(family for family in self.settings.families if family in theirs)
        if not families:
            ours = ",".join(family.text for family in self.settings.families)
            data = b"".join(Multiprotocol(family).encode() for family in self.settings.families)
            raise SessionReset(2, 7, f"no family in common; ours: {ours}", data)
        return families

    def _common_role(self, told: tuple[Capability, ...]) -> Role | None:
        """Return our role, also towards a peer that tells none and need not (RFC 9234 section 4.2); 2/11."""
        ours = self.settings.role
        if ours is None:
            return None
        theirs = {each.role for each in told if isinstance(each, RoleCapability)}
        if not theirs and not self.settings.strict_role:
            return ours
        wanted = ROLES.index(_COUNTERPART[ours])
        if theirs != {wanted}:
            words = ", ".join(ROLES[role] if role < len(ROLES) else str(role) for role in sorted(theirs)) or "none"
            raise SessionReset(2, 11, f"the peer's role is {words}; we are a {ours}")
        return ours

    def _refresh(self, refresh: RouteRefresh, actions: list[Action]) -> None:
        negotiated = self.negotiated
        if negotiated is None or refresh.family not in negotiated.families:
            return
        family = Family(refresh.family)
        if refresh.subtype == 0:
            actions.append(Refresh(family))
        elif refresh.subtype in (1, 2) and negotiated.enhanced_refresh and family not in self._disabled:
            actions.append(Refreshing(family, refresh.subtype == 1))  # other subtypes mean nothing (RFC 7313 section 5)

    def _new_decoder(self, negotiated: Negotiated) -> UpdateDecoder:
        return UpdateDecoder(
            self.interner,
            ibgp=negotiated.ibgp,
            as4=negotiated.as4,
            families=negotiated.families - self._disabled,
            add_path=negotiated.add_path_receive,
        )

    def _disable(self, error: DisableFamily, body: bytes, actions: list[Action]) -> None:
        assert self.negotiated is not None
        actions.append(_malformed([error], message.message(message.UPDATE, body)))
        self._disabled.add(error.family)
        self._decoder = self._new_decoder(self.negotiated)
        actions.append(Disabled(error.family, escape(error.reason)))

    def _fail(self, error: Exception, octets: bytes, actions: list[Action]) -> None:
        """End the session for what is wrong with these octets, or with our reading of them."""
        if not isinstance(error, SessionReset):
            error = SessionReset(*INTERNAL_ERROR, f"internal error: {_place(error)}")
        notification = Notification(error.code, error.subcode, error.data)
        actions.append(_malformed([error], octets))
        self._end(f"{escape(error.reason)}; sent {describe(notification)}", actions, sent=notification)

    def _end(
        self,
        reason: str,
        actions: list[Action],
        *,
        sent: Notification | None = None,
        received: Notification | None = None,
        local: bool = False,
    ) -> None:
        self.state = "closed"
        self._buffer = b""
        self._hold_at = self._keepalive_at = None
        if sent is not None:
            limit = MESSAGE_LIMIT if self.negotiated is None else self.negotiated.message_limit
            actions.append(self._send(sent.encode(limit)))
        actions.append(Close())
        actions.append(Down(reason, sent, received, local or sent is not None))

    def _send(self, octets: bytes) -> Send:
        self.messages_out += 1
        return Send(octets)


def _last(told: tuple[Capability, ...], kind: type[C]) -> C | None:
    # Of several instances the last counts (RFC 4724 section 3); what is told a family each is put together instead.
    return next((each for each in reversed(told) if isinstance(each, kind)), None)


def _dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def _malformed(errors: Sequence[BgpError], octets: bytes) -> Malformed:
    reason = escape("; ".join(error.reason for error in errors[:8]), 2 * TEXT_LIMIT)
    return Malformed(reason, octets[:KEPT_OCTETS], len(octets), errors[0].octets[:KEPT_OCTETS])


def _place(error: Exception) -> str:
    """Say what and where an exception is that nobody meant to raise."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} {str(error)!r} in {code.co_qualname}, line {trace.tb_lineno}"
