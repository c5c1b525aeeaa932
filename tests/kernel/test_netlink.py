from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable, Iterator

import pytest

from bgpvpn.dataplane.netlink import Netlink
from bgpvpn.dataplane.rows import (
    NEXTHOP_BASE,
    PROTOCOL,
    UNREACHABLE_METRIC,
    Actual,
    Attached,
    BridgeLink,
    Group,
    Key,
    Kind,
    Leaf,
    MplsRoute,
    Operation,
    Scope,
    TunnelLink,
    Value,
    VrfLink,
    VxlanLink,
)
from tests.kernel.namespaces import inside, ip, namespaces, prefix, sh, within

NODE = "rows-node"
GATEWAY_MAC, MAC, OTHER_MAC, THIRD_MAC = (bytes((2, 0, 0, 0, 0, last)) for last in range(1, 5))
BLUE = VrfLink("bgpvpn:vrf:blue", 100)
TUNNEL = TunnelLink("bgpvpn:tunnel:c0000202", ip("192.0.2.1"), ip("192.0.2.2"))
BRIDGE = BridgeLink("bgpvpn:bridge:net", GATEWAY_MAC, 1450, "bv-vrf100", gateway=True)
VXLAN = VxlanLink("bgpvpn:vxlan:5", 5, ip("192.0.2.1"), 4789, "bv-br1")
ONE = NEXTHOP_BASE + 1
GROUP = NEXTHOP_BASE + 20

ROWS: list[tuple[Kind, Key, Value]] = [
    ("link", "bv-vrf100", BLUE),
    ("unreachable", (100, 4), UNREACHABLE_METRIC),
    ("unreachable", (100, 6), UNREACHABLE_METRIC),
    ("link", "bv-br1", BRIDGE),
    ("link", "bv-br2", BridgeLink("bgpvpn:bridge:plain")),
    ("link", "bv-gc0000202", TUNNEL),
    ("link", "bv-grx", TunnelLink("bgpvpn:tunnel:00000000", ip("192.0.2.1"), bytes(4))),
    ("link", "bv-g6aa", TunnelLink("bgpvpn:tunnel:20010db8", ip("2001:db8::1"), ip("2001:db8::2"))),
    ("link", "bv-gr6x", TunnelLink("bgpvpn:tunnel:0", ip("2001:db8::1"), bytes(16))),
    ("link", "bv-vx5", VXLAN),
    ("link", "bv-vx6", VxlanLink("bgpvpn:vxlan:6", 6, ip("2001:db8::1"), 4790, "bv-br2")),
    ("address", ("bv-br1", ip("10.0.0.1")), 24),
    ("address", ("bv-br1", ip("fd00::1")), 64),
    ("attachment", "port:1.a_B-c", Attached("tap0", "", "bv-br1")),
    ("attachment", "/tap7", Attached("tap7", "", "bv-br1")),
    ("nexthop", ONE, Leaf(4, "bv-gc0000202", label=100)),
    ("nexthop", NEXTHOP_BASE + 2, Leaf(6, "bv-gc0000202", label=1048575)),
    ("nexthop", NEXTHOP_BASE + 3, Leaf(4, "bv-vrf100")),
    ("nexthop", NEXTHOP_BASE + 4, Leaf(4, "bv-br1", gateway=ip("10.0.0.9"))),
    ("nexthop", NEXTHOP_BASE + 5, Leaf(6, "bv-br1", gateway=ip("fd00::9"))),
    ("nexthop", NEXTHOP_BASE + 6, Leaf(4, None)),
    ("nexthop", NEXTHOP_BASE + 7, Leaf(6, None)),
    ("nexthop", NEXTHOP_BASE + 8, Leaf(4, "bv-g6aa", label=16)),
    ("nexthop", GROUP, Group((ONE, NEXTHOP_BASE + 3))),
    ("nexthop", GROUP + 1, Group((NEXTHOP_BASE + 2,))),
    ("nexthop", GROUP + 2, Group((ONE, NEXTHOP_BASE + 3), (255, 26))),
    ("mpls", 1000, MplsRoute("bv-vrf100")),
    ("mpls", 1001, MplsRoute("bv-br1", ip("10.0.0.9"))),
    ("mpls", 1002, MplsRoute("bv-br1", ip("fd00::9"))),
    ("fdb", ("bv-vx5", MAC), (ip("192.0.2.2"), 5)),
    ("fdb", ("bv-vx5", OTHER_MAC), (ip("192.0.2.3"), 77)),
    ("fdb", ("bv-vx6", MAC), (ip("2001:db8::2"), 6)),
    ("flood", ("bv-vx5", ip("192.0.2.2")), 5),
    ("flood", ("bv-vx5", ip("192.0.2.3")), 77),
    ("flood", ("bv-vx6", ip("2001:db8::2")), 6),
    ("neighbour", ("bv-br1", ip("10.0.0.9")), MAC),
    ("neighbour", ("bv-br1", ip("fd00::9")), MAC),
    ("neighbour", ("bv-br2", ip("10.0.0.9")), OTHER_MAC),
    ("neighbour", ("bv-br2", ip("fd00::9")), OTHER_MAC),
]
MADE: list[Operation] = [(*row, None) for row in ROWS]
REMOVED: list[Operation] = [(kind, key, None, value) for kind, key, value in reversed(ROWS)]


