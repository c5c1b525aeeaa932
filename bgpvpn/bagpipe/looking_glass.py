"""The looking glass of bagpipe-bgp (rim): a tree of what the node knows, made of our tables when it is asked for.

A dict is shown as it is, but for its branches: these are shown as references, {"href": URL}, and made only when a
path leads into them. A collection is a list of {"id", "href", ...}, whose members are found by their ids.
"""

from __future__ import annotations

from typing import Any, Protocol

from bgpvpn.api import boundary

BASE = "looking-glass"


class Node(boundary.Node, Protocol):
    """What the looking glass needs beside what the API does."""

    @property
    def identity(self) -> int:
        """A number that stays as long as what clients left is kept."""


class LookingGlass:
    """The looking glass of a node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def at(self, path: list[str], origin: str) -> Any:
        """Return what is at a path; LookupError if there is nothing."""
        if path:
            raise LookupError(path[0])
        return {}
