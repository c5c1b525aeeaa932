from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpvpn.intent import (
    Advertisement,
    Association,
    Bgpvpn,
    Change,
    ConflictError,
    FloatingIp,
    Intent,
    IntentError,
    Kind,
    Network,
    Object,
    Peer,
    Port,
    Removal,
    Router,
    Speaker,
    Stamp,
    Subnet,
    kind_of,
    make,
)
from bgpvpn.objects import Route

MAC = "02:00:00:00:00:01"


def port(id_: str, **fields: Any) -> Port:
    number = int.from_bytes(id_.encode()[-4:], "big")
    return Port(**{"id": id_, "interface": f"tap-{id_}", "mac_address": f"02:00:00:00:{number % 256:02x}:01", **fields})


def written(intent: Intent, *wishes: Object | Removal) -> list[Change]:
    changes = intent.plan(wishes, 1.0)
    intent.apply(changes)
    return changes


def with_network() -> Intent:
    intent = Intent()
    written(
        intent,
        Network(id="n", name="blue-net"),
        Subnet(id="s", network_id="n", cidr="10.0.0.0/24", gateway_ip="10.0.0.1"),
        port("p", name="p", network_id="n", ip_addresses=["10.0.0.5"]),
        Bgpvpn(id="v", name="blue", route_targets=["64512:1"]),
    )
    return intent


