from __future__ import annotations

from lab.kernel_state import difference, steady


def test_what_passes_by_itself_is_no_difference() -> None:
    for kind, before, after in [
        ("routes", "default via fe80::1 dev eth1 expires 1790sec", "default via fe80::1 dev eth1 expires 12sec"),
        (
            "links",
            "9: br: hello_timer    0.11 gc_timer  240.44 mtu 1500",
            "9: br: hello_timer    0.00 gc_timer    1.00 mtu 1500",
        ),
        (
            "neighbours",
            "10.0.0.1 dev eth1 lladdr 02:00:00:00:00:01 REACHABLE",
            "10.0.0.1 dev eth1 lladdr 02:00:00:00:00:01 STALE",
        ),
        ("forwarding entries", "02:00:00:00:00:01 dev veth1 master br", "02:00:00:00:00:02 dev veth1 master br"),
    ]:
        assert steady(kind, [before]) == steady(kind, [after]), kind


def test_what_forwards_packets_is_a_difference() -> None:
    for kind, line in [
        ("routes", "10.0.0.0/24 nhid 5 proto bgp"),
        ("neighbours", "10.0.0.1 dev br lladdr 02:00:00:00:00:01 extern_learn NOARP proto 179"),
        ("forwarding entries", "02:00:00:00:00:01 dev vx300 dst 192.0.2.12 self extern_learn"),
    ]:
        there, gone = {kind: steady(kind, [line])}, {kind: steady(kind, [])}
        assert difference(there, gone) == [f"- {kind}: {line}"]
        assert difference(gone, there) == [f"+ {kind}: {line}"]
        assert difference(there, there) == []
