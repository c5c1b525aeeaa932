"""A transport on the loopback with its peers, as a test sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest

from speaker.errors import PrefixLimitReached
from speaker.peer import Peer
from speaker.session import Negotiated, Settings
from speaker.sockets import Endpoint
from speaker.transport import DRAIN_S, Transport
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update
from tests.fakes.loop import advance
from tests.fakes.scripted_peer import ScriptedPeer

OURS, THEIRS, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
LIMIT_S = 5.0
SHORTLY_S = 0.3  # how long nothing is waited for

SETTINGS = Settings(
    local_as=64512,
    remote_as=64513,
    router_id=bytes((192, 0, 2, 1)),
    families=(Family.VPNV4,),
    hold_time_s=90,
    passive=True,
)
ACTIVE = attrs.evolve(SETTINGS, passive=False)
OPEN = "OPEN as=64513 id=192.0.2.2 families=vpnv4 as4=64513"


class Ledger:
    """Routes that write down what they are told, and say what they are given to say."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.lines: list[str] = []
        self.changed = changed
        self.say: Callable[[], bytes] = bytes
        self.said = 0
        self.fail_at = ""
        self.limit: PrefixLimitReached | None = None

    def _note(self, line: str) -> None:
        self.lines.append(line)
        self.changed()
        if self.fail_at == line:
            raise RuntimeError(line)

    def up(self, negotiated: Negotiated, now: float) -> None:
        self._note("up")

    def update(self, update: Update, now: float) -> None:
        self._note("update")
        if self.limit is not None:
            raise self.limit

    def refresh(self, family: Family, now: float) -> None:
        self._note("refresh")

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        self._note("refreshing")

    def disable(self, family: Family, now: float) -> None:
        self._note("disable")

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        self._note("down, graceful" if graceful else "down")

    def output(self, budget: int) -> bytes:
        octets = self.say()
        self.said += len(octets)
        return octets


class Stand:
    """A transport with its peers, as a test sees it."""

    def __init__(self, *listen: str) -> None:
        self.busy = False
        self.pumped = 0
        self._changed = asyncio.Event()
        self.routes: dict[str, Ledger] = {}
        self.transport = Transport([(address, 0) for address in listen], pump=self._pump, busy=lambda: self.busy)

    def _pump(self) -> None:
        self.pumped += 1
        self._changed.set()

    def changed(self) -> None:
        """Let who waits look again."""
        self._changed.set()

    def add(self, address: str, settings: Settings = SETTINGS, **endpoint: object) -> Peer:
        routes = self.routes[address] = Ledger(self._changed.set)
        peer = Peer(address, settings, routes, Interner(), lambda: 0.0)
        self.transport.add_peer(peer, Endpoint(address=address, **endpoint))  # type: ignore[arg-type]
        return peer

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait for a fact about what happened."""
        async with asyncio.timeout(LIMIT_S):
            while not fact():
                self._changed.clear()
                await self._changed.wait()

    @property
    def address(self) -> tuple[str, int]:
        return self.transport.addresses[0]

    @asynccontextmanager
    async def dialled(self, source: str = THEIRS, opening: str = OPEN) -> AsyncIterator[ScriptedPeer]:
        """A peer that connected and established a session."""
        async with await ScriptedPeer.dial(*self.address, source=source) as peer:
            await peer.establish(opening)
            await self.until(lambda: "up" in self.routes[source].lines)
            yield peer


@asynccontextmanager
async def standing(*listen: str) -> AsyncIterator[Stand]:
    stand = Stand(*(listen or (OURS,)))
    stand.transport.start()
    try:
        yield stand
    finally:
        stop = asyncio.ensure_future(stand.transport.stop(graceful=False))
        await asyncio.sleep(0)
        await advance(2 * DRAIN_S)
        await stop


async def quiet(waiting: Awaitable[object]) -> None:
    """Check that what is waited for does not come."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, SHORTLY_S)
