"""The demo: two nodes and an FRR PE behind a GoBGP route reflector, told as a story in which every sentence is checked.

Users of two nodes make VPNs, tenants ping through MPLS over GRE and through VXLAN, a tenant with stolen addresses gets
nowhere, the daemon of a node is killed in full traffic and comes back without a lost packet, and at last everything
is taken away again. Exit status 0 only if all of it held.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from lab.kernel_state import State, difference, kernel_state
from lab.runner import Lab, LabError, eventually, lab_of

FILE = Path(__file__).parent / "l3vpn-evpn" / "l3vpn-evpn.clab.yml"

NODES = {"node1": "192.0.2.11", "node2": "192.0.2.12"}
PE = "192.0.2.1"

BLUE = {
    "ce-pe": ("10.1.3.10", "2001:db8:3::10"),
    "blue1": ("10.1.1.10", "2001:db8:1::10"),
    "blue2": ("10.1.2.10", "2001:db8:2::10"),
}
"""The hosts of VPN blue, each with its IPv4 and IPv6 address. red1, in VPN red, has those of blue1."""

BLUE_PAIRS = (("blue1", "ce-pe"), ("blue1", "blue2"), ("blue2", "ce-pe"))

SEG1, SEG2 = "10.2.0.11", "10.2.0.12"
SEG2_MAC = "02:00:00:00:03:12"

WISHES = {
    "node1": """
create blue --type l3 --route-target 64512:100
create red --type l3 --route-target 64512:200
create seg --type l2 --route-target 64512:300 --vni 300
network create blue-net --subnet 10.1.1.0/24 --gateway 10.1.1.1 --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1
network create red-net --subnet 10.1.1.0/24 --gateway 10.1.1.1 --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1
network create seg-net --subnet 10.2.0.0/24
port create blue1 --network blue-net --interface blue1 --mac 02:00:00:00:01:10 --ip 10.1.1.10 --ip 2001:db8:1::10
port create red1 --network red-net --interface red1 --mac 02:00:00:00:02:10 --ip 10.1.1.10 --ip 2001:db8:1::10
port create seg1 --network seg-net --interface seg1 --mac 02:00:00:00:03:11 --ip 10.2.0.11
bind blue-net blue
bind red-net red
bind seg-net seg
""",
    "node2": """