@pytest.mark.parametrize(
    ("make_it", "field", "given", "kept"),
    [
        (lambda value: Bgpvpn(id="v", route_targets=value), "route_targets", ["1.10:5", "1.10:5"], ("65546:5",)),
        (lambda value: Bgpvpn(id="v", import_targets=value), "import_targets", ["100L:5"], ("100L:5",)),
        (
            lambda value: Bgpvpn(id="v", route_distinguishers=value),
            "route_distinguishers",
            ["1.2.3.4:5"],
            ("1.2.3.4:5",),
        ),
        (lambda value: port("p", mac_address=value), "mac_address", "FA-16-3E-00-00-01", "fa:16:3e:00:00:01"),
        (lambda value: port("p", ip_addresses=value), "ip_addresses", ["2001:DB8::0:5/64"], ("2001:db8::5/64",)),
        (lambda value: Subnet(id="s", network_id="n", cidr=value), "cidr", "10.0.0.7/24", "10.0.0.0/24"),
        (
            lambda value: Association(id="a", bgpvpn_id="v", port_id="p", routes=value),
            "routes",
            [{"type": "prefix", "prefix": "::1/8"}],
            (Route(type="prefix", prefix="::/8"),),
        ),
        (lambda value: Peer(id="p", address="192.0.2.1", remote_as=1, families=value), "families", ["EVPN"], ("evpn",)),
    ],
)
def test_what_users_write_is_normalised(make_it: Callable[[Any], Object], field: str, given: Any, kept: Any) -> None:
    assert getattr(make_it(given), field) == kept


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("network", {"id": "a b"}, "id"),
        ("network", {"id": ".."}, "id"),
        ("network", {"id": "n", "name": "."}, "name"),
        ("network", {"id": "n", "name": "a\x1b[2J"}, "name"),
        ("network", {"id": "n", "name": "a/b"}, "name"),
        ("network", {"id": "n", "name": "x" * 256}, "name"),
        ("network", {"id": "n", "name": 5}, "name"),
        ("network", {"id": "n", "mtu": 10}, "mtu"),
        ("network", {"id": "n", "mtu": True}, "mtu"),
        ("network", {"id": "n", "mtv": 1500}, "mtv"),
        ("subnet", {"id": "s", "network_id": "n"}, "cidr"),
        ("subnet", {"id": "s", "network_id": "n", "cidr": "10.0.0.0/33"}, "cidr"),
        ("subnet", {"id": "s", "network_id": "n", "cidr": "0.0.0.0/0"}, "cidr"),
        ("subnet", {"id": "s", "network_id": "n", "cidr": "224.0.0.0/24"}, "cidr"),
        ("subnet", {"id": "s", "network_id": "n", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.1.1"}, "gateway_ip"),
        ("subnet", {"id": "s", "network_id": "n", "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.255"}, "gateway_ip"),
        ("port", {"id": "p", "interface": "x" * 16, "mac_address": MAC}, "interface"),
        ("port", {"id": "p", "interface": "..", "mac_address": MAC}, "interface"),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "netns": "../x"}, "netns"),
        ("port", {"id": "p", "interface": "tap", "mac_address": "01:00:5e:00:00:01"}, "mac_address"),
        ("port", {"id": "p", "interface": "tap", "mac_address": "00:00:00:00:00:00"}, "mac_address"),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "ip_addresses": "10.0.0.5"}, "ip_addresses"),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "ip_addresses": ["127.0.0.1"]}, "ip_addresses"),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "ip_addresses": ["fe80::1%eth0"]}, "ip_addresses"),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "ip_addresses": ["10.0.0.5/x"]}, "ip_addresses"),
        (
            "port",
            {"id": "p", "interface": "tap", "mac_address": MAC, "ip_addresses": ["10.0.0.5", "10.0.0.5/24"]},
            "ip_addresses",
        ),
        (
            "port",
            {"id": "p", "interface": "tap", "mac_address": MAC, "network_id": "n", "ip_addresses": ["10.0.0.5/24"]},
            "ip_addresses",
        ),
        (
            "port",
            {
                "id": "p",
                "interface": "tap",
                "mac_address": MAC,
                "ip_addresses": ["10.0.0.5"],
                "gateway_ips": ["10.0.0.1"],
            },
            "gateway_ips",
        ),
        (
            "port",
            {"id": "p", "interface": "tap", "mac_address": MAC, "network_id": "n", "gateway_ips": ["10.0.0.1"]},
            "gateway_ips",
        ),
        ("port", {"id": "p", "interface": "tap", "mac_address": MAC, "admin_state_up": 1}, "admin_state_up"),
        ("bgpvpn", {"id": "v", "type": "l4"}, "type"),
        ("bgpvpn", {"id": "v", "route_targets": ["64512"]}, "route_targets"),
        ("bgpvpn", {"id": "v", "route_targets": [5]}, "route_targets"),
        ("bgpvpn", {"id": "v", "type": "l2", "vni": 1 << 24}, "vni"),
        ("bgpvpn", {"id": "v", "type": "l3", "vni": 5}, "vni"),
        ("bgpvpn", {"id": "v", "local_pref": -1}, "local_pref"),
        ("association", {"id": "a", "bgpvpn_id": "v"}, "network_id"),
        ("association", {"id": "a", "bgpvpn_id": "v", "network_id": "n", "port_id": "p"}, "network_id"),
        (
            "association",
            {"id": "a", "bgpvpn_id": "v", "network_id": "n", "routes": [{"type": "prefix", "prefix": "10.0.0.0/8"}]},
            "routes",
        ),
        (
            "association",
            {"id": "a", "bgpvpn_id": "v", "network_id": "n", "advertise_fixed_ips": False},
            "advertise_fixed_ips",
        ),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 0}, "remote_as"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 23456}, "remote_as"),
        ("peer", {"id": "p", "address": "224.0.0.1", "remote_as": 1}, "address"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "local_address": "::1"}, "local_address"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "families": []}, "families"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "families": ["vpls"]}, "families"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "hold_time_s": 2}, "hold_time_s"),
        (
            "peer",
            {"id": "p", "address": "192.0.2.1", "remote_as": 1, "multihop_ttl": 5, "ttl_security_hops": 1},
            "ttl_security_hops",
        ),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "password": ""}, "password"),
        ("peer", {"id": "p", "address": "192.0.2.1", "remote_as": 1, "password": "s3cret" * 20}, "password"),
    ],
)
def test_what_is_wrong_by_itself_is_not_made_and_the_field_is_named(
    kind: Kind, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(IntentError) as refusal:
        make(kind, fields)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")
    assert "s3cret" not in repr(refusal.value.value) + str(refusal.value)


def test_a_misspelt_field_is_answered_with_the_right_one() -> None:
    with pytest.raises(IntentError, match="route_targtes: is not a field of a bgpvpn; did you mean route_targets"):
        make("bgpvpn", {"id": "v", "route_targtes": []})


def test_a_password_is_in_no_text_of_its_peer() -> None:
    assert "s3cret" not in repr(Peer(id="p", address="192.0.2.1", remote_as=1, password="s3cret"))


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        (Subnet(id="x", network_id="gone", cidr="10.0.0.0/24"), IntentError, "network_id: there is no network 'gone'"),
        (Network(id="x", name="blue-net"), ConflictError, "'blue-net' is taken by network 'blue-net'"),
        (Bgpvpn(id="x", name="blue"), ConflictError, "name: 'blue' is taken by bgpvpn 'blue'"),
        (Subnet(id="x", network_id="n", cidr="10.0.0.128/25"), ConflictError, "overlaps with 10.0.0.0/24"),
        (port("x", network_id="n", ip_addresses=["10.0.0.5"]), ConflictError, "'10.0.0.5' is taken by port 'p'"),
        (
            port("x", network_id="n", ip_addresses=["10.0.1.5"]),
            IntentError,
            "10.0.1.5 is in no subnet of network 'blue-net'",
        ),
        (port("x", network_id="n", ip_addresses=["10.0.0.1"]), ConflictError, "10.0.0.1 is the gateway of subnet"),
        (port("x", network_id="n", ip_addresses=["10.0.0.255"]), IntentError, "own or broadcast address"),
        (port("x", interface="tap-p"), ConflictError, "interface: 'tap-p' is taken by port 'p'"),
        (
            port("x", network_id="n", mac_address="02:00:00:00:70:01"),
            ConflictError,
            "mac_address: .* is taken by port 'p'",
        ),
        (port("p", name="p"), IntentError, "network_id: stays 'n' as long as the port exists"),
        (Bgpvpn(id="v", name="blue", type="l2"), IntentError, "type: stays 'l3'"),
        (Subnet(id="s", network_id="n", cidr="10.0.0.0/24", gateway_ip="10.0.0.5"), ConflictError, "taken by port 'p'"),
        (Association(id="x", bgpvpn_id="gone", network_id="n"), IntentError, "bgpvpn_id: there is no bgpvpn 'gone'"),
        (Removal("network", "n"), ConflictError, "network 'blue-net' has ports: p"),
        (Removal("subnet", "s"), ConflictError, "ports have addresses in subnet 10.0.0.0/24: p"),
        (Removal("port", "gone"), IntentError, "there is no port 'gone'"),
    ],
)
def test_what_cannot_stand_beside_the_rest_is_refused(
    wish: Object | Removal, error: type[IntentError], words: str
) -> None:
    intent = with_network()
    with pytest.raises(error, match=words):
        intent.plan([wish], 1.0)


