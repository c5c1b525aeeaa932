"""The reconciler over the real kernel, without BGP and API: routes written, found again by a new start, removed.

    python -m lab.reconciling ROUTES TABLES      in a network namespace that is its own

The routes lead into a handful of tunnels; where the kernel has none, into a blackhole, by nexthop objects all the same.
It prints a line of JSON for each step, and ends with status 1 when
the kernel does not hold what it should, or when the new start wrote anything.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from bgpvpn.dataplane.netlink import Netlink
from bgpvpn.desired import Desired, Labelled, Tunnel, Via
from bgpvpn.reconcile import Reconciler
from bgpvpn.running import ROUTES_A_TURN
from lab.generator import FIRST_PREFIX
from lab.usage import Usage, has_mpls

VIAS = 5
FIRST_TABLE = 100_000


def desired(routes: int, tables: int) -> Desired:
    """Want routes, dealt to tables in turn, that lead to a handful of PEs."""
    wanted = Desired()
    vias = []
    for number in range(VIAS):
        tunnel = Tunnel(bytes((192, 0, 2, 11)), bytes((192, 0, 2, 101 + number)))
        if has_mpls():
            wanted.objects.put(tunnel.key, tunnel)
        vias.append(Via(((Labelled(tunnel.remote, 1000 + number),),)))
    for table in range(tables):
        wanted.routes_of(FIRST_TABLE + table, 4).put_all(
            {
                (FIRST_PREFIX + (number << 8)).to_bytes(4, "big")[:3] + b"\x18": vias[number // tables % VIAS]
                for number in range(table, routes, tables)
            }
        )
    return wanted


def settle(reconciler: Reconciler) -> None:
    """Have everything done, in the shares of work of the daemon."""
    while reconciler.step(time.monotonic(), ROUTES_A_TURN, True) or not reconciler.in_order:
        if reconciler.unknown_since is not None:
            raise SystemExit(reconciler.unknown_reason)


def measure(routes: int, tables: int) -> None:
    """Do all steps and print each."""
    for step in ("write", "restart"):
        wanted = desired(routes, tables)
        reconciler = Reconciler(wanted, Netlink())
        reconciler.open_gate()
        gc.collect()
        gc.freeze()
        _step(step, reconciler, routes)
    for table in wanted.routes.values():
        table.discard_all(list(table.rows))
    _step("remove", reconciler, routes)


def _step(step: str, reconciler: Reconciler, routes: int) -> None:
    before, began = Usage.of(os.getpid()), time.monotonic()
    settle(reconciler)
    wall_s, used = time.monotonic() - began, Usage.of(os.getpid())
    there = sum(map(len, reconciler.actual.routes.values()))
    messages = sum(reconciler.dataplane.messages().values())
    if there != (0 if step == "remove" else routes) or (step == "restart" and messages):
        raise SystemExit(f"after {step} there are {there} of {routes} routes, and {messages} messages were written")
    print(json.dumps({"step": step, "messages": messages, **used.since(before, routes), "wall_s": round(wall_s, 2)}))


if __name__ == "__main__":
    measure(int(sys.argv[1]), int(sys.argv[2]))
