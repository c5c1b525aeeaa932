"""The views as the daemon makes them of a node's tables, and what people read of them."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from bgpvpn import views
from cli.explain import told
from speaker.engine import Engine
from speaker.refusal import Own
from tests.cli.daemon import Daemon
from tests.fakes.middle import SELF, Middle, bind, network, port, vpn, vpn_key

NOT_IMPORTED = "no VPN of this node imports any of its route targets"


def middle() -> Middle:
    """A routed and a bridged VPN, routes of a peer, and a port whose interface is missing."""
    made = Middle()
    made.want(
        *network("n"),
        *network("m", "10.2.0.0/24", None),
        port("p", "n", "10.1.0.5"),
        port("q", "m", "10.2.0.5"),
        vpn("blue", "64512:1"),
        vpn("seg", "64512:3", type="l2", vni=300),
        bind("blue", "n"),
        bind("seg", "m"),
    )
    made.hear("10.3.0.0/24", "64512:1")
    made.hear("10.4.0.0/24", "64512:7")
    made.hear_mac("02:00:00:00:00:99", "64512:3")
    made.down.add(("attachment", "p"))
    made.settle()
    return made


def engine(of: Middle) -> Engine:
    """A peer without a session, and what was refused of it before."""
    made = Engine(of.node.rib, of.node.interest, Own(SELF, frozenset({64512}), frozenset({SELF})), of.interner)
    made.add("peer-2").adj_rib_in.refused[vpn_key("64512:9", "10.5.0.0/24")] = "our own AS is in the AS_PATH"
    return made


def rows(text: str) -> list[list[str]]:
    """The cells of a plain table."""
    return [re.split(r"  +", line) for line in text.splitlines()]


def test_routes_are_a_row_each(daemon: Daemon) -> None:
    daemon.node.route_rows = views.routes(middle().node)
    columns, *told_ = rows(daemon.say("show routes"))
    assert columns == [
        "family", "nlri", "source", "next_hop", "label", "vni", "local_pref", "route_targets", "imported_by",
    ]  # fmt: skip
    assert ["vpnv4", "64512:9 10.3.0.0/24", "peer-1", "192.0.2.9", "900", "-", "-", "64512:1", "n"] in told_
    mac = "[2]:[64512:9]:[0]:[48]:[02:00:00:00:00:99]"
    assert ["evpn", mac, "peer-1", "192.0.2.9", "-", "77", "-", "64512:3", "m"] in told_
    assert len(told_) == len(daemon.node.route_rows)


def test_routes_are_filtered_by_the_daemon_and_a_limit_is_told(daemon: Daemon) -> None:
    daemon.node.route_rows = views.routes(middle().node)
    for words, nlris in [
        ("--rt 64512:7", ["64512:9 10.4.0.0/24"]),
        ("--prefix 10.3.0.0/24", ["64512:9 10.3.0.0/24"]),
        ("--family vpnv4 --source peer-1 --rt 64512:1", ["64512:9 10.3.0.0/24"]),
        ("--family vpnv6", []),
    ]:
        assert [row["nlri"] for row in daemon.ask(f"show routes {words}")] == nlris, words
    limited = daemon.call("show routes --limit 1")
    assert (len(limited.stdout.splitlines()), limited.stderr) == (2, "these are the first 1; --limit shows more\n")


def test_vpns_are_a_row_for_each_segment(daemon: Daemon) -> None:
    made = middle()
    made.fail(("vxlan", "300"))
    daemon.node.instance_rows = views.instances(made.node)
    columns, *segments = rows(daemon.say("show vpns"))
    assert columns == [
        "name", "vpns", "ports", "table", "label", "routes", "vni", "macs", "vteps", "status", "reason",
    ]  # fmt: skip
    assert [segment[:3] for segment in segments] == [["n", "blue", "p"], ["m", "seg", "q"]]
    assert [segment[3:] for segment in segments] == [
        ["100000", "16000", "1", "-", "-", "-", "active", "-"],
        ["-", "-", "-", "300", "1", "-", "pending", "it is down"],
    ]


def test_the_kernel_is_shown_with_what_it_refused_and_counters(daemon: Daemon) -> None:
    answer: dict[str, Any] = {
        "objects": [{"object": "vrf n", "state": "failed", "reason": "EPERM"}],
        "refused": [{"row": "link vrf1", "reason": "EPERM"}],
        "foreign": [],
        "counters": {"routes": 3, "repairs": 0},
        "synced": True,
    }
    daemon.node.kernel_plain = answer
    assert rows(daemon.say("show kernel")) == [
        ["object", "state", "reason"],
        ["vrf n", "failed", "EPERM"],
        [""],
        ["row", "reason"],
        ["link vrf1", "EPERM"],
        [""],
        ["field", "value"],
        ["foreign", "-"],
        ["counters.routes", "3"],
        ["counters.repairs", "0"],
        ["synced", "yes"],
    ]
    assert daemon.ask("show kernel") == answer


def test_sessions_are_a_row_for_each_peer(daemon: Daemon) -> None:
    daemon.node.session_rows = [
        {
            "peer": "rr",
            "address": "192.0.2.2",
            "remote_as": 64512,
            "state": "established",
            "since_s": 12.5,
            "synced": True,
            "families": ["evpn", "vpnv4"],
            "routes_in": {"vpnv4": 3},
            "routes_out": {},
            "last_error": "",
            "flaps": 0,
        }
    ]
    assert rows(daemon.say("show sessions"))[1] == [
        "rr", "192.0.2.2", "64512", "established", "12.5", "yes", "evpn,vpnv4", "vpnv4=3", "-", "-",
    ]  # fmt: skip


def test_a_session_with_few_routes_tells_why(daemon: Daemon) -> None:
    ordinary = {"peer": "rr", "routes_rejected": 0, "without_policy": "", "held_off": None}
    daemon.node.session_rows = [ordinary]
    columns = rows(daemon.say("show sessions"))[0]
    assert not {"routes_rejected", "without_policy", "held_off"} & set(columns)
    for field, value, shown in (
        ("routes_rejected", 7, "7"),
        ("without_policy", "no import policy", "no import policy"),
        ("held_off", {"reason": "vpnv4 limit", "for_s": 3.5}, "reason=vpnv4 limit for_s=3.5"),
    ):
        daemon.node.session_rows = [ordinary, {**ordinary, field: value}]
        table = rows(daemon.say("show sessions"))
        assert [row[table[0].index(field)] for row in table[2:]] == [shown], field


def test_a_prefix_is_explained() -> None:
    made = middle()
    neighbours = engine(made).neighbours
    heard = {name: each.adj_rib_in for name, each in neighbours.items()}
    out = {name: each.adj_rib_out for name, each in neighbours.items()}
    for prefix, explained in [
        (
            "10.3.0.0/24",
            """
            10.3.0.0/24
              in n, kernel table 100000:
                best: 64512:9 10.3.0.0/24 from peer-1
                  next hop 192.0.2.9, label 900, route targets 64512:1
                wanted in the kernel: to PE 192.0.2.9, MPLS label 900 over GRE
            """,
        ),
        (
            "10.4.0.0/24",
            f"""
            10.4.0.0/24
              not imported: 64512:9 10.4.0.0/24 from peer-1, because {NOT_IMPORTED}
                next hop 192.0.2.9, label 900, route targets 64512:7
            """,
        ),
        (
            "10.5.0.0/24",
            """
            10.5.0.0/24
              refused: 64512:9 10.5.0.0/24 from peer-2, because our own AS is in the AS_PATH
            """,
        ),
        (
            "10.1.0.5",
            """
            10.1.0.5/32
              in n, kernel table 100000:
                wanted in the kernel: 10.1.0.0/24 covers it, the segment's own subnet
              our own route 10.0.0.1:2 10.1.0.5/32 is not announced yet
                next hop 10.0.0.1, label 16000, route targets 64512:1
                it waits for attachment p: pending, it is down
                not told to peer-2, because the session is not established
            """,
        ),
        (
            "10.3.0.7",
            """
            10.3.0.7/32
              nobody told this node about 10.3.0.7/32
              in n, kernel table 100000:
                wanted in the kernel: 10.3.0.0/24 covers it: to PE 192.0.2.9, MPLS label 900 over GRE
            """,
        ),
    ]:
        answer = views.explain_prefix(made.node, prefix, heard, out)
        assert told(answer) == dedent(explained).strip(), prefix


def test_a_route_that_is_rejected_or_passed_on_is_explained() -> None:
    answer = {
        "prefix": "10.3.0.0/24",
        "refused": [
            {"nlri": "10.3.0.0/24", "source": "192.0.2.1", "reason": "the import policy rejects it"}
            | {"next_hop": "192.0.2.9", "med": 5}
        ],
        "passed_on": [
            {
                "family": "ipv4",
                "nlri": "10.3.0.0/24",
                "told_to": ["192.0.2.2"],
                "not_told_to": [{"peer": "192.0.2.3", "reason": "it came from this peer"}],
            }
        ],
    }
    explained = """
        10.3.0.0/24
          refused: 10.3.0.0/24 from 192.0.2.1, because the import policy rejects it
            next hop 192.0.2.9, med 5
          of ipv4 10.3.0.0/24 other peers are told, as by a route reflector:
            told to 192.0.2.2
            not told to 192.0.2.3, because it came from this peer
        """
    assert told(answer) == dedent(explained).strip()


def test_a_backup_is_told_from_the_best() -> None:
    made = middle()
    made.hear("10.3.0.0/24", "64512:1", rd="64512:8", pe="192.0.2.8", label=800, local_pref=200)
    made.settle()
    said = told(views.explain_prefix(made.node, "10.3.0.0/24", {}, {}))
    assert "best: 64512:8 10.3.0.0/24 from peer-1\n      next hop 192.0.2.8, label 800, local pref 200" in said
    assert "backup (LOCAL_PREF 100 is below 200): 64512:9 10.3.0.0/24 from peer-1" in said
    assert "wanted in the kernel: to PE 192.0.2.8, MPLS label 800 over GRE" in said
    assert "as a backup: to PE 192.0.2.9, MPLS label 900 over GRE" in said


def test_a_port_is_explained() -> None:
    made = middle()
    assert (
        told(views.explain_port(made.node, "p", {}))
        == dedent(
            """
        port p
          in VPN blue, type l3, because of network association blue-n
          in the segment n
          bridge n: active
          attachment p: pending, it is down
          vrf n: active
          our own route 10.0.0.1:2 10.1.0.5/32 is not announced yet
            next hop 10.0.0.1, label 16000, route targets 64512:1
            it waits for attachment p: pending, it is down
        """
        ).strip()
    )
    made.drop("association", "blue-n")
    made.settle()
    said = told(views.explain_port(made.node, "p", {}))
    assert said == "port p\n  neither it nor its network is bound to a VPN"


def test_what_is_explained_is_asked_for_as_a_prefix_or_a_port(daemon: Daemon) -> None:
    daemon.say("port create vm1 --interface tap0 --mac 02:00:00:00:00:01")
    for words, asked in [
        ("10.1.0.0/24", "10.1.0.0/24"),
        ("10.1.0.5", "10.1.0.5/32"),
        ("2001:db8::/64", "2001:db8::/64"),
    ]:
        assert daemon.ask(f"explain {words}")["prefix"] == asked
        assert daemon.say(f"explain {words}").startswith(f"{asked}\n  nobody told this node about ")
    assert "port" in daemon.ask("explain vm1")
    assert daemon.say("explain vm1").startswith("port ")
