"""What is known of each BGP session, as plain values for the looking glass and for metrics."""

from __future__ import annotations

from bgpvpn.objects import Peer as Wish
from bgpvpn.statuses import ACTIVE, Verdict
from bgpvpn.views import Plain
from speaker.engine import Neighbour
from speaker.peer import Peer
from speaker.rib import Rib


def session(wish: Wish, peer: Peer, neighbour: Neighbour, rib: Rib, now: float) -> Plain:
    """Return one session; texts of the peer are escaped where they came in (`speaker.session.escape`)."""
    counters, negotiated = peer.counters, peer.negotiated
    routes_in = {
        family.text: len(table) for (family, source), table in rib.tables.items() if source == neighbour.name and table
    }
    plain: Plain = {
        "peer": wish.name or wish.address,
        "address": wish.address,
        "remote_as": wish.remote_as,
        "local_as": peer.settings.local_as,
        "state": peer.state,
        "since_s": round(now - peer.since, 1),
        "synced": neighbour.synced,
        "families": [] if negotiated is None else sorted(family.text for family in negotiated.families),
        "routes_in": routes_in,
        "routes_out": {
            family.text: len(sent) for family, sent in sorted(neighbour.adj_rib_out.sent.items()) if len(sent)
        },
        "routes_stale": sum(map(len, neighbour.adj_rib_in.stale.values())),
        "routes_refused": len(neighbour.adj_rib_in.refused),
        "messages_in": counters.messages_in,
        "messages_out": counters.messages_out,
        "updates_in": counters.updates_in,
        "malformed": counters.malformed,
        "established": counters.established,
        "flaps": counters.flaps,
        "last_error": counters.last_error,
        "last_down": counters.last_down,
    }
    if negotiated is not None:
        graceful = negotiated.graceful
        plain |= {
            "remote_router_id": ".".join(map(str, negotiated.remote_router_id)),
            "remote_host_name": negotiated.remote_host_name,
            "hold_time_s": negotiated.hold_s,
            "graceful_restart_s": None if graceful is None else graceful.time_s,
            "end_of_rib_in": sorted(family.text for family in neighbour.adj_rib_in.synced),
            "end_of_rib_out": sorted(family.text for family in neighbour.adj_rib_out.told_all),
        }
    return plain


def verdict(wish: Wish, peer: Peer | None) -> Verdict:
    """Return the status of a peer as a wish."""
    if not wish.admin_state_up:
        return "DOWN", "administratively down"
    if peer is not None and peer.state == "established":
        return ACTIVE
    state = "not started" if peer is None else peer.state
    error = "" if peer is None else peer.counters.last_error or peer.counters.last_down
    return "PENDING", f"{state}; {error}" if error else state
