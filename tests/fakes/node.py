"""A node in memory: real intent, a store that refuses when it is told to, and views that say what a test put there.

    node = FakeNode()
    server = ApiServer(application(node), path=folder / "api.sock")

    store = FakeStore()
    node = FakeNode(store)
    store.refuses = "the disk is full"

Nothing becomes of wishes by itself: `statuses` says what became of an object, and `ACTIVE` is what is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_network
from itertools import chain
from typing import Any

from bgpvpn import access, trial
from bgpvpn.access import OPERATOR, Caller
from bgpvpn.api.boundary import Plain, Watcher
from bgpvpn.intent import Change, Intent, Key, Removal, Store, StoredLease, StoreError, kind_of
from bgpvpn.objects import Bgpvpn, IntentError, Kind, Object, Policy
from bgpvpn.views import Row
from speaker.policy import Facts
from speaker.values import Family, RouteTarget


class FakeStore:
    """A store in memory: it keeps what is written in order, or refuses it for a reason."""

    def __init__(self) -> None:
        self.refuses = ""  # the reason; "": it takes everything
        self.changes: list[Change] = []

    def load(self) -> tuple[list[Change], list[StoredLease]]:
        last = {(change.kind, change.id): change for change in self.changes}
        return [change for change in last.values() if change.thing is not None], []

    def identity(self) -> int:
        return 1 << 62

    def write(
        self,
        changes: Iterable[Change] = (),
        leases: Iterable[StoredLease] = (),
        dropped_leases: Iterable[tuple[str, str]] = (),
    ) -> None:
        if self.refuses:
            raise StoreError(self.refuses)
        self.changes.extend(changes)


class FakeNode:
    """What the API needs of a node (`bgpvpn.api.boundary.Node`)."""

    def __init__(self, store: Store | None = None, *, configured: Sequence[Object] = ()) -> None:
        self.intent = Intent()
        self.store = store or FakeStore()
        self.wall = 1_700_000_000.0  # seconds since 1970; a second later at each write
        self.statuses: dict[Key, Plain] = {}
        self.watchers: list[Watcher] = []
        self.status_plain: Plain = {"version": "0.1.0", "synced": True, "uptime_s": 12, "degraded": []}
        self.session_rows: list[Plain] = []
        self.route_rows: list[Plain] = []  # as `bgpvpn.views.routes` makes them
        self.received_rows: list[Plain] = []  # the same, before the import policies
        self.malformed_rows: dict[str, list[Plain]] = {}  # by peer
        self.heard: dict[str, list[Row]] = {}  # what a policy is tried on, by peer
        self.instance_rows: list[Plain] = []
        self.kernel_plain: Plain = {"objects": [], "counters": {}}
        self.explained: dict[str, Plain] = {}  # by the id of a port
        self.metric_rows: list[Plain] = []
        self.advertised_rows: dict[str, list[Plain]] = {}  # by the id of a speaker
        self.learned_rows: dict[str, list[Plain]] = {}
        self.mrt_pieces: Iterable[bytes] = ()
        for thing in configured:
            self.intent.load(self.intent.plan([thing], self.wall), configured=True)

    def write(self, wishes: Sequence[Object | Removal], caller: Caller = OPERATOR) -> list[Change]:
        changes = access.plan(caller, wishes, self.intent, self.wall)
        self.store.write(changes)
        self.intent.apply(changes)
        self.wall += 1
        for change in changes:
            self.tell({"type": "removed" if change.thing is None else "changed", "kind": change.kind, "id": change.id})
        return changes

    def tell(self, event: Plain) -> None:
        """Let every watcher have an event."""
        for watcher in list(self.watchers):
            watcher(event)

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def status_of(self, kind: Kind, id_: str) -> Plain:
        active = {"state": "ACTIVE", "reason": "", "observed_revision": self.intent.stamps[kind, id_].revision}
        return self.statuses.get((kind, id_), active)

    def status(self) -> Plain:
        return self.status_plain

    def itself(self) -> Plain:
        return {"id": "192.0.2.1", "host": "node", "router_id": "192.0.2.1", "gateway_mac": "00:00:5e:00:43:64"}

    def sessions(self) -> list[Plain]:
        return self.session_rows

    def malformed(self, peer: str) -> list[Plain] | None:
        return self.malformed_rows.get(peer)

    def try_policy(self, policy: Policy, wanted: Plain) -> list[Plain]:
        if wanted["route"] is not None:
            return [trial.of_route(policy.read(), wanted["route"], wanted["family"], 64512)]
        if wanted["peer"] not in self.heard:
            raise IntentError("peer", wanted["peer"], "is not there")
        facts = Facts(address=wanted["peer"], remote_as=64500, local_as=64512)
        rows = self.heard[wanted["peer"]]
        return trial.of_rows(policy.read(), rows, facts, prefix=wanted["prefix"], most=wanted["limit"])

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
        wanted: dict[str, Any] = {
            "family": family and Family.parse(family).text,
            "route_targets": route_target and str(RouteTarget.parse(route_target)),
            "nlri": prefix,
            "source": source,
            "imported_by": vpn and (vpn.name or vpn.id),
        }
        rows = self.received_rows if received else self.route_rows
        if source is not None and all(row["source"] != source for row in rows):
            raise LookupError(source)
        found = [row for row in rows if all(_says(row[field], text) for field, text in wanted.items())]
        return found[:most]

    def instances(self) -> list[Plain]:
        return self.instance_rows

    def kernel(self) -> Plain:
        return self.kernel_plain

    def explain_prefix(self, prefix: str) -> Plain:
        network = ip_network(prefix, strict=False)
        return {"prefix": str(network), "verdict": f"nobody told this node about {network}"}

    def explain_port(self, port_id: str) -> Plain:
        return self.explained.get(port_id) or {"port": port_id, "status": self.status_of("port", port_id)}

    def advertised(self, speaker_id: str) -> list[Plain]:
        return self.advertised_rows.get(self.intent.speakers[speaker_id].id, [])

    def learned(self, speaker_id: str) -> list[Plain]:
        return self.learned_rows.get(self.intent.speakers[speaker_id].id, [])

    def mrt(self, families: Sequence[str], *, pre_policy: bool) -> Iterator[bytes]:
        wanted = [Family.parse(text).text for text in families] or ["all"]
        return chain([" ".join(wanted).encode(), b"", b" pre" if pre_policy else b" post"], self.mrt_pieces)

    def metrics(self) -> list[Plain]:
        return self.metric_rows


def _says(value: str | list[str], text: str | None) -> bool:
    """Tell whether a field of a route has a text: as a member of a list, or as a word."""
    return text is None or text in (value if isinstance(value, list) else value.split())


def contents(node: FakeNode) -> dict[Key, Object]:
    """Return all that is wanted of a node now."""
    return {(kind_of(each), each.id): each for table in node.intent.tables.values() for each in table.rows.values()}
