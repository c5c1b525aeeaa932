"""What speakers tell their peers, and what those told them, as plain values for the API and for people."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from bgpvpn.advertising import FAMILY_OF
from bgpvpn.node import Node
from bgpvpn.objects import Speaker
from bgpvpn.views import Heard, Plain, Row, as_they_came, path_plain, worse
from speaker.adj_rib_in import REJECTED
from speaker.adj_rib_out import AdjRibOut
from speaker.decision import LOCAL, Candidate, best, is_own, local
from speaker.rib import Rib, peer_of
from speaker.values import Family, key_text, prefix_bytes

MARKS = ("next_hop", "as_path", "origin", "med", "local_pref", "communities", "large_communities")
"""What is shown of a learned route."""


def advertised(node: Node, speaker: Speaker, told: Mapping[str, AdjRibOut]) -> list[Plain]:
    """Return the routes of a speaker by destination: {"destination", "next_hop", "why", "kind", "id", "told_to"}.

    `why` says it in words, `kind` and `id` name the object that the route is from, `told_to` are addresses of peers
    that hold it now; `told` has what each of the speaker's peers is told.
    """
    family, source = FAMILY_OF[speaker.ip_version], local(speaker.id)
    sent = [(name, out.sent[family]) for name, out in told.items() if family in out.sent]
    found = []
    for destination, offer in node.advertising.told.get(speaker.id, {}).items():
        key = prefix_bytes(destination)
        kind, id_ = offer.of
        holding = [name for name, of_peer in sent if any(each == source for _, each, _ in of_peer.paths(key))]
        found.append(
            {
                "destination": destination,
                "next_hop": offer.next_hop,
                "why": node.advertising.why(offer),
                "kind": kind,
                "id": id_,
                "told_to": holding,
            }
        )
    return sorted(found, key=_by_destination)


def learned(node: Node, speaker: Speaker, heard: Heard) -> list[Plain]:
    """Return what peers told in a speaker's family, by destination and peer; `heard` has what each of them said.

    Each is {"destination", "peer", "next_hop", "as_path", "origin", "med", "local_pref", "communities",
    "large_communities", "stale", "best", "why"}, as it came, before the import policy.  `best`: it is what this node
    would use; `why` says why it is not, or is "".  Nothing of it is in the kernel.  What comes back of what the speaker
    tells is left out: many tell their neighbours all that they know.
    """
    family = FAMILY_OF[speaker.ip_version]
    found = []
    for row in as_they_came(heard, family):
        path = path_plain(row.path, family)
        reason = _worse(node.rib, row, heard, speaker)
        told = row.key if row.path_id is None else row.path_id.to_bytes(4, "big") + row.key
        found.append(
            {
                "destination": key_text(family, row.key),
                "peer": row.source,
                **{name: path[name] for name in MARKS},
                "stale": told in heard[row.source].stale.get(family, ()),
                "best": not reason,
                "why": reason,
            }
        )
    echoed = node.advertising.told.get(speaker.id, {})
    found += (row for row in _refused(heard, family) if row["destination"] not in echoed)
    return sorted(found, key=lambda plain: (_by_destination(plain), plain["peer"]))


def _worse(rib: Rib, row: Row, heard: Heard, speaker: Speaker) -> str:
    """Say why a route is not the best one; "": it is, or is as good."""
    sources = heard[row.source].sources(row.family, row.key)
    at = sources.get(row.path_id or 0)
    candidates = [
        Candidate(path, source, row.key, rib.origin(peer_of(source)).external, rib.origin(peer_of(source)).router_id)
        for source, table in rib.sources(row.family)
        if (path := table.get(row.key)) is not None
        if not is_own(source) or source in (LOCAL, local(speaker.id))
    ]
    own = next((candidate for candidate in candidates if candidate.source == at), None)
    if own is None:
        return REJECTED
    first = best(candidates)
    return "" if own in first else worse(own, first[0])


def _refused(heard: Heard, family: Family) -> Iterator[Plain]:
    """Yield what was not taken at all: loops, routes of our own, what is above a limit."""
    for name, adj_rib_in in heard.items():
        for its_family, key, _, reason in adj_rib_in.refusals():
            if its_family is family and reason != REJECTED:
                nothing = dict.fromkeys(MARKS)
                yield {
                    "destination": key_text(family, key),
                    "peer": name,
                    **nothing,
                    "as_path": [],
                    "communities": [],
                    "large_communities": [],
                    "next_hop": "",
                    "stale": False,
                    "best": False,
                    "why": reason,
                }


def _by_destination(plain: Plain) -> tuple[int, bytes, int]:
    network = ipaddress.ip_network(plain["destination"])
    return network.version, network.network_address.packed, network.prefixlen
