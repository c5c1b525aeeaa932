"""Running nodes over loopback: real sessions and a real store, a kernel in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import selectors
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest

from bgpvpn.config import Config
from bgpvpn.dataplane.rows import Operation, Refusal, Scope, VrfLink
from bgpvpn.intent import Change, IntentError, Object, Peer, Removal, Store, StoredLease, StoreError
from bgpvpn.running import ERROR_PAUSE_S, STORE_RETRY_S, RunningNode
from bgpvpn.store.sqlite import SqliteStore
from speaker.values import prefix_text
from tests.fakes.descriptors import no_descriptor_left
from tests.fakes.kernel import FakeKernel
from tests.fakes.loop import SteppedLoop, advance, run
from tests.fakes.middle import bind, network, port, vpn
from tests.fakes.node import FakeStore
from tests.fakes.scripted_peer import ScriptedListener, ScriptedPeer

LIMIT_S = 10.0
OPEN = "OPEN as=64512 as4=64512 id=192.0.2.9 families=vpnv4,evpn refresh restart=120:vpnv4+,evpn+"
SCRIPTED = "127.0.1.9"
OPTMEM_OCTETS = int(Path("/proc/sys/net/core/optmem_max").read_text())
LEFT = "bv-vrf100099"
"""A device of an earlier life that nobody wants any more."""


class Kernel(FakeKernel):
    """A kernel that wakes who waits for it, and may have a mistake in it."""

    def __init__(self) -> None:
        super().__init__()
        self.mistakes = 0  # calls of `apply` to come that raise what no kernel does
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._event

    def close(self) -> None:
        os.close(self._event)

    def plug(self, name: str, netns: str = "") -> None:
        super().plug(name, netns)
        os.eventfd_write(self._event, 1)

    def disturbed(self) -> set[Scope]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        return super().disturbed()

    def apply(self, operations: Iterable[Operation]) -> dict[int, Refusal]:
        if self.mistakes:
            self.mistakes -= 1
            raise RuntimeError("a mistake")
        return super().apply(list(operations))

    def prefixes(self) -> set[str]:
        """Return where our routes lead to."""
        return {prefix_text(prefix, at[1]) for at, routes in self.routes.items() for prefix in routes}


class Fickle:
    """A store that refuses changes or leases while it is told to, and may have a mistake in it."""

    def __init__(self) -> None:
        self.store: Store = FakeStore()
        self.refuses: tuple[str, ...] = ()
        self.mistakes = 0  # writes of leases to come that raise what no store does

    def load(self) -> tuple[list[Change], list[StoredLease]]:
        return self.store.load()

    def identity(self) -> int:
        return self.store.identity()

    def write(
        self,
        changes: Iterable[Change] = (),
        leases: Iterable[StoredLease] = (),
        dropped_leases: Iterable[tuple[str, str]] = (),
    ) -> None:
        for name, rows in (("changes", changes), ("leases", leases)):
            if rows and name in self.refuses:
                raise StoreError("the disk is full")
        if leases and self.mistakes:
            self.mistakes -= 1
            raise RuntimeError("a mistake")
        self.store.write(changes, leases, dropped_leases)


class Site:
    """A machine: what outlives the node that runs on it, and that node."""

    def __init__(self, folder: Path, number: int, bgp_port: int, *, more: str = "", store: Store | None = None) -> None:
        self.number = number
        self.address = f"127.0.1.{number}"
        self.path = folder / f"pe{number}" / "intent.db"
        self.config = Config.parse(
            f'[node]\nrouter_id = "192.0.2.{number}"\nlocal_as = 64512\ntunnel_ip = "192.0.2.{number}"\n'
            f'host = "pe{number}"\n[bgp]\nlisten = ["{self.address}"]\nport = {bgp_port}\n{more}\n',
            folder / "bgpvpn.toml",
        )
        self.kernel = Kernel()
        self.kernel.interfaces.add((f"tap-p{number}", ""))
        self.fickle = Fickle()
        self.given = store
        self.opened: SqliteStore | None = None
        self.told: list[dict[str, Any]] = []

    def start(self) -> RunningNode:
        """Start a node over what is there."""
        if self.given is None:
            self.opened = SqliteStore(self.path)
        self.fickle.store = self.given or self.opened or FakeStore()
        self.node = RunningNode(self.config, self.fickle, self.kernel)
        self.node.subscribe(self.told.append)
        self.node.start()
        return self.node

    async def stop(self, *, graceful: bool = True) -> None:
        """End the node."""
        await self.node.stop(graceful=graceful)
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def wishes(self) -> list[Object]:
        """Return a VPN, a network in it, and a port of this node."""
        return [
            vpn("blue", "64512:1"),
            *network("n"),
            port(f"p{self.number}", "n", f"10.1.0.{self.number}0"),
            bind("blue", "n"),
        ]

    def state(self, kind: Any, id_: str) -> tuple[str, str]:
        """Return the status of an object."""
        status = self.node.status_of(kind, id_)
        return status["state"], status["reason"]

    def session(self, number: int = 0) -> dict[str, Any]:
        """Return what is known of a session."""
        return self.node.sessions()[number]


class Lab:
    """Sites that end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites: list[Site] = []
        self.port = _free_port()

    def site(self, number: int, *peers: int, more: str = "", deferral_s: int = 60, store: Store | None = None) -> Site:
        """Make a machine whose node shall have these others as peers."""
        sections = "".join(
            f'[[peer]]\naddress = "127.0.1.{each}"\nport = {self.port}\nremote_as = 64512\n'
            f'local_address = "127.0.1.{number}"\n'
            for each in peers
        )
        site = Site(self.folder, number, self.port, more=f"deferral_s = {deferral_s}\n{sections}{more}", store=store)
        self.sites.append(site)
        return site


