from __future__ import annotations

from typing import Any

import attrs
import pytest

from bgpvpn import access
from bgpvpn.access import HIDDEN, OPERATOR, Caller, ForbiddenError
from bgpvpn.intent import Intent, Removal
from bgpvpn.objects import (
    CLASSES,
    Advertisement,
    Association,
    Bgpvpn,
    ConflictError,
    FloatingIp,
    IntentError,
    Network,
    Object,
    OvsPlug,
    Peer,
    Policy,
    Port,
    Route,
    Router,
    Speaker,
    Subnet,
)

MINE, THEIRS = "mine", "theirs"
OWNER = Caller("user alice", "owner", MINE)
SECRETS = ("their", "64512:", "66000")
"""What no error may say to the owner: a word of every name and id of the others, and what VPNs are made of."""


def wishes_of(project: str, number: int) -> list[Object]:
    """Return a tenant's objects, whose ids begin with the project."""
    net = f"10.{number}.0"
    ids = {"project_id": project}
    return [
        Network(id=f"{project}-n", name=f"{project}-net", **ids),
        Subnet(id=f"{project}-s", network_id=f"{project}-n", cidr=f"{net}.0/24", gateway_ip=f"{net}.1", **ids),
        Port(
            id=f"{project}-p",
            name=f"{project}-port",
            network_id=f"{project}-n",
            mac_address="02:00:00:00:00:01",
            ip_addresses=(f"{net}.5",),
            **ids,
        ),
        Router(
            id=f"{project}-r",
            name=f"{project}-router",
            gateway_network_id="outside",
            gateway_ips=(f"198.51.100.{number}",),
            **ids,
        ),
        Bgpvpn(id=f"{project}-v", name=f"{project}-vpn", route_targets=(f"64512:{number}",), **ids),
        Bgpvpn(id=f"{project}-l", name=f"{project}-lan", type="l2", vni=66000 + number, **ids),
        Association(id=f"{project}-a", bgpvpn_id=f"{project}-v", port_id=f"{project}-p"),
        FloatingIp(id=f"{project}-f", network_id="outside", address=f"198.51.100.{100 + number}", **ids),
    ]


FOR_OPERATORS_ONLY: list[Object] = [
    Policy(id="policy", name="policy"),
    Peer(id="peer", address="192.0.2.1", remote_as=64512, families=("ipv4",)),
    Speaker(id="speaker", project_id=MINE, local_as=64512),
    Advertisement(id="advertisement", speaker_id="speaker", destination="203.0.113.0/24", next_hop="198.51.100.1"),
]


@pytest.fixture
def intent() -> Intent:
    """What two tenants have, and the operator between them."""
    made = Intent()
    outside = [
        Network(id="outside", external=True, project_id="operator"),
        Subnet(id="outside-s", network_id="outside", cidr="198.51.100.0/24", gateway_ip="198.51.100.254"),
        Port(
            id="their-station", network_id="outside", mac_address="02:00:00:00:00:09", ip_addresses=("198.51.100.99",)
        ),
    ]
    made.apply(made.plan([*outside, *wishes_of(MINE, 1), *wishes_of(THEIRS, 2), *FOR_OPERATORS_ONLY], 1.0))
    return made


def planned(intent: Intent, *wishes: Object | Removal, caller: Caller = OWNER) -> None:
    access.plan(caller, wishes, intent, 2.0)


def changed(intent: Intent, kind: Any, id_: str, **fields: Any) -> Object:
    return attrs.evolve(intent.tables[kind][id_], **fields)  # type: ignore[no-any-return]


def test_an_owner_sees_what_is_of_its_project_and_external_networks_with_their_subnets(intent: Intent) -> None:
    seen = {
        thing.id
        for table in intent.tables.values()
        for thing in table.rows.values()
        if access.sees(OWNER, thing, intent)
    }
    assert seen == {"outside", "outside-s", *(each.id for each in wishes_of(MINE, 1))}
    assert all(access.sees(OPERATOR, each, intent) for table in intent.tables.values() for each in table.rows.values())


