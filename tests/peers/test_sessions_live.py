"""Sessions of ours with FRR's bgpd and with gobgpd, alone: each in a network namespace behind a veth, no routes.

Only what the peers themselves can show is asked here: that their OPEN and ours suit each other, in both directions,
over IPv4 and IPv6, signed and with TTL security, and that they read the NOTIFICATION with which we end; and what came
to BGP later, where they have it: roles, several paths, extended messages, what a NOTIFICATION does to routes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import pytest

from speaker.peer import Peer
from speaker.session import Negotiated, Settings
from speaker.sockets import Endpoint
from speaker.transport import Transport
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update, end_of_rib

LIMIT_S = 30.0
PORT = 1790
THEIR_AS = {True: 64512, False: 64513}
FRR_FAMILIES = {"vpnv4": "ipv4 vpn", "vpnv6": "ipv6 vpn", "evpn": "l2vpn evpn"}
GOBGP_FAMILIES = {"vpnv4": "l3vpn-ipv4-unicast", "vpnv6": "l3vpn-ipv6-unicast", "evpn": "l2vpn-evpn", "rtc": "rtc"}


@attrs.frozen
class Case:
    """How the two ends are configured."""

    program: str
    version: int = 4
    ibgp: bool = True
    we_connect: bool = True
    they_connect: bool = False
    password: str = ""
    ttl_security: bool = False
    hold_s: int = 3
    modern: bool = False  # all that the program has beyond the classic capabilities
    long_open: bool = False  # its OPEN has the extended form (RFC 9072)

    def __str__(self) -> str:
        words = [self.program, f"ipv{self.version}", "ibgp" if self.ibgp else "ebgp"]
        words.append(
            {(True, True): "both", (True, False): "we-connect"}.get(
                (self.we_connect, self.they_connect), "they-connect"
            )
        )
        return "-".join(
            [
                *words,
                *(["modern"] if self.modern else []),
                *(["md5"] if self.password else []),
                *(["gtsm"] if self.ttl_security else []),
            ]
        )


CASES = [
    Case("frr"),
    Case("frr", they_connect=True),
    Case("frr", version=6, ibgp=False, ttl_security=True),
    Case("gobgp", they_connect=True),
    Case("gobgp", version=6, ibgp=False, password="secret"),
]
LONG_CASES = [
    Case("frr", we_connect=False, they_connect=True),
    Case("frr", ibgp=False, ttl_security=True),
    Case("frr", ibgp=False, they_connect=True, password="secret"),
    Case("frr", version=6, ibgp=False),
    Case("frr", version=6, we_connect=False, they_connect=True, password="secret"),
    Case("frr", version=6, ibgp=False, ttl_security=True, they_connect=True),
    Case("gobgp"),
    Case("gobgp", we_connect=False, they_connect=True),
    Case("gobgp", ibgp=False, password="secret"),
    Case("gobgp", version=6, ibgp=False, ttl_security=True),
    Case("gobgp", version=6, we_connect=False, they_connect=True, password="secret"),
]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Remote:
    """A peer program in a namespace of its own, joined to ours by a veth; everything goes away with `close`."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.folder = folder
        suffix = secrets.token_hex(3)
        self.namespace, self.link = f"live-{suffix}", f"live{suffix}"
        number = secrets.randbelow(250)
        self.ours, self.theirs = (
            (f"198.18.{number}.1", f"198.18.{number}.2")
            if case.version == 4
            else (f"fd00:198:18:{number:x}::1", f"fd00:198:18:{number:x}::2")
        )
        self.process: subprocess.Popen[bytes] | None = None

    def join(self) -> None:
        """Make the namespace and the link."""
        case = self.case
        run("ip", "netns", "add", self.namespace)
        self._inside("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        length, nodad = ("30", []) if case.version == 4 else ("64", ["nodad"])
        run("ip", "address", "add", f"{self.ours}/{length}", "dev", self.link, *nodad)
        run("ip", "link", "set", self.link, "up")
        self._inside("ip", "address", "add", f"{self.theirs}/{length}", "dev", "eth0", *nodad)
        self._inside("ip", "link", "set", "eth0", "up")

    def _inside(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, *command)

    def start(self) -> None:
        """Start the program; it answers when this returns."""
        command = self._frr() if self.case.program == "frr" else self._gobgp()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + LIMIT_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.neighbour()
        except (subprocess.CalledProcessError, KeyError, ValueError):
            return False
        return True

    def _frr(self) -> list[str]:
        case, families = self.case, FRR_FAMILIES.values()
        lines = [
            f"router bgp {THEIR_AS[case.ibgp]}",
            " bgp router-id 192.0.2.2",
            " no bgp default ipv4-unicast",
            " no bgp ebgp-requires-policy",
            " bgp graceful-restart",
            f" neighbor {self.ours} remote-as 64512",
            f" neighbor {self.ours} timers 3 9",
            f" neighbor {self.ours} timers connect 1",
        ]
        if not case.they_connect:
            lines.append(f" neighbor {self.ours} passive")
        else:
            lines.append(f" neighbor {self.ours} port {PORT}")
        if case.password:
            lines.append(f" neighbor {self.ours} password {case.password}")
        if case.ttl_security:
            lines.append(f" neighbor {self.ours} ttl-security hops 1")
        if case.modern:
            lines += [" bgp graceful-restart notification"]
            lines += [] if case.long_open else [f" neighbor {self.ours} local-role provider"]
        lines += [f" neighbor {self.ours} extended-optional-parameters"] if case.long_open else []
        for family in families:
            lines += [f" address-family {family}", f"  neighbor {self.ours} activate"]
            lines += [f"  neighbor {self.ours} addpath-tx-all-paths"] if case.modern else []
            lines += [" exit-address-family"]
        (self.folder / "bgpd.conf").write_text("\n".join(lines) + "\n")
        shutil.chown(self.folder, "frr", "frr")
        self.folder.chmod(0o755)
        folder = str(self.folder)
        return [
            *("/usr/lib/frr/bgpd", "-Z", "-f", f"{folder}/bgpd.conf", "-i", f"{folder}/pid", "--vty_socket", folder),
            *("-A", "127.0.0.1", "--log", "stdout", "-S", "-u", "frr", "-g", "frr"),
        ]

    def _gobgp(self) -> list[str]:
        case = self.case
        lines = [
            "[global.config]",
            f"as = {THEIR_AS[case.ibgp]}",
            'router-id = "192.0.2.2"',
            "[[neighbors]]",
            "[neighbors.config]",
            f'neighbor-address = "{self.ours}"',
            "peer-as = 64512",
            *([f'auth-password = "{case.password}"'] if case.password else []),
            "[neighbors.timers.config]",
            "hold-time = 9",
            "keepalive-interval = 3",
            "connect-retry = 1",
            "idle-hold-time-after-reset = 1",
            "[neighbors.transport.config]",
            f"passive-mode = {'false' if case.they_connect else 'true'}",
            f"remote-port = {PORT}",
            *(["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"] if case.ttl_security else []),
            "[neighbors.graceful-restart.config]",
            "enabled = true",
            "restart-time = 20",
            *(["notification-enabled = true", "long-lived-enabled = true"] if case.modern else []),
        ]
        for family in GOBGP_FAMILIES.values():
            lines += [
                "[[neighbors.afi-safis]]",
                "[neighbors.afi-safis.config]",
                f'afi-safi-name = "{family}"',
                "[neighbors.afi-safis.mp-graceful-restart.config]",
                "enabled = true",
            ]
            if case.modern and family != "rtc":
                lines += [
                    "[neighbors.afi-safis.long-lived-graceful-restart.config]",
                    "enabled = true",
                    "restart-time = 3600",
                    "[neighbors.afi-safis.add-paths.config]",
                    "receive = true",
                    "send-max = 4",
                ]
        (self.folder / "gobgpd.toml").write_text("\n".join(lines) + "\n")
        return ["gobgpd", "-f", str(self.folder / "gobgpd.toml"), "--log-plain"]

    def neighbour(self) -> dict[str, object]:
        """What the program says of us."""
        if self.case.program == "frr":
            found: dict[str, object] = json.loads(self.command("show bgp neighbors json"))[self.ours]
            return found
        listed = json.loads(self._inside("gobgp", "-j", "neighbor"))
        return next(each for each in listed if each["conf"]["neighbor_address"] == self.ours)

    def command(self, *lines: str) -> str:
        """Say something to FRR's shell, or one line to gobgp."""
        if self.case.program != "frr":
            return self._inside("gobgp", *lines)
        said = [word for line in lines for word in ("-c", line)]
        return self._inside("vtysh", "--vty_socket", str(self.folder), "-d", "bgpd", *said)

    def established(self) -> bool:
        """Whether the program holds the session for established."""
        neighbour = self.neighbour()
        if self.case.program == "frr":
            return neighbour["bgpState"] == "Established"
        state = neighbour["state"]
        assert isinstance(state, dict)
        return state.get("session_state") == 6

    def end(self, number: signal.Signals) -> None:
        """End the program with a signal."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(LIMIT_S)
            self.process = None

    def close(self) -> None:
        self.end(signal.SIGKILL)
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)


class Ledger:
    """Routes that note what happens, and say End-of-RIB for every family."""

    def __init__(self) -> None:
        self.ups = 0
        self.downs: list[bool] = []
        self.ends: set[Family] = set()
        self.lost = asyncio.Event()
        self._to_say: list[bytes] = []

    def up(self, negotiated: Negotiated, now: float) -> None:
        self.ups += 1
        self.ends = set()
        self._to_say = [end_of_rib(family) for family in sorted(negotiated.families)]

    def update(self, update: Update, now: float) -> None:
        assert not update.errors
        if update.end_of_rib is not None:
            self.ends.add(update.end_of_rib)

    def refresh(self, family: Family, now: float) -> None: ...

    def refreshing(self, family: Family, begins: bool, now: float) -> None: ...

    def disable(self, family: Family, now: float) -> None: ...

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        self.downs.append(graceful)
        self.lost.set()

    def output(self, budget: int) -> bytes:
        return self._to_say.pop(0) if self._to_say else b""


@contextmanager
def running(case: Case) -> Iterator[Remote]:
    """A peer program as a case wants it."""
    folder = Path("/run") / f"live-{secrets.token_hex(4)}"
    folder.mkdir()
    remote = Remote(case, folder)
    try:
        remote.join()
        remote.start()
        yield remote
    finally:
        remote.close()
        shutil.rmtree(folder)


@pytest.fixture(params=[*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in LONG_CASES)], ids=str)
def remote(request: pytest.FixtureRequest) -> Iterator[Remote]:
    with running(request.param) as remote:
        yield remote


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact about programs that tell nothing by themselves."""
    async with asyncio.timeout(LIMIT_S):
        while not await asyncio.to_thread(fact):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def test_a_session_with_a_live_peer(remote: Remote) -> None:
    case = remote.case
    families = FRR_FAMILIES if case.program == "frr" else GOBGP_FAMILIES

    async def story() -> None:
        settings = Settings(
            local_as=64512,
            remote_as=THEIR_AS[case.ibgp],
            router_id=bytes((192, 0, 2, 1)),
            families=tuple(Family.parse(name) for name in families),
            hold_time_s=case.hold_s,
            restart_time_s=20,
            passive=not case.we_connect,
            host_name="ours",
        )
        routes = Ledger()
        transport = Transport([(remote.ours, PORT)], pump=lambda: None, busy=lambda: False)
        peer = Peer(remote.theirs, settings, routes, Interner(), lambda: 0.5)
        endpoint = Endpoint(
            address=remote.theirs,
            source=remote.ours,
            password=case.password.encode() or None,
            ttl_security_hops=1 if case.ttl_security else None,
        )
        transport.add_peer(peer, endpoint)
        transport.start()
        try:
            await until(lambda: peer.state == "established" and remote.established())
            negotiated = peer.negotiated
            assert negotiated is not None
            assert negotiated.families == set(settings.families)
            assert (negotiated.as4, negotiated.route_refresh, negotiated.hold_s) == (True, True, case.hold_s)
            assert negotiated.graceful is not None
            await until(lambda: routes.ends >= negotiated.families - {Family.RTC})

            remote.end(signal.SIGKILL)
            await asyncio.wait_for(routes.lost.wait(), 1.0)
            assert routes.downs[-1] is bool(negotiated.graceful.forwarding)
            remote.start()
            await until(lambda: peer.state == "established" and remote.established())

            await asyncio.sleep(1.2 * case.hold_s)  # KEEPALIVEs of both ends keep it
            assert (peer.state, remote.established(), len(routes.downs)) == ("established", True, 1)
            transport.disable_peer(remote.theirs, "live test")
            await until(lambda: not remote.established())
            if case.program == "frr":
                assert "Cease/Administrative Shutdown" in str(remote.neighbour().get("lastNotificationReason"))
        finally:
            await transport.stop(graceful=False)

    asyncio.run(story())


@asynccontextmanager
async def speaking(remote: Remote, settings: Settings) -> AsyncIterator[tuple[Transport, Peer, Ledger]]:
    """Our end, connecting to a program."""
    routes = Ledger()
    transport = Transport([], pump=lambda: None, busy=lambda: False)
    peer = Peer(remote.theirs, settings, routes, Interner(), lambda: 0.5)
    transport.add_peer(peer, Endpoint(address=remote.theirs))
    transport.start()
    try:
        yield transport, peer, routes
    finally:
        await transport.stop(graceful=False)


MODERN = Settings(
    local_as=64512,
    remote_as=64513,
    router_id=bytes((192, 0, 2, 1)),
    families=(Family.VPNV4, Family.VPNV6, Family.EVPN),
    hold_time_s=9,
    restart_time_s=20,
    long_lived_s=60,
    add_path_receive=frozenset({Family.VPNV4, Family.EVPN}),
    add_path_send=frozenset({Family.VPNV4}),
)


def test_FRR_agrees_on_what_came_to_BGP_later_and_a_NOTIFICATION_does_to_routes_what_both_say() -> None:
    async def story() -> None:
        settings = attrs.evolve(MODERN, role="customer", strict_role=True)
        async with speaking(remote, settings) as (transport, peer, routes):
            await until(lambda: peer.state == "established" and remote.established())
            agreed = peer.negotiated
            assert agreed is not None
            assert (agreed.role, agreed.message_limit, agreed.enhanced_refresh) == ("customer", 65535, True)
            assert agreed.graceful_notification
            assert set(agreed.long_lived) == set(settings.families)
            assert agreed.add_path_receive == {Family.VPNV4, Family.EVPN}
            assert agreed.add_path_send == {Family.VPNV4}
            theirs = remote.neighbour()
            capabilities = theirs["neighborCapabilities"]
            assert isinstance(capabilities, dict)
            for name in ("extendedMessage", "role", "longLivedGracefulRestart", "enhancedRouteRefresh"):
                assert capabilities[name] == "advertisedAndReceived", name
            assert (theirs["localRole"], theirs["remoteRole"]) == ("provider", "customer")
            assert "'nBit': True" in str(theirs["gracefulRestartInfo"])

            at = ("configure terminal", f"router bgp {THEIR_AS[False]}")
            remote.command(*at, "no bgp hard-administrative-reset", "end", f"clear bgp {remote.ours}")
            await until(lambda: len(routes.downs) == 1)
            assert "the peer sent Cease, administrative reset (6/4)" in peer.counters.last_down
            assert routes.downs == [True], "the routes stay"
            await until(lambda: peer.state == "established" and remote.established())

            remote.command(*at, f"neighbor {remote.ours} shutdown message new cable")
            await until(lambda: len(routes.downs) == 2)
            assert routes.downs == [True, False], "a hard reset"
            assert "hard reset (6/9): Cease, administrative shutdown (6/2): 'new cable'" in peer.counters.last_down
            remote.command(*at, f"no neighbor {remote.ours} shutdown")
            await until(lambda: peer.state == "established" and remote.established())

            transport.disable_peer(remote.theirs, "live test")
            await until(lambda: not remote.established())
            theirs = remote.neighbour()
            assert (theirs["lastErrorCodeSubcode"], theirs["lastNotificationHardReset"]) == ("0602", True)
            assert theirs["lastShutdownDescription"] == "live test"

    with running(Case("frr", ibgp=False, modern=True)) as remote:
        asyncio.run(story())


def test_FRR_of_a_role_that_does_not_fit_is_refused() -> None:
    async def story() -> None:
        async with speaking(remote, attrs.evolve(MODERN, role="peer")) as (_, peer, routes):
            await until(lambda: "role mismatch (2/11)" in peer.counters.last_error)
            assert routes.ups == 0

    with running(Case("frr", ibgp=False, modern=True)) as remote:
        asyncio.run(story())


def test_GoBGP_agrees_on_what_came_to_BGP_later_and_a_NOTIFICATION_does_to_routes_what_both_say() -> None:
    async def story() -> None:
        async with speaking(remote, MODERN) as (_, peer, routes):
            await until(lambda: peer.state == "established" and remote.established())
            agreed = peer.negotiated
            assert agreed is not None
            assert agreed.graceful_notification
            assert dict(agreed.long_lived) == dict.fromkeys(MODERN.families, (False, 3600))
            assert agreed.add_path_receive == {Family.VPNV4, Family.EVPN}
            assert agreed.add_path_send == {Family.VPNV4}

            remote.command("neighbor", remote.ours, "reset", "--reason", "new cable")
            await until(lambda: len(routes.downs) == 1)
            assert "'new cable'" in peer.counters.last_down
            assert routes.downs == [True], "GoBGP sends no hard reset"

    with running(Case("gobgp", ibgp=False, modern=True)) as remote:
        asyncio.run(story())


def test_FRR_reads_an_OPEN_that_is_too_long_for_the_old_form_and_we_read_its_own() -> None:  # RFC 9072
    # Not with a role: FRR 8.4 writes that with a length of one octet among others of two.
    async def story() -> None:
        families = tuple(Family)
        several = frozenset(families) - {Family.RTC}
        settings = attrs.evolve(MODERN, families=families, add_path_receive=several, add_path_send=several)
        async with speaking(remote, attrs.evolve(settings, host_name="ours" * 15)) as (_, peer, _):
            await until(lambda: peer.state == "established" and remote.established())
            agreed = peer.negotiated
            assert agreed is not None
            for message in (agreed.open_sent, agreed.open_received):
                assert message[28:30] == b"\xff\xff", "the marks of the extended form"
            assert len(agreed.open_sent) > 29 + 255
            assert agreed.families == {Family.VPNV4, Family.VPNV6, Family.EVPN}
            assert remote.neighbour()["extendedOptionalParametersLength"]

    with running(Case("frr", ibgp=False, modern=True, long_open=True)) as remote:
        asyncio.run(story())
