"""A dataplane that does nothing but remember and tell what it would do, a line for each operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from bgpvpn.dataplane import words
from bgpvpn.dataplane.rows import EVERYTHING, KINDS, Actual, Kind, Operation, Refusal, RouteTable, Scope


class DryRun:
    """The `Dataplane` of no kernel: refuses nothing, reaches everything, and nobody disturbs it."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._rows: dict[Kind, dict[object, object]] = {kind: {} for kind in KINDS}
        self._routes: dict[RouteTable, dict[bytes, int]] = {}
        self._sent: Counter[str] = Counter()

    def observe(self, scopes: Collection[Scope] = EVERYTHING) -> Actual:
        kinds = KINDS if "all" in scopes else [kind for kind in KINDS if kind in scopes]
        tables = self._routes if "all" in scopes else [at for at in scopes if isinstance(at, tuple)]
        return Actual(
            {kind: dict(self._rows[kind]) for kind in kinds},
            {at: dict(self._routes.get(at, {})) for at in tables},
        )

    def apply(self, operations: Sequence[Operation]) -> dict[int, Refusal]:
        for kind, key, wanted, _ in operations:
            self._sent[kind] += 1
            rows = self._rows[kind]
            if wanted is not None:
                self._say(f"{'change' if key in rows else 'make'} {words.row(kind, key)}: {words.content(wanted)}")
                rows[key] = wanted
            elif rows.pop(key, None) is not None:
                self._say(f"remove {words.row(kind, key)}")
        return {}

    def write_routes(self, at: RouteTable, changes: Mapping[int | None, Sequence[bytes]]) -> dict[bytes, Refusal]:
        routes = self._routes.setdefault(at, {})
        for nexthop, prefixes in changes.items():
            self._sent["routes"] += len(prefixes)
            for prefix in prefixes:
                if nexthop is not None:
                    self._say(f"{words.route(at, prefix)}: to nexthop {nexthop}")
                    routes[prefix] = nexthop
                elif routes.pop(prefix, None) is not None:
                    self._say(f"remove {words.route(at, prefix)}")
        return {}

    def reachable(self, addresses: Iterable[bytes]) -> set[bytes]:
        return set(addresses)

    def disturbed(self) -> set[Scope]:
        return set()

    def foreign(self) -> list[str]:
        return []

    def messages(self) -> dict[str, int]:
        return dict(self._sent)

    def close(self) -> None:
        """Nothing is open."""
