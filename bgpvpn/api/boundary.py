"""What the API needs of a node: the one seam between HTTP and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from bgpvpn.access import OPERATOR, Caller
from bgpvpn.intent import Change, Intent, Removal
from bgpvpn.objects import Bgpvpn, Kind, Object, Policy

Plain = dict[str, Any]
"""Texts, numbers, flags, None, and lists and dicts of them. Text from peers is escaped already."""

Watcher = Callable[[Plain], None]
"""Takes one event, {"type": ..., ...}, and returns at once."""


class Node(Protocol):
    """A node as the API sees it; every call is synchronous, and made in the thread of the node's event loop."""

    @property
    def intent(self) -> Intent:
        """What users want, to read."""

    def write(self, wishes: Sequence[Object | Removal], caller: Caller = OPERATOR) -> list[Change]:
        """Do all wishes or none: checked, then stored, then in the tables. IntentError or StoreError: none is done.

        `access.ForbiddenError`, an IntentError: they are not for this caller.
        """

    def status_of(self, kind: Kind, id_: str) -> Plain:
        """Return {"state": ACTIVE, PENDING, DOWN or ERROR, "reason", "observed_revision"} of an object."""

    def status(self) -> Plain:
        """Return what the node says of itself: version, synced, uptime_s and the like."""

    def itself(self) -> Plain:
        """Return the node as an object: `node_view.node_view`."""

    def sessions(self) -> list[Plain]:
        """Return one entry for each peer: its session, its counters, its last error."""

    def malformed(self, peer: str) -> list[Plain] | None:
        """Return the last messages that broke the protocol, of a peer by its address or name; None: there is none."""

    def try_policy(self, policy: Policy, wanted: Plain) -> list[Plain]:
        """Return what a policy would make of the routes that are wanted (`bodies.PolicyTest`); IntentError."""

    def routes(
        self,
        *,
        family: str | None,
        route_target: str | None,
        prefix: str | None,
        vpn: Bgpvpn | None,
        source: str | None,
        most: int,
        received: bool,
    ) -> list[Plain]:
        """Return the routes that fit all that is given, at most so many.

        `source`: a peer, by its name, id or address, or "local"; LookupError if there is none.  `received`: those of
        peers as they came, before the import policy.
        """

    def instances(self) -> list[Plain]:
        """Return the segments of the node with their VRFs and EVIs."""

    def kernel(self) -> Plain:
        """Return {"objects": [{"object", "state", "reason"}...], "counters": {...}, ...} of the dataplane."""

    def explain_prefix(self, prefix: str) -> Plain:
        """Walk the tables for a prefix or an address; ValueError if it is none."""

    def explain_port(self, port_id: str) -> Plain:
        """Walk the tables for a port that is there."""

    def advertised(self, speaker_id: str) -> list[Plain]:
        """Return the routes of a speaker that is there, by destination: `speaker_view.advertised`."""

    def learned(self, speaker_id: str) -> list[Plain]:
        """Return what the peers of a speaker that is there told it, in its address family: `speaker_view.learned`."""

    def mrt(self, families: Sequence[str], *, pre_policy: bool) -> Iterator[bytes]:
        """Yield the routes of these families, or of all, as MRT records; ValueError names a family that is none."""

    def metrics(self) -> list[Plain]:
        """Return {"name", "help", "type": counter or gauge, "samples": [{"labels": {...}, "value": number}...]}."""

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Tell a watcher about every change from now on; what is returned ends that."""