@pytest.fixture(autouse=True)
def node() -> Iterator[None]:
    with namespaces(NODE), inside(NODE):
        within(
            NODE,
            "link add up0 type veth peer name up1",
            "link set up0 up",
            "link set up1 up",
            "address add 192.0.2.1/24 dev up0",
            "address add 2001:db8::1/64 dev up0 nodad",
            "link add tap0 type dummy",
            "link add tap7 type dummy",
        )
        yield


@pytest.fixture
def kernel(node: None) -> Iterator[Netlink]:
    with contextlib.closing(Netlink(labels=range(16, 100_000))) as netlink:
        yield netlink


def anew() -> Actual:
    """What a daemon finds that starts now."""
    with contextlib.closing(Netlink()) as netlink:
        return netlink.observe()


def by_kind(rows: list[tuple[Kind, Key, Value]]) -> dict[Kind, dict[Key, Value]]:
    kinds: dict[Kind, dict[Key, Value]] = {}
    for kind, key, value in rows:
        kinds.setdefault(kind, {})[key] = value
    return kinds


def test_every_kind_of_row_is_read_back_as_it_was_written(kernel: Netlink) -> None:
    assert kernel.apply(MADE) == {}
    assert anew().rows == by_kind(ROWS)
    assert kernel.foreign() == []


def test_rows_are_removed_and_nothing_is_left(kernel: Netlink) -> None:
    before = remains()
    kernel.apply(MADE)
    kernel.write_routes((100, 4), {GROUP: [prefix("10.9.0.0/16")]})
    assert remains() != before
    kernel.write_routes((100, 4), {None: [prefix("10.9.0.0/16")]})
    assert kernel.apply(REMOVED) == {}
    after = anew()
    assert not any(after.rows.values())
    assert after.routes == {}
    assert remains() == before


def remains() -> list[str]:
    links = [line.split()[0] for line in sh("ip -br link").splitlines()]
    routes = sh("ip route show table all", "ip -6 route show table all", "ip -f mpls route", "ip nexthop").splitlines()
    rules = sh("ip rule", "ip -6 rule").splitlines()
    return links + [line for line in [*routes, *rules] if f"proto {PROTOCOL}" in line]


def test_what_is_not_there_is_removed_all_the_same(kernel: Netlink) -> None:
    assert kernel.apply(REMOVED) == {}
    kernel.apply(MADE)
    kernel.apply([(kind, key, None, value) for kind, key, value in reversed(ROWS) if kind != "link"])
    assert kernel.apply(REMOVED) == {}
    assert kernel.write_routes((100, 4), {None: [prefix("10.9.0.0/16")]}) == {}