def _free_port() -> int:
    """Return a port that nobody has, and that the kernel gives to no connection."""
    while True:
        number = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", number))
            return number


@contextlib.asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[Lab]:
    lab = Lab(folder)
    try:
        yield lab
    finally:
        stops = [asyncio.ensure_future(site.stop(graceful=False)) for site in lab.sites if hasattr(site, "node")]
        await asyncio.sleep(0)
        await advance(2.0)
        await asyncio.gather(*stops)
        for site in lab.sites:
            site.kernel.close()


async def until(fact: Callable[[], object]) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(LIMIT_S):
        while not fact():  # noqa: ASYNC110  sockets and kernels in memory do not tell
            await asyncio.sleep(0.002)


def scripted(listener: ScriptedListener, **more: Any) -> Peer:
    """Return the wish for a scripted peer."""
    fields = {"id": "scripted", "address": SCRIPTED, "port": listener.port, "remote_as": 64512, **more}
    return Peer(**{"families": ("vpnv4", "evpn"), **fields})


@contextlib.contextmanager
def listening() -> Any:
    """A place where a scripted peer waits."""
    with contextlib.closing(ScriptedListener(SCRIPTED)) as listener:
        yield listener


async def silent(peer: ScriptedPeer, word: str) -> None:
    """Check that a peer was not told a word, also of what is on its way."""
    await asyncio.sleep(0)
    with contextlib.suppress(TimeoutError):
        await peer.expect_later(word, 0.1)
        raise AssertionError(f"{word} was said")


# Two nodes


def test_routes_of_a_VPN_arrive_at_the_other_node_and_go_when_it_is_unbound(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2), lab.site(2, 1)
            for site in (one, two):
                site.start().write(site.wishes())
            await until(lambda: "10.1.0.20/32" in one.kernel.prefixes() and "10.1.0.10/32" in two.kernel.prefixes())
            for site in (one, two):
                await until(lambda site=site: site.node.status()["synced"] and site.node.status()["in_order"])
                assert site.node.status()["degraded"] == []
                assert site.state("port", f"p{site.number}") == ("ACTIVE", "")
                assert site.state("peer", site.config.peers[0].id) == ("ACTIVE", "")
            two.node.write([Removal("association", "blue-n")])
            await until(lambda: "10.1.0.20/32" not in one.kernel.prefixes())
            assert two.kernel.prefixes() == set()
            assert two.state("port", "p2")[0] == "DOWN"

    run(story)