def test_names_are_free_in_another_project_and_kind() -> None:
    intent = with_network()
    written(intent, Network(id="x", name="blue"), Network(id="y", name="blue-net", project_id="other"))
    assert len(intent.networks) == 3


def test_a_name_in_several_projects_is_found_by_id_only() -> None:
    intent = with_network()
    assert intent.find("network", "blue-net") == intent.networks["n"]
    written(intent, Network(id="y", name="blue-net", project_id="other"))
    with pytest.raises(ConflictError, match="n in project default, y in project other"):
        intent.find("network", "blue-net")
    assert intent.find("network", "y") == intent.networks["y"]
    assert intent.find("network", "gone") is None


def test_associations_go_with_what_they_bind() -> None:
    for removal, left in [
        (Removal("bgpvpn", "v"), ["m"]),
        (Removal("port", "p"), ["a", "m"]),
    ]:
        intent = with_network()
        written(
            intent,
            Bgpvpn(id="w"),
            Association(id="a", bgpvpn_id="v", network_id="n"),
            Association(id="b", bgpvpn_id="v", port_id="p"),
            Association(id="m", bgpvpn_id="w", network_id="n"),
        )
        changes = written(intent, removal)
        assert sorted(intent.associations) == left
        assert changes[-1].id == removal.id, "what refers goes before what is referred to"


