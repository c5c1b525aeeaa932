"""What reflecting costs: routes of one client told to others, without sockets; processor time by number of clients.

    python -m lab.reflecting [--routes N] [--clients N ...] [--alike N] [--late] [--memberships]

The routes come in as UPDATEs of 100 routes; each client hears in turns of 64 KiB, as the transport pulls them.
`--alike` is how many routes share their attributes.  With `--late` the clients come up after the routes, all together;
with `--memberships` each has asked for route targets of its own (RFC 4684), and for one that is common to all.
It prints a line of JSON for each number of clients: microseconds of processor time for each route, taken in and told,
and the messages that were built and that went out.
"""

from __future__ import annotations

import argparse
import gc
import json
import time

from speaker.engine import Engine, Neighbour
from speaker.path import Attributes
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Negotiated
from speaker.terms import Terms
from speaker.values import Family, RouteTarget
from speaker.wire.attribute import Interner
from speaker.wire.message import HEADER_SIZE
from speaker.wire.update import Update, UpdateDecoder, encode_updates

FIRST_PREFIX = 0x0A000000
IN_ONE_UPDATE = 100
PULL_OCTETS = 64 * 1024
OWN_ID = bytes((192, 0, 2, 1))
COMMON = RouteTarget.parse("64512:1").wire


def negotiated(number: int, memberships: bool) -> Negotiated:
    """What is agreed on with a client."""
    families = {Family.VPNV4, Family.RTC} if memberships else {Family.VPNV4}
    return Negotiated(
        families=frozenset(families),
        as4=True,
        ibgp=True,
        hold_s=90,
        keepalive_s=30,
        local_as=64512,
        remote_as=64512,
        remote_router_id=bytes((10, 0, number >> 8, number & 0xFF)),
        route_refresh=True,
        graceful=None,
    )


def bodies(routes: int, alike: int) -> list[bytes]:
    """Return the UPDATEs of a PE: so many routes, so many of them with the same attributes."""
    out = []
    for first in range(0, routes, min(alike, IN_ONE_UPDATE)):
        attributes = Attributes(
            next_hop=bytes((192, 0, 2, 9)), local_pref=100, med=first // alike, ext_communities=(COMMON,)
        )
        keys = [
            b"\0\0\xfc\0\0\0\0\x01" + (FIRST_PREFIX + (number << 8)).to_bytes(4, "big")[:3] + b"\x18"
            for number in range(first, min(first + min(alike, IN_ONE_UPDATE), routes))
        ]
        messages = encode_updates(Family.VPNV4, attributes, [(key, b"\0\x06\x41") for key in keys], as4=True)
        out += [message[HEADER_SIZE:] for message in messages]
    return out


def hear(clients: list[Neighbour]) -> tuple[int, int]:
    """Let all hear all, in turns; return how many octets and messages went out."""
    octets = messages = 0
    waiting = clients
    while waiting:
        still = []
        for client in waiting:
            said = client.output(PULL_OCTETS)
            if said:
                octets += len(said)
                at = 0
                while at < len(said):
                    messages += 1
                    at += said[at + 16] << 8 | said[at + 17]
                still.append(client)
        waiting = still
    return octets, messages


def measure(routes: int, clients: int, alike: int, late: bool, memberships: bool) -> None:
    """Do it with so many clients, and print what it took."""
    interner = Interner()
    engine = Engine(Rib(), Interest(), Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID})), interner)
    decoder = UpdateDecoder(interner, ibgp=True, as4=True, families=frozenset({Family.VPNV4}))
    source = engine.add("source")
    engine.change("source", Terms(client=True), 0.0)
    source.up(negotiated(0, False), 0.0)
    listening = []
    for number in range(1, clients + 1):
        client = engine.add(f"client{number}")
        engine.change(client.name, Terms(client=True), 0.0)
        listening.append(client)
    updates = bodies(routes, alike)

    def come_up() -> None:
        for number, client in enumerate(listening, 1):
            client.up(negotiated(number, memberships), 0.0)
            if memberships:
                path = Attributes(next_hop=OWN_ID).path(b"")
                own = b"\0\x02\xfc\0" + number.to_bytes(4, "big")
                keys = [(64512).to_bytes(4, "big") + target + b"\x60" for target in (COMMON, own)]
                client.update(Update(announced=[(Family.RTC, dict.fromkeys(keys, path))]), 0.0)

    octets = messages = 0

    def listen() -> None:
        nonlocal octets, messages
        heard = hear(listening)
        octets, messages = octets + heard[0], messages + heard[1]

    if not late:
        come_up()
        listen()
    gc.collect()
    gc.freeze()
    octets = messages = engine.groups.encoded = 0
    began = time.process_time()
    for number, body in enumerate(updates):
        source.update(decoder.decode(body), 0.0)
        if not late and number % 20 == 19:
            listen()
    taken_in = time.process_time()
    if late:
        come_up()
    listen()
    done = time.process_time()
    for client in listening:
        if len(client.adj_rib_out.sent[Family.VPNV4]) != routes:
            raise SystemExit(f"{client.name} was told {len(client.adj_rib_out.sent[Family.VPNV4])} of {routes} routes")
    print(
        json.dumps(
            {
                "routes": routes,
                "alike": alike,
                "clients": clients,
                "late": late,
                "memberships": memberships,
                "built": engine.groups.encoded,
                "messages": messages,
                "octets": octets,
                "cpu_s": round(done - began, 3),
                "after_the_last_update_s": round(done - taken_in, 3),
                "us_a_route": round((done - began) / routes * 1e6, 2),
            }
        ),
        flush=True,
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=20_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--alike", type=int, default=100)
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--memberships", action="store_true")
    given = parser.parse_args()
    for clients in given.clients:
        measure(given.routes, clients, given.alike, given.late, given.memberships)


if __name__ == "__main__":
    main()