def test_what_a_VPN_is_made_of_is_not_shown_to_its_owner(intent: Intent) -> None:
    for id_ in ("mine-v", "mine-l"):
        vpn = intent.bgpvpns[id_]
        shown = access.shown(OWNER, vpn)
        assert isinstance(shown, Bgpvpn)
        assert {field: getattr(shown, field) for field in HIDDEN} == HIDDEN
        assert attrs.evolve(shown, **{field: getattr(vpn, field) for field in HIDDEN}) == vpn
        assert access.shown(OPERATOR, vpn) is vpn


def test_a_name_or_an_id_of_others_finds_nothing(intent: Intent) -> None:
    for kind, text in (
        ("network", "theirs-n"),
        ("network", "theirs-net"),
        ("port", "theirs-port"),
        ("bgpvpn", "theirs-vpn"),
        ("association", "theirs-a"),
        ("peer", "peer"),
        ("speaker", "speaker"),
        ("policy", "policy"),
        ("network", ""),
    ):
        assert access.find(OWNER, kind, text, intent) is None, text  # type: ignore[arg-type]
    for kind, text in (("network", "mine-net"), ("network", "outside"), ("bgpvpn", "mine-v")):
        assert access.find(OWNER, kind, text, intent) is access.find(OPERATOR, kind, text, intent), text  # type: ignore[arg-type]


def test_a_name_that_others_have_too_is_the_owners_own(intent: Intent) -> None:
    intent.apply(intent.plan([changed(intent, "network", "theirs-n", name="mine-net")], 2.0))
    with pytest.raises(ConflictError):
        access.find(OPERATOR, "network", "mine-net", intent)
    found = access.find(OWNER, "network", "mine-net", intent)
    assert found is not None
    assert found.id == "mine-n"


def test_a_name_that_is_an_id_of_others_finds_the_owners_own(intent: Intent) -> None:
    intent.apply(intent.plan([changed(intent, "network", "mine-n", name="theirs-n")], 2.0))
    found = access.find(OWNER, "network", "theirs-n", intent)
    assert found is not None, "else an owner would find out which ids there are by giving them as names"
    assert found.id == "mine-n"


def test_an_owner_does_with_its_own_what_it_likes(intent: Intent) -> None:
    for wishes in (
        [Network(id="n2", project_id=MINE), Subnet(id="s2", network_id="n2", cidr="10.9.0.0/24", project_id=MINE)],
        [Port(id="p2", network_id="mine-n", mac_address="02:00:00:00:00:02", project_id=MINE)],
        [Port(id="p3", mac_address="02:00:00:00:00:02", project_id=MINE)],
        [changed(intent, "port", "mine-p", admin_state_up=False, name="renamed")],
        [changed(intent, "router", "mine-r", subnet_ids=("mine-s",), gateway_ips=("198.51.100.77",))],
        [Router(id="r2", project_id=MINE, gateway_network_id="outside")],
        [changed(intent, "bgpvpn", "mine-v", name="renamed", local_pref=7)],
        [Association(id="a2", bgpvpn_id="mine-v", network_id="mine-n")],
        [changed(intent, "association", "mine-a", routes=({"type": "prefix", "prefix": "10.8.0.0/16"},))],
        [FloatingIp(id="f2", project_id=MINE, network_id="outside", address="198.51.100.78", port_id="mine-p")],
        [changed(intent, "floating_ip", "mine-f", port_id="mine-p")],
        [Removal("association", "mine-a"), Removal("port", "mine-p"), Removal("network", "mine-n")],
    ):
        planned(intent, *wishes)


OF_OPERATORS: list[tuple[str, dict[str, Any], str]] = [
    ("port", {"interface": "tap0"}, "interface"),
    ("port", {"netns": "red"}, "netns"),
    ("port", {"ovs": OvsPlug(bridge="br-int", port="1")}, "ovs"),
    ("port", {"host": "elsewhere"}, "host"),
    ("port", {"device_owner": "network:dhcp"}, "device_owner"),
    ("network", {"external": True}, "external"),
    ("network", {"fallback_mac": "02:00:00:00:00:02"}, "fallback_mac"),
    ("network", {"host_addresses": True}, "host_addresses"),
    ("subnet", {"address_scope": "public"}, "address_scope"),
    ("bgpvpn", {"route_targets": ("1:1",)}, "route_targets"),
    ("bgpvpn", {"max_prefixes": 100}, "max_prefixes"),
    ("bgpvpn", {"allowed_prefixes": ("10.0.0.0/8",)}, "allowed_prefixes"),
    ("bgpvpn", {"local_pref_range": (0, 1000)}, "local_pref_range"),
    ("bgpvpn", {"aggregate": "subnet"}, "aggregate"),
    ("bgpvpn", {"admin_state_up": False}, "admin_state_up"),
]