def test_a_network_may_let_its_ports_have_addresses_in_no_subnet() -> None:
    intent = with_network()
    outside = port("q", network_id="n", ip_addresses=["10.9.9.9"])
    with pytest.raises(IntentError, match=r"10.9.9.9 is in no subnet of network 'blue-net'"):
        written(intent, outside)
    written(intent, attrs.evolve(intent.networks["n"], host_addresses=True), outside)
    with pytest.raises(IntentError, match=r"10.0.0.255 is the own or broadcast address"):
        written(intent, attrs.evolve(outside, ip_addresses=["10.0.0.255"]))
    with pytest.raises(IntentError, match=r"10.9.9.9 is in no subnet of network 'blue-net'"):
        written(intent, attrs.evolve(intent.networks["n"], host_addresses=False))


def test_a_network_goes_with_its_subnets_once_its_ports_are_gone() -> None:
    intent = with_network()
    written(intent, Association(id="a", bgpvpn_id="v", network_id="n"), Removal("port", "p"), Removal("network", "n"))
    assert [kind for kind, table in intent.tables.items() if len(table)] == ["bgpvpn"]


def test_binding_across_projects_is_refused() -> None:
    intent = with_network()
    written(intent, Bgpvpn(id="w", name="red", project_id="other"))
    with pytest.raises(IntentError, match="network 'blue-net' is of project 'default', VPN 'red' of 'other'"):
        intent.plan([Association(id="a", bgpvpn_id="w", network_id="n")], 0.0)


def test_the_same_binding_twice_is_refused() -> None:
    intent = with_network()
    written(intent, Association(id="a", bgpvpn_id="v", network_id="n"))
    with pytest.raises(ConflictError, match="'blue-net' is bound to this VPN already, by association a"):
        intent.plan([Association(id="b", bgpvpn_id="v", network_id="n")], 0.0)


def test_an_l2_vpn_carries_no_prefixes() -> None:
    intent = with_network()
    written(intent, Bgpvpn(id="w", type="l2"))
    with pytest.raises(IntentError, match=r"routes: .* is of type l2"):
        intent.plan(
            [Association(id="a", bgpvpn_id="w", port_id="p", routes=[{"type": "prefix", "prefix": "10.9.0.0/16"}])], 0.0
        )


def l2(id_: str, vni: int | None) -> Bgpvpn:
    return Bgpvpn(id=id_, name=id_, type="l2", vni=vni)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (
            [
                l2("w", 300),
                Association(id="a", bgpvpn_id="w", network_id="n"),
                Association(id="b", bgpvpn_id="w", network_id="m"),
            ],
            "VNI 300 would be in two networks: network 'red-net' and network 'blue-net'",
        ),
        (
            [
                l2("w", 300),
                l2("x", 300),
                Association(id="a", bgpvpn_id="w", network_id="n"),
                Association(id="b", bgpvpn_id="x", network_id="m"),
            ],
            "VNI 300 would be in two networks",
        ),
        (
            [
                l2("w", 300),
                l2("x", None),
                Association(id="a", bgpvpn_id="w", network_id="n"),
                Association(id="b", bgpvpn_id="x", network_id="m"),
                l2("x", 300),
            ],
            "VNI 300 would be in two networks",
        ),
        (
            [
                l2("w", 300),
                l2("x", 301),
                Association(id="a", bgpvpn_id="w", network_id="n"),
                Association(id="b", bgpvpn_id="x", network_id="n"),
            ],
            r"network 'blue-net' would be in VPNs with different VNIs: w \(VNI 300\), x \(VNI 301\)",
        ),
        (
            [
                l2("w", 300),
                Association(id="a", bgpvpn_id="w", network_id="n"),
                Association(id="b", bgpvpn_id="v", port_id="p"),
            ],
            "VNI 300 cannot be in both segments",
        ),
    ],
)
def test_a_vni_is_in_one_network_only(wishes: list[Object], words: str) -> None:
    intent = with_network()
    written(intent, Network(id="m", name="red-net"))
    with pytest.raises(ConflictError, match=words):
        intent.plan(wishes, 1.0)
    intent.plan(wishes[:-1], 1.0)


