"""Monitoring stations over real TCP: what they hear, when they do not read, go away and come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bgpvpn.config import MONITORED, BmpConfig, Config, ConfigError
from bgpvpn.monitoring import BACK_OFF_MOST_S, BUFFER_OCTETS, END_S, PULL_OCTETS, Monitoring
from speaker.decision import LOCAL
from speaker.engine import Engine
from speaker.monitor import Identity
from speaker.peer import Peer
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Settings
from speaker.sockets import SEND_BUFFER_OCTETS
from speaker.values import Family, prefix_bytes
from speaker.wire.attribute import Interner
from tests.fakes.loop import advance, run
from tests.fakes.messages import write
from tests.fakes.station import ConnectedStation, ListeningStation
from tests.speaker.routes import block

LIMIT_S = 10.0
IPV4 = Family.IPV4
OWN_ID = bytes((192, 0, 2, 1))
NODE = '[node]\nrouter_id = "192.0.2.11"\nlocal_as = 64512\ntunnel_ip = "192.0.2.11"\n'
PRE, POST, BEST = ("192.0.2.9", "pre"), ("192.0.2.9", "post"), ("loc-rib", "")


def key(number: int) -> bytes:
    return prefix_bytes(f"10.{number >> 8}.{number & 255}.0/24")


class Node:
    """An engine with a peer whose session is up, and stations."""

    def __init__(self, *wishes: BmpConfig) -> None:
        self.rib = Rib()
        interner = Interner()
        self.engine = Engine(self.rib, Interest(), Own(OWN_ID, frozenset({64512}), frozenset()), interner)
        settings = Settings(local_as=64512, remote_as=64512, router_id=OWN_ID, families=(IPV4,), passive=True)
        neighbour = self.engine.add("192.0.2.9")
        self.peer = Peer("192.0.2.9", settings, neighbour, interner, lambda: 0.0)
        self.peer.start(0.0)
        self.peer.accept(1, "192.0.2.9", 0.0)
        opened = "OPEN as=64512 hold=0 id=192.0.2.9 families=ipv4 refresh as4=64512"
        self.peer.received(1, write(opened) + write("KEEPALIVE"), 0.0)
        identity = Identity(name="pe1", description="bgpvpnd test", asn=64512, router_id=OWN_ID)
        self.monitoring = Monitoring(wishes, self.engine, lambda: {"192.0.2.9": self.peer}, identity)

    @property
    def table(self) -> dict[tuple[Family, bytes], int]:
        rows = self.rib.table(IPV4, "192.0.2.9").rows
        return {(IPV4, each): path.attributes.local_pref or 0 for each, path in rows.items()}

    @property
    def readers(self) -> int:
        return sum(len(table.readers) for table in self.rib.tables.values())

    def put(self, numbers: range, local_pref: int = 100) -> None:
        path = block(local_pref=local_pref).path(b"")
        self.rib.table(IPV4, "192.0.2.9").put_all({key(number): path for number in numbers})
        self.monitoring.flush()


def told(station: ConnectedStation, view: tuple[str, str] = POST) -> dict[tuple[Family, bytes], int]:
    return {at: path.attributes.local_pref or 0 for at, path in station.heard.routes.get(view, {}).items()}


@contextlib.asynccontextmanager
async def monitored(
    station: ListeningStation, tables: tuple[str, ...] = ("post-policy",), statistics_s: int = 0
) -> AsyncIterator[Node]:
    wish = BmpConfig(address="127.0.0.1", port=station.port, tables=tables, statistics_s=statistics_s)
    node = Node(wish)
    node.monitoring.start()
    try:
        yield node
    finally:
        await node.monitoring.stop()


async def hearing(station: ConnectedStation, fact: Callable[[], object]) -> None:
    """Let a station read until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not fact():
            assert await station.receive()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - of what is looked at, nothing tells that it changed
            await asyncio.sleep(0)


def test_a_station_is_told_of_what_is_there_and_of_every_change() -> None:
    async def story() -> None:
        listener = ListeningStation()
        async with monitored(listener, MONITORED) as node:
            station = await listener.accept()
            await station.until("END 192.0.2.9 post ipv4")
            node.put(range(3))
            node.rib.table(IPV4, LOCAL).put(key(9), block().path(b""))
            node.monitoring.flush()
            await hearing(station, lambda: told(station, BEST) == node.table | {(IPV4, key(9)): 100})
            assert told(station) == told(station, PRE) == node.table
            (state,) = node.monitoring.states()
            assert (state["station"], state["state"], state["connects"]) == (f"127.0.0.1:{listener.port}", "up", 1)
            labels = {"station": state["station"]}
            for metric, value in zip(node.monitoring.metrics(), (1, 1, state["octets_out"]), strict=True):
                assert metric["samples"] == [{"labels": labels, "value": value}], metric["name"]
            await asyncio.gather(node.monitoring.stop(), station.rest())
            assert station.heard.log[-2:] == ["PEER DOWN loc-rib 6", "TERMINATION 0"]
            station.close()
            listener.close()

    run(story)


