"""What goes wrong on a node and around it, with tenants' packets on their way; after each fault all is as it was."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from cli.api import ApiError, Unreachable
from lab.kernel_state import State
from lab.runner import Lab, eventually
from tests.fakes.scripted_peer import ScriptedPeer
from tests.interop.labs import HUB, Node, Site, bridged, connected, pinging, routed, star

BLUE, SEG = (routed("blue1", 1), routed("blue2", 2)), (bridged("seg1", 1), bridged("seg2", 2))
DAEMON = ("bgpvpnd", "--config", "/etc/bgpvpn/bgpvpn.toml")


def site(number: int) -> Site:
    return Site(number, (f'address = "192.0.2.{3 - number}"\nremote_as = 64512\n',))


@pytest.fixture(scope="module")
def bare() -> dict[str, State]:
    """What was in the kernels before anybody wanted anything."""
    return {}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, bare: dict[str, State]) -> Iterator[Lab]:
    with star(tmp_path_factory.mktemp("faults"), "faults", (site(1), site(2)), BLUE + SEG) as lab:
        for node in nodes(lab):
            bare[node.name] = node.kernel()
        for number, node in enumerate(nodes(lab)):
            node.join_l3(BLUE[number])
            node.join_l2(SEG[number])
        settled(lab)
        yield lab


def nodes(lab: Lab) -> tuple[Node, Node]:
    return Node(lab, 1), Node(lab, 2)


def settled(lab: Lab) -> None:
    """Wait until all tenants reach each other and nothing is left to be done."""
    connected(lab, "blue1", *BLUE[1].ips)
    connected(lab, "seg1", *SEG[1].ips)
    eventually(lambda: all(node.ready for node in nodes(lab)), 10, "all is settled")


def device(lab: Lab, beginning: str) -> str:
    """The first device of node1 whose name begins so."""
    links = lab.run("node1", "ip", "-brief", "link", "show").split("\n")
    return next(line.split()[0].partition("@")[0] for line in links if line.startswith(beginning))


def bridge(lab: Lab) -> str:
    """The bridge of the l3 VPN on node1."""
    return lab.run("node1", "ip", "-brief", "link", "show", "master", device(lab, "bv-vrf"), "type", "bridge").split()[
        0
    ]


def small_things(lab: Lab) -> list[str]:
    """One of each kind of row, on node1."""
    vrf, vxlan = device(lab, "bv-vrf"), device(lab, "bv-vx")
    route = lab.run("node1", "ip", "route", "show", "10.1.2.10/32", "vrf", vrf)
    label = lab.run("node1", "ip", "-f", "mpls", "route", "show").split()[0]
    return [
        f"ip route delete 2001:db8:2::10/128 vrf {vrf}",
        f"ip nexthop delete id {route.partition('nhid ')[2].split()[0]}",
        f"ip -f mpls route delete {label}",
        f"ip neighbour delete 10.1.1.10 dev {bridge(lab)}",
        f"ip address delete 10.1.1.1/24 dev {bridge(lab)}",
        f"bridge fdb delete {SEG[1].mac} dev {vxlan} self",
        f"bridge fdb delete 00:00:00:00:00:00 dev {vxlan} dst 192.0.2.2 self",
        "ip link set seg1 nomaster",
    ]


def tunnels(lab: Lab) -> list[str]:
    return [f"ip link delete {device(lab, beginning)}" for beginning in ("bv-gc", "bv-vx")]


def the_bridge(lab: Lab) -> list[str]:
    return [f"ip link delete {bridge(lab)}"]


def the_vrf(lab: Lab) -> list[str]:
    return [f"ip link delete {device(lab, 'bv-vrf')}"]


@pytest.mark.parametrize("things", [the_vrf, the_bridge, tunnels, small_things])
def test_what_others_delete_is_made_again(lab: Lab, things: Callable[[Lab], list[str]]) -> None:
    """At once the first time, and later and later while others go on deleting."""
    one, _ = nodes(lab)
    before = one.kernel()
    with pinging(lab, "blue1", BLUE[1].ips[0]) as pings:
        lab.run("node1", "sh", "-ec", "; ".join(things(lab)))
        one.comes_back_to(before, within_s=10)
    assert pings.answered
    settled(lab)


def test_route_of_others_in_our_table_is_reported_and_stays(lab: Lab) -> None:
    one, _ = nodes(lab)
    vrf = device(lab, "bv-vrf")
    lab.run("node1", "ip", "route", "add", "blackhole", "10.99.0.0/24", "vrf", vrf, "proto", "static")
    eventually(lambda: any("10.99.0.0/24" in each for each in one.api.get("kernel")["foreign"]), 5, "it is reported")
    lab.run("node1", "ip", "route", "delete", "10.1.2.10/32", "vrf", vrf)
    settled(lab)
    assert "10.99.0.0/24" in lab.run("node1", "ip", "route", "show", "vrf", vrf)
    lab.run("node1", "ip", "route", "delete", "blackhole", "10.99.0.0/24", "vrf", vrf)


@contextlib.contextmanager
def inside(lab: Lab, node: str) -> Iterator[None]:
    """Sockets that this thread opens meanwhile belong to the network namespace of a node."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{lab.plan.namespace(node)}", os.O_RDONLY)
    try:
        assert libc.setns(there, 0) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(there)