def test_two_vpns_with_one_vni_may_share_a_network() -> None:
    intent = with_network()
    written(
        intent,
        l2("w", 300),
        l2("x", 300),
        Association(id="a", bgpvpn_id="w", network_id="n"),
        Association(id="b", bgpvpn_id="x", network_id="n"),
    )
    assert len(intent.associations) == 2


def test_wishes_are_done_all_or_none() -> None:
    intent = with_network()
    with pytest.raises(IntentError):
        intent.plan([Network(id="x", name="new"), Subnet(id="y", network_id="gone", cidr="10.0.0.0/8")], 1.0)
    assert "x" not in intent.networks
    intent.plan([Network(id="z", name="new")], 0.0)


def test_plan_leaves_the_tables_alone_until_apply() -> None:
    intent = with_network()
    reader = intent.networks.reader()
    reader.take()
    changes = intent.plan([Network(id="x")], 1.0)
    assert ("x" in intent.networks, len(reader)) == (False, 0)
    intent.apply(changes)
    assert ("x" in intent.networks, len(reader)) == (True, 1)


def test_revisions_count_writes_and_what_is_as_wished_is_no_write() -> None:
    intent = Intent()
    for wall, wish, expected in [
        (1.0, Network(id="n"), Stamp(1, 1.0, 1.0)),
        (2.0, Network(id="n"), None),
        (3.0, Network(id="n", mtu=1400), Stamp(2, 1.0, 3.0)),
        (4.0, Removal("network", "n"), Stamp(2, 1.0, 3.0)),
        (5.0, Network(id="n"), Stamp(1, 5.0, 5.0)),
    ]:
        changes = intent.plan([wish], wall)
        intent.apply(changes)
        assert [change.stamp for change in changes] == ([] if expected is None else [expected]), f"at {wall}"


def test_what_the_configuration_sets_is_not_changed_by_users() -> None:
    intent = Intent()
    peer = Peer(id="p", name="rr", address="192.0.2.1", remote_as=1)
    assert intent.load([Change("peer", "p", peer, Stamp(1, 0.0, 0.0))], configured=True) == []
    for wish in (attrs.evolve(peer, passive=True), Removal("peer", "p")):
        with pytest.raises(ConflictError, match="peer 'rr' is set in the configuration file"):
            intent.plan([wish], 1.0)
    assert intent.plan([peer], 1.0) == []


def test_a_stored_object_that_conflicts_stays_out_and_is_reported() -> None:
    intent = Intent()
    stamp = Stamp(1, 0.0, 0.0)
    intent.load(
        [Change("peer", "p", Peer(id="p", address="192.0.2.1", remote_as=1), stamp)],
        configured=True,
    )
    stored = Change("peer", "q", Peer(id="q", address="192.0.2.1", remote_as=2), stamp)
    kept = Change("network", "n", Network(id="n"), stamp)
    ((refused, error),) = intent.load([stored, kept])
    assert refused == stored
    assert isinstance(error, ConflictError)
    assert (list(intent.peers), list(intent.networks)) == (["p"], ["n"])


