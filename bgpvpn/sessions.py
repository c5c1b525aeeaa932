"""What is known of each BGP session, as plain values for the looking glass and for metrics.

Texts of a peer are escaped where they came in (`speaker.notification.escape`), its octets are shown as hex digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from bgpvpn.objects import Peer as Wish
from bgpvpn.statuses import ACTIVE, Verdict
from bgpvpn.views import Plain
from speaker.engine import Neighbour
from speaker.peer import Peer
from speaker.rib import Rib, peer_of
from speaker.session import Negotiated
from speaker.values import Family


def session(wish: Wish, address: str, peer: Peer, neighbour: Neighbour, rib: Rib, now: float) -> Plain:
    """Return one session, of the neighbour at an address."""
    counters, negotiated, heard = peer.counters, peer.negotiated, neighbour.adj_rib_in
    spoken = {family.text for family in neighbour.terms.own_only}
    routes_in: Counter[str] = Counter()
    for (family, source), table in rib.tables.items():
        if peer_of(source) == neighbour.name and table:
            routes_in[family.text] += len(table)
    plain: Plain = {
        "peer": wish.name if wish.name and not wish.dynamic else address,
        "address": address,
        "remote_as": wish.remote_as,
        "local_as": peer.settings.local_as,
        "state": peer.state,
        "since_s": round(now - peer.since, 1),
        "synced": neighbour.synced,
        "families": [] if negotiated is None else _texts(negotiated.families),
        "routes_in": dict(routes_in),
        "routes_out": {
            family.text: wanted
            for family, sent in sorted(neighbour.adj_rib_out.sent.items())
            if (wanted := sent.wanted)
        },
        "routes_stale": sum(map(len, heard.stale.values())),
        "routes_refused": len(heard.refused),
        "routes_rejected": sum(map(len, heard.rejected.values())),
        "messages_in": counters.messages_in,
        "messages_out": counters.messages_out,
        "updates_in": counters.updates_in,
        "malformed": counters.malformed,
        "established": counters.established,
        "flaps": counters.flaps,
        "last_error": counters.last_error,
        "last_down": counters.last_down,
        "held_off": None
        if peer.held is None
        else {"reason": peer.held.reason, "for_s": round(peer.held.until - now, 1)},
        "import_policy": _policy(wish.import_policy, peer),
        "export_policy": _policy(wish.export_policy, peer, spoken),
        "without_policy": without_policy(wish, peer.settings.local_as, spoken),
        "prefixes": _prefixes(neighbour),
    }
    if wish.dynamic:
        plain["range"] = wish.address
    if negotiated is not None:
        graceful = negotiated.graceful
        plain |= {
            "remote_router_id": ".".join(map(str, negotiated.remote_router_id)),
            "remote_host_name": negotiated.remote_host_name,
            "hold_time_s": negotiated.hold_s,
            "graceful_restart_s": None if graceful is None else graceful.time_s,
            "end_of_rib_in": _texts(heard.synced),
            "end_of_rib_out": _texts(neighbour.adj_rib_out.told_all),
            "agreed": _agreed(negotiated),
        }
    return plain


def _texts(families: Iterable[Family]) -> list[str]:
    return sorted(family.text for family in families)


def _policy(wanted: str | Mapping[str, str] | None, peer: Peer, spoken: Collection[str] = ()) -> str | dict[str, str]:
    """Return the policies of a direction; `spoken` are families of which own routes alone pass without one."""
    if isinstance(wanted, Mapping) or (wanted is None and spoken):
        return dict(wanted or {}) | dict.fromkeys(sorted(spoken), "own routes")
    return wanted or ("accept" if peer.settings.ibgp else "reject")


def _prefixes(neighbour: Neighbour) -> dict[str, Plain]:
    """Return for each family what is kept of the peer, rejected routes included, and how much may be."""
    heard = neighbour.adj_rib_in
    return {
        family.text: {
            "count": heard.count(family),
            "most": limit.most,
            "action": limit.action,
            "blocked": family in heard.blocked,
        }
        for family, limit in sorted(neighbour.terms.limits.items())
    }


def _agreed(negotiated: Negotiated) -> Plain:
    """Return the capabilities that both ends have, as far as they change what is said."""
    return {
        "as4": negotiated.as4,
        "route_refresh": negotiated.route_refresh,
        "enhanced_refresh": negotiated.enhanced_refresh,
        "message_octets": negotiated.message_limit,
        "graceful_notification": negotiated.graceful_notification,
        "long_lived_s": {Family(family).text: time_s for family, (_, time_s) in _known(negotiated.long_lived)},
        "add_path_receive": _texts(negotiated.add_path_receive),
        "add_path_send": _texts(negotiated.add_path_send),
        "extended_next_hop": _texts(negotiated.extended_next_hop),
        "role": negotiated.role,
    }


def _known(families: Mapping[int, tuple[bool, int]]) -> list[tuple[int, tuple[bool, int]]]:
    return sorted((number, of) for number, of in families.items() if number in set(Family))


def malformed(peer: Peer, now: float) -> list[Plain]:
    """Return the last messages of a peer that broke the protocol, the newest first."""
    return [
        {
            "ago_s": round(now - at, 1),
            "reason": each.reason,
            "length": each.length,
            "message": each.octets.hex(),
            "offending": each.offending.hex(),
        }
        for at, each in reversed(peer.malformed)
    ]


def verdict(wish: Wish, peer: Peer | None) -> Verdict:
    """Return the status of a peer as a wish."""
    if not wish.admin_state_up:
        return "DOWN", "administratively down"
    if peer is not None and peer.state == "established":
        return ACTIVE
    if peer is not None and peer.held is not None:
        return "PENDING", f"held off: {peer.held.reason}"
    state = "not started" if peer is None else peer.state
    error = "" if peer is None else peer.counters.last_error or peer.counters.last_down
    return "PENDING", f"{state}; {error}" if error else state


def verdict_of_range(wish: Wish, neighbours: int) -> Verdict:
    """Return the status of a wish for all peers in a prefix."""
    if not wish.admin_state_up:
        return "DOWN", "administratively down"
    return "ACTIVE", f"{neighbours} of at most {wish.dynamic_limit} neighbours are there"


def without_policy(wish: Wish, local_as: int, spoken: Collection[str] = ()) -> str:
    """Say what of an external peer is rejected because nothing is said of it (RFC 8212 section 3); "": nothing.

    `spoken`: families of which it hears what its speakers say.
    """
    if wish.remote_as == local_as:
        return ""
    said = []
    for policy, what, all_of_it, of_these in (
        (wish.import_policy, "import", "all routes of this external peer are rejected", "its routes are rejected"),
        (wish.export_policy, "export", "this external peer is told no routes", "it is told none"),
    ):
        known = spoken if what == "export" else ()
        if policy is None and not known:
            said.append(f"no {what} policy: {all_of_it} (RFC 8212)")
            continue
        if isinstance(policy, str):
            continue
        missing = [each for each in wish.families if each not in (policy or ()) and each not in known]
        if missing:
            said.append(f"no {what} policy for {', '.join(missing)}: {of_these} (RFC 8212)")
    return "; ".join(said)