@pytest.mark.parametrize(("kind", "fields", "field"), OF_OPERATORS, ids=[f"{k}-{f}" for k, _, f in OF_OPERATORS])
def test_fields_that_reach_beyond_a_project_are_not_for_owners(
    intent: Intent, kind: str, fields: dict[str, Any], field: str
) -> None:
    if kind == "network":
        planned(intent, Network(id="alone", project_id=MINE))
        with pytest.raises(
            ForbiddenError, match=f"{field} of network 'alone' is for operators to set; user alice, owner"
        ):
            planned(intent, Network(id="alone", project_id=MINE, **fields))
        return
    thing = changed(intent, kind, f"mine-{kind[0] if kind != 'bgpvpn' else 'v'}", **fields)
    with pytest.raises(ForbiddenError) as refused:
        planned(intent, thing)
    assert refused.value.field == field
    planned(intent, thing, caller=OPERATOR)


def test_an_owner_says_what_its_ports_are_for_but_for_what_is_the_networks(intent: Intent) -> None:
    for device_owner in ("compute:nova", "", "network:router_interface"):
        planned(intent, changed(intent, "port", "mine-p", device_owner=device_owner))
    served = changed(intent, "port", "mine-p", device_owner="network:dhcp")
    intent.apply(intent.plan([served], 0.0))
    planned(intent, attrs.evolve(served, name="renamed"))
    planned(intent, attrs.evolve(served, device_owner="compute:nova"))
    with pytest.raises(ForbiddenError):
        planned(intent, attrs.evolve(served, device_owner="network:distributed"))


def test_what_a_VPN_is_made_of_is_not_found_out_by_saying_what_it_may_be(intent: Intent) -> None:
    vpn = intent.bgpvpns["mine-v"]
    for field in HIDDEN:
        given = {field: getattr(vpn, field)}  # as it is: the change would come to nothing
        planned(intent, attrs.evolve(vpn, **given))
        with pytest.raises(ForbiddenError) as refused:
            access.check_given(OWNER, "bgpvpn", given)
        assert refused.value.value is None
        access.check_given(OPERATOR, "bgpvpn", given)
    access.check_given(OWNER, "bgpvpn", ["name", "local_pref"])
    access.check_given(OWNER, "port", ["mac_address"])


OTHERS: list[tuple[str, Object | Removal]] = [
    ("there is no network 'theirs-n'", Subnet(id="x", network_id="theirs-n", cidr="10.7.0.0/24", project_id=MINE)),
    (
        "there is no network 'theirs-n'",
        Port(
            id="x", network_id="theirs-n", mac_address="02:00:00:00:00:07", ip_addresses=("10.9.9.9",), project_id=MINE
        ),
    ),
    ("there is no subnet 'theirs-s'", Router(id="x", subnet_ids=("theirs-s",), project_id=MINE)),
    ("there is no bgpvpn 'theirs-v'", Association(id="x", bgpvpn_id="theirs-v", network_id="mine-n")),
    ("there is no network 'theirs-n'", Association(id="x", bgpvpn_id="mine-v", network_id="theirs-n")),
    ("there is no router 'theirs-r'", Association(id="x", bgpvpn_id="mine-v", router_id="theirs-r")),
    ("there is no port 'theirs-p'", Association(id="x", bgpvpn_id="mine-v", port_id="theirs-p")),
    (
        "there is no bgpvpn 'theirs-v'",
        Association(
            id="mine-a", bgpvpn_id="mine-v", port_id="mine-p", routes=(Route(type="bgpvpn", bgpvpn_id="theirs-v"),)
        ),
    ),
    (
        "there is no port 'theirs-p'",
        FloatingIp(id="x", network_id="outside", address="198.51.100.7", port_id="theirs-p", project_id=MINE),
    ),
    (
        "there is no router 'theirs-r'",
        FloatingIp(id="x", network_id="outside", address="198.51.100.7", router_id="theirs-r", project_id=MINE),
    ),
    ("there is no port 'theirs-p'", Removal("port", "theirs-p")),
    ("there is no bgpvpn 'theirs-v'", Removal("bgpvpn", "theirs-v")),
    ("there is no peer 'peer'", Removal("peer", "peer")),
]


