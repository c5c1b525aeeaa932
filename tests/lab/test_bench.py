from __future__ import annotations

import json

import pytest

from bgpvpn.objects import Port
from lab import bench
from lab.pair import rewritings


def test_only_rewritten_groups_are_counted_among_what_the_monitor_shows() -> None:
    shown = """\
[2026-01-02T03:04:05.250000] id 1 blackhole scope link proto unspec
[2026-01-02T03:04:05.500000] Deleted id 9 group 8 proto 187
[2026-01-02T03:04:06.500000] id 3137339394 group 3137339395 proto 187
[2026-01-02T03:04:06.750000] id 3137339396 group 3137339395 proto 187
"""
    first, last = rewritings(shown)
    assert last - first == pytest.approx(0.25)
    assert rewritings("") == []


def test_ports_of_any_number_are_such_as_the_api_takes() -> None:
    made = [Port(id="port", **bench.port(number, "net", bench.address(number))) for number in range(1000)]
    assert len({port.ip_addresses for port in made}) == len({port.mac_address for port in made}) == 1000


def test_messages_that_grow_with_the_routes_are_told() -> None:
    for messages, grow in [([30, 30, 37], False), ([30], False), ([30, 30, 100_030], True), ([30, 61], True)]:
        assert bench.grow(messages) is grow, messages


def test_slices_are_told_for_every_happening_and_the_peer_that_is_removed_is_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.main(["slices", "--routes", "150"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["routes"] for line in lines] == [150] * len(lines)
    assert len({line["happening"] for line in lines}) == len(lines)
    assert lines[-1]["happening"] == "the peer is removed"
    for line in lines:
        assert 0 <= line["first_ms"] <= line["longest_ms"] <= line["all_ms"], line


@pytest.mark.parametrize(
    "words",
    [
        ["failover", "--routes", "many"],
        ["attach", "--ports", "1;2"],
        ["attach", "--ports", "0"],
        ["kernel", "--vrfs", "1"],
        [],
    ],
)
def test_words_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(words)
    assert ended.value.code == 2
    assert "usage: lab/bench" in capsys.readouterr().err
