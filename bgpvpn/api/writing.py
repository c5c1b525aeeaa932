"""Writing what somebody wants, and noting in the log who did (rim)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bgpvpn.access import Caller
from bgpvpn.api.boundary import Node
from bgpvpn.intent import Change, Removal
from bgpvpn.objects import Object, title

log = logging.getLogger(__name__)


def write(node: Node, wishes: Sequence[Object | Removal], caller: Caller) -> list[Change]:
    """Do all wishes or none, as `Node.write` does."""
    changes = node.write(wishes, caller)
    for change in changes:
        log.info("%s caller=%r", _line(change), caller.name)
    return changes


def _line(change: Change) -> str:
    if change.thing is None:
        return f"{change.kind} removed: id={change.id}"
    done = "made" if change.stamp.revision == 1 else "changed"
    return f"{change.kind} {done}: id={change.id} name={title(change.thing)!r} revision={change.stamp.revision}"