# A route to blue2, with a label that nobody has and a LOCAL_PREF by which it would win.
ORIGIN, AS_PATH, LOCAL_PREF = "40010100", "400200", "400504000000ff"
TARGET = "c010080002fc0000000064"
REACH = "800e21 0001 80 0c 0000000000000000c0000202 00 78 003e91 0000fc0000000009 0a01020a".replace(" ", "")
MALFORMED = {
    "ORIGIN of a value that is none": "40010109" + AS_PATH + LOCAL_PREF + TARGET + REACH,
    "ORIGIN with flags of an optional attribute": "c0010100" + AS_PATH + LOCAL_PREF + TARGET + REACH,
    "LOCAL_PREF of 3 octets": ORIGIN + AS_PATH + "4005030000ff" + TARGET + REACH,
    "route targets of 7 octets": ORIGIN + AS_PATH + LOCAL_PREF + "c010070002fc00000000" + REACH,
    "AS_PATH with a segment that is cut off": ORIGIN + "40020402030000" + LOCAL_PREF + TARGET + REACH,
    "no ORIGIN": AS_PATH + LOCAL_PREF + TARGET + REACH,
    "attributes that end in the middle of one": REACH + ORIGIN + AS_PATH + LOCAL_PREF + TARGET[:-2],
}
SHORT_MESSAGE = "RAW " + "ff" * 16 + "000502"  # shorter than a header can be


def test_peer_that_sends_malformed_updates_disturbs_nobody(lab: Lab) -> None:
    one, _ = nodes(lab)
    before, written = one.kernel(), one.messages()
    one.make("peers", "hostile", address=HUB, remote_as=64512, passive=True)

    async def story() -> None:
        with inside(lab, "hub"):
            peer = await ScriptedPeer.dial("192.0.2.1", 179, source=HUB)
        async with peer:
            await peer.establish(f"OPEN as=64512 hold=90 id={HUB} families=vpnv4,vpnv6,evpn refresh as4=64512")
            with pinging(lab, "blue1", BLUE[1].ips[0]) as pings:
                for number, attributes in enumerate(MALFORMED.values(), 1):
                    await peer.say(update(attributes))
                    await becomes(one, "malformed", number)
                assert one.session(HUB)["routes_in"] == {}
            assert pings.lost == 0
            assert (one.messages(), one.changes(before)) == (written, [])
            await peer.say(update(ORIGIN + AS_PATH + LOCAL_PREF + TARGET + REACH))
            await becomes(one, "routes_in", {"vpnv4": 1})  # so the others would have counted
            await peer.say(SHORT_MESSAGE)
            assert [text for text in await peer.expect_end() if text.startswith("NOTIFICATION 1/2")]

    try:
        asyncio.run(story())
    finally:
        one.api.delete("peers", "hostile")
    assert one.session("192.0.2.2")["flaps"] == 0
    settled(lab)
    one.comes_back_to(before)


def update(attributes: str) -> str:
    return f"UPDATE 0000 {len(attributes) // 2:04x} {attributes}"


async def becomes(node: Node, field: str, value: object) -> None:
    """Wait until a field of the session with the hub has a value."""
    await asyncio.to_thread(eventually, lambda: node.session(HUB)[field] == value, 5, f"{field} is {value}")


def start(node: Node) -> None:
    """Start a daemon, and wait until its API answers."""
    node.lab.spawn(node.name, "bgpvpnd", DAEMON)

    def answers() -> bool:
        try:
            return bool(node.api.get("status"))
        except ApiError:
            return False

    eventually(answers, 20, f"the daemon of {node.name} answers")