def test_a_station_that_does_not_read_costs_bounded_memory_and_hears_the_last_state() -> None:
    async def story() -> None:
        listener = ListeningStation()
        async with monitored(listener) as node:
            station = await listener.accept()
            await station.until("END 192.0.2.9 post ipv4")
            for number in range(12000):
                path = block(local_pref=number).path(b"")  # of its own, so that it has a message of its own
                node.rib.table(IPV4, "192.0.2.9").put(key(number % 6000), path)
                if number % 100 == 0:
                    node.monitoring.flush()
                    await asyncio.sleep(0)
                (state,) = node.monitoring.states()
                assert state["octets_waiting"] <= BUFFER_OCTETS + 2 * PULL_OCTETS
            assert state["octets_out"] < 12000 * 130 // 2, "most of it waits, as the keys of routes"
            await hearing(station, lambda: told(station) == node.table)
            assert len(node.table) == 6000
            station.close()
            listener.close()

    run(story)


def test_a_station_that_went_away_hears_all_again() -> None:
    async def story() -> None:
        listener = ListeningStation()
        async with monitored(listener) as node:
            before = node.readers
            station = await listener.accept()
            node.put(range(3))
            await station.until("ROUTES 192.0.2.9 post")
            assert node.readers > before
            station.close()
            await until(lambda: node.monitoring.states()[0]["state"] == "away")
            assert node.monitoring.states()[0]["last_error"] == "closed by the station"
            node.put(range(2, 5), local_pref=7)
            assert node.readers == before, "nobody reads for it meanwhile"
            await advance(1.0)
            station = await listener.accept()
            await station.until("END 192.0.2.9 post ipv4")
            assert station.heard.log[:2] == ["INITIATION pe1: bgpvpnd test", "PEER UP 192.0.2.9"]
            assert told(station) == node.table
            station.close()
            listener.close()

    run(story)


def test_a_station_that_is_not_there_is_tried_ever_more_seldom() -> None:
    async def story() -> None:
        listener = ListeningStation()
        listener.close()
        async with monitored(listener) as node:
            (before,) = node.monitoring.states()
            attempts = []
            for number in range(1, 12):
                await until(lambda: node.monitoring.states()[0]["connects"] == number)  # noqa: B023
                await until(lambda: node.monitoring.states()[0]["state"] == "away")
                loop = asyncio.get_running_loop()
                attempts.append(loop.time())
                waited = 0.0
                while node.monitoring.states()[0]["connects"] == number:
                    await advance(0.25)
                    waited += 0.25
                    assert waited <= BACK_OFF_MOST_S + 0.5
                low = min(BACK_OFF_MOST_S, 2.0 ** (number - 1))
                assert low * 0.75 - 0.25 <= waited <= low + 0.5, (number, waited)
            assert node.monitoring.states()[0]["last_error"] == "Connection refused"
            assert before["state"] == "away"

    run(story)


def test_statistics_come_at_their_time() -> None:
    async def story() -> None:
        listener = ListeningStation()
        async with monitored(listener, ("loc-rib",), statistics_s=30) as node:
            station = await listener.accept()
            node.put(range(3))
            await station.until("ROUTES loc-rib")
            assert station.heard.statistics == {}
            for count in (3, 5):
                node.put(range(count))
                await advance(30.0)
                await hearing(station, lambda: station.heard.statistics.get("loc-rib", {}).get(8) == count)  # noqa: B023
            assert station.heard.statistics["192.0.2.9"] == {0: 0, 7: 5, (9, IPV4): 5, 11: 0}
            station.close()
            listener.close()

    run(story)


def test_a_station_that_does_not_read_does_not_hold_up_the_end() -> None:
    async def story() -> None:
        listener = ListeningStation()
        async with monitored(listener) as node:
            station = await listener.accept()
            for number in range(20000):
                node.rib.table(IPV4, "192.0.2.9").put(key(number), block(local_pref=number).path(b""))
            node.monitoring.flush()
            await until(lambda: node.monitoring.states()[0]["octets_out"] > SEND_BUFFER_OCTETS)
            begun = asyncio.get_running_loop().time()
            await node.monitoring.stop()
            assert asyncio.get_running_loop().time() - begun < END_S + 1
            station.close()
            listener.close()

    run(story)


def test_stations_are_configured_one_section_each() -> None:
    one = '[[bmp]]\naddress = "127.0.0.1"\nport = 11019\n'
    other = '[[bmp]]\naddress = "2001:DB8::1"\nport = 1\ntables = ["loc-rib"]\n'
    assert parse(NODE + one + other).stations == (
        BmpConfig(address="127.0.0.1", port=11019, tables=MONITORED, statistics_s=60),
        BmpConfig(address="2001:db8::1", port=1, tables=("loc-rib",), statistics_s=60),
    )
    for text, fault in [
        ('[[bmp]]\naddress = "192.0.2.1"\n', "line 5: bmp[0].port: is wanted"),
        ('[[bmp]]\naddress = "nowhere"\nport = 1\n', "line 6: bmp[0].address: "),
        ('[[bmp]]\naddress = "192.0.2.1"\nport = 1\ntables = ["rib"]\n', "line 8: bmp[0].tables: takes pre-policy"),
        ('[[bmp]]\naddress = "192.0.2.1"\nport = 1\nstatistics = 5\n', "line 8: bmp[0].statistics: is not known"),
        (2 * '[[bmp]]\naddress = "192.0.2.1"\nport = 1\n', "line 9: bmp[1].address: 192.0.2.1 has a [[bmp]]"),
        ("[bmp]\nport = 1\n", "line 5: bmp: is a list of sections, [[bmp]]"),
    ]:
        with pytest.raises(ConfigError) as refusal:
            parse(NODE + text)
        (only,) = refusal.value.faults
        assert str(only).startswith(fault)


def parse(text: str) -> Config:
    return Config.parse(text, Path("/etc/bgpvpn/bgpvpn.toml"))
