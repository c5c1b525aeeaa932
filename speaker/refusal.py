"""Why a route is refused whatever the policy: a loop, a lie, or a leak.

What can only be our own route coming back, or a loop: our AS in the AS_PATH (RFC 4271 section 9.1.2), our ORIGINATOR_ID
or our cluster in the CLUSTER_LIST (RFC 4456 section 8), our own address as next hop (RFC 4271 section 5.1.3).

What an external peer cannot say: an AS_PATH that does not begin with its AS (RFC 4271 section 6.3, as treat-as-withdraw
by RFC 7606 section 7.2), unless it is a route server, which leaves itself out (RFC 7947 section 2.2.2.1).

What must not come from there: a route that was meant for customers only, where roles are known (RFC 9234 section 5).

RT memberships may carry our ORIGINATOR_ID and next hop.  Those of all PEs of an AS are the same NLRI: a reflector that
holds ours for the best one tells it to everybody, us included, and it stands for those of the others (RFC 4684 section
3.2 has the reflector write itself there to that end, which not all of them do).
"""

from __future__ import annotations

import attrs

from speaker.path import AS_SEQUENCE, Attributes
from speaker.session import Negotiated
from speaker.values import Family

WITH_ROLES = frozenset({Family.IPV4, Family.IPV6})
"""Families whose leaks OTC tells of; it says nothing in others (RFC 9234 section 5)."""

OTC_ADDED_BY = frozenset({"customer", "peer", "route-server-client"})
"""Our roles in which a route without OTC gets the peer's AS number as OTC."""


@attrs.define
class Own:
    """What the node knows itself by; changes rarely, and then in place."""

    router_id: bytes
    asns: frozenset[int]
    addresses: frozenset[bytes]
    cluster_id: bytes = b""  # 4 octets, as a route reflector; empty: the router id (RFC 4456 section 7)


def refusal(family: Family, attributes: Attributes, own: Own, session: Negotiated | None) -> str | None:
    """Return why routes with these attributes are refused, or None (hot: once for each UPDATE)."""
    if family is not Family.RTC:
        if attributes.originator_id == own.router_id:
            return "ORIGINATOR_ID is ours: our own route, reflected (RFC 4456 section 8)"
        if attributes.next_hop in own.addresses:
            return "next hop is our own address (RFC 4271 section 5.1.3)"
    if attributes.cluster_list and (own.cluster_id or own.router_id) in attributes.cluster_list:
        return "CLUSTER_LIST holds our cluster: a loop (RFC 4456 section 8)"
    for _, numbers in attributes.as_path:
        for number in numbers:
            if number in own.asns:
                return f"AS_PATH holds our AS {number}: a loop (RFC 4271 section 9.1.2)"
    if session is not None and not session.ibgp:
        if session.role != "route-server-client" and not _begins_with(attributes, session.remote_as):
            return f"AS_PATH does not begin with the peer's AS {session.remote_as} (RFC 4271 section 6.3)"
        if session.role is not None and family in WITH_ROLES:
            return _leak(attributes, session)
    return None


def _begins_with(attributes: Attributes, asn: int) -> bool:
    for kind, numbers in attributes.as_path:
        return kind == AS_SEQUENCE and numbers[0] == asn
    return False


def _leak(attributes: Attributes, session: Negotiated) -> str | None:
    """Return why a route is a leak by the roles of a session; `session.role` is ours (RFC 9234 section 5)."""
    otc = attributes.only_to_customer
    if otc is None:
        return None
    if session.role in ("provider", "route-server"):
        return f"OTC {otc} from a customer or a client: a route leak (RFC 9234 section 5)"
    if session.role == "peer" and otc != session.remote_as:
        return f"OTC {otc} from the peer AS {session.remote_as}: a route leak (RFC 9234 section 5)"
    return None