def test_second_daemon_on_one_state_directory_ends_at_once_and_names_the_first(lab: Lab) -> None:
    one, _ = nodes(lab)
    second = lab.call("node1", *DAEMON, timeout_s=20)
    assert second.returncode == 1
    assert f"in use by another bgpvpnd, process {one.pid}" in second.stderr
    assert one.ready


@pytest.mark.parametrize("lives", [5, pytest.param(20, marks=pytest.mark.long)])
def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(lab: Lab, lives: int) -> None:
    """So many lives of a daemon, each ended at a random moment of a burst of wishes."""
    two = nodes(lab)[1]
    before = two.kernel()
    chance = random.Random(lives)
    kept: dict[str, str] = {}  # name -> id
    for life in range(lives):
        ending = threading.Timer(chance.uniform(0.01, 0.3), os.kill, (two.pid, signal.SIGKILL))
        ending.start()
        doubtful: set[str] = set()
        with contextlib.suppress(Unreachable):
            for number in range(10_000):
                name = f"burst-{lives}-{life}-{number}"
                doubtful = {name}
                kept[name] = two.make("networks", name, subnets=[{"cidr": "10.50.0.0/24"}])["id"]
                if number % 3 == 2:
                    name, id_ = chance.choice(list(kept.items()))
                    doubtful = {name}
                    del kept[name]
                    two.api.delete("networks", id_)
        ending.join()
        lab.stop("node2", "bgpvpnd", signal.SIGKILL)
        start(two)
        there = {
            each["name"]: each["id"] for each in two.api.get("networks") if each["name"].startswith(f"burst-{lives}-")
        }
        assert {name: id_ for name, id_ in there.items() if name not in doubtful} == kept
        kept = there
    assert len(kept) > lives
    settled(lab)
    two.comes_back_to(before)


def test_drain_leaves_nothing_in_the_kernel_whether_the_daemon_runs_or_not(lab: Lab, bare: dict[str, State]) -> None:
    one, two = nodes(lab)
    before = one.kernel()
    for runs in (True, False):
        if not runs:
            lab.stop("node1", "bgpvpnd", signal.SIGKILL)
        lab.run("node1", *DAEMON, "--drain")
        one.comes_back_to(bare["node1"])
        if runs:
            eventually(lambda: not two.routes(), 5, "the other node has no routes of it")
        lab.stop("node1", "bgpvpnd")
        start(one)
        settled(lab)
        one.comes_back_to(before)


def test_daemon_ends_soon_beside_a_peer_that_hangs(lab: Lab) -> None:
    one, two = nodes(lab)
    os.kill(two.pid, signal.SIGSTOP)
    try:
        running = next(each for each in lab.running() if each.pid == one.pid)
        os.kill(one.pid, signal.SIGTERM)
        eventually(lambda: not running.alive, 2, "it has ended")
    finally:
        os.kill(two.pid, signal.SIGCONT)
    lab.stop("node1", "bgpvpnd")
    start(one)
    settled(lab)


def wish(node: Node, network: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=node.api.address)) as client:
        return client.post("http://node/v1/networks", json={"name": network})


def test_full_disk_refuses_wishes_and_nothing_else(lab: Lab) -> None:
    """The state of the node lies on a tmpfs with room for 64 KiB more."""
    two = nodes(lab)[1]
    state, kept = lab.folder / "node2/state", lab.folder / "kept"
    lab.stop("node2", "bgpvpnd")
    shutil.copytree(state, kept)
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in kept.rglob("*")) + 65536
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(state)], check=True)
    try:
        shutil.copytree(kept, state, dirs_exist_ok=True)
        start(two)
        settled(lab)
        taken = 0
        with pinging(lab, "blue1", BLUE[1].ips[0]) as pings:
            while (answer := wish(two, f"full-{taken}")).status_code == 201:
                taken += 1
            assert (answer.status_code, answer.json()["error"]["what"]) == (503, "unavailable")
            assert "the disk is full" in answer.json()["error"]["message"]
            there = {each["name"] for each in two.api.get("networks") if each["name"].startswith("full")}
            assert there == {f"full-{number}" for number in range(taken)}
            settled(lab)
            subprocess.run(["mount", "-o", f"remount,size={size * 4}", str(state)], check=True)
            assert wish(two, f"full-{taken}").status_code == 201
        assert pings.lost == 0
    finally:
        lab.stop("node2", "bgpvpnd")
        subprocess.run(["umount", str(state)], check=True)
    start(two)
    settled(lab)