def test_rows_change_their_value(kernel: Netlink) -> None:
    kernel.apply(MADE)
    for kind, key, old, new in [
        ("link", "bv-br1", BRIDGE, BridgeLink("bgpvpn:bridge:else", THIRD_MAC, 1400, "bv-vrf100", gateway=False)),
        ("address", ("bv-br1", ip("10.0.0.1")), 24, 25),
        ("address", ("bv-br1", ip("fd00::1")), 64, 80),
        ("attachment", "port:1.a_B-c", Attached("tap0", "", "bv-br1"), Attached("tap0", "", "bv-br2")),
        ("attachment", "port:1.a_B-c", Attached("tap0", "", "bv-br1"), Attached("up1", "", "bv-br1")),
        ("nexthop", ONE, Leaf(4, "bv-gc0000202", label=100), Leaf(4, "bv-gc0000202", label=200)),
        ("nexthop", GROUP, Group((ONE, NEXTHOP_BASE + 3)), Group((ONE,))),
        ("mpls", 1001, MplsRoute("bv-br1", ip("10.0.0.9")), MplsRoute("bv-vrf100")),
        ("fdb", ("bv-vx5", MAC), (ip("192.0.2.2"), 5), (ip("192.0.2.3"), 6)),
        ("flood", ("bv-vx5", ip("192.0.2.3")), 77, 5),
        ("neighbour", ("bv-br1", ip("10.0.0.9")), MAC, OTHER_MAC),
    ]:
        assert kernel.apply([(kind, key, new, old)]) == {}, key
        assert kernel.disturbed() == set(), key
        rows = anew().rows
        assert rows[kind][key] == new
        kernel.apply([(kind, key, old, new)])


def test_a_bridge_that_comes_into_a_vrf_loses_its_ipv6_addresses_and_that_disturbs_all(kernel: Netlink) -> None:
    outside, inside = BridgeLink("bgpvpn:bridge:plain"), BridgeLink("bgpvpn:bridge:plain", master="bv-vrf100")
    address = ("bv-br2", ip("fd00:2::1"))
    kernel.apply(MADE)
    assert kernel.apply([("address", address, 64, None)]) == {}
    assert kernel.disturbed() == set()
    assert kernel.apply([("link", "bv-br2", inside, outside)]) == {}
    assert kernel.disturbed() == {"all"}
    assert anew().rows["link"]["bv-br2"] == inside
    assert address not in anew().rows["address"]


def test_a_fixed_property_changes_by_a_new_device_and_that_disturbs_all(kernel: Netlink) -> None:
    kernel.apply(MADE)
    kernel.disturbed()
    for name, old, new in [
        ("bv-vx5", VXLAN, VxlanLink("bgpvpn:vxlan:5", 5, ip("192.0.2.1"), 4799, "bv-br1")),
        ("bv-gc0000202", TUNNEL, TunnelLink("bgpvpn:tunnel:c0000202", ip("192.0.2.9"), ip("192.0.2.2"))),
        ("bv-vrf100", BLUE, VrfLink("bgpvpn:vrf:blue", 101)),
    ]:
        assert kernel.apply([("link", name, new, old)]) == {}
        assert "all" in kernel.disturbed()
        assert anew().rows["link"][name] == new


def test_a_device_whose_making_was_cut_short_is_finished(kernel: Netlink) -> None:
    sh(f"ip link add bv-vrf100 group {PROTOCOL << 8} type vrf table 100")
    assert anew().rows["link"]["bv-vrf100"] != BLUE
    assert kernel.apply([("link", "bv-vrf100", BLUE, None)]) == {}
    assert anew().rows["link"] == {"bv-vrf100": BLUE}