@pytest.mark.parametrize(("message", "wish"), OTHERS, ids=[f"{type(w).__name__}: {m}" for m, w in OTHERS])
def test_what_is_of_others_is_refused_in_the_words_of_what_is_not_there(
    intent: Intent, message: str, wish: Object | Removal
) -> None:
    with pytest.raises(IntentError) as theirs:
        planned(intent, wish)
    assert theirs.value.reason == message
    intent = Intent()
    mine = wishes_of(MINE, 1)
    intent.apply(intent.plan([Network(id="outside", external=True), *mine[:3], *mine[4:7]], 1.0))
    with pytest.raises(IntentError) as nothing:
        planned(intent, wish)
    if not isinstance(wish, FloatingIp):  # whose network has no subnet here, but its port is looked at first
        assert (type(theirs.value), str(theirs.value)) == (type(nothing.value), str(nothing.value))


def test_no_error_of_a_conflict_tells_of_others(intent: Intent) -> None:
    both = [
        Port(id="theirs-in-mine", network_id="mine-n", mac_address="02:00:00:00:00:0a", ip_addresses=("10.1.0.66",)),
        Removal("association", "mine-a"),
    ]
    intent.apply(intent.plan(both, 2.0))
    for wish, field in (
        (FloatingIp(id="x", network_id="outside", address="198.51.100.102", project_id=MINE), "address"),
        (FloatingIp(id="x", network_id="outside", address="198.51.100.2", project_id=MINE), "address"),
        (FloatingIp(id="x", network_id="outside", address="198.51.100.99", project_id=MINE), "address"),
        (FloatingIp(id="x", network_id="outside", address="198.51.100.254", project_id=MINE), "address"),
        (changed(intent, "router", "mine-r", gateway_ips=("198.51.100.2",)), "gateway_ips"),
        (changed(intent, "router", "mine-r", gateway_ips=("198.51.100.99",)), "gateway_ips"),
        (changed(intent, "port", "mine-p", ip_addresses=("10.1.0.66",)), "ip_addresses"),
        (changed(intent, "port", "mine-p", mac_address="02:00:00:00:00:0a"), "mac_address"),
        (changed(intent, "subnet", "mine-s", gateway_ip="10.1.0.66"), "gateway_ip"),
        (Removal("network", "mine-n"), "id"),
        (Removal("subnet", "mine-s"), "id"),
    ):
        with pytest.raises(ConflictError) as refused:
            planned(intent, wish)
        assert refused.value.field == field
        said = f"{refused.value} {refused.value.value}"
        assert not [word for word in SECRETS if word in said], said


def test_no_error_tells_an_owner_a_VNI(intent: Intent) -> None:
    there = [
        Bgpvpn(id="mine-m", name="mine-man", project_id=MINE, type="l2", vni=66009),
        Network(id="mine-o", project_id=MINE),
        Association(id="mine-b", bgpvpn_id="mine-m", network_id="mine-o"),
        Network(id="theirs-m", project_id=THEIRS),
        Association(id="theirs-b", bgpvpn_id="theirs-l", network_id="theirs-m"),
        changed(intent, "bgpvpn", "theirs-l", vni=66001),
    ]
    intent.apply(intent.plan([*there, Removal("association", "mine-a")], 2.0))
    for network in ("mine-n", "mine-o"):  # the VNI is another tenant's; the network has another VNI
        wish = Association(id="x", bgpvpn_id="mine-l", network_id=network)
        with pytest.raises(ConflictError, match="660"):
            planned(intent, wish, caller=OPERATOR)
        with pytest.raises(ConflictError) as refused:
            planned(intent, wish)
        assert (str(refused.value), refused.value.value) == ("vni: is taken or in use", None)