def test_a_restart_is_told_to_the_peers_keeps_their_routes_and_writes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2), lab.site(2, 1)
            for site in (one, two):
                site.start().write(site.wishes())
            await until(lambda: "10.1.0.20/32" in one.kernel.prefixes() and "10.1.0.10/32" in two.kernel.prefixes())
            await until(lambda: one.node.status()["in_order"] and two.node.status()["in_order"])
            leases = one.fickle.load()[1]
            contents = [site.kernel.content() for site in (one, two)]
            messages = [site.kernel.messages() for site in (one, two)]
            await one.stop()
            await until(lambda: two.session()["state"] != "established")
            assert two.session()["routes_stale"] > 0
            one.fickle.refuses = ("leases",)  # they are on disk
            one.start()
            await until(lambda: one.node.status()["synced"] and two.session()["state"] == "established")
            await until(lambda: two.session()["synced"] and two.session()["routes_stale"] == 0)
            assert one.node.status()["degraded"] == []
            assert one.fickle.load()[1] == leases
            assert [site.kernel.content() for site in (one, two)] == contents
            assert [site.kernel.messages() for site in (one, two)] == messages

    run(story)


@pytest.mark.parametrize("unreadable", [False, True])
def test_the_OPEN_says_whether_the_kernel_kept_forwarding_over_a_restart(tmp_path: Path, unreadable: bool) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([*one.wishes(), scripted(listener)])
                async with await listener.accept() as peer:
                    assert "restart=120!N:vpnv4,evpn" in await peer.establish(OPEN)
                await one.stop()
                if unreadable:
                    one.kernel.fail("observe")
                one.start()
                async with await listener.accept() as peer:
                    assert "restart=120!N:vpnv4+,evpn+" in await peer.establish(OPEN)
                    await peer.say("END-OF-RIB vpnv4", "END-OF-RIB evpn")
                    await until(lambda: one.node.status()["synced"])
                    peer.reset()
                    await until(lambda: one.session()["state"] == "active")
                await advance(2.0)
                async with await listener.accept() as peer:
                    assert "restart=120N:vpnv4+,evpn+" in await peer.establish(OPEN), "it restarts no more"

    run(story)


def test_a_node_without_VPNs_forwards_nothing_and_so_loses_nothing_when_it_starts(tmp_path: Path) -> None:
    """Peers keep what it reflected (RFC 4724 section 4.2), and do not wait for its End-of-RIB (section 4.1)."""

    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([scripted(listener)])
                async with await listener.accept() as peer:
                    assert "restart=120!N:vpnv4+,evpn+" in await peer.establish(OPEN)

    run(story)


# The gate


def test_without_peers_the_gate_opens_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.kernel.rows["link"][LEFT] = VrfLink("bgpvpn:vrf:old", 100099)
            one.start()
            await until(lambda: one.node.status()["synced"])
            await until(lambda: LEFT not in one.kernel.rows["link"])

    run(story)


