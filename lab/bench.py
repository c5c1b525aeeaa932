"""The benchmarks of bgpvpnd: a real daemon and a real kernel, a line of JSON for each measurement.

    ingest     routes from the socket to the acknowledged kernel route, and away again
    kernel     the reconciler and the kernel alone: written, read again after a restart, removed
    failover   netlink messages for the loss of a PE behind more and more routes; they must not grow with the routes
    attach     from the request of a port to its route at the neighbour
    slices     how long the event loop stands still for what concerns all routes of a peer; without sockets or kernel

Figures end in their unit: `cpu_us`, `user_us`, `system_us` and `page_faults` are those of the daemon for each route or
port, `wall_s` is the whole. Exit status 0 only if everything was measured and came out as it must.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs

from bgpvpn.dataplane.linux import tunnel_device
from cli.api import ApiError
from lab.generator import pe_address, route_target
from lab.pair import NODE, BenchError, Pair, Watch, batch, ip, namespaces, output, way
from lab.slices import measure
from lab.usage import has_mpls, machine

LIMIT_S = 300.0  # of each step


def ingest(routes: int, vpns: int, single: bool, rounds: int) -> None:
    """Announce routes into VPNs, and withdraw them, so many times."""
    progress(f"ingest: {routes} routes into {vpns} VPNs, {'one' if single else 'as many as fit'} in each UPDATE")
    counts = {"routes": routes, "vpns": vpns, "nlri_per_update": 1 if single else "packed"}
    with Pair([str(routes), str(vpns), "1", *(["--single"] if single else [])]) as pair:
        make_vpns(pair, vpns)
        pair.hear("ready", None, LIMIT_S)
        if has_mpls():
            pair.hear("heard", vpns, LIMIT_S)
        pair.rest(partial(pair.counts, 0), LIMIT_S, "the daemon rests before the start")
        for step, there in (("announce", routes), ("withdraw", 0)) * rounds:
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


def failover(counts: Sequence[int], vpns: int, single: bool, compat: bool) -> None:
    """Lose the preferred of two PEs behind more and more routes, from the underlay and then by BGP."""
    need_mpls()
    sent: dict[str, list[int]] = {"underlay": [], "withdraw": []}
    for routes in counts:
        progress(f"failover: {routes} routes of two PEs in {vpns} VPNs")
        with Pair([str(routes), str(vpns), "2", *(["--single"] if single else [])]) as pair:
            ip(f"netns exec {NODE} sysctl -qw net.ipv4.nexthop_compat_mode={compat:d}")
            make_vpns(pair, vpns)
            pair.hear("ready", None, LIMIT_S)
            pair.tell("announce 0", "announce 1", "end")
            pair.rest(partial(pair.counts, routes), LIMIT_S, f"{routes} routes are in the kernel")
            for cause, messages in sent.items():
                before, earlier = pair.messages(), pair.usage()
                with Watch() as watch:
                    if cause == "underlay":
                        began = watch.do(f"route delete {way(pe_address(0))}")
                    else:
                        began = time.time()
                        pair.tell("withdraw 0")
                    _, used = pair.rest(partial(pair.counts, routes), LIMIT_S, "the daemon has followed")
                check_led(1)
                if not watch.rewritten:
                    raise BenchError("no nexthop group was rewritten")
                messages.append(sum(pair.messages().values()) - sum(before.values()))
                report(
                    "failover",
                    cause=cause,
                    routes=routes,
                    vpns=vpns,
                    nlri_per_update=1 if single else "packed",
                    nexthop_compat_mode=int(compat),
                    messages=messages[-1],
                    first_ms=round((min(watch.rewritten) - began) * 1000, 1),
                    last_ms=round((max(watch.rewritten) - began) * 1000, 1),
                    cpu_ms=round((used.cpu_s - earlier.cpu_s) * 1000, 1),
                    rss_mb=round(used.rss_mb, 1),
                )
                if cause == "underlay":
                    ip(f"-n {NODE} route add {way(pe_address(0))}")
                    pair.rest(partial(pair.counts, routes), LIMIT_S, "the first PE is used again")
                    check_led(0)
    for cause, messages in sent.items():
        if grow(messages):
            raise BenchError(f"{cause}: the messages to the kernel grow with the routes: {messages} for {counts}")


def grow(messages: Sequence[int]) -> bool:
    """Whether numbers of messages, of fewer routes first, grow with the routes; some more or less are chance."""
    return messages[-1] > 2 * messages[0]


def need_mpls() -> None:
    """Raise BenchError where no route leads anywhere."""
    if not has_mpls():
        raise BenchError("this kernel has no MPLS, so that no port is announced and no route leads to a PE")


def check_led(pe: int) -> None:
    """Raise BenchError unless all routes lead to a PE."""
    used = {line.split(" nhid ")[1].split()[0] for line in kernel_lines()}
    for id_ in sorted(used):
        leaf = ip(f"-n {NODE} nexthop show id {id_}").split("group ")[1].split()[0]
        shown = ip(f"-n {NODE} nexthop show id {leaf}")
        if tunnel_device(ipaddress.ip_address(pe_address(pe)).packed) not in shown:
            raise BenchError(f"routes do not lead to {pe_address(pe)} but to {shown.strip()}")


def attach(counts: Sequence[int]) -> None:
    """Make a network with ports and bind it, and wait for the routes at the neighbour."""
    need_mpls()
    for ports in counts:
        progress(f"attach: {ports} ports")
        with Pair(["0", "1", "1"]) as pair:
            interfaces(ports)
            pair.hear("ready", None, LIMIT_S)
            pair.tell("end")
            pair.rest(partial(pair.counts, 0), LIMIT_S, "the daemon rests before the start")
            before, began = pair.usage(), time.monotonic()
            pair.api.post({"name": "vpn", "route_targets": [route_target(0)]}, "bgpvpns")
            subnet = {"cidr": "172.16.0.0/16", "gateway_ip": "172.16.255.254"}
            pair.api.post({"name": "net", "subnets": [subnet]}, "networks")
            pair.api.post({"network_id": "net"}, "bgpvpns", "vpn", "associations")
            for number in range(ports):
                pair.api.post(port(number, "net", address(number)), "ports")
            asked_s = time.monotonic() - began
            heard_s = pair.hear("heard", ports, LIMIT_S) - began
            at, used = pair.rest(pair.active, LIMIT_S, "all objects are active")
            report(
                "attach",
                ports=ports,
                **used.since(before, ports),
                asked_ms=round(asked_s / ports * 1000, 2),
                heard_ms=round(heard_s / ports * 1000, 2),
                wall_s=round(max(at - began, heard_s), 2),
            )


def slices(routes: int) -> None:
    """Let things happen that concern all of so many routes, and tell the longest slice of work of each."""
    progress(f"slices: {routes} routes of one peer")
    for happening, took in measure(routes):
        report("slices", happening=happening, routes=routes, **attrs.asdict(took))


def make_vpns(pair: Pair, vpns: int) -> None:
    """Make VPNs with a network and a port each."""
    interfaces(vpns)
    for number in range(vpns):
        subnet = {"cidr": f"172.16.{number}.0/24", "gateway_ip": f"172.16.{number}.1"}
        pair.api.post({"name": f"net{number}", "subnets": [subnet]}, "networks")
        pair.api.post({"name": f"vpn{number}", "route_targets": [route_target(number)]}, "bgpvpns")
        pair.api.post({"network_id": f"net{number}"}, "bgpvpns", f"vpn{number}", "associations")
        pair.api.post(port(number, f"net{number}", f"172.16.{number}.10"), "ports")


def port(number: int, network: str, ip_address: str) -> dict[str, Any]:
    """The port behind an interface, as the API takes it."""
    mac = (0x02 << 40 | number).to_bytes(6, "big").hex(":")
    return {
        "name": f"port{number}",
        "network_id": network,
        "interface": f"port{number}",
        "mac_address": mac,
        "ip_addresses": [ip_address],
    }


def address(number: int) -> str:
    """The address of a port in the network 172.16.0.0/16."""
    return f"172.16.{1 + number // 250}.{1 + number % 250}"


def interfaces(count: int) -> None:
    """Make interfaces for ports in the namespace of the daemon."""
    for words in ("link add port{0} type veth peer name far{0}", "link set port{0} up", "link set far{0} up"):
        batch(NODE, [words.format(number) for number in range(count)])


def kernel_routes() -> int:
    """Count the routes in the kernel that lead to a nexthop object: an opinion that is not the daemon's."""
    return len(kernel_lines())


