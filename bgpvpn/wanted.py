"""From neutral objects to the rows that the kernel shall hold, routes and nexthops apart.

    [objects] --rows_of--> link, unreachable, address, attachment, mpls rows, each with the object that it is of
    [macs], [floods], [neighbours] ------> fdb, flood, neighbour rows

An object that stands on another one has no rows until that is there; it is compiled again whenever that changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from bgpvpn.dataplane.linux import bridge_device, dependency, rows_of, vxlan_device
from bgpvpn.dataplane.rows import KINDS, Key, Kind, Value
from bgpvpn.desired import Bridge, Desired, Object, ObjectKey
from bgpvpn.plan import Row


class Wanted:
    """The wanted rows; `dirty` has those that somebody must look at, and is emptied by whoever does."""

    def __init__(self, desired: Desired) -> None:
        self.desired = desired
        self.rows: dict[Kind, dict[Key, Value]] = {kind: {} for kind in KINDS}
        self.dirty: dict[Row, None] = {}
        self.owner: dict[Row, ObjectKey] = {}
        self._rows_of: dict[ObjectKey, tuple[Row, ...]] = {}
        self._objects = desired.objects.reader()
        self._macs = desired.macs.reader()
        self._floods = desired.floods.reader()
        self._neighbours = desired.neighbours.reader()
        self._needs: dict[ObjectKey, ObjectKey] = {}
        self._dependents: dict[ObjectKey, dict[ObjectKey, None]] = {}  # the reverse of `_needs`
        self._neighbour_rows: dict[str, dict[bytes, Row | None]] = {}  # by bridge and address; None: no bridge yet

    def __len__(self) -> int:
        readers = len(self._objects) + len(self._macs) + len(self._floods) + len(self._neighbours)
        return readers + len(self.dirty)

    def step(self) -> dict[ObjectKey, None]:
        """Bring the rows up to the desired tables; return the objects that were compiled."""
        compiled: dict[ObjectKey, None] = {}
        for key in self._objects.take():
            self._compile(key, compiled)
        desired = self.desired
        for vni, octets in self._macs.take():
            self.put("fdb", (vxlan_device(vni), octets), desired.macs.get((vni, octets)))
        for vni, octets in self._floods.take():
            self.put("flood", (vxlan_device(vni), octets), desired.floods.get((vni, octets)))
        for bridge, octets in self._neighbours.take():
            self._compile_neighbour(bridge, octets)
        return compiled

    def rows_of(self, key: ObjectKey) -> tuple[Row, ...]:
        """Return the rows of an object; none while what it stands on is not there."""
        return self._rows_of.get(key, ())

    def put(self, kind: Kind, key: Key, value: Value | None) -> None:
        """Want a row to be so; None: not to be."""
        if value is None:
            self.rows[kind].pop(key, None)
        else:
            self.rows[kind][key] = value
        self.dirty[(kind, key)] = None

    def _compile(self, key: ObjectKey, compiled: dict[ObjectKey, None]) -> None:
        thing = self.desired.objects.get(key)
        compiled[key] = None
        self._note_need(key, None if thing is None else dependency(thing))
        rows = {} if thing is None else {(kind, row): value for kind, row, value in self._rows(thing)}
        for row in self._rows_of.pop(key, ()):
            if row not in rows and self.owner.get(row) == key:
                del self.owner[row]
                self.put(*row, None)
        for row, value in rows.items():
            self.owner[row] = key
            self.put(*row, value)
        if rows:
            self._rows_of[key] = tuple(rows)
        for dependent in list(self._dependents.get(key, ())):
            self._compile(dependent, compiled)
        if key[0] == "bridge":
            for address in list(self._neighbour_rows.get(key[1], ())):
                self._compile_neighbour(key[1], address)

    def _note_need(self, key: ObjectKey, needed: ObjectKey | None) -> None:
        before = self._needs.pop(key, None)
        if before is not None and before != needed:
            self._dependents[before].pop(key)
        if needed is not None:
            self._needs[key] = needed
            self._dependents.setdefault(needed, {})[key] = None

    def _rows(self, thing: Object) -> Iterable[tuple[Kind, Key, Value]]:
        needed = dependency(thing)
        objects = self.desired.objects.rows
        if needed is not None and (needed not in objects or needed not in self._rows_of):
            return ()
        return rows_of(thing, objects)

    def _compile_neighbour(self, bridge: str, address: bytes) -> None:
        mac = self.desired.neighbours.get((bridge, address))
        owner: ObjectKey = ("bridge", bridge)
        thing = self.desired.objects.get(owner)
        rows = self._neighbour_rows.setdefault(bridge, {})
        old = rows.pop(address, None)
        row: Row | None = None
        if mac is not None:
            if isinstance(thing, Bridge) and owner in self._rows_of:
                row = ("neighbour", (bridge_device(thing.number), address))
            rows[address] = row
        if row is not None:
            self.owner[row] = owner
            self.put(*row, mac)
        if old is not None and old != row and self.owner.get(old) == owner:
            del self.owner[old]
            self.put(*old, None)