IDS = st.sampled_from(["1", "2", "3"])
NAMES = st.sampled_from(["", "a", "b"])
ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.0.255"]), max_size=2, unique=True)
ALL: tuple[Kind, ...] = ("floating_ip", "association", "port", "router", "subnet", "network", "bgpvpn")
WISHES = st.one_of(
    st.builds(Network, id=IDS, name=NAMES, host_addresses=st.booleans(), external=st.booleans()),
    st.builds(Subnet, id=IDS, network_id=IDS, cidr=st.sampled_from(["10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/16"])),
    st.builds(Subnet, id=IDS, network_id=IDS, cidr=st.just("10.0.0.0/24"), gateway_ip=st.just("10.0.0.1")),
    st.builds(Router, id=IDS, name=NAMES, subnet_ids=st.lists(IDS, max_size=2, unique=True)),
    st.builds(Router, id=IDS, gateway_network_id=IDS),
    st.builds(FloatingIp, id=IDS, network_id=IDS, address=st.sampled_from(["10.0.0.9", "10.0.1.9"])),
    st.builds(
        FloatingIp, id=IDS, network_id=IDS, address=st.just("10.0.0.9"), port_id=IDS, fixed_ip=st.just("10.0.0.2")
    ),
    st.builds(
        Port,
        id=IDS,
        name=NAMES,
        network_id=st.none() | IDS,
        interface=IDS,
        mac_address=st.sampled_from([MAC, "02:00:00:00:00:02"]),
        ip_addresses=ADDRESSES,
    ),
    st.builds(Bgpvpn, id=IDS, name=NAMES, type=st.just("l2"), vni=st.sampled_from([None, 7, 8])),
    st.builds(Bgpvpn, id=IDS, name=NAMES, type=st.just("l3")),
    st.builds(Association, id=IDS, bgpvpn_id=IDS, network_id=IDS),
    st.builds(Association, id=IDS, bgpvpn_id=IDS, port_id=IDS),
    st.builds(Association, id=IDS, bgpvpn_id=IDS, router_id=IDS),
    st.builds(Removal, kind=st.sampled_from(ALL), id=IDS),
)


@given(st.lists(WISHES, max_size=40))
def test_whatever_was_accepted_can_be_loaded_again_and_nothing_dangles(wishes: list[Object | Removal]) -> None:
    intent = Intent()
    for wish in wishes:
        try:
            written(intent, wish)
        except IntentError:
            continue
    things: list[Object] = [thing for table in intent.tables.values() for thing in table.rows.values()]
    fresh = Intent()
    assert fresh.load(Change(kind_of(thing), thing.id, thing, Stamp(1, 0.0, 0.0)) for thing in things) == []
    for thing in things:
        for field in ("network_id", "port_id", "bgpvpn_id"):
            other = getattr(thing, field, None)
            assert other is None or other in intent.tables[field.removesuffix("_id")], thing  # type: ignore[index]
    for kind in ALL:
        for id_ in list(intent.tables[kind]):
            written(intent, Removal(kind, id_))
    assert not any(intent.tables.values())
    written(intent, Network(id="1", name="a"), port("1", name="a", interface="1"), Bgpvpn(id="1", name="a"))


def test_a_port_keeps_the_address_that_a_floating_one_stands_for() -> None:
    intent = with_network()
    out = (Network(id="o", external=True), Subnet(id="so", network_id="o", cidr="198.51.100.0/24"))
    written(intent, *out, FloatingIp(id="f", network_id="o", address="198.51.100.7", port_id="p", fixed_ip="10.0.0.5"))
    with pytest.raises(ConflictError, match=r"floating address 198.51.100.7 stands for 10.0.0.5"):
        written(intent, attrs.evolve(intent.ports["p"], ip_addresses=["10.0.0.6"]))
    written(intent, attrs.evolve(intent.ports["p"], ip_addresses=["10.0.0.6", "10.0.0.5"]))


def test_no_subnet_comes_around_a_port_that_would_be_no_host_there() -> None:
    intent = Intent()
    written(intent, Network(id="n", host_addresses=True), port("p", network_id="n", ip_addresses=["10.0.0.255"]))
    with pytest.raises(ConflictError, match=r"10.0.0.255, which is no host's there, is of port 'p'"):
        written(intent, Subnet(id="s", network_id="n", cidr="10.0.0.0/24"))
    written(intent, Subnet(id="s", network_id="n", cidr="10.0.0.0/16"))


# Routers, external networks, shared interfaces, and what goes with what


