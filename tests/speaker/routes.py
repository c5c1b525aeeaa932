"""Routes in words, for tests of what is kept of them and what is passed on."""

from __future__ import annotations

import attrs

from speaker.path import AsPath, Attributes, Path
from speaker.session import Negotiated
from speaker.values import Family, RouteDistinguisher, RouteTarget, prefix_bytes
from speaker.wire.attribute import Interner
from speaker.wire.capability import GracefulRestart
from speaker.wire.community import is_route_target
from speaker.wire.message import HEADER_SIZE, KEEPALIVE_TYPE, ROUTE_REFRESH, RouteRefresh, split
from speaker.wire.update import Update, UpdateDecoder, encode_updates

LABEL = bytes.fromhex("000641")
NEXT_HOP = bytes((192, 0, 2, 9))


def target(number: int) -> bytes:
    return RouteTarget.parse(f"64512:{number}").wire


def vpn_key(text: str, rd: str = "64512:1") -> bytes:
    """The key of a VPN route to a prefix."""
    return RouteDistinguisher.parse(rd).wire + prefix_bytes(text)


def member_key(number: int | None) -> bytes:
    """The key of an RT membership; None: of the default one."""
    return b"\0" if number is None else (64512).to_bytes(4, "big") + target(number) + b"\x60"


def session(
    *families: Family,
    ibgp: bool = True,
    as4: bool = True,
    route_refresh: bool = True,
    graceful: GracefulRestart | None = None,
) -> Negotiated:
    """What was agreed on with a neighbour."""
    return Negotiated(
        families=frozenset(families),
        as4=as4,
        ibgp=ibgp,
        hold_s=90,
        keepalive_s=30,
        local_as=64512,
        remote_as=64512 if ibgp else 64513,
        remote_router_id=NEXT_HOP,
        route_refresh=route_refresh,
        graceful=graceful,
    )


def block(
    *targets: int,
    next_hop: bytes = NEXT_HOP,
    as_path: AsPath = (),
    originator_id: bytes | None = None,
    cluster_list: tuple[bytes, ...] = (),
    local_pref: int | None = 100,
    communities: tuple[bytes, ...] = (),
) -> Attributes:
    """Attributes with these route targets."""
    ext_communities = (*map(target, targets), *communities)
    return Attributes(
        next_hop=next_hop,
        as_path=as_path,
        local_pref=local_pref,
        ext_communities=ext_communities,
        originator_id=originator_id,
        cluster_list=cluster_list,
        route_targets=frozenset(filter(is_route_target, ext_communities)),
    )


def extra(family: Family) -> bytes:
    return LABEL if family in (Family.VPNV4, Family.VPNV6) else b""


def announced(family: Family, attributes: Attributes, *keys: bytes) -> Update:
    """An UPDATE that came with these routes."""
    path = attributes.path(extra(family))
    return Update(announced=[(family, dict.fromkeys(keys, path))])


def withdrawn(family: Family, *keys: bytes) -> Update:
    return Update(withdrawn=[(family, list(keys))])


@attrs.define
class Listener:
    """The far end of a session, made of our decoder: what it holds, and what was said."""

    negotiated: Negotiated
    held: dict[tuple[Family, bytes], Path] = attrs.field(factory=dict)
    ended: list[Family] = attrs.field(factory=list)  # End-of-RIBs
    requested: list[Family] = attrs.field(factory=list)  # route refreshes
    refreshed: list[tuple[Family, int]] = attrs.field(factory=list)  # their begins (1) and ends (2)
    idle_withdrawals: int = 0  # of what it did not hold
    messages: int = 0
    keepalives: int = 0
    unanswered: set[tuple[Family, bytes]] = attrs.field(factory=set)  # routes that it asked for again
    forbidden: frozenset[tuple[int, int, int]] = frozenset()  # large communities of routes that must not come
    decoder: UpdateDecoder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        agreed = self.negotiated
        self.decoder = UpdateDecoder(
            Interner(), ibgp=agreed.ibgp, as4=agreed.as4, families=agreed.families, add_path=agreed.add_path_send
        )

    def hear(self, octets: bytes) -> None:
        """Take whole messages in."""
        while octets:
            messages, used = split(octets, self.negotiated.message_limit)
            assert used, "whole messages only"
            octets = octets[used:]
            for kind, body in messages:
                self.messages += 1
                if kind == ROUTE_REFRESH:
                    self._refresh(RouteRefresh.decode(body))
                elif kind == KEEPALIVE_TYPE:
                    self.keepalives += 1
                else:
                    self._update(body)

    def _refresh(self, refresh: RouteRefresh) -> None:
        family = Family(refresh.family)
        if refresh.subtype == 0:
            self.requested.append(family)
            return
        assert self.negotiated.enhanced_refresh
        assert family in self.ended, "BoRR before End-of-RIB (RFC 7313 section 4)"
        self.refreshed.append((family, refresh.subtype))
        if refresh.subtype == 2:
            left = [at for at in self.unanswered if at[0] is family]
            assert not left, f"EoRR before {len(left)} routes were told again"

    def _update(self, body: bytes) -> None:
        update = self.decoder.decode(body)
        assert update.errors == []
        for family, keys in update.withdrawn:
            for key in keys:
                self.idle_withdrawals += self.held.pop((family, key), None) is None
                self.unanswered.discard((family, key))
        for family, routes in update.announced:
            marks = next(iter(routes.values())).attributes.large_communities
            assert self.forbidden.isdisjoint(marks), f"a route came that is not for this peer: {marks}"
            self.held.update(((family, key), path) for key, path in routes.items())
            self.unanswered.difference_update((family, key) for key in routes)
        if update.end_of_rib is not None:
            self.ended.append(update.end_of_rib)


def on_the_wire(family: Family, attributes: Attributes, *keys: bytes, as4: bool = True) -> bytes:
    """The body of an UPDATE with these routes."""
    (message,) = encode_updates(family, attributes, [(key, extra(family)) for key in keys], as4=as4)
    return message[HEADER_SIZE:]