def test_what_the_kernel_refuses_is_told_in_words_and_stops_nothing_else(kernel: Netlink) -> None:
    sh(
        "ip link add bv-vrf7 type vrf table 7",
        "ip link add theirs type bridge",
        "ip link add tap1 type dummy",
        "ip link set tap1 master theirs",
        "ip link add vxtheirs type vxlan id 9 dstport 4789 local 192.0.2.1",
        "ip -f mpls route add 2000 dev lo proto static",
        f"ip nexthop add id {NEXTHOP_BASE + 90} blackhole",
    )
    kernel.observe()
    kernel.apply(MADE)
    cases: list[tuple[Operation, int | None, bool, str]] = [
        (("link", "bv-vrf7", VrfLink("bgpvpn:vrf:x", 7), None), errno.EEXIST, False, "bv-vrf7: somebody else has"),
        (("link", "bv-vrf8", VrfLink("bgpvpn:vrf:x", 7), None), errno.EEXIST, False, "table 7 is that of bv-vrf7"),
        (("link", "bv-br9", BridgeLink("bgpvpn:bridge:x", master="bv-vrf9"), None), errno.ENODEV, False, "bv-vrf9"),
        (
            ("link", "bv-vx9", VxlanLink("bgpvpn:vxlan:9", 9, ip("192.0.2.1"), 4789, "bv-br1"), None),
            errno.EEXIST,
            False,
            "another device has VNI 9",
        ),
        (("link", "bv-gfff", TUNNEL, None), errno.EEXIST, False, "another tunnel from 192.0.2.1 to 192.0.2.2"),
        (("attachment", "p2", Attached("tap9", "", "bv-br1"), None), errno.ENODEV, True, "no interface tap9"),
        (("attachment", "p3", Attached("tap1", "", "bv-br1"), None), errno.EBUSY, True, "tap1 belongs to theirs"),
        (("attachment", "p4", Attached("tap0", "", "bv-br2"), None), errno.EBUSY, True, "is port port:1.a_B-c already"),
        (
            ("attachment", "p5", Attached("eth0", "gone", "bv-br1"), None),
            errno.ENOENT,
            True,
            "no network namespace",
        ),
        (("attachment", "p6", Attached("up1", "", "bv-br9"), None), errno.ENODEV, False, "bridge bv-br9 is not there"),
        (("nexthop", NEXTHOP_BASE + 91, Leaf(4, "bv-g1"), None), errno.ENODEV, False, "bv-g1 is not there"),
        (("nexthop", NEXTHOP_BASE + 92, Leaf(4, "bv-vrf7"), None), errno.EEXIST, False, "bv-vrf7 is somebody else's"),
        (("nexthop", NEXTHOP_BASE + 90, Leaf(4, None), None), errno.EEXIST, False, "somebody else has it"),
        (("nexthop", NEXTHOP_BASE + 93, Group((NEXTHOP_BASE + 94,)), None), errno.EINVAL, False, "group of"),
        (("mpls", 2000, MplsRoute("bv-vrf100"), None), errno.EEXIST, False, "label 2000: somebody else has it"),
        (("mpls", 200_000, MplsRoute("bv-vrf100"), None), errno.EINVAL, False, "label 200000"),
        (("address", ("bv-br9", ip("10.0.0.1")), 24, None), errno.ENODEV, False, "bv-br9 is not there"),
        (("fdb", ("vxtheirs", MAC), (ip("192.0.2.2"), 9), None), errno.EEXIST, False, "vxtheirs is somebody else's"),
    ]
    good: list[Operation] = [("mpls", 3000 + at, MplsRoute("bv-vrf100"), None) for at in range(len(cases))]
    between = [operation for pair in zip((case[0] for case in cases), good, strict=True) for operation in pair]
    before = theirs()
    refused = kernel.apply(between)
    assert sorted(refused) == list(range(0, len(between), 2))
    for at, (operation, number, waits, words) in enumerate(cases):
        refusal = refused[2 * at]
        assert words in refusal.reason, operation
        assert refusal.waits == waits, operation
        assert number is None or refusal.errno == number, operation
    labels = anew().rows["mpls"]
    assert [label for label in labels if label >= 3000] == [3000 + at for at in range(len(cases))]
    assert theirs() == before


def theirs() -> str:
    links = sh("ip -br link", "ip -br link show master theirs")
    return links + sh("ip -f mpls route show 2000", f"ip nexthop show id {NEXTHOP_BASE + 90}")


def test_who_is_mistaken_about_what_is_there_corrects_it(kernel: Netlink) -> None:
    kernel.apply(MADE)
    assert kernel.apply(MADE) == {}
    assert anew().rows == by_kind(ROWS)