def test_a_conflict_among_its_own_is_told_to_an_owner_as_to_an_operator(intent: Intent) -> None:
    for wish in (
        Subnet(id="x", network_id="mine-n", cidr="10.1.0.0/16", project_id=MINE),
        Network(id="x", name="mine-net", project_id=MINE),
        Removal("network", "mine-n"),
        Association(id="x", bgpvpn_id="mine-v", port_id="mine-p"),
    ):
        with pytest.raises(ConflictError) as told:
            planned(intent, wish)
        with pytest.raises(ConflictError) as operators:
            planned(intent, wish, caller=OPERATOR)
        assert str(told.value) == str(operators.value)


def test_outside_an_owner_takes_addresses_of_a_subnet_only(intent: Intent) -> None:
    for wish in (
        FloatingIp(id="x", network_id="outside", address="8.8.8.8", project_id=MINE),
        FloatingIp(id="x", network_id="outside", address="198.51.100.255", project_id=MINE),
        changed(intent, "router", "mine-r", gateway_ips=("8.8.8.8",)),
        changed(intent, "router", "mine-r", gateway_ips=("198.51.100.0",)),
    ):
        with pytest.raises(IntentError, match=r"is no host's address in a subnet of the external network"):
            planned(intent, wish)
        planned(intent, wish, caller=OPERATOR)


def test_an_external_network_is_not_for_owners_to_fill_or_change(intent: Intent) -> None:
    intent.apply(intent.plan([Network(id="own-outside", external=True, project_id=MINE)], 2.0))
    for wish in (
        Subnet(id="x", network_id="outside", cidr="8.8.8.0/24", project_id=MINE),
        Subnet(id="x", network_id="own-outside", cidr="8.8.8.0/24", project_id=MINE),
        Port(id="x", network_id="outside", mac_address="02:00:00:00:00:0b", project_id=MINE),
        changed(intent, "network", "outside", name="taken over"),
        changed(intent, "subnet", "outside-s", gateway_ip=None),
        changed(intent, "network", "own-outside", external=False),
        Removal("network", "outside"),
        Removal("subnet", "outside-s"),
    ):
        with pytest.raises((ForbiddenError, ConflictError)) as refused:
            planned(intent, wish)
        assert "their" not in str(refused.value)


def test_nothing_is_made_for_or_given_to_another_project(intent: Intent) -> None:
    for wish in (
        Network(id="x", project_id=THEIRS),
        Network(id="x", project_id=THEIRS, name="theirs-net"),  # the name is taken, which is not for the owner to know
        Network(id="x"),
        Port(id="x", network_id="mine-n", mac_address="02:00:00:00:00:0c", project_id=THEIRS),
        Bgpvpn(id="x", project_id=MINE),
        Peer(id="x", address="192.0.2.2", remote_as=1),
        Speaker(id="x", project_id=MINE, local_as=1),
        Policy(id="x", name="x"),
        Removal("bgpvpn", "mine-v"),
    ):
        with pytest.raises(ForbiddenError, match="user alice, owner of project 'mine'"):
            planned(intent, wish)
    for kind, id_ in (("network", "theirs-n"), ("port", "theirs-p"), ("bgpvpn", "theirs-v"), ("peer", "peer")):
        with pytest.raises(ForbiddenError, match="ids are for operators to choose"):
            planned(intent, changed(intent, kind, id_, name="taken"))


def test_what_would_take_others_along_is_refused_as_a_whole(intent: Intent) -> None:
    intent.apply(intent.plan([Subnet(id="their-subnet", network_id="mine-n", cidr="10.77.0.0/24")], 2.0))
    intent.apply(intent.plan([Removal("association", "mine-a"), Removal("port", "mine-p")], 2.0))
    with pytest.raises(ForbiddenError, match="what would change with it is not of your project") as refused:
        planned(intent, Removal("network", "mine-n"))
    assert "their" not in str(refused.value)
    made = [Network(id="n9", project_id=MINE), Network(id="n8", project_id=THEIRS)]
    with pytest.raises(ForbiddenError):
        planned(intent, *made)
    assert intent.networks.get("n9") is None


def test_every_kind_is_either_owned_or_not_seen() -> None:
    assert set(CLASSES) - access.OWNED == {"bgpvpn", "policy", "peer", "speaker", "advertisement"}
