"""The reference: FRR with FRR through GoBGP. When this fails, it is the lab that is broken and not our software."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runner import Lab, eventually, lab_of

FILE = Path(__file__).resolve().parent.parent.parent / "lab/frr-gobgp/frr-gobgp.clab.yml"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of(FILE) as lab:
        eventually(lambda: pings(lab, "10.1.2.2") and pings(lab, "2001:db8:2::2"), 60, "ce1 reaches ce2")
        yield lab


def pings(lab: Lab, address: str) -> bool:
    return lab.call("ce1", "ping", "-c", "1", "-W", "1", address).returncode == 0


def vpn_routes(lab: Lab) -> str:
    return lab.run("rr", "gobgp", "global", "rib", "-a", "vpnv4") + lab.run(
        "rr", "gobgp", "global", "rib", "-a", "vpnv6"
    )


@pytest.mark.parametrize("address", ["10.1.2.2", "2001:db8:2::2"])
def test_tenants_reach_each_other_through_mpls_over_gre(lab: Lab, address: str) -> None:
    received = lab.run("ce1", "ping", "-c", "3", "-i", "0.2", "-W", "1", address)
    assert "3 received" in received
    family = "-6" if ":" in address else "-4"
    assert "encap mpls" in lab.run("pe1", "ip", family, "route", "get", address, "vrf", "blue")


def test_reflector_keeps_the_routes_of_a_client_that_restarts(lab: Lab) -> None:
    before = vpn_routes(lab).count("64512:2:")
    lab.stop("pe2", "bgpd", signal.SIGKILL)
    eventually(lambda: "Establ" not in client(lab), 10, "the reflector has seen the session end")
    assert (vpn_routes(lab).count("S*>64512:2:"), before) == (2, 2)
    lab.stop("pe2")
    lab.start("pe2")
    eventually(lambda: "Establ" in client(lab) and "S*>" not in vpn_routes(lab), 30, "the routes are fresh again")
    assert pings(lab, "10.1.2.2")


def client(lab: Lab) -> str:
    return next(line for line in lab.run("rr", "gobgp", "neighbor").splitlines() if line.startswith("192.0.2.2"))
