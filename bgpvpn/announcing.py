"""The stage [originated], [status] -> our own routes in the [rib]: only what forwards is announced.

A route is withheld until every object that it needs is active in the dataplane: the VRF with its label, the VXLAN
device, the port's interface.  It goes as soon as one of them is not.
"""

from __future__ import annotations

from bgpvpn.desired import ObjectKey, Status
from bgpvpn.instance import OriginatedTable
from speaker.decision import LOCAL
from speaker.rib import Rib
from speaker.table import Table
from speaker.values import Family

Route = tuple[Family, bytes]


class Announcing:
    """Publishes originated routes whose objects are active."""

    def __init__(self, originated: OriginatedTable, status: Table[ObjectKey, Status], rib: Rib) -> None:
        self.originated = originated
        self.status = status
        self.rib = rib
        self._originated = originated.reader()
        self._status = status.reader()
        self._needing: dict[ObjectKey, dict[Route, None]] = {}

    def __len__(self) -> int:
        return len(self._originated) + len(self._status)

    def step(self) -> int:
        """Bring the RIB's local routes up to what is originated and active; return how many routes were looked at."""
        routes: dict[Route, None] = {}
        for route, seen in self._originated.take().items():
            routes[route] = None
            present = self.originated.get(route)
            for need in seen.needs if seen is not None else ():
                needing = self._needing[need]
                del needing[route]
                if not needing:
                    del self._needing[need]
            for need in present.needs if present is not None else ():
                self._needing.setdefault(need, {})[route] = None
        for key in self._status.take():
            routes.update(self._needing.get(key, {}))
        for route in routes:
            family, key_ = route
            wanted = self.originated.get(route)
            table = self.rib.table(family, LOCAL)
            if wanted is not None and not self.waits_for(route):
                table.put(key_, wanted.path)
            else:
                table.discard(key_)
        return len(routes)

    def waits_for(self, route: Route) -> list[ObjectKey]:
        """Return the objects that an originated route waits for."""
        wanted = self.originated.get(route)
        return [need for need in wanted.needs if not self._active(need)] if wanted is not None else []

    def _active(self, key: ObjectKey) -> bool:
        status = self.status.get(key)
        return status is not None and status.state == "active"
