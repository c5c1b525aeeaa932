"""Metrics as Prometheus reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from bgpvpn.api.looking_glass import Views
from bgpvpn.desired import Desired, Vrf
from bgpvpn.metrics import metrics
from speaker.rib import slot
from tests.fakes.kernel import Driver, FakeKernel
from tests.fakes.middle import Middle
from tests.fakes.node import FakeNode

SESSION = {
    "address": "192.0.2.100",
    "state": "established",
    "messages_in": 7,
    "messages_out": 8,
    "updates_in": 3,
    "malformed": 1,
    "flaps": 2,
    "routes_stale": 5,
    "routes_refused": 4,
    "routes_rejected": 6,
}


def lines(*sessions: dict[str, Any]) -> list[str]:
    """Return the text of a node's metrics, comments left out."""
    middle, lower = Middle(), FakeKernel()
    middle.hear("10.0.0.0/8", "64512:1", source="192.0.2.100")
    for source in ("192.0.2.100", slot("192.0.2.100", 1)):  # two paths of one destination (RFC 7911)
        middle.hear("10.1.0.0/16", "64512:1", source=source)
    driver = Driver(Desired(), lower)
    vrf = Vrf("blue", 1000, 100)
    driver.desired.objects.put(vrf.key, vrf)
    lower.refuse("mpls", 100, times=1)
    driver.run(0.0)
    node = FakeNode()
    node.metric_rows = metrics(middle.node, driver.reconciler, sessions, lower.messages())
    text = asyncio.run(Views(node).metrics(Request({"type": "http"}))).body
    return [line for line in bytes(text).decode().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    "line",
    [
        'bgpvpn_session_established{peer="192.0.2.100"} 1.0',
        'bgpvpn_session_established{peer="2001:db8::1"} 0.0',
        'bgpvpn_session_messages_received_total{peer="192.0.2.100"} 7.0',
        'bgpvpn_session_messages_sent_total{peer="192.0.2.100"} 8.0',
        'bgpvpn_session_updates_received_total{peer="192.0.2.100"} 3.0',
        'bgpvpn_session_malformed_total{peer="192.0.2.100"} 1.0',
        'bgpvpn_session_flaps_total{peer="192.0.2.100"} 2.0',
        'bgpvpn_session_routes_stale{peer="192.0.2.100"} 5.0',
        'bgpvpn_session_routes_refused{peer="192.0.2.100"} 4.0',
        'bgpvpn_session_routes_rejected{peer="192.0.2.100"} 6.0',
        'bgpvpn_rib_routes{family="vpnv4",source="192.0.2.100"} 3.0',
        'bgpvpn_kernel_rows{kind="routes"} 0.0',
        'bgpvpn_kernel_rows{kind="link"} 1.0',
        'bgpvpn_kernel_messages_total{kind="mpls"} 1.0',
        'bgpvpn_objects{state="active"} 0.0',
        'bgpvpn_objects{state="failed"} 1.0',
        "bgpvpn_kernel_refusals_total 1.0",
        "bgpvpn_kernel_repairs_total 0.0",
        "bgpvpn_synced 1.0",
    ],
)
def test_a_metric_is_told_with_its_labels(line: str) -> None:
    assert line in lines(SESSION, {**SESSION, "address": "2001:db8::1", "state": "active"})


def test_each_metric_is_there_once_also_without_peers() -> None:
    for sessions in ([], [SESSION]):
        told = [line.rpartition(" ")[0] for line in lines(*sessions)]
        assert len(set(told)) == len(told)
        assert "bgpvpn_synced" in told
