"""A kernel in memory that behaves as Linux does towards its `Dataplane`, and what drives a reconciler over it.

    kernel = FakeKernel()
    kernel.interfaces.add(("tap1", ""))
    kernel.refuse("link", "bv-br1", errno.EPERM, times=2)
    kernel.fail("apply", after=3)                  # OSError when three operations of the next call are done
    kernel.meddle("nexthop", 3137339393)           # somebody removes it; `disturbed` says so
    kernel.meddle_route((10, 4), prefix, None, silently=True)

A device takes with it, without a word, all that stands on it: addresses, entries, neighbours, label routes, next hops
and the routes that point at them.  A next hop takes its routes and leaves its groups; a group without members goes.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from bgpvpn.dataplane.rows import (
    EVERYTHING,
    KINDS,
    Actual,
    Attached,
    BridgeLink,
    Group,
    Key,
    Kind,
    Leaf,
    Link,
    MplsRoute,
    Operation,
    Refusal,
    RouteTable,
    Scope,
    TunnelLink,
    Value,
    VrfLink,
    VxlanLink,
)
from bgpvpn.desired import Desired
from bgpvpn.reconcile import Reconciler

_EXCLUSIVE = ("unreachable", "nexthop", "mpls")
_ON_DEVICES: tuple[Kind, ...] = ("address", "fdb", "flood", "neighbour")


@attrs.define
class _Rule:
    """Refuses the rows that match."""

    kind: str
    key: Any  # None: any
    errno: int
    times: int | None  # None: for ever
    waits: bool


class FakeKernel:
    """Implements `Dataplane`; `rows` and `routes` are ours, the other tables are of others."""

    def __init__(self) -> None:
        self.rows: dict[Kind, dict[Key, Any]] = {kind: {} for kind in KINDS}
        self.routes: dict[RouteTable, dict[bytes, int]] = {}
        self.interfaces: set[tuple[str, str]] = set()  # of users: (name, namespace)
        self.foreign_links: set[str] = set()
        self.foreign_routes: dict[RouteTable, set[bytes]] = {}  # with our metric
        self.unreachable: set[bytes] = set()  # PEs that the main table has no way to
        self.readable = False  # whether somebody is told that others changed something
        self.log: list[Operation] = []  # operations done
        self.replaced = 0  # routes that were there, and were changed or removed by us
        self.opened: list[str] = []  # VRFs that our own operations left open: something leads in, and they have no end
        self.torn: list[Operation] = []  # removals of ours that took groups or routes with them
        self.observations: list[set[Scope]] = []
        self._taken = 0  # routes and members of groups that went with a next hop
        self._sent: Counter[str] = Counter()
        self._scopes: set[Scope] = set()
        self._rules: list[_Rule] = []
        self._failing: dict[str, list[int]] = {}  # call -> operations done before each failure to come

    # What tests do

    def refuse(
        self,
        kind: str,
        key: Key = None,
        number: int = errno.EINVAL,
        *,
        times: int | None = None,
        waits: bool = False,
    ) -> None:
        """Refuse rows of a kind ("route": key (table, prefix)), for ever or some times."""
        self._rules.append(_Rule(kind, key, number, times, waits))

    def relent(self) -> None:
        """Refuse and fail no more than Linux does."""
        self._rules.clear()
        self._failing.clear()

    def fail(self, call: str, *, after: int = 0, times: int = 1) -> None:
        """Raise OSError in the next calls, when so many operations of each are done."""
        self._failing.setdefault(call, []).extend([after] * times)

    def meddle(self, kind: Kind, key: Key, value: Value | None = None, *, silently: bool = False) -> None:
        """Change or remove (None) a row as somebody else."""
        gone = value is None or (isinstance(value, Leaf | Group) and type(value) is not type(self._get(kind, key)))
        if gone:
            self._take(kind, key)
        if value is not None:
            self.rows[kind][key] = value
        if not silently:
            self._tell("all" if gone and kind in ("link", "nexthop") else kind)

    def meddle_route(self, at: RouteTable, prefix: bytes, id_: int | None, *, silently: bool = False) -> None:
        """Change or remove (None) a route as somebody else."""
        if id_ is None:
            self.routes.get(at, {}).pop(prefix, None)
        else:
            self.routes.setdefault(at, {})[prefix] = id_
        if not silently:
            self._tell(at)

    def plug(self, name: str, netns: str = "") -> None:
        """Have a user's interface come."""
        self.interfaces.add((name, netns))
        self._tell("links", "underlay")

    def unplug(self, name: str, netns: str = "") -> None:
        """Have a user's interface go."""
        self.interfaces.discard((name, netns))
        for port, attached in list(self.rows["attachment"].items()):
            if (attached.interface, attached.netns) == (name, netns):
                del self.rows["attachment"][port]
                self._tell("attachment", "links")

    def lose(self, *pes: bytes) -> None:
        """Have the ways to PEs go."""
        self.unreachable.update(pes)
        self._tell("underlay")

    def find(self, *pes: bytes) -> None:
        """Have the ways to PEs come back."""
        self.unreachable.difference_update(pes)
        self._tell("underlay")

    def _tell(self, *scopes: Scope) -> None:
        self._scopes.update(scopes)
        self.readable = True

    def leaves(self, id_: int) -> frozenset[Leaf]:
        """Return where a next hop leads."""
        match self.rows["nexthop"].get(id_):
            case Group(members=members):
                return frozenset(self.rows["nexthop"][member] for member in members)
            case Leaf() as leaf:
                return frozenset({leaf})
        return frozenset()

    def leads(self, at: RouteTable, prefix: bytes) -> frozenset[Leaf]:
        """Return where a route leads."""
        return self.leaves(self.routes.get(at, {}).get(prefix, 0))

    def content(self) -> dict[str, Any]:
        """Return all that is ours, with leaves instead of ids, to compare kernels."""
        return {
            **{kind: dict(rows) for kind, rows in self.rows.items() if kind != "nexthop"},
            "leaves": Counter(row for row in self.rows["nexthop"].values() if isinstance(row, Leaf)),
            "unused": self._unused(),
            "routes": {
                at: {prefix: self.leaves(id_) for prefix, id_ in routes.items()}
                for at, routes in self.routes.items()
                if routes
            },
        }

    def _unused(self) -> set[int]:
        groups = {id_ for id_, row in self.rows["nexthop"].items() if isinstance(row, Group)}
        return groups - {id_ for routes in self.routes.values() for id_ in routes.values()}

    def open_vrfs(self) -> set[str]:
        """Return the VRF devices without an end that a bridge, a label or a route leads into."""
        found = set()
        for device, link in self.rows["link"].items():
            if isinstance(link, VrfLink) and any((link.table, afi) not in self.rows["unreachable"] for afi in (4, 6)):
                leading = (
                    *(each.master for each in self.rows["link"].values() if isinstance(each, BridgeLink)),
                    *(each.device for each in self.rows["mpls"].values()),
                    *(each.device for each in self.rows["nexthop"].values() if isinstance(each, Leaf)),
                )
                if device in leading:
                    found.add(device)
        return found

    # What a Dataplane does

    def observe(self, scopes: Collection[Scope] = EVERYTHING) -> Actual:
        self._fail("observe", 0)
        self.observations.append(set(scopes))
        kinds = KINDS if "all" in scopes else [kind for kind in KINDS if kind in scopes]
        tables = self.routes if "all" in scopes else [scope for scope in scopes if isinstance(scope, tuple)]
        return Actual(
            {kind: dict(self.rows[kind]) for kind in kinds}, {at: dict(self.routes.get(at, {})) for at in tables}
        )

    def apply(self, operations: Sequence[Operation]) -> dict[int, Refusal]:
        self.readable = False  # what was told is taken in, to tell it from what we do
        refusals = {}
        for index, operation in enumerate(operations):
            self._fail("apply", index)
            kind, key, want, have = operation
            self._sent[kind] += 1
            open_before, taken_before = self.open_vrfs(), self._taken
            refusal = self._refusal(kind, key)
            if refusal is None:
                refusal = self._do(kind, key, want, have)
            if refusal is None:
                self.log.append(operation)
            else:
                refusals[index] = refusal
            self.opened += self.open_vrfs() - open_before
            if want is None and self._taken != taken_before:
                self.torn.append(operation)
        self._fail("apply", len(operations))
        return refusals

    def write_routes(self, at: RouteTable, changes: Mapping[int | None, Sequence[bytes]]) -> dict[bytes, Refusal]:
        self.readable = False
        refusals = {}
        routes = self.routes.setdefault(at, {})
        changed = [(prefix, id_) for id_, prefixes in changes.items() for prefix in prefixes]
        for index, (prefix, id_) in enumerate(changed):
            self._fail("write_routes", index)
            self._sent["routes"] += 1
            refusal = self._refusal("route", (at, prefix)) if self._rules else None
            if refusal is not None:
                refusals[prefix] = refusal
            elif prefix in self.foreign_routes.get(at, ()):
                refusals[prefix] = _refusal(errno.EEXIST, "somebody else's route is there")
            elif id_ is None:
                self.replaced += routes.pop(prefix, None) is not None
            elif id_ not in self.rows["nexthop"]:
                refusals[prefix] = _refusal(errno.EINVAL, f"nexthop {id_} does not exist")
            else:
                self.replaced += prefix in routes
                routes[prefix] = id_
        self._fail("write_routes", len(changed))
        return refusals

    def reachable(self, addresses: Iterable[bytes]) -> set[bytes]:
        self._fail("reachable", 0)
        return set(addresses) - self.unreachable

    def disturbed(self) -> set[Scope]:
        self.readable = False
        scopes, self._scopes = self._scopes, set()
        return scopes

    def foreign(self) -> list[str]:
        return sorted(
            f"route {prefix.hex()} in table {at[0]}" for at, routes in self.foreign_routes.items() for prefix in routes
        )

    def messages(self) -> dict[str, int]:
        return dict(self._sent)

    # How Linux answers

    def _fail(self, call: str, done: int) -> None:
        failing = self._failing.get(call)
        if failing and failing[0] <= done:
            failing.pop(0)
            raise OSError(errno.ENOBUFS, f"{call}: no answer")

    def _refusal(self, kind: str, key: Key) -> Refusal | None:
        for rule in self._rules:
            if rule.kind == kind and rule.key in (None, key) and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return _refusal(rule.errno, f"{kind} {key}: {os.strerror(rule.errno)}", waits=rule.waits)
        return None

    def _get(self, kind: Kind, key: Key) -> Any:
        return self.rows[kind].get(key)

    def _do(self, kind: Kind, key: Key, want: Value | None, have: Value | None) -> Refusal | None:
        if want is None:
            self._take(kind, key)
            return None
        there = self._get(kind, key)
        if kind in _EXCLUSIVE and have is None and there is not None:
            return _refusal(errno.EEXIST, f"{kind} {key} is there")
        refusal = self._missing(kind, key, want, there)
        if refusal is None:
            if kind == "link" and there is not None:
                self._change_link(key, there, want)
            self.rows[kind][key] = want
        return refusal

    def _missing(self, kind: Kind, key: Key, want: Value, there: Value | None) -> Refusal | None:
        links = self.rows["link"]
        match want:
            case _ if kind == "link" and key in self.foreign_links:
                return _refusal(errno.EEXIST, f"{key} is somebody else's")
            case BridgeLink(master=str(master)) if not isinstance(links.get(master), VrfLink):
                return _refusal(errno.ENODEV, f"no device {master}")
            case VxlanLink(master=master) if not isinstance(links.get(master), BridgeLink):
                return _refusal(errno.ENODEV, f"no device {master}")
            case Attached(bridge=bridge) if not isinstance(links.get(bridge), BridgeLink):
                return _refusal(errno.ENODEV, f"no device {bridge}")
            case Attached(interface=name, netns=netns):
                if (name, netns) not in self.interfaces:
                    return _refusal(errno.ENODEV, f"no interface {name}", waits=True)
                others = (row for port, row in self.rows["attachment"].items() if port != key)
                if any((row.interface, row.netns) == (name, netns) for row in others):
                    return _refusal(errno.EBUSY, f"{name} is another port", waits=True)
            case Leaf(device=str(device)) | MplsRoute(device=device) if device not in links:
                return _refusal(errno.ENODEV, f"no device {device}")
            case Leaf() if isinstance(there, Group):
                return _refusal(errno.EINVAL, f"nexthop {key} is a group")
            case Group(members=members):
                if not members or not all(isinstance(self._get("nexthop", each), Leaf) for each in members):
                    return _refusal(errno.EINVAL, f"nexthop group {key}: invalid member")
                if isinstance(there, Leaf):
                    return _refusal(errno.EINVAL, f"nexthop {key} is no group")
        if kind in _ON_DEVICES:
            needed = VxlanLink if kind in ("fdb", "flood") else BridgeLink
            if not isinstance(links.get(key[0]), needed):
                return _refusal(errno.ENODEV, f"no device {key[0]}")
        return None

    def _change_link(self, device: str, there: Link, want: Link) -> None:
        if _fixed(there) != _fixed(want):
            self._take("link", device)
            self._scopes.add("all")
        elif isinstance(there, BridgeLink) and isinstance(want, BridgeLink) and there.master != want.master:
            # It goes down and up, and IPv6 addresses and neighbours do not survive that.
            for kind in ("address", "neighbour"):
                for key in [key for key in self.rows[kind] if key[0] == device and len(key[1]) == 16]:
                    del self.rows[kind][key]
            self._scopes |= {"address", "neighbour"}

    def _take(self, kind: Kind, key: Key) -> None:
        if self.rows[kind].pop(key, None) is None:
            return
        if kind == "link":
            self._take_what_stands_on(key)
        elif kind == "nexthop":
            for routes in self.routes.values():
                for prefix in [prefix for prefix, id_ in routes.items() if id_ == key]:
                    del routes[prefix]
                    self._taken += 1
            for id_, row in list(self.rows["nexthop"].items()):
                if isinstance(row, Group) and key in row.members:
                    left = tuple(each for each in row.members if each != key)
                    self.rows["nexthop"][id_] = Group(left)
                    self._taken += 1
                    if not left:
                        self._take("nexthop", id_)

    def _take_what_stands_on(self, device: str) -> None:
        for kind in _ON_DEVICES:
            for key in [key for key in self.rows[kind] if key[0] == device]:
                del self.rows[kind][key]
        for label in [label for label, route in self.rows["mpls"].items() if route.device == device]:
            del self.rows["mpls"][label]
        for id_ in [id_ for id_, row in self.rows["nexthop"].items() if isinstance(row, Leaf) and row.device == device]:
            self._take("nexthop", id_)
        for port, attached in self.rows["attachment"].items():
            if attached.bridge == device:
                self.rows["attachment"][port] = attrs.evolve(attached, bridge="")
        for name, link in self.rows["link"].items():
            if isinstance(link, BridgeLink) and link.master == device:
                self.rows["link"][name] = attrs.evolve(link, master=None)
            elif isinstance(link, VxlanLink) and link.master == device:
                self.rows["link"][name] = attrs.evolve(link, master="")


