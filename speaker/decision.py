"""Which of several paths to one destination is best (RFC 4271 section 9.1.2.2): numbered steps, a total order.

Each step keeps the candidates that are best by one criterion.  Those left after step 7 are equal in all
that the network cares about: they share the traffic.  Steps 8 to 12 only put them in an order that every
node finds the same, whatever the order of arrival; who ties in the last one says the same in all that is looked at.

    1  not stale before long-lived stale       7  lowest IGP cost: not used, tunnels reach all PEs alike
       (LLGR_STALE, RFC 9494 section 4.4)      8  lowest ORIGINATOR_ID or router id (RFC 4456 section 9)
    2  highest LOCAL_PREF                      9  shortest CLUSTER_LIST (RFC 4456 section 9)
    3  our own routes before received ones    10  lowest peer's name, its address
    4  shortest AS_PATH                       11  lowest NLRI key, so two RDs never tie
    5  lowest ORIGIN, then lowest MED among   12  of several paths that a peer told of one NLRI (RFC 7911):
       paths from the same neighbouring AS        lowest next hop, labels and the like, then what else they say
    6  eBGP before iBGP

Step 3 stands after LOCAL_PREF so that an operator can prefer a remote site over this node.  In steps 4 and 5 segments
of a confederation are no ASes: they count nothing, and the neighbouring AS is the first one outside (RFC 5065 section
5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from speaker.path import Path
from speaker.rib import Source, peer_of

DEFAULT_LOCAL_PREF = 100

LLGR_STALE = 0xFFFF0006
"""The community of routes that outlive their peer for long (RFC 9494 section 3.2)."""

LOCAL = "local"
"""The name of the source of our own routes that all peers may hear."""


def local(name: str) -> Source:
    """Return the source of own routes that only those peers hear whose terms name it."""
    return f"{LOCAL}/{name}"


def is_own(source: Source) -> bool:
    """Tell whether a source is of our own routes (hot)."""
    return source == LOCAL or source.startswith("local/")


class Candidate(NamedTuple):
    """One path that competes, and where it came from."""

    path: Path
    source: str  # a peer's name, that of a slot of it, or one of our own
    key: bytes  # the NLRI key
    external: bool = False  # received by eBGP
    router_id: bytes = b"\0\0\0\0"  # of the peer that sent it


def local_pref(path: Path) -> int:
    """Return the degree of preference; 100 where the route does not say."""
    value = path.attributes.local_pref
    return DEFAULT_LOCAL_PREF if value is None else value


def best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the equally good best candidates, in a stable order (empty only for no candidates)."""
    left = list(candidates)
    if len(left) > 1:
        left = [c for c in left if LLGR_STALE not in c.path.attributes.communities] or left
    if len(left) > 1:
        highest = max(local_pref(c.path) for c in left)
        left = [c for c in left if local_pref(c.path) == highest]
    if len(left) > 1:
        left = [c for c in left if is_own(c.source)] or left
    if len(left) > 1:
        shortest = min(c.path.attributes.as_path_length() for c in left)
        left = [c for c in left if c.path.attributes.as_path_length() == shortest]
    if len(left) > 1:
        lowest = min(c.path.attributes.origin for c in left)
        left = [c for c in left if c.path.attributes.origin == lowest]
    if len(left) > 1:
        left = _lowest_med(left)
    if len(left) > 1:
        left = [c for c in left if c.external] or left
    if len(left) > 1:
        left.sort(key=_order)
    return left


def tiers(candidates: Sequence[Candidate], most: int = 2) -> list[list[Candidate]]:
    """Return the best set, then what would be best without it, and so on, up to `most` sets."""
    left = list(candidates)
    found: list[list[Candidate]] = []
    while left and len(found) < most:
        tier = best(left)
        found.append(tier)
        left = [c for c in left if c not in tier]
    return found


def _lowest_med(left: list[Candidate]) -> list[Candidate]:
    """Drop who has a higher MED than another path from the same neighbouring AS; no MED counts as 0."""
    lowest: dict[int, int] = {}
    for c in left:
        attributes = c.path.attributes
        neighbour, med = attributes.neighbour_as(), attributes.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    return [c for c in left if (c.path.attributes.med or 0) == lowest[c.path.attributes.neighbour_as()]]


def _order(c: Candidate) -> tuple[object, ...]:
    path = c.path
    attributes = path.attributes
    return (
        attributes.originator_id or c.router_id,
        len(attributes.cluster_list),
        peer_of(c.source),
        c.key,
        attributes.next_hop,
        path.extra,
        attributes.med or 0,
        attributes.as_path,
        attributes.communities,
        attributes.ext_communities,
        attributes.large_communities,
        c.source,  # the slot: it depends on arrival, and by now the paths are the same
    )