def test_many_routes_are_written_read_and_removed(kernel: Netlink) -> None:
    kernel.apply(MADE)
    routes4 = [bytes((10 + at // 65536, at // 256 % 256, at % 256, 24)) for at in range(20_000)]
    routes6 = [bytes((0xFD, 1, at // 256, at % 256, 32)) for at in range(20_000)]
    every_length4 = [prefix(f"0.0.0.0/{length}") for length in range(33)]
    every_length6 = [prefix(f"::/{length}") for length in range(129)]
    for at, nexthop, routes, nowhere in [
        ((100, 4), GROUP, routes4 + every_length4, "172.16.0.0/12"),
        ((100, 6), GROUP + 1, routes6 + every_length6, "fe00::/12"),
    ]:
        refused = kernel.write_routes(at, {NEXTHOP_BASE + 99: [prefix(nowhere)], nexthop: routes})
        assert list(refused) == [prefix(nowhere)]
        assert refused[prefix(nowhere)].reason.startswith(f"route {nowhere} in table 100: ")
        assert kernel.write_routes(at, {nexthop: routes[:5000]}) == {}
        assert anew().routes[at] == dict.fromkeys(routes, nexthop)
        assert kernel.disturbed() == set()
        assert kernel.write_routes(at, {None: routes[:-1]}) == {}
        assert kernel.observe([at]).routes == {at: {routes[-1]: nexthop}}


def test_routes_of_others_are_not_replaced_nor_removed(kernel: Netlink) -> None:
    kernel.apply(MADE)
    sh("ip route add unreachable 10.7.0.0/16 table 100 metric 20 proto static")
    sh("ip route add unreachable fd07::/16 table 100 metric 20 proto static")
    theirs = prefix("10.7.0.0/16")
    for at, routes, nexthop in [
        ((100, 4), [theirs, prefix("10.8.0.0/16")], GROUP),
        ((100, 6), [prefix("fd07::/16"), prefix("fd08::/16")], GROUP + 1),
    ]:
        refused = kernel.write_routes(at, {nexthop: routes})
        assert list(refused) == [routes[0]]
        assert refused[routes[0]].errno == errno.EEXIST
        assert kernel.write_routes(at, {None: routes}) == {}
    assert "proto static" in sh("ip route show table 100 10.7.0.0/16")
    assert "proto static" in sh("ip -6 route show table 100 fd07::/16")
    assert kernel.foreign() == [
        "route 10.7.0.0/16 in table 100: of protocol 4",
        "route fd07::/16 in table 100: of protocol 4",
    ]
    sh("ip route del unreachable 10.7.0.0/16 table 100 metric 20 proto static")
    assert (100, 4) in kernel.disturbed()
    assert kernel.write_routes((100, 4), {GROUP: [theirs]}) == {}


CHANGES: list[tuple[str, set[Scope]]] = [
    ("ip route del 10.9.0.0/16 table 100", {(100, 4)}),
    ("ip route replace 10.9.0.0/16 table 100 metric 20 dev bv-br1", {(100, 4)}),
    ("ip route del fd09::/16 table 100", {(100, 6)}),
    ("ip route del unreachable default table 100 metric 4278198272", {"unreachable"}),
    ("ip route add 198.51.100.0/24 via 192.0.2.2", {"underlay"}),
    ("ip address add 198.51.100.1/24 dev up0", {"underlay"}),
    ("ip address del 10.0.0.1/24 dev bv-br1", {"address", "neighbour"}),
    ("ip address add 10.0.9.1/24 dev bv-br1", {"address"}),
    ("ip address del fd00::1/64 dev bv-br1", {"address"}),
    ("ip link add tap5 type dummy", {"links", "underlay"}),
    ("ip link set up1 down", {"links", "underlay"}),
    ("ip link set tap0 nomaster", {"attachment"}),
    ("ip link del tap0", {"attachment", "links"}),
    ("ip link set bv-br1 nomaster", {"all"}),
    ("ip link set bv-br1 down", {"all"}),
    ("ip link set bv-vrf100 down", {"all"}),
    ("ip link del bv-gc0000202", {"all"}),
    ("ip link del bv-vx5", {"all"}),
    ("ip link set bv-vx5 type vxlan learning", {"all"}),
    ("bridge link set dev bv-vx5 learning on", {"all"}),
    ("ip link set bv-br1 alias mine", {"all"}),
    (f"ip nexthop del id {GROUP}", {"all"}),
    (f"ip nexthop replace id {NEXTHOP_BASE + 4} blackhole", {"nexthop"}),
    ("ip -f mpls route del 1000", {"mpls"}),
    ("ip neighbour replace 10.0.0.9 lladdr 02:00:00:00:00:55 dev bv-br1 nud permanent", {"neighbour"}),
    ("ip neighbour del fd00::9 dev bv-br1", {"neighbour"}),
    ("bridge fdb del 02:00:00:00:00:02 dev bv-vx5 self", {"fdb"}),
    ("bridge fdb del 02:00:00:00:00:02 dev bv-vx5 master", {"fdb"}),
    ("bridge fdb replace 02:00:00:00:00:02 dev bv-vx5 dst 192.0.2.9", {"fdb"}),
    ("bridge fdb del 00:00:00:00:00:00 dev bv-vx5 dst 192.0.2.2", {"flood"}),
    ("ip neighbour add 192.0.2.77 lladdr 02:00:00:00:00:55 dev up0", set()),
    ("ip neighbour add 10.0.0.77 lladdr 02:00:00:00:00:55 dev bv-br1 nud stale", set()),
    ("bridge fdb add 02:00:00:00:00:66 dev tap0 master static", set()),
]


@pytest.mark.parametrize(("command", "scopes"), CHANGES, ids=[command for command, _ in CHANGES])
def test_what_others_change_is_told_by_its_scope_and_repaired(
    kernel: Netlink, command: str, scopes: set[Scope]
) -> None:
    assert kernel.apply(MADE) == {}
    kernel.write_routes((100, 4), {GROUP: [prefix("10.9.0.0/16")]})
    kernel.write_routes((100, 6), {GROUP + 1: [prefix("fd09::/16")]})
    late: set[Scope] = {"underlay"}  # duplicate address detection on the uplinks ends when it likes
    assert kernel.disturbed() <= late
    before = kernel.observe()
    sh(command)
    told = kernel.disturbed()
    assert scopes <= told, told
    assert "all" in scopes or told <= scopes | late, told
    if scopes - {"links", "underlay"}:
        assert kernel.observe() != before
    assert kernel.disturbed() <= late


def test_a_row_of_ours_that_others_changed_is_made_right(kernel: Netlink) -> None:
    kernel.apply(MADE)
    sh(
        "ip link set bv-vrf100 down",
        "ip link del bv-gc0000202",
        "ip link set bv-br1 nomaster",
        "bridge link set dev bv-vx5 learning on",
        "bridge fdb del 02:00:00:00:00:02 dev bv-vx5 master",
        "bridge fdb replace 02:00:00:00:00:03 dev bv-vx5 dst 192.0.2.9 self",
        "ip link del bv-vx6",
        "ip -f mpls route del 1001",
        "sysctl -qw net.mpls.conf.bv-grx.input=0 net.ipv4.conf.bv-vrf100.forwarding=0",
    )
    for _ in range(2):  # what stood on a device has gone with it, and is seen when the device is there again
        actual = anew().rows
        kernel.apply(
            [(kind, key, value, there) for kind, key, value in ROWS if (there := actual[kind].get(key)) != value]
        )
    assert anew().rows == by_kind(ROWS)


@pytest.mark.parametrize("read", [Netlink.foreign, lambda kernel: kernel.observe({"mpls"})])
@pytest.mark.parametrize("words", ["link delete bv-vx5", "link set bv-vx5 nomaster"])
def test_a_change_that_is_read_on_the_way_is_told_all_the_same(
    kernel: Netlink, read: Callable[[Netlink], object], words: str
) -> None:
    kernel.apply(MADE)
    kernel.observe()
    kernel.disturbed()
    within(NODE, words)
    read(kernel)
    assert "all" in kernel.disturbed()
    assert kernel.disturbed() == set()


def test_lost_notifications_disturb_all(kernel: Netlink) -> None:
    kernel.apply(MADE)
    with contextlib.closing(Netlink()) as other:
        other.observe()
        routes = [bytes((10, at // 65536, at // 256 % 256, at % 256, 32)) for at in range(30_000)]
        other.write_routes((100, 4), {GROUP: routes})
    assert "all" in kernel.disturbed()
    assert len(kernel.observe().routes[(100, 4)]) == 30_000
    assert kernel.disturbed() == set()


def test_an_interface_comes_from_its_namespace_and_goes_back(kernel: Netlink) -> None:
    kernel.apply(MADE)
    with namespaces("rows-tenant"):
        sh("ip -n rows-tenant link add eth0 type veth peer name eth1")
        attached = Attached("eth0", "rows-tenant", "bv-br1")
        assert kernel.apply([("attachment", "far", attached, None)]) == {}
        assert kernel.disturbed() == set()
        assert anew().rows["attachment"]["far"] == attached
        assert kernel.foreign() == []
        assert "eth0" not in sh("ip -n rows-tenant -br link").replace("eth1@", "")
        assert kernel.apply([("attachment", "far", None, attached)]) == {}
        assert "eth0@" in sh("ip -n rows-tenant -br link")
        assert "altname" not in sh("ip -n rows-tenant link")
        assert "far" not in anew().rows["attachment"]
        missing = kernel.apply([("attachment", "far", Attached("eth7", "rows-tenant", "bv-br1"), None)])
        assert missing[0].waits
        assert missing[0].reason == "port far: there is no interface eth7 in namespace rows-tenant"
        kernel.apply([("attachment", "far", attached, None)])
        sh("ip -n rows-tenant link set eth1 netns rows-node name kept")
    assert kernel.apply([("attachment", "far", None, attached)]) == {}  # there is nowhere to give it back to
    assert "far" not in anew().rows["attachment"]


@pytest.mark.parametrize("netns", ["", "t", "t" * 108], ids=["own", "other", "long name"])
def test_an_interface_whose_ports_become_several_or_one_changes_its_mark_and_nothing_else(
    kernel: Netlink, netns: str
) -> None:
    kernel.apply(MADE)
    with namespaces(*filter(None, [netns])):
        sh(f"ip {f'-n {netns} ' if netns else ''}link add shared type dummy")
        attached = Attached("shared", netns, "bv-br1")
        assert kernel.apply([("attachment", "p1", attached, None)]) == {}
        here = next(line.split()[1][:-1] for line in sh("ip -o link").splitlines() if "bgpvpn-port-p1" in line)
        # A user's entry goes as soon as the interface leaves the bridge.
        sh(f"bridge fdb add 02:00:00:00:00:99 dev {here} master static")
        names = ["p1", f"{netns}/shared", "p2", f"{netns}/shared", "p1"]
        for name, following in itertools.pairwise(names):
            wanted: list[Operation] = [("attachment", following, attached, None), ("attachment", name, None, attached)]
            assert kernel.apply(wanted) == {}
            found = anew().rows["attachment"]
            assert (found.get(following), name in found) == (attached, False)
            assert "02:00:00:00:00:99" in sh(f"bridge fdb show br bv-br1 dev {here}")
        kernel.disturbed()
        (refused,) = kernel.apply([("attachment", "p9", attached, None)]).values()
        assert "shared is port p1 already" in refused.reason
        assert kernel.apply([("attachment", "p1", None, attached)]) == {}
        if netns:
            assert "shared" in sh(f"ip -n {netns} link")
            assert "bgpvpn" not in sh(f"ip -n {netns} -details link show shared")
        else:
            assert "bgpvpn" not in sh("ip -details link show shared")


def test_a_mark_that_was_changed_half_way_is_made_right(kernel: Netlink) -> None:
    kernel.apply(MADE)
    attached = Attached("tap7", "", "bv-br1")
    sh("ip link property add dev tap7 altname bgpvpn-port-p1")
    assert kernel.apply([("attachment", "/tap7", attached, None), ("attachment", "p1", None, attached)]) == {}
    assert anew().rows["attachment"]["/tap7"] == attached
    assert "bgpvpn-port-p1" not in sh("ip link show dev tap7")


def test_a_user_keeps_names_and_addresses_of_an_interface(kernel: Netlink) -> None:
    sh("ip link set tap0 alias mine", "ip link property add dev tap0 altname thetap")
    sh("ip address add 10.5.5.5/24 dev tap0")
    kernel.apply(MADE)
    kernel.apply(REMOVED)
    said = sh("ip address show dev thetap", "ip link show dev thetap")
    assert "tap0" in said
    assert "alias mine" in said
    assert "10.5.5.5/24" in said
    assert "bgpvpn" not in said


def test_addresses_are_reachable_where_the_main_table_has_a_way(kernel: Netlink) -> None:
    sh(
        "ip route add 198.51.100.0/24 via 192.0.2.2",
        "ip route add blackhole 203.0.113.0/24",
        "ip route add unreachable 203.0.112.0/24",
        "ip -6 route add prohibit 2001:db8:1::/48",
        "ip -6 route add 2001:db8:2::/48 via 2001:db8::2",
    )
    asked = {
        "192.0.2.2": True,
        "198.51.100.7": True,
        "203.0.113.1": False,
        "203.0.112.1": False,
        "100.64.0.1": False,
        "192.0.2.1": False,  # our own
        "2001:db8::2": True,
        "2001:db8:2::7": True,
        "2001:db8:1::1": False,
        "2001:db8:3::1": False,
        "2001:db8::1": False,
    }
    assert kernel.reachable(map(ip, asked)) == {ip(address) for address, way in asked.items() if way}
    sh("ip link set up1 down")
    assert kernel.reachable([ip("192.0.2.2"), ip("2001:db8::2")]) == set()


def test_messages_are_counted_by_kind(kernel: Netlink) -> None:
    kernel.apply(MADE)
    kernel.write_routes((100, 4), {GROUP: [prefix("10.9.0.0/16"), prefix("10.8.0.0/16")]})
    assert kernel.messages()["routes"] == 2
    assert kernel.messages()["mpls"] == 3
    assert kernel.messages()["link"] == 9
