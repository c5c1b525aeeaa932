"""How a path leaves the node: what keeps it back, and what becomes of its attributes on the way.

    path --withheld?--> --export policy--> --withheld?--> --outward--> attributes as the peer gets them

                       to our own AS                               to another AS
    AS_PATH            as it is                                    ours in front, none of confederations
    NEXT_HOP           as it is                                    as it is
    LOCAL_PREF         as it is, 100 if there is none              none
    MED                as it is                                    only that of our own routes
    ORIGINATOR_ID,     of a path from our own AS: its sender if    none
    CLUSTER_LIST       absent; our cluster in front
    communities        as they are                                 none that are not transitive (RFC 4360 section 6)
    all others, unknown transitive ones and the label included: as they are

RFC 4271 section 5.1, RFC 4456 section 8.  The next hop is never ourselves, since a reflector need not forward: between
ASes this is option C of RFC 4364 section 10, with sessions of several hops between the reflectors.  Option B, where the
next hop and with it the label change at every border, is not done.

Not told:

    NO_ADVERTISE to anybody, NO_EXPORT and NO_EXPORT_SUBCONFED to another AS (RFC 1997), of our own routes too.  What
    the export policy adds is for the peer to follow, so these are looked for before it
    LLGR_STALE to a peer without the capability (RFC 9494 section 4.3).  Section 4.6 would allow it to iBGP peers with
    NO_EXPORT and LOCAL_PREF 0, where all of an AS honour that; nobody can know this for an operator, so it is not done
    an IPv4 route with an IPv6 next hop to a peer that takes none (RFC 8950 section 4)
    ONLY_TO_CUSTOMER to a provider, a peer or a route server (RFC 9234 section 5)
"""

from __future__ import annotations

from typing import Any

import attrs

from speaker.decision import DEFAULT_LOCAL_PREF, LLGR_STALE, is_own
from speaker.path import AS_CONFED_SEQUENCE, AS_CONFED_SET, AS_SEQUENCE, Attributes
from speaker.refusal import Own
from speaker.rib import Origin, Source
from speaker.session import WITH_EXTENDED_NEXT_HOP, Role
from speaker.terms import Decide
from speaker.values import Family
from speaker.wire.community import NON_TRANSITIVE, is_route_target

NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED = 0xFFFFFF01, 0xFFFFFF02, 0xFFFFFF03  # RFC 1997

UNICAST = frozenset({Family.IPV4, Family.IPV6})
"""The families that RFC 9234 section 5 speaks of."""

_UPWARDS: frozenset[Role | None] = frozenset({"customer", "peer", "route-server-client"})
_DOWNWARDS: frozenset[Role | None] = frozenset({"provider", "peer", "route-server"})
"""What we are to whom a route with ONLY_TO_CUSTOMER is not told, and to whom it is marked so."""


@attrs.frozen(kw_only=True)
class Towards:
    """All that what a peer is told depends on: peers with equal ones are told the same in the same octets.

    Not here: which routes a peer sent itself, and which route targets it asked for; of a common stream it leaves out
    what is not for it.
    """

    families: frozenset[Family]
    ibgp: bool
    client: bool  # of ours as a route reflector (RFC 4456); an iBGP peer
    local_as: int
    as4: bool
    message_limit: int
    add_path: frozenset[Family]
    paths_out: int  # in the families `add_path`; 1 in others
    exporting: Decide
    extended_next_hop: frozenset[Family]
    role: Role | None
    long_lived: bool  # the peer knows LLGR_STALE
    reflecting: bool  # received routes are passed on
    hears: frozenset[Source] = frozenset()  # own routes beside those that all hear
    own_only: frozenset[Family] = frozenset()  # families of which no received route is passed on


def kept_back(towards: Towards, attributes: Attributes) -> str:
    """Tell why a path, as it is in the RIB, is not for such a peer; empty if nothing speaks against it (hot)."""
    communities = attributes.communities
    if not communities:
        return ""
    if NO_ADVERTISE in communities:
        return "it has the community NO_ADVERTISE (RFC 1997)"
    if not towards.ibgp and NO_EXPORT in communities:
        return "it has the community NO_EXPORT (RFC 1997)"
    if not towards.ibgp and NO_EXPORT_SUBCONFED in communities:
        return "it has the community NO_EXPORT_SUBCONFED (RFC 1997)"
    if not towards.long_lived and LLGR_STALE in communities:
        return "it is stale, and the peer knows nothing of long-lived graceful restart (RFC 9494 section 4.3)"
    return ""


def unsuited(towards: Towards, family: Family, attributes: Attributes) -> str:
    """Tell why a path, as the export policy leaves it, cannot be told to such a peer; empty if it can."""
    if family in WITH_EXTENDED_NEXT_HOP and len(attributes.next_hop) == 16 and family not in towards.extended_next_hop:
        return "its next hop is an IPv6 address, which the peer does not take (RFC 8950)"
    if family in UNICAST and attributes.only_to_customer is not None and towards.role in _UPWARDS:
        return f"it is only for customers (RFC 9234), and we are a {towards.role} of the peer"
    return ""


def outward(
    towards: Towards, own: Own, family: Family, attributes: Attributes, source: Source, origin: Origin
) -> Attributes:
    """Return the attributes of a path from `source` as such a peer gets them; not interned."""
    changes: dict[str, Any]
    if towards.ibgp:
        pref = attributes.local_pref
        changes = {"local_pref": DEFAULT_LOCAL_PREF if pref is None else pref}
        if is_own(source) or origin.external:
            changes |= {"originator_id": None, "cluster_list": ()}
        else:
            changes["originator_id"] = attributes.originator_id or origin.router_id
            changes["cluster_list"] = (own.cluster_id or own.router_id, *attributes.cluster_list)
            if family is Family.RTC and towards.client:
                # RFC 4684 section 3.2: so that also the client from whom it came takes it, and sends what others want
                changes |= {"originator_id": own.router_id, "next_hop": _address(own)}
    else:
        changes = {
            "local_pref": None,
            "originator_id": None,
            "cluster_list": (),
            "as_path": _led_by(towards.local_as, attributes),
            "ext_communities": tuple(each for each in attributes.ext_communities if not each[0] & NON_TRANSITIVE),
        }
        changes["route_targets"] = frozenset(filter(is_route_target, changes["ext_communities"]))
        if not is_own(source):
            changes["med"] = None
        if family in UNICAST and towards.role in _DOWNWARDS and attributes.only_to_customer is None:
            changes["only_to_customer"] = towards.local_as
    return attrs.evolve(attributes, importers=(), imports_version=-1, paths={}, discarded=(), **changes)


def _address(own: Own) -> bytes:
    """Return an address of ours: the router id if it is one."""
    return own.router_id if own.router_id in own.addresses or not own.addresses else min(own.addresses)


def _led_by(asn: int, attributes: Attributes) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return the AS_PATH with an AS in front (RFC 4271 section 5.1.2) and no confederation (RFC 5065 section 4.1)."""
    path = tuple(each for each in attributes.as_path if each[0] not in (AS_CONFED_SEQUENCE, AS_CONFED_SET))
    if path and path[0][0] == AS_SEQUENCE and len(path[0][1]) < 255:
        return ((AS_SEQUENCE, (asn, *path[0][1])), *path[1:])
    return ((AS_SEQUENCE, (asn,)), *path)
