"""How the routes of a neighbour are treated: what its sessions need not know, and what changes without ending one.

Settings (speaker.session)   what is said in OPEN; a change needs a new session
Terms                        policies, limits, reflection; a change works out again what is held and what is told
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from speaker.path import Path
from speaker.rib import Source
from speaker.values import Family

Decide = Callable[[Family, bytes, Path], Path | None]
"""A policy, compiled for one neighbour: (family, NLRI key, path) to the path as it shall be, None: rejected.

Pure, and interned: the same arguments give the same object.
"""


def accept(family: Family, key: bytes, path: Path) -> Path | None:
    """Take every route as it is."""
    return path


def reject(family: Family, key: bytes, path: Path) -> Path | None:
    """Take no route (RFC 8212: what an external peer without a policy gets)."""
    return None


@attrs.frozen(kw_only=True)
class PrefixLimit:
    """How many routes of a family a peer may tell, as far as they are kept."""

    most: int
    warn_percent: int = 80
    action: Literal["block", "warn", "restart"] = "block"  # take no new ones; only say so; Cease 6/1
    restart_s: float = 300.0  # for "restart": how long there is no session


@attrs.frozen(kw_only=True)
class Terms:
    """The treatment of one neighbour's routes.

    Two policies are equal when they are the same object: who makes terms makes a policy once as long as it is the same.
    """

    importing: Decide = accept
    exporting: Decide = accept
    client: bool = False  # of ours as a route reflector (RFC 4456)
    limits: Mapping[Family, PrefixLimit] = attrs.field(factory=dict)
    paths_out: int = 1  # how many paths of a destination are told where that is agreed on (RFC 7911)
    hears: frozenset[Source] = frozenset()  # own routes that it is told beside those that all hear (`decision.local`)
    own_only: frozenset[Family] = frozenset()  # of which it is told our own routes and nothing of other peers


ACCEPT_ALL = Terms()
