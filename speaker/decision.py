"""Which of several paths to one destination is best (RFC 4271 section 9.1.2.2): numbered steps, a total order.

Each step keeps the candidates that are best by one criterion.  Those left after step 6 are equal in all
that the network cares about: they share the traffic.  Steps 7 to 10 only put them in an order that every
node finds the same, whatever the order of arrival; the last one cannot tie.

    1  highest LOCAL_PREF                      6  lowest IGP cost: not used, tunnels reach all PEs alike
    2  our own routes before received ones     7  lowest ORIGINATOR_ID or router id (RFC 4456 section 9)
    3  shortest AS_PATH                        8  shortest CLUSTER_LIST (RFC 4456 section 9)
    4  lowest ORIGIN, then lowest MED among    9  lowest source name, the peer's address
       paths from the same neighbouring AS    10  lowest NLRI key, so two RDs never tie
    5  eBGP before iBGP

Step 2 stands after LOCAL_PREF so that an operator can prefer a remote site over this node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from speaker.path import Path

DEFAULT_LOCAL_PREF = 100

LOCAL = "local"
"""The name of the source of our own routes."""


class Candidate(NamedTuple):
    """One path that competes, and where it came from."""

    path: Path
    source: str  # a peer's name, or LOCAL
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
        highest = max(local_pref(c.path) for c in left)
        left = [c for c in left if local_pref(c.path) == highest]
    if len(left) > 1:
        left = [c for c in left if c.source == LOCAL] or left
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


def _order(c: Candidate) -> tuple[bytes, int, str, bytes]:
    attributes = c.path.attributes
    return attributes.originator_id or c.router_id, len(attributes.cluster_list), c.source, c.key