def kernel_lines() -> list[str]:
    """What `ip route` shows of them."""
    return [line for line in ip(f"-n {NODE} -4 route show table all").splitlines() if " nhid " in line]


def count(text: str) -> int:
    """Read a number that is 1 or more; ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{text} is not 1 or more")
    return number


def numbers(text: str) -> list[int]:
    """Read "1,100,1000", each 1 or more; ValueError."""
    return [count(word) for word in text.split(",")]


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
    one.add_argument("--routes", type=count, default=100_000)
    one.add_argument("--vrfs", type=count, default=10)
    one.add_argument("--single", action="store_true", help="one route in each UPDATE")
    one.add_argument("--rounds", type=count, default=1, help="how many times")
    one = benches.add_parser("kernel", help="the reconciler and the kernel alone")
    one.add_argument("--routes", type=count, default=100_000)
    one.add_argument("--tables", type=count, default=10)
    one = benches.add_parser("failover", help="netlink messages for the loss of a PE")
    one.add_argument("--routes", type=numbers, default=[1000, 10_000, 100_000])
    one.add_argument("--vrfs", type=count, default=10)
    one.add_argument("--single", action="store_true", help="one route in each UPDATE")
    one.add_argument("--no-compat", action="store_true", help="with net.ipv4.nexthop_compat_mode=0")
    one = benches.add_parser("attach", help="from the request of a port to its route at the neighbour")
    one.add_argument("--ports", type=numbers, default=[1, 100, 1000])
    one = benches.add_parser("slices", help="how long the event loop stands still")
    one.add_argument("--routes", type=count, default=500_000)
    told = parser.parse_args(None if words is None else list(words))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # with all that it made taken away
    try:
        match told.bench:
            case "ingest":
                ingest(told.routes, told.vrfs, told.single, told.rounds)
            case "failover":
                failover(told.routes, told.vrfs, told.single, not told.no_compat)
            case "attach":
                attach(told.ports)
            case "kernel":
                kernel(told.routes, told.tables)
            case "slices":
                slices(told.routes)
    except (BenchError, ApiError, OSError) as error:
        progress(f"not complete: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