def _refusal(number: int, reason: str, *, waits: bool = False) -> Refusal:
    return Refusal(reason, number, waits)


def _fixed(link: Link) -> tuple[Any, ...]:
    """Return what of a device cannot be changed without making it anew."""
    match link:
        case VrfLink(table=table):
            return (VrfLink, table)
        case TunnelLink(local=local, remote=remote):
            return (TunnelLink, local, remote)
        case VxlanLink(vni=vni, local=local, port=port):
            return (VxlanLink, vni, local, port)
    return (BridgeLink,)


class Driver:
    """Calls a reconciler as the daemon does, on a clock of its own; `eager` also whenever a step did something."""

    def __init__(
        self,
        desired: Desired,
        kernel: FakeKernel,
        *,
        reconciler: Callable[..., Reconciler] = Reconciler,
        audit_s: float = 60.0,
        synced: bool = True,
        eager: bool = True,
        now: float = 0.0,
    ) -> None:
        self.desired = desired
        self.kernel = kernel
        self.reconciler = reconciler(desired, kernel, audit_s)
        self.eager = eager
        self.now = now
        if synced:
            self.reconciler.open_gate()

    def step(self, most: int = 2000, *, settled: bool = True) -> int:
        """Step once."""
        if self.kernel.readable:
            self.reconciler.disturbed(self.kernel.disturbed(), self.now)
        return self.reconciler.step(self.now, most, settled)

    def run(self, seconds: float = 1.0, most: int = 2000, *, settled: bool = True) -> None:
        """Let some time pass; AssertionError if the reconciler does not come to rest in between."""
        end = self.now + seconds
        steps = 0
        while True:
            done = self.step(most, settled=settled)
            at = self.now if done and self.eager else max(self.now, self.reconciler.deadline())
            if at > end:
                self.now = end
                return
            steps = steps + 1 if at == self.now else 0
            assert steps < 1000, f"no rest at {self.now} s"
            self.now = at