ROUTED: tuple[Object, ...] = (
    Network(id="n1"),
    Subnet(id="s1", network_id="n1", cidr="10.1.0.0/24"),
    Network(id="n2"),
    Subnet(id="s2", network_id="n2", cidr="10.2.0.0/24"),
    Network(id="x", external=True),
    Subnet(id="sx", network_id="x", cidr="203.0.113.0/24"),
    Bgpvpn(id="v", route_targets=["64512:1"]),
    Bgpvpn(id="e", route_targets=["64512:2"], type="l2"),
    Router(
        id="r", subnet_ids=["s1"], routes=[{"destination": "172.16.0.0/16", "nexthop": "10.1.0.9"}],
        gateway_network_id="x", gateway_ips=["203.0.113.9"],
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Association(id="a", bgpvpn_id="v", network_id="x"), "network 'x' is external, and cannot be in a VPN"),
        (Association(id="a", bgpvpn_id="e", network_id="x"), "network 'x' is external, and cannot be in a VPN"),
        (Association(id="a", bgpvpn_id="e", router_id="r"), "is of type l2; a router has a place in l3 only"),
        (Router(id="q", subnet_ids=["sx"]), "subnet 203.0.113.0/24 is of an external network"),
        (Router(id="q", subnet_ids=["s1"], gateway_network_id="n2"), "network 'n2' is not external"),
        (
            Router(id="q", subnet_ids=["s1"], routes=[{"destination": "10.7.0.0/16", "nexthop": "10.2.0.9"}]),
            "10.2.0.9 is in no subnet of the router",
        ),
        (Network(id="n1", external=True), "network 'n1' is a tenant's, behind router r"),
        (Network(id="x"), "network 'x' is the way out of router r"),
        (Removal("subnet", "s1"), "subnet .* is on router r"),
        (Removal("network", "n1"), "network 'n1' is on router r"),
        (Removal("network", "x"), "network 'x' is the way out of r"),
        (
            Router(id="r", subnet_ids=["s2"], routes=[{"destination": "172.16.0.0/16", "nexthop": "10.1.0.9"}]),
            "10.1.0.9 is in no subnet of the router",
        ),
    ],
)
def test_routers_and_external_networks_have_their_places(wish: Object | Removal, words: str) -> None:
    intent = Intent()
    written(intent, *ROUTED)
    with pytest.raises(IntentError, match=words):
        intent.plan([wish], 0.0)


def test_a_network_in_a_vpn_does_not_become_external() -> None:
    intent = Intent()
    written(intent, *ROUTED, Association(id="a", bgpvpn_id="v", network_id="n2"))
    with pytest.raises(ConflictError, match="network 'n2' is bound to a VPN"):
        intent.plan([Network(id="n2", external=True)], 0.0)


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        ({"network_id": "n1"}, {"network_id": "n1"}, ""),
        ({"network_id": "n1"}, {"network_id": "n2"}, "interface: 'tap' is taken by port 'p1'"),
        ({"network_id": "n1"}, {}, "interface: 'tap' is taken"),
        ({}, {}, "interface: 'tap' is taken"),
        ({"network_id": "n1"}, {"network_id": "n2", "netns": "other"}, ""),
        ({"network_id": "n1"}, {"network_id": "n2", "host": "elsewhere"}, ""),
        ({"network_id": "n1"}, {"network_id": "n1", "ovs": {"bridge": "br-int", "port": "1"}}, "'tap' is taken"),
        (
            {"network_id": "n1", "mac_address": MAC},
            {"network_id": "n1", "mac_address": MAC},
            "mac_address: .* is taken",
        ),
    ],
)
def test_only_stations_of_one_network_that_are_plugged_alike_share_an_interface(
    one: dict[str, Any], other: dict[str, Any], error: str
) -> None:
    intent = Intent()
    written(intent, *ROUTED, port("p1", interface="tap", **one))
    if not error:
        written(intent, port("p2", interface="tap", **other))
        return
    with pytest.raises(ConflictError, match=error):
        intent.plan([port("p2", interface="tap", **other)], 0.0)


def test_a_station_does_not_change_to_another_plug_while_it_shares_its_interface() -> None:
    intent = Intent()
    written(intent, *ROUTED, *(port(f"p{n}", interface="tap", network_id="n1") for n in (1, 2)))
    plug = {"bridge": "br-int", "port": "1"}
    with pytest.raises(ConflictError, match="interface: 'tap' is taken by port 'p2'"):
        intent.plan([port("p1", interface="tap", network_id="n1", ovs=plug)], 0.0)


