from __future__ import annotations

import pytest

from bgpvpn.desired import Status
from bgpvpn.intent import Kind, Object
from bgpvpn.statuses import Verdict, verdict
from tests.fakes.middle import RANGES, Middle, bind, bind_port, network, port, vpn

ACTIVE = ("ACTIVE", "")
UNBOUND = "neither the port nor its network is bound to a VPN that is up"
EMPTY = "it has no port on this node that is up"
PORT, OTHER = port("p", "n", "10.1.0.5"), port("q", "n", "10.1.0.6")
BLUE, RED = vpn("blue", "64512:1"), vpn("red", "64512:2", type="l2")
WHOLE: list[Object] = [*network("n"), PORT, BLUE, RED, bind("blue", "n"), bind("red", "n")]
"""A network in an l3 and an l2 VPN: it is made of a bridge, a VRF, a VXLAN device, and an attachment for each port."""


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (
            [*network("n"), PORT, BLUE],
            {
                ("port", "p"): ("DOWN", UNBOUND),
                ("network", "n"): ("DOWN", "bound to no VPN"),
                ("subnet", "n-s"): ("DOWN", "bound to no VPN"),
                ("bgpvpn", "blue"): ("DOWN", "nothing is bound to it"),
            },
        ),
        (
            [*network("n"), BLUE, bind("blue", "n")],
            {
                ("network", "n"): ("DOWN", EMPTY),
                ("subnet", "n-s"): ("DOWN", EMPTY),
                ("association", "blue-n"): ("DOWN", EMPTY),
                ("bgpvpn", "blue"): ("DOWN", "nothing that is bound to it has a port on this node that is up"),
            },
        ),
        (
            WHOLE,
            {
                ("port", "p"): ACTIVE,
                ("network", "n"): ACTIVE,
                ("subnet", "n-s"): ACTIVE,
                ("bgpvpn", "blue"): ACTIVE,
                ("association", "blue-n"): ACTIVE,
            },
        ),
        (
            [*network("n"), port("p", "n", admin_state_up=False), BLUE, bind("blue", "n")],
            {("port", "p"): ("DOWN", "administratively down"), ("network", "n"): ("DOWN", EMPTY)},
        ),
        (
            [*network("n"), PORT, vpn("blue", "64512:1", name="Blue", admin_state_up=False), bind("blue", "n")],
            {
                ("port", "p"): ("DOWN", UNBOUND),
                ("bgpvpn", "blue"): ("DOWN", "administratively down"),
                ("association", "blue-n"): ("DOWN", "VPN Blue is administratively down"),
            },
        ),
        (
            [*network("n"), PORT, OTHER, BLUE, bind_port("blue", "p")],
            {
                ("port", "p"): ACTIVE,
                ("port", "q"): ("DOWN", UNBOUND),
                ("association", "blue-p"): ACTIVE,
                ("bgpvpn", "blue"): ACTIVE,
            },
        ),
        (
            [port("alone", None, "10.2.0.5/24"), BLUE, bind_port("blue", "alone")],
            {("port", "alone"): ACTIVE, ("association", "blue-alone"): ACTIVE, ("bgpvpn", "blue"): ACTIVE},
        ),
    ],
)
def test_what_is_wanted_decides_what_can_become_of_it(
    wishes: list[Object], expected: dict[tuple[Kind, str], Verdict]
) -> None:
    middle = Middle()
    middle.want(*wishes)
    middle.settle()
    assert {key: verdict(middle.node, *key) for key in expected} == expected


@pytest.mark.parametrize(
    ("statuses", "port_is", "network_is"),
    [
        ({}, ACTIVE, ACTIVE),
        ({"attachment": Status("pending", "no tap")}, ("PENDING", "no tap"), ACTIVE),
        ({"attachment": None}, ("PENDING", "attachment p is about to be made"), ACTIVE),
        ({"vrf": Status("pending", "soon")}, ("PENDING", "soon"), ("PENDING", "soon")),
        ({"vxlan": Status("failed", "no")}, ("ERROR", "no"), ("ERROR", "no")),
        ({"bridge": Status("active", "as it was left")}, ACTIVE, ACTIVE),
        ({"bridge": Status("pending", "soon"), "vxlan": Status("failed", "no")}, ("ERROR", "no"), ("ERROR", "no")),
        (
            {"attachment": Status("failed", "no"), "vrf": None},
            ("ERROR", "no"),
            ("PENDING", "vrf {} is about to be made"),
        ),
    ],
)
def test_the_worst_of_its_objects_decides(
    statuses: dict[str, Status | None], port_is: Verdict, network_is: Verdict
) -> None:
    middle = Middle()
    middle.want(*WHOLE)
    middle.settle()
    keys = {key[0]: key for key in middle.desired.objects if key[0] != "tunnel"}
    assert set(keys) == {"bridge", "vrf", "vxlan", "attachment"}
    for kind, status in statuses.items():
        middle.status.discard(keys[kind])
        if status is not None:
            middle.status.put(keys[kind], status)
    state, reason = network_is
    expected = state, reason.format(keys["vrf"][1])
    assert verdict(middle.node, "port", "p") == port_is
    for kind, id_ in (("network", "n"), ("subnet", "n-s"), ("bgpvpn", "blue"), ("association", "red-n")):
        assert verdict(middle.node, kind, id_) == expected, kind


def test_a_segment_without_a_number_is_an_error_of_all_that_is_in_it() -> None:
    middle = Middle(ranges={**RANGES, "table": range(100_000, 100_000)})
    middle.want(*WHOLE)
    middle.settle()
    for kind, id_ in (("port", "p"), ("network", "n"), ("bgpvpn", "blue"), ("association", "blue-n")):
        state, reason = verdict(middle.node, kind, id_)
        assert (state, reason.partition(" for ")[0]) == ("ERROR", "no table is free in 100000 to 99999")


def test_a_port_waits_for_its_plug_and_is_refused_with_the_kernels_reason() -> None:
    middle = Middle()
    middle.want(*network("n"), PORT, OTHER, BLUE, bind("blue", "n"), bind_port("blue", "p"))
    middle.settle()
    reasons = {"p": "bridge br-mpls has no port 1"}

    def told(kind: Kind, id_: str) -> Verdict:
        return verdict(middle.node, kind, id_, of_plug=lambda port_id: reasons.get(port_id, ""))

    assert told("port", "p") == ("PENDING", "bridge br-mpls has no port 1")
    assert told("association", "blue-p") == ("PENDING", "bridge br-mpls has no port 1")
    assert told("port", "q") == ACTIVE
    middle.status.put(("attachment", "p"), Status("failed", "no"))
    assert told("port", "p") == ("ERROR", "no")