@pytest.mark.parametrize("way", ["End-of-RIB", "deferral time", "disabled", "removed"])
def test_nothing_is_removed_before_all_peers_said_all_or_the_deferral_time_is_over(tmp_path: Path, way: str) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1, deferral_s=5)
            one.kernel.rows["link"][LEFT] = VrfLink("bgpvpn:vrf:old", 100099)
            with listening() as listener:
                wish = scripted(listener)
                one.start().write([*one.wishes(), wish])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say("END-OF-RIB vpnv4")
                    await peer.expect_later("END-OF-RIB")
                    await until(lambda: one.session()["end_of_rib_in"] == ["vpnv4"])
                    await advance(4.5)
                    assert not one.node.status()["synced"]
                    assert LEFT in one.kernel.rows["link"]
                    match way:
                        case "End-of-RIB":
                            await peer.say("END-OF-RIB evpn")
                        case "deferral time":
                            await advance(0.6)
                            assert one.node.status()["synced"], "a timer of its own saw to that"
                        case "disabled":
                            one.node.write([attrs.evolve(wish, admin_state_up=False)])
                        case "removed":
                            one.node.write([Removal("peer", wish.id)])
                    await until(lambda: one.node.status()["synced"] and LEFT not in one.kernel.rows["link"])

    run(story)


@pytest.mark.parametrize("kept", [True, False])
def test_where_peers_may_come_that_nobody_can_name_a_kept_kernel_waits_for_the_deferral_time(
    tmp_path: Path, kept: bool
) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1, deferral_s=5)
            if kept:
                one.kernel.rows["link"][LEFT] = VrfLink("bgpvpn:vrf:old", 100099)
            one.start().write([*one.wishes(), Peer(id="many", address="127.0.2.0/24", remote_as=64512)])
            await advance(4.5)
            assert one.node.status()["synced"] is not kept
            assert (LEFT in one.kernel.rows["link"]) is kept
            await advance(0.6)
            await until(lambda: one.node.status()["synced"] and LEFT not in one.kernel.rows["link"])

    run(story)


def test_a_reflector_of_peers_that_nobody_can_name_says_End_of_RIB_when_the_deferral_time_is_over(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1, deferral_s=5)
            fields: dict[str, Any] = {"remote_as": 64512, "families": ("vpnv4", "evpn")}
            wish = Peer(id="many", address="127.0.2.0/24", route_reflector_client=True, **fields)
            one.start().write([wish])
            await advance(1.0)
            async with await ScriptedPeer.dial("127.0.1.1", lab.port, source="127.0.2.5") as peer:
                opened = await peer.establish(OPEN)
                assert "restart=120!N:vpnv4+,evpn+" in opened, "it keeps what we reflected before, and waits not for us"
                await peer.say("END-OF-RIB vpnv4", "END-OF-RIB evpn")
                await silent(peer, "END-OF-RIB")
                await advance(5.0)
                await peer.expect("END-OF-RIB vpnv4")

    run(story)