def test_a_peer_knows_this_node_by_one_as_whatever_speakers_it_is_in() -> None:
    intent = Intent()
    peer = Peer(id="k", address="192.0.2.1", remote_as=64512, families=["ipv4", "ipv6"])
    own = attrs.evolve(peer, local_as=64700)
    one = Speaker(id="one", local_as=64601, peers=["k"])
    same = Speaker(id="same", local_as=64601, ip_version=6, peers=["k"])
    other = Speaker(id="other", local_as=64602, peers=["k"])
    written(intent, peer, one, same)
    with pytest.raises(ConflictError, match="would know this node as AS 64602, and by speaker 'one' as AS 64601"):
        written(intent, other)
    written(intent, own, other)
    with pytest.raises(ConflictError, match="without a local_as would know this node as AS"):
        written(intent, peer)
    written(intent, attrs.evolve(other, peers=()), peer)


def test_an_ipv4_address_leads_to_no_ipv6_destination_but_the_other_way_round_it_can() -> None:  # RFC 8950
    with pytest.raises(IntentError, match="leads to no IPv6 destination like 2001:db8::/32"):
        Advertisement(id="a", speaker_id="s", destination="2001:db8::/32", next_hop="192.0.2.9")
    Advertisement(id="a", speaker_id="s", destination="192.0.2.0/24", next_hop="2001:db8::9")


def test_what_names_a_removed_object_goes_with_it_or_forgets_it() -> None:
    wishes: tuple[Object, ...] = (
        *ROUTED,
        port("p", network_id="n2", ip_addresses=["10.2.0.5"]),
        Bgpvpn(id="w", route_targets=["64512:3"]),
        Association(id="vr", bgpvpn_id="v", router_id="r"),
        Association(
            id="vp", bgpvpn_id="v", port_id="p",
            routes=[{"type": "bgpvpn", "bgpvpn_id": "w"}, {"type": "prefix", "prefix": "10.7.0.0/16"}],
        ),
        Association(id="wp", bgpvpn_id="w", port_id="p", routes=[{"type": "bgpvpn", "bgpvpn_id": "v"}]),
        FloatingIp(id="f", network_id="x", address="203.0.113.20", router_id="r", port_id="p", fixed_ip="10.2.0.5"),
        Peer(id="k", address="192.0.2.1", remote_as=64512, families=["ipv4"]),
        Speaker(id="sp", local_as=64512, networks=["x"], peers=["k"]),
        Advertisement(id="ad", speaker_id="sp", destination="10.0.0.0/8", next_hop="192.0.2.9"),
    )  # fmt: skip
    for removal, gone, changed in [
        (Removal("bgpvpn", "w"), {"w", "wp"}, {("vp", "routes")}),
        (Removal("bgpvpn", "v"), {"v", "vr", "vp"}, {("wp", "routes")}),
        (Removal("port", "p"), {"p", "vp", "wp"}, {("f", "port_id"), ("f", "fixed_ip")}),
        (Removal("router", "r"), {"r", "vr"}, {("f", "router_id")}),
        (Removal("peer", "k"), {"k"}, {("sp", "peers")}),
        (Removal("speaker", "sp"), {"sp", "ad"}, set()),
    ]:
        intent = Intent()
        written(intent, *wishes)
        before = {(kind, id_): thing for kind, table in intent.tables.items() for id_, thing in table.rows.items()}
        written(intent, removal)
        after = {(kind, id_): thing for kind, table in intent.tables.items() for id_, thing in table.rows.items()}
        assert {id_ for _, id_ in before.keys() - after.keys()} == gone, removal
        assert {
            (id_, field.name)
            for (kind, id_), thing in after.items()
            for field in attrs.fields(type(thing))
            if getattr(thing, field.name) != getattr(before[kind, id_], field.name)
        } == changed, removal
        assert before.keys() >= after.keys()
    assert intent.associations["vp"].routes[0].bgpvpn_id == "w"