create blue --type l3 --route-target 64512:100
create seg --type l2 --route-target 64512:300 --vni 300
network create blue-net --subnet 10.1.2.0/24 --gateway 10.1.2.1 --subnet 2001:db8:2::/64 --gateway 2001:db8:2::1
network create seg-net --subnet 10.2.0.0/24
port create blue2 --network blue-net --interface blue2 --mac 02:00:00:00:01:20 --ip 10.1.2.10 --ip 2001:db8:2::10
port create seg2 --network seg-net --interface seg2 --mac 02:00:00:00:03:12 --ip 10.2.0.12
bind blue-net blue
bind seg-net seg
""",
}
"""What the users of each node say to the `bgpvpn` command."""

STREAM_RATE = 100  # packets a second
STREAM_S = 30  # the daemon is killed in the first seconds and must be back long before the last


@attrs.frozen
class Check:
    """One line of the table at the end."""

    what: str
    held: bool
    seen: str


class Story:
    """A lab that is up, and what has been checked in it so far."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.checks: list[Check] = []

    def check(self, what: str, held: bool, seen: str = "") -> None:
        """Note for the table whether something held, and what was seen."""
        self.checks.append(Check(what, held, seen))
        print(f"  {'ok    ' if held else 'FAILED'}  {what}" + (f": {seen}" if seen else ""), flush=True)

    def within(self, seconds: float, what: str, fact: Callable[[], bool]) -> None:
        """Check that something comes true in a time, and note when it did."""
        began = time.monotonic()
        try:
            eventually(fact, seconds, what)
        except LabError as error:
            self.check(what, False, str(error).removesuffix(f": {what}"))
        else:
            self.check(what, True, f"after {time.monotonic() - began:.1f} s")

    def show(self, node: str, *command: str) -> None:
        """Run a command in a node and print it with its output."""
        print(f"\n  {node}$ {' '.join(command)}")
        for line in self.lab.run(node, *command).rstrip().splitlines():
            print(f"    {line}".rstrip())
        print(flush=True)

    def say(self, node: str, words: str) -> None:
        """Run a command of our own CLI in a node, and print it."""
        print(f"  {node}$ bgpvpn {words}", flush=True)
        self.lab.run(node, "bgpvpn", *words.split())

    def ask(self, node: str, *words: str) -> Any:
        """What our own CLI answers in JSON."""
        return json.loads(self.lab.run(node, "bgpvpn", "-f", "json", *words))

    def answered(self, source: str, address: str, count: int = 3) -> int:
        """How many of some pings are answered."""
        ping = self.lab.call(source, "ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "1", address)
        return _number(r"(\d+) received", ping.stdout)

    def echoes(self, node: str) -> int:
        """How many echo requests, over IPv4 and IPv6, the kernel of a node has heard so far."""
        lines = self.lab.run(node, "cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Icmp: "))
        v6 = _number(r"(?m)^Icmp6InEchos\s+(\d+)", self.lab.run(node, "cat", "/proc/net/snmp6"))
        return int(dict(zip(names, values, strict=True))["InEchos"]) + v6

    @contextlib.contextmanager
    def heard(self, node: str, interface: str, what: str) -> Iterator[list[str]]:
        """The packets of a kind (a filter of tcpdump) that pass an interface meanwhile; there after the `with`."""
        packets: list[str] = []
        command = ("tcpdump", "-n", "-l", "--immediate-mode", "-i", interface, what)
        with self.lab.popen(node, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as dump:
            said = iter(dump.stderr or ())
            if not any("listening on" in line for line in said):
                raise LabError(f"{node}: tcpdump does not listen on {interface}")
            yield packets
            time.sleep(0.5)  # what is still on its way
            dump.send_signal(signal.SIGINT)
            packets += filter(None, dump.communicate()[0].splitlines())  # the last line of an interrupted one is empty


def tell(story: Story) -> None:
    """The story, in order; LabError when it cannot go on."""
    bare = {node: kernel_state(story.lab, node) for node in NODES}
    sessions(story)
    wishes(story)
    routes(story)
    blue(story)
    segment(story)
    isolation(story)
    restart(story)
    farewell(story, bare)


def sessions(story: Story) -> None:
    """Everybody is a client of the route reflector."""
    chapter("The sessions: node1, node2 and the FRR PE are clients of the GoBGP route reflector")
    for node in NODES:
        story.within(30, f"{node} has a session with the reflector", partial(established, story, node))
    story.within(30, "the PE has a session with the reflector", lambda: reflector_has_session(story.lab, PE))
    story.show("rr", "gobgp", "neighbor")
    story.show("node1", "bgpvpn", "show", "sessions")


def wishes(story: Story) -> None:
    """What the users want."""
    chapter("Users make VPNs, networks and ports on both nodes, and bind networks to VPNs")
    for node, lines in WISHES.items():
        for words in lines.strip().splitlines():
            story.say(node, words)
    story.show("node1", "bgpvpn", "list")


def routes(story: Story) -> None:
    """The routes are at every end."""
    chapter("The routes arrive everywhere")
    for node in NODES:
        story.within(30, f"{node} is in sync", partial(synced, story, node))
    for source, target in BLUE_PAIRS:
        for address in BLUE[target]:
            story.within(30, f"{source} reaches {target} at {address}", partial(reaches, story, source, address))
    story.within(30, "seg1 reaches seg2", partial(reaches, story, "seg1", SEG2))
    story.show("node1", "bgpvpn", "show", "routes")
    story.show("pe", "vtysh", "-c", "show bgp ipv4 vpn", "-c", "show ipv6 route vrf blue")
    story.show("rr", "gobgp", "global", "rib", "-a", "evpn")
    story.show("node1", "bgpvpn", "show", "kernel")


def blue(story: Story) -> None:
    """L3VPN."""
    chapter("VPN blue: L3VPN with MPLS over GRE, IPv4 and IPv6")
    for source, target in BLUE_PAIRS:
        for address in BLUE[target]:
            answered = story.answered(source, address)
            story.check(f"{source} pings {target} at {address}", answered == 3, f"{answered} of 3 answered")
    with story.heard("rr", "eth2", "ip proto gre") as packets:
        story.answered("blue1", BLUE["ce-pe"][0])
    labels = {found[1] for line in packets if (found := re.search(r"MPLS \(label (\d+)", line))}
    story.check(
        "they travel as MPLS in GRE", len(labels) == 2, f"{len(packets)} packets, labels {' '.join(sorted(labels))}"
    )


def segment(story: Story) -> None:
    """EVPN."""
    lab = story.lab
    chapter("VPN seg: one Ethernet segment over both nodes, EVPN and VXLAN")
    entries = lab.run("node1", "bridge", "fdb", "show").splitlines()
    learned = [line for line in entries if line.startswith(SEG2_MAC) and f"dst {NODES['node2']}" in line]
    story.check("node1 has the MAC address of seg2 from BGP", bool(learned), learned[0] if learned else "no such entry")
    lab.run("seg1", "ip", "neighbour", "flush", "all")
    with story.heard("seg2", "eth1", f"arp[6:2] = 1 and ether broadcast and arp src host {SEG1}") as requests:
        answered = story.answered("seg1", SEG2)
    known = lab.run("seg1", "ip", "neighbour", "show", SEG2).strip()
    story.check("seg1 pings seg2", answered == 3, f"{answered} of 3 answered")
    story.check(
        "the ARP request of seg1 is answered on node1, and seg2 does not hear it",
        not requests and SEG2_MAC in known,
        f"{len(requests)} heard; seg1 knows {known}",
    )


def isolation(story: Story) -> None:
    """Two tenants with the same addresses."""
    chapter("VPN red: red1 has the addresses of blue1, on the same node, and neither notices")
    before = {host: story.echoes(host) for host in ("red1", "blue1")}
    answered = sum(story.answered("ce-pe", address) for address in BLUE["blue1"])
    heard = {host: story.echoes(host) - count for host, count in before.items()}
    story.check(
        "pings of ce-pe to those addresses reach blue1 and not red1",
        answered == 6 and heard == {"red1": 0, "blue1": 6},
        f"of 6, blue1 heard {heard['blue1']}, red1 {heard['red1']}",
    )
    others = ("ce-pe", "blue2")
    before = {host: story.echoes(host) for host in others}
    answered = sum(story.answered("red1", address) for host in others for address in BLUE[host])
    heard_by_others = sum(story.echoes(host) - count for host, count in before.items())
    story.check(
        "red1 reaches nobody in VPN blue",
        answered == 0 == heard_by_others,
        f"of 12, {answered} were answered, {heard_by_others} heard",
    )


def restart(story: Story) -> None:
    """The daemon dies and comes back."""
    lab = story.lab
    chapter("The daemon of node1 is killed (SIGKILL) in full traffic, and started again")
    before = kernel_state(lab, "node1")
    streams = {
        "through the L3VPN, ce-pe to blue1": stream(lab, "ce-pe", "blue1", BLUE["blue1"][0]),
        "through the EVPN, seg2 to seg1": stream(lab, "seg2", "seg1", SEG1),
    }
    time.sleep(3)
    killed = time.monotonic()
    lab.stop("node1", "bgpvpnd", signal.SIGKILL)
    print("  node1: bgpvpnd is killed")
    time.sleep(2)
    lab.start("node1")
    story.within(30, "node1 has a session with the reflector again", partial(established, story, "node1"))
    story.within(30, "node1 is in sync again", partial(synced, story, "node1"))
    print(f"  {time.monotonic() - killed:.1f} s after the kill")
    changed = difference(before, kernel_state(lab, "node1"))
    lines = sum(len(kind) for kind in before.values())
    story.check("its kernel state is what it was", not changed, f"{len(changed)} of {lines} lines differ")
    for line in changed[:10]:
        print(f"      {line}")
    for where, sender in streams.items():
        outlived = sender.poll() is None
        counted = json.loads(sender.communicate(timeout=STREAM_S + 60)[0])
        sent, lost = counted["sent"], counted["lost"]
        story.check(
            f"{STREAM_RATE} packets a second {where}: none is lost",
            outlived and not lost,
            f"{sent} sent and answered, {len(lost)} lost {lost[:10] or ''}"
            + ("" if outlived else "; the stream ended too early to tell"),
        )


def farewell(story: Story, bare: dict[str, State]) -> None:
    """Everything is taken away."""
    lab = story.lab
    chapter("Everything is unbound")
    for node, lines in WISHES.items():
        for words in lines.strip().splitlines():
            if words.startswith("bind "):
                story.say(node, f"un{words}")
    story.within(20, "the reflector has no route of the nodes", lambda: not routes_of_nodes(lab))
    story.within(20, "the PE has no route to blue1", lambda: "10.1.1." not in vrf_blue(lab))
    for node, state in bare.items():
        story.within(20, f"nothing is left in the kernel of {node}", partial(same, lab, node, state))
        for line in difference(state, kernel_state(lab, node))[:10]:
            print(f"      {line}")
    unreached = not reaches(story, "blue1", BLUE["ce-pe"][0]) and not reaches(story, "seg1", SEG2)
    story.check("blue1 and seg1 reach nobody any more", unreached)


def established(story: Story, node: str) -> bool:
    """Whether every session of a node is established, by its own word and by the reflector's."""
    own = story.ask(node, "show", "sessions")
    return (
        bool(own)
        and all(session["state"].lower() == "established" for session in own)
        and reflector_has_session(story.lab, NODES[node])
    )


def reflector_has_session(lab: Lab, address: str) -> bool:
    """Whether the reflector has a session with an address."""
    lines = lab.run("rr", "gobgp", "neighbor").splitlines()
    return any(line.split()[0] == address and "Establ" in line for line in lines if line)


def synced(story: Story, node: str) -> bool:
    """Whether a node has heard everything that its peers have to say."""
    return bool(story.ask(node, "show", "status")["synced"])


def reaches(story: Story, source: str, address: str) -> bool:
    """Whether a single ping is answered."""
    return story.answered(source, address, 1) == 1


def same(lab: Lab, node: str, state: State) -> bool:
    """Whether the kernel of a node is in a state."""
    return not difference(state, kernel_state(lab, node))


def routes_of_nodes(lab: Lab) -> list[str]:
    """The routes at the reflector that the nodes announced."""
    tables = (lab.run("rr", "gobgp", "global", "rib", "-a", family) for family in ("vpnv4", "vpnv6", "evpn"))
    return [line for text in tables for line in text.splitlines() if any(node in line for node in NODES.values())]


def vrf_blue(lab: Lab) -> str:
    """The routes in the kernel of the PE for VPN blue."""
    return lab.run("pe", "ip", "route", "show", "vrf", "blue")


def stream(lab: Lab, source: str, target: str, address: str) -> subprocess.Popen[str]:
    """A numbered stream from a host to another and back (lab/stream.py); its output is what was sent and lost."""
    program = (sys.executable, str(Path(__file__).parent / "stream.py"))
    lab.spawn(target, "echo", (*program, "echo", address, "9000"))
    eventually(lambda: ":9000 " in lab.run(target, "ss", "-lun"), 10, f"{target} sends packets back")
    return lab.popen(source, *program, "send", address, "9000", str(STREAM_RATE), str(STREAM_S), stdout=subprocess.PIPE)


def chapter(title: str) -> None:
    """Begin a new part of the story."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def main() -> int:
    """Tell the story and print the table; 0 only if every check held."""
    began = time.monotonic()
    print("Bringing up lab/l3vpn-evpn: GoBGP, FRR, two nodes with bgpvpnd, six hosts", flush=True)
    checks: list[Check] = []
    try:
        with lab_of(FILE) as lab:
            print(f"up after {time.monotonic() - began:.0f} s")
            story = Story(lab)
            checks = story.checks
            tell(story)
    except (LabError, OSError, ValueError, KeyError) as error:
        print(f"\nThe story ends early: {error if isinstance(error, LabError) else repr(error)}")
        checks.append(Check("the story is told to its end", False, ""))
    namespaces = [path.name for path in Path("/run/netns").glob("l3vpn-evpn-*")]
    checks.append(Check("nothing is left of the lab", not namespaces, " ".join(namespaces)))

    chapter("What was checked")
    width = max(len(check.what) for check in checks)
    for check in checks:
        print(f"{'ok    ' if check.held else 'FAILED'}  {check.what:<{width}}  {check.seen}".rstrip())
    failed = sum(not check.held for check in checks)
    print(f"\n{len(checks) - failed} of {len(checks)} checks held, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
