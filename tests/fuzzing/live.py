"""Hostile peers of a daemon that lives, and a good one whose session and routes they must not touch.

Each hostile peer is a thread that connects again and again, brings its session to some stage, and sends mutated
messages until the daemon closes. After each batch: the daemon lives, its log has no exception, it answers, its memory
and descriptors are within their bounds, the good peer's session is the first one with all of its routes, and what it
hears of the hostile ones, which are clients of the daemon as a reflector, is in order.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from lab.generator import Plan, route_target
from speaker.values import Family
from speaker.wire.capability import AddPath, Capability, ExtendedMessage, FourOctetAs, Multiprotocol
from speaker.wire.message import KEEPALIVE, Open
from speaker.wire.update import end_of_rib
from tests.fuzzing.fuzzer import corpus
from tests.fuzzing.mutation import Mutator
from tests.fuzzing.oracle import STAGES
from tests.fuzzing.seeds import Form
from tests.reliability.daemon import AS, Daemon, Peer, until
from tests.reliability.neighbour import Neighbour, dial

GOOD = "127.0.1.1"
HOSTILE = tuple(f"127.0.2.{number}" for number in range(1, 9))
OUTSIDE = HOSTILE[:4]
"""These are in another AS."""

THEIR_AS = 64513
GOOD_ROUTES = 1000
HEARING = tuple(family for family in Family if family is not Family.RTC)
"""What the good peer hears; with RT membership it would have to ask for the others first."""

ADD_PATH = frozenset(Family)
GROWTH_MB = 100.0
"""What the daemon may take more after the first batch: up to a bound it remembers attribute blocks that came once."""

ANSWER_S = 10.0
LOOK_EVERY_S = 0.5
MOMENT_S = 0.003
"""How long a hostile peer waits for the daemon to close before it says more, which would not be read."""


@attrs.define
class Hostility:
    """One hostile peer: its inputs follow from the seed and its number alone."""

    port: int
    address: str
    seed: int
    mutator: Mutator
    sent: int = 0  # inputs
    connections: int = 0
    silent: int = 0  # connections that the daemon neither served nor closed in time

    def run(self, inputs: int) -> None:
        """Send so many inputs more."""
        last = self.sent + inputs
        while self.sent < last:
            self.connections += 1
            chance = random.Random(f"{self.seed} {self.address} {self.connections}")
            try:
                self._connection(chance, last)
            except TimeoutError:
                self.silent += 1
            except OSError:  # reset by the daemon: what was sent was not read to the end
                pass

    def _connection(self, chance: random.Random, last: int) -> None:
        stage = chance.choice((*STAGES, "established", "established"))
        as4, add_path = bool(chance.randrange(4)), bool(chance.randrange(3))
        asn = THEIR_AS if self.address in OUTSIDE else AS
        with dial(self.port, self.address) as connection:
            connection.settimeout(ANSWER_S)
            greeting = b"" if stage == "open-sent" else _introduction(self.address, asn, as4, add_path)
            connection.sendall(greeting + (KEEPALIVE if stage == "established" else b""))
            while self.sent < last:
                messages = [
                    self.mutator.message(chance, Form(as4, add_path)) for _ in range(chance.choice((1, 1, 1, 3)))
                ]
                self.sent += len(messages)
                if not _exchange(connection, b"".join(messages)) or not chance.randrange(50):
                    break
            if chance.randrange(2):  # to the end, or away without a word
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass


def _exchange(connection: socket.socket, octets: bytes) -> bool:
    """Send, wait a moment for an answer, and read what is there; False when the daemon has closed."""
    connection.sendall(octets)
    select.select([connection], [], [], MOMENT_S)
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(1 << 16):
                return False
    except BlockingIOError:
        return True
    finally:
        connection.settimeout(ANSWER_S)


def _introduction(address: str, asn: int, as4: bool, add_path: bool) -> bytes:
    told: list[Capability] = [*map(Multiprotocol, Family), ExtendedMessage()]
    told += [FourOctetAs(asn)] if as4 else []
    told += [AddPath(dict.fromkeys(sorted(ADD_PATH), AddPath.SEND))] if add_path else []
    return Open(asn, 90, socket.inet_aton(address), tuple(told)).encode()


class Siege:
    """A daemon, its good peer, and the hostile ones around it."""

    def __init__(self, daemon: Daemon, good: Neighbour, seed: int) -> None:
        mutator = Mutator([case.octets for case in corpus()])
        self.daemon = daemon
        self.good = good
        self.hostile = [Hostility(daemon.port, address, seed, mutator) for address in HOSTILE]
        self.growth_mb = 0.0
        self._rested_mb: float | None = None
        self._descriptors = daemon.descriptors()

    @property
    def sent(self) -> int:
        """Inputs so far."""
        return sum(each.sent for each in self.hostile)

    def heard(self) -> int:
        """Messages that the daemon has read; an input with a broken header is none."""
        return sum(self.daemon.session(each)["messages_in"] for each in HOSTILE)

    def batch(self, inputs: int) -> None:
        """Send so many inputs, and see what it did."""
        each = -(-inputs // len(self.hostile))
        threads = [threading.Thread(target=one.run, args=(each,)) for one in self.hostile]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.look()
            time.sleep(LOOK_EVERY_S)
        self.check()

    def look(self) -> None:
        """Have all put into words that was heard, while it is there."""
        for path in ("sessions", "status", "instances", "kernel", "peers"):
            self.daemon.api.get(path)
        self.daemon.api.get("routes", limit="10000")

    def check(self) -> None:
        """AssertionError if the daemon or the good peer has taken harm."""
        daemon = self.daemon
        daemon.see_to_it()
        assert not self.good.ended, f"the good session has ended: {self.good.notification}"
        assert not self.good.errors, f"what is reflected to the good peer is wrong: {self.good.errors[0]}"
        session = daemon.session(GOOD)
        assert (session["established"], session["flaps"]) == (1, 0)
        assert session["routes_in"] == {"vpnv4": GOOD_ROUTES}
        until(lambda: daemon.descriptors() <= self._descriptors + 2, "descriptors are closed")
        until(lambda: all(self.daemon.session(each)["routes_in"] == {} for each in HOSTILE), "their routes are gone")
        assert not sum(each.silent for each in self.hostile), "the daemon did not answer in time"
        rested_mb = daemon.usage().rss_mb
        if self._rested_mb is None:
            self._rested_mb = rested_mb
        self.growth_mb = rested_mb - self._rested_mb
        assert self.growth_mb < GROWTH_MB, f"{self.growth_mb:.0f} MB more than after the first batch"


@contextlib.contextmanager
def siege(folder: Path, seed: int) -> Iterator[Siege]:
    """Begin: the good peer has told its routes."""
    families = ", ".join(f'"{family.text}"' for family in Family)
    several = ", ".join(f'"{family.text}"' for family in sorted(ADD_PATH))
    common = f"families = [{families}]\nadd_path_receive = [{several}]"
    outside = f'{common}\nimport_policy = "accept"'
    inside = f"{common}\nroute_reflector_client = true"
    peers = [Peer(each, outside, THEIR_AS) if each in OUTSIDE else Peer(each, inside) for each in HOSTILE]
    with (
        Daemon.running(folder, Peer(GOOD, inside), *peers, level="warning") as daemon,
        Neighbour(daemon.port, GOOD, families=HEARING) as neighbour,
    ):
        daemon.wish_for_vpns("64512:100", *(route_target(number) for number in range(3)))
        neighbour.tell(b"".join([*Plan(GOOD_ROUTES, 3).announcement(0), *map(end_of_rib, HEARING)]))
        until(lambda: daemon.routes_in(GOOD) == GOOD_ROUTES, "the good peer's routes are there")
        yield Siege(daemon, neighbour, seed)


def report(seed: int, count: int, minutes: float | None) -> int:
    """Send inputs in batches until there were `count`; 1 if something was found."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, siege(Path(folder), seed) as around:
        try:
            while around.sent < count and (minutes is None or time.monotonic() < begin + minutes * 60):
                around.batch(min(5000, count - around.sent))
                used = around.daemon.usage()
                seconds = time.monotonic() - begin
                print(f"{around.sent} inputs in {seconds:.0f} s, {used.rss_mb:.0f} MB", file=sys.stderr, flush=True)
        except AssertionError as error:
            print(f"FOUND seed={seed} after {around.sent} inputs: {error}")
            return 1
        connections = sum(each.connections for each in around.hostile)
        seconds = time.monotonic() - begin
        print(
            f"seed={seed} inputs={around.sent} messages={around.heard()} connections={connections}"
            f" reflected={around.good.updates}"
            f" seconds={seconds:.0f} growth_mb={around.growth_mb:.1f} findings=0"
        )
    return 0