def test_End_of_RIB_is_said_after_all_that_can_be_announced(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.kernel.fail("observe", times=3)
                wishes = [*one.wishes(), vpn("red", "64512:2", type="l2"), bind("red", "n")]
                one.start().write([scripted(listener), *wishes])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await silent(peer, "END-OF-RIB")
                    await advance(0.5)
                    await until(lambda: one.node.status()["in_order"])
                    async with asyncio.timeout(LIMIT_S):
                        while {"END-OF-RIB vpnv4", "END-OF-RIB evpn"} - set(peer.heard):
                            await peer.expect("")
                    said = [text for text in peer.heard if text.startswith(("UPDATE", "END-OF-RIB"))]
                    updates = [at for at, text in enumerate(said) if text.startswith("UPDATE")]
                    assert one.session()["routes_out"] == {"vpnv4": 1, "evpn": 3}
                    assert updates[-1] < min(said.index("END-OF-RIB vpnv4"), said.index("END-OF-RIB evpn"))

    run(story)


# The store


def test_what_the_store_refuses_is_not_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start()
            one.fickle.refuses = ("changes",)
            with pytest.raises(StoreError, match="the disk is full"):
                one.node.write(one.wishes())
            with pytest.raises(IntentError):
                one.node.write([*one.wishes(), bind("nowhere", "n")])
            assert not any(len(table) for table in one.node.intent.tables.values())
            assert one.told == []
            one.fickle.refuses = ()
            assert len(one.node.write(one.wishes())) == len(one.wishes())
            assert one.state("port", "p1") == ("ACTIVE", "")

    run(story)


def test_nothing_is_built_from_a_lease_that_is_not_on_disk(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.expect_later("END-OF-RIB evpn")
                    one.fickle.refuses = ("leases",)
                    one.node.write(one.wishes())
                    await silent(peer, "UPDATE")
                    assert one.kernel.messages() == {}
                    assert one.state("port", "p1")[0] == "PENDING"
                    assert "the store does not take changes" in one.node.status()["degraded"]
                    one.fickle.refuses = ()
                    await advance(STORE_RETRY_S)
                    await peer.expect_later("UPDATE")
                    assert one.state("port", "p1") == ("ACTIVE", "")
                    assert "the store does not take changes" not in one.node.status()["degraded"]

    run(story)


def test_a_released_lease_that_is_not_on_disk_holds_up_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start().write(one.wishes())
            await until(lambda: one.node.status()["synced"])
            one.fickle.refuses = ("leases",)
            one.node.write([Removal("association", "blue-n")])
            await until(lambda: not any(one.kernel.rows.values()))
            assert one.node.status()["degraded"] == ["the store does not take changes"]

    run(story)


@pytest.mark.parametrize("trouble", ["refused", "mistaken", "kernel mistaken"])
def test_trouble_does_not_make_the_loop_spin(tmp_path: Path, trouble: str) -> None:
    polls = 0

    class Counting(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            nonlocal polls
            polls += timeout == 0
            return super().select(timeout)

    async def story() -> None:
        nonlocal polls
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start()
            match trouble:
                case "refused":
                    one.fickle.refuses = ("leases",)
                case "mistaken":
                    one.fickle.mistakes = 1000
                case "kernel mistaken":
                    one.kernel.mistakes = 1000
            one.node.write(one.wishes())
            await asyncio.sleep(0.1)
            polls = 0
            await asyncio.sleep(0.2)
            assert polls < 10

    with asyncio.Runner(loop_factory=lambda: SteppedLoop(Counting())) as runner:
        runner.run(story())


# Peers


def test_peers_come_change_and_go_at_run_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                wish = scripted(listener)
                one.start().write([wish])
                for change, ending in (
                    ({"hold_time_s": 30}, "NOTIFICATION 6/6"),
                    (
                        {"local_as": 64513, "import_policy": "accept", "export_policy": "accept"},
                        "NOTIFICATION 6/6",
                    ),
                    ({"admin_state_up": False}, "NOTIFICATION 6/2"),
                    ({"admin_state_up": True, "local_as": None}, ""),
                    (None, "NOTIFICATION 6/3"),
                ):
                    if ending:
                        peer = await listener.accept()
                        theirs = await peer.expect("OPEN")
                        assert f"as={wish.local_as or 64512} hold={wish.hold_time_s}" in theirs
                        await peer.say(OPEN.replace("as=64512 as4=64512", "as=64512 as4=64512"), "KEEPALIVE")
                        await until(lambda: one.state("peer", "scripted") == ("ACTIVE", ""))
                    if change is None:
                        one.node.write([Removal("peer", "scripted")])
                    else:
                        wish = attrs.evolve(wish, **change)
                        one.node.write([wish])
                    if ending:
                        assert (await peer.expect_end())[-1].startswith(ending)
                        peer.close()
                    if not wish.admin_state_up:
                        assert one.state("peer", "scripted") == ("DOWN", "administratively down")
                assert one.node.sessions() == []

    run(story)


def test_a_peer_that_is_switched_off_is_not_connected_to_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([scripted(listener, admin_state_up=False)])
                await one.stop()
                one.start()
                await until(lambda: one.node.status()["synced"])
                assert one.session()["state"] == "idle"
                with pytest.raises(TimeoutError):
                    await listener.accept(0.1)
                one.node.write([scripted(listener)])
                (await listener.accept()).close()

    run(story)


def test_a_peer_that_cannot_be_says_why_and_hinders_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                elsewhere = scripted(listener, id="elsewhere", address="127.0.1.8", local_address="192.0.2.77")
                one.start().write([elsewhere, scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await until(lambda: one.state("peer", "scripted") == ("ACTIVE", ""))
                assert one.state("peer", "elsewhere") == ("PENDING", "active; connect: Cannot assign requested address")
                assert "the session with 127.0.1.8 is not established" in one.node.status()["degraded"]

    run(story)


def test_a_peer_whose_key_the_kernel_does_not_take_is_an_error_until_it_is_changed(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1, store=FakeStore())
            one.start()
            fields = {"remote_as": 64512, "passive": True, "password": "s3cret"}
            # The keys of a socket are bounded by net.core.optmem_max.
            count = OPTMEM_OCTETS // 100
            peers = [Peer(id=f"p{n}", address=f"127.1.{n >> 8}.{n & 255}", **fields) for n in range(count)]
            one.node.write(peers)
            await until(lambda: len(one.node.sessions()) > 100)
            first, last = peers[0], peers[-1]
            assert one.state("peer", first.id) == ("PENDING", "active")
            assert one.state("peer", last.id) == ("ERROR", f"TCP MD5 for {last.address}: Cannot allocate memory")
            one.node.write([Removal("peer", first.id), attrs.evolve(last, hold_time_s=30)])
            assert one.state("peer", last.id) == ("PENDING", "active")
            one.node.write([Removal("peer", peers[-2].id)])
            assert one.node.status()["degraded"][-1].startswith("the session with 127.1.")

    run(story)


def test_what_comes_of_one_peer_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2), lab.site(2, 1)
            for site in (one, two):
                site.start().write(site.wishes())
            with listening() as listener:
                one.node.write([scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await until(lambda: two.session()["state"] == "established")
                    await peer.say("RAW " + "00" * 19)
                    assert (await peer.expect_end())[-1].startswith("NOTIFICATION 1/1")
            await until(lambda: "10.1.0.20/32" in one.kernel.prefixes())
            assert one.session(0)["flaps"] == two.session()["flaps"] == 0

    run(story)


def test_what_a_peer_says_of_itself_is_escaped(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN + r" name=pe\x1b[31m\n")
                    await until(lambda: one.session()["state"] == "established")
                    assert one.session()["remote_host_name"] == r"pe\x1b[31m\n"
                    await peer.say("NOTIFICATION 6/2 05 1b5b316d0a")
                    await until(lambda: one.session()["state"] == "active")
                    assert "[1m" in one.session()["last_down"]
                    assert one.session()["last_down"].isprintable()
                    assert one.session()["last_down"] in one.state("peer", "scripted")[1]

    run(story)


def test_a_node_without_descriptors_says_so_until_it_has_some(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start().write([Peer(id="passive", address=SCRIPTED, remote_as=64512, passive=True)])
            said = "connections of peers wait: no file descriptor is free"
            with contextlib.closing(socket.socket()) as waiting:
                waiting.setblocking(False)
                waiting.bind((SCRIPTED, 0))
                with no_descriptor_left():
                    await asyncio.get_running_loop().sock_connect(waiting, (one.address, lab.port))
                    await until(lambda: said in one.node.status()["degraded"])
                await advance(1.1)
                await until(lambda: one.session()["state"] == "open-sent")
                assert said not in one.node.status()["degraded"]

    run(story)


# Timers


def test_a_refused_row_is_tried_again_though_nothing_else_happens(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.kernel.refuse("attachment", "p1", times=3)
            one.start().write(one.wishes())
            assert one.state("port", "p1") == ("ERROR", "attachment p1: Invalid argument")
            await until(lambda: one.node.status()["synced"])
            assert one.node.status()["degraded"] == ["the kernel has not taken 1 rows"]
            await until(lambda: one.state("port", "p1") == ("ACTIVE", ""))
            assert one.node.status()["degraded"] == []

    run(story)


def test_routes_of_a_peer_that_does_not_come_back_go_at_its_restart_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2), lab.site(2, 1)
            for site in (one, two):
                site.start().write(site.wishes())
            await until(lambda: "10.1.0.20/32" in one.kernel.prefixes() and one.node.status()["synced"])
            await two.stop()
            await until(lambda: one.session()["state"] != "established")
            await advance(119.0)
            assert "10.1.0.20/32" in one.kernel.prefixes()
            await advance(1.5)
            await advance(0.1)
            assert "10.1.0.20/32" not in one.kernel.prefixes()

    run(story)


def test_an_interface_that_comes_is_taken_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.kernel.interfaces.clear()
            one.start().write(one.wishes())
            await until(lambda: one.node.status()["synced"])
            assert one.state("port", "p1") == ("PENDING", "no interface tap-p1")
            await advance(100.0)
            one.kernel.plug("tap-p1")
            await advance(0.0)
            assert one.state("port", "p1") == ("ACTIVE", "")

    run(story)


# The end


def test_after_the_end_of_the_sessions_nothing_is_done_to_the_kernel(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2, more="restart_time_s = 0\n"), lab.site(2, 1, more="restart_time_s = 0\n")
            for site in (one, two):
                site.start().write(site.wishes())
            await until(lambda: "10.1.0.20/32" in one.kernel.prefixes() and one.node.status()["synced"])
            content = one.kernel.content()
            stop = asyncio.ensure_future(one.node.stop())
            await asyncio.sleep(0)
            one.node.write([Removal("association", "blue-n")])
            await stop
            await advance(200.0)
            assert one.kernel.content() == content
            one.close()
            assert not one.start().intent.associations.rows, "what was acknowledged is done at the next start"
            await until(lambda: not one.kernel.prefixes())

    run(story)


def test_a_drain_withdraws_all_and_empties_the_kernel(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two = lab.site(1, 2), lab.site(2, 1)
            for site in (one, two):
                site.start().write(site.wishes())
            await until(lambda: one.kernel.prefixes() and two.kernel.prefixes())
            with listening() as listener:
                one.node.write([scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    drain = asyncio.ensure_future(one.node.drain())
                    assert (await peer.expect_end())[-1].startswith("NOTIFICATION 6/2")
            assert await drain == []
            assert not any(one.kernel.rows.values())
            assert not any(one.kernel.routes.values())
            await until(lambda: "10.1.0.10/32" not in two.kernel.prefixes())
            assert one.fickle.load()[0], "what users want is kept"

    run(story)


def test_a_drain_tells_what_the_kernel_did_not_let_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start().write(one.wishes())
            await until(lambda: one.node.status()["synced"])
            (device,) = (key for key in one.kernel.rows["link"] if key.startswith("bv-vrf"))
            one.kernel.refuse("link", device)
            assert await one.node.drain() == [f"link {device}: link {device}: Invalid argument"]
            one.kernel.relent()
            one.kernel.fail("observe", times=10_000)
            assert await one.node.drain() == ["[Errno 105] observe: no answer"]

    run(story)


# What is told


def test_watchers_are_told_of_wishes_objects_and_sessions(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([*one.wishes(), scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say("END-OF-RIB vpnv4", "END-OF-RIB evpn")
                    await until(lambda: {"type": "session", "peer": SCRIPTED, "state": "established"} in one.told)
                    await until(lambda: one.node.status()["synced"])
                await until(lambda: one.session()["state"] == "active")
            one.node.write([Removal("association", "blue-n")])
            await until(lambda: not any(one.kernel.rows.values()))
            for event in (
                {"type": "changed", "kind": "port", "id": "p1", "name": "p1", "revision": 1},
                {"type": "kernel", "object": "attachment p1", "state": "active", "reason": ""},
                {"type": "session", "peer": SCRIPTED, "state": "active"},
                {"type": "removed", "kind": "association", "id": "blue-n"},
                {"type": "kernel", "object": "attachment p1", "state": "gone", "reason": ""},
            ):
                assert event in one.told

    run(story)


def test_a_watcher_that_left_is_told_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            leave = one.start().subscribe(lambda event: pytest.fail("told"))
            leave()
            leave()
            one.node.write(one.wishes())

    run(story)


def test_an_answer_to_many_changes_does_not_wait_for_what_comes_of_them(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start().write(one.wishes())
            assert one.node.status_of("port", "p1")["observed_revision"] == 1
            many = [port(f"m{n}", "n", f"10.1.0.{n + 100}") for n in range(100)]
            one.node.write([*many, attrs.evolve(one.node.intent.ports["p1"], name="new")])
            assert one.node.status_of("port", "p1")["observed_revision"] == 1
            assert one.node.status_of("port", "m1")["observed_revision"] == 0
            await until(lambda: one.node.status_of("port", "m1")["observed_revision"] == 1)
            assert one.node.status_of("port", "p1")["observed_revision"] == 2

    run(story)


# Errors of our own


def test_a_mistake_in_the_dataplane_is_logged_and_work_goes_on_after_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start()
            await until(lambda: one.node.status()["synced"])
            one.kernel.mistakes = 1
            one.node.write(one.wishes())
            assert "the kernel's state is not known: an internal error" in one.node.status()["degraded"]
            await asyncio.sleep(0.05)
            assert not one.kernel.prefixes()
            await advance(ERROR_PAUSE_S)
            await until(lambda: one.state("port", "p1") == ("ACTIVE", ""))
            assert one.node.status()["degraded"] == [
                "an error of bgpvpnd, which the log tells, may have left something undone; start it anew"
            ]

    run(story)
    (record,) = [record for record in caplog.records if "step=failed" in record.message]
    assert record.exc_info is not None


@pytest.mark.parametrize("where", ["kernel", "fickle"])
def test_a_mistake_that_stays_ends_no_session_and_is_no_loop(tmp_path: Path, where: str) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([scripted(listener)])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN.replace("as=64512", "as=64512 hold=9", 1))
                    await until(lambda: one.session()["state"] == "established")
                    mistaken: Kernel | Fickle = getattr(one, where)
                    mistaken.mistakes = 1000
                    one.node.write(one.wishes())
                    for _ in range(10):
                        for _ in range(10):
                            heard = one.session()["messages_in"]
                            await peer.say("KEEPALIVE")
                            await until(lambda heard=heard: one.session()["messages_in"] > heard)
                        await advance(3.1)
                        await peer.expect_later("KEEPALIVE")
                    assert one.session()["state"] == "established"
                    assert 2 < 1000 - mistaken.mistakes < 10
                    assert one.state("port", "p1")[0] == "PENDING"

    run(story)


def test_a_wish_that_cannot_be_worked_out_costs_nothing_in_the_kernel(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            store = FakeStore()
            one = lab.site(1, store=store)
            one.start().write(one.wishes())
            await until(lambda: one.node.status()["synced"])
            poison = port("poison", "n", "10.1.0.99")
            object.__setattr__(poison, "mac_address", "poison")
            one.node.write([poison])
            assert one.node.status()["degraded"]
            content = one.kernel.content()
            await one.stop()
            one.start()
            await advance(200.0)
            assert one.kernel.content() == content
            assert not one.node.status()["synced"]
            await advance(ERROR_PAUSE_S)
            one.node.write([Removal("port", "poison")])
            await one.stop()
            one.start()
            await until(lambda: one.node.status()["synced"] and one.state("port", "p1") == ("ACTIVE", ""))
            assert one.node.status()["degraded"] == []
            assert one.kernel.content() == content

    run(story)
