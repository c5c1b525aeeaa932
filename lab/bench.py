"""The benchmarks of bgpvpnd: a real daemon and a real kernel, a line of JSON for each measurement.

    ingest     routes from the socket to the acknowledged kernel route, and away again
    kernel     the reconciler and the kernel alone: written, read again after a restart, removed
    failover   netlink messages for the loss of a PE behind more and more routes; they must not grow with the routes
    attach     from the request of a port to its route at the neighbour

Figures end in their unit: `cpu_us`, `user_us`, `system_us` and `page_faults` are those of the daemon for each route or
port, `wall_s` is the whole. Exit status 0 only if everything was measured and came out as it must.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from cli.api import ApiError
from lab.generator import route_target
from lab.pair import NODE, BenchError, Pair, batch, ip, namespaces, output
from lab.usage import has_mpls, machine

LIMIT_S = 300.0  # of each step


def ingest(routes: int, vpns: int, single: bool) -> None:
    """Announce routes into VPNs, and withdraw them."""
    progress(f"ingest: {routes} routes into {vpns} VPNs, {'one' if single else 'as many as fit'} in each UPDATE")
    counts = {"routes": routes, "vpns": vpns, "nlri_per_update": 1 if single else "packed"}
    with Pair([str(routes), str(vpns), "1", *(["--single"] if single else [])]) as pair:
        make_vpns(pair, vpns)
        pair.hear("ready", None, LIMIT_S)
        if has_mpls():
            pair.hear("heard", vpns, LIMIT_S)
        pair.rest(partial(pair.counts, 0), LIMIT_S, "the daemon rests before the start")
        for step, there in (("announce", routes), ("withdraw", 0)):
            before = pair.usage()
            began = time.monotonic()
            pair.tell(f"{step} 0", "end")
            at, used = pair.rest(partial(pair.counts, there), LIMIT_S, f"{there} routes are in the kernel")
            if (found := kernel_routes()) != there:
                raise BenchError(f"the daemon counts {there} routes in the kernel, `ip route` shows {found}")
            report("ingest", step=step, **counts, **used.since(before, routes), wall_s=round(at - began, 2))


def kernel(routes: int, tables: int) -> None:
    """Write routes with the reconciler alone, start it anew, and remove them."""
    progress(f"kernel: {routes} routes in {tables} tables")
    with namespaces(NODE):
        ip(f"-n {NODE} link set lo up", f"-n {NODE} route add 192.0.2.0/24 dev lo")
        for line in output(NODE, LIMIT_S, "lab.reconciling", str(routes), str(tables)).splitlines():
            report("kernel", routes=routes, tables=tables, **json.loads(line))


def make_vpns(pair: Pair, vpns: int) -> None:
    """Make VPNs with a network and a port each."""
    interfaces(vpns)
    for number in range(vpns):
        subnet = {"cidr": f"172.16.{number}.0/24", "gateway_ip": f"172.16.{number}.1"}
        pair.api.post({"name": f"net{number}", "subnets": [subnet]}, "networks")
        pair.api.post({"name": f"vpn{number}", "route_targets": [route_target(number)]}, "bgpvpns")
        pair.api.post({"network_id": f"net{number}"}, "bgpvpns", f"vpn{number}", "associations")
        pair.api.post(port(number, f"net{number}", f"172.16.{number}.10"), "ports")


def port(number: int, network: str, address: str) -> dict[str, Any]:
    """The port behind an interface, as the API takes it."""
    mac = (0x02 << 40 | number).to_bytes(6, "big").hex(":")
    return {
        "name": f"port{number}",
        "network_id": network,
        "interface": f"port{number}",
        "mac_address": mac,
        "ip_addresses": [address],
    }


def interfaces(count: int) -> None:
    """Make interfaces for ports in the namespace of the daemon."""
    for words in ("link add port{0} type veth peer name far{0}", "link set port{0} up", "link set far{0} up"):
        batch(NODE, [words.format(number) for number in range(count)])


def kernel_routes() -> int:
    """Count the routes in the kernel that lead to a nexthop object: an opinion that is not the daemon's."""
    return ip(f"-n {NODE} -4 route show table all").count(" nhid ")


def report(bench: str, **figures: object) -> None:
    """Print one measurement."""
    print(json.dumps({"bench": bench, **figures, "machine": machine()}), flush=True)


def progress(words: str) -> None:
    """Say what goes on."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def main(words: Iterable[str] | None = None) -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="lab/bench", description="Measure bgpvpnd; a line of JSON for each figure.")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    one = benches.add_parser("ingest", help="routes from the socket to the kernel, and away again")
    one.add_argument("--routes", type=int, default=100_000)
    one.add_argument("--vrfs", type=int, default=10)
    one.add_argument("--single", action="store_true", help="one route in each UPDATE")
    one = benches.add_parser("kernel", help="the reconciler and the kernel alone")
    one.add_argument("--routes", type=int, default=100_000)
    one.add_argument("--tables", type=int, default=10)
    told = parser.parse_args(None if words is None else list(words))
    try:
        match told.bench:
            case "ingest":
                ingest(told.routes, told.vrfs, told.single)
            case "kernel":
                kernel(told.routes, told.tables)
    except (BenchError, ApiError, OSError) as error:
        progress(f"not complete: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
