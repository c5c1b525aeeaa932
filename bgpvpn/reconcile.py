"""The level-triggered loop: what shall be beside what is there, and the operations that make the one the other.

    [desired] --Wanted----> rows ---+                         +--> Dataplane.apply, write_routes
              --Nexthops--> groups -+-- differ from actual? --+
    Dataplane.observe ----> actual -+                         +--> [status]

- **The gate.** Until `open_gate`, what is missing is added, and what is there is neither changed nor removed: after a
  restart absence proves nothing (RFC 4724 section 4.1).  A restart with the same answer then writes nothing.
- **Refused rows** are tried again with back-off, and hold up nobody else; those that wait for others' doing are tried
  as soon as an interface came.
- **Repair.** What others change is read again and put right, and every minute all is read again, a part at a time.
- **Routes wait** until the node is settled, half a second at most, so that a change of many routes is seen as one:
  it can then be a change of one nexthop object (`bgpvpn.nexthops`).

When the dataplane cannot say what it did, what is there is unknown, and nothing is written until it was read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import attrs

from bgpvpn.dataplane.linux import dependency, leaf_of
from bgpvpn.dataplane.rows import (
    EVERYTHING,
    Actual,
    Afi,
    Dataplane,
    Group,
    Key,
    Leaf,
    Operation,
    Refusal,
    RouteTable,
    Scope,
)
from bgpvpn.desired import Desired, Labelled, Object, ObjectKey, Status, Tunnel, Via
from bgpvpn.nexthops import Nexthops
from bgpvpn.plan import ordered
from bgpvpn.refused import Refused
from bgpvpn.wanted import KINDS, Row, Wanted
from speaker.table import Reader, Table

ROUTES_WAIT_S = 0.5
AUDIT_S = 60.0  # in which everything is read once more
REPAIR_FIRST_S, REPAIR_LONGEST_S = 0.1, 10.0
"""How long what others changed is left to them: longer and longer while they go on, so that nobody fights a war."""


@attrs.define
class _RouteReaders:
    """The two looks at the routes of one table: who wants what, and what is to be written."""

    table: Table[bytes, Via]
    wanting: Reader[bytes, Via]
    writing: Reader[bytes, Via]


class Reconciler:
    """Makes a dataplane hold what is desired; call `step` when something changed, and at `deadline`."""

    def __init__(self, desired: Desired, dataplane: Dataplane) -> None:
        self.desired = desired
        self.dataplane = dataplane
        self.status: Table[ObjectKey, Status] = Table()
        self.refused = Refused()
        self.actual = Actual()
        self.synced = False
        self.repairs = 0  # rows that were put right after others changed them
        self.unknown_since: float | None = None  # the dataplane could not be read, or did not say what it did
        self.unknown_reason = ""
        self.nexthops = Nexthops(self._lead)
        self.wanted = Wanted(desired)
        self._routes: dict[RouteTable, _RouteReaders] = {}
        self._routes_since: float | None = None
        self._concerned: dict[ObjectKey, None] = {}  # objects whose status may be another
        self._reachable: set[bytes] = set()
        self._look_again = False
        self._waiting_routes: dict[int, list[tuple[RouteTable, list[bytes]]]] = {}  # group refused -> routes
        self._observed = False
        self._scopes: set[Scope] = set()  # to be read again
        self._repair_at = 0.0
        self._repair_delay_s = REPAIR_FIRST_S
        self._repaired_at = -AUDIT_S
        self._audit_at: float | None = None
        self._audit_left: list[Scope] = []

    def step(self, now: float, most: int, settled: bool) -> int:
        """Do what there is to do, with at most about `most` routes; return how much it was, 0 when all is in order."""
        try:
            done = self._read(now)
            if self.unknown_since is not None:
                return done
            done += self._compile()
            for row in self.refused.take_due(now):
                self._again(row)
            routes = self._routes_due(now, settled)
            if routes:
                done += self._count()
            if self._look_again:
                self._look_again = False
                self._move_all(self.nexthops.look_again())
            self.nexthops.settle()
            writes = self._next_writes(most) if routes else {}
            before, after, removals = ordered(self._operations())
            self._apply(before, now)
            done += self._write(writes, now)
            self._apply(after, now)
            self._apply(removals, now)
            done += len(before) + len(after) + len(removals)
        except OSError as error:
            self._lost(str(error), now)
            done = 0
        self._tell()
        return done

    def deadline(self) -> float | None:
        """Return when `step` is wanted next though nothing changed."""
        if self.unknown_since is not None:
            return self._repair_at
        times = [self.refused.deadline(), self._audit_at]
        if self._scopes:
            times.append(self._repair_at)
        if self._routes_since is not None:
            times.append(self._routes_since + ROUTES_WAIT_S)
        return min((at for at in times if at is not None), default=None)

    def open_gate(self) -> None:
        """All sources have said all that they know: from now on what is not wanted goes."""
        if not self.synced:
            self.synced = True
            self._look_at_everything()

    @property
    def in_order(self) -> bool:
        """Whether everything wanted is there, apart from what was refused or waits for the gate."""
        return not (
            self.unknown_since is not None
            or len(self.wanted)
            or any(len(each.writing) for each in self._routes.values())
        )

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
            self._ask_reachable()
        scopes = set(scopes) - {"links", "underlay"}
        if scopes and not self._scopes:
            if now - self._repaired_at > REPAIR_LONGEST_S:
                self._repair_delay_s = REPAIR_FIRST_S
            self._repair_at = now + self._repair_delay_s
            self._repair_delay_s = min(self._repair_delay_s * 2, REPAIR_LONGEST_S)
        self._scopes |= scopes

    def _read(self, now: float) -> int:
        """Read from the dataplane what is not known, or not known any more."""
        scopes: Collection[Scope] = ()
        if not self._observed:
            if self.unknown_since is None or now >= self._repair_at:
                scopes = EVERYTHING
        elif self._scopes and now >= self._repair_at:
            scopes = EVERYTHING if "all" in self._scopes else self._scopes
            self._repaired_at = now
        elif self._audit_at is not None and now >= self._audit_at:
            if not self._audit_left:
                self._audit_left = [*KINDS, *self.actual.routes]
            scopes = [self._audit_left.pop()]
        if not scopes:
            return 0
        try:
            seen = self.dataplane.observe(scopes)
        except OSError as error:
            self._lost(str(error), now)
            return 0
        first = not self._observed
        self._observed = True
        self.unknown_since, self.unknown_reason = None, ""
        self._scopes -= set(scopes) if "all" not in scopes else self._scopes
        self._audit_at = now + AUDIT_S / (len(KINDS) + len(self.actual.routes) + 1)
        if "all" in scopes:
            seen = Actual(
                {kind: seen.rows.get(kind, {}) for kind in KINDS},
                {at: seen.routes.get(at, {}) for at in {**self.actual.routes, **seen.routes}},
            )
        self._take_over(seen, first)
        return 1

    def _take_over(self, seen: Actual, first: bool) -> None:
        """Make what was read the actual state, and what differs dirty."""
        for kind, rows in seen.rows.items():
            held = self.actual.rows.get(kind, {})
            wanted = self.wanted.rows[kind]
            for key in {**held, **rows}:
                if held.get(key) != rows.get(key):
                    self._again((kind, key))
                    self.repairs += not first and rows.get(key) != wanted.get(key)
            self.actual.rows[kind] = rows
            if kind == "nexthop":
                self.nexthops.adopt(rows)
        for at, routes in seen.routes.items():
            held_routes = self.actual.routes.get(at, {})
            readers = self._readers(at)
            if held_routes != routes:
                differing = [p for p in {**held_routes, **routes} if held_routes.get(p) != routes.get(p)]
                readers.writing.again(differing)
                self.repairs += 0 if first else len(differing)
            self.actual.routes[at] = routes
        if seen.routes:
            self.nexthops.recount(
                (at[1], routes, self._counted(self._readers(at))) for at, routes in self.actual.routes.items()
            )
        if first:
            self._ask_reachable()
            self._look_at_everything()

    def _counted(self, readers: _RouteReaders) -> Callable[[bytes], Via | None]:
        """Return what each route wants as far as it was noted."""
        unnoted, rows = readers.wanting.dirty, readers.table.rows
        return lambda prefix: unnoted[prefix] if prefix in unnoted else rows.get(prefix)

    def _lost(self, reason: str, now: float) -> None:
        """What is there is not known any more."""
        self._observed = False
        if self.unknown_since is None:
            self.unknown_since = now
            self._repair_delay_s = REPAIR_FIRST_S
        self.unknown_reason = reason
        self._repair_at = now + self._repair_delay_s
        self._repair_delay_s = min(self._repair_delay_s * 2, REPAIR_LONGEST_S)

    def _ask_reachable(self) -> None:
        """Ask which PEs there is a way to; nexthop groups follow."""
        pes = [thing.remote for thing in self.desired.objects.rows.values() if isinstance(thing, Tunnel)]
        reachable = self.dataplane.reachable(pe for pe in pes if any(pe))
        if reachable != self._reachable:
            self._reachable = reachable
            self._look_again = True

    # Compiling

    def _compile(self) -> int:
        """Turn what changed in the desired tables, routes apart, into wanted rows."""
        due = len(self.wanted)
        compiled = self.wanted.step()
        self._concerned.update(compiled)
        if any(kind in ("tunnel", "vrf", "bridge") for kind, _ in compiled):
            self._look_again = True
        pes = [bytes.fromhex(name) for kind, name in compiled if kind == "tunnel"]
        pes = [pe for pe in pes if any(pe) and ("tunnel", pe.hex()) in self.desired.objects]
        if pes:
            self._reachable |= self.dataplane.reachable(pes)
        return due

    def _lead(self, via: Via, afi: Afi) -> tuple[Leaf, ...]:
        """Return the leaves of the first tier that has a usable next hop, else a blackhole."""
        for tier in via.tiers:
            leaves = []
            for hop in tier:
                if isinstance(hop, Labelled) and hop.pe not in self._reachable:
                    continue
                leaf = leaf_of(hop, afi, self.desired.objects.rows)
                if leaf is not None and ("link", leaf.device) not in self.refused:
                    leaves.append(leaf)
            if leaves:
                return tuple(leaves)
        return (Leaf(afi, None),)

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
        for kind, key in dirty:
            want = self.wanted.rows[kind].get(key)
            have = self.actual.rows.get(kind, {}).get(key)
            if want == have:
                self.refused.clear((kind, key))
            elif have is None or self.synced:
                operations.append((kind, key, want, have))
            owner = self.wanted.owner.get((kind, key))
            if owner is not None:
                self._concerned[owner] = None
        return operations

    def _apply(self, operations: list[Operation], now: float) -> None:
        if operations and operations[0][2] is None:
            operations = self._without_used_leaves(operations)
        if not operations:
            return
        refusals = self.dataplane.apply(operations)
        for index, (kind, key, want, have) in enumerate(operations):
            refusal = refusals.get(index)
            if refusal is not None:
                self._refuse((kind, key), refusal, now)
                continue
            self.refused.clear((kind, key))
            rows = self.actual.rows.setdefault(kind, {})
            if want is None:
                rows.pop(key, None)
            else:
                rows[key] = want
                if kind == "link" and have is None:
                    self.refused.wake(now)
                    self._look_again = True
                elif kind == "nexthop":
                    for at, prefixes in self._waiting_routes.pop(key, ()):
                        self._readers(at).writing.again(prefixes)

    def _refuse(self, row: Row, refusal: Refusal, now: float) -> None:
        self.refused.add(row, refusal, now)
        if row[0] == "link":
            self._look_again = True
        owner = self.wanted.owner.get(row)
        if owner is not None:
            self._concerned[owner] = None

    def _without_used_leaves(self, removals: list[Operation]) -> list[Operation]:
        """Leave out leaves that a group still has: the kernel would take them out of it without a word."""
        if not any(isinstance(have, Leaf) for _, _, _, have in removals):
            return removals
        gone = {key for kind, key, _, _ in removals if kind == "nexthop"}
        used = {
            leaf
            for id_, row in self.actual.rows.get("nexthop", {}).items()
            if isinstance(row, Group) and id_ not in gone
            for leaf in row.members
        }
        kept = [each for each in removals if each[0] == "nexthop" and each[1] in used]
        self.wanted.dirty.update(((kind, key), None) for kind, key, _, _ in kept)
        return [each for each in removals if each not in kept]

    # Routes

    def _readers(self, at: RouteTable) -> _RouteReaders:
        readers = self._routes.get(at)
        if readers is None:
            table = self.desired.routes_of(*at)
            readers = self._routes[at] = _RouteReaders(table, table.reader(), table.reader())
            self.actual.routes.setdefault(at, {})
        return readers

    def _routes_due(self, now: float, settled: bool) -> bool:
        for at in self.desired.routes:
            self._readers(at)
        if not any(len(each.writing) or len(each.wanting) for each in self._routes.values()):
            self._routes_since = None
            return False
        if self._routes_since is None:
            self._routes_since = now
        return settled or now - self._routes_since >= ROUTES_WAIT_S

    def _count(self) -> int:
        """Let the nexthop groups know who wants what now."""
        done = 0
        for at, readers in self._routes.items():
            if len(readers.wanting):
                changed = readers.wanting.take()
                done += len(changed)
                self.nexthops.note(at[1], changed, self.actual.routes[at], readers.table.rows)
        return done

    def _move_all(self, moves: Iterable[tuple[int, Afi, Via]]) -> None:
        """Have the routes looked at that point at these groups and want these Vias."""
        wanted = {(id_, afi, via) for id_, afi, via in moves}
        if not wanted:
            return
        ids = {id_ for id_, _, _ in wanted}
        for at, routes in self.actual.routes.items():
            rows = self._readers(at).table.rows
            self._readers(at).writing.again(
                prefix
                for prefix, id_ in routes.items()
                if id_ in ids and (via := rows.get(prefix)) is not None and (id_, at[1], via) in wanted
            )

    def _next_writes(self, most: int) -> dict[RouteTable, dict[int | None, list[tuple[Via | None, list[bytes]]]]]:
        """Return what to write, at most about `most` routes: table, group, and who wants it (hot)."""
        writes: dict[RouteTable, dict[int | None, list[tuple[Via | None, list[bytes]]]]] = {}
        for at, readers in self._routes.items():
            if most <= 0:
                break
            if not len(readers.writing):
                continue
            dirty = readers.writing.take(most)
            most -= len(dirty)
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
            for via, prefixes in by_via.values():
                target = None if via is None else self.nexthops.home(via, at[1])
                writes.setdefault(at, {}).setdefault(target, []).append((via, prefixes))
        return writes

    def _write(
        self, writes: dict[RouteTable, dict[int | None, list[tuple[Via | None, list[bytes]]]]], now: float
    ) -> int:
        """Write routes, and note where they point now."""
        done = 0
        objects = self.actual.rows.get("nexthop", {})
        for at, by_target in writes.items():
            changes: dict[int | None, list[bytes]] = {}
            for target, groups in list(by_target.items()):
                prefixes = groups[0][1] if len(groups) == 1 else [each for _, some in groups for each in some]
                if target is not None and target not in objects:
                    # The group was refused; its routes would be, too.
                    self._waiting_routes.setdefault(target, []).append((at, prefixes))
                    del by_target[target]
                    continue
                changes[target] = prefixes
            if not changes:
                continue
            refusals = self.dataplane.write_routes(at, changes)
            for target, groups in by_target.items():
                for via, prefixes in groups:
                    done += len(prefixes)
                    self._written(at, target, via, prefixes, refusals, now)
        return done

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
        for prefix in prefixes:
            before = routes.get(prefix)
            if before is not None:
                self.nexthops.left(before, via)
        if target is None:
            for prefix in prefixes:
                routes.pop(prefix, None)
        elif prefixes:
            routes.update(dict.fromkeys(prefixes, target))
            self.nexthops.pointed(target, at[1], via, len(prefixes))

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
            return Status("pending", "about to be written")
        return Status("active")
