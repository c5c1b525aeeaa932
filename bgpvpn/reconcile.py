"""The level-triggered loop: what shall be beside what is there, and the operations that make the one the other.

    [desired] --Wanted----> rows ---+                         +--> Dataplane.apply, write_routes
              --Nexthops--> groups -+-- differ from actual? --+
    Dataplane.observe ----> actual -+                         +--> [status]

- **The gate.** Until `open_gate`, what is missing is added, and what is there is neither changed nor removed: after a
  restart absence proves nothing (RFC 4724 section 4.1).  A restart with the same answer then writes nothing.
- **Refused rows** are tried again with back-off, and hold up only what cannot do without them (`bgpvpn.plan`); those
  that wait for others' doing are tried as soon as an interface came, and all as soon as a device of ours did.
- **Repair.** What others change is read again and put right, and every minute all is read again, a part at a time.
- **Routes wait** until the node is settled, half a second at most, so that a change of many routes is seen as one:
  it can then be a change of one nexthop object (`bgpvpn.nexthops`).

When the dataplane cannot say what it did, what is there is unknown, and nothing is written until it was read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import attrs

from bgpvpn.dataplane.linux import dependency, leaf_of
from bgpvpn.dataplane.rows import (
    EVERYTHING,
    KINDS,
    Actual,
    Afi,
    Dataplane,
    Key,
    Kind,
    Leaf,
    Operation,
    Refusal,
    RouteTable,
    Scope,
)
from bgpvpn.desired import Desired, Labelled, Object, ObjectKey, Status, Tunnel, Via
from bgpvpn.nexthops import Nexthops
from bgpvpn.plan import Row, closing, ordered, ready
from bgpvpn.refused import Refused
from bgpvpn.repairs import Repairs
from bgpvpn.wanted import Wanted
from speaker.table import Reader, Table

ROUTES_WAIT_S = 0.5
AUDIT_S = 60.0  # in which everything is read once more
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
"""How long a dataplane that fails is left alone."""

_Writes = dict[RouteTable, dict[int | None, list[tuple[Via | None, list[bytes]]]]]
"""By table and group (None: to be removed): who wants it so, and the prefixes."""


@attrs.define
class _RouteReaders:
    """The two looks at the routes of one table: who wants what, and what is to be written."""

    table: Table[bytes, Via]
    wanting: Reader[bytes, Via]
    writing: Reader[bytes, Via]

    def noted(self, prefix: bytes) -> Via | None:
        """Return what a route wants as far as the nexthops were told."""
        unnoted = self.wanting.dirty
        return unnoted[prefix] if prefix in unnoted else self.table.rows.get(prefix)


class Reconciler:
    """Makes a dataplane hold what is desired; call `step` when something changed, and at `deadline`."""

    def __init__(self, desired: Desired, dataplane: Dataplane, audit_s: float = AUDIT_S) -> None:
        self.desired = desired
        self.dataplane = dataplane
        self.audit_s = audit_s
        self.status: Table[ObjectKey, Status] = Table()
        self.refused = Refused()
        self.waiting: dict[Row, str] = {}  # rows that wait for other rows, with what for
        self.actual = Actual()
        self.synced = False
        self.repairs = Repairs()
        self.unknown_since: float | None = None  # the dataplane could not be read, or did not say what it did
        self.unknown_reason = ""
        self.nexthops = Nexthops(self._lead)
        self.wanted = Wanted(desired)
        self._routes: dict[RouteTable, _RouteReaders] = {}
        self._routes_since: float | None = None
        self._concerned: dict[ObjectKey, None] = {}  # objects whose status may be another
        self._reachable: set[bytes] = set()
        self._ask_reachable = False
        self._look_again = False  # other next hops may be usable
        self._observed = False
        self._observe_at = 0.0
        self._lost_delay_s = FIRST_DELAY_S
        self._scopes: set[Scope] = set()  # to be read again
        self._repair_at = 0.0
        self._audit_at = 0.0
        self._audit_left: list[Scope] = []

    def step(self, now: float, most: int, settled: bool) -> int:
        """Do what there is to do, with at most about `most` routes; return how much it was, 0 when all is in order."""
        try:
            done = self._read(now)
            if not self._observed:
                return 0
            done += self._compile()
            for row in self.refused.take_due(now):
                self._again(row)
            if self._look_again:
                self._look_again = False
                self._count()
                self._move_all(self.nexthops.look_again())
            routes = self._routes_due(now, settled)
            if routes:
                self._count()
            self.nexthops.settle()
            writes, looked_at = self._next_writes(most) if routes else ({}, 0)
            before, after, removals = ordered(self._operations())
            ends = closing(before)
            self._apply(before[:ends], now)
            self._apply(before[ends:], now)
            self._write(writes, now)
            self._apply(after, now)
            self._apply(removals, now)
            if before or after or removals or writes:
                # While we wrote, others may have; and a device that was made anew took along what stood on it.
                self.disturbed(self.dataplane.disturbed(), now)
            done += looked_at + len(before) + len(after) + len(removals)
            if not self._routes_dirty:
                self._routes_since = None
            self.unknown_since, self.unknown_reason = None, ""
            self._lost_delay_s = FIRST_DELAY_S
        except OSError as error:
            self._lost(str(error), now)
            done = 0
        except Exception:
            self._lost("an internal error", now)  # what was being done was forgotten: all is looked at again
            raise
        self._tell()
        return done

    def deadline(self) -> float:
        """Return when `step` is wanted next though nothing changed; in the past: at once."""
        if not self._observed:
            return self._observe_at
        if self._busy:
            return 0.0
        times = [self.refused.deadline(), self._audit_at]
        if self._scopes:
            times.append(self._repair_at)
        if self._routes_since is not None:
            times.append(self._routes_since + ROUTES_WAIT_S)
        return min(at for at in times if at is not None)

    def open_gate(self) -> None:
        """All sources have said all that they know: from now on what is not wanted goes."""
        if not self.synced:
            self.synced = True
            self.nexthops.unfreeze()
            self._look_at_everything()

    @property
    def in_order(self) -> bool:
        """Whether everything wanted is there, apart from what was refused or waits for the gate."""
        return self._observed and self.unknown_since is None and not self._busy and not self._routes_dirty

    @property
    def _busy(self) -> bool:
        """Whether a step has something to do at once."""
        return bool(len(self.wanted)) or self._look_again or self._ask_reachable or not self.nexthops.settled

    def _look_at_everything(self) -> None:
        for kind in KINDS:
            for key in {**self.actual.rows.get(kind, {}), **self.wanted.rows[kind]}:
                self.wanted.dirty[(kind, key)] = None
        for at in {**self.actual.routes, **self._routes}:
            readers = self._readers(at)
            readers.writing.again(self.actual.routes[at])
            readers.writing.again(readers.table.rows)

    # Reading

    def disturbed(self, scopes: Collection[Scope], now: float) -> None:
        """Take note of what others may have changed."""
        if "links" in scopes:
            self.refused.wake(now)
        if "underlay" in scopes or "all" in scopes:
            self._ask_reachable = True
        scopes = set(scopes) - {"links", "underlay"}
        if scopes and not self._scopes:
            self._repair_at = self.repairs.due(now)
        self._scopes |= scopes

    def _read(self, now: float) -> int:
        """Read from the dataplane what is not known, or not known any more."""
        if not self._observed:
            if now < self._observe_at:
                return 0
            scopes: Collection[Scope] = EVERYTHING
            self._audit_at = self._next_audit(now)
        elif self._scopes and now >= self._repair_at:
            scopes = EVERYTHING if "all" in self._scopes else set(self._scopes)
        elif now >= self._audit_at:
            if not self._audit_left:
                self._audit_left = [*self.actual.routes, *reversed(KINDS)]
                self.nexthops.forget_unused()
            scopes = [self._audit_left.pop()]
            self._audit_at = self._next_audit(now)
        else:
            return 0
        seen = self.dataplane.observe(scopes)
        first, self._observed = not self._observed, True
        if "all" in scopes:
            self._scopes.clear()
            seen = Actual(
                {kind: seen.rows.get(kind, {}) for kind in KINDS},
                {at: seen.routes.get(at, {}) for at in {**self.actual.routes, **seen.routes}},
            )
        self._scopes -= set(scopes)
        if first:
            self.nexthops.count_anew()
            self.actual.routes = {at: {} for at in self.actual.routes}
        lost = self._take_over(seen, first, now)
        if first:
            self._ask_reachable = True
            self._look_at_everything()
        elif "all" not in scopes:
            self.disturbed(lost, now)
        return 1

    def _next_audit(self, now: float) -> float:
        return now + self.audit_s / (len(KINDS) + len(self.actual.routes))

    def _take_over(self, seen: Actual, first: bool, now: float) -> set[Scope]:
        """Make what was read the actual state, and what differs dirty; return what has gone with it without a word."""
        lost: set[Scope] = set()
        changed: set[Kind] = set()
        for kind, rows in seen.rows.items():
            held = self.actual.rows.get(kind, {})
            for key in {**held, **rows}:
                if held.get(key) != rows.get(key):
                    changed.add(kind)
                    self.wanted.dirty[(kind, key)] = None
                    if not first and rows.get(key) != self.wanted.rows[kind].get(key):
                        self.repairs.note((kind, key), now)
                    if key not in rows and (kind == "link" or (kind == "nexthop" and self.nexthops.used(key))):
                        lost.add("all")
            self.actual.rows[kind] = rows
            if kind == "nexthop":
                self.nexthops.adopt(rows)
        self._changed(changed)
        for at, routes in seen.routes.items():
            readers = self._readers(at)
            held_routes = self.actual.routes[at]
            if held_routes != routes:
                differing = [p for p in {**held_routes, **routes} if held_routes.get(p) != routes.get(p)]
                readers.writing.again(differing)
                for prefix in () if first else differing:
                    self.repairs.note((at, prefix), now)
                self._follow(at, readers, differing, routes)
        return lost

    def _follow(
        self, at: RouteTable, readers: _RouteReaders, differing: Iterable[bytes], routes: dict[bytes, int]
    ) -> None:
        """Take over where the routes of a table point."""
        before = self.actual.routes[at]
        for prefix in differing:
            wish = (readers.noted(prefix), at[1])
            if prefix in before:
                self.nexthops.left(before[prefix], wish)
            if prefix in routes:
                self.nexthops.pointed(routes[prefix], wish)
        self.actual.routes[at] = routes

    def _lost(self, reason: str, now: float) -> None:
        """What is there is not known any more."""
        self._observed = False
        if self.unknown_since is None:
            self.unknown_since = now
        self.unknown_reason = reason
        self._observe_at = now + self._lost_delay_s
        self._lost_delay_s = min(self._lost_delay_s * 2, LONGEST_DELAY_S)

    # Compiling

    def _compile(self) -> int:
        """Turn what changed in the desired tables, routes apart, into wanted rows; ask which PEs can be reached."""
        due = len(self.wanted)
        compiled = self.wanted.step()
        self._concerned.update(compiled)
        if any(kind in ("tunnel", "vrf", "bridge") for kind, _ in compiled):
            self._look_again = True
        objects = self.desired.objects.rows
        asked = objects if self._ask_reachable else compiled
        pes = {thing.remote for key in asked if isinstance(thing := objects.get(key), Tunnel) and any(thing.remote)}
        if pes:
            reachable = self.dataplane.reachable(pes)
            if reachable != self._reachable & pes:
                self._reachable = (self._reachable - pes) | reachable
                self._look_again = True
        self._ask_reachable = False
        return due

    def _lead(self, via: Via, afi: Afi) -> tuple[tuple[Leaf, int], ...]:
        """Return the leaves, with their weights, of the first tier that has a usable next hop, else a blackhole."""
        links = self.wanted.rows["link"]
        for tier in via.tiers:
            leaves = []
            for hop in tier:
                if isinstance(hop, Labelled) and hop.pe not in self._reachable:
                    continue
                leaf = leaf_of(hop, afi, self.desired.objects.rows)
                if leaf is not None and leaf.device in links and ("link", leaf.device) not in self.refused:
                    leaves.append((leaf, hop.weight if isinstance(hop, Labelled) else 1))
            if leaves:
                return tuple(leaves)
        return ((Leaf(afi, None), 1),)

    # Rows

    def _again(self, row: Key) -> None:
        """Look at a row, or a route, that was refused before."""
        if row[0] == "route":
            _, at, prefix = row
            self._readers(at).writing.again([prefix])
        else:
            self.wanted.dirty[row] = None

    def _operations(self) -> list[Operation]:
        """Return what is to be done to rows, and forget what is in order."""
        for id_ in self.nexthops.dirty:
            self.wanted.put("nexthop", id_, self.nexthops.rows.get(id_))
        self.nexthops.dirty.clear()
        operations: list[Operation] = []
        dirty, self.wanted.dirty = self.wanted.dirty, {}
        for row in dirty:
            kind, key = row
            want = self.wanted.rows[kind].get(key)
            have = self.actual.rows.get(kind, {}).get(key)
            self.waiting.pop(row, None)
            if want == have:
                self._accepted(row)
            elif have is None or self.synced:
                if kind == "nexthop" and want is not None and have is not None and type(want) is not type(have):
                    self.waiting[row] = f"the other nexthop {key}"  # a group cannot become a leaf, nor the reverse
                    want = None
                operations.append((kind, key, want, have))
            self._concern(row)
        return operations

    def _apply(self, operations: list[Operation], now: float) -> None:
        operations, waiting = ready(operations, self.actual.rows)
        self.waiting.update(waiting)
        if not operations:
            return
        refusals = self.dataplane.apply(operations)
        changed: set[Kind] = set()
        gone: set[str] = set()
        come = taken = False
        for index, (kind, key, want, have) in enumerate(operations):
            if index in refusals:
                continue
            refused_before = self._accepted((kind, key))
            changed.add(kind)
            rows = self.actual.rows.setdefault(kind, {})
            if want is not None:
                rows[key] = want
            else:
                rows.pop(key, None)
                if kind == "link":
                    gone.add(key)
                elif kind == "nexthop" and self.nexthops.used(key):
                    self.disturbed(list(self.actual.routes), now)
            come |= kind == "link" and have is None
            taken |= kind == "nexthop" and refused_before
        self._changed(changed)
        if come or taken:
            self.refused.wake(now, every=come)
        for index, refusal in refusals.items():
            self._refuse(operations[index][:2], refusal, now)
        if gone:
            self.disturbed(self._standing_on(gone), now)

    def _changed(self, kinds: set[Kind]) -> None:
        """Look again at the rows that may have waited for rows of these kinds."""
        if not kinds.isdisjoint(("link", "unreachable", "nexthop")):
            self.wanted.dirty.update(dict.fromkeys(self.waiting))

    def _accepted(self, row: Row) -> bool:
        """Forget that a row was refused; return whether it was."""
        refused = self.refused.clear(row)
        self._look_again |= refused and row[0] == "link"
        return refused

    def _refuse(self, row: Row, refusal: Refusal, now: float) -> None:
        if row[0] == "link" and row not in self.refused:
            self._look_again = True
        self.refused.add(row, refusal, now)
        self._concern(row)

    def _concern(self, row: Row) -> None:
        owner = self.wanted.owner.get(row)
        if owner is not None:
            self._concerned[owner] = None

    def _standing_on(self, devices: set[str]) -> set[Scope]:
        """Return the kinds that have rows on these devices, which the kernel took away with them."""
        rows = self.actual.rows
        on: dict[Kind, Callable[[Key], str | None]] = {
            "link": lambda key: getattr(rows["link"][key], "master", None),
            "attachment": lambda key: rows["attachment"][key].bridge,
            "mpls": lambda key: rows["mpls"][key].device,
            **dict.fromkeys(("address", "fdb", "flood", "neighbour"), lambda key: key[0]),
        }
        return {kind for kind, device in on.items() if any(device(key) in devices for key in rows.get(kind, ()))}

    # Routes

    def _readers(self, at: RouteTable) -> _RouteReaders:
        readers = self._routes.get(at)
        if readers is None:
            table = self.desired.routes_of(*at)
            readers = self._routes[at] = _RouteReaders(table, table.reader(), table.reader())
            self.actual.routes.setdefault(at, {})
        return readers

    @property
    def _routes_dirty(self) -> bool:
        return any(len(each.writing) or len(each.wanting) for each in self._routes.values())

    def _routes_due(self, now: float, settled: bool) -> bool:
        for at in self.desired.routes:
            self._readers(at)
        if not self._routes_dirty:
            self._routes_since = None
            return False
        if self._routes_since is None:
            self._routes_since = now
        return settled or now >= self._routes_since + ROUTES_WAIT_S

    def _count(self) -> None:
        """Let the nexthop groups know who wants what now."""
        for at, readers in self._routes.items():
            if len(readers.wanting):
                self.nexthops.note(at[1], readers.wanting.take(), self.actual.routes[at], readers.table.rows)

    def _move_all(self, moves: Collection[tuple[int, Via, Afi]]) -> None:
        """Have the routes looked at that point at these groups and want these Vias."""
        if not moves:
            return
        ids = {id_ for id_, _, _ in moves}
        for at, routes in self.actual.routes.items():
            readers = self._readers(at)
            readers.writing.again(
                prefix
                for prefix, id_ in routes.items()
                if id_ in ids and (via := readers.noted(prefix)) is not None and (id_, via, at[1]) in moves
            )

    def _next_writes(self, most: int) -> tuple[_Writes, int]:
        """Return what to write, and at how many routes it looked for that, at most about `most` (hot)."""
        writes: _Writes = {}
        left = most
        for at, readers in self._routes.items():
            if left <= 0:
                break
            if not len(readers.writing):
                continue
            dirty = readers.writing.take(left)
            left -= len(dirty)
            wanted = readers.table.rows.get
            present = self.actual.routes[at].get
            right: dict[tuple[int, int], bool] = {}  # (group, Via) -> the group leads where the Via does
            by_via: dict[int, tuple[Via | None, list[bytes]]] = {}
            for prefix in dirty:
                via, id_ = wanted(prefix), present(prefix)
                if id_ is not None:
                    if not self.synced:
                        continue
                    if via is not None:
                        known = right.get((id_, id(via)))
                        if known is None:
                            known = self.nexthops.leads(id_, self.nexthops.content(via, at[1]))
                            right[(id_, id(via))] = known
                        if known:
                            continue
                elif via is None:
                    continue
                group = by_via.get(id(via))
                if group is None:
                    by_via[id(via)] = (via, [prefix])
                else:
                    group[1].append(prefix)
            if self.refused.trials:
                todo = {prefix for _, prefixes in by_via.values() for prefix in prefixes}
                for prefix in dirty.keys() - todo:
                    self.refused.clear(("route", at, prefix))
            for via, prefixes in by_via.values():
                target = None if via is None else self.nexthops.home(via, at[1])
                writes.setdefault(at, {}).setdefault(target, []).append((via, prefixes))
        return writes, most - left

    def _write(self, writes: _Writes, now: float) -> None:
        """Write routes, and note where they point now."""
        objects = self.actual.rows.get("nexthop", {})
        for at, by_target in writes.items():
            changes: dict[int | None, list[bytes]] = {}
            refusals: dict[bytes, Refusal] = {}
            for target, groups in by_target.items():
                prefixes = groups[0][1] if len(groups) == 1 else [each for _, some in groups for each in some]
                if target is None or objects.get(target) == self.nexthops.rows[target]:
                    changes[target] = prefixes
                else:
                    trial = self.refused.trials.get(("nexthop", target))
                    reason = trial.refusal.reason if trial is not None else "not there yet"
                    refusals.update(dict.fromkeys(prefixes, Refusal(f"its nexthop {target}: {reason}", waits=True)))
            if changes:
                refusals.update(self.dataplane.write_routes(at, changes))
            for target, groups in by_target.items():
                for via, prefixes in groups:
                    self._written(at, target, via, prefixes, refusals, now)

    def _written(
        self,
        at: RouteTable,
        target: int | None,
        via: Via | None,
        prefixes: list[bytes],
        refusals: Mapping[bytes, Refusal],
        now: float,
    ) -> None:
        routes = self.actual.routes[at]
        if refusals:
            for prefix in [prefix for prefix in prefixes if prefix in refusals]:
                self.refused.add(("route", at, prefix), refusals[prefix], now)
            prefixes = [prefix for prefix in prefixes if prefix not in refusals]
        if self.refused.trials:
            for prefix in prefixes:
                self.refused.clear(("route", at, prefix))
        for before, count in Counter(map(routes.get, prefixes)).items():
            if before is not None:
                self.nexthops.left(before, (via, at[1]), count)
        if target is None:
            for prefix in prefixes:
                routes.pop(prefix, None)
        elif prefixes:
            routes.update(dict.fromkeys(prefixes, target))
            self.nexthops.pointed(target, (via, at[1]), len(prefixes))

    # Status

    def _tell(self) -> None:
        """Bring the status of objects up to date."""
        concerned, self._concerned = self._concerned, {}
        for key in concerned:
            thing = self.desired.objects.get(key)
            if thing is None:
                self.status.discard(key)
            else:
                self.status.put(key, self._status_of(thing))

    def route_status(self, at: RouteTable, prefix: bytes) -> Status:
        """Return what became of a wanted route."""
        via, group = self._readers(at).table.get(prefix), self.actual.routes[at].get(prefix)
        trial = self.refused.trials.get(("route", at, prefix))
        if trial is not None:
            return Status("failed", trial.refusal.reason)
        if via is None or group is None or not self.nexthops.leads(group, self.nexthops.content(via, at[1])):
            return Status("pending", "about to be written" if self.synced else "waits until all peers are in sync")
        leaves = [self.nexthops.rows.get(leaf) for leaf in self.nexthops.content(via, at[1]).members]
        if any(isinstance(leaf, Leaf) and leaf.device is None for leaf in leaves):
            return Status("pending", "none of its next hops is reachable")
        return Status("active", f"nexthop {group}")

    def _status_of(self, thing: Object) -> Status:
        rows = self.wanted.rows_of(thing.key)
        if not rows:
            kind, name = dependency(thing) or ("", "")
            return Status("pending", f"waits for {kind} {name}")
        for kind, key in rows:
            want, have = self.wanted.rows[kind].get(key), self.actual.rows.get(kind, {}).get(key)
            if want == have:
                continue
            trial = self.refused.trials.get((kind, key))
            if trial is not None:
                return Status("pending" if trial.refusal.waits else "failed", trial.refusal.reason)
            if have is not None and not self.synced:
                return Status("active", "as it was left; it is changed when all peers have said what they know")
            if (kind, key) in self.waiting:
                return Status("pending", f"waits for {self.waiting[(kind, key)]}")
            return Status("pending", "about to be written")
        return Status("active")
